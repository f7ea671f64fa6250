/* decimal.c - numbers digit by digit. */
#include "worker/grammar/decimal.h"

#include <string.h>

enum { WHOLE_MAX = 16, FRAC_MAX = 16, DOUBLE_DIGITS = 15 };

bool decimal_parse(struct str text, struct decimal *out)
{
    uint8_t digits[2 * DECIMAL_DIGITS];
    int n = 0, point = -1;
    long exponent = 0;
    size_t i = 0;
    *out = (struct decimal){0};
    if (i < text.n && text.p[i] == '-') {
        out->neg = true;
        i++;
    }
    for (; i < text.n && (text.p[i] | 32) != 'e'; i++) {
        if (text.p[i] == '.') {
            point = n;
            continue;
        }
        if (text.p[i] < '0' || text.p[i] > '9' || n == 2 * DECIMAL_DIGITS)
            return false;
        digits[n++] = (uint8_t)(text.p[i] - '0');
    }
    if (i < text.n) {
        bool minus = ++i < text.n && text.p[i] == '-';
        i += i < text.n && (text.p[i] == '-' || text.p[i] == '+');
        for (; i < text.n; i++) {
            if (text.p[i] < '0' || text.p[i] > '9' || exponent > 1000)
                return false;
            exponent = exponent * 10 + (text.p[i] - '0');
        }
        exponent = minus ? -exponent : exponent;
    }
    long at = (point < 0 ? n : point) + exponent; /* digits before this place are whole */
    int from = 0;
    while (n > 0 && digits[n - 1] == 0)
        n--;
    while (from < n && digits[from] == 0)
        from++;
    if (from == n) {
        out->neg = false;
        return true;
    }
    if (at - from > DECIMAL_DIGITS || n - at > DECIMAL_DIGITS || at - from < -DECIMAL_DIGITS)
        return false;
    for (long k = from; k < at; k++)
        out->whole[out->n_whole++] = k < n ? digits[k] : 0;
    for (long k = at; k < n; k++)
        out->frac[out->n_frac++] = k < from ? 0 : digits[k];
    return true;
}

static int compare_size(const struct decimal *a, const struct decimal *b)
{
    if (a->n_whole != b->n_whole)
        return a->n_whole < b->n_whole ? -1 : 1;
    int c = memcmp(a->whole, b->whole, (size_t)a->n_whole);
    int n = a->n_frac < b->n_frac ? a->n_frac : b->n_frac;
    if (c == 0)
        c = memcmp(a->frac, b->frac, (size_t)n);
    return c ? c : (a->n_frac > b->n_frac) - (a->n_frac < b->n_frac);
}

int decimal_compare(const struct decimal *a, const struct decimal *b)
{
    if (a->neg != b->neg)
        return a->neg ? -1 : 1;
    return a->neg ? compare_size(b, a) : compare_size(a, b);
}

bool decimal_is_whole(const struct decimal *a)
{
    return a->n_frac == 0;
}

void range_at_least(struct number_range *r, const struct decimal *d, bool open)
{
    int c = r->has_lo ? decimal_compare(d, &r->lo) : 1;
    if (c > 0) {
        r->lo = *d;
        r->lo_open = open;
    } else if (c == 0) {
        r->lo_open |= open;
    }
    r->has_lo = true;
}

void range_at_most(struct number_range *r, const struct decimal *d, bool open)
{
    int c = r->has_hi ? decimal_compare(d, &r->hi) : -1;
    if (c < 0) {
        r->hi = *d;
        r->hi_open = open;
    } else if (c == 0) {
        r->hi_open |= open;
    }
    r->has_hi = true;
}

bool range_has(const struct number_range *r, const struct decimal *d)
{
    int lo = r->has_lo ? decimal_compare(d, &r->lo) : 1;
    int hi = r->has_hi ? decimal_compare(d, &r->hi) : -1;
    return lo >= r->lo_open && hi <= -r->hi_open;
}

/* ---- expressions over digits */

static const struct expr *digits(struct expr_grammar *g, int lo, int hi)
{
    return lo > hi ? expr_never(g) : expr_byte_range(g, (uint8_t)('0' + lo), (uint8_t)('0' + hi));
}

static const struct expr *any_digits(struct expr_grammar *g, int min, int max)
{
    return expr_repeat(g, digits(g, 0, 9), (uint32_t)min, (uint32_t)max);
}

