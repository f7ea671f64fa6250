/* compare.c - truth, length, equality, order and membership, by Python's rules. */
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/value.h"

const char *jj_type_name(struct jj_value v)
{
    static const char *const names[] = {
        [JJ_UNDEFINED] = "Undefined",
        [JJ_NONE] = "NoneType",
        [JJ_BOOL] = "bool",
        [JJ_INT] = "int",
        [JJ_BIG] = "int",
        [JJ_FLOAT] = "float",
        [JJ_STR] = "str",
        [JJ_LIST] = "list",
        [JJ_TUPLE] = "tuple",
        [JJ_DICT] = "dict",
        [JJ_VIEW] = "dict view",
        [JJ_RANGE] = "range",
        [JJ_GEN] = "generator",
        [JJ_NAMESPACE] = "Namespace",
        [JJ_FUNC] = "function",
        [JJ_LOOP] = "LoopContext",
        [JJ_CYCLER] = "Cycler",
        [JJ_JOINER] = "Joiner",
        [JJ_MISSING] = "missing",
    };
    return names[v.kind];
}

bool jj_length(struct jj_render *r, struct jj_value v, int64_t *n)
{
    (void)r;
    switch ((enum jj_kind)v.kind) {
    case JJ_UNDEFINED:
        return *n = 0, true;
    case JJ_STR:
        return *n = (int64_t)jj_cps(v), true;
    case JJ_LIST:
    case JJ_TUPLE:
        return *n = (int64_t)v.l->n, true;
    case JJ_DICT:
        return *n = (int64_t)v.d->n, true;
    case JJ_VIEW:
        return *n = (int64_t)v.view->d->n, true;
    case JJ_RANGE:
        return *n = v.range->n, true;
    default:
        return false;
    }
}

bool jj_truth(struct jj_render *r, struct jj_value v)
{
    int64_t n;
    switch ((enum jj_kind)v.kind) {
    case JJ_UNDEFINED:
    case JJ_NONE:
        return false;
    case JJ_BOOL:
        return v.b;
    case JJ_INT:
        return v.i != 0;
    case JJ_FLOAT:
        return v.f != 0;
    case JJ_STR:
        return v.s->n != 0;
    default:
        return !jj_length(r, v, &n) || n != 0;
    }
}

bool jj_same(struct jj_value a, struct jj_value b)
{
    if (a.kind != b.kind)
        return false;
    switch ((enum jj_kind)a.kind) {
    case JJ_NONE:
        return true;
    case JJ_BOOL:
        return a.b == b.b;
    case JJ_INT:
        return a.i == b.i;
    case JJ_FLOAT:
        return a.f == b.f;
    case JJ_STR: /* CPython shares equal constants; texts of the request are told apart by nobody */
        return a.aux == b.aux && str_eq(jj_s(a), jj_s(b));
    default:
        return a.d == b.d;
    }
}

/* Exact, where (double)i would round. */
static int compare_int_float(int64_t i, double f)
{
    if (f != f)
        return 2;
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)f; /* toward zero */
    if (i != whole)
        return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int compare_numbers(struct jj_value a, struct jj_value b)
{
    if (a.kind == JJ_FLOAT && b.kind == JJ_FLOAT)
        return a.f < b.f ? -1 : a.f > b.f ? 1 : a.f == b.f ? 0 : 2;
    if (a.kind == JJ_FLOAT) {
        int c = compare_int_float(jj_as_int(b), a.f);
        return c == 2 ? 2 : -c;
    }
    if (b.kind == JJ_FLOAT)
        return compare_int_float(jj_as_int(a), b.f);
    int64_t x = jj_as_int(a), y = jj_as_int(b);
    return (x > y) - (x < y);
}

static int compare_text(struct jj_render *r, struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    jj_charge_bytes(r, n);
    int c = n ? memcmp(a.p, b.p, n) : 0; /* the order of UTF-8 bytes is that of code points */
    return c ? (c > 0) - (c < 0) : (a.n > b.n) - (a.n < b.n);
}

static bool equal_dicts(struct jj_render *r, const struct jj_dict *a, const struct jj_dict *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n && jj_charge(r, 1); i++) {
        const struct jj_value *v = jj_dict_get(r, b, a->v[i].key);
        if (!v || !jj_equal(r, a->v[i].value, *v))
            return false;
    }
    return !jj_failed(r);
}

