/* globals.c - the functions that every template may call. */
#include <time.h>

#include "worker/text/jinja/call.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"

struct jj_global {
    const char *name;
    struct jj_value (*fn)(struct jj_render *r, const struct jj_call *c);
};

static struct jj_value g_range(struct jj_render *r, const struct jj_call *c)
{
    int64_t at[3] = {0, 0, 1};
    size_t n = c->pos->n;
    if (n < 1 || n > 3 || c->kw->n) {
        jj_fail(r, "range() takes 1 to 3 arguments");
        return jj_none();
    }
    for (size_t i = 0; i < n; i++) {
        struct jj_value v = c->pos->v[i];
        if (!jj_is_int(v)) {
            jj_fail(r, "range() takes integers, not '%s'", jj_type_name(v));
            return jj_none();
        }
        at[n == 1 ? 1 : i] = jj_as_int(v);
    }
    if (at[2] == 0) {
        jj_fail(r, "range() needs a step that is not zero");
        return jj_none();
    }
    __int128 span = at[2] > 0 ? (__int128)at[1] - at[0] : (__int128)at[0] - at[1];
    __int128 step = at[2] > 0 ? at[2] : -(__int128)at[2];
    __int128 count = span <= 0 ? 0 : (span + step - 1) / step;
    if (count > JJ_MAX_RANGE) {
        jj_fail(r, "range() of more than %d items", JJ_MAX_RANGE);
        return jj_none();
    }
    struct jj_range *range = jj_alloc(r, sizeof(*range));
    if (!range)
        return jj_none();
    *range = (struct jj_range){at[0], at[1], at[2], (int64_t)count};
    return (struct jj_value){.kind = JJ_RANGE, .range = range};
}

/* dict(mapping or pairs, **keywords) */
static struct jj_dict *build_dict(struct jj_render *r, const struct jj_call *c, const char *who)
{
    struct jj_dict *d = jj_dict_new(r);
    if (c->pos->n > 1)
        jj_fail(r, "%s() takes at most one positional argument", who);
    if (c->pos->n == 1 && c->pos->v[0].kind == JJ_DICT) {
        const struct jj_dict *from = c->pos->v[0].d;
        for (size_t i = 0; i < from->n && !jj_failed(r); i++)
            jj_dict_set(r, d, from->v[i].key, from->v[i].value);
    } else if (c->pos->n == 1 && !jj_failed(r)) {
        struct jj_iter it;
        struct jj_value v;
        if (!jj_iter_init(r, &it, c->pos->v[0]))
            return d;
        while (jj_iter_next(r, &it, &v)) {
            struct jj_list *pair = jj_list_of(r, v);
            if (!jj_failed(r) && pair->n != 2)
                jj_fail(r, "%s() takes pairs, got %zu values", who, pair->n);
            if (!jj_failed(r))
                jj_dict_set(r, d, pair->v[0], pair->v[1]);
        }
    }
    for (size_t i = 0; i < c->kw->n && !jj_failed(r); i++)
        jj_dict_set(r, d, c->kw->v[i].key, c->kw->v[i].value);
    return d;
}

static struct jj_value g_dict(struct jj_render *r, const struct jj_call *c)
{
    return jj_of_dict(build_dict(r, c, "dict"));
}

static struct jj_value g_namespace(struct jj_render *r, const struct jj_call *c)
{
    struct jj_value v = jj_of_dict(build_dict(r, c, "namespace"));
    v.kind = JJ_NAMESPACE;
    return v;
}

static struct jj_value cycler_value(struct jj_render *r, enum jj_kind kind, struct jj_cycler init)
{
    struct jj_cycler *y = jj_alloc(r, sizeof(*y));
    if (!y)
        return jj_none();
    *y = init;
    return (struct jj_value){.kind = (uint8_t)kind, .cycler = y};
}

static struct jj_value g_cycler(struct jj_render *r, const struct jj_call *c)
{
    if (c->pos->n == 0 || c->kw->n)
        jj_fail(r, "cycler() takes one or more positional arguments");
    return cycler_value(r, JJ_CYCLER, (struct jj_cycler){.items = c->pos});
}

