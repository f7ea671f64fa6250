/* expr.c - building expressions; small simplifications keep programs short. */
#include "worker/grammar/expr.h"

#include <stdlib.h>
#include <string.h>

void expr_grammar_init(struct expr_grammar *g, size_t limit_bytes)
{
    *g = (struct expr_grammar){0};
    arena_init(&g->arena, limit_bytes);
}

void expr_grammar_fini(struct expr_grammar *g)
{
    arena_fini(&g->arena);
    free(g->rules);
    *g = (struct expr_grammar){0};
}

static struct expr *new_expr(struct expr_grammar *g, enum expr_kind kind)
{
    struct expr *e = g->failed ? NULL : arena_zalloc(&g->arena, sizeof(*e));
    if (!e) {
        g->failed = true;
        return NULL;
    }
    e->kind = kind;
    return e;
}

const struct expr *expr_empty(struct expr_grammar *g)
{
    return new_expr(g, EXPR_EMPTY);
}

const struct expr *expr_never(struct expr_grammar *g)
{
    return new_expr(g, EXPR_NEVER);
}

static void set_add(struct byte_set *s, unsigned lo, unsigned hi)
{
    for (unsigned b = lo; b <= hi; b++)
        s->bits[b / 64] |= UINT64_C(1) << b % 64;
}

const struct expr *expr_byte_range(struct expr_grammar *g, uint8_t lo, uint8_t hi)
{
    struct expr *e = new_expr(g, EXPR_BYTES);
    if (e)
        set_add(&e->set, lo, hi);
    return e;
}

const struct expr *expr_literal(struct expr_grammar *g, struct str text)
{
    struct expr_list l = {0};
    for (size_t i = 0; i < text.n; i++)
        expr_push(g, &l, expr_byte_range(g, (uint8_t)text.p[i], (uint8_t)text.p[i]));
    return expr_seq(g, l.items, l.n);
}

const struct expr *expr_lit(struct expr_grammar *g, const char *text)
{
    return expr_literal(g, str_of(text));
}

/* A list node of the items that matter; nested lists of the same kind are taken apart. */
static const struct expr *make_list(struct expr_grammar *g, enum expr_kind kind,
                                    const struct expr *const *items, size_t n)
{
    enum expr_kind neutral = kind == EXPR_SEQ ? EXPR_EMPTY : EXPR_NEVER;
    size_t total = 0;
    struct expr *set = NULL; /* alternatives of one byte become one set */
    for (size_t i = 0; i < n; i++) {
        if (!items[i]) {
            g->failed = true;
            return NULL;
        }
        if (kind == EXPR_SEQ && items[i]->kind == EXPR_NEVER)
            return items[i];
        total += items[i]->kind == kind ? items[i]->list.n : items[i]->kind != neutral;
    }
    if (total == 0)
        return new_expr(g, neutral);
    if (total > UINT32_MAX) {
        g->failed = true;
        return NULL;
    }
    const struct expr **flat = arena_array(&g->arena, total, sizeof(*flat));
    if (!flat) {
        g->failed = true;
        return NULL;
    }
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        bool nested = items[i]->kind == kind;
        const struct expr *const *part = nested ? items[i]->list.items : &items[i];
        for (uint32_t k = 0; k < (nested ? items[i]->list.n : items[i]->kind != neutral); k++) {
            if (kind == EXPR_SEQ || part[k]->kind != EXPR_BYTES) {
                flat[at++] = part[k];
                continue;
            }
            if (!set) {
                set = new_expr(g, EXPR_BYTES);
                if (!set)
                    return NULL;
                flat[at++] = set;
            }
            for (int w = 0; w < 4; w++)
                set->set.bits[w] |= part[k]->set.bits[w];
        }
    }
    if (at == 1)
        return flat[0];
    struct expr *e = new_expr(g, kind);
    if (!e)
        return NULL;
    e->list.items = flat;
    e->list.n = at;
    return e;
}

const struct expr *expr_seq(struct expr_grammar *g, const struct expr *const *items, size_t n)
{
    return make_list(g, EXPR_SEQ, items, n);
}

const struct expr *expr_alt(struct expr_grammar *g, const struct expr *const *items, size_t n)
{
    return make_list(g, EXPR_ALT, items, n);
}

const struct expr *expr_seq2(struct expr_grammar *g, const struct expr *a, const struct expr *b)
{
    return make_list(g, EXPR_SEQ, (const struct expr *const[]){a, b}, 2);
}

const struct expr *expr_alt2(struct expr_grammar *g, const struct expr *a, const struct expr *b)
{
    return make_list(g, EXPR_ALT, (const struct expr *const[]){a, b}, 2);
}

const struct expr *expr_repeat(struct expr_grammar *g, const struct expr *body, uint32_t min,
                               uint32_t max)
{
    if (!body)
        g->failed = true;
    if (g->failed)
        return NULL;
    if (min > max)
        return expr_never(g);
    if (max == 0 || body->kind == EXPR_EMPTY)
        return expr_empty(g);
    if (body->kind == EXPR_NEVER)
        return min ? body : expr_empty(g);
    if (min == 1 && max == 1)
        return body;
    struct expr *e = new_expr(g, EXPR_REPEAT);
    if (!e)
        return NULL;
    e->repeat.body = body;
    e->repeat.min = min;
    e->repeat.max = max;
    return e;
}

const struct expr *expr_optional(struct expr_grammar *g, const struct expr *body)
{
    return expr_repeat(g, body, 0, 1);
}

const struct expr *expr_star(struct expr_grammar *g, const struct expr *body)
{
    return expr_repeat(g, body, 0, EXPR_UNBOUNDED);
}

uint32_t expr_rule_declare(struct expr_grammar *g)
{
    if (g->n_rules == g->cap_rules) {
        uint32_t cap = g->cap_rules ? 2 * g->cap_rules : 16;
        const struct expr **grown = cap <= 1 << 20 ? realloc(g->rules, cap * sizeof(*grown)) : NULL;
        if (!grown) {
            g->failed = true;
            return 0;
        }
        g->rules = grown;
        g->cap_rules = cap;
    }
    g->rules[g->n_rules] = NULL;
    return g->n_rules++;
}

void expr_rule_define(struct expr_grammar *g, uint32_t rule, const struct expr *e)
{
    if (!e || rule >= g->n_rules)
        g->failed = true;
    else
        g->rules[rule] = e;
}

const struct expr *expr_rule(struct expr_grammar *g, uint32_t rule)
{
    struct expr *e = new_expr(g, EXPR_RULE);
    if (e)
        e->rule = rule;
    return e;
}

void expr_push(struct expr_grammar *g, struct expr_list *l, const struct expr *e)
{
    if (g->failed)
        return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 8;
        const struct expr **grown = arena_array(&g->arena, cap, sizeof(*grown));
        if (!grown) {
            g->failed = true;
            return;
        }
        if (l->n)
            memcpy(grown, l->items, l->n * sizeof(*grown));
        l->items = grown;
        l->cap = cap;
    }
    l->items[l->n++] = e;
}
