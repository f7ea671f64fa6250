/* exec.c - statements. */
#include "worker/text/jinja/eval.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/repr.h"

/* Runs `body` inside `scope`. */
static void exec_in(struct jj_render *r, const struct jj_node *body, struct jj_scope *scope)
{
    struct jj_scope *outer = r->scope;
    r->scope = scope;
    jj_exec(r, body);
    r->scope = outer;
}

struct jj_value jj_capture(struct jj_render *r, const struct jj_node *body, struct jj_scope *scope)
{
    struct buf text, *outer = r->out;
    jj_buf(&text);
    r->out = &text;
    exec_in(r, body, scope);
    r->out = outer;
    return jj_take_buf(r, &text);
}

static void emit(struct jj_render *r, const char *p, size_t n)
{
    if (!jj_charge_bytes(r, n))
        return;
    buf_put(r->out, p, n);
    if (r->out->failed)
        jj_limit(r, "makes a text longer than is allowed");
}

static void emit_value(struct jj_render *r, struct jj_value v)
{
    if (jj_failed(r))
        return;
    v = jj_soft_str(r, v);
    if (!jj_failed(r))
        emit(r, v.s->p, v.s->n);
}

/* What a filter or call block gives goes into the text as it is: Jinja2 does not convert it. */
static void emit_text(struct jj_render *r, struct jj_value v)
{
    if (!jj_failed(r) && v.kind != JJ_STR)
        jj_fail(r, "a filter or call block must give a string, not '%s'", jj_type_name(v));
    emit_value(r, v);
}

/* --- assignment ---------------------------------------------------------------------- */

static void assign_attr(struct jj_render *r, const struct jj_node *target, struct jj_value v)
{
    struct jj_node name = {.kind = N_NAME, .line = target->line};
    name.name.id = target->name.id;
    name.name.text = target->name.text;
    struct jj_value ns = jj_eval(r, &name);
    if (jj_failed(r))
        return;
    if (ns.kind != JJ_NAMESPACE)
        jj_fail(r, "cannot assign an attribute of '" STR_FMT "': it is no namespace",
                (int)target->name.text->n, target->name.text->p);
    else
        jj_dict_set(r, ns.d, target->name.attr, v);
}

void jj_assign(struct jj_render *r, const struct jj_node *target, struct jj_value v)
{
    if (target->kind == N_NAME) {
        jj_scope_set(r, r->scope, target->name.id, v);
        return;
    }
    if (target->kind == N_NSREF) {
        assign_attr(r, target, v);
        return;
    }
    struct jj_list *parts = jj_list_of(r, v);
    if (jj_failed(r))
        return;
    if (parts->n != target->list.n) {
        jj_fail(r, "cannot unpack %zu values into %zu names", parts->n, target->list.n);
        return;
    }
    size_t i = 0;
    for (const struct jj_node *t = target->list.first; t && !jj_failed(r); t = t->next)
        jj_assign(r, t, parts->v[i++]);
}

/* --- the statements ------------------------------------------------------------------ */

static void exec_if(struct jj_render *r, const struct jj_node *n)
{
    const struct jj_node *branch = n;
    while (branch && !jj_failed(r)) {
        struct jj_value v = jj_eval(r, branch->cond.test);
        if (jj_failed(r))
            return;
        if (jj_truth(r, v)) {
            jj_exec(r, branch->cond.body);
            return;
        }
        branch = branch == n ? n->cond.elifs : branch->next;
    }
    jj_exec(r, n->cond.orelse);
}

static void exec_set_block(struct jj_render *r, const struct jj_node *n)
{
    struct jj_scope *inner = jj_scope_new(r, r->scope, n->scoped.frame), *outer = r->scope;
    struct jj_value v = jj_capture(r, n->scoped.body, inner);
    if (jj_failed(r) || r->flow != JJ_NEXT)
        return;
    if (n->scoped.b) {
        r->scope = inner;
        v = jj_eval_piped(r, n->scoped.b, v);
        r->scope = outer;
    }
    if (!jj_failed(r))
        jj_assign(r, n->scoped.a, v);
}

