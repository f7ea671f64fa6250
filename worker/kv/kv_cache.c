/* kv_cache.c - block table bookkeeping; the header draws the states. */
#include "worker/kv/kv_cache.h"

#include "shared/base/checked.h"
#include "shared/base/list.h"
#include "worker/kv/window_pool.h"
#include "worker/window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = NO_BLOCK }; /* end of a chain of block ids */

struct block {
    uint32_t refs;
    bool published;
    bool root;             /* published: the first block of a prompt; parent is the salt */
    uint64_t parent;       /* published: serial of the predecessor, never reused */
    uint64_t serial;       /* published: unique name of this content */
    uint64_t hash;         /* published */
    uint32_t window;       /* published: the window block of the same positions, or NONE */
    uint32_t chain;        /* next in the hash bucket */
    uint32_t older, newer; /* in the LRU list, when cached; `older` also links the free list */
};

struct kv_cache {
    struct kv_shape shape;
    struct block *blocks;
    int32_t *tokens;   /* [n_blocks, block_tokens]: what was committed */
    uint32_t *buckets; /* hash -> first block; n_buckets is a power of two */
    uint32_t n_buckets;
    uint32_t free_head, n_free;
    uint32_t oldest, newest, n_cached;
    uint64_t next_serial;
    uint64_t evicted, attached, swapped;
    struct window_pool windows;
    uint32_t *found;  /* [blocks of a context]: scratch of kv_seq_attach() */
    struct link seqs; /* for kv_audit() */
};

struct kv_seq {
    struct kv_cache *kv; /* borrowed */
    struct link link;
    uint64_t salt;
    bool shares;
    uint32_t n_blocks, n_tokens;
    uint32_t reserved;       /* of the windows' pool */
    uint32_t w_begin, w_end; /* the window blocks held are windows[w_begin .. w_end) */
    uint32_t *windows;       /* borrowed: the second half of table */
    uint32_t table[];        /* max_seq_tokens worth of blocks, twice where there are windows */
};

/* --- hash: finds candidates only, so speed and spread matter, not strength
 * --------------------------- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9fb21c651e98df25u; /* odd constant of the "rrmxmx" mixer family */
    return h ^ (h >> 29);
}

static uint64_t hash_root(uint64_t salt)
{
    return mix(0x6d696c6c72616365u, salt);
}

static uint64_t hash_block(uint64_t h, const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        h = mix(h, (uint32_t)tokens[i]);
    return h ? h : 1; /* 0 means "none" in kv_seq_next_hash() */
}

/* --- open, close
 * ------------------------------------------------------------------------------------- */

static uint32_t blocks_for(const struct kv_shape *shape, uint32_t n_tokens)
{
    return n_tokens / shape->block_tokens + (n_tokens % shape->block_tokens != 0);
}

enum err kv_open(struct kv_cache **out, const struct kv_shape *shape, struct errmsg *why)
{
    if (shape->block_tokens < 1 || shape->block_tokens > 4096 || shape->n_blocks < 1 ||
        shape->n_blocks >= NONE / 4 || shape->max_seq_tokens < 1)
        return err_set(why, ERR_INVALID, "KV cache of %u blocks of %u tokens is not possible",
                       shape->n_blocks, shape->block_tokens);
    if (blocks_for(shape, shape->max_seq_tokens) > shape->n_blocks)
        return err_set(
            why, ERR_INVALID,
            "a context of %u tokens needs %u KV blocks, the pool has %u: lower the context "
            "or give the cache more memory",
            shape->max_seq_tokens, blocks_for(shape, shape->max_seq_tokens), shape->n_blocks);
    const uint32_t seq_blocks = blocks_for(shape, shape->max_seq_tokens);
    if (shape->n_window_blocks &&
        (shape->ring_blocks < 1 || shape->window < 1 || shape->n_window_blocks >= NONE / 4 ||
         shape->n_window_blocks <
             (shape->ring_blocks < seq_blocks ? shape->ring_blocks : seq_blocks)))
        return err_set(why, ERR_INVALID, "windows of %u tokens don't fit %u KV blocks",
                       shape->window, shape->n_window_blocks);
    struct kv_cache *kv = calloc(1, sizeof *kv);
    if (!kv)
        return err_set(why, ERR_NOMEM, "no memory for the KV block tables");
    kv->shape = *shape;
    list_init(&kv->seqs);
    kv->n_buckets = 16;
    while (kv->n_buckets < shape->n_blocks * 2)
        kv->n_buckets *= 2;
    kv->blocks = calloc(shape->n_blocks, sizeof *kv->blocks);
    kv->buckets = malloc(kv->n_buckets * sizeof *kv->buckets);
    size_t n_tokens;
    if (mul_size(&n_tokens, shape->n_blocks, shape->block_tokens))
        kv->tokens = calloc(n_tokens, sizeof *kv->tokens);
    kv->found = calloc(seq_blocks, sizeof *kv->found);
    if (!kv->blocks || !kv->buckets || !kv->tokens || !kv->found ||
        window_open(&kv->windows, shape->n_window_blocks)) {
        kv_close(kv);
        return err_set(why, ERR_NOMEM, "no memory for the tables of %u KV blocks", shape->n_blocks);
    }
    memset(kv->buckets, 0xff, kv->n_buckets * sizeof *kv->buckets);
    kv->oldest = kv->newest = kv->free_head = NONE;
    kv->next_serial = 1;
    for (uint32_t i = shape->n_blocks; i-- > 0;) { /* so that block 0 is handed out first */
        kv->blocks[i].older = kv->free_head;
        kv->free_head = i;
        kv->n_free++;
    }
    *out = kv;
    return ERR_OK;
}

