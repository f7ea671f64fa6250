/* filters_pick.c - filters that apply a filter, a test or an attribute to each element, and
 * default. */
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/getter.h"
#include "worker/text/jinja/methods.h"
#include "worker/text/jinja/number.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/strfn.h"
#include "worker/text/jinja/tests.h"

/* --- attribute paths ----------------------------------------------------------------- */

struct jj_list *jj_getter(struct jj_render *r, struct jj_value attribute)
{
    struct jj_list *path = jj_list_new(r, 1);
    if (attribute.kind == JJ_NONE || attribute.kind == JJ_MISSING)
        return path;
    if (attribute.kind != JJ_STR) {
        jj_list_push(r, path, attribute);
        return path;
    }
    struct jj_value parts = str_split(r, jj_mark(attribute, false), jj_cstr(r, "."), -1, false);
    for (size_t i = 0; i < parts.l->n && !jj_failed(r); i++) {
        struct jj_value part = parts.l->v[i];
        int64_t index;
        if (str_is_class(r, part, STR_DIGIT) && jj_parse_int(jj_s(part), 10, &index) == JJ_PARSED)
            part = jj_int(index);
        jj_list_push(r, path, part);
    }
    return path;
}

struct jj_list *jj_getter_list(struct jj_render *r, struct jj_value attributes)
{
    struct jj_list *all = jj_list_new(r, 1);
    if (attributes.kind != JJ_STR) {
        jj_list_push(r, all, jj_of_list(jj_getter(r, attributes)));
        return all;
    }
    struct jj_value parts = str_split(r, jj_mark(attributes, false), jj_cstr(r, ","), -1, false);
    for (size_t i = 0; i < parts.l->n && !jj_failed(r); i++)
        jj_list_push(r, all, jj_of_list(jj_getter(r, parts.l->v[i])));
    return all;
}

struct jj_value jj_getter_get(struct jj_render *r, const struct jj_list *path, struct jj_value item,
                              struct jj_value absent)
{
    for (size_t i = 0; i < path->n && !jj_failed(r); i++) {
        item = jj_getitem(r, item, path->v[i]);
        if (item.kind == JJ_UNDEFINED && absent.kind != JJ_NONE)
            item = absent;
    }
    return item;
}

/* --- map, select, reject ------------------------------------------------------------- */

static struct jj_call rest_of(struct jj_render *r, const struct jj_call *c, size_t from)
{
    struct jj_call rest = {.pos = jj_list_new(r, 0), .kw = c->kw};
    for (size_t i = from; i < c->pos->n; i++)
        jj_list_push(r, rest.pos, c->pos->v[i]);
    return rest;
}

static struct jj_value map_attribute(struct jj_render *r, struct jj_value in,
                                     const struct jj_call *c)
{
    struct jj_value absent = jj_none(), v, attribute = jj_none();
    struct jj_list *out = jj_list_new(r, 0);
    struct jj_iter it;
    for (size_t i = 0; i < c->kw->n; i++) {
        struct str key = jj_s(c->kw->v[i].key);
        if (str_is(key, "attribute"))
            attribute = c->kw->v[i].value;
        else if (str_is(key, "default"))
            absent = c->kw->v[i].value;
        else
            jj_fail(r, "map takes no argument '" STR_FMT "'", STR_ARG(key));
    }
    struct jj_list *path = jj_getter(r, attribute);
    if (!jj_failed(r) && jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v))
            jj_list_push(r, out, jj_getter_get(r, path, v, absent));
    return jj_gen_new(r, "generator", out);
}

