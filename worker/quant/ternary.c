/* ternary.c - weights of -d, 0, d: TQ1_0 TQ2_0. */
#include "worker/quant/blocks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

/* A byte of tq1_0 holds five base-3 digits as the fraction 0.d0d1d2d3d4 (base 3) times 256, rounded
 * up. Multiplying by 3^k modulo 256 drops the first k digits; three times the rest, over 256, is
 * the next one. */
static const uint8_t pow3[5] = {1, 3, 9, 27, 81};

static float *take_digits(float *dst, const uint8_t *bytes, int n_bytes, int n_digits, float d)
{
    for (int k = 0; k < n_digits; k++)
        for (int i = 0; i < n_bytes; i++) {
            uint8_t rest = (uint8_t)(bytes[i] * pow3[k]);
            *dst++ = (float)((rest * 3 >> 8) - 1) * d;
        }
    return dst;
}

void dequantize_tq1_0(float *dst, const void *src, size_t n)
{
    const struct block_tq1_0 *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        dst = take_digits(dst, b->qs, 32, 5, d);      /* elements   0..159 */
        dst = take_digits(dst, b->qs + 32, 16, 5, d); /* elements 160..239 */
        dst = take_digits(dst, b->qh, 4, 4, d);       /* elements 240..255 */
    }
}

void dequantize_tq2_0(float *dst, const void *src, size_t n)
{
    const struct block_tq2_0 *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int half = 0; half < 2; half++, dst += 128)
            for (int i = 0; i < 128; i++)
                dst[i] = (float)((b->qs[32 * half + i % 32] >> (2 * (i / 32)) & 3) - 1) * d;
    }
}
