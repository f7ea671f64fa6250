/* window_pool.h - the window blocks of a KV cache; private to worker/kv (kv_cache.h explains).
 *
 * A block is free, held (by one or more sequences) or cached (published for a whole block, held by
 * nobody; the oldest is taken when nothing is free). Promise: as long as no sequence holds more
 * than it has reserved, window_take() finds a block. Thread: as kv_cache.h. */
#ifndef MILLRACE_WORKER_KV_WINDOW_POOL_H
#define MILLRACE_WORKER_KV_WINDOW_POOL_H

#include "shared/base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum { NO_BLOCK = UINT32_MAX };

struct window_pool {
    uint32_t n_blocks, reserved;
    struct window_block *blocks; /* owned */
    uint32_t free_head, n_free, oldest, newest, n_cached;
};

struct window_block {
    uint32_t refs;
    uint32_t owner;        /* the whole block that it is published for, or NO_BLOCK */
    uint32_t older, newer; /* in the list of cached ones; `older` also links the free list */
};

enum err window_open(struct window_pool *p,
                     uint32_t n_blocks) MUST_CHECK; /* 0: none, that's fine */
void window_close(struct window_pool *p);

bool window_reserve(struct window_pool *p, uint32_t n); /* n more; false: no room */
void window_unreserve(struct window_pool *p, uint32_t n);

/* A block with one reference. *lost: the whole block that had it so far, or NO_BLOCK. */
uint32_t window_take(struct window_pool *p, uint32_t *lost);
void window_hold(struct window_pool *p, uint32_t id);
void window_release(struct window_pool *p, uint32_t id);
void window_publish(struct window_pool *p, uint32_t id, uint32_t owner);
/* Its whole block is gone: it is cached (never held: who holds it holds the whole one), and free
 * now. */
void window_drop(struct window_pool *p, uint32_t id);

#endif
