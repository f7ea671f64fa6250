/* names_see.c - what a scope mentions, in the order in which jinja2/idtracking.py would see it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "worker/text/jinja/names_int.h"

/* Far above what 1 MiB of honest source needs: copies and searches are linear in the names of a
 * scope. */
static const uint64_t MAX_WORK = 100u * 1000 * 1000;

void names_fail(struct checker *c, enum err code, uint32_t line, const char *fmt, ...)
{
    if (c->err)
        return;
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->err = err_set(&c->why, code, "line %u: %s", line, text);
}

bool names_work(struct checker *c, size_t n)
{
    c->work += n + 1;
    if (c->work > MAX_WORK)
        names_fail(c, ERR_INVALID, 1, "the template has too many names to check");
    return !c->err;
}

/* --- symbols of one scope ------------------------------------------------------------ */

struct sym *sym_find(struct checker *c, const struct symbols *s, uint32_t id)
{
    (void)names_work(c, s->n);
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].id == id)
            return &s->v[i];
    return NULL;
}

static bool known(struct checker *c, const struct symbols *s, uint32_t id)
{
    for (; s; s = s->parent)
        if (sym_find(c, s, id))
            return true;
    return false;
}

static struct sym *add(struct checker *c, struct symbols *s, uint32_t id, enum sym_load load)
{
    if (c->err)
        return NULL;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        struct sym *grown = arena_alloc(&c->scratch, cap * sizeof(*grown));
        if (!grown) {
            names_fail(c, ERR_NOMEM, 1, "out of memory while checking names");
            return NULL;
        }
        if (s->n)
            memcpy(grown, s->v, s->n * sizeof(*grown));
        s->v = grown;
        s->cap = cap;
    }
    s->v[s->n] = (struct sym){.id = id, .load = (uint8_t)load};
    return &s->v[s->n++];
}

static void sym_load(struct checker *c, struct symbols *s, uint32_t id)
{
    if (!known(c, s, id))
        (void)add(c, s, id, LOAD_RESOLVE);
}

static void sym_store(struct checker *c, struct symbols *s, uint32_t id)
{
    struct sym *e = sym_find(c, s, id);
    if (!e)
        e = add(c, s, id, s->parent && known(c, s->parent, id) ? LOAD_ALIAS : LOAD_MISSING);
    if (e)
        e->stored = true;
}

void sym_param(struct checker *c, struct symbols *s, uint32_t id)
{
    struct sym *e = sym_find(c, s, id);
    if (!e)
        e = add(c, s, id, LOAD_PARAM);
    if (e) {
        e->load = LOAD_PARAM;
        e->stored = true;
    }
}

static struct symbols copy_of(struct checker *c, const struct symbols *s)
{
    struct symbols copy = {.parent = s->parent};
    (void)names_work(c, s->n);
    for (size_t i = 0; i < s->n; i++) {
        struct sym *e = add(c, &copy, s->v[i].id, (enum sym_load)s->v[i].load);
        if (e)
            e->stored = s->v[i].stored;
    }
    return copy;
}

/* What one branch assigned and the scope had not: loaded on entry, since another branch may be
 * taken. */
static void merge(struct checker *c, struct symbols *s, const struct symbols *branch,
                  size_t n_before)
{
    for (size_t i = 0; i < branch->n && !c->err; i++) {
        const struct sym *b = &branch->v[i];
        struct sym *e = i < n_before ? &s->v[i] : sym_find(c, s, b->id);
        bool stored_before = i < n_before && e && e->stored;
        if (!e)
            e = add(c, s, b->id, (enum sym_load)b->load);
        if (!e)
            return;
        if (b->stored && !stored_before)
            e->load = s->parent && known(c, s->parent, b->id) ? LOAD_ALIAS : LOAD_RESOLVE;
        e->stored |= b->stored;
    }
}

/* --- what a scope mentions (FrameSymbolVisitor) -------------------------------------- */

static void see_list(struct checker *c, struct symbols *s, const struct jj_node *n)
{
    for (; n && !c->err; n = n->next)
        names_see_expr(c, s, n);
}

static void see_args(struct checker *c, struct symbols *s, const struct jj_args *a)
{
    see_list(c, s, a->pos);
    see_list(c, s, a->kw);
    names_see_expr(c, s, a->star);
    names_see_expr(c, s, a->star2);
}

void names_see_expr(struct checker *c, struct symbols *s, const struct jj_node *n)
{
    if (!n || !names_work(c, 1))
        return;
    switch ((enum jj_node_kind)n->kind) {
    case N_CONST:
        break;
    case N_NAME:
    case N_NSREF:
        sym_load(c, s, n->name.id);
        break;
    case N_TUPLE:
    case N_LIST:
    case N_DICT:
    case N_CONCAT:
    case N_COMPARE:
        see_list(c, s, n->list.first);
        break;
    case N_GETATTR:
    case N_KEYWORD:
        names_see_expr(c, s, n->get.of);
        break;
    case N_CALL:
    case N_FILTER:
    case N_TEST:
        names_see_expr(c, s, n->call.of);
        see_args(c, s, &n->call.args);
        break;
    default:
        names_see_expr(c, s, n->a);
        names_see_expr(c, s, n->b);
        names_see_expr(c, s, n->c);
        names_see_expr(c, s, n->d);
    }
}

void names_see_target(struct checker *c, struct symbols *s, const struct jj_node *n, bool param)
{
    if (n->kind == N_TUPLE) {
        for (const struct jj_node *e = n->list.first; e; e = e->next)
            names_see_target(c, s, e, param);
    } else if (n->kind == N_NSREF) {
        sym_load(c, s, n->name.id);
    } else if (param) {
        sym_param(c, s, n->name.id);
    } else {
        sym_store(c, s, n->name.id);
    }
}

static void see_if(struct checker *c, struct symbols *s, const struct jj_node *n)
{
    names_see_expr(c, s, n->cond.test);
    size_t before = s->n;
    struct symbols branch[3];
    const struct jj_node *bodies[3] = {n->cond.body, NULL, n->cond.orelse};
    for (int i = 0; i < 3; i++) {
        branch[i] = copy_of(c, s);
        names_see_body(c, &branch[i], bodies[i]);
        if (i == 1)
            for (const struct jj_node *e = n->cond.elifs; e && !c->err; e = e->next)
                see_if(c, &branch[i], e);
    }
    for (int i = 0; i < 3; i++)
        merge(c, s, &branch[i], before);
}

void names_see_body(struct checker *c, struct symbols *s, const struct jj_node *n)
{
    for (; n && names_work(c, 1); n = n->next) {
        switch ((enum jj_node_kind)n->kind) {
        case S_PRINT:
            see_list(c, s, n->list.first);
            break;
        case S_IF:
            see_if(c, s, n);
            break;
        case S_FOR:
            names_see_expr(c, s, n->loop.iter);
            break;
        case S_SET:
            names_see_expr(c, s, n->b);
            names_see_target(c, s, n->a, false);
            break;
        case S_SET_BLOCK:
            names_see_target(c, s, n->scoped.a, false);
            break;
        case S_MACRO:
            sym_store(c, s, n->macro->id);
            break;
        case S_CALL_BLOCK:
            names_see_expr(c, s, n->macro->call);
            break;
        case S_FILTER_BLOCK:
            names_see_expr(c, s, n->scoped.b);
            break;
        case S_WITH:
            see_list(c, s, n->scoped.b);
            break;
        default:
            break;
        }
    }
}