void kv_close(struct kv_cache *kv)
{
    if (!kv)
        return;
    assert(list_empty(&kv->seqs));
    window_close(&kv->windows);
    free(kv->found);
    free(kv->blocks);
    free(kv->buckets);
    free(kv->tokens);
    free(kv);
}

/* --- blocks
 * ------------------------------------------------------------------------------------------ */

static int32_t *block_tokens(struct kv_cache *kv, uint32_t id)
{
    return kv->tokens + (size_t)id * kv->shape.block_tokens;
}

static void lru_remove(struct kv_cache *kv, uint32_t id)
{
    struct block *b = &kv->blocks[id];
    *(b->older == NONE ? &kv->oldest : &kv->blocks[b->older].newer) = b->newer;
    *(b->newer == NONE ? &kv->newest : &kv->blocks[b->newer].older) = b->older;
    b->older = b->newer = NONE;
    kv->n_cached--;
}

static void lru_push(struct kv_cache *kv, uint32_t id)
{
    struct block *b = &kv->blocks[id];
    b->newer = NONE;
    b->older = kv->newest;
    *(kv->newest == NONE ? &kv->oldest : &kv->blocks[kv->newest].newer) = id;
    kv->newest = id;
    kv->n_cached++;
}

static uint32_t *bucket_of(struct kv_cache *kv, uint64_t hash)
{
    return &kv->buckets[(hash >> 16) & (kv->n_buckets - 1)];
}

static void unpublish(struct kv_cache *kv, uint32_t id)
{
    struct block *b = &kv->blocks[id];
    uint32_t *at = bucket_of(kv, b->hash);
    while (*at != id)
        at = &kv->blocks[*at].chain;
    *at = b->chain;
    b->published = false;
    if (b->window != NONE)
        window_drop(&kv->windows, b->window);
}

/* An empty block with one reference. The caller has checked that there is one. */
static uint32_t take_block(struct kv_cache *kv)
{
    uint32_t id = kv->free_head;
    if (id != NONE) {
        kv->free_head = kv->blocks[id].older;
        kv->n_free--;
    } else {
        id = kv->oldest;
        assert(id != NONE);
        lru_remove(kv, id);
        unpublish(kv, id);
        kv->evicted++;
    }
    kv->blocks[id].refs = 1;
    return id;
}

static void release_block(struct kv_cache *kv, uint32_t id)
{
    struct block *b = &kv->blocks[id];
    assert(b->refs > 0);
    if (--b->refs > 0)
        return;
    if (b->published) {
        lru_push(kv, id);
    } else {
        b->older = kv->free_head;
        kv->free_head = id;
        kv->n_free++;
    }
}

static void hold_block(struct kv_cache *kv, uint32_t id)
{
    if (kv->blocks[id].refs++ == 0)
        lru_remove(kv, id);
}

/* --- windows -----------------------------------------------------------------------------------
 */

static bool has_windows(const struct kv_cache *kv)
{
    return kv->shape.n_window_blocks > 0;
}

/* The first block of which the token at n_tokens, a border or not, sees something. One border back:
 * whoever comes right behind may stop there. */
