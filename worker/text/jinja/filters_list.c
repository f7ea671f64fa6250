/* filters_list.c - filters that walk, order and group sequences. */
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/getter.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"
#include "worker/text/jinja/strfn.h"

static bool given(struct jj_value v)
{
    return v.kind != JJ_MISSING;
}

static bool flag(struct jj_render *r, struct jj_value v)
{
    return given(v) && jj_truth(r, v);
}

/* --- sorting ------------------------------------------------------------------------- */

struct sorter {
    struct jj_render *r;
    struct jj_value *key, *item, *key2, *item2;
    bool reverse;
};

static void merge_sort(struct sorter *s, size_t from, size_t to)
{
    if (to - from < 2 || jj_failed(s->r))
        return;
    size_t mid = from + (to - from) / 2, i = from, j = mid, k = from;
    merge_sort(s, from, mid);
    merge_sort(s, mid, to);
    memcpy(s->key2 + from, s->key + from, (to - from) * sizeof(*s->key));
    memcpy(s->item2 + from, s->item + from, (to - from) * sizeof(*s->item));
    while (k < to && jj_charge(s->r, 1)) {
        /* The right one goes first only when it must: equal elements keep their order. */
        bool right = i == mid;
        if (!right && j < to)
            right = s->reverse ? jj_compare(s->r, s->key2[i], s->key2[j]) == -1
                               : jj_compare(s->r, s->key2[j], s->key2[i]) == -1;
        size_t *from_side = right ? &j : &i;
        s->key[k] = s->key2[*from_side];
        s->item[k] = s->item2[*from_side];
        (*from_side)++;
        k++;
    }
}

void jj_sort(struct jj_render *r, struct jj_list *keys, struct jj_list *items, bool reverse)
{
    if (jj_failed(r) || keys->n != items->n || keys->n < 2)
        return;
    struct sorter s = {.r = r, .key = keys->v, .item = items->v, .reverse = reverse};
    s.key2 = jj_alloc(r, keys->n * sizeof(*s.key2));
    s.item2 = jj_alloc(r, keys->n * sizeof(*s.item2));
    if (s.key2 && s.item2)
        merge_sort(&s, 0, keys->n);
}

static struct jj_value fold(struct jj_render *r, struct jj_value v, bool case_sensitive)
{
    return v.kind == JJ_STR && !case_sensitive ? str_case(r, v, STR_LOWER) : v;
}

JJ_FILTER_FN(jj_f_sort)
{
    struct jj_list *items = jj_list_of(r, in), *keys = jj_list_new(r, items->n);
    struct jj_list *attributes = jj_getter_list(r, a[2]);
    bool case_sensitive = flag(r, a[1]);
    (void)c;
    for (size_t i = 0; i < items->n && !jj_failed(r); i++) {
        struct jj_list *key = jj_list_new(r, attributes->n);
        for (size_t k = 0; k < attributes->n && !jj_failed(r); k++)
            jj_list_push(r, key,
                         fold(r, jj_getter_get(r, attributes->v[k].l, items->v[i], jj_none()),
                              case_sensitive));
        jj_list_push(r, keys, jj_of_list(key));
    }
    jj_sort(r, keys, items, flag(r, a[0]));
    return jj_of_list(items);
}

JJ_FILTER_FN(jj_f_dictsort)
{
    struct jj_value by = given(a[1]) ? a[1] : jj_cstr(r, "key");
    bool case_sensitive = flag(r, a[0]), by_value = by.kind == JJ_STR && str_is(jj_s(by), "value");
    (void)c;
    if (in.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, in);
    else if (in.kind != JJ_DICT)
        jj_fail(r, "dictsort takes a mapping, not '%s'", jj_type_name(in));
    else if (!by_value && !(by.kind == JJ_STR && str_is(jj_s(by), "key")))
        jj_fail(r, "dictsort sorts by \"key\" or \"value\"");
    if (jj_failed(r))
        return in;
    struct jj_list *items = jj_list_new(r, in.d->n), *keys = jj_list_new(r, in.d->n);
    for (size_t i = 0; i < in.d->n && !jj_failed(r); i++) {
        const struct jj_pair *p = &in.d->v[i];
        jj_list_push(r, items, jj_pair_tuple(r, p->key, p->value));
        jj_list_push(r, keys, fold(r, by_value ? p->value : p->key, case_sensitive));
    }
    jj_sort(r, keys, items, flag(r, a[2]));
    return jj_of_list(items);
}

