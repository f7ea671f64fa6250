/* codebooks.h - the tables that the IQ formats and MXFP4 index.
 *
 * A grid entry is a group of eight (IQ2, IQ1) or four (IQ3) weights, each one of a few levels.
 * Entries are stored as codes: 2 bits per weight (three levels) or 3 bits (eight levels), weight j
 * at bit 2j or 3j, which is a quarter of the space of the expanded bytes and stays in the L1 cache.
 * Kernels that want bytes expand a grid once at start with codebook_expand8/4. Thread: constant
 * data. */
#ifndef MILLRACE_WORKER_QUANT_CODEBOOKS_H
#define MILLRACE_WORKER_QUANT_CODEBOOKS_H

#include <stddef.h>
#include <stdint.h>

extern const int8_t codebook_iq4[16]; /* IQ4_NL, IQ4_XS */
extern const int8_t
    codebook_fp4x2[16]; /* MXFP4: twice the E2M1 values, so that they are integers */

/* Grids have an entry more than there are, 0: gathers read 32 bits, which is two entries.
 * Eight weights of three levels: magnitudes for IQ2, values for IQ1. */
extern const uint16_t codebook_iq2_xxs[256 + 1];
extern const uint16_t codebook_iq2_xs[512 + 1];
extern const uint16_t codebook_iq2_s[1024 + 1];
extern const uint16_t codebook_iq1[2048 + 1];
extern const uint8_t codebook_iq2_level[4];
extern const int8_t codebook_iq1_level[4];

/* Four weights of eight magnitudes. */
extern const uint16_t codebook_iq3_xxs[256 + 1];
extern const uint16_t codebook_iq3_s[512 + 1];
extern const uint8_t codebook_iq3_xxs_level[8];
extern const uint8_t codebook_iq3_s_level[8];

/* Seven sign bits to eight: the number of negative weights in a group is even. Bit j set: weight j
 * is negative. */
static inline unsigned codebook_signs(unsigned seven)
{
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

/* grid[i] byte j = level of weight j of entry i (for codebook_iq1 pass the levels as bytes). */
void codebook_expand8(uint64_t *grid, const uint16_t *codes, size_t n, const uint8_t level[4]);
void codebook_expand4(uint32_t *grid, const uint16_t *codes, size_t n, const uint8_t level[8]);

#endif
