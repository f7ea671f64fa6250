/* ring.h - one-writer one-reader ring of records in shared memory; two of them per worker
 * (proto.h).
 *
 *   0          64                      128                     192 192+capacity | capacity | head,
 * reader_asleep   | tail, writer_asleep   | bytes, a power of two     | constant   written by the
 * reader   written by the writer (asleep flags: set by their owner, cleared by whoever sends the
 * wake-up)
 *
 *   bytes:   consumed     | record | record | record |  free
 *                         ^head                      ^tail         position p lives at bytes[p &
 * (capacity-1)] record:  u32 len | u16 type | u16 flags | u64 job | payload[len] | zeros up to a
 * multiple of 8
 *
 * head and tail are free-running byte counts (u64, multiples of 8), so empty (head == tail) and
 * full (tail - head + need > capacity) never look alike. A record may lie across the end of the
 * array: both sides copy in two pieces, nothing is ever skipped.
 *
 * Order: the writer stores the bytes, then tail (release); the reader loads tail (acquire), then
 * the bytes, then stores head (release) once it has copied them; the writer loads head (acquire)
 * before it reuses them. Sleep: the sleeper sets its flag, then looks once more, then sleeps on its
 * eventfd (wake.h); the waker publishes, then looks at the flag. All four accesses are sequentially
 * consistent, so at least one of the two sees the other and no wake-up is lost. The waker clears
 * the flag: one sleep costs one wake-up. Trust: the peer may be mad. Each side keeps its own index
 * in private memory, checks that the other's only moves forward and inside the ring, and copies a
 * record once, then checks the copy. A breach is ERR_PROTOCOL, then and for ever after; the owner
 * drops the peer and the memory. Crash: what was published stays readable; a half-written record
 * was never published. Thread: one thread per end. Memory: an end allocates in open, nothing per
 * record. */
#ifndef MILLRACE_IPC_RING_H
#define MILLRACE_IPC_RING_H

#include "shared/base/err.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RING_LINE = 64, /* a cache line: the two ends never write the same one */
    RING_OVERHEAD = 3 * RING_LINE,
    RING_RECORD_HEAD = 16,
    RING_MIN_CAPACITY = 4096,
};

struct ring { /* shared; the peer can write all of it */
    _Alignas(RING_LINE) uint64_t capacity;
    _Alignas(RING_LINE) _Atomic uint64_t head;
    _Atomic uint32_t reader_asleep;
    _Alignas(RING_LINE) _Atomic uint64_t tail;
    _Atomic uint32_t writer_asleep;
    _Alignas(RING_LINE) unsigned char bytes[];
};

struct ring_head { /* of a record */
    uint32_t len;  /* of the payload, without padding */
    uint16_t type; /* enum rec_type */
    uint16_t flags;
    uint64_t job; /* id and generation; 0: none */
};

static_assert(offsetof(struct ring, head) == 64, "layout");
static_assert(offsetof(struct ring, reader_asleep) == 72, "layout");
static_assert(offsetof(struct ring, tail) == 128, "layout");
static_assert(offsetof(struct ring, writer_asleep) == 136, "layout");
static_assert(offsetof(struct ring, bytes) == RING_OVERHEAD, "layout");
static_assert(sizeof(struct ring_head) == RING_RECORD_HEAD, "layout");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared memory needs lock-free atomics");

struct ring_writer {
    struct ring *ring; /* borrowed: the mapping */
    uint64_t capacity, tail, head_seen;
    bool broken;
};

struct ring_reader {
    struct ring *ring; /* borrowed: the mapping */
    uint64_t capacity, head, tail_seen;
    unsigned char *copy; /* owned; capacity bytes, touched as far as records are long */
    bool broken;
};

struct ring_record {
    uint16_t type, flags;
    uint64_t job;
    const void *payload; /* borrowed until the next ring_read(); private memory, 8-byte aligned */
    size_t n;
};

/* The creator clears and marks fresh memory, before either end opens it. `bytes` counts the
 * overhead too; bytes - RING_OVERHEAD must be a power of two, at least RING_MIN_CAPACITY. */
enum err ring_init(void *memory, size_t bytes) MUST_CHECK;

enum err ring_writer_open(struct ring_writer *w, void *memory, size_t bytes) MUST_CHECK;
enum err ring_reader_open(struct ring_reader *r, void *memory, size_t bytes) MUST_CHECK;
void ring_reader_close(struct ring_reader *r); /* the writer owns nothing */

/* Publishes one record or none. ERR_FULL: no room now. ERR_RANGE: can never fit. ERR_PROTOCOL: see
 * Trust. Wakes nobody: after a batch of writes ask ring_reader_needs_wake(). */
enum err ring_write(struct ring_writer *w, uint16_t type, uint16_t flags, uint64_t job,
                    const void *payload, size_t n) MUST_CHECK;

/* Takes the oldest record. ERR_AGAIN: empty. ERR_PROTOCOL: see Trust.
 * Wakes nobody: after a batch of reads ask ring_writer_needs_wake(). */
enum err ring_read(struct ring_reader *r, struct ring_record *out) MUST_CHECK;

/* Reader: "I am going to sleep". True: still empty, do sleep. False: there is something to read (or
 * a fault to find), don't. After waking up for another reason the flag may stay set: one spare
 * wake-up at most. */
bool ring_reader_arm(struct ring_reader *r);
/* Writer, after publishing: true once per sleep; then the caller sends the reader its wake-up. */
bool ring_reader_needs_wake(struct ring_writer *w);

/* The same for a writer that waits until a payload of n bytes fits. */
bool ring_writer_arm(struct ring_writer *w, size_t n);
bool ring_writer_needs_wake(struct ring_reader *r);

#endif