/* Digit strings of length n between a and b (NULL: no bound), which have that length too. */
static const struct expr *between(struct expr_grammar *g, const uint8_t *a, const uint8_t *b, int n)
{
    if (n == 0)
        return expr_empty(g);
    if (!a && !b)
        return any_digits(g, n, n);
    int lo = a ? a[0] : 0, hi = b ? b[0] : 9;
    const uint8_t *a1 = a ? a + 1 : NULL, *b1 = b ? b + 1 : NULL;
    if (lo == hi)
        return expr_seq2(g, digits(g, lo, lo), between(g, a1, b1, n - 1));
    struct expr_list l = {0};
    if (a)
        expr_push(g, &l, expr_seq2(g, digits(g, lo, lo), between(g, a1, NULL, n - 1)));
    expr_push(g, &l,
              expr_seq2(g, digits(g, a ? lo + 1 : 0, b ? hi - 1 : 9), any_digits(g, n - 1, n - 1)));
    if (b)
        expr_push(g, &l, expr_seq2(g, digits(g, hi, hi), between(g, NULL, b1, n - 1)));
    return expr_alt(g, l.items, l.n);
}

/* Whole numbers from a (not 0) to b (NULL: none) as written; at most max digits. */
static const struct expr *wholes(struct expr_grammar *g, const uint8_t *a, int na, const uint8_t *b,
                                 int nb, int max)
{
    static const uint8_t power[DECIMAL_DIGITS + 1] = {1};
    struct expr_list l = {0};
    int last = b ? nb : na > max ? na : max;
    for (int n = na; n <= last; n++)
        expr_push(g, &l, between(g, n == na ? a : power, b && n == nb ? b : NULL, n));
    return expr_alt(g, l.items, l.n);
}

/* The whole part of d itself. */
static const struct expr *whole_of(struct expr_grammar *g, const struct decimal *d)
{
    return d->n_whole ? between(g, d->whole, d->whole, d->n_whole) : digits(g, 0, 0);
}

/* ---- fractions: strings of min..max digits behind the point; what is not written is 0 */

static const struct expr *with_point(struct expr_grammar *g, const struct expr *some)
{
    return expr_seq2(g, expr_lit(g, "."), some);
}

/* Of value at least (above, where open) the n digits at d. */
static const struct expr *frac_from(struct expr_grammar *g, const uint8_t *d, int n, bool open,
                                    int min, int max)
{
    if (n == 0 && !open)
        return any_digits(g, min, max);
    if (max == 0)
        return expr_never(g);
    int d0 = n ? d[0] : 0, n1 = n ? n - 1 : 0;
    return expr_alt2(
        g, expr_seq2(g, digits(g, d0 + 1, 9), any_digits(g, 0, max - 1)),
        expr_seq2(g, digits(g, d0, d0), frac_from(g, n ? d + 1 : d, n1, open, 0, max - 1)));
}

/* Of value at most (below, where open) the n digits at d. */
static const struct expr *frac_to(struct expr_grammar *g, const uint8_t *d, int n, bool open,
                                  int min, int max)
{
    if (n == 0)
        return open ? expr_never(g) : expr_repeat(g, digits(g, 0, 0), (uint32_t)min, (uint32_t)max);
    const struct expr *l[3] = {min ? expr_never(g) : expr_empty(g), expr_never(g), expr_never(g)};
    if (max > 0) {
        l[1] = expr_seq2(g, digits(g, 0, d[0] - 1), any_digits(g, 0, max - 1));
        l[2] = expr_seq2(g, digits(g, d[0], d[0]), frac_to(g, d + 1, n - 1, open, 0, max - 1));
    }
    return expr_alt(g, l, 3);
}