static bool equal_views(struct jj_render *r, struct jj_view *a, struct jj_view *b)
{
    if (a->what != b->what || a->what == JJ_VALUES)
        return a == b;
    if (a->what == JJ_ITEMS)
        return equal_dicts(r, a->d, b->d);
    if (a->d->n != b->d->n)
        return false;
    for (size_t i = 0; i < a->d->n && jj_charge(r, 1); i++)
        if (!jj_dict_get(r, b->d, a->d->v[i].key))
            return false;
    return true;
}

static bool equal_deep(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    switch ((enum jj_kind)a.kind) {
    case JJ_LIST:
    case JJ_TUPLE:
        if (a.l->n != b.l->n)
            return false;
        for (size_t i = 0; i < a.l->n; i++)
            if (!jj_charge(r, 1) || !jj_equal(r, a.l->v[i], b.l->v[i]))
                return false;
        return true;
    case JJ_DICT:
        return equal_dicts(r, a.d, b.d);
    case JJ_VIEW:
        return equal_views(r, a.view, b.view);
    default:
        return false;
    }
}

bool jj_equal(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    if (jj_is_number(a) && jj_is_number(b))
        return compare_numbers(a, b) == 0;
    if (a.kind != b.kind)
        return false;
    switch ((enum jj_kind)a.kind) {
    case JJ_UNDEFINED:
    case JJ_NONE:
        return true;
    case JJ_STR:
    case JJ_BIG:
        if (a.s->n != b.s->n)
            return false;
        return a.s == b.s || compare_text(r, jj_s(a), jj_s(b)) == 0;
    case JJ_RANGE: {
        const struct jj_range *x = a.range, *y = b.range;
        return x->n == y->n &&
               (x->n == 0 || (x->start == y->start && (x->n == 1 || x->step == y->step)));
    }
    case JJ_LIST:
    case JJ_TUPLE:
    case JJ_DICT:
    case JJ_VIEW: {
        if (a.d == b.d)
            return true;
        if (!jj_enter(r, JJ_MAX_DEPTH))
            return false;
        bool same = equal_deep(r, a, b);
        jj_leave(r);
        return same;
    }
    default:
        return a.d == b.d;
    }
}

int jj_compare(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    if (jj_is_number(a) && jj_is_number(b))
        return compare_numbers(a, b);
    if (a.kind == JJ_STR && b.kind == JJ_STR)
        return compare_text(r, jj_s(a), jj_s(b));
    if ((a.kind == JJ_LIST || a.kind == JJ_TUPLE) && a.kind == b.kind) {
        int c = 0;
        if (!jj_enter(r, JJ_MAX_DEPTH))
            return 0;
        size_t i = 0;
        while (i < a.l->n && i < b.l->n && jj_charge(r, 1) && jj_equal(r, a.l->v[i], b.l->v[i]))
            i++;
        if (i < a.l->n && i < b.l->n)
            c = jj_compare(r, a.l->v[i], b.l->v[i]);
        else
            c = (a.l->n > b.l->n) - (a.l->n < b.l->n);
        jj_leave(r);
        return c;
    }
    if (a.kind == JJ_UNDEFINED || b.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, a.kind == JJ_UNDEFINED ? a : b);
    else if (a.kind == JJ_BIG || b.kind == JJ_BIG)
        jj_unsupported(r, "comparing an integer beyond 64 bits");
    else
        jj_fail(r, "'%s' and '%s' have no order", jj_type_name(a), jj_type_name(b));
    return 0;
}

static bool contains_walk(struct jj_render *r, struct jj_value box, struct jj_value item)
{
    struct jj_iter it;
    if (!jj_iter_init(r, &it, box))
        return false;
    for (struct jj_value e; jj_iter_next(r, &it, &e);)
        if (jj_equal(r, e, item))
            return true;
    return false;
}

bool jj_contains(struct jj_render *r, struct jj_value box, struct jj_value item)
{
    switch ((enum jj_kind)box.kind) {
    case JJ_STR:
        if (item.kind != JJ_STR) {
            jj_fail(r, "'in' on a string needs a string, not '%s'", jj_type_name(item));
            return false;
        }
        if (!jj_charge_chars(r, box.s->n))
            return false;
        return item.s->n == 0 || memmem(box.s->p, box.s->n, item.s->p, item.s->n) != NULL;
    case JJ_DICT:
        return jj_dict_get(r, box.d, item) != NULL;
    case JJ_VIEW:
        if (box.view->what == JJ_KEYS)
            return jj_dict_get(r, box.view->d, item) != NULL;
        return contains_walk(r, box, item);
    default:
        return contains_walk(r, box, item);
    }
}
