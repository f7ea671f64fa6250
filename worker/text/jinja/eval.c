/* eval.c - expressions. */
#include "worker/text/jinja/eval.h"

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/repr.h"
#include "worker/text/jinja/tests.h"

/* --- variables ----------------------------------------------------------------------- */

struct jj_scope *jj_scope_new(struct jj_render *r, struct jj_scope *parent,
                              const struct jj_frame *f)
{
    struct jj_scope *s = jj_alloc(r, sizeof(*s));
    if (!s)
        return r->scope; /* the render has failed; nothing will be assigned */
    *s = (struct jj_scope){.parent = parent};
    for (size_t i = 0; f && i < f->n_missing; i++)
        jj_scope_set(r, s, f->missing[i], jj_missing());
    return s;
}

void jj_scope_set(struct jj_render *r, struct jj_scope *s, uint32_t id, struct jj_value v)
{
    if (!jj_charge(r, 1 + s->n / 8))
        return;
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].id == id) {
            s->v[i].value = v;
            return;
        }
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        struct jj_binding *grown = jj_alloc(r, cap * sizeof(*grown));
        if (!grown)
            return;
        if (s->n)
            memcpy(grown, s->v, s->n * sizeof(*grown));
        s->v = grown;
        s->cap = cap;
    }
    s->v[s->n++] = (struct jj_binding){.id = id, .value = v};
}

static struct jj_value lookup(struct jj_render *r, uint32_t id, struct jj_text *name)
{
    for (const struct jj_scope *s = r->scope; s; s = s->parent) {
        jj_charge(r, 1 + s->n / 8);
        for (size_t i = 0; i < s->n; i++)
            if (s->v[i].id == id)
                return s->v[i].value.kind == JJ_MISSING ? jj_undefined_name(r, name)
                                                        : s->v[i].value;
    }
    const struct jj_value *v =
        jj_dict_get(r, r->context, (struct jj_value){.kind = JJ_STR, .s = name});
    if (v)
        return *v;
    struct jj_value global = jj_global_find(r, (struct str){name->p, name->n});
    return global.kind == JJ_MISSING ? jj_undefined_name(r, name) : global;
}

/* --- compound values ----------------------------------------------------------------- */

static struct jj_list *eval_list(struct jj_render *r, const struct jj_node *first, size_t n)
{
    struct jj_list *l = jj_list_new(r, n);
    for (const struct jj_node *e = first; e && !jj_failed(r); e = e->next)
        jj_list_push(r, l, jj_eval(r, e));
    return l;
}

static struct jj_value eval_dict(struct jj_render *r, const struct jj_node *n)
{
    struct jj_dict *d = jj_dict_new(r);
    for (const struct jj_node *k = n->list.first; k && !jj_failed(r); k = k->next->next) {
        struct jj_value key = jj_eval(r, k);
        struct jj_value value = jj_eval(r, k->next);
        if (!jj_failed(r))
            jj_dict_set(r, d, key, value);
    }
    return jj_of_dict(d);
}

static struct jj_value eval_concat(struct jj_render *r, const struct jj_node *n)
{
    struct jj_value text = jj_cstr(r, "");
    for (const struct jj_node *e = n->list.first; e && !jj_failed(r); e = e->next) {
        struct jj_value v = jj_eval(r, e);
        if (!jj_failed(r))
            text = jj_concat(r, text, jj_to_str(r, v));
    }
    return jj_mark(text, false);
}

/* a < b < c: each operand is evaluated once, and the chain stops at the first that is false. */
static struct jj_value eval_compare(struct jj_render *r, const struct jj_node *n)
{
    struct jj_value left = jj_eval(r, n->list.first);
    bool result = true;
    for (const struct jj_node *o = n->list.first->next; o && result && !jj_failed(r); o = o->next) {
        struct jj_value right = jj_eval(r, o->a);
        if (jj_failed(r))
            break;
        result = jj_compare_op(r, (enum jj_op)o->op, left, right);
        left = right;
    }
    return jj_bool(result);
}

static struct jj_value eval_slice(struct jj_render *r, const struct jj_node *n)
{
    const struct jj_node *part[3] = {n->b, n->c, n->d};
    struct jj_value v = jj_eval(r, n->a), at[3];
    for (int i = 0; i < 3; i++)
        at[i] = part[i] ? jj_eval(r, part[i]) : jj_none();
    return jj_failed(r) ? jj_none() : jj_slice(r, v, at[0], at[1], at[2]);
}

/* --- calls --------------------------------------------------------------------------- */

static void eval_star(struct jj_render *r, const struct jj_args *a, struct jj_call *out)
{
    struct jj_iter it;
    struct jj_value v;
    if (a->star) {
        struct jj_value more = jj_eval(r, a->star);
        if (jj_failed(r) || !jj_iter_init(r, &it, more))
            return;
        while (jj_iter_next(r, &it, &v))
            jj_list_push(r, out->pos, v);
    }
    if (!a->star2)
        return;
    struct jj_value more = jj_eval(r, a->star2);
    if (jj_failed(r))
        return;
    if (more.kind != JJ_DICT) {
        jj_fail(r, "the argument behind ** must be a mapping, not '%s'", jj_type_name(more));
        return;
    }
    for (size_t i = 0; i < more.d->n && jj_charge(r, 1); i++) {
        struct jj_value key = more.d->v[i].key;
        if (key.kind != JJ_STR)
            jj_fail(r, "keywords must be strings");
        else if (jj_dict_get(r, out->kw, key))
            jj_fail(r, "the keyword '" STR_FMT "' is given twice", STR_ARG(jj_s(key)));
        jj_dict_set(r, out->kw, key, more.d->v[i].value);
    }
}

