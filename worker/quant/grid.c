/* grid.c - formats that code groups of weights as entries of a grid: IQ2_XXS IQ2_XS IQ2_S IQ3_XXS
 * IQ3_S IQ1_S IQ1_M. Everywhere: s is a sub-block of 32 weights, g one of its four groups of eight.
 */
#include "worker/quant/blocks.h"
#include "worker/quant/codebooks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

#include <stdbool.h>

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float signed_value(float v, unsigned signs, int j)
{
    return signs >> j & 1 ? -v : v;
}

static void put_group8(float *dst, float scale, unsigned code, unsigned signs)
{
    for (int j = 0; j < 8; j++)
        dst[j] = signed_value(scale * (float)codebook_iq2_level[code >> (2 * j) & 3], signs, j);
}

static void put_two_groups4(float *dst, float scale, unsigned code0, unsigned code1,
                            const uint8_t level[8], unsigned signs)
{
    for (int j = 0; j < 4; j++) {
        dst[j] = signed_value(scale * (float)level[code0 >> (3 * j) & 7], signs, j);
        dst[j + 4] = signed_value(scale * (float)level[code1 >> (3 * j) & 7], signs, j + 4);
    }
}

void dequantize_iq2_xxs(float *dst, const void *src, size_t n)
{
    const struct block_iq2_xxs *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + 8 * s;
            uint32_t tail = load_u32(q + 4);
            float ds = d * (0.5f + (float)(tail >> 28)) * 0.25f;
            for (int g = 0; g < 4; g++, dst += 8)
                put_group8(dst, ds, codebook_iq2_xxs[q[g]], codebook_signs(tail >> (7 * g) & 127));
        }
    }
}

void dequantize_iq2_xs(float *dst, const void *src, size_t n)
{
    const struct block_iq2_xs *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int i = 0; i < 32; i++, dst += 8) {
            float ds = d * (0.5f + (float)(b->scales[i / 4] >> (i / 2 % 2 * 4) & 15)) * 0.25f;
            put_group8(dst, ds, codebook_iq2_xs[b->qs[i] & 511], codebook_signs(b->qs[i] >> 9));
        }
    }
}

void dequantize_iq2_s(float *dst, const void *src, size_t n)
{
    const struct block_iq2_s *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int i = 0; i < 32; i++, dst += 8) {
            float ds = d * (0.5f + (float)(b->scales[i / 4] >> (i / 2 % 2 * 4) & 15)) * 0.25f;
            unsigned index = b->qs[i] | (unsigned)(b->qh[i / 4] >> (2 * (i % 4)) & 3) << 8;
            put_group8(dst, ds, codebook_iq2_s[index], b->signs[i]);
        }
    }
}

void dequantize_iq3_xxs(float *dst, const void *src, size_t n)
{
    const struct block_iq3_xxs *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int s = 0; s < 8; s++) {
            uint32_t tail = load_u32(b->scales_signs + 4 * s);
            float ds = d * (0.5f + (float)(tail >> 28)) * 0.5f;
            for (int g = 0; g < 4; g++, dst += 8) {
                const uint8_t *q = b->qs + 8 * s + 2 * g;
                put_two_groups4(dst, ds, codebook_iq3_xxs[q[0]], codebook_iq3_xxs[q[1]],
                                codebook_iq3_xxs_level, codebook_signs(tail >> (7 * g) & 127));
            }
        }
    }
}

void dequantize_iq3_s(float *dst, const void *src, size_t n)
{
    const struct block_iq3_s *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int s = 0; s < 8; s++) {
            float ds = d * (float)(1 + 2 * (b->scales[s / 2] >> (s % 2 * 4) & 15));
            for (int g = 0; g < 4; g++, dst += 8) {
                const uint8_t *q = b->qs + 8 * s + 2 * g;
                unsigned i0 = q[0] | (unsigned)(b->qh[s] >> (2 * g) & 1) << 8;
                unsigned i1 = q[1] | (unsigned)(b->qh[s] >> (2 * g + 1) & 1) << 8;
                put_two_groups4(dst, ds, codebook_iq3_s[i0], codebook_iq3_s[i1],
                                codebook_iq3_s_level, b->signs[4 * s + g]);
            }
        }
    }
}

/* The values of IQ1 are -1, 0, 1, all shifted up or down by 1/8. */
static void put_shifted8(float *dst, float scale, unsigned code, bool down)
{
    float shift = down ? -0.125f : 0.125f;
    for (int j = 0; j < 8; j++)
        dst[j] = scale * ((float)codebook_iq1_level[code >> (2 * j) & 3] + shift);
}

void dequantize_iq1_s(float *dst, const void *src, size_t n)
{
    const struct block_iq1_s *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int s = 0; s < 8; s++) {
            unsigned qh = b->qh[s];
            float ds = d * (float)(2 * (qh >> 12 & 7) + 1);
            for (int g = 0; g < 4; g++, dst += 8) {
                unsigned index = b->qs[4 * s + g] | (qh >> (3 * g) & 7) << 8;
                put_shifted8(dst, ds, codebook_iq1[index], qh >> 15);
            }
        }
    }
}

void dequantize_iq1_m(float *dst, const void *src, size_t n)
{
    const struct block_iq1_m *b = src;
    for (; n; n -= QK_SUPER, b++) {
        unsigned word[4], half = 0;
        for (int k = 0; k < 4; k++) {
            word[k] = b->scales[2 * k] | (unsigned)b->scales[2 * k + 1] << 8;
            half |= (word[k] >> 12) << (4 * k);
        }
        float d = f16_to_f32((uint16_t)half);
        for (int i = 0; i < 32; i++, dst += 8) { /* i: group of eight; a scale covers two */
            float ds = d * (float)(2 * (word[i / 8] >> (i / 2 % 4 * 3) & 7) + 1);
            unsigned high = b->qh[i / 2] >> (4 * (i % 2));
            put_shifted8(dst, ds, codebook_iq1[b->qs[i] | (high & 7) << 8], high >> 3 & 1);
        }
    }
}