static uint32_t first_window(const struct kv_cache *kv, uint32_t n_tokens)
{
    const uint32_t bt = kv->shape.block_tokens;
    return kv_first_seen(kv->shape.window, kv->shape.chunked, n_tokens / bt * bt) / bt;
}

static uint32_t take_window(struct kv_cache *kv)
{
    uint32_t lost, id = window_take(&kv->windows, &lost);
    if (lost != NONE)
        kv->blocks[lost].window = NONE;
    return id;
}

/* Gives back what the next token no longer sees, and makes room ahead: as far as there are whole
 * blocks, at most a ring. */
static void move_window(struct kv_seq *s)
{
    struct kv_cache *kv = s->kv;
    if (!has_windows(kv))
        return;
    const uint32_t begin = first_window(kv, s->n_tokens), ring = kv->shape.ring_blocks;
    for (; s->w_begin < begin && s->w_begin < s->w_end; s->w_begin++)
        window_release(&kv->windows, s->windows[s->w_begin]);
    if (s->w_begin < begin)
        s->w_begin = s->w_end = begin;
    while (s->w_end < s->n_blocks && s->w_end - s->w_begin < ring)
        s->windows[s->w_end++] = take_window(kv);
}

/* Gives back window blocks from the end, down to index `to`. */
static void cut_window(struct kv_seq *s, uint32_t to)
{
    while (s->w_end > s->w_begin && s->w_end > to)
        window_release(&s->kv->windows, s->windows[--s->w_end]);
}

/* Room for all that a sequence of n_blocks blocks ever holds at a time. */
static bool reserve_window(struct kv_seq *s, uint32_t n_blocks)
{
    struct kv_cache *kv = s->kv;
    const uint32_t ring = kv->shape.ring_blocks, want = n_blocks < ring ? n_blocks : ring;
    if (!has_windows(kv) || want <= s->reserved)
        return true;
    if (!window_reserve(&kv->windows, want - s->reserved))
        return false;
    s->reserved = want;
    return true;
}

/* The whole block at `index` was published, or swapped for its twin: its window block with it. */
static void publish_window(struct kv_seq *s, uint32_t index)
{
    struct kv_cache *kv = s->kv;
    if (!has_windows(kv) || index < s->w_begin || index >= s->w_end)
        return;
    const uint32_t whole = s->table[index], own = s->windows[index];
    const uint32_t twin = kv->blocks[whole].window;
    if (twin == NONE) {
        window_publish(&kv->windows, own, whole);
        kv->blocks[whole].window = own;
    } else if (twin != own) {
        window_hold(&kv->windows, twin);
        window_release(&kv->windows, own);
        s->windows[index] = twin;
    }
}

/* --- sequences
 * --------------------------------------------------------------------------------------- */

enum err kv_seq_new(struct kv_cache *kv, uint64_t salt, bool shares, struct kv_seq **out)
{
    size_t n = blocks_for(&kv->shape, kv->shape.max_seq_tokens);
    struct kv_seq *s = calloc(1, sizeof *s + n * (has_windows(kv) ? 2 : 1) * sizeof s->table[0]);
    if (!s)
        return ERR_NOMEM;
    s->kv = kv;
    s->salt = salt;
    s->shares = shares;
    s->windows = has_windows(kv) ? s->table + n : NULL;
    list_push_back(&kv->seqs, &s->link);
    *out = s;
    return ERR_OK;
}

void kv_seq_reset(struct kv_seq *s)
{
    cut_window(s, 0);
    s->w_begin = s->w_end = 0;
    window_unreserve(&s->kv->windows, s->reserved);
    s->reserved = 0;
    while (s->n_blocks > 0)
        release_block(s->kv, s->table[--s->n_blocks]);
    s->n_tokens = 0;
}

void kv_seq_free(struct kv_seq *s)
{
    if (!s)
        return;
    kv_seq_reset(s);
    list_remove(&s->link);
    free(s);
}

struct prefix { /* what stands before a block */
    bool root;
    uint64_t parent; /* serial, or the salt of a root */
    uint64_t hash;
};

static struct prefix prefix_before(const struct kv_seq *s, uint32_t index)
{
    if (index == 0)
        return (struct prefix){.root = true, .parent = s->salt, .hash = hash_root(s->salt)};
    const struct block *b = &s->kv->blocks[s->table[index - 1]];
    assert(b->published);
    return (struct prefix){.root = false, .parent = b->serial, .hash = b->hash};
}

