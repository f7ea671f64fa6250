/* decode_grid_c.c - decode_c.c, continued: types whose codes index a codebook, and ternary types.
 *
 * Values become bytes by an offset: the signed values of a codebook lie within it. IQ1 is coded
 * eightfold, since its values are whole numbers and eighths. The arithmetic of the scales is that
 * of dequantize (worker/quant), up to exact factors. */
#include "worker/cpu/decode.h"

#include <string.h>

#include "worker/quant/blocks.h"
#include "worker/quant/codebooks.h"
#include "worker/quant/qtype.h"

// clang-format off
const uint8_t u_iq4[16]     = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}; /* + 128 */
const uint8_t u_fp4[16]     = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};               /* + 12 */
const uint8_t u_iq2[16]     = {72, 89, 107, 64, 56, 39, 21, 64};                                         /* + 64 */
const uint8_t u_iq1[16]     = {9, 17, 25, 17, 7, 15, 23, 15};                                            /* + 16 */
const uint8_t u_iq3_xxs[16] = {68, 76, 84, 92, 100, 108, 116, 126, 60, 52, 44, 36, 28, 20, 12, 2};       /* + 64 */
const uint8_t u_iq3_s[16]   = {17, 19, 21, 23, 25, 27, 29, 31, 15, 13, 11, 9, 7, 5, 3, 1};               /* + 16 */
// clang-format on
const uint8_t u_e8m0_low[16] = {0x20, 0x40};

/* 16 bytes of nibbles: the low ones first. */
static void lookup_32(const uint8_t *qs, const uint8_t *table, uint8_t *u)
{
    for (int j = 0; j < 16; j++) {
        u[j] = table[qs[j] & 15];
        u[j + 16] = table[qs[j] >> 4];
    }
}

void decode_iq4_nl(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq4_nl *b = (const void *)block;
    s[0] = f16_to_f32(b->d);
    lookup_32(b->qs, u_iq4, u);
}

void decode_mxfp4(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_mxfp4 *b = (const void *)block;
    uint32_t bits = b->e < 2 ? (uint32_t)u_e8m0_low[b->e] << 16 : (uint32_t)(b->e - 1) << 23;
    memcpy(s, &bits, 4);
    lookup_32(b->qs, u_fp4, u);
}

void decode_iq4_xs(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq4_xs *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        int scale = (b->scales_l[g / 2] >> (4 * (g % 2)) & 15) | (b->scales_h >> (2 * g) & 3) << 4;
        s[g] = d * (float)(scale - 32);
        lookup_32(b->qs + 16 * g, u_iq4, u + 32 * g);
    }
}

/* Eight weights of two bits, bit j of above over code j. */
static void grid_8(uint8_t *u, unsigned code, unsigned above, const uint8_t *table)
{
    for (int j = 0; j < 8; j++)
        u[j] = table[(code >> (2 * j) & 3) | (above >> j & 1) << 2];
}

/* Four weights of three bits. */
static void grid_4(uint8_t *u, unsigned code, unsigned signs, const uint8_t *table)
{
    for (int j = 0; j < 4; j++)
        u[j] = table[(code >> (3 * j) & 7) | (signs >> j & 1) << 3];
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float half_scale(float d, unsigned n, float unit)
{
    return d * (0.5f + (float)n) * unit;
}

void decode_iq2_xxs(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq2_xxs *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        const uint8_t *q = b->qs + 8 * g;
        uint32_t tail = load_u32(q + 4);
        s[g] = half_scale(d, tail >> 28, 0.25f);
        for (int i = 0; i < 4; i++)
            grid_8(u + 32 * g + 8 * i, codebook_iq2_xxs[q[i]],
                   codebook_signs(tail >> (7 * i) & 127), u_iq2);
    }
}

void decode_iq2_xs(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq2_xs *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 16; g++)
        s[g] = half_scale(d, b->scales[g / 2] >> (4 * (g % 2)) & 15, 0.25f);
    for (int i = 0; i < 32; i++)
        grid_8(u + 8 * i, codebook_iq2_xs[b->qs[i] & 511], codebook_signs(b->qs[i] >> 9), u_iq2);
}

