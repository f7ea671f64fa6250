/* methods.c - the methods of everything but strings, and how an attribute is found. */
#include "worker/text/jinja/methods.h"

#include <math.h>

#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/render.h"

#define METHOD(name)                                                                               \
    static struct jj_value name(struct jj_render *r, struct jj_value self,                         \
                                const struct jj_value *a, const struct jj_call *c)

/* --- dict ---------------------------------------------------------------------------- */

static struct jj_value view(struct jj_render *r, struct jj_value self, enum jj_view_what what)
{
    struct jj_view *v = jj_alloc(r, sizeof(*v));
    if (!v)
        return jj_none();
    *v = (struct jj_view){.d = self.d, .what = what};
    return (struct jj_value){.kind = JJ_VIEW, .view = v};
}

METHOD(m_keys)
{
    (void)a, (void)c;
    return view(r, self, JJ_KEYS);
}

METHOD(m_values)
{
    (void)a, (void)c;
    return view(r, self, JJ_VALUES);
}

METHOD(m_items)
{
    (void)a, (void)c;
    return view(r, self, JJ_ITEMS);
}

METHOD(m_get)
{
    (void)c;
    const struct jj_value *v = jj_dict_get(r, self.d, a[0]);
    return v ? *v : a[1].kind == JJ_MISSING ? jj_none() : a[1];
}

METHOD(m_copy)
{
    (void)r, (void)a, (void)c; /* nothing can change it: sharing is copying */
    return self;
}

/* --- list, tuple, range -------------------------------------------------------------- */

METHOD(m_count)
{
    struct jj_iter it;
    struct jj_value v;
    int64_t n = 0;
    (void)c;
    if (jj_iter_init(r, &it, self))
        while (jj_iter_next(r, &it, &v))
            n += jj_equal(r, v, a[0]);
    return jj_int(n);
}

METHOD(m_index)
{
    struct jj_iter it;
    struct jj_value v;
    int64_t n = 0, at[2] = {0, INT64_MAX};
    (void)c;
    (void)jj_length(r, self, &n);
    for (int i = 0; i < 2; i++) {
        if (a[1 + i].kind == JJ_MISSING)
            continue;
        if (!jj_is_int(a[1 + i])) {
            jj_fail(r, "index() takes integers, not '%s'", jj_type_name(a[1 + i]));
            return jj_none();
        }
        at[i] = jj_as_int(a[1 + i]);
        if (at[i] < 0)
            at[i] = at[i] + n < 0 ? 0 : at[i] + n;
    }
    if (jj_iter_init(r, &it, self))
        for (int64_t i = 0; jj_iter_next(r, &it, &v); i++)
            if (i >= at[0] && i < at[1] && jj_equal(r, v, a[0]))
                return jj_int(i);
    jj_fail(r, "index(): the value is not in the sequence");
    return jj_none();
}

/* --- numbers ------------------------------------------------------------------------- */

METHOD(m_is_integer)
{
    (void)r, (void)a, (void)c;
    return jj_bool(isfinite(self.f) && floor(self.f) == self.f);
}

METHOD(m_bit_length)
{
    (void)r, (void)a, (void)c;
    int64_t v = jj_as_int(self);
    uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
    int n = 0;
    for (; u; u >>= 1)
        n++;
    return jj_int(n);
}

/* --- loop, cycler -------------------------------------------------------------------- */

METHOD(m_loop_cycle)
{
    (void)a;
    if (c->pos->n == 0 || c->kw->n) {
        jj_fail(r, "loop.cycle() takes one or more positional arguments");
        return jj_none();
    }
    return c->pos->v[self.loop->at % c->pos->n];
}

METHOD(m_loop_changed)
{
    (void)a;
    struct jj_loop *l = self.loop;
    if (c->kw->n)
        jj_fail(r, "loop.changed() takes positional arguments");
    bool same = l->has_changed && jj_equal(r, jj_of_tuple(l->changed), jj_of_tuple(c->pos));
    if (!same) {
        l->changed = c->pos;
        l->has_changed = true;
    }
    return jj_bool(!same);
}