static uint32_t find_block(struct kv_cache *kv, const struct prefix *before, uint64_t hash,
                           const int32_t *tokens)
{
    for (uint32_t id = *bucket_of(kv, hash); id != NONE; id = kv->blocks[id].chain) {
        const struct block *b = &kv->blocks[id];
        if (b->hash == hash && b->root == before->root && b->parent == before->parent &&
            memcmp(block_tokens(kv, id), tokens, kv->shape.block_tokens * sizeof *tokens) == 0)
            return id;
    }
    return NONE;
}

/* Published blocks that go on from where the sequence ends, into kv->found. Returns how many. */
static uint32_t find_prefix(struct kv_seq *s, const int32_t *tokens, uint32_t n)
{
    struct kv_cache *kv = s->kv;
    const uint32_t bt = kv->shape.block_tokens;
    struct prefix before = prefix_before(s, s->n_tokens / bt);
    uint32_t n_found = 0;
    /* strictly less: one token is left to compute */
    for (uint32_t at = s->n_tokens; at < n && n - at > bt; at += bt) {
        const uint64_t hash = hash_block(before.hash, tokens + at, bt);
        const uint32_t id = find_block(kv, &before, hash, tokens + at);
        if (id == NONE)
            break;
        kv->found[n_found++] = id;
        before = (struct prefix){.root = false, .parent = kv->blocks[id].serial, .hash = hash};
    }
    return n_found;
}

/* How many of the n found can be taken: up to the last border at which the next token's window is
 * complete. */
static uint32_t complete_prefix(const struct kv_seq *s, uint32_t n)
{
    const struct kv_cache *kv = s->kv;
    const uint32_t bt = kv->shape.block_tokens, start = s->n_tokens / bt;
    uint32_t best = 0, from = start; /* all window blocks from `from` on are there */
    if (!has_windows(kv))
        return n;
    for (uint32_t i = 0; i < n; i++) {
        if (kv->blocks[kv->found[i]].window == NONE)
            from = start + i + 1;
        if (from == start || first_window(kv, (start + i + 1) * bt) >= from)
            best = i + 1;
    }
    return best;
}

/* Takes the window blocks of the first n found that the token behind them sees. */
static void attach_windows(struct kv_seq *s, uint32_t n)
{
    struct kv_cache *kv = s->kv;
    const uint32_t bt = kv->shape.block_tokens, start = s->n_tokens / bt, end = start + n;
    const uint32_t begin = first_window(kv, end * bt);
    if (!has_windows(kv))
        return;
    cut_window(s, start); /* what was room only */
    for (; s->w_begin < begin && s->w_begin < s->w_end; s->w_begin++)
        window_release(&kv->windows, s->windows[s->w_begin]);
    if (s->w_begin == s->w_end)
        s->w_begin = s->w_end = begin > start ? begin : start;
    for (; s->w_end < end; s->w_end++) {
        s->windows[s->w_end] = kv->blocks[kv->found[s->w_end - start]].window;
        window_hold(&kv->windows, s->windows[s->w_end]);
    }
}

uint32_t kv_seq_attach(struct kv_seq *s, const int32_t *tokens, uint32_t n)
{
    struct kv_cache *kv = s->kv;
    const uint32_t bt = kv->shape.block_tokens, start = s->n_tokens;
    if (!s->shares || start % bt != 0)
        return 0;
    assert(n <= kv->shape.max_seq_tokens);
    const uint32_t take = complete_prefix(s, find_prefix(s, tokens, n)), end = start / bt + take;
    if (take == 0 || !reserve_window(s, end > s->n_blocks ? end : s->n_blocks))
        return 0;
    attach_windows(s, take);
    for (uint32_t i = 0; i < take; i++) {
        const uint32_t index = start / bt + i;
        hold_block(kv, kv->found[i]);
        if (index < s->n_blocks)
            release_block(kv, s->table[index]);
        else
            s->n_blocks++;
        s->table[index] = kv->found[i];
        kv->attached++;
    }
    s->n_tokens += take * bt;
    move_window(s); /* room ahead again */
    return s->n_tokens - start;
}

