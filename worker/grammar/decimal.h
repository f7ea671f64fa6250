/* decimal.h - exact decimal numbers, and expressions for the numbers of a range.
 *
 * Bounds are compared as text, digit by digit, so that 0.1 means 0.1. Thread: no shared state. */
#ifndef MILLRACE_WORKER_GRAMMAR_DECIMAL_H
#define MILLRACE_WORKER_GRAMMAR_DECIMAL_H

#include "worker/grammar/expr.h"

enum { DECIMAL_DIGITS = 64 };

struct decimal { /* (-1)^neg * whole.frac; digits 0..9, no leading zeros, no trailing ones */
    bool neg;    /* never for zero */
    int n_whole, n_frac;
    uint8_t whole[DECIMAL_DIGITS], frac[DECIMAL_DIGITS];
};

/* From the spelling of a JSON number. False: more digits than fit. */
bool decimal_parse(struct str text, struct decimal *out);
int decimal_compare(const struct decimal *a, const struct decimal *b);
bool decimal_is_whole(const struct decimal *a);

struct number_range {
    bool has_lo, has_hi, lo_open, hi_open; /* open: the bound itself is outside */
    struct decimal lo, hi;
};

/* Narrows `r` by a bound. */
void range_at_least(struct number_range *r, const struct decimal *d, bool open);
void range_at_most(struct number_range *r, const struct decimal *d, bool open);
bool range_has(const struct number_range *r, const struct decimal *d);

/* Numbers of the range as JSON spells them. Without bounds: integers of up to 16 digits; numbers
 * with up to 16 digits on each side of the point and an exponent of up to two. With bounds: no
 * exponent, and no more digits than a double keeps apart. max_frac: digits behind the point at most
 * (-1: no limit). */
const struct expr *number_expr(struct expr_grammar *g, const struct number_range *r, bool integer,
                               int max_frac);
enum { MULTIPLES_MAX = 1000 };
/* Integers that `n` divides, 1 <= n <= MULTIPLES_MAX, of up to 15 digits; at least 0 where
 * `positive`. */
const struct expr *multiples_expr(struct expr_grammar *g, unsigned n, bool positive);

#endif
