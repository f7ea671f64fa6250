/* select.h - the best part of a vocabulary without sorting it.
 *
 * Order is (z descending, index ascending), a total order: ties are never left to chance. The
 * values are thrown into bins by z; whole bins are taken from the top, and only the bin on the
 * border is put in order, by a heap, as far as needed. Cost: two passes over n and a little. */
#ifndef MILLRACE_WORKER_SAMPLE_SELECT_H
#define MILLRACE_WORKER_SAMPLE_SELECT_H

#include <stdint.h>

enum { SELECT_BINS = 2048 };

struct select_scratch {
    double mass[SELECT_BINS];
};

/* The shortest prefix, in that order, whose mass reaches `target`; at least one element; all of
 * them when the target is never reached. Mass of element i is w[i], or 1 each when w is NULL. z[n]:
 * at most 0, the greatest is 0; -inf is allowed.  keep: out, room for n: indices, ascending.
 * Returns their number, at least 1 for n >= 1. */
uint32_t select_prefix(const float *z, const float *w, uint32_t n, double target, int32_t *keep,
                       struct select_scratch *scratch);

/* The k greatest of x[0..n) in order, best first, into out[k]; k small (a scan with insertion).
 * Returns min(k, n). */
uint32_t select_best(const float *x, uint32_t n, uint32_t k, int32_t *out);

#endif
