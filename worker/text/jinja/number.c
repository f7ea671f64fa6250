/* number.c - texts to numbers, and the filters for numbers. */
#include "worker/text/jinja/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/unicode.h"

static struct str trimmed(struct str s)
{
    size_t from = uni_leading_space(s.p, s.n);
    s = (struct str){s.p + from, s.n - from};
    s.n -= uni_trailing_space(s.p, s.n);
    return s;
}

static int digit_value(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                : 99;
}

enum jj_parsed jj_parse_int(struct str s, int base, int64_t *out)
{
    s = trimmed(s);
    size_t i = 0;
    bool negative = false, digit = false, large = false;
    int64_t v = 0;
    if (i < s.n && (s.p[i] == '-' || s.p[i] == '+'))
        negative = s.p[i++] == '-';
    if (i + 1 < s.n && s.p[i] == '0') {
        char x = (char)(s.p[i + 1] | 32);
        int named = x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 0;
        if (named && (base == 0 || base == named)) {
            base = named;
            i += 2;
            i += i < s.n && s.p[i] == '_';
        }
    }
    bool zeros_only = base == 0 && i < s.n && s.p[i] == '0'; /* "010" is refused with base 0 */
    if (base == 0)
        base = 10;
    for (; i < s.n; i++) {
        int d = digit_value(s.p[i]);
        if (s.p[i] == '_' && digit && i + 1 < s.n && s.p[i + 1] != '_')
            continue;
        if (d >= base || (zeros_only && d))
            return JJ_NOT_A_NUMBER;
        digit = true;
        large |= __builtin_mul_overflow(v, (int64_t)base, &v) ||
                 (negative ? __builtin_sub_overflow(v, (int64_t)d, &v)
                           : __builtin_add_overflow(v, (int64_t)d, &v));
    }
    if (!digit)
        return JJ_NOT_A_NUMBER;
    *out = v;
    return large ? JJ_TOO_LARGE : JJ_PARSED;
}

bool jj_parse_float(struct str s, double *out)
{
    char text[400];
    size_t n = 0, digits = 0;
    s = trimmed(s);
    size_t i = 0;
    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    if (s.p[i] == '-' || s.p[i] == '+')
        text[n++] = s.p[i++];
    struct str word = {s.p + i, s.n - i};
    static const char *const words[] = {"inf", "infinity", "nan"};
    for (size_t w = 0; w < 3; w++)
        if (word.n == strlen(words[w]) && strncasecmp(word.p, words[w], word.n) == 0) {
            *out = w == 2 ? NAN : text[0] == '-' && n ? -INFINITY : INFINITY;
            return true;
        }
    for (; i < s.n; i++) { /* digits with single underscores inside, one point, an exponent */
        char c = s.p[i];
        bool digit = c >= '0' && c <= '9';
        bool between = i > 0 && i + 1 < s.n && s.p[i - 1] >= '0' && s.p[i - 1] <= '9' &&
                       s.p[i + 1] >= '0' && s.p[i + 1] <= '9';
        if (c == '_' && between)
            continue;
        if (!digit && !strchr(".eE+-", c))
            return false;
        digits += digit;
        text[n++] = c;
    }
    text[n] = '\0';
    char *end;
    *out = strtod(text, &end);
    return digits && *end == '\0';
}

bool jj_to_double(struct jj_value v, double *out)
{
    if (jj_is_number(v))
        return *out = jj_as_f64(v), true;
    if (v.kind == JJ_STR || v.kind == JJ_BIG)
        return jj_parse_float(jj_s(v), out);
    return false;
}

/* --- filters ------------------------------------------------------------------------- */

static struct jj_value int_of_double(struct jj_render *r, double v)
{
    if (v > -9223372036854775808.0 && v < 9223372036854775808.0)
        return jj_int((int64_t)v);
    jj_unsupported(r, "an integer beyond 64 bits");
    return jj_int(0);
}

