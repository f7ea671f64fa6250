/* checked.h - arithmetic on lengths that come from a file, a socket or shared memory.
 *
 * Each returns true when the exact result fits and is stored; false leaves *out untouched.
 *     if (!mul_size(&bytes, n_blocks, block_bytes) || !add_size(&end, offset, bytes) || end > size)
 *         return err_set(why, ERR_INVALID, ...); */
#ifndef MILLRACE_BASE_CHECKED_H
#define MILLRACE_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool add_size(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool mul_size(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool add_u64(uint64_t *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool mul_u64(uint64_t *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* Rounds up to a power of two `align`; false when that overflows. */
static inline bool align_up_u64(uint64_t *out, uint64_t v, uint64_t align)
{
    uint64_t r;
    if (__builtin_add_overflow(v, align - 1, &r))
        return false;
    *out = r & ~(align - 1);
    return true;
}

/* [off, off+len) lies inside [0, size). */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

#endif
