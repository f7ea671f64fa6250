/* trie.h - all the keys that start at a position of a text, in one walk: special tokens, Unigram
 * pieces.
 *
 *   Nodes in breadth-first order; the children of a node lie side by side, sorted by their byte:
 *
 *     node 0 (root)  first=1 n=2        label  -  'a' 'b' ...
 *     node 1  'a'    first=3 n=1 value=7 (the key "a")
 *
 * 12 bytes a node, built once from the sorted keys. Thread: read-only after trie_build(). */
#ifndef MILLRACE_WORKER_TEXT_TRIE_H
#define MILLRACE_WORKER_TEXT_TRIE_H

#include "shared/base/err.h"
#include "shared/base/str.h"

struct trie_key {
    struct str text; /* borrowed during the build */
    int32_t value;   /* 0 or more */
};

struct trie_node {
    uint32_t first;      /* index of the first child */
    uint16_t n_children; /* 0..256 */
    uint8_t label;       /* the byte that leads here */
    int32_t value;       /* of the key that ends here; -1: none */
};

struct trie {
    struct trie_node *nodes; /* owned; NULL: no keys */
    size_t n_nodes;
    bool starts[256]; /* some key starts with this byte */
};

/* Sorts `keys`. Of equal keys the one with the greatest value stays; empty keys are left out. */
enum err trie_build(struct trie *t, struct trie_key *keys, size_t n_keys) MUST_CHECK;
void trie_fini(struct trie *t);

/* Child of node `at` by byte `b`; 0 (the root, nobody's child): none. */
static inline uint32_t trie_step(const struct trie *t, uint32_t at, uint8_t b)
{
    const struct trie_node *n = &t->nodes[at];
    const struct trie_node *c = &t->nodes[n->first];
    size_t lo = 0, hi = n->n_children;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c[mid].label == b)
            return n->first + (uint32_t)mid;
        if (c[mid].label < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

/* The longest key that p[0..n) starts with: its value, and its bytes in *len. -1: none. */
int32_t trie_longest(const struct trie *t, const char *p, size_t n, size_t *len);

#endif
