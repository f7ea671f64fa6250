/* philox.h - Philox4x32-10: random numbers as a pure function of (key, counter).
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
 *
 * Why not a stream: a job that moves to another worker in mid-sentence must draw for token 57 what
 * it would have drawn here. With a counter there is no state to carry over. */
#ifndef MILLRACE_WORKER_SAMPLE_PHILOX_H
#define MILLRACE_WORKER_SAMPLE_PHILOX_H

#include <stdint.h>

struct philox_block {
    uint32_t v[4];
};

static inline struct philox_block philox4x32(struct philox_block counter, uint64_t key)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    struct philox_block c = counter;
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.v[0], p1 = (uint64_t)0xCD9E8D57u * c.v[2];
        c = (struct philox_block){{
            (uint32_t)(p1 >> 32) ^ c.v[1] ^ k0,
            (uint32_t)p1,
            (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1,
            (uint32_t)p0,
        }};
        k0 += 0x9E3779B9u; /* golden ratio, sqrt(3)-1: the paper's Weyl keys */
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* Uniform in [0, 1), 53 bits, for one token of one choice. */
static inline double philox_uniform(uint64_t seed, uint32_t choice, uint32_t position)
{
    struct philox_block b = philox4x32((struct philox_block){{position, choice, 0, 0}}, seed);
    uint64_t bits = ((uint64_t)b.v[0] << 32 | b.v[1]) >> 11;
    return (double)bits * 0x1p-53;
}

#endif
