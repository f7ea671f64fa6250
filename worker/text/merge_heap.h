/* merge_heap.h - the queue of candidate merges of BPE and SentencePiece: least key first. Internal
 * to worker/text.
 *
 * A key is (priority << 32 | position), so that of equal merges the leftmost goes first, as all the
 * original implementations have it. Candidates that a neighbour's merge has made void stay in the
 * queue and are skipped by whoever pops them. */
#ifndef MILLRACE_WORKER_TEXT_MERGE_HEAP_H
#define MILLRACE_WORKER_TEXT_MERGE_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct merge {
    uint64_t key;
    int32_t token; /* what the merge makes */
};

struct merge_heap {
    struct merge *m; /* owned */
    size_t n, cap;
};

static inline bool merge_heap_put(struct merge_heap *h, struct merge x)
{
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 256;
        struct merge *m = realloc(h->m, cap * sizeof *m);
        if (!m)
            return false;
        h->m = m;
        h->cap = cap;
    }
    size_t i = h->n++;
    while (i > 0 && h->m[(i - 1) / 2].key > x.key) {
        h->m[i] = h->m[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->m[i] = x;
    return true;
}

/* The heap must not be empty. */
static inline struct merge merge_heap_pop(struct merge_heap *h)
{
    struct merge top = h->m[0], last = h->m[--h->n];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->n)
            break;
        if (c + 1 < h->n && h->m[c + 1].key < h->m[c].key)
            c++;
        if (h->m[c].key >= last.key)
            break;
        h->m[i] = h->m[c];
        i = c;
    }
    h->m[i] = last;
    return top;
}

static inline void merge_heap_fini(struct merge_heap *h)
{
    free(h->m);
    *h = (struct merge_heap){0};
}

#endif
