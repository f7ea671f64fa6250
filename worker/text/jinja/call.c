/* call.c - arguments, functions as values, macros. */
#include "worker/text/jinja/call.h"

#include "worker/text/jinja/eval.h"
#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/methods.h"
#include "worker/text/jinja/repr.h"

/* --- binding arguments to parameters ------------------------------------------------- */

/* The n-th word of "a b c", a leading '/' included; empty behind the last. */
static struct str word_at(const char *words, size_t n)
{
    const char *p = words;
    for (;; n--) {
        size_t len = strcspn(p, " ");
        if (n == 0 || len == 0)
            return (struct str){p, n == 0 ? len : 0};
        p += len + (p[len] == ' ');
    }
}

bool jj_bind(struct jj_render *r, const struct jj_call *c, const char *who, const char *params,
             int min, struct jj_value out[JJ_MAX_PARAMS])
{
    size_t n = 0;
    for (; n < JJ_MAX_PARAMS && word_at(params, n).n; n++)
        out[n] = n < c->pos->n ? c->pos->v[n] : jj_missing();
    for (size_t i = n; i < JJ_MAX_PARAMS; i++)
        out[i] = jj_missing();
    if (c->pos->n > n) {
        jj_fail(r, "%s takes at most %zu arguments, got %zu", who, n, c->pos->n);
        return false;
    }
    for (size_t k = 0; k < c->kw->n; k++) {
        struct str key = jj_s(c->kw->v[k].key);
        size_t at = 0;
        while (at < n && !str_eq(word_at(params, at), key))
            at++;
        if (at == n) {
            jj_fail(r, "%s takes no argument '" STR_FMT "'", who, STR_ARG(key));
            return false;
        }
        if (out[at].kind != JJ_MISSING) {
            jj_fail(r, "%s got the argument '" STR_FMT "' twice", who, STR_ARG(key));
            return false;
        }
        out[at] = c->kw->v[k].value;
    }
    for (int i = 0; i < min; i++)
        if (out[i].kind == JJ_MISSING) {
            jj_fail(r, "%s needs at least %d arguments", who, min);
            return false;
        }
    return true;
}

/* --- functions as values ------------------------------------------------------------- */

static struct jj_value func_value(struct jj_render *r, struct jj_func f)
{
    struct jj_func *copy = jj_alloc(r, sizeof(*copy));
    if (!copy)
        return jj_none();
    *copy = f;
    return (struct jj_value){.kind = JJ_FUNC, .func = copy};
}

struct jj_value jj_func_method(struct jj_render *r, const struct jj_method *m, struct jj_value self)
{
    return func_value(r, (struct jj_func){.method = m, .self = self});
}

struct jj_value jj_func_macro(struct jj_render *r, const struct jj_macro *m, struct jj_scope *scope)
{
    return func_value(r, (struct jj_func){.macro = m, .scope = scope});
}

void jj_func_put(struct jj_render *r, struct buf *b, const struct jj_func *f)
{
    if (f->macro && !f->macro->name) {
        buf_puts(b, "<Macro anonymous>");
    } else if (f->macro) {
        buf_puts(b, "<Macro ");
        jj_put_repr(r, b, (struct jj_value){.kind = JJ_STR, .s = f->macro->name});
        buf_putc(b, '>');
    } else { /* Python prints an address or a class */
        jj_unsupported(r, "printing the function '%s'",
                       f->method ? f->method->name : jj_global_name(f->global));
    }
}

struct jj_value jj_macro_attr(struct jj_render *r, const struct jj_func *f, struct str name)
{
    const struct jj_macro *m = f->macro;
    if (str_is(name, "name"))
        return m->name ? (struct jj_value){.kind = JJ_STR, .s = m->name} : jj_none();
    if (str_is(name, "catch_kwargs"))
        return jj_bool(m->takes_kwargs);
    if (str_is(name, "catch_varargs"))
        return jj_bool(m->takes_varargs);
    if (str_is(name, "caller"))
        return jj_bool(m->takes_caller);
    if (!str_is(name, "arguments"))
        return jj_missing();
    struct jj_list *l = jj_list_new(r, m->n_params);
    for (size_t i = 0; i < m->n_params; i++)
        jj_list_push(r, l, (struct jj_value){.kind = JJ_STR, .s = m->params[i].name});
    return jj_of_tuple(l);
}

static struct jj_value call_joiner(struct jj_render *r, struct jj_cycler *j)
{
    bool used = j->used;
    j->used = true;
    return used ? j->sep : jj_cstr(r, "");
}