void decode_iq2_s(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq2_s *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 16; g++)
        s[g] = half_scale(d, b->scales[g / 2] >> (4 * (g % 2)) & 15, 0.25f);
    for (int i = 0; i < 32; i++) {
        unsigned index = b->qs[i] | (unsigned)(b->qh[i / 4] >> (2 * (i % 4)) & 3) << 8;
        grid_8(u + 8 * i, codebook_iq2_s[index], b->signs[i], u_iq2);
    }
}

void decode_iq3_xxs(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq3_xxs *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        uint32_t tail = load_u32(b->scales_signs + 4 * g);
        s[g] = half_scale(d, tail >> 28, 0.5f);
        for (int i = 0; i < 8; i++) {
            unsigned signs = codebook_signs(tail >> (7 * (i / 2)) & 127) >> (4 * (i % 2));
            grid_4(u + 32 * g + 4 * i, codebook_iq3_xxs[b->qs[8 * g + i]], signs, u_iq3_xxs);
        }
    }
}

void decode_iq3_s(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq3_s *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        s[g] = d * (float)(1 + 2 * (b->scales[g / 2] >> (4 * (g % 2)) & 15));
        for (int i = 0; i < 8; i++) {
            unsigned index = b->qs[8 * g + i] | (unsigned)(b->qh[g] >> i & 1) << 8;
            grid_4(u + 32 * g + 4 * i, codebook_iq3_s[index],
                   b->signs[4 * g + i / 2] >> (4 * (i % 2)), u_iq3_s);
        }
    }
}

void decode_iq1_s(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq1_s *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        unsigned qh = b->qh[g];
        s[g] = d * (float)(2 * (qh >> 12 & 7) + 1) * 0.125f;
        for (int i = 0; i < 4; i++) {
            unsigned index = b->qs[4 * g + i] | (qh >> (3 * i) & 7) << 8;
            grid_8(u + 32 * g + 8 * i, codebook_iq1[index], qh >> 15 ? 0xff : 0, u_iq1);
        }
    }
}

void decode_iq1_m(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_iq1_m *b = (const void *)block;
    unsigned word[4], half = 0;
    for (int i = 0; i < 4; i++) {
        word[i] = b->scales[2 * i] | (unsigned)b->scales[2 * i + 1] << 8;
        half |= (word[i] >> 12) << (4 * i);
    }
    float d = f16_to_f32((uint16_t)half);
    for (int g = 0; g < 16; g++)
        s[g] = d * (float)(2 * (word[g / 4] >> (3 * (g % 4)) & 7) + 1) * 0.125f;
    for (int i = 0; i < 32; i++) {
        unsigned high = b->qh[i / 2] >> (4 * (i % 2));
        grid_8(u + 8 * i, codebook_iq1[b->qs[i] | (high & 7) << 8], high & 8 ? 0xff : 0, u_iq1);
    }
}

/* The digits of n bytes, digit by digit; see worker/quant/ternary.c. */
static uint8_t *take_digits(uint8_t *u, const uint8_t *bytes, int n, int n_digits)
{
    unsigned power = 1;
    for (int k = 0; k < n_digits; k++, power *= 3)
        for (int i = 0; i < n; i++)
            *u++ = (uint8_t)((bytes[i] * power & 0xff) * 3 >> 8);
    return u;
}

void decode_tq1_0(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_tq1_0 *b = (const void *)block;
    for (int g = 0; g < 8; g++)
        s[g] = f16_to_f32(b->d);
    u = take_digits(u, b->qs, 32, 5);
    u = take_digits(u, b->qs + 32, 16, 5);
    take_digits(u, b->qh, 4, 4);
}

void decode_tq2_0(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_tq2_0 *b = (const void *)block;
    for (int g = 0; g < 8; g++)
        s[g] = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++)
        u[i] = b->qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
}
