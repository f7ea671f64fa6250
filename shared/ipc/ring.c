#include "shared/ipc/ring.h"
#include "shared/base/checked.h"
#include <stdlib.h>
#include <string.h>

/* Every piece of memory that is read or written here goes through these two: position to bytes, in
 * at most two pieces. */
static void copy_in(const struct ring_writer *w, uint64_t pos, const void *src, size_t n)
{
    size_t at = (size_t)(pos & (w->capacity - 1));
    size_t first = n < w->capacity - at ? n : (size_t)(w->capacity - at);
    if (first)
        memcpy(w->ring->bytes + at, src, first);
    if (n > first)
        memcpy(w->ring->bytes, (const unsigned char *)src + first, n - first);
}

static void copy_out(const struct ring_reader *r, uint64_t pos, void *dst, size_t n)
{
    size_t at = (size_t)(pos & (r->capacity - 1));
    size_t first = n < r->capacity - at ? n : (size_t)(r->capacity - at);
    if (first)
        memcpy(dst, r->ring->bytes + at, first);
    if (n > first)
        memcpy((unsigned char *)dst + first, r->ring->bytes, n - first);
}

static bool size_ok(const void *memory, size_t bytes)
{
    size_t capacity = bytes - RING_OVERHEAD;
    return bytes > RING_OVERHEAD && capacity >= RING_MIN_CAPACITY &&
           (capacity & (capacity - 1)) == 0 && (uintptr_t)memory % RING_LINE == 0;
}

enum err ring_init(void *memory, size_t bytes)
{
    if (!size_ok(memory, bytes))
        return ERR_INVALID;
    memset(memory, 0, RING_OVERHEAD);
    ((struct ring *)memory)->capacity = bytes - RING_OVERHEAD;
    return ERR_OK;
}

/* Both ends start at zero and nowhere else: a ring serves one pair of processes, once. */
static enum err open_check(const struct ring *ring, size_t bytes)
{
    return size_ok(ring, bytes) && ring->capacity == bytes - RING_OVERHEAD ? ERR_OK : ERR_PROTOCOL;
}

enum err ring_writer_open(struct ring_writer *w, void *memory, size_t bytes)
{
    enum err e = open_check(memory, bytes);
    if (!e)
        *w = (struct ring_writer){.ring = memory, .capacity = bytes - RING_OVERHEAD};
    return e;
}

enum err ring_reader_open(struct ring_reader *r, void *memory, size_t bytes)
{
    enum err e = open_check(memory, bytes);
    if (e)
        return e;
    unsigned char *copy = malloc(bytes - RING_OVERHEAD);
    if (!copy)
        return ERR_NOMEM;
    *r = (struct ring_reader){.ring = memory, .capacity = bytes - RING_OVERHEAD, .copy = copy};
    return ERR_OK;
}

void ring_reader_close(struct ring_reader *r)
{
    free(r->copy);
    *r = (struct ring_reader){.broken = true};
}

/* Bytes that a payload of n takes; false when no ring of this capacity can hold it. */
static bool record_bytes(uint64_t *out, uint64_t capacity, uint64_t n)
{
    uint64_t padded, need;
    if (!align_up_u64(&padded, n, 8) || !add_u64(&need, padded, RING_RECORD_HEAD) ||
        need > capacity)
        return false;
    *out = need;
    return true;
}

/* Accepts the reader's head if it lies between where it was and our tail. */
static bool see_head(struct ring_writer *w, uint64_t head)
{
    if (head - w->head_seen > w->tail - w->head_seen)
        w->broken = true;
    else
        w->head_seen = head;
    return !w->broken;
}

/* Accepts the writer's tail if it moved forward, by whole words, and no further than the ring is
 * long. */
static bool see_tail(struct ring_reader *r, uint64_t tail)
{
    if (tail - r->head > r->capacity || tail - r->head < r->tail_seen - r->head || tail % 8)
        r->broken = true;
    else
        r->tail_seen = tail;
    return !r->broken;
}