enum err kv_seq_grow(struct kv_seq *s, uint32_t n_tokens)
{
    struct kv_cache *kv = s->kv;
    if (n_tokens > kv->shape.max_seq_tokens)
        return ERR_RANGE;
    uint32_t want = blocks_for(&kv->shape, n_tokens);
    if (want <= s->n_blocks)
        return ERR_OK;
    if (want - s->n_blocks > kv->n_free + kv->n_cached || !reserve_window(s, want))
        return ERR_KV_FULL;
    while (s->n_blocks < want)
        s->table[s->n_blocks++] = take_block(kv);
    move_window(s);
    return ERR_OK;
}

/* Block `index` is full: publish it, or swap it for the twin that somebody published first. */
static void publish(struct kv_seq *s, uint32_t index)
{
    struct kv_cache *kv = s->kv;
    uint32_t id = s->table[index];
    struct prefix before = prefix_before(s, index);
    uint64_t hash = hash_block(before.hash, block_tokens(kv, id), kv->shape.block_tokens);
    uint32_t twin = find_block(kv, &before, hash, block_tokens(kv, id));
    if (twin != NONE) {
        hold_block(kv, twin);
        s->table[index] = twin;
        release_block(kv, id);
        kv->swapped++;
        publish_window(s, index);
        return;
    }
    struct block *b = &kv->blocks[id];
    b->published = true;
    b->root = before.root;
    b->parent = before.parent;
    b->serial = kv->next_serial++;
    b->hash = hash;
    b->window = NONE;
    publish_window(s, index);
    uint32_t *bucket = bucket_of(kv, hash);
    b->chain = *bucket;
    *bucket = id;
}

void kv_seq_commit(struct kv_seq *s, const int32_t *tokens, uint32_t n)
{
    const uint32_t bt = s->kv->shape.block_tokens;
    assert((uint64_t)s->n_tokens + n <= (uint64_t)s->n_blocks * bt);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = s->n_tokens / bt, in = s->n_tokens % bt;
        block_tokens(s->kv, s->table[index])[in] = tokens[i];
        s->n_tokens++;
        if (in == bt - 1 && s->shares)
            publish(s, index);
    }
    move_window(s);
}

uint32_t kv_seq_len(const struct kv_seq *s)
{
    return s->n_tokens;
}

const uint32_t *kv_seq_blocks(const struct kv_seq *s, uint32_t *n_blocks)
{
    *n_blocks = s->n_blocks;
    return s->table;
}

const uint32_t *kv_seq_window_blocks(const struct kv_seq *s)
{
    return s->windows;
}

uint64_t kv_seq_next_hash(const struct kv_seq *s, const int32_t *tokens, uint32_t n)
{
    const uint32_t bt = s->kv->shape.block_tokens, start = s->n_tokens / bt * bt;
    if (!s->shares || start >= n || n - start <= bt)
        return 0;
    return hash_block(prefix_before(s, start / bt).hash, tokens + start, bt);
}

/* --- books
 * ------------------------------------------------------------------------------------------- */

void kv_stats(const struct kv_cache *kv, struct kv_stats *out)
{
    *out = (struct kv_stats){
        .n_blocks = kv->shape.n_blocks,
        .held = kv->shape.n_blocks - kv->n_free - kv->n_cached,
        .cached = kv->n_cached,
        .evicted = kv->evicted,
        .attached = kv->attached,
        .swapped = kv->swapped,
        .n_window_blocks = kv->windows.n_blocks,
        .window_held = kv->windows.n_blocks - kv->windows.n_free - kv->windows.n_cached,
        .window_cached = kv->windows.n_cached,
    };
}

static bool audit_refs(const struct kv_cache *kv, uint32_t *refs, struct errmsg *why)
{
    for (const struct link *l = kv->seqs.next; l != &kv->seqs; l = l->next) {
        const struct kv_seq *s = list_entry(l, struct kv_seq, link);
        for (uint32_t i = 0; i < s->n_blocks; i++) {
            const struct block *b = &kv->blocks[s->table[i]];
            bool full = (uint64_t)(i + 1) * kv->shape.block_tokens <= s->n_tokens;
            refs[s->table[i]]++;
            if (b->published != (full && s->shares))
                return err_set(why, ERR_INTERNAL, "block %u: published %d, full %d", s->table[i],
                               b->published, full),
                       false;
        }
    }
    for (uint32_t i = 0; i < kv->shape.n_blocks; i++)
        if (refs[i] != kv->blocks[i].refs)
            return err_set(why, ERR_INTERNAL, "block %u: %u references, counted %u", i,
                           kv->blocks[i].refs, refs[i]),
                   false;
    return true;
}