bool jj_eval_args(struct jj_render *r, const struct jj_args *a, struct jj_call *out)
{
    out->pos = eval_list(r, a->pos, 0);
    out->kw = jj_dict_new(r);
    for (const struct jj_node *k = a->kw; k && !jj_failed(r); k = k->next) {
        struct jj_value v = jj_eval(r, k->get.of);
        if (jj_failed(r))
            break;
        if (jj_dict_get(r, out->kw, k->get.attr))
            jj_fail(r, "the keyword '" STR_FMT "' is given twice", STR_ARG(jj_s(k->get.attr)));
        jj_dict_set(r, out->kw, k->get.attr, v);
    }
    if (!jj_failed(r))
        eval_star(r, a, out);
    return !jj_failed(r);
}

static struct jj_value eval_call(struct jj_render *r, const struct jj_node *n)
{
    struct jj_call c;
    struct jj_value callee = jj_eval(r, n->call.of);
    if (jj_failed(r) || !jj_eval_args(r, &n->call.args, &c))
        return jj_none();
    r->line = n->line;
    return jj_call_value(r, callee, &c);
}

static struct jj_value eval_filter(struct jj_render *r, const struct jj_node *n)
{
    struct jj_call c;
    struct jj_value v = n->call.of ? jj_eval(r, n->call.of) : r->piped;
    if (jj_failed(r) || !jj_eval_args(r, &n->call.args, &c))
        return jj_none();
    r->line = n->line;
    if (!n->call.filter) {
        jj_fail(r, "there is no filter named '" STR_FMT "'", (int)n->call.name->n, n->call.name->p);
        return jj_none();
    }
    return jj_filter_apply(r, n->call.filter, v, &c);
}

struct jj_value jj_eval_piped(struct jj_render *r, const struct jj_node *filter,
                              struct jj_value text)
{
    struct jj_value outer = r->piped;
    r->piped = text;
    struct jj_value v = jj_eval(r, filter);
    r->piped = outer;
    return v;
}

static struct jj_value eval_test(struct jj_render *r, const struct jj_node *n)
{
    struct jj_call c;
    struct jj_value v = jj_eval(r, n->call.of);
    if (jj_failed(r) || !jj_eval_args(r, &n->call.args, &c))
        return jj_none();
    r->line = n->line;
    if (!n->call.test) {
        jj_fail(r, "there is no test named '" STR_FMT "'", (int)n->call.name->n, n->call.name->p);
        return jj_none();
    }
    return jj_bool(jj_test_apply(r, n->call.test, v, &c));
}

/* --- one node ------------------------------------------------------------------------ */

static struct jj_value eval_two(struct jj_render *r, const struct jj_node *n)
{
    struct jj_value a = jj_eval(r, n->a);
    struct jj_value b = jj_failed(r) ? jj_none() : jj_eval(r, n->b);
    if (jj_failed(r))
        return jj_none();
    r->line = n->line;
    return n->kind == N_GETITEM ? jj_getitem(r, a, b) : jj_binary(r, (enum jj_op)n->op, a, b);
}

static struct jj_value eval_node(struct jj_render *r, const struct jj_node *n)
{
    struct jj_value v;
    switch ((enum jj_node_kind)n->kind) {
    case N_CONST:
        return n->value;
    case N_NAME:
        return lookup(r, n->name.id, n->name.text);
    case N_TUPLE:
        return jj_of_tuple(eval_list(r, n->list.first, n->list.n));
    case N_LIST:
        return jj_of_list(eval_list(r, n->list.first, n->list.n));
    case N_DICT:
        return eval_dict(r, n);
    case N_NEG:
    case N_POS:
    case N_NOT:
        v = jj_eval(r, n->a);
        if (jj_failed(r))
            return v;
        return n->kind == N_NOT   ? jj_bool(!jj_truth(r, v))
               : n->kind == N_NEG ? jj_negate(r, v)
                                  : jj_positive(r, v);
    case N_AND:
    case N_OR:
        v = jj_eval(r, n->a);
        return jj_failed(r) || jj_truth(r, v) == (n->kind == N_OR) ? v : jj_eval(r, n->b);
    case N_BINARY:
    case N_GETITEM:
        return eval_two(r, n);
    case N_CONCAT:
        return eval_concat(r, n);
    case N_COMPARE:
        return eval_compare(r, n);
    case N_COND:
        v = jj_eval(r, n->b);
        if (jj_failed(r))
            return v;
        if (jj_truth(r, v))
            return jj_eval(r, n->a);
        return n->c
                   ? jj_eval(r, n->c)
                   : jj_undefined(r, "an inline if without else was false, and its value was used");
    case N_GETATTR:
        v = jj_eval(r, n->get.of);
        r->line = n->line;
        return jj_failed(r) ? v : jj_getattr(r, v, n->get.attr);
    case N_SLICE:
        return eval_slice(r, n);
    case N_CALL:
        return eval_call(r, n);
    case N_FILTER:
        return eval_filter(r, n);
    case N_TEST:
        return eval_test(r, n);
    default: /* the parser puts no other node into an expression */
        jj_fail(r, "internal: node %d in an expression", n->kind);
        return jj_none();
    }
}

struct jj_value jj_eval(struct jj_render *r, const struct jj_node *n)
{
    if (!jj_charge(r, 1) || !jj_enter(r, JJ_MAX_DEPTH))
        return jj_none();
    r->line = n->line;
    struct jj_value v = eval_node(r, n);
    jj_leave(r);
    return v;
}
