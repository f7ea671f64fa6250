/* schema_scalar.c - plain goals of strings and numbers. */
#include "worker/grammar/schema_parts.h"

#include <string.h>

#include "worker/grammar/decimal.h"
#include "worker/grammar/regex.h"

/* ---- formats: patterns of what RFC 3339, 4122, 5321 and so on allow, or a part of it */

#define DD31  "(0[1-9]|[12][0-9]|3[01])"
#define YEAR4 "(([02468][048]|[13579][26])00|[0-9]{2}(0[48]|[2468][048]|[13579][26]))"
#define DATE                                                                                       \
    "([0-9]{4}-((0[13578]|1[02])-" DD31 "|(0[469]|11)-(0[1-9]|[12][0-9]|30)"                       \
    "|02-(0[1-9]|1[0-9]|2[0-8]))|" YEAR4 "-02-29)"
#define HOUR  "([01][0-9]|2[0-3])"
#define TIME  HOUR ":[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" HOUR ":[0-5][0-9])"
#define LABEL "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4  OCTET "(\\." OCTET "){3}"
#define H16   "[0-9a-f]{1,4}"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"duration", "P([0-9]{1,9}W|([0-9]{1,9}Y)?([0-9]{1,9}M)?[0-9]{1,9}D|"
                 "([0-9]{1,9}D)?T([0-9]{1,9}H)?([0-9]{1,9}M)?[0-9]{1,9}S)"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"email", "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,30})?@(" LABEL "\\.){1,3}[a-z]{2,24}"},
    {"hostname", LABEL "(\\." LABEL "){0,3}"},
    {"ipv4", IPV4},
    {"ipv6", "(" H16 ":){7}" H16 "|(" H16 ":){1,6}(:" H16 ")|::(" H16 ":){0,6}" H16 "|::"},
    {"uri", "https?://(" LABEL "\\.){1,3}[a-z]{2,24}(:[1-9][0-9]{1,3})?(/[A-Za-z0-9._~-]*)*"
            "(\\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?"},
};

static const char *format_pattern(struct str name)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (str_is(name, formats[i].name))
            return formats[i].pattern;
    return NULL;
}

/* ---- strings */

const struct expr *string_expr(struct schema_ctx *c, const struct goal *p)
{
    uint32_t min = 0, max = EXPR_UNBOUNDED, n;
    const struct json *at = NULL;
    struct regex_result r = {0};
    for (int i = 0; i < p->n && !c->err; i++) {
        const struct json *s = p->s[i];
        if (schema_count(c, s, "minLength", &n) && n > min)
            min = n;
        if (schema_count(c, s, "maxLength", &n) && n < max)
            max = n;
        for (int k = 0; k < 2 && !c->err; k++) {
            const char *keyword = k ? "format" : "pattern";
            const struct json *v = json_get(s, keyword);
            if (!v)
                continue;
            if (v->kind != JSON_STRING)
                return schema_fail(c, ERR_INVALID, s, "'%s' must be a string", keyword);
            const char *known = k ? format_pattern(v->s) : NULL;
            if (k && !known)
                return schema_fail(c, ERR_UNSUPPORTED, s, "'format': \"%.*s\" is not supported",
                                   (int)(v->s.n > 60 ? 60 : v->s.n), v->s.p);
            if (at)
                return schema_fail(
                    c, ERR_UNSUPPORTED, s,
                    "'pattern' or 'format' more than once on one value is not supported");
            enum err e = regex_expr(c->g, k ? str_of(known) : v->s, TEXT_JSON, k == 1, &r, c->why);
            if (e) {
                struct errmsg why = *c->why;
                return schema_fail(c, e, s, "'%s': %.120s", keyword, why.text);
            }
            at = s;
        }
    }
    if (c->err)
        return NULL;
    if (at && (r.min < min || r.max > max)) {
        if (r.min > max || r.max < min)
            return expr_never(c->g);
        return schema_fail(
            c, ERR_UNSUPPORTED, at,
            "'minLength' or 'maxLength' beside a 'pattern' or 'format' that does not "
            "keep to it is not supported; put the length into the pattern");
    }
    if (!at && min == 0 && max == EXPR_UNBOUNDED)
        return json_any_string(&c->json);
    const struct expr *parts[3] = {expr_lit(c->g, "\""),
                                   at ? r.e : expr_repeat(c->g, json_char(c->g), min, max),
                                   expr_lit(c->g, "\"")};
    return expr_seq(c->g, parts, 3);
}

/* ---- numbers */

