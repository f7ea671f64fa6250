/* trie.c - see trie.h. */
#include "worker/text/trie.h"
#include "shared/base/checked.h"

#include <stdlib.h>

static int by_text(const void *a, const void *b)
{
    const struct trie_key *x = a, *y = b;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int c = n ? memcmp(x->text.p, y->text.p, n) : 0;
    if (c)
        return c;
    if (x->text.n != y->text.n)
        return x->text.n < y->text.n ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* The keys [lo, hi) share their first `depth` bytes: those of one node. */
struct range {
    size_t lo, hi, depth;
};

/* Upper bound of the nodes: one per byte that a key doesn't share with the key before it. */
static bool count_nodes(const struct trie_key *keys, size_t n_keys, size_t *out)
{
    size_t nodes = 1;
    for (size_t i = 0; i < n_keys; i++) {
        size_t common = 0;
        if (i > 0) {
            struct str a = keys[i - 1].text, b = keys[i].text;
            while (common < a.n && common < b.n && a.p[common] == b.p[common])
                common++;
        }
        if (!add_size(&nodes, nodes, keys[i].text.n - common))
            return false;
    }
    *out = nodes;
    return nodes <= UINT32_MAX;
}

enum err trie_build(struct trie *t, struct trie_key *keys, size_t n_keys)
{
    *t = (struct trie){0};
    if (n_keys == 0)
        return ERR_OK;
    qsort(keys, n_keys, sizeof *keys, by_text);
    size_t n_nodes;
    if (!count_nodes(keys, n_keys, &n_nodes))
        return ERR_RANGE;
    struct trie_node *nodes = calloc(n_nodes, sizeof *nodes);
    struct range *ranges =
        calloc(n_nodes, sizeof *ranges); /* of each node; the queue of the walk */
    if (!nodes || !ranges) {
        free(nodes);
        free(ranges);
        return ERR_NOMEM;
    }
    ranges[0] = (struct range){0, n_keys, 0};
    nodes[0].value = -1;
    size_t made = 1;
    for (size_t at = 0; at < made; at++) {
        struct range r = ranges[at];
        size_t i = r.lo;
        while (i < r.hi &&
               keys[i].text.n == r.depth) { /* ends here; equal keys: the last one stays */
            if (r.depth > 0)
                nodes[at].value = keys[i].value;
            i++;
        }
        nodes[at].first = (uint32_t)made;
        while (i < r.hi) {
            uint8_t b = (uint8_t)keys[i].text.p[r.depth];
            size_t j = i + 1;
            while (j < r.hi && (uint8_t)keys[j].text.p[r.depth] == b)
                j++;
            nodes[made] = (struct trie_node){.label = b, .value = -1};
            ranges[made] = (struct range){i, j, r.depth + 1};
            made++;
            nodes[at].n_children++;
            if (at == 0)
                t->starts[b] = true;
            i = j;
        }
    }
    free(ranges);
    t->nodes = nodes;
    t->n_nodes = made;
    return ERR_OK;
}

void trie_fini(struct trie *t)
{
    free(t->nodes);
    *t = (struct trie){0};
}

int32_t trie_longest(const struct trie *t, const char *p, size_t n, size_t *len)
{
    int32_t found = -1;
    if (!t->nodes || n == 0 || !t->starts[(uint8_t)p[0]])
        return -1;
    uint32_t at = 0;
    for (size_t i = 0; i < n && (at = trie_step(t, at, (uint8_t)p[i])) != 0; i++)
        if (t->nodes[at].value >= 0) {
            found = t->nodes[at].value;
            *len = i + 1;
        }
    return found;
}
