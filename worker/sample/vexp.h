/* vexp.h - exp(x) for x <= 0, over arrays, for softmax over a vocabulary.
 *
 * Own arithmetic instead of libm's expf: the compiler vectorizes it, and the result depends on IEEE
 * single precision alone, not on the C library's version: two workers on two hosts draw the same
 * token. Relative error below 3e-7; x < -87 gives 0 (exp(-87) is 1.6e-38, the smallest normal
 * float). */
#ifndef MILLRACE_WORKER_SAMPLE_VEXP_H
#define MILLRACE_WORKER_SAMPLE_VEXP_H

#include <stdint.h>
#include <string.h>

enum { VEXP_LANES = 16 };

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2; exp(r) by its Taylor series to r^7,
 * whose rest is below 6e-9. */
static inline float vexp_one(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    /* Masks instead of ?: keep the loop free of branches, else it isn't vectorized. */
    int32_t in_range = -(int32_t)(x >= -87.0f), bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= in_range; /* 0.0f when out of range */
    float xc;
    memcpy(&xc, &bits, sizeof xc);
    float t = xc * 1.44269504f + magic;
    float n = t - magic;
    /* ln 2 in two parts: the first has few bits, so that n * part is exact */
    float r = xc - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits = ((int32_t)n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    p *= scale;
    memcpy(&bits, &p, sizeof bits);
    bits &= in_range;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* w[i] = exp(x[i]), VEXP_LANES of them; returns nothing to keep the loop free of a carried sum. */
static inline void vexp_lanes(float *restrict w, const float *restrict x)
{
    for (int i = 0; i < VEXP_LANES; i++)
        w[i] = vexp_one(x[i]);
}

#endif
