/* token_tree.c - sorting the vocabulary and laying its tree out. */
#include "worker/grammar/token_tree.h"

#include <stdlib.h>
#include <string.h>

struct token {
    struct str text;
    uint32_t id;
};

static int by_text(const void *a, const void *b)
{
    const struct token *x = a, *y = b;
    int c = memcmp(x->text.p, y->text.p, x->text.n < y->text.n ? x->text.n : y->text.n);
    if (c == 0)
        c = (x->text.n > y->text.n) - (x->text.n < y->text.n);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

/* ---- plain text: where in a UTF-8 sequence a byte leads */

enum { WHOLE, NEED_1, NEED_2, NEED_3, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4, NOT_PLAIN };

static uint8_t utf8_step(uint8_t state, uint8_t b)
{
    switch (state) {
    case WHOLE:
        if (b < 0x80)
            return b < 0x20 || b == '"' || b == '\\' || b == 0x7f ? NOT_PLAIN : WHOLE;
        return b < 0xc2    ? NOT_PLAIN
               : b < 0xe0  ? NEED_1
               : b == 0xe0 ? AFTER_E0
               : b == 0xed ? AFTER_ED
               : b < 0xf0  ? NEED_2
               : b == 0xf0 ? AFTER_F0
               : b < 0xf4  ? NEED_3
               : b == 0xf4 ? AFTER_F4
                           : NOT_PLAIN;
    case NEED_1:
        return b >= 0x80 && b <= 0xbf ? WHOLE : NOT_PLAIN;
    case NEED_2:
        return b >= 0x80 && b <= 0xbf ? NEED_1 : NOT_PLAIN;
    case NEED_3:
        return b >= 0x80 && b <= 0xbf ? NEED_2 : NOT_PLAIN;
    case AFTER_E0:
        return b >= 0xa0 && b <= 0xbf ? NEED_1 : NOT_PLAIN;
    case AFTER_ED:
        return b >= 0x80 && b <= 0x9f ? NEED_1 : NOT_PLAIN;
    case AFTER_F0:
        return b >= 0x90 && b <= 0xbf ? NEED_2 : NOT_PLAIN;
    case AFTER_F4:
        return b >= 0x80 && b <= 0x8f ? NEED_2 : NOT_PLAIN;
    default:
        return NOT_PLAIN;
    }
}

/* ---- layout */

/* Sorted tokens to nodes: each token adds what it does not share with the one before. */
static void lay_out(struct token_tree *t, const struct token *tokens, uint8_t *utf8)
{
    uint32_t path[TOKEN_BYTES_MAX + 1] = {0}; /* the node at each depth */
    size_t depth = 0;
    t->nodes[0] = (struct token_node){.first = 0};
    utf8[0] = NOT_PLAIN; /* the root is not inside a string's text: its children are */
    uint32_t n = 1;
    for (uint32_t k = 0; k < t->n_tokens; k++) {
        struct str s = tokens[k].text;
        size_t shared = 0;
        while (shared < depth && shared < s.n &&
               t->nodes[path[shared + 1]].byte == (uint8_t)s.p[shared])
            shared++;
        while (depth > shared)
            t->nodes[path[depth--]].skip = n;
        while (depth < s.n) {
            uint8_t b = (uint8_t)s.p[depth];
            uint32_t parent = path[depth++];
            utf8[n] = utf8_step(parent ? utf8[parent] : WHOLE, b);
            t->nodes[n] =
                (struct token_node){.first = k, .byte = b, .depth = (uint8_t)depth, .plain = true};
            path[depth] = n++;
        }
        t->order[k] = tokens[k].id;
    }
    while (depth > 0)
        t->nodes[path[depth--]].skip = n;
    t->nodes[0].skip = n;
    t->nodes[n].first = t->n_tokens;
    t->n_nodes = n;
}

/* A node is plain when it and all below it are; found from the end, children before parents. */
static void find_plain(struct token_tree *t, const uint8_t *utf8)
{
    for (uint32_t i = t->n_nodes; i-- > 1;) {
        struct token_node *node = &t->nodes[i];
        bool below = utf8[i] != NOT_PLAIN;
        for (uint32_t c = i + 1; c < node->skip && below; c = t->nodes[c].skip)
            below = t->nodes[c].plain;
        node->plain = below;
    }
    /* Only where a whole character ends may a walk take the rest in one go. */
    for (uint32_t i = 1; i < t->n_nodes; i++)
        t->nodes[i].plain = t->nodes[i].plain && utf8[i] == WHOLE;
}

enum err token_tree_open(struct token_tree **out, const struct token_source *from,
                         struct errmsg *why)
{
    struct token_tree *t = calloc(1, sizeof(*t));
    struct token *tokens = calloc(from->n_vocab + 1u, sizeof(*tokens));
    uint8_t *utf8 = NULL;
    size_t bytes = 0;
    if (!t || !tokens)
        goto nomem;
    t->n_vocab = from->n_vocab;
    t->ends = calloc(from->n_vocab + 1u, sizeof(*t->ends));
    t->order = calloc(from->n_vocab + 1u, sizeof(*t->order));
    if (!t->ends || !t->order)
        goto nomem;
    for (uint32_t id = 0; id < from->n_vocab; id++) {
        struct str s = from->piece(from->self, id);
        if (from->is_end(from->self, id)) {
            t->ends[t->n_ends++] = id;
        } else if (s.n > 0 && s.n <= TOKEN_BYTES_MAX) {
            tokens[t->n_tokens++] = (struct token){s, id};
            bytes += s.n;
        }
    }
    if (bytes >= UINT32_MAX - 2)
        goto nomem;
    qsort(tokens, t->n_tokens, sizeof(*tokens), by_text);
    t->nodes = calloc(bytes + 2, sizeof(*t->nodes));
    utf8 = calloc(bytes + 2, 1);
    if (!t->nodes || !utf8)
        goto nomem;
    lay_out(t, tokens, utf8);
    find_plain(t, utf8);
    struct token_node *fit = realloc(t->nodes, (t->n_nodes + 1u) * sizeof(*fit));
    if (fit)
        t->nodes = fit;
    free(utf8);
    free(tokens);
    *out = t;
    return ERR_OK;
nomem:
    free(utf8);
    free(tokens);
    token_tree_close(t);
    return err_set(why, ERR_NOMEM, "out of memory for the tree of %u tokens", from->n_vocab);
}

void token_tree_close(struct token_tree *t)
{
    if (!t)
        return;
    free(t->nodes);
    free(t->order);
    free(t->ends);
    free(t);
}
