/* kv_cache.h - which KV blocks a sequence owns, and which finished blocks others may reuse.
 *
 * This module keeps the books only: the numbers live in the model's KV pool, addressed by the block
 * ids handed out here. A block holds `block_tokens` positions.
 *
 *   free (empty) ──grow──▶ held by one sequence, filling ──full──▶ published, shared (counted)
 *        ▲                         │ released unfilled                 │ last holder releases
 *        └─────────────────────────┴──────── evicted, oldest first ◀── cached (no holder)
 *
 * Prefix reuse: a full block is published under the chained hash of (salt, all tokens up to its
 * end). A hash only finds a candidate; it is taken when its tokens are equal and its predecessor is
 * the very block that the sequence already holds, back to the salt: a collision can't mix two
 * prompts. By the engine's batch invariance a reused block has the bytes that computing would give.
 * A block whose twin was published meanwhile is swapped for it, so every full block of a sharing
 * sequence is published. Children are evicted before their parents: a sequence releases last block
 * first, and whoever holds a block holds its predecessors.
 *
 * Windows: layers that see the last `window` positions only keep their K and V in a second pool,
 * with blocks of its own ids (a "window block" of the same positions as a "whole" block):
 *
 *   whole   [0][1][2][3][4][5][6]      every block since the start
 *   window              [4][5][6]      those that the next token sees, and room for a step
 *
 * A sequence holds a range of window blocks that moves on with it: what falls out is given back. A
 * full block that is published publishes its window block along with it; given back, that one stays
 * cached until its room is needed (oldest first) or its whole block is evicted. A prefix can be
 * reused up to the last border of a block at which every window block that the next token sees is
 * still there: right after a sequence that is certain (what the border needs is held one block
 * longer), for a shorter prefix as long as the pool has room. What misses is computed anew, from
 * the last border that is complete. Room is counted by reservation: a sequence reserves the most
 * that it will ever hold (its ring) when it grows, so that moving on never fails.
 *
 * Promise: blocks of a sequence stay valid until kv_seq_reset() or kv_seq_free(); growth is all or
 * nothing. ERR_KV_FULL is normal flow (the scheduler preempts).
 * Memory: tables in kv_open(), two block tables per sequence, nothing per token.
 * Thread: scheduler only, no locks. */
#ifndef MILLRACE_WORKER_KV_KV_CACHE_H
#define MILLRACE_WORKER_KV_KV_CACHE_H

#include "shared/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct kv_cache; /* opaque */
struct kv_seq;   /* opaque: one sequence's block table */

struct kv_shape {
    uint32_t n_blocks;       /* of the model's pool; ids 0 .. n_blocks-1 */
    uint32_t block_tokens;   /* 1..4096 */
    uint32_t max_seq_tokens; /* the context: what one sequence may grow to */
    /* The windows' pool; n_window_blocks 0: none, and the rest means nothing. As the model says
     * (model_desc): ring_blocks is the most that one sequence needs at a time. */
    uint32_t n_window_blocks, ring_blocks, window;
    bool chunked;
};

/* ERR_INVALID when one sequence of max_seq_tokens would not fit the pool: it could never finish. */
enum err kv_open(struct kv_cache **out, const struct kv_shape *shape,
                 struct errmsg *why) MUST_CHECK;
void kv_close(struct kv_cache *kv); /* NULL is fine; after all sequences are freed */

/* OWNED: release with kv_seq_free(). `shares`: looks for cached blocks and publishes its own, both
 * only among sequences of the same salt. */
enum err kv_seq_new(struct kv_cache *kv, uint64_t salt, bool shares,
                    struct kv_seq **out) MUST_CHECK;
void kv_seq_free(struct kv_seq *s);  /* NULL is fine; published blocks stay in the cache */
void kv_seq_reset(struct kv_seq *s); /* as new: gives all blocks back (preemption) */

/* Extends the sequence by cached blocks as far as they match tokens[0 .. n), always leaving at
 * least the last token to compute (its logits are wanted). tokens are those of the whole sequence.
 * Does nothing in the middle of a block. Room reserved before is given back for each block found.
 * Returns how many tokens were gained. */
uint32_t kv_seq_attach(struct kv_seq *s, const int32_t *tokens, uint32_t n);

/* Room for positions 0 .. n_tokens-1; ERR_KV_FULL changes nothing. ERR_RANGE past max_seq_tokens.
 */
enum err kv_seq_grow(struct kv_seq *s, uint32_t n_tokens) MUST_CHECK;

/* The next n positions are computed, with these tokens; there must be room. Publishes what is full.
 */
void kv_seq_commit(struct kv_seq *s, const int32_t *tokens, uint32_t n);

uint32_t kv_seq_len(const struct kv_seq *s); /* positions attached or committed */
/* BORROWED until the next call that changes `s`. */
const uint32_t *kv_seq_blocks(const struct kv_seq *s, uint32_t *n_blocks);

/* Window blocks, indexed as kv_seq_blocks(): entries of positions that the next step sees or writes
 * are valid. NULL without such a pool. BORROWED until the next call that changes `s`. */
const uint32_t *kv_seq_window_blocks(const struct kv_seq *s);

/* The hash under which the block that the sequence computes next (or has begun) will be published;
 * 0 when there is none: not sharing, or tokens[0 .. n) ends before one past its end. Two sequences
 * with equal values are about to compute the same: the later one had better wait. */
uint64_t kv_seq_next_hash(const struct kv_seq *s, const int32_t *tokens, uint32_t n);

struct kv_stats {
    uint32_t n_blocks;
    uint32_t held;                       /* by at least one sequence */
    uint32_t cached;                     /* published, held by nobody: reusable, evictable */
    uint64_t evicted, attached, swapped; /* blocks, since open */
    uint32_t n_window_blocks, window_held, window_cached;
};
void kv_stats(const struct kv_cache *kv, struct kv_stats *out);

/* Recounts everything from the sequences; false and a reason when the books are wrong. For tests.
 */
bool kv_audit(const struct kv_cache *kv, struct errmsg *why);

#endif
