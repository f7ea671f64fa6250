/* select.c - bins, then a heap on the border bin. */
#include "worker/sample/select.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* z further below the best than this weighs less than 1.3e-14 of it: one bin for all of them. */
static const float SELECT_RANGE = 32.0f;

static inline uint32_t bin_of(float z, float scale)
{
    float b = -z * scale; /* monotone: rounding never swaps two bins */
    return b < (float)(SELECT_BINS - 1) ? (uint32_t)b : SELECT_BINS - 1;
}

static bool better(const float *z, int32_t a, int32_t b)
{
    return z[a] > z[b] || (z[a] == z[b] && a < b);
}

static void sift_down(const float *z, int32_t *heap, uint32_t n, uint32_t at)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && better(z, heap[child + 1], heap[child]))
            child++;
        if (!better(z, heap[child], heap[at]))
            return;
        int32_t t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
        at = child;
    }
}

/* Pops the best of heap[0..n) until their mass and `mass` reach the target; returns how many stay
 * behind in heap[0..): those that are not kept. */
static uint32_t pop_best(const float *z, const float *w, int32_t *heap, uint32_t n, double mass,
                         double target)
{
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(z, heap, n, i);
    bool first = true;
    while (n > 0 && (mass < target || (first && mass <= 0))) {
        first = false;
        mass += w ? (double)w[heap[0]] : 1.0;
        heap[0] = heap[--n];
        sift_down(z, heap, n, 0);
    }
    return n;
}

uint32_t select_prefix(const float *z, const float *w, uint32_t n, double target, int32_t *keep,
                       struct select_scratch *scratch)
{
    float lowest = 0;
    for (uint32_t i = 0; i < n; i++)
        lowest = z[i] < lowest ? z[i] : lowest;
    float range = -lowest < SELECT_RANGE ? -lowest : SELECT_RANGE;
    float scale = range > 1e-30f ? (float)(SELECT_BINS - 1) / range : 0.0f;

    memset(scratch->mass, 0, sizeof scratch->mass);
    for (uint32_t i = 0; i < n; i++)
        scratch->mass[bin_of(z[i], scale)] += w ? (double)w[i] : 1.0;
    uint32_t border = 0;
    double above = 0;
    while (border < SELECT_BINS - 1 && above + scratch->mass[border] < target)
        above += scratch->mass[border++];

    /* Border elements go to the end of `keep`; those that pop_best() leaves are the ones to drop.
     */
    uint32_t n_border = 0;
    for (uint32_t i = 0; i < n; i++)
        if (bin_of(z[i], scale) == border)
            keep[n_border++] = (int32_t)i;
    uint32_t n_drop = pop_best(z, w, keep, n_border, above, target);

    /* The worst of the kept decides: everything not worse than the best dropped one stays. */
    int32_t best_dropped = -1;
    for (uint32_t i = 0; i < n_drop; i++)
        if (best_dropped < 0 || better(z, keep[i], best_dropped))
            best_dropped = keep[i];
    uint32_t n_keep = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bin = bin_of(z[i], scale);
        if (bin < border ||
            (bin == border && (best_dropped < 0 || better(z, (int32_t)i, best_dropped))))
            keep[n_keep++] = (int32_t)i;
    }
    return n_keep;
}

uint32_t select_best(const float *x, uint32_t n, uint32_t k, int32_t *out)
{
    uint32_t have = 0;
    for (uint32_t i = 0; i < n && k > 0; i++) {
        if (have == k && !(x[i] > x[out[k - 1]]))
            continue;
        uint32_t at = have < k ? have++ : k - 1;
        while (at > 0 && x[i] > x[out[at - 1]]) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = (int32_t)i;
    }
    return have;
}
