/* grammar.c - a compiled grammar, its masks, and the sharing of both. */
#include "worker/grammar/grammar.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "worker/grammar/automaton.h"
#include "worker/grammar/gbnf.h"
#include "worker/grammar/regex.h"
#include "worker/grammar/schema.h"
#include "worker/grammar/token_tree.h"

enum {
    BUILD_BYTES = 128 << 20,
    SCHEMA_DEPTH = 256,
    MASK_BYTES = 32 << 20, /* masks kept per grammar; at least MASKS_MIN */
    MASKS_MIN = 64,
};

struct mask {
    uint32_t state; /* GRAMMAR_DEAD: the slot is empty */
    uint64_t *bits; /* owned */
};

struct grammar {
    _Atomic uint32_t refs;
    enum grammar_kind kind;
    char *text; /* owned; what it was made from */
    size_t n_text;
    struct automaton *automaton;
    /* Masks by state: a direct-mapped table; a newcomer takes its slot. */
    struct mask *masks;
    uint32_t n_masks; /* a power of two */
    const struct token_tree *tree;
    uint64_t made, found;
};

static enum err build(struct expr_grammar *g, enum grammar_kind kind, struct str text,
                      uint32_t *rule, struct errmsg *why)
{
    switch (kind) {
    case GRAMMAR_JSON_OBJECT:
        *rule = json_object_rule(g);
        return ERR_OK;
    case GRAMMAR_JSON_SCHEMA: {
        struct json_limits limits = {.max_depth = SCHEMA_DEPTH};
        struct json *root;
        enum err e = json_parse(&root, &g->arena, text.p, text.n, &limits, why);
        return e ? e : schema_rule(g, root, rule, why);
    }
    case GRAMMAR_GBNF:
        return gbnf_rule(g, text, rule, why);
    case GRAMMAR_REGEX: {
        struct regex_result r;
        enum err e = regex_expr(g, text, TEXT_RAW, true, &r, why);
        if (e)
            return e;
        *rule = expr_rule_declare(g);
        expr_rule_define(g, *rule, r.e);
        return ERR_OK;
    }
    case GRAMMAR_KIND_COUNT_:
        break;
    }
    return err_set(why, ERR_INTERNAL, "unknown kind of grammar");
}

enum err grammar_compile(struct grammar **out, enum grammar_kind kind, struct str text,
                         struct errmsg *why)
{
    struct grammar *g = calloc(1, sizeof(*g));
    struct expr_grammar exprs;
    uint32_t rule = 0;
    if (!g || !(g->text = malloc(text.n + 1))) {
        free(g);
        return err_set(why, ERR_NOMEM, "out of memory");
    }
    g->refs = 1;
    g->kind = kind;
    g->n_text = text.n;
    if (text.n)
        memcpy(g->text, text.p, text.n);
    expr_grammar_init(&exprs, BUILD_BYTES);
    enum err e = build(&exprs, kind, text, &rule, why);
    if (!e)
        e = automaton_open(&g->automaton, &exprs, rule, why);
    expr_grammar_fini(&exprs);
    if (e) {
        grammar_release(g);
        return e;
    }
    *out = g;
    return ERR_OK;
}

struct grammar *grammar_retain(struct grammar *g)
{
    g->refs++;
    return g;
}

void grammar_release(struct grammar *g)
{
    if (!g || --g->refs > 0)
        return;
    for (uint32_t i = 0; i < g->n_masks; i++)
        free(g->masks[i].bits);
    free(g->masks);
    automaton_close(g->automaton);
    free(g->text);
    free(g);
}

bool grammar_is(const struct grammar *g, enum grammar_kind kind, struct str text)
{
    return g->kind == kind && (kind == GRAMMAR_JSON_OBJECT ||
                               (g->n_text == text.n && memcmp(g->text, text.p, text.n) == 0));
}

uint32_t grammar_start(const struct grammar *g)
{
    return automaton_start(g->automaton);
}

uint32_t grammar_feed(struct grammar *g, uint32_t state, const char *p, size_t n)
{
    for (size_t i = 0; i < n && state != GRAMMAR_DEAD; i++)
        state = automaton_step(g->automaton, state, (uint8_t)p[i]);
    return state;
}

bool grammar_accepts(const struct grammar *g, uint32_t state)
{
    return automaton_accepts(g->automaton, state);
}

bool grammar_finished(const struct grammar *g, uint32_t state)
{
    return automaton_finished(g->automaton, state);
}

bool grammar_failed(const struct grammar *g)
{
    return automaton_failed(g->automaton);
}

bool grammar_matches(struct grammar *g, struct str text)
{
    return automaton_matches(g->automaton, text.p, text.n);
}

/* ---- masks */

static void allow(uint64_t *bits, uint32_t id)
{
    bits[id / 64] |= UINT64_C(1) << id % 64;
}

static void make_mask(struct automaton *a, const struct token_tree *t, uint32_t state,
                      uint64_t *bits)
{
    uint32_t at[TOKEN_BYTES_MAX + 1]; /* the state at each depth of the walk */
    memset(bits, 0, (t->n_vocab + 63u) / 64 * sizeof(*bits));
    if (automaton_accepts(a, state))
        for (uint32_t i = 0; i < t->n_ends; i++)
            allow(bits, t->ends[i]);
    at[0] = state;
    for (uint32_t i = 1; i < t->n_nodes;) {
        const struct token_node *node = &t->nodes[i];
        uint32_t s = automaton_step(a, at[node->depth - 1], node->byte);
        if (s == STATE_DEAD) {
            i = node->skip;
            continue;
        }
        bool whole = node->plain && automaton_takes_text(a, s);
        uint32_t to = whole ? node->skip : i + 1;
        for (uint32_t k = node->first; k < t->nodes[to].first; k++)
            allow(bits, t->order[k]);
        at[node->depth] = s;
        i = to;
    }
}

static bool masks_open(struct grammar *g, const struct token_tree *t)
{
    size_t each = (t->n_vocab + 63u) / 64 * sizeof(uint64_t);
    uint32_t n = MASKS_MIN;
    while ((size_t)n * 2 * each <= MASK_BYTES)
        n *= 2;
    g->masks = calloc(n, sizeof(*g->masks));
    g->n_masks = g->masks ? n : 0;
    g->tree = t;
    return g->masks != NULL;
}

const uint64_t *grammar_mask(struct grammar *g, const struct token_tree *tree, uint32_t state)
{
    if (!g->masks && !masks_open(g, tree))
        return NULL;
    struct mask *m = &g->masks[state & (g->n_masks - 1)];
    if (state == GRAMMAR_DEAD || g->tree != tree)
        return NULL;
    if (m->state == state) {
        g->found++;
        return m->bits;
    }
    if (!m->bits)
        m->bits = malloc((tree->n_vocab + 63u) / 64 * sizeof(*m->bits));
    if (!m->bits)
        return NULL;
    m->state = GRAMMAR_DEAD;
    make_mask(g->automaton, tree, state, m->bits);
    if (automaton_failed(g->automaton))
        return NULL;
    m->state = state;
    g->made++;
    return m->bits;
}

struct grammar_stats grammar_stats(const struct grammar *g)
{
    return (struct grammar_stats){.n_states = automaton_n_states(g->automaton),
                                  .bytes = automaton_bytes(g->automaton),
                                  .masks_made = g->made,
                                  .masks_found = g->found};
}