struct jj_value jj_call_value(struct jj_render *r, struct jj_value callee, const struct jj_call *c)
{
    if (jj_failed(r))
        return jj_none();
    switch ((enum jj_kind)callee.kind) {
    case JJ_FUNC:
        if (callee.func->method)
            return jj_method_call(r, callee.func->method, callee.func->self, c);
        if (callee.func->global)
            return jj_global_call(r, callee.func->global, c);
        return jj_call_macro(r, callee.func, c);
    case JJ_LOOP:
        if (c->pos->n == 1 && c->kw->n == 0)
            return jj_loop_recurse(r, callee.loop, c->pos->v[0]);
        jj_fail(r, "loop() takes one argument");
        return jj_none();
    case JJ_JOINER:
        if (c->pos->n == 0 && c->kw->n == 0)
            return call_joiner(r, callee.cycler);
        jj_fail(r, "a joiner takes no argument");
        return jj_none();
    case JJ_UNDEFINED:
        jj_fail_undefined(r, callee);
        return jj_none();
    default:
        jj_fail(r, "'%s' object is not callable", jj_type_name(callee));
        return jj_none();
    }
}

/* --- macros -------------------------------------------------------------------------- */

/* A keyword that is not taken yet. */
static struct jj_value take_keyword(struct jj_render *r, const struct jj_call *c, bool *taken,
                                    struct str name)
{
    for (size_t i = 0; i < c->kw->n && jj_charge(r, 1); i++)
        if (!taken[i] && str_eq(jj_s(c->kw->v[i].key), name)) {
            taken[i] = true;
            return c->kw->v[i].value;
        }
    return jj_missing();
}

static void macro_rest(struct jj_render *r, const struct jj_macro *m, const struct jj_call *c,
                       const bool *taken, struct jj_scope *s)
{
    const char *name = m->name ? m->name->p : "caller";
    int name_n = m->name ? (int)m->name->n : 6;
    struct jj_dict *kwargs = jj_dict_new(r);
    for (size_t i = 0; i < c->kw->n && !jj_failed(r); i++) {
        if (taken[i])
            continue;
        if (!m->takes_kwargs)
            jj_fail(r, "macro '%.*s' takes no keyword argument '" STR_FMT "'", name_n, name,
                    STR_ARG(jj_s(c->kw->v[i].key)));
        jj_dict_set(r, kwargs, c->kw->v[i].key, c->kw->v[i].value);
    }
    if (m->takes_kwargs)
        jj_scope_set(r, s, r->program->id_kwargs, jj_of_dict(kwargs));
    struct jj_list *varargs = jj_list_new(r, 0);
    for (size_t i = m->n_params; i < c->pos->n && !jj_failed(r); i++)
        jj_list_push(r, varargs, c->pos->v[i]);
    if (m->takes_varargs)
        jj_scope_set(r, s, r->program->id_varargs, jj_of_tuple(varargs));
    else if (varargs->n)
        jj_fail(r, "macro '%.*s' takes not more than %zu arguments", name_n, name, m->n_params);
}

static void macro_caller(struct jj_render *r, const struct jj_call *c, bool *taken,
                         struct jj_scope *s)
{
    struct jj_value caller = take_keyword(r, c, taken, STR("caller"));
    if (caller.kind == JJ_MISSING || caller.kind == JJ_NONE)
        caller = jj_undefined(r, "No caller defined");
    jj_scope_set(r, s, r->program->id_caller, caller);
}

struct jj_value jj_call_macro(struct jj_render *r, const struct jj_func *f, const struct jj_call *c)
{
    const struct jj_macro *m = f->macro;
    struct jj_scope *s = jj_scope_new(r, f->scope, &m->frame), *outer = r->scope;
    bool *taken = jj_alloc(r, c->kw->n * sizeof(*taken));
    if (!taken)
        return jj_none();
    memset(taken, 0, c->kw->n * sizeof(*taken));
    bool found_caller = c->pos->n >= m->n_params && m->explicit_caller;
    for (size_t i = 0; i < m->n_params; i++) {
        struct str name = {m->params[i].name->p, m->params[i].name->n};
        bool keyword = i >= c->pos->n;
        found_caller |= keyword && m->params[i].id == r->program->id_caller;
        jj_scope_set(r, s, m->params[i].id,
                     keyword ? take_keyword(r, c, taken, name) : c->pos->v[i]);
    }
    if (m->takes_caller && !found_caller)
        macro_caller(r, c, taken, s);
    macro_rest(r, m, c, taken, s);
    r->scope = s;
    for (size_t i = 0; i < m->n_params && !jj_failed(r); i++) {
        if (s->v[i + m->frame.n_missing].value.kind != JJ_MISSING)
            continue; /* parameters are bound in order, behind the frame's names */
        struct jj_value v = m->params[i].def
                                ? jj_eval(r, m->params[i].def)
                                : jj_undefined(r, "a parameter of the macro was not given");
        jj_scope_set(r, s, m->params[i].id, v);
    }
    r->scope = outer;
    return jj_failed(r) ? jj_none() : jj_capture(r, m->body, s);
}