/* Both. */
static const struct expr *frac_between(struct expr_grammar *g, const uint8_t *a, int na,
                                       bool a_open, const uint8_t *b, int nb, bool b_open, int min,
                                       int max)
{
    if (na == 0 && !a_open)
        return frac_to(g, b, nb, b_open, min, max);
    if (nb == 0 || max == 0) /* above 0 and at most 0; or no digits left to be above */
        return expr_never(g);
    int lo = na ? a[0] : 0, hi = b[0];
    const uint8_t *a1 = na ? a + 1 : a;
    int na1 = na ? na - 1 : 0;
    if (lo > hi)
        return expr_never(g);
    if (lo == hi)
        return expr_seq2(g, digits(g, lo, lo),
                         frac_between(g, a1, na1, a_open, b + 1, nb - 1, b_open, 0, max - 1));
    const struct expr *l[3] = {
        expr_seq2(g, digits(g, lo, lo), frac_from(g, a1, na1, a_open, 0, max - 1)),
        expr_seq2(g, digits(g, lo + 1, hi - 1), any_digits(g, 0, max - 1)),
        expr_seq2(g, digits(g, hi, hi), frac_to(g, b + 1, nb - 1, b_open, 0, max - 1))};
    return expr_alt(g, l, 3);
}

static bool is_zero(const struct decimal *d)
{
    return d->n_whole == 0 && d->n_frac == 0;
}

/* After a whole part that equals that of lo, of hi, or of both (NULL: not of that one). */
static const struct expr *after_whole(struct expr_grammar *g, const struct decimal *lo,
                                      bool lo_open, const struct decimal *hi, bool hi_open, int max)
{
    bool bare = !(lo && (lo->n_frac > 0 || lo_open)) && !(hi && hi->n_frac == 0 && hi_open);
    const struct expr *f, *nothing = bare ? expr_empty(g) : expr_never(g);
    if (max == 0)
        return nothing;
    if (lo && hi)
        f = frac_between(g, lo->frac, lo->n_frac, lo_open, hi->frac, hi->n_frac, hi_open, 1, max);
    else if (lo)
        f = frac_from(g, lo->frac, lo->n_frac, lo_open, 1, max);
    else
        f = frac_to(g, hi->frac, hi->n_frac, hi_open, 1, max);
    return expr_alt2(g, nothing, with_point(g, f));
}

/* The whole part of d, plus or minus 1. */
static struct decimal whole_step(const struct decimal *d, int by)
{
    struct decimal r = {.n_whole = d->n_whole};
    int carry = by;
    memcpy(r.whole, d->whole, sizeof(r.whole));
    for (int i = r.n_whole - 1; i >= 0 && carry; i--) {
        int v = r.whole[i] + carry;
        carry = v < 0 ? -1 : v > 9;
        r.whole[i] = (uint8_t)(v < 0 ? 9 : v > 9 ? 0 : v);
    }
    if (carry > 0 && r.n_whole < DECIMAL_DIGITS) {
        memmove(r.whole + 1, r.whole, (size_t)r.n_whole++);
        r.whole[0] = 1;
    } else if (r.n_whole && r.whole[0] == 0) {
        memmove(r.whole, r.whole + 1, (size_t)--r.n_whole);
    }
    return r;
}

/* Numbers of size between lo and hi, both >= 0; hi NULL: no bound. */
static const struct expr *sizes(struct expr_grammar *g, const struct decimal *lo, bool lo_open,
                                const struct decimal *hi, bool hi_open, bool integer, int max_frac)
{
    int n = hi && hi->n_whole > lo->n_whole ? hi->n_whole : lo->n_whole;
    int frac = integer ? 0 : FRAC_MAX;
    /* Rounding to a double keeps the order, but two neighbours may become one: that only matters
     * beside a bound that is outside. */
    if (frac && (lo_open || hi_open))
        frac = n < DOUBLE_DIGITS ? DOUBLE_DIGITS - (n ? n : 1) : 0;
    if (max_frac >= 0 && frac > max_frac)
        frac = max_frac;
    if (hi && decimal_compare(lo, hi) > 0)
        return expr_never(g);
    if (hi && lo->n_whole == hi->n_whole && memcmp(lo->whole, hi->whole, (size_t)lo->n_whole) == 0)
        return expr_seq2(g, whole_of(g, lo), after_whole(g, lo, lo_open, hi, hi_open, frac));
    const struct expr *l[3] = {
        expr_seq2(g, whole_of(g, lo), after_whole(g, lo, lo_open, NULL, false, frac)),
        expr_never(g), expr_never(g)};
    struct decimal from = whole_step(lo, 1), to = {0};
    if (hi) {
        to = whole_step(hi, -1);
        l[2] = expr_seq2(g, whole_of(g, hi), after_whole(g, NULL, false, hi, hi_open, frac));
    }
    if (!hi || decimal_compare(&from, &to) <= 0)
        l[1] = expr_seq2(
            g, wholes(g, from.whole, from.n_whole, hi ? to.whole : NULL, to.n_whole, WHOLE_MAX),
            frac ? expr_optional(g, with_point(g, any_digits(g, 1, frac))) : expr_empty(g));
    return expr_alt(g, l, 3);
}

