/* basic.c - the formats of 32 elements with one scale: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0. */
#include "worker/quant/blocks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

void dequantize_q4_0(float *dst, const void *src, size_t n)
{
    const struct block_q4_0 *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)((b->qs[j] & 15) - 8) * d;
            dst[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

void dequantize_q4_1(float *dst, const void *src, size_t n)
{
    const struct block_q4_1 *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)(b->qs[j] & 15) * d + m;
            dst[j + 16] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

/* The fifth bits of elements 0..31. */
static uint32_t high_bits(const uint8_t qh[4])
{
    return (uint32_t)qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 | (uint32_t)qh[3] << 24;
}

void dequantize_q5_0(float *dst, const void *src, size_t n)
{
    const struct block_q5_0 *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = f16_to_f32(b->d);
        uint32_t high = high_bits(b->qh);
        for (int j = 0; j < 16; j++) {
            int q0 = (b->qs[j] & 15) | (int)(high >> j & 1) << 4;
            int q1 = (b->qs[j] >> 4) | (int)(high >> (j + 16) & 1) << 4;
            dst[j] = (float)(q0 - 16) * d;
            dst[j + 16] = (float)(q1 - 16) * d;
        }
    }
}

void dequantize_q5_1(float *dst, const void *src, size_t n)
{
    const struct block_q5_1 *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
        uint32_t high = high_bits(b->qh);
        for (int j = 0; j < 16; j++) {
            int q0 = (b->qs[j] & 15) | (int)(high >> j & 1) << 4;
            int q1 = (b->qs[j] >> 4) | (int)(high >> (j + 16) & 1) << 4;
            dst[j] = (float)q0 * d + m;
            dst[j + 16] = (float)q1 * d + m;
        }
    }
}

void dequantize_q8_0(float *dst, const void *src, size_t n)
{
    const struct block_q8_0 *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = f16_to_f32(b->d);
        for (int j = 0; j < QK_SMALL; j++)
            dst[j] = (float)b->qs[j] * d;
    }
}
