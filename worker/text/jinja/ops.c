/* ops.c - arithmetic, concatenation, comparison. */
#include "worker/text/jinja/ops.h"

#include <math.h>

#include "worker/text/jinja/format.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/render.h"

static const char *op_text(enum jj_op op)
{
    static const char *const names[] = {"+",  "-",  "*", "/",  "//", "%",  "**",
                                        "==", "!=", "<", "<=", ">",  ">=", "in"};
    return names[op];
}

static struct jj_value bad_operands(struct jj_render *r, enum jj_op op, struct jj_value a,
                                    struct jj_value b)
{
    if (a.kind == JJ_UNDEFINED || b.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, a.kind == JJ_UNDEFINED ? a : b);
    else if (a.kind == JJ_BIG || b.kind == JJ_BIG)
        jj_unsupported(r, "calculating with an integer beyond 64 bits");
    else
        jj_fail(r, "unsupported operands for %s: '%s' and '%s'", op_text(op), jj_type_name(a),
                jj_type_name(b));
    return jj_none();
}

static struct jj_value overflow(struct jj_render *r)
{
    jj_unsupported(r, "an integer result beyond 64 bits");
    return jj_none();
}

/* --- HTML escaping ------------------------------------------------------------------- */

struct jj_value jj_escape(struct jj_render *r, struct jj_value v)
{
    static const char *const names[256] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\''] = "&#39;", ['"'] = "&#34;"};
    if (v.kind != JJ_STR || v.aux || !jj_charge_chars(r, v.s->n))
        return jj_mark(v, v.kind == JJ_STR);
    struct buf b;
    jj_buf(&b);
    for (size_t i = 0; i < v.s->n; i++) {
        const char *name = names[(unsigned char)v.s->p[i]];
        if (name)
            buf_puts(&b, name);
        else
            buf_putc(&b, v.s->p[i]);
    }
    return jj_mark(jj_take_buf(r, &b), true);
}

/* --- text and lists ------------------------------------------------------------------ */

static struct jj_value add_text(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    bool markup = a.aux || b.aux;
    if (markup) {
        a = jj_escape(r, a);
        b = jj_escape(r, b);
    }
    return jj_failed(r) ? a : jj_mark(jj_concat(r, a, b), markup);
}

static struct jj_value add_lists(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    struct jj_list *l = jj_list_new(r, 0);
    if (jj_failed(r))
        return a;
    *l = *a.l; /* shares the storage; pushes go behind it or to a copy */
    for (size_t i = 0; i < b.l->n && !jj_failed(r); i++)
        jj_list_push(r, l, b.l->v[i]);
    struct jj_value v = a;
    v.l = l;
    v.aux = false;
    return v;
}

static struct jj_value repeat(struct jj_render *r, struct jj_value v, int64_t times)
{
    size_t n = v.kind == JJ_STR ? v.s->n : v.l->n;
    if (times <= 0 || n == 0)
        times = 0;
    if (times && (uint64_t)times > JJ_MAX_MEMORY / n) {
        jj_limit(r, "repeats a value to more than is allowed");
        return v;
    }
    if (v.kind != JJ_STR) {
        struct jj_list *l = jj_list_new(r, n * (size_t)times);
        for (int64_t k = 0; k < times && !jj_failed(r); k++)
            for (size_t i = 0; i < n; i++)
                jj_list_push(r, l, v.l->v[i]);
        v.l = l;
        v.aux = false;
        return v;
    }
    struct buf b;
    jj_buf(&b);
    if (times)
        (void)buf_reserve(&b, n * (size_t)times);
    for (int64_t k = 0; k < times && !b.failed; k++)
        buf_put(&b, v.s->p, n);
    return jj_mark(jj_take_buf(r, &b), v.aux);
}

static bool is_sequence(struct jj_value v)
{
    return v.kind == JJ_STR || v.kind == JJ_LIST || v.kind == JJ_TUPLE;
}

/* --- numbers ------------------------------------------------------------------------- */

static struct jj_value int_pow(struct jj_render *r, int64_t base, int64_t exp)
{
    int64_t result = 1;
    while (exp > 0) {
        if (exp & 1 && __builtin_mul_overflow(result, base, &result))
            return overflow(r);
        exp >>= 1;
        if (exp && __builtin_mul_overflow(base, base, &base))
            return overflow(r);
    }
    return jj_int(result);
}

