/* program.c - expressions to instructions, from the end to the start: each part is compiled with
 * the address of what follows it. */
#include "worker/grammar/program.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/checked.h"

enum { CODE_MAX = 1 << 21, DEPTH_MAX = 2000, UNROLL_MAX = 64 };

struct compiler {
    struct program *p;
    struct expr_grammar *g;
    bool *nullable, *productive; /* [n_rules] */
    bool failed;
    int depth;
};

static bool grow(void **items, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t more = *cap ? 2 * *cap : 64;
    void *grown = more <= CODE_MAX ? realloc(*items, more * size) : NULL;
    if (!grown)
        return false;
    *items = grown;
    *cap = more;
    return true;
}

static uint32_t emit(struct compiler *c, struct instr i)
{
    struct program *p = c->p;
    if (c->failed || !grow((void **)&p->code, p->n_code, &p->cap_code, sizeof(*p->code))) {
        c->failed = true;
        return 0;
    }
    p->code[p->n_code] = i;
    return p->n_code++;
}

static uint32_t set_of(struct compiler *c, const struct byte_set *s)
{
    struct program *p = c->p;
    /* Most texts repeat few sets; the newest are looked at first, and not too many of them. */
    for (uint32_t i = p->n_sets; i > 0 && p->n_sets - i < 512; i--)
        if (memcmp(&p->sets[i - 1], s, sizeof(*s)) == 0)
            return i - 1;
    if (!grow((void **)&p->sets, p->n_sets, &p->cap_sets, sizeof(*p->sets))) {
        c->failed = true;
        return 0;
    }
    p->sets[p->n_sets] = *s;
    return p->n_sets++;
}

/* ---- what can be empty */

static bool is_nullable(const struct compiler *c, const struct expr *e, int depth)
{
    if (depth > DEPTH_MAX)
        return true; /* refused when it is compiled */
    switch (e->kind) {
    case EXPR_EMPTY:
        return true;
    case EXPR_NEVER:
    case EXPR_BYTES:
        return false;
    case EXPR_SEQ:
        for (uint32_t i = 0; i < e->list.n; i++)
            if (!is_nullable(c, e->list.items[i], depth + 1))
                return false;
        return true;
    case EXPR_ALT:
        for (uint32_t i = 0; i < e->list.n; i++)
            if (is_nullable(c, e->list.items[i], depth + 1))
                return true;
        return false;
    case EXPR_REPEAT:
        return e->repeat.min == 0 || is_nullable(c, e->repeat.body, depth + 1);
    case EXPR_RULE:
        return c->nullable[e->rule];
    }
    return false;
}

static void find_nullable(struct compiler *c)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t r = 0; r < c->g->n_rules; r++)
            if (c->g->rules[r] && !c->nullable[r] && is_nullable(c, c->g->rules[r], 0))
                changed = c->nullable[r] = true;
    }
}

/* ---- what has any text at all: the rest is cut off, so that no text leads into a dead end */

enum { KNOWN_PRODUCTIVE = 1, KNOWN_BARREN = 2 };

static bool find_productive(const struct compiler *c, const struct expr *e, bool final, int depth);

static bool list_productive(const struct compiler *c, const struct expr *e, bool final, int depth)
{
    bool all = true, any = false;
    for (uint32_t i = 0; i < e->list.n; i++) {
        bool one = find_productive(c, e->list.items[i], final, depth + 1);
        all &= one;
        any |= one;
    }
    return e->kind == EXPR_SEQ ? all : any;
}

/* `final`: all rules are known, so the answer may be kept in the node. */
static bool find_productive(const struct compiler *c, const struct expr *e, bool final, int depth)
{
    bool yes = true;
    if (e->known || depth > DEPTH_MAX)
        return e->known != KNOWN_BARREN;
    switch (e->kind) {
    case EXPR_EMPTY:
        break;
    case EXPR_NEVER:
        yes = false;
        break;
    case EXPR_BYTES:
        yes = e->set.bits[0] | e->set.bits[1] | e->set.bits[2] | e->set.bits[3];
        break;
    case EXPR_SEQ:
    case EXPR_ALT:
        yes = list_productive(c, e, final, depth);
        break;
    case EXPR_REPEAT:
        yes = find_productive(c, e->repeat.body, final, depth + 1) || e->repeat.min == 0;
        break;
    case EXPR_RULE:
        yes = c->productive[e->rule];
        break;
    }
    if (final) /* nodes are made by expr.c, and not in read-only memory */
        ((struct expr *)(uintptr_t)e)->known = yes ? KNOWN_PRODUCTIVE : KNOWN_BARREN;
    return yes;
}

