/* extents.h - who owns which part of a worker's payload space: a first-fit allocator whose books
 * are private.
 *
 *   0        a        b             c                 size
 *   | free   | used   | free        | used            |      taken extents in address order; the
 * rest is free
 *
 * The books live in the gateway's own memory: a mad worker can spoil the bytes, never the
 * allocation. A few hundred extents at most (jobs on their way to one worker), so a sorted array is
 * the right structure. Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_SUPERVISE_EXTENTS_H
#define MILLRACE_GATEWAY_SUPERVISE_EXTENTS_H

#include "shared/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct extent {
    uint64_t offset, bytes; /* bytes: rounded up to EXTENT_ALIGN */
    uint64_t job;
};

enum { EXTENT_ALIGN = 64 };

struct extents {
    struct extent *taken; /* owned; by offset */
    uint32_t n, cap;
    uint64_t size;
};

void extents_init(struct extents *e, uint64_t size);
void extents_fini(struct extents *e);
/* ERR_FULL: no gap is large enough now. ERR_RANGE: can never fit. ERR_NOMEM. */
enum err extents_take(struct extents *e, uint64_t bytes, uint64_t job, uint64_t *offset) MUST_CHECK;
/* False: nothing starts there (the worker named an extent it was not given, or named it twice). */
bool extents_give(struct extents *e, uint64_t offset);

#endif
