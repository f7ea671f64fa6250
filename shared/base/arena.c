#include "shared/base/arena.h"
#include "shared/base/checked.h"
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/* Under AddressSanitizer each allocation is a chunk of its own, so that one byte past the end is
 * seen. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_EXACT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_EXACT 1
#endif
#endif
#ifndef ARENA_EXACT
#define ARENA_EXACT 0
#endif

enum {
    ALIGN = 16,
    CHUNK_MIN = 4096,    /* a page: most requests need no second chunk */
    CHUNK_MAX = 1 << 20, /* doubling stops here: at most this much is idle per arena */
    KEEP_MAX = 64 << 10, /* what reset keeps; an idle keep-alive connection must stay small */
};

/*  | next cap at | data ................ |
 *                 ^0        ^at          ^cap      free space is [at, cap) of the newest chunk only
 */
struct arena_chunk {
    struct arena_chunk *next; /* older */
    size_t cap, at;
    alignas(ALIGN) char data[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit = limit_bytes};
}

void arena_fini(struct arena *a)
{
    while (a->chunks) {
        struct arena_chunk *c = a->chunks;
        a->chunks = c->next;
        free(c);
    }
    a->used = 0;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = NULL;
    for (struct arena_chunk **at = &a->chunks; *at && !ARENA_EXACT; at = &(*at)->next) {
        if ((*at)->cap <= KEEP_MAX) { /* the newest that is small enough is the largest of those */
            keep = *at;
            *at = keep->next;
            break;
        }
    }
    arena_fini(a);
    if (keep) {
        keep->next = NULL;
        keep->at = 0;
    }
    a->chunks = keep;
}

static struct arena_chunk *chunk_new(size_t cap)
{
    size_t bytes;
    if (!add_size(&bytes, sizeof(struct arena_chunk), cap))
        return NULL;
    struct arena_chunk *c = malloc(bytes);
    if (c) {
        c->cap = cap;
        c->at = 0;
    }
    return c;
}

void *arena_alloc(struct arena *a, size_t n)
{
    size_t need, used;
    if (!add_size(&need, n ? n : 1, ALIGN - 1))
        return NULL;
    need &= ~(size_t)(ALIGN - 1);
    if (!add_size(&used, a->used, need) || (a->limit && used > a->limit))
        return NULL;
    struct arena_chunk *c = a->chunks;
    if (!c || need > c->cap - c->at || ARENA_EXACT) {
        if (ARENA_EXACT || need > CHUNK_MAX / 4) {
            /* Alone in its chunk, which goes behind the newest so that the free rest stays in use.
             */
            struct arena_chunk *big = chunk_new(ARENA_EXACT ? (n ? n : 1) : need);
            if (!big)
                return NULL;
            big->at = big->cap;
            struct arena_chunk **where = c ? &c->next : &a->chunks;
            big->next = *where;
            *where = big;
            a->used = used;
            return big->data;
        }
        size_t cap = c && c->cap < CHUNK_MAX ? c->cap * 2 : c ? CHUNK_MAX : CHUNK_MIN;
        while (cap < need)
            cap *= 2;
        c = chunk_new(cap);
        if (!c)
            return NULL;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = c->data + c->at;
    c->at += need;
    a->used = used;
    return p;
}

void *arena_zalloc(struct arena *a, size_t n)
{
    void *p = arena_alloc(a, n);
    if (p)
        memset(p, 0, n);
    return p;
}

void *arena_array(struct arena *a, size_t n, size_t elem)
{
    size_t bytes;
    return mul_size(&bytes, n, elem) ? arena_zalloc(a, bytes) : NULL;
}

char *arena_strndup(struct arena *a, const char *p, size_t n)
{
    size_t bytes;
    if (!add_size(&bytes, n, 1))
        return NULL;
    char *s = arena_alloc(a, bytes);
    if (!s)
        return NULL;
    if (n)
        memcpy(s, p, n);
    s[n] = '\0';
    return s;
}