static void find_all_productive(struct compiler *c)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t r = c->g->n_rules; r-- > 0;)
            if (!c->productive[r] && find_productive(c, c->g->rules[r], false, 0))
                changed = c->productive[r] = true;
    }
    for (uint32_t r = 0; r < c->g->n_rules; r++)
        find_productive(c, c->g->rules[r], true, 0);
}

/* ---- left recursion: a rule that is reached again before a byte is consumed */

struct left_walk {
    const struct compiler *c;
    uint8_t *state; /* [n_rules] 0: new, 1: on the path, 2: done */
    int depth;
};

static bool left_recursive(struct left_walk *w, const struct expr *e);

static bool left_recursive_rule(struct left_walk *w, uint32_t r)
{
    if (w->state[r] == 2 || !w->c->g->rules[r])
        return false;
    if (w->state[r] == 1 || w->depth > DEPTH_MAX)
        return true;
    w->state[r] = 1;
    w->depth++;
    bool found = left_recursive(w, w->c->g->rules[r]);
    w->depth--;
    w->state[r] = 2;
    return found;
}

static bool left_recursive(struct left_walk *w, const struct expr *e)
{
    switch (e->kind) {
    case EXPR_SEQ:
        for (uint32_t i = 0; i < e->list.n; i++) {
            if (left_recursive(w, e->list.items[i]))
                return true;
            if (!is_nullable(w->c, e->list.items[i], 0))
                return false;
        }
        return false;
    case EXPR_ALT:
        for (uint32_t i = 0; i < e->list.n; i++)
            if (left_recursive(w, e->list.items[i]))
                return true;
        return false;
    case EXPR_REPEAT:
        return left_recursive(w, e->repeat.body);
    case EXPR_RULE:
        return left_recursive_rule(w, e->rule);
    default:
        return false;
    }
}

/* ---- compilation */

static uint32_t compile(struct compiler *c, const struct expr *e, uint32_t next);

static uint32_t compile_alt(struct compiler *c, const struct expr *const *items, uint32_t n,
                            uint32_t next)
{
    struct program *p = c->p;
    uint32_t *at = calloc(n, sizeof(*at));
    if (!at) {
        c->failed = true;
        return 0;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n && !c->failed; i++)
        if (find_productive(c, items[i], true, 0))
            at[kept++] = compile(c, items[i], next);
    n = kept;
    uint32_t first = p->n_targets;
    for (uint32_t i = 0; i < n && !c->failed; i++) {
        if (!grow((void **)&p->targets, p->n_targets, &p->cap_targets, sizeof(*p->targets)))
            c->failed = true;
        else
            p->targets[p->n_targets++] = at[i];
    }
    free(at);
    return emit(c, (struct instr){.op = OP_SPLIT, .a = first, .b = n});
}

static uint32_t compile_star(struct compiler *c, const struct expr *body, uint32_t next)
{
    struct program *p = c->p;
    uint32_t first = p->n_targets;
    for (int i = 0; i < 2; i++) {
        if (!grow((void **)&p->targets, p->n_targets, &p->cap_targets, sizeof(*p->targets))) {
            c->failed = true;
            return 0;
        }
        p->targets[p->n_targets++] = next;
    }
    uint32_t split = emit(c, (struct instr){.op = OP_SPLIT, .a = first, .b = 2});
    uint32_t entry = compile(c, body, split);
    if (!c->failed)
        p->targets[first] = entry;
    return split;
}

static uint32_t compile_repeat(struct compiler *c, const struct expr *e, uint32_t next)
{
    const struct expr *body = e->repeat.body;
    uint32_t min = e->repeat.min, max = e->repeat.max;
    if (!find_productive(c, body, true, 0))
        return next; /* min is 0 */
    if (min == 0 && max == 1)
        return compile_alt(c, (const struct expr *const[]){body, expr_empty(c->g)}, 2, next);
    if (is_nullable(c, body, 0)) {
        /* Rounds may be empty, so any number up to max will do; counting them would not end. */
        if (max == EXPR_UNBOUNDED)
            return compile_star(c, body, next);
        if (max > UNROLL_MAX) {
            c->failed = true;
            return 0;
        }
        for (uint32_t i = 0; i < max && !c->failed; i++)
            next = compile(c, body, next);
        return next;
    }
    if (max == EXPR_UNBOUNDED && min <= 1) {
        uint32_t star = compile_star(c, body, next);
        return min ? compile(c, body, star) : star;
    }
    uint32_t loop = emit(c, (struct instr){.op = OP_LOOP, .next = next, .min = min, .max = max});
    uint32_t again = emit(c, (struct instr){.op = OP_NEXT, .next = loop});
    uint32_t entry = compile(c, body, again);
    if (!c->failed)
        c->p->code[loop].a = entry;
    return loop;
}