enum err ring_write(struct ring_writer *w, uint16_t type, uint16_t flags, uint64_t job,
                    const void *payload, size_t n)
{
    static const unsigned char zeros[8];
    uint64_t need;
    if (w->broken)
        return ERR_PROTOCOL;
    if (n > UINT32_MAX || !record_bytes(&need, w->capacity, n))
        return ERR_RANGE;
    if (need > w->capacity - (w->tail - w->head_seen)) {
        if (!see_head(w, atomic_load_explicit(&w->ring->head, memory_order_acquire)))
            return ERR_PROTOCOL;
        if (need > w->capacity - (w->tail - w->head_seen))
            return ERR_FULL;
    }
    struct ring_head head = {.len = (uint32_t)n, .type = type, .flags = flags, .job = job};
    copy_in(w, w->tail, &head, sizeof(head));
    copy_in(w, w->tail + sizeof(head), payload, n);
    copy_in(w, w->tail + sizeof(head) + n, zeros, (size_t)(need - sizeof(head) - n));
    w->tail += need;
    atomic_store_explicit(&w->ring->tail, w->tail, memory_order_release);
    return ERR_OK;
}

enum err ring_read(struct ring_reader *r, struct ring_record *out)
{
    if (r->broken)
        return ERR_PROTOCOL;
    if (r->head == r->tail_seen) {
        if (!see_tail(r, atomic_load_explicit(&r->ring->tail, memory_order_acquire)))
            return ERR_PROTOCOL;
        if (r->head == r->tail_seen)
            return ERR_AGAIN;
    }
    struct ring_head head; /* copied once: what is checked is what is used */
    uint64_t there = r->tail_seen - r->head, need;
    if (there >= sizeof(head))
        copy_out(r, r->head, &head, sizeof(head));
    if (there < sizeof(head) || !record_bytes(&need, r->capacity, head.len) || need > there) {
        r->broken = true;
        return ERR_PROTOCOL;
    }
    copy_out(r, r->head + sizeof(head), r->copy, head.len);
    r->head += need;
    atomic_store_explicit(&r->ring->head, r->head, memory_order_release);
    *out = (struct ring_record){
        .type = head.type, .flags = head.flags, .job = head.job, .payload = r->copy, .n = head.len};
    return ERR_OK;
}

/* The indices are stored again in the two needs_wake functions although their values are there
 * already: that store must be sequentially consistent, and one per batch is cheaper than one per
 * record. (A fence would do as well, but ThreadSanitizer does not understand fences.) */

bool ring_reader_arm(struct ring_reader *r)
{
    if (r->broken)
        return false;
    atomic_store(&r->ring->reader_asleep, 1);
    if (r->head == r->tail_seen && atomic_load(&r->ring->tail) == r->head)
        return true;
    atomic_store_explicit(&r->ring->reader_asleep, 0, memory_order_relaxed);
    return false;
}

bool ring_reader_needs_wake(struct ring_writer *w)
{
    atomic_store(&w->ring->tail, w->tail);
    return atomic_load(&w->ring->reader_asleep) && atomic_exchange(&w->ring->reader_asleep, 0);
}

bool ring_writer_arm(struct ring_writer *w, size_t n)
{
    uint64_t need;
    if (w->broken || !record_bytes(&need, w->capacity, n))
        return false;
    atomic_store(&w->ring->writer_asleep, 1);
    if (see_head(w, atomic_load(&w->ring->head)) && need > w->capacity - (w->tail - w->head_seen))
        return true;
    atomic_store_explicit(&w->ring->writer_asleep, 0, memory_order_relaxed);
    return false;
}

bool ring_writer_needs_wake(struct ring_reader *r)
{
    atomic_store(&r->ring->head, r->head);
    return atomic_load(&r->ring->writer_asleep) && atomic_exchange(&r->ring->writer_asleep, 0);
}