static struct jj_value int_op(struct jj_render *r, enum jj_op op, int64_t a, int64_t b)
{
    int64_t v = 0;
    bool over = false;
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &v);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &v);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &v);
        break;
    case OP_FLOORDIV:
    case OP_MOD:
        if (b == -1) {
            if (op == OP_FLOORDIV)
                over = __builtin_sub_overflow((int64_t)0, a, &v);
            break;
        }
        v = op == OP_FLOORDIV ? a / b : a % b;
        if (a % b != 0 && (a % b < 0) != (b < 0)) /* toward minus infinity; the rest has b's sign */
            v += op == OP_FLOORDIV ? -1 : b;
        break;
    default:
        return int_pow(r, a, b);
    }
    return over ? overflow(r) : jj_int(v);
}

/* CPython's float_divmod: exact where floor(a / b) would round. */
static double float_floor(double a, double b, double *rest)
{
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1.0;
        }
    } else {
        mod = copysign(0.0, b);
    }
    *rest = mod;
    if (div == 0)
        return copysign(0.0, a / b);
    double whole = floor(div);
    return div - whole > 0.5 ? whole + 1.0 : whole;
}

static struct jj_value float_pow(struct jj_render *r, double a, double b)
{
    if (a == 0 && b < 0) {
        jj_fail(r, "zero to a negative power");
        return jj_none();
    }
    double v = pow(a, b);
    if (isnan(v) && !isnan(a) && !isnan(b))
        jj_unsupported(r, "a complex number as the result of **");
    else if (isinf(v) && !isinf(a) && !isinf(b))
        jj_fail(r, "the result of ** is too large");
    return jj_float(v);
}

static struct jj_value number_op(struct jj_render *r, enum jj_op op, struct jj_value a,
                                 struct jj_value b)
{
    double y = jj_as_f64(b), x = jj_as_f64(a), rest;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && y == 0) {
        jj_fail(r, "division by zero");
        return jj_none();
    }
    if (op == OP_DIV) {
        if (jj_is_int(a) && jj_is_int(b)) /* 64 bits of mantissa: exact operands */
            return jj_float((double)((long double)jj_as_int(a) / (long double)jj_as_int(b)));
        return jj_float(x / y);
    }
    if (a.kind != JJ_FLOAT && b.kind != JJ_FLOAT && !(op == OP_POW && jj_as_int(b) < 0))
        return int_op(r, op, jj_as_int(a), jj_as_int(b));
    switch (op) {
    case OP_ADD:
        return jj_float(x + y);
    case OP_SUB:
        return jj_float(x - y);
    case OP_MUL:
        return jj_float(x * y);
    case OP_FLOORDIV:
        return jj_float(float_floor(x, y, &rest));
    case OP_MOD:
        (void)float_floor(x, y, &rest);
        return jj_float(rest);
    default:
        return float_pow(r, x, y);
    }
}

struct jj_value jj_binary(struct jj_render *r, enum jj_op op, struct jj_value a, struct jj_value b)
{
    if (jj_is_number(a) && jj_is_number(b))
        return number_op(r, op, a, b);
    if (op == OP_MOD && a.kind == JJ_STR)
        return jj_format_percent(r, a, b);
    if (op == OP_ADD && a.kind == b.kind && is_sequence(a))
        return a.kind == JJ_STR ? add_text(r, a, b) : add_lists(r, a, b);
    if (op == OP_MUL && is_sequence(a) && jj_is_int(b))
        return repeat(r, a, jj_as_int(b));
    if (op == OP_MUL && is_sequence(b) && jj_is_int(a))
        return repeat(r, b, jj_as_int(a));
    return bad_operands(r, op, a, b);
}

static struct jj_value bad_operand(struct jj_render *r, struct jj_value v)
{
    if (v.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, v);
    else if (v.kind == JJ_BIG)
        jj_unsupported(r, "calculating with an integer beyond 64 bits");
    else
        jj_fail(r, "a sign in front of '%s'", jj_type_name(v));
    return jj_none();
}

struct jj_value jj_negate(struct jj_render *r, struct jj_value v)
{
    if (v.kind == JJ_FLOAT)
        return jj_float(-v.f);
    return jj_is_int(v) ? int_op(r, OP_SUB, 0, jj_as_int(v)) : bad_operand(r, v);
}

struct jj_value jj_positive(struct jj_render *r, struct jj_value v)
{
    if (v.kind == JJ_FLOAT)
        return v;
    return jj_is_int(v) ? jj_int(jj_as_int(v)) : bad_operand(r, v);
}

bool jj_compare_op(struct jj_render *r, enum jj_op op, struct jj_value a, struct jj_value b)
{
    switch (op) {
    case OP_EQ:
        return jj_equal(r, a, b);
    case OP_NE:
        return !jj_equal(r, a, b);
    case OP_IN:
        return jj_contains(r, b, a);
    case OP_NOT_IN:
        return !jj_contains(r, b, a);
    default: {
        int c = jj_compare(r, a, b);
        if (jj_failed(r) || c == 2)
            return false;
        return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
    }
    }
}