JJ_FILTER_FN(jj_f_map)
{
    struct jj_list *out = jj_list_new(r, 0);
    struct jj_iter it;
    struct jj_value v;
    (void)a;
    if (!jj_truth(r, in))
        return jj_gen_new(r, "generator", out);
    if (c->pos->n == 0 && jj_dict_find(r, c->kw, STR("attribute")))
        return map_attribute(r, in, c);
    const struct jj_filter *f = NULL;
    if (c->pos->n == 0)
        jj_fail(r, "map needs the name of a filter");
    else if (c->pos->v[0].kind != JJ_STR)
        jj_fail(r, "map needs the name of a filter, not '%s'", jj_type_name(c->pos->v[0]));
    else if (!(f = jj_filter_find(jj_s(c->pos->v[0]))) && jj_filter_known(jj_s(c->pos->v[0])))
        jj_unsupported(r, "the filter '" STR_FMT "'", STR_ARG(jj_s(c->pos->v[0])));
    else if (!f)
        jj_fail(r, "there is no filter named '" STR_FMT "'", STR_ARG(jj_s(c->pos->v[0])));
    struct jj_call rest = rest_of(r, c, 1);
    if (!jj_failed(r) && jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v))
            jj_list_push(r, out, jj_filter_apply(r, f, v, &rest));
    return jj_gen_new(r, "generator", out);
}

/* Keeps the elements whose test (or truth) is `keep`, of the element itself or of one of its
 * attributes. */
static struct jj_value select_by(struct jj_render *r, struct jj_value in, const struct jj_call *c,
                                 bool keep, bool attr)
{
    struct jj_list *out = jj_list_new(r, 0), *path = NULL;
    const struct jj_test *t = NULL;
    size_t off = attr;
    struct jj_iter it;
    struct jj_value v;
    if (!jj_truth(r, in))
        return jj_gen_new(r, "generator", out);
    if (attr && c->pos->n == 0)
        jj_fail(r, "selectattr and rejectattr need the name of an attribute");
    else
        path = jj_getter(r, attr ? c->pos->v[0] : jj_none());
    if (!jj_failed(r) && c->pos->n > off) {
        struct jj_value name = c->pos->v[off];
        t = name.kind == JJ_STR ? jj_test_find(jj_s(name)) : NULL;
        if (!t && name.kind == JJ_STR)
            jj_fail(r, "there is no test named '" STR_FMT "'", STR_ARG(jj_s(name)));
        else if (!t)
            jj_fail(r, "select needs the name of a test, not '%s'", jj_type_name(name));
    }
    struct jj_call rest = rest_of(r, c, off + 1);
    if (!jj_failed(r) && jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v)) {
            struct jj_value part = jj_getter_get(r, path, v, jj_none());
            if (jj_failed(r))
                break;
            bool yes = t ? jj_test_apply(r, t, part, &rest) : jj_truth(r, part);
            if (yes == keep && !jj_failed(r))
                jj_list_push(r, out, v);
        }
    return jj_gen_new(r, "generator", out);
}

JJ_FILTER_FN(jj_f_select)
{
    (void)a;
    return select_by(r, in, c, true, false);
}

JJ_FILTER_FN(jj_f_reject)
{
    (void)a;
    return select_by(r, in, c, false, false);
}

JJ_FILTER_FN(jj_f_selectattr)
{
    (void)a;
    return select_by(r, in, c, true, true);
}

JJ_FILTER_FN(jj_f_rejectattr)
{
    (void)a;
    return select_by(r, in, c, false, true);
}

/* --- single values ------------------------------------------------------------------- */

JJ_FILTER_FN(jj_f_default)
{
    (void)c;
    bool boolean = a[1].kind != JJ_MISSING && jj_truth(r, a[1]);
    if (in.kind != JJ_UNDEFINED && !(boolean && !jj_truth(r, in)))
        return in;
    return a[0].kind == JJ_MISSING ? jj_cstr(r, "") : a[0];
}

/* Like v.name, but without falling back to v["name"]. */
JJ_FILTER_FN(jj_f_attr)
{
    struct jj_value out = jj_none();
    (void)c;
    if (a[0].kind != JJ_STR) {
        jj_fail(r, "attr takes a string, not '%s'", jj_type_name(a[0]));
        return in;
    }
    if (in.kind == JJ_UNDEFINED) {
        jj_fail_undefined(r, in);
        return in;
    }
    enum jj_attr found = jj_attr_find(r, in, jj_s(a[0]), &out);
    if (found == JJ_ATTR_VALUE)
        return out;
    return found == JJ_ATTR_UNSAFE ? jj_getattr(r, in, a[0]) : jj_undefined_attr(r, in, a[0]);
}