JJ_FILTER_FN(jj_f_groupby)
{
    struct jj_list *items = jj_list_of(r, in), *keys = jj_list_new(r, items->n),
                   *out = jj_list_new(r, 0);
    struct jj_list *attribute = jj_getter(r, a[0]);
    struct jj_value absent = given(a[1]) ? a[1] : jj_none();
    bool case_sensitive = flag(r, a[2]);
    (void)c;
    for (size_t i = 0; i < items->n && !jj_failed(r); i++)
        jj_list_push(r, keys,
                     fold(r, jj_getter_get(r, attribute, items->v[i], absent), case_sensitive));
    jj_sort(r, keys, items, false);
    for (size_t i = 0; i < items->n && !jj_failed(r);) {
        struct jj_list *group = jj_list_new(r, 0);
        size_t first = i;
        while (i < items->n && (i == first || jj_equal(r, keys->v[first], keys->v[i])) &&
               !jj_failed(r))
            jj_list_push(r, group, items->v[i++]);
        struct jj_value key = jj_getter_get(r, attribute, items->v[first], absent);
        jj_list_push(r, out, jj_mark(jj_pair_tuple(r, key, jj_of_list(group)), true));
    }
    return jj_of_list(out);
}

JJ_FILTER_FN(jj_f_unique)
{
    struct jj_list *out = jj_list_new(r, 0), *attribute = jj_getter(r, a[1]);
    struct jj_dict *seen = jj_dict_new(r);
    bool case_sensitive = flag(r, a[0]);
    struct jj_iter it;
    struct jj_value v;
    (void)c;
    if (jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v)) {
            struct jj_value key =
                fold(r, jj_getter_get(r, attribute, v, jj_none()), case_sensitive);
            if (jj_failed(r) || jj_dict_get(r, seen, key))
                continue;
            jj_dict_set(r, seen, key, jj_none());
            if (!jj_failed(r))
                jj_list_push(r, out, v);
        }
    return jj_gen_new(r, "generator", out);
}

static struct jj_value min_or_max(struct jj_render *r, struct jj_value in, const struct jj_value *a,
                                  int wanted)
{
    struct jj_list *attribute = jj_getter(r, a[1]);
    bool case_sensitive = flag(r, a[0]), any = false;
    struct jj_iter it;
    struct jj_value v, best = jj_none(), best_key = jj_none();
    if (!jj_iter_init(r, &it, in))
        return in;
    while (jj_iter_next(r, &it, &v)) {
        struct jj_value key = fold(r, jj_getter_get(r, attribute, v, jj_none()), case_sensitive);
        if (!jj_failed(r) && (!any || jj_compare(r, key, best_key) == wanted)) {
            best = v;
            best_key = key;
        }
        any = true;
    }
    return any ? best : jj_undefined(r, "No aggregated item, sequence was empty.");
}

JJ_FILTER_FN(jj_f_min)
{
    (void)c;
    return min_or_max(r, in, a, -1);
}

JJ_FILTER_FN(jj_f_max)
{
    (void)c;
    return min_or_max(r, in, a, 1);
}

JJ_FILTER_FN(jj_f_sum)
{
    struct jj_value total = given(a[1]) ? a[1] : jj_int(0), v;
    struct jj_list *attribute = given(a[0]) && a[0].kind != JJ_NONE ? jj_getter(r, a[0]) : NULL;
    struct jj_iter it;
    (void)c;
    if (total.kind == JJ_STR)
        jj_fail(r, "sum takes numbers or lists, not strings (use join)");
    if (!jj_failed(r) && jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v)) {
            if (attribute)
                v = jj_getter_get(r, attribute, v, jj_none());
            if (!jj_failed(r))
                total = jj_binary(r, OP_ADD, total, v);
        }
    return total;
}

/* --- picking and cutting ------------------------------------------------------------- */

JJ_FILTER_FN(jj_f_length)
{
    int64_t n;
    (void)a, (void)c;
    if (in.kind == JJ_LOOP)
        return jj_getattr(r, in, jj_cstr(r, "length"));
    if (jj_length(r, in, &n))
        return jj_int(n);
    jj_fail(r, "an object of type '%s' has no length", jj_type_name(in));
    return in;
}

JJ_FILTER_FN(jj_f_first)
{
    struct jj_iter it;
    struct jj_value v;
    (void)a, (void)c;
    if (!jj_iter_init(r, &it, in))
        return in;
    if (jj_iter_next(r, &it, &v))
        return v;
    return jj_undefined(r, "No first item, sequence was empty.");
}

