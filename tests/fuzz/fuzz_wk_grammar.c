/* Grammars of strangers: the first byte says which kind, the rest is the grammar; then a walk
 * through its masks. A text that the masks lead to is one that the grammar admits. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/grammar/grammar.h"
#include "worker/grammar/token_tree.h"

enum { N_VOCAB = 256 + 8, STEPS = 24 };

static const char *const words[8] = {"{\"", "\":", "\",\"", "true", "12", "é", "]}", " \n"};
static char bytes[256];

static struct str piece(void *self, uint32_t id)
{
    (void)self;
    return id < 256 ? (struct str){&bytes[id], id > 0} : str_of(words[id - 256]);
}

static bool is_end(void *self, uint32_t id)
{
    (void)self;
    return id == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct token_tree *tree;
    struct grammar *g = NULL;
    struct errmsg why = {""};
    if (!tree) {
        for (int i = 0; i < 256; i++)
            bytes[i] = (char)i;
        struct token_source from = {NULL, N_VOCAB, piece, is_end};
        if (token_tree_open(&tree, &from, &why))
            abort();
    }
    if (size < 1)
        return 0;
    enum grammar_kind kind = (enum grammar_kind)(data[0] % GRAMMAR_KIND_COUNT_);
    struct str text = {(const char *)data + 1, size - 1};
    enum err e = grammar_compile(&g, kind, text, &why);
    if (e) {
        if (!why.text[0])
            abort(); /* an error without a word */
        return 0;
    }
    char out[STEPS * 8];
    size_t n = 0;
    uint32_t state = grammar_start(g), pick = (uint32_t)size;
    for (int step = 0; step < STEPS; step++) {
        const uint64_t *mask = grammar_mask(g, tree, state);
        if (!mask) {
            if (!grammar_failed(g))
                abort();
            break;
        }
        int id = -1;
        for (uint32_t k = 0; k < N_VOCAB && id < 0; k++) {
            uint32_t at = (pick * 31 + k) % N_VOCAB;
            if (at && mask[at / 64] >> at % 64 & 1)
                id = (int)at;
        }
        if (id < 0)
            break;
        struct str p = piece(NULL, (uint32_t)id);
        memcpy(out + n, p.p, p.n);
        n += p.n;
        state = grammar_feed(g, state, p.p, p.n);
        if (state == GRAMMAR_DEAD && !grammar_failed(g))
            abort(); /* the mask said yes */
        pick = pick * 1664525 + 1013904223;
    }
    if (!grammar_failed(g) && grammar_accepts(g, state) &&
        !grammar_matches(g, (struct str){out, n}))
        abort();
    grammar_release(g);
    return 0;
}
