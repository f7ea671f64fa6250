/* tests.c - the table of tests. */
#include "worker/text/jinja/tests.h"

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"
#include "worker/text/jinja/strfn.h"

#define TEST(name) static bool name(struct jj_render *r, struct jj_value v, struct jj_value arg)
#define SIMPLE_TEST(name, expression)                                                              \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)r, (void)arg;                                                                        \
        return expression;                                                                         \
    }

SIMPLE_TEST(t_defined, v.kind != JJ_UNDEFINED)
SIMPLE_TEST(t_undefined, v.kind == JJ_UNDEFINED)
SIMPLE_TEST(t_none, v.kind == JJ_NONE)
SIMPLE_TEST(t_boolean, v.kind == JJ_BOOL)
SIMPLE_TEST(t_true, v.kind == JJ_BOOL && v.b)
SIMPLE_TEST(t_false, v.kind == JJ_BOOL && !v.b)
SIMPLE_TEST(t_integer, v.kind == JJ_INT || v.kind == JJ_BIG)
SIMPLE_TEST(t_float, v.kind == JJ_FLOAT)
SIMPLE_TEST(t_number, jj_is_number(v) || v.kind == JJ_BIG)
SIMPLE_TEST(t_string, v.kind == JJ_STR)
SIMPLE_TEST(t_mapping, v.kind == JJ_DICT)
SIMPLE_TEST(t_iterable, jj_iterable(v))
/* len(v) and v.__getitem__ exist: an undefined value has both. */
SIMPLE_TEST(t_sequence, v.kind == JJ_STR || v.kind == JJ_LIST || v.kind == JJ_TUPLE ||
                            v.kind == JJ_DICT || v.kind == JJ_RANGE || v.kind == JJ_UNDEFINED)
/* An undefined value is callable, too: calling it is how it reports its name. */
SIMPLE_TEST(t_callable,
            v.kind == JJ_FUNC || v.kind == JJ_LOOP || v.kind == JJ_JOINER || v.kind == JJ_UNDEFINED)
SIMPLE_TEST(t_escaped, v.kind == JJ_STR && v.aux)
SIMPLE_TEST(t_sameas, jj_same(v, arg))
SIMPLE_TEST(t_in, jj_contains(r, arg, v))
SIMPLE_TEST(t_eq, jj_compare_op(r, OP_EQ, v, arg))
SIMPLE_TEST(t_ne, jj_compare_op(r, OP_NE, v, arg))
SIMPLE_TEST(t_lt, jj_compare_op(r, OP_LT, v, arg))
SIMPLE_TEST(t_le, jj_compare_op(r, OP_LE, v, arg))
SIMPLE_TEST(t_gt, jj_compare_op(r, OP_GT, v, arg))
SIMPLE_TEST(t_ge, jj_compare_op(r, OP_GE, v, arg))

static bool rest_is(struct jj_render *r, struct jj_value v, struct jj_value by, int64_t wanted)
{
    struct jj_value rest = jj_binary(r, OP_MOD, v, by);
    return !jj_failed(r) && jj_equal(r, rest, jj_int(wanted));
}
SIMPLE_TEST(t_odd, rest_is(r, v, jj_int(2), 1))
SIMPLE_TEST(t_even, rest_is(r, v, jj_int(2), 0))
SIMPLE_TEST(t_divisibleby, rest_is(r, v, arg, 0))
SIMPLE_TEST(t_lower, str_is_class(r, jj_to_str(r, v), STR_IS_LOWER))
SIMPLE_TEST(t_upper, str_is_class(r, jj_to_str(r, v), STR_IS_UPPER))
SIMPLE_TEST(t_filter, v.kind == JJ_STR && jj_filter_known(jj_s(v)))
SIMPLE_TEST(t_test, v.kind == JJ_STR && jj_test_find(jj_s(v)))

// clang-format off
static const struct jj_test tests[] = {
    {"boolean", t_boolean, false},         {"callable", t_callable, false},   {"defined", t_defined, false},
    {"divisibleby", t_divisibleby, true},  {"escaped", t_escaped, false},     {"even", t_even, false},
    {"false", t_false, false},             {"filter", t_filter, false},       {"float", t_float, false},
    {"in", t_in, true},                    {"integer", t_integer, false},     {"iterable", t_iterable, false},
    {"lower", t_lower, false},             {"mapping", t_mapping, false},     {"none", t_none, false},
    {"number", t_number, false},           {"odd", t_odd, false},             {"sameas", t_sameas, true},
    {"sequence", t_sequence, false},       {"string", t_string, false},       {"test", t_test, false},
    {"true", t_true, false},               {"undefined", t_undefined, false}, {"upper", t_upper, false},
    {"eq", t_eq, true}, {"==", t_eq, true}, {"equalto", t_eq, true},
    {"ne", t_ne, true}, {"!=", t_ne, true},
    {"lt", t_lt, true}, {"<", t_lt, true}, {"lessthan", t_lt, true},
    {"le", t_le, true}, {"<=", t_le, true},
    {"gt", t_gt, true}, {">", t_gt, true}, {"greaterthan", t_gt, true},
    {"ge", t_ge, true}, {">=", t_ge, true},
};
// clang-format on

const struct jj_test *jj_test_find(struct str name)
{
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (str_is(name, tests[i].name))
            return &tests[i];
    return NULL;
}

bool jj_test_apply(struct jj_render *r, const struct jj_test *t, struct jj_value v,
                   const struct jj_call *c)
{
    size_t n = c->pos->n + c->kw->n;
    if (n != (size_t)t->has_arg) {
        jj_fail(r, "the test '%s' takes %s", t->name, t->has_arg ? "one argument" : "no argument");
        return false;
    }
    struct jj_value arg = c->pos->n ? c->pos->v[0] : c->kw->n ? c->kw->v[0].value : jj_missing();
    return t->fn(r, v, arg);
}