METHOD(m_cycler_next)
{
    (void)r, (void)a, (void)c;
    struct jj_cycler *y = self.cycler;
    struct jj_value v = y->items->v[y->at];
    y->at = (y->at + 1) % y->items->n;
    return v;
}

METHOD(m_cycler_reset)
{
    (void)r, (void)a, (void)c;
    self.cycler->at = 0;
    return jj_none();
}

// clang-format off
static const struct jj_method methods[] = {
    {JJ_DICT,   "keys",    m_keys,   "", 0},
    {JJ_DICT,   "values",  m_values, "", 0},
    {JJ_DICT,   "items",   m_items,  "", 0},
    {JJ_DICT,   "get",     m_get,    "/key /default", 1},
    {JJ_DICT,   "copy",    m_copy,   "", 0},
    {JJ_DICT,   "fromkeys", NULL,    NULL, 0},
    {JJ_LIST,   "count",   m_count,  "/value", 1},
    {JJ_LIST,   "index",   m_index,  "/value /start /stop", 1},
    {JJ_LIST,   "copy",    m_copy,   "", 0},
    {JJ_TUPLE,  "count",   m_count,  "/value", 1},
    {JJ_TUPLE,  "index",   m_index,  "/value /start /stop", 1},
    {JJ_RANGE,  "count",   m_count,  "/value", 1},
    {JJ_RANGE,  "index",   m_index,  "/value", 1},
    {JJ_VIEW,   "isdisjoint", NULL,  NULL, 0},
    {JJ_VIEW,   "mapping", NULL,     NULL, 0},
    {JJ_INT,    "bit_length", m_bit_length, "", 0},
    {JJ_BOOL,   "bit_length", m_bit_length, "", 0},
    {JJ_FLOAT,  "is_integer", m_is_integer, "", 0},
    {JJ_FLOAT,  "hex",     NULL,     NULL, 0},
    {JJ_FLOAT,  "as_integer_ratio", NULL, NULL, 0},
    {JJ_FLOAT,  "fromhex", NULL,     NULL, 0},
    {JJ_LOOP,   "cycle",   m_loop_cycle,   NULL, 0},
    {JJ_LOOP,   "changed", m_loop_changed, NULL, 0},
    {JJ_CYCLER, "next",    m_cycler_next,  "", 0},
    {JJ_CYCLER, "reset",   m_cycler_reset, "", 0},
    {0},
};

/* Methods that change a value: the sandbox hides them (jinja2/sandbox.py, modifies_known_mutable). */
static const struct {
    enum jj_kind kind;
    const char *name;
} mutators[] = {
    {JJ_LIST, "append"}, {JJ_LIST, "clear"}, {JJ_LIST, "pop"}, {JJ_LIST, "reverse"}, {JJ_LIST, "insert"},
    {JJ_LIST, "sort"}, {JJ_LIST, "extend"}, {JJ_LIST, "remove"},
    {JJ_DICT, "clear"}, {JJ_DICT, "pop"}, {JJ_DICT, "popitem"}, {JJ_DICT, "setdefault"}, {JJ_DICT, "update"},
};

/* What every Python object has; all of it is hidden. */
static const char *const dunders[] = {
    "__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__", "__getattribute__",
    "__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__ne__", "__new__",
    "__reduce__", "__reduce_ex__", "__repr__", "__setattr__", "__sizeof__", "__str__", "__subclasshook__",
};
/* What only some have, and no sane mapping has as a key. */
static const char *const some_dunders[] = {
    "__len__", "__iter__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__add__", "__mul__",
    "__mod__", "__rmod__", "__rmul__", "__iadd__", "__imul__", "__reversed__", "__class_getitem__", "__or__",
    "__ror__", "__ior__", "__getnewargs__", "__globals__", "__code__", "__call__", "__self__", "__name__",
    "__module__", "__dict__", "__slots__", "__bool__", "__int__", "__float__", "__index__", "__html__",
};
// clang-format on