JJ_FILTER_FN(jj_f_last)
{
    (void)a, (void)c;
    if (in.kind == JJ_GEN) {
        jj_fail(r, "'%s' object is not reversible", in.gen->type);
        return in;
    }
    int64_t n = 0;
    if (in.kind == JJ_STR && jj_length(r, in, &n) && n)
        return jj_mark(jj_substr(r, in, (size_t)n - 1, (size_t)n), in.aux);
    struct jj_list *l = jj_list_of(r, in);
    return l->n ? l->v[l->n - 1] : jj_undefined(r, "No last item, sequence was empty.");
}

JJ_FILTER_FN(jj_f_list)
{
    (void)a, (void)c;
    return jj_of_list(jj_list_of(r, in));
}

JJ_FILTER_FN(jj_f_items)
{
    struct jj_list *l = jj_list_new(r, 0);
    (void)a, (void)c;
    if (in.kind != JJ_DICT && in.kind != JJ_UNDEFINED)
        jj_fail(r, "Can only get item pairs from a mapping.");
    for (size_t i = 0; in.kind == JJ_DICT && i < in.d->n && !jj_failed(r); i++)
        jj_list_push(r, l, jj_pair_tuple(r, in.d->v[i].key, in.d->v[i].value));
    return jj_gen_new(r, "generator", l);
}

JJ_FILTER_FN(jj_f_reverse)
{
    (void)a, (void)c;
    if (in.kind == JJ_STR)
        return jj_slice(r, in, jj_none(), jj_none(), jj_int(-1));
    struct jj_list *l = jj_list_of(r, in), *out = jj_list_new(r, l->n);
    for (size_t i = l->n; i-- > 0 && !jj_failed(r);)
        jj_list_push(r, out, l->v[i]);
    if (jj_failed(r))
        return in;
    return in.kind == JJ_GEN ? jj_of_list(out) : jj_gen_new(r, "list_reverseiterator", out);
}

JJ_FILTER_FN(jj_f_join)
{
    struct jj_value sep = given(a[0]) ? jj_to_str(r, a[0]) : jj_cstr(r, ""), v;
    struct jj_list *attribute = given(a[1]) && a[1].kind != JJ_NONE ? jj_getter(r, a[1]) : NULL;
    struct jj_list *items = jj_list_new(r, 0);
    struct jj_iter it;
    (void)c;
    if (!jj_failed(r) && jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v)) {
            if (attribute)
                v = jj_getter_get(r, attribute, v, jj_none());
            if (!jj_failed(r))
                jj_list_push(r, items, jj_to_str(r, v));
        }
    return jj_failed(r) ? sep : str_join(r, sep, items);
}

JJ_FILTER_FN(jj_f_batch)
{
    struct jj_list *out = jj_list_new(r, 0), *row = jj_list_new(r, 0);
    struct jj_iter it;
    struct jj_value v;
    (void)c;
    if (!jj_is_int(a[0]))
        jj_fail(r, "batch takes an integer, not '%s'", jj_type_name(a[0]));
    int64_t n = jj_failed(r) ? 0 : jj_as_int(a[0]);
    if (!jj_failed(r) && jj_iter_init(r, &it, in))
        while (jj_iter_next(r, &it, &v)) {
            if ((int64_t)row->n == n) {
                jj_list_push(r, out, jj_of_list(row));
                row = jj_list_new(r, 0);
            }
            jj_list_push(r, row, v);
        }
    if (row->n && given(a[1]) && a[1].kind != JJ_NONE)
        while ((int64_t)row->n < n && !jj_failed(r))
            jj_list_push(r, row, a[1]);
    if (row->n && !jj_failed(r))
        jj_list_push(r, out, jj_of_list(row));
    return jj_gen_new(r, "generator", out);
}

JJ_FILTER_FN(jj_f_slice)
{
    struct jj_list *out = jj_list_new(r, 0), *l = jj_list_of(r, in);
    (void)c;
    int64_t n = jj_is_int(a[0]) ? jj_as_int(a[0]) : 0;
    if (n == 0)
        jj_fail(r, "slice takes an integer that is not zero");
    int64_t each = n > 0 ? (int64_t)l->n / n : 0, extra = n > 0 ? (int64_t)l->n % n : 0, at = 0;
    for (int64_t k = 0; k < n && jj_charge(r, 1); k++) {
        struct jj_list *row = jj_list_new(r, 0);
        for (int64_t end = at + each + (k < extra); at < end; at++)
            jj_list_push(r, row, l->v[at]);
        if (given(a[1]) && a[1].kind != JJ_NONE && k >= extra)
            jj_list_push(r, row, a[1]);
        jj_list_push(r, out, jj_of_list(row));
    }
    return jj_gen_new(r, "generator", out);
}
