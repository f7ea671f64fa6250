/* random.h - random but valid blocks of any type, for models that exist to be loaded and timed.
 *
 * Promise: the weights have mean zero and about the standard deviation asked for, every scale is
 * finite, every code of the format occurs; the same state gives the same bytes. Cost: about a
 * gigabyte a second. Thread: no shared state. */
#ifndef MILLRACE_WORKER_QUANT_RANDOM_H
#define MILLRACE_WORKER_QUANT_RANDOM_H

#include "worker/quant/qtype.h"

/* xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64. */
struct qrandom {
    uint64_t s[4];
};

void qrandom_seed(struct qrandom *r, uint64_t seed);
uint64_t qrandom_u64(struct qrandom *r);
float qrandom_unit(struct qrandom *r); /* [-1, 1) */

/* Fills n elements (a multiple of the type's block) of a type that dequantizes. */
void qrandom_blocks(void *dst, enum qtype type, size_t n, float std, struct qrandom *r);

#endif