static uint32_t compile(struct compiler *c, const struct expr *e, uint32_t next)
{
    if (!e || c->failed || c->depth >= DEPTH_MAX) {
        c->failed = true;
        return 0;
    }
    if (!find_productive(c, e, true, 0))
        return emit(c, (struct instr){.op = OP_NEVER});
    c->depth++;
    uint32_t at = 0;
    switch (e->kind) {
    case EXPR_EMPTY:
        at = next;
        break;
    case EXPR_NEVER:
        at = emit(c, (struct instr){.op = OP_NEVER});
        break;
    case EXPR_BYTES:
        at = emit(c, (struct instr){.op = OP_BYTES, .a = set_of(c, &e->set), .next = next});
        break;
    case EXPR_SEQ:
        at = next;
        for (uint32_t i = e->list.n; i-- > 0 && !c->failed;)
            at = compile(c, e->list.items[i], at);
        break;
    case EXPR_ALT:
        at = compile_alt(c, e->list.items, e->list.n, next);
        break;
    case EXPR_REPEAT:
        at = compile_repeat(c, e, next);
        break;
    case EXPR_RULE:
        at = emit(c, (struct instr){.op = OP_CALL,
                                    .a = e->rule,
                                    .next = next,
                                    .tail = c->p->code[next].op == OP_RET});
        break;
    }
    c->depth--;
    return at;
}

/* ---- classes of bytes */

/* Every set splits each class into the bytes inside and outside of it. */
static void find_classes(struct program *p)
{
    memset(p->byte_class, 0, sizeof(p->byte_class));
    p->n_classes = 1;
    for (uint32_t s = 0; s < p->n_sets && p->n_classes < 256; s++) {
        int renamed[256][2];
        unsigned n = 0;
        memset(renamed, -1, sizeof(renamed));
        for (unsigned b = 0; b < 256; b++) {
            unsigned in = p->sets[s].bits[b / 64] >> b % 64 & 1;
            int *name = &renamed[p->byte_class[b]][in];
            if (*name < 0)
                *name = (int)n++;
            p->byte_class[b] = (uint8_t)*name;
        }
        p->n_classes = n;
    }
    for (unsigned b = 256; b-- > 0;)
        p->class_byte[p->byte_class[b]] = (uint8_t)b;
}

enum err program_compile(struct program *p, struct expr_grammar *g, uint32_t start,
                         struct errmsg *why)
{
    struct compiler c = {.p = p, .g = g};
    *p = (struct program){.n_rules = g->n_rules};
    if (g->failed || start >= g->n_rules)
        return err_set(why, ERR_RANGE, "the grammar is too large");
    for (uint32_t r = 0; r < g->n_rules; r++)
        if (!g->rules[r])
            return err_set(why, ERR_INTERNAL, "a rule of the grammar was never defined");
    p->entry = calloc(g->n_rules, sizeof(*p->entry));
    c.nullable = calloc(g->n_rules, sizeof(*c.nullable));
    c.productive = calloc(g->n_rules, sizeof(*c.productive));
    uint8_t *state = calloc(g->n_rules, 1);
    enum err e = ERR_OK;
    if (!p->entry || !c.nullable || !c.productive || !state)
        e = err_set(why, ERR_NOMEM, "out of memory");
    if (!e) {
        find_nullable(&c);
        find_all_productive(&c);
        if (!c.productive[start])
            e = err_set(why, ERR_INVALID, "no text satisfies it");
        struct left_walk w = {.c = &c, .state = state};
        for (uint32_t r = 0; r < g->n_rules && !e; r++)
            if (left_recursive_rule(&w, r))
                e = err_set(why, ERR_UNSUPPORTED,
                            "a rule of the grammar begins with itself (left recursion)");
    }
    if (!e) {
        uint32_t ret = emit(&c, (struct instr){.op = OP_RET});
        for (uint32_t r = 0; r < g->n_rules && !c.failed; r++)
            p->entry[r] = compile(&c, g->rules[r], ret);
        if (c.failed || g->failed)
            e = err_set(why, ERR_RANGE, "the grammar is too large or too deeply nested");
    }
    free(state);
    free(c.nullable);
    free(c.productive);
    if (e) {
        program_fini(p);
        return e;
    }
    find_classes(p);
    p->start = p->entry[start];
    return ERR_OK;
}

void program_fini(struct program *p)
{
    free(p->code);
    free(p->targets);
    free(p->sets);
    free(p->entry);
    *p = (struct program){0};
}
