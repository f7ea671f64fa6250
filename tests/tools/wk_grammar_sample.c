/* wk_grammar_sample.c - random texts of JSON Schemas, through the masks, over a real vocabulary.
 *
 *     wk_grammar_sample MODEL.gguf SAMPLES < schemas.jsonl > results.jsonl
 *
 * One schema a line in; a line out: {"outputs":["...", ...]} or {"error":"..."}. Every allowed
 * token is as likely as another, as a model with random weights would have it; past LONG tokens,
 * those that close something are preferred, so that most texts end. Texts that did not end are left
 * out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/json.h"
#include "worker/grammar/grammar.h"
#include "worker/grammar/token_tree.h"
#include "worker/model/gguf.h"
#include "worker/text/tokenizer.h"

enum { LONG = 40, LONGEST = 400 };

static struct str piece(void *self, uint32_t id)
{
    bool hidden = tokenizer_is_control(self, (int32_t)id);
    return hidden ? (struct str){"", 0} : tokenizer_piece(self, (int32_t)id, false);
}

static bool is_end(void *self, uint32_t id)
{
    return tokenizer_is_eog(self, (int32_t)id);
}

static uint32_t rng(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*s >> 33);
}

/* A token of the mask; -1: there is none. */
static int64_t draw(const uint64_t *mask, struct tokenizer *t, uint32_t n_vocab, bool closing,
                    uint64_t *seed)
{
    int64_t got = -1;
    double best = -1;
    for (uint32_t id = 0; id < n_vocab; id++) {
        if (!(mask[id / 64] >> id % 64 & 1))
            continue;
        struct str p = piece(t, id);
        double score = rng(seed);
        if (closing && p.n)
            score *= p.p[0] == '"' || p.p[0] == '}' || p.p[0] == ']' ? 1e6 / (double)p.n : 1;
        if (closing && is_end(t, id))
            score *= 1e9;
        if (score > best) {
            best = score;
            got = id;
        }
    }
    return got;
}

static bool sample(struct grammar *g, const struct token_tree *tree, struct tokenizer *t,
                   uint64_t *seed, struct buf *out)
{
    uint32_t state = grammar_start(g);
    for (int n = 0; n < LONGEST && !grammar_finished(g, state); n++) {
        const uint64_t *mask = grammar_mask(g, tree, state);
        int64_t id = mask ? draw(mask, t, tree->n_vocab, n > LONG, seed) : -1;
        if (id < 0) {
            buf_puts(out, " <dead end>");
            return true; /* let the validator see it */
        }
        if (is_end(t, (uint32_t)id))
            return true;
        struct str p = piece(t, (uint32_t)id);
        buf_put(out, p.p, p.n);
        state = grammar_feed(g, state, p.p, p.n);
    }
    return grammar_accepts(g, state);
}

int main(int argc, char **argv)
{
    struct gguf *gguf = NULL;
    struct tokenizer *t = NULL;
    struct token_tree *tree = NULL;
    struct errmsg why = {""};
    int samples = argc == 3 ? atoi(argv[2]) : 0;
    if (samples < 1 || gguf_open(&gguf, argv[1], &why) || tokenizer_open(&t, gguf, &why)) {
        fprintf(stderr, "usage: wk_grammar_sample MODEL.gguf SAMPLES < schemas.jsonl %s\n",
                why.text);
        return 2;
    }
    struct token_source from = {t, tokenizer_n_vocab(t), piece, is_end};
    if (token_tree_open(&tree, &from, &why))
        return 1;
    char *line = NULL;
    size_t cap = 0;
    uint64_t seed = 42;
    struct buf out, text;
    buf_init(&out);
    buf_init(&text);
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        struct grammar *g = NULL;
        buf_clear(&out);
        if (grammar_compile(&g, GRAMMAR_JSON_SCHEMA, (struct str){line, (size_t)n}, &why)) {
            buf_puts(&out, "{\"error\":");
            json_put_cstr(&out, why.text);
        } else {
            buf_puts(&out, "{\"outputs\":[");
            for (int i = 0, kept = 0; i < samples; i++) {
                buf_clear(&text);
                if (!sample(g, tree, t, &seed, &text))
                    continue;
                if (kept++)
                    buf_putc(&out, ',');
                json_put_str(&out, text.p ? text.p : "", text.n);
            }
            buf_putc(&out, ']');
            grammar_release(g);
        }
        buf_puts(&out, "}\n");
        fwrite(out.p, 1, out.n, stdout);
    }
    buf_fini(&out);
    buf_fini(&text);
    free(line);
    token_tree_close(tree);
    tokenizer_close(t);
    gguf_close(gguf);
    return 0;
}