/* Of one sequence: its range is what it must be, and published where the whole block is. */
static bool audit_window(const struct kv_seq *s, uint32_t *refs, struct errmsg *why)
{
    const struct kv_cache *kv = s->kv;
    const uint32_t bt = kv->shape.block_tokens, begin = first_window(kv, s->n_tokens);
    const uint32_t n_full = s->n_tokens / bt;
    const uint32_t seen_end = s->n_blocks < s->w_begin + kv->shape.ring_blocks
                                  ? s->n_blocks
                                  : s->w_begin + kv->shape.ring_blocks;
    if (s->w_end - s->w_begin > s->reserved ||
        (s->n_blocks && (s->w_begin != begin || s->w_end != seen_end)))
        return err_set(why, ERR_INTERNAL,
                       "a sequence of %u blocks at %u holds window blocks %u to %u of %u reserved",
                       s->n_blocks, s->n_tokens, s->w_begin, s->w_end, s->reserved),
               false;
    for (uint32_t i = s->w_begin; i < s->w_end; i++) {
        const uint32_t id = s->windows[i];
        const bool twin = kv->windows.blocks[id].owner == s->table[i];
        refs[id]++;
        if (twin != (i < n_full && s->shares))
            return err_set(why, ERR_INTERNAL, "window block %u: published %d", id, twin), false;
    }
    return true;
}

static bool audit_windows(const struct kv_cache *kv, struct errmsg *why)
{
    const struct window_pool *p = &kv->windows;
    uint32_t n_free = 0, n_cached = 0, reserved = 0;
    uint32_t *refs = calloc(p->n_blocks + 1, sizeof *refs);
    if (!refs)
        return err_set(why, ERR_NOMEM, "no memory to audit"), false;
    bool ok = true;
    for (const struct link *l = kv->seqs.next; ok && p->n_blocks && l != &kv->seqs; l = l->next) {
        const struct kv_seq *s = list_entry(l, struct kv_seq, link);
        ok = audit_window(s, refs, why);
        reserved += s->reserved;
    }
    for (uint32_t i = 0; ok && i < p->n_blocks; i++) {
        const struct window_block *b = &p->blocks[i];
        if (refs[i] != b->refs || (b->owner != NONE && kv->blocks[b->owner].window != i))
            ok = !err_set(why, ERR_INTERNAL, "window block %u: %u references, counted %u", i,
                          b->refs, refs[i]);
        n_free += b->refs == 0 && b->owner == NONE;
        n_cached += b->refs == 0 && b->owner != NONE;
    }
    free(refs);
    if (ok && (n_free != p->n_free || n_cached != p->n_cached || reserved != p->reserved))
        return err_set(why, ERR_INTERNAL,
                       "windows: %u free of %u, %u cached of %u, %u reserved of %u", n_free,
                       p->n_free, n_cached, p->n_cached, reserved, p->reserved),
               false;
    return ok;
}

bool kv_audit(const struct kv_cache *kv, struct errmsg *why)
{
    uint32_t *refs = calloc(kv->shape.n_blocks, sizeof *refs);
    if (!refs)
        return err_set(why, ERR_NOMEM, "no memory to audit"), false;
    bool ok = audit_refs(kv, refs, why) && audit_windows(kv, why);
    free(refs);
    uint32_t n_free = 0, n_cached = 0, n_published = 0, in_buckets = 0;
    for (uint32_t id = kv->free_head; id != NONE && n_free <= kv->n_free; id = kv->blocks[id].older)
        n_free += kv->blocks[id].refs == 0 && !kv->blocks[id].published;
    for (uint32_t id = kv->oldest; id != NONE && n_cached <= kv->n_cached;
         id = kv->blocks[id].newer)
        n_cached += kv->blocks[id].refs == 0 && kv->blocks[id].published;
    for (uint32_t i = 0; i < kv->shape.n_blocks; i++)
        n_published += kv->blocks[i].published;
    for (uint32_t i = 0; i < kv->n_buckets; i++)
        for (uint32_t id = kv->buckets[i]; id != NONE; id = kv->blocks[id].chain)
            in_buckets++;
    if (ok && (n_free != kv->n_free || n_cached != kv->n_cached || n_published != in_buckets))
        return err_set(why, ERR_INTERNAL, "%u free of %u, %u cached of %u, %u published of %u",
                       n_free, kv->n_free, n_cached, kv->n_cached, in_buckets, n_published),
               false;
    return ok;
}