static bool bound(struct schema_ctx *c, const struct json *s, const char *key, struct decimal *out)
{
    const struct json *v = json_get(s, key);
    if (!v)
        return false;
    if (!json_is_number(v)) {
        schema_fail(c, ERR_INVALID, s, "'%s' must be a number", key);
        return false;
    }
    if (!decimal_parse(v->raw, out)) {
        schema_fail(c, ERR_RANGE, s, "'%s' has more than %d digits", key, DECIMAL_DIGITS);
        return false;
    }
    return true;
}

static struct number_range range_of(struct schema_ctx *c, const struct goal *p)
{
    struct number_range r = {0};
    struct decimal d;
    for (int i = 0; i < p->n && !c->err; i++) {
        if (bound(c, p->s[i], "minimum", &d))
            range_at_least(&r, &d, false);
        if (bound(c, p->s[i], "exclusiveMinimum", &d))
            range_at_least(&r, &d, true);
        if (bound(c, p->s[i], "maximum", &d))
            range_at_most(&r, &d, false);
        if (bound(c, p->s[i], "exclusiveMaximum", &d))
            range_at_most(&r, &d, true);
    }
    return r;
}

/* A whole number of at most 15 digits. */
static bool small_whole(const struct decimal *d, int64_t *out)
{
    *out = 0;
    if (d->n_frac || d->n_whole > 15)
        return false;
    for (int i = 0; i < d->n_whole; i++)
        *out = *out * 10 + d->whole[i];
    *out = d->neg ? -*out : *out;
    return true;
}

/* multipleOf: a power of ten below 1 limits the digits; a whole number is enumerated where the
 * range is short, and an automaton of remainders where there is none. */
static const struct expr *multiples(struct schema_ctx *c, const struct json *at,
                                    const struct decimal *step, const struct number_range *r,
                                    unsigned types)
{
    enum { LISTED_MAX = 2000 };
    struct expr_grammar *g = c->g;
    int64_t n, lo, hi;
    if (step->n_whole == 0 && step->n_frac && step->frac[step->n_frac - 1] == 1) {
        int i = 0;
        while (step->frac[i] == 0)
            i++;
        if (i == step->n_frac - 1)
            return number_expr(g, r, !(types & TYPE_FRACTION), step->n_frac);
    }
    if (small_whole(step, &n) && n == 1)
        return number_expr(g, r, true, -1);
    if (small_whole(step, &n) && n > 0 && r->has_lo && r->has_hi && small_whole(&r->lo, &lo) &&
        small_whole(&r->hi, &hi)) {
        lo += r->lo_open;
        hi -= r->hi_open;
        int64_t first = lo >= 0 ? (lo + n - 1) / n * n : -(-lo / n) * n;
        if (first > hi)
            return expr_never(g);
        if ((hi - first) / n < LISTED_MAX) {
            struct expr_list l = {0};
            for (int64_t v = first; v <= hi; v += n) {
                char text[24];
                size_t len = 0;
                struct buf b;
                buf_init(&b);
                buf_put_i64(&b, v);
                len = b.n < sizeof(text) ? b.n : 0;
                if (b.p)
                    memcpy(text, b.p, len);
                buf_fini(&b);
                expr_push(g, &l, expr_literal(g, (struct str){text, len}));
            }
            return expr_alt(g, l.items, l.n);
        }
    }
    bool positive = r->has_lo && r->lo.n_whole == 0 && r->lo.n_frac == 0 && !r->lo_open;
    if (small_whole(step, &n) && n > 0 && n <= MULTIPLES_MAX && !r->has_hi &&
        (positive || !r->has_lo))
        return multiples_expr(g, (unsigned)n, positive);
    return schema_fail(c, ERR_UNSUPPORTED, at,
                       "'multipleOf' is supported for powers of ten, for whole numbers up to 1000 "
                       "without bounds, and in short ranges");
}

const struct expr *numeric_expr(struct schema_ctx *c, const struct goal *p, unsigned types)
{
    struct number_range r = range_of(c, p);
    struct decimal step = {0}, d;
    const struct json *at = NULL;
    for (int i = 0; i < p->n && !c->err; i++) {
        if (!bound(c, p->s[i], "multipleOf", &d))
            continue;
        if (d.neg || (d.n_whole == 0 && d.n_frac == 0))
            return schema_fail(c, ERR_INVALID, p->s[i], "'multipleOf' must be above 0");
        if (at)
            return schema_fail(c, ERR_UNSUPPORTED, p->s[i],
                               "'multipleOf' more than once on one value is not supported");
        at = p->s[i];
        step = d;
    }
    if (c->err)
        return NULL;
    if (r.has_lo && r.has_hi && decimal_compare(&r.lo, &r.hi) > 0)
        return expr_never(c->g);
    if (at)
        return multiples(c, at, &step, &r, types);
    return number_expr(c->g, &r, !(types & TYPE_FRACTION), -1);
}