static bool in_list(const char *const *names, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_is(name, names[i]))
            return true;
    return false;
}

static bool is_hidden(struct jj_value v, struct str name)
{
    if (name.n > 4 && name.p[0] == '_' && name.p[1] == '_')
        if (in_list(dunders, sizeof(dunders) / sizeof(dunders[0]), name) ||
            (v.kind != JJ_NAMESPACE &&
             in_list(some_dunders, sizeof(some_dunders) / sizeof(some_dunders[0]), name)))
            return true;
    for (size_t i = 0; i < sizeof(mutators) / sizeof(mutators[0]); i++)
        if (mutators[i].kind == v.kind && str_is(name, mutators[i].name))
            return true;
    return false;
}

static struct jj_value special_attr(struct jj_render *r, struct jj_value v, struct str name)
{
    if (v.kind == JJ_NAMESPACE) {
        const struct jj_value *item = jj_dict_find(r, v.d, name);
        return item ? *item : jj_missing();
    }
    if (v.kind == JJ_LOOP)
        return jj_loop_attr(r, v.loop, name);
    if (v.kind == JJ_FUNC && v.func->macro)
        return jj_macro_attr(r, v.func, name);
    if (v.kind == JJ_TUPLE && v.aux && str_is(name, "grouper"))
        return v.l->v[0];
    if (v.kind == JJ_TUPLE && v.aux && str_is(name, "list"))
        return v.l->v[1];
    if (v.kind == JJ_CYCLER)
        return str_is(name, "current") ? v.cycler->items->v[v.cycler->at]
               : str_is(name, "items") ? jj_of_tuple(v.cycler->items)
               : str_is(name, "pos")   ? jj_int((int64_t)v.cycler->at)
                                       : jj_missing();
    if (v.kind == JJ_JOINER)
        return str_is(name, "sep")    ? v.cycler->sep
               : str_is(name, "used") ? jj_bool(v.cycler->used)
                                      : jj_missing();
    if (v.kind == JJ_RANGE)
        return str_is(name, "start")  ? jj_int(v.range->start)
               : str_is(name, "stop") ? jj_int(v.range->stop)
               : str_is(name, "step") ? jj_int(v.range->step)
                                      : jj_missing();
    if (jj_is_number(v))
        return str_is(name, "real")   ? (v.kind == JJ_FLOAT ? v : jj_int(jj_as_int(v)))
               : str_is(name, "imag") ? (v.kind == JJ_FLOAT ? jj_float(0) : jj_int(0))
                                      : jj_missing();
    return jj_missing();
}

static const struct jj_method *find_method(const struct jj_method *m, uint8_t kind, struct str name)
{
    for (; m->name; m++)
        if (m->kind == kind && str_is(name, m->name))
            return m;
    return NULL;
}

enum jj_attr jj_attr_find(struct jj_render *r, struct jj_value v, struct str name,
                          struct jj_value *out)
{
    if (is_hidden(v, name))
        return JJ_ATTR_UNSAFE;
    *out = special_attr(r, v, name);
    if (out->kind != JJ_MISSING)
        return JJ_ATTR_VALUE;
    const struct jj_method *m =
        find_method(v.kind == JJ_STR ? jj_str_methods : methods, v.kind, name);
    if (!m)
        return JJ_ATTR_NONE;
    if (!m->fn) {
        jj_unsupported(r, "the method %s.%s()", jj_type_name(v), m->name);
        return JJ_ATTR_NONE;
    }
    *out = jj_func_method(r, m, v);
    return JJ_ATTR_VALUE;
}

struct jj_value jj_method_call(struct jj_render *r, const struct jj_method *m, struct jj_value self,
                               const struct jj_call *c)
{
    struct jj_value a[JJ_MAX_PARAMS] = {{0}};
    if (m->params && !jj_bind(r, c, m->name, m->params, m->min, a))
        return jj_none();
    return m->fn(r, self, a, c);
}
