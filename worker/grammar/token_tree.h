/* token_tree.h - the vocabulary as a tree of bytes, in the order of a walk.
 *
 * Tokens that share a prefix share its steps through the grammar, and a subtree that a state takes
 * as a whole (plain text inside a string) is taken in one go. Made once per model.
 * Thread: read-only after token_tree_open(). */
#ifndef MILLRACE_WORKER_GRAMMAR_TOKEN_TREE_H
#define MILLRACE_WORKER_GRAMMAR_TOKEN_TREE_H

#include "shared/base/err.h"
#include "shared/base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum { TOKEN_BYTES_MAX = 250 }; /* longer tokens never come under a grammar */

struct token_node { /* in preorder; node 0 is the root */
    uint32_t skip;  /* the node after this one's subtree */
    uint32_t first; /* into order[]: tokens from here on end at or below this node */
    uint8_t byte, depth;
    bool plain; /* a whole character ends here, and everything below is text that needs no escape
                   in a JSON string: whole characters, except at the end of a token */
};

struct token_tree {
    uint32_t n_vocab, n_tokens, n_nodes;
    struct token_node *nodes; /* owned; [n_nodes + 1], the last one for its `first` */
    uint32_t *order;          /* owned; [n_tokens] ids by text */
    uint32_t *ends;           /* owned; [n_ends] ids that end a generation */
    uint32_t n_ends;
};

struct token_source { /* where the vocabulary comes from */
    void *self;
    uint32_t n_vocab;
    struct str (*piece)(void *self, uint32_t id); /* empty: never comes under a grammar */
    bool (*is_end)(void *self, uint32_t id);
};

enum err token_tree_open(struct token_tree **out, const struct token_source *from,
                         struct errmsg *why) MUST_CHECK;
void token_tree_close(struct token_tree *t); /* NULL is fine */

#endif