static const struct expr *free_number(struct expr_grammar *g, bool integer, int max_frac)
{
    const struct expr *parts[4];
    int frac = integer ? 0 : max_frac >= 0 && max_frac < FRAC_MAX ? max_frac : FRAC_MAX;
    const struct expr *sign = expr_optional(g, expr_lit(g, "-"));
    parts[0] = sign;
    parts[1] = expr_alt2(g, digits(g, 0, 0),
                         expr_seq2(g, digits(g, 1, 9), any_digits(g, 0, WHOLE_MAX - 1)));
    parts[2] = frac > 0 ? expr_optional(g, with_point(g, any_digits(g, 1, frac))) : expr_empty(g);
    const struct expr *exponent[3] = {
        expr_alt2(g, expr_lit(g, "e"), expr_lit(g, "E")),
        expr_optional(g, expr_alt2(g, expr_lit(g, "-"), expr_lit(g, "+"))), any_digits(g, 1, 2)};
    parts[3] =
        integer || max_frac >= 0 ? expr_empty(g) : expr_optional(g, expr_seq(g, exponent, 3));
    return expr_seq(g, parts, 4);
}

const struct expr *number_expr(struct expr_grammar *g, const struct number_range *r, bool integer,
                               int max_frac)
{
    static const struct decimal zero = {0};
    if (!r->has_lo && !r->has_hi)
        return free_number(g, integer, max_frac);
    struct decimal lo = r->lo, hi = r->hi;
    struct expr_list l = {0};
    if (!r->has_hi || !hi.neg) { /* numbers from 0 up */
        bool from_lo = r->has_lo && !lo.neg;
        if (!(r->has_hi && is_zero(&hi) && r->hi_open))
            expr_push(g, &l,
                      sizes(g, from_lo ? &lo : &zero, from_lo && r->lo_open, r->has_hi ? &hi : NULL,
                            r->hi_open, integer, max_frac));
    }
    if (!r->has_lo || lo.neg) { /* a minus, and the size: the bounds change places */
        bool to_hi = r->has_hi && hi.neg;
        bool no_zero = r->has_hi && (to_hi || (is_zero(&hi) && r->hi_open));
        lo.neg = hi.neg = false;
        expr_push(g, &l,
                  expr_seq2(g, expr_lit(g, "-"),
                            sizes(g, to_hi ? &hi : &zero, to_hi ? r->hi_open : no_zero,
                                  r->has_lo ? &lo : NULL, r->lo_open, integer, max_frac)));
    }
    return expr_alt(g, l.items, l.n);
}

const struct expr *multiples_expr(struct expr_grammar *g, unsigned n, bool positive)
{
    /* A rule per remainder and number of digits that may follow; it may end where the remainder is
     * 0. Doubles hold whole numbers of that length exactly. */
    uint32_t rows[2][MULTIPLES_MAX], *row = rows[0], *below = rows[1];
    for (int left = 0; left < DOUBLE_DIGITS; left++) {
        for (unsigned r = 0; r < n; r++) {
            struct expr_list l = {0};
            if (r == 0)
                expr_push(g, &l, expr_empty(g));
            for (int d = 0; left && d < 10; d++)
                expr_push(
                    g, &l,
                    expr_seq2(g, digits(g, d, d), expr_rule(g, below[(r * 10 + (unsigned)d) % n])));
            row[r] = expr_rule_declare(g);
            expr_rule_define(g, row[r], expr_alt(g, l.items, l.n));
        }
        uint32_t *swap = row;
        row = below;
        below = swap;
    }
    struct expr_list l = {0};
    expr_push(g, &l, digits(g, 0, 0));
    for (int d = 1; d < 10; d++)
        expr_push(g, &l, expr_seq2(g, digits(g, d, d), expr_rule(g, below[(unsigned)d % n])));
    const struct expr *some = expr_alt(g, l.items, l.n);
    return positive ? some : expr_seq2(g, expr_optional(g, expr_lit(g, "-")), some);
}
