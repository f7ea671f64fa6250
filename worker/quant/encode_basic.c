/* encode_basic.c - writing the formats of 32 elements. Simple and correct: one pass for the scale,
 * one for the codes; good enough for tests and synthetic models, no match for a tuned quantizer. */
#include "worker/quant/blocks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

#include <math.h>

/* round(x), clamped to lo..hi. */
static int code(float x, int lo, int hi)
{
    float r = nearbyintf(x);
    return r < (float)lo ? lo : r > (float)hi ? hi : (int)r;
}

/* The element farthest from zero, with its sign: it gets the most negative code, which is the one
 * more that a two's complement range has. */
static float extreme(const float *x, int n)
{
    float e = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(e))
            e = x[i];
    return e;
}

static void range(const float *x, int n, float *min, float *max)
{
    *min = *max = x[0];
    for (int i = 1; i < n; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
    }
}

static float inverse(float d)
{
    return d != 0 ? 1 / d : 0;
}

void quantize_q8_0(void *dst, const float *src, size_t n)
{
    struct block_q8_0 *b = dst;
    for (; n; n -= QK_SMALL, src += QK_SMALL, b++) {
        b->d = f32_to_f16(fabsf(extreme(src, QK_SMALL)) / 127);
        float inv = inverse(f16_to_f32(b->d));
        for (int i = 0; i < QK_SMALL; i++)
            b->qs[i] = (int8_t)code(src[i] * inv, -127, 127);
    }
}

void quantize_q4_0(void *dst, const float *src, size_t n)
{
    struct block_q4_0 *b = dst;
    for (; n; n -= QK_SMALL, src += QK_SMALL, b++) {
        b->d = f32_to_f16(extreme(src, QK_SMALL) / -8);
        float inv = inverse(f16_to_f32(b->d));
        for (int j = 0; j < 16; j++)
            b->qs[j] = (uint8_t)((code(src[j] * inv, -8, 7) + 8) |
                                 (code(src[j + 16] * inv, -8, 7) + 8) << 4);
    }
}

void quantize_q4_1(void *dst, const float *src, size_t n)
{
    struct block_q4_1 *b = dst;
    for (; n; n -= QK_SMALL, src += QK_SMALL, b++) {
        float min, max;
        range(src, QK_SMALL, &min, &max);
        b->d = f32_to_f16((max - min) / 15);
        b->m = f32_to_f16(min);
        float inv = inverse(f16_to_f32(b->d)), m = f16_to_f32(b->m);
        for (int j = 0; j < 16; j++)
            b->qs[j] = (uint8_t)(code((src[j] - m) * inv, 0, 15) |
                                 code((src[j + 16] - m) * inv, 0, 15) << 4);
    }
}

/* Five-bit codes of 32 elements: low nibbles and the plane of fifth bits. */
static void put_five_bits(uint8_t qs[16], uint8_t qh[4], const int q[32])
{
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
    for (int k = 0; k < 4; k++) {
        qh[k] = 0;
        for (int j = 0; j < 8; j++)
            qh[k] |= (uint8_t)((q[8 * k + j] >> 4) << j);
    }
}

void quantize_q5_0(void *dst, const float *src, size_t n)
{
    struct block_q5_0 *b = dst;
    for (; n; n -= QK_SMALL, src += QK_SMALL, b++) {
        b->d = f32_to_f16(extreme(src, QK_SMALL) / -16);
        float inv = inverse(f16_to_f32(b->d));
        int q[32];
        for (int i = 0; i < QK_SMALL; i++)
            q[i] = code(src[i] * inv, -16, 15) + 16;
        put_five_bits(b->qs, b->qh, q);
    }
}

void quantize_q5_1(void *dst, const float *src, size_t n)
{
    struct block_q5_1 *b = dst;
    for (; n; n -= QK_SMALL, src += QK_SMALL, b++) {
        float min, max;
        range(src, QK_SMALL, &min, &max);
        b->d = f32_to_f16((max - min) / 31);
        b->m = f32_to_f16(min);
        float inv = inverse(f16_to_f32(b->d)), m = f16_to_f32(b->m);
        int q[32];
        for (int i = 0; i < QK_SMALL; i++)
            q[i] = code((src[i] - m) * inv, 0, 31);
        put_five_bits(b->qs, b->qh, q);
    }
}
