/* kv_cache.c - block table bookkeeping; the header draws the states. */
#include "worker/kv/kv_cache.h"

#include "shared/base/checked.h"
#include "shared/base/list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = UINT32_MAX }; /* end of a chain of block ids */

struct block {
    uint32_t refs;
    bool published;
    bool root;             /* published: the first block of a prompt; parent is the salt */
    uint64_t parent;       /* published: serial of the predecessor, never reused */
    uint64_t serial;       /* published: unique name of this content */
    uint64_t hash;         /* published */
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
    struct link seqs; /* for kv_audit() */
};

struct kv_seq {
    struct kv_cache *kv; /* borrowed */
    struct link link;
    uint64_t salt;
    bool shares;
    uint32_t n_blocks, n_tokens;
    uint32_t table[]; /* max_seq_tokens worth of blocks */
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
    if (!kv->blocks || !kv->buckets || !kv->tokens) {
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

/* --- sequences
 * --------------------------------------------------------------------------------------- */

enum err kv_seq_new(struct kv_cache *kv, uint64_t salt, bool shares, struct kv_seq **out)
{
    size_t n = blocks_for(&kv->shape, kv->shape.max_seq_tokens);
    struct kv_seq *s = malloc(sizeof *s + n * sizeof s->table[0]);
    if (!s)
        return ERR_NOMEM;
    *s = (struct kv_seq){.kv = kv, .salt = salt, .shares = shares};
    list_push_back(&kv->seqs, &s->link);
    *out = s;
    return ERR_OK;
}

void kv_seq_reset(struct kv_seq *s)
{
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

uint32_t kv_seq_attach(struct kv_seq *s, const int32_t *tokens, uint32_t n)
{
    struct kv_cache *kv = s->kv;
    const uint32_t bt = kv->shape.block_tokens;
    uint32_t start = s->n_tokens;
    if (!s->shares || start % bt != 0)
        return 0;
    assert(n <= kv->shape.max_seq_tokens);
    while (s->n_tokens < n && n - s->n_tokens > bt) { /* strictly: one token is left to compute */
        uint32_t index = s->n_tokens / bt;
        struct prefix before = prefix_before(s, index);
        uint64_t hash = hash_block(before.hash, tokens + s->n_tokens, bt);
        uint32_t id = find_block(kv, &before, hash, tokens + s->n_tokens);
        if (id == NONE)
            break;
        hold_block(kv, id);
        if (index < s->n_blocks)
            release_block(kv, s->table[index]);
        else
            s->n_blocks++;
        s->table[index] = id;
        s->n_tokens += bt;
        kv->attached++;
    }
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
    if (want - s->n_blocks > kv->n_free + kv->n_cached)
        return ERR_KV_FULL;
    while (s->n_blocks < want)
        s->table[s->n_blocks++] = take_block(kv);
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
        return;
    }
    struct block *b = &kv->blocks[id];
    b->published = true;
    b->root = before.root;
    b->parent = before.parent;
    b->serial = kv->next_serial++;
    b->hash = hash;
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

uint64_t kv_seq_next_hash(const struct kv_seq *s, const int32_t *tokens, uint32_t n)
{
    const uint32_t bt = s->kv->shape.block_tokens, start = s->n_tokens / bt * bt;
    if (!s->shares || start >= n || n - start <= bt)
        return 0;
    return hash_block(prefix_before(s, start / bt).hash, tokens + start, bt);
}

enum err kv_vacate(struct kv_cache *kv, uint32_t n)
{
    n = n < kv->shape.n_blocks ? n : kv->shape.n_blocks;
    for (uint32_t id = 0; id < n; id++)
        if (kv->blocks[id].refs > 0)
            return ERR_KV_FULL;
    for (uint32_t id = 0; id < n; id++) {
        if (!kv->blocks[id].published)
            continue;
        unpublish(kv, id);
        lru_remove(kv, id);
        kv->blocks[id].older = kv->free_head;
        kv->free_head = id;
        kv->n_free++;
        kv->evicted++;
    }
    return ERR_OK;
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

bool kv_audit(const struct kv_cache *kv, struct errmsg *why)
{
    uint32_t *refs = calloc(kv->shape.n_blocks, sizeof *refs);
    if (!refs)
        return err_set(why, ERR_NOMEM, "no memory to audit"), false;
    bool ok = audit_refs(kv, refs, why);
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
