/* render.c - errors, accounting and memory of one render; the way in from JSON. */
#include "worker/text/jinja/render.h"

#include <stdarg.h>
#include <stdio.h>

#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/repr.h"

static void record(struct jj_render *r, enum err code, bool final, const char *fmt, va_list ap)
{
    if (jj_failed(r))
        return;
    r->error.code = code;
    r->error.final = final;
    char text[sizeof(r->error.msg.text)];
    vsnprintf(text, sizeof(text), fmt, ap);
    if (code == ERR_TEMPLATE)
        (void)err_set(&r->error.msg, code, "%s", text);
    else
        (void)err_set(&r->error.msg, code, "line %u: %s", r->line, text);
}

void jj_fail(struct jj_render *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(r, ERR_INVALID, false, fmt, ap);
    va_end(ap);
}

void jj_fail_undefined(struct jj_render *r, struct jj_value v)
{
    const struct jj_undef *u = v.undef;
    if (!u || u->hint) {
        jj_fail(r, "%s", u ? u->hint : "a value is undefined");
        return;
    }
    struct jj_value text = u->name.kind == JJ_STR ? u->name : jj_repr(r, u->name);
    struct str name = jj_s(text);
    const char *owner = jj_type_name((struct jj_value){.kind = u->owner});
    if (u->security)
        jj_fail(r, "access to attribute '" STR_FMT "' of '%s' object is unsafe", STR_ARG(name),
                owner);
    else if (u->attribute)
        jj_fail(r, "'%s object' has no attribute or element '" STR_FMT "'", owner, STR_ARG(name));
    else
        jj_fail(r, "'" STR_FMT "' is undefined", STR_ARG(name));
}

void jj_unsupported(struct jj_render *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(r, ERR_UNSUPPORTED, true, fmt, ap);
    va_end(ap);
}

PRINTF_LIKE(4, 5)
static void record_args(struct jj_render *r, enum err code, bool final, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(r, code, final, fmt, ap);
    va_end(ap);
}

void jj_limit(struct jj_render *r, const char *what)
{
    record_args(r, ERR_INVALID, true, "the template %s", what);
}

void jj_raise(struct jj_render *r, struct str message)
{
    record_args(r, ERR_TEMPLATE, true, STR_FMT, STR_ARG(message));
}

void jj_nomem(struct jj_render *r, size_t wanted)
{
    if (r->arena.limit && wanted > r->arena.limit - r->arena.used)
        jj_limit(r, "needs more memory for its values than is allowed");
    else
        record_args(r, ERR_NOMEM, true, "out of memory");
}

bool jj_charge(struct jj_render *r, size_t steps)
{
    if (jj_failed(r))
        return false;
    if (steps > r->max_steps || (r->steps += steps) > r->max_steps) {
        jj_limit(r, "runs for too many steps");
        return false;
    }
    return true;
}

bool jj_enter(struct jj_render *r, int limit)
{
    if (jj_failed(r))
        return false;
    if (r->depth >= limit) {
        jj_limit(r, "recurses too deeply");
        return false;
    }
    r->depth++;
    return true;
}

void *jj_alloc(struct jj_render *r, size_t n)
{
    void *p = arena_alloc(&r->arena, n ? n : 1);
    if (!p)
        jj_nomem(r, n);
    return p;
}

void jj_buf(struct buf *b)
{
    buf_init(b);
    b->limit = JJ_MAX_OUTPUT;
}

struct jj_value jj_take_buf(struct jj_render *r, struct buf *b)
{
    if (b->failed)
        jj_limit(r, "makes a text longer than is allowed");
    struct jj_value v = jj_str(r, b->p, b->failed ? 0 : b->n);
    buf_fini(b);
    return v;
}

struct jj_value jj_from_json(struct jj_render *r, const struct json *j)
{
    if (!jj_charge(r, 1))
        return jj_none();
    switch (j->kind) {
    case JSON_NULL:
        return jj_none();
    case JSON_BOOL:
        return jj_bool(j->b);
    case JSON_INT:
        return jj_int(j->i);
    case JSON_FLOAT: {
        bool integer = true;
        for (size_t i = 0; i < j->raw.n; i++)
            integer &= j->raw.p[i] != '.' && j->raw.p[i] != 'e' && j->raw.p[i] != 'E';
        if (!integer)
            return jj_float(j->f);
        struct jj_value big = jj_str_borrow(r, j->raw.p, j->raw.n);
        big.kind = JJ_BIG;
        return big;
    }
    case JSON_STRING:
        return jj_str_borrow(r, j->s.p, j->s.n);
    case JSON_ARRAY: {
        struct jj_list *l = jj_list_new(r, j->list.count);
        if (!jj_enter(r, JJ_MAX_VALUE_DEPTH))
            return jj_of_list(l);
        for (const struct json *c = j->list.first; c && !jj_failed(r); c = c->next)
            jj_list_push(r, l, jj_from_json(r, c));
        jj_leave(r);
        return jj_of_list(l);
    }
    case JSON_OBJECT: {
        struct jj_dict *d = jj_dict_new(r);
        if (!jj_enter(r, JJ_MAX_VALUE_DEPTH))
            return jj_of_dict(d);
        for (const struct json *c = j->list.first; c && !jj_failed(r); c = c->next)
            jj_dict_set(r, d, jj_str_borrow(r, c->key.p, c->key.n), jj_from_json(r, c));
        jj_leave(r);
        return jj_of_dict(d);
    }
    }
    return jj_none();
}