static void exec_filter_block(struct jj_render *r, const struct jj_node *n)
{
    struct jj_scope *inner = jj_scope_new(r, r->scope, n->scoped.frame), *outer = r->scope;
    struct jj_value v = jj_capture(r, n->scoped.body, inner);
    if (jj_failed(r) || r->flow != JJ_NEXT)
        return;
    r->scope = inner;
    v = jj_eval_piped(r, n->scoped.b, v);
    r->scope = outer;
    emit_text(r, v);
}

static void exec_with(struct jj_render *r, const struct jj_node *n)
{
    struct jj_scope *inner = jj_scope_new(r, r->scope, n->scoped.frame), *outer = r->scope;
    const struct jj_node *value = n->scoped.b;
    for (const struct jj_node *t = n->scoped.a; t && !jj_failed(r);
         t = t->next, value = value->next) {
        struct jj_value v = jj_eval(r, value);
        r->scope = inner;
        if (!jj_failed(r))
            jj_assign(r, t, v);
        r->scope = outer;
    }
    exec_in(r, n->scoped.body, inner);
}

static void exec_call_block(struct jj_render *r, const struct jj_node *n)
{
    const struct jj_node *call = n->macro->call;
    struct jj_call c;
    struct jj_value caller = jj_func_macro(r, n->macro, r->scope);
    struct jj_value callee = jj_eval(r, call->call.of);
    if (jj_failed(r) || !jj_eval_args(r, &call->call.args, &c))
        return;
    r->line = call->line;
    struct jj_text word = {.p = "caller", .n = 6, .n_cp = 6};
    struct jj_value name = {.kind = JJ_STR, .s = &word};
    if (jj_dict_get(r, c.kw, name))
        jj_fail(r, "the keyword 'caller' is given twice");
    jj_dict_set(r, c.kw, jj_cstr(r, "caller"), caller);
    if (!jj_failed(r))
        emit_text(r, jj_call_value(r, callee, &c));
}

static void exec_node(struct jj_render *r, const struct jj_node *n)
{
    switch ((enum jj_node_kind)n->kind) {
    case S_DATA:
        emit(r, n->value.s->p, n->value.s->n);
        break;
    case S_PRINT:
        for (const struct jj_node *e = n->list.first; e && !jj_failed(r); e = e->next)
            emit_value(r, jj_eval(r, e));
        break;
    case S_IF:
        exec_if(r, n);
        break;
    case S_FOR: {
        struct jj_value v = jj_eval(r, n->loop.iter);
        if (!jj_failed(r))
            jj_exec_for(r, n, v, 0);
        break;
    }
    case S_SET: {
        struct jj_value v = jj_eval(r, n->b);
        if (!jj_failed(r))
            jj_assign(r, n->a, v);
        break;
    }
    case S_SET_BLOCK:
        exec_set_block(r, n);
        break;
    case S_MACRO:
        jj_scope_set(r, r->scope, n->macro->id, jj_func_macro(r, n->macro, r->scope));
        break;
    case S_CALL_BLOCK:
        exec_call_block(r, n);
        break;
    case S_GENERATION:
        exec_in(r, n->scoped.body, jj_scope_new(r, r->scope, n->scoped.frame));
        break;
    case S_FILTER_BLOCK:
        exec_filter_block(r, n);
        break;
    case S_WITH:
        exec_with(r, n);
        break;
    case S_BREAK:
        r->flow = JJ_BREAK;
        break;
    case S_CONTINUE:
        r->flow = JJ_CONTINUE;
        break;
    default: /* the parser puts no expression here */
        jj_fail(r, "internal: node %d among statements", n->kind);
    }
}

void jj_exec(struct jj_render *r, const struct jj_node *body)
{
    if (!body || !jj_enter(r, JJ_MAX_DEPTH))
        return;
    for (const struct jj_node *n = body; n && r->flow == JJ_NEXT && jj_charge(r, 1); n = n->next) {
        r->line = n->line;
        exec_node(r, n);
    }
    jj_leave(r);
}