static struct jj_value g_joiner(struct jj_render *r, const struct jj_call *c)
{
    struct jj_value a[JJ_MAX_PARAMS];
    if (!jj_bind(r, c, "joiner()", "sep", 0, a))
        return jj_none();
    return cycler_value(
        r, JJ_JOINER, (struct jj_cycler){.sep = a[0].kind == JJ_MISSING ? jj_cstr(r, ", ") : a[0]});
}

static struct jj_value g_lipsum(struct jj_render *r, const struct jj_call *c)
{
    (void)c;
    jj_unsupported(r, "lipsum(): it gives a random text");
    return jj_none();
}

static struct jj_value g_raise_exception(struct jj_render *r, const struct jj_call *c)
{
    struct jj_value a[JJ_MAX_PARAMS];
    if (!jj_bind(r, c, "raise_exception()", "message", 1, a))
        return jj_none();
    struct jj_value text = jj_to_str(r, a[0]);
    if (!jj_failed(r))
        jj_raise(r, jj_s(text));
    return jj_none();
}

/* One conversion of a strftime() format, `%...X` at f.p; the result goes to b. */
static void put_time(struct jj_render *r, struct buf *b, struct str f, const struct tm *tm)
{
    char spec[16], text[256];
    char last = f.p[f.n - 1];
    if (last == 'f') {
        buf_puts(b, "000000");
    } else if (last == 's') {
        buf_put_i64(b, r->env->now_unix);
    } else if (last != 'z' && last != 'Z') { /* the time is naive in Python's sense: no zone */
        if (f.n >= sizeof(spec)) {
            jj_fail(r, "strftime_now() cannot read its format at '" STR_FMT "'", STR_ARG(f));
            return;
        }
        memcpy(spec, f.p, f.n);
        spec[f.n] = '\0';
        size_t n = strftime(text, sizeof(text), spec, tm);
        if (n == 0 && last != 'p')
            jj_fail(r, "strftime_now() cannot read its format at '" STR_FMT "'", STR_ARG(f));
        buf_put(b, text, n);
    }
}

static struct jj_value g_strftime_now(struct jj_render *r, const struct jj_call *c)
{
    struct jj_value a[JJ_MAX_PARAMS];
    if (!jj_bind(r, c, "strftime_now()", "format", 1, a))
        return jj_none();
    if (a[0].kind != JJ_STR) {
        jj_fail(r, "strftime_now() takes a string, not '%s'", jj_type_name(a[0]));
        return jj_none();
    }
    time_t t = (time_t)(r->env->now_unix + r->env->tz_offset_s);
    struct tm tm;
    if (!gmtime_r(&t, &tm)) {
        jj_fail(r, "the time is out of range");
        return jj_none();
    }
    struct buf b;
    jj_buf(&b);
    struct str f = jj_s(a[0]);
    for (size_t i = 0; i < f.n && jj_charge(r, 1);) {
        size_t end = i + 1;
        if (f.p[i] == '%') {
            while (end < f.n && strchr("-_0^#+123456789EO", f.p[end]) && f.p[end])
                end++;
            if (end < f.n)
                end++;
        }
        struct str piece = {f.p + i, end - i};
        if (piece.n == 1)
            buf_putc(&b, *piece.p);
        else
            put_time(r, &b, piece, &tm);
        i = end;
    }
    return jj_take_buf(r, &b);
}

static const struct jj_global globals[] = {
    {"range", g_range},
    {"dict", g_dict},
    {"namespace", g_namespace},
    {"cycler", g_cycler},
    {"joiner", g_joiner},
    {"lipsum", g_lipsum},
    {"raise_exception", g_raise_exception},
    {"strftime_now", g_strftime_now},
};

struct jj_value jj_global_find(struct jj_render *r, struct str name)
{
    for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++) {
        if (!str_is(name, globals[i].name))
            continue;
        struct jj_func *f = jj_alloc(r, sizeof(*f));
        if (!f)
            return jj_none();
        *f = (struct jj_func){.global = &globals[i]};
        return (struct jj_value){.kind = JJ_FUNC, .func = f};
    }
    return jj_missing();
}

struct jj_value jj_global_call(struct jj_render *r, const struct jj_global *g,
                               const struct jj_call *c)
{
    return g->fn(r, c);
}

const char *jj_global_name(const struct jj_global *g)
{
    return g->name;
}