JJ_FILTER_FN(jj_f_int)
{
    struct jj_value absent = a[0].kind == JJ_MISSING ? jj_int(0) : a[0];
    int64_t base = a[1].kind == JJ_MISSING ? 10 : jj_is_int(a[1]) ? jj_as_int(a[1]) : -1, v = 0;
    double f;
    (void)c;
    if (in.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, in);
    if (jj_failed(r) || in.kind == JJ_BIG)
        return in;
    if (jj_is_int(in))
        return jj_int(jj_as_int(in));
    if (in.kind == JJ_FLOAT && isinf(in.f)) {
        jj_fail(r, "infinity cannot become an integer");
        return in;
    }
    if (in.kind == JJ_STR && (base == 0 || (base >= 2 && base <= 36))) {
        enum jj_parsed p = jj_parse_int(jj_s(in), (int)base, &v);
        if (p == JJ_TOO_LARGE)
            jj_unsupported(r, "an integer beyond 64 bits");
        if (p != JJ_NOT_A_NUMBER)
            return jj_int(v);
    }
    return jj_to_double(in, &f) && isfinite(f) ? int_of_double(r, f) : absent;
}

JJ_FILTER_FN(jj_f_float)
{
    double f;
    (void)c;
    if (in.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, in);
    if (jj_to_double(in, &f))
        return jj_float(f);
    return a[0].kind == JJ_MISSING ? jj_float(0) : a[0];
}

JJ_FILTER_FN(jj_f_abs)
{
    (void)a, (void)c;
    if (in.kind == JJ_FLOAT)
        return jj_float(fabs(in.f));
    if (jj_is_int(in))
        return jj_as_int(in) < 0 ? jj_negate(r, in) : jj_int(jj_as_int(in));
    if (in.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, in);
    else
        jj_fail(r, "abs takes a number, not '%s'", jj_type_name(in));
    return in;
}

/* Python's round(): half to even on the exact decimal value, which is what printf does. */
static double round_double(double v, int64_t precision)
{
    char text[800];
    if (!isfinite(v) || precision > 330)
        return v;
    if (precision < -330)
        return copysign(0.0, v);
    if (precision >= 0) {
        snprintf(text, sizeof(text), "%.*f", (int)precision, v);
        return strtod(text, NULL);
    }
    double scale = pow(10, (double)-precision),
           q = v / scale; /* exact enough: scale is a power of ten below 1e23 */
    return nearbyint(q) * scale;
}

static struct jj_value round_int(struct jj_render *r, int64_t v, int64_t precision)
{
    if (precision >= 0)
        return jj_int(v);
    if (precision < -18)
        return jj_int(0);
    int64_t scale = 1;
    for (int64_t i = precision; i < 0; i++)
        scale *= 10;
    int64_t rest = v % scale, low = v - rest, twice;
    if (rest < 0) {
        rest += scale;
        low -= scale;
    }
    twice = rest - (scale - rest);
    bool up = twice > 0 || (twice == 0 && (low / scale) % 2 != 0);
    (void)r;
    return jj_int(up ? low + scale : low);
}

JJ_FILTER_FN(jj_f_round)
{
    int64_t precision = a[0].kind == JJ_MISSING ? 0 : jj_is_int(a[0]) ? jj_as_int(a[0]) : INT64_MAX;
    struct str method = a[1].kind == JJ_STR       ? jj_s(a[1])
                        : a[1].kind == JJ_MISSING ? STR("common")
                                                  : STR("");
    (void)c;
    if (precision > 1000 || precision < -1000)
        jj_fail(r, "round takes a precision from -1000 to 1000");
    else if (!str_is(method, "common") && !str_is(method, "ceil") && !str_is(method, "floor"))
        jj_fail(r, "round: the method must be common, ceil or floor");
    else if (in.kind == JJ_UNDEFINED)
        jj_fail_undefined(r, in);
    else if (!jj_is_number(in))
        jj_fail(r, "round takes a number, not '%s'", jj_type_name(in));
    if (jj_failed(r))
        return in;
    if (str_is(method, "common"))
        return in.kind == JJ_FLOAT ? jj_float(round_double(in.f, precision))
                                   : round_int(r, jj_as_int(in), precision);
    struct jj_value scale = jj_binary(r, OP_POW, jj_int(10), jj_int(precision));
    struct jj_value v = jj_binary(r, OP_MUL, in, scale);
    if (jj_failed(r))
        return in;
    if (v.kind == JJ_FLOAT && !isfinite(v.f))
        jj_fail(r, "infinity cannot be rounded");
    else if (v.kind == JJ_FLOAT)
        v = int_of_double(r, method.p[0] == 'c' ? ceil(v.f) : floor(v.f));
    return jj_failed(r) ? in : jj_binary(r, OP_DIV, v, scale);
}
