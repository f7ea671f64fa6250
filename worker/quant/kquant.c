/* kquant.c - the super-blocks of 256 with integer scales of their sub-blocks: Q2_K Q3_K Q4_K Q5_K
 * Q6_K. */
#include "worker/quant/blocks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

void dequantize_q2_k(float *dst, const void *src, size_t n)
{
    const struct block_q2_K *b = src;
    for (; n; n -= QK_SUPER, dst += QK_SUPER, b++) {
        float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
        for (int i = 0; i < QK_SUPER; i++) {
            uint8_t scale = b->scales[i / 16];
            int q = b->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
            dst[i] = d * (float)(scale & 15) * (float)q - dmin * (float)(scale >> 4);
        }
    }
}

void dequantize_q3_k(float *dst, const void *src, size_t n)
{
    const struct block_q3_K *b = src;
    for (; n; n -= QK_SUPER, dst += QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        uint8_t scale[16];
        q3k_scales(b->scales, scale);
        for (int i = 0; i < QK_SUPER; i++) {
            int low = b->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
            int high = b->hmask[i % 32] >> (i / 32) & 1;
            dst[i] = d * (float)(scale[i / 16] - 32) * (float)((low | high << 2) - 4);
        }
    }
}

void dequantize_q4_k(float *dst, const void *src, size_t n)
{
    const struct block_q4_K *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
        uint8_t scale[8], min[8];
        q4k_scales(b->scales, scale, min);
        for (int s = 0; s < 8; s++, dst += 32) {
            float ds = d * (float)scale[s], ms = dmin * (float)min[s];
            const uint8_t *q = b->qs + 32 * (s / 2);
            int shift = 4 * (s % 2);
            for (int i = 0; i < 32; i++)
                dst[i] = ds * (float)(q[i] >> shift & 15) - ms;
        }
    }
}

void dequantize_q5_k(float *dst, const void *src, size_t n)
{
    const struct block_q5_K *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
        uint8_t scale[8], min[8];
        q4k_scales(b->scales, scale, min);
        for (int s = 0; s < 8; s++, dst += 32) {
            float ds = d * (float)scale[s], ms = dmin * (float)min[s];
            const uint8_t *q = b->qs + 32 * (s / 2);
            int shift = 4 * (s % 2);
            for (int i = 0; i < 32; i++)
                dst[i] = ds * (float)((q[i] >> shift & 15) | (b->qh[i] >> s & 1) << 4) - ms;
        }
    }
}

void dequantize_q6_k(float *dst, const void *src, size_t n)
{
    const struct block_q6_K *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int half = 0; half < 2; half++, dst += 128) {
            const uint8_t *ql = b->ql + 64 * half, *qh = b->qh + 32 * half;
            const int8_t *scale = b->scales + 8 * half;
            for (int i = 0; i < 128; i++) {
                int low = ql[i % 64] >> (4 * (i / 64)) & 15;
                int high = qh[i % 32] >> (2 * (i / 32)) & 3;
                dst[i] = d * (float)scale[i / 16] * (float)((low | high << 4) - 32);
            }
        }
    }
}
