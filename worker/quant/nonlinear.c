/* nonlinear.c - four-bit formats whose codes index a table: IQ4_NL IQ4_XS MXFP4. */
#include "worker/quant/blocks.h"
#include "worker/quant/codebooks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

#include <string.h>

void dequantize_iq4_nl(float *dst, const void *src, size_t n)
{
    const struct block_iq4_nl *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)codebook_iq4[b->qs[j] & 15];
            dst[j + 16] = d * (float)codebook_iq4[b->qs[j] >> 4];
        }
    }
}

void dequantize_iq4_xs(float *dst, const void *src, size_t n)
{
    const struct block_iq4_xs *b = src;
    for (; n; n -= QK_SUPER, b++) {
        float d = f16_to_f32(b->d);
        for (int s = 0; s < 8; s++, dst += 32) {
            int scale = (b->scales_l[s / 2] >> (4 * (s % 2)) & 15) | (b->scales_h >> (2 * s) & 3)
                                                                         << 4;
            float ds = d * (float)(scale - 32);
            const uint8_t *q = b->qs + 16 * s;
            for (int j = 0; j < 16; j++) {
                dst[j] = ds * (float)codebook_iq4[q[j] & 15];
                dst[j + 16] = ds * (float)codebook_iq4[q[j] >> 4];
            }
        }
    }
}

/* 2^(e - 128): half the E8M0 scale, because the table holds doubled values. e < 2 is subnormal in
 * float32. */
static float half_e8m0(uint8_t e)
{
    uint32_t u = e < 2 ? (uint32_t)0x200000 << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

void dequantize_mxfp4(float *dst, const void *src, size_t n)
{
    const struct block_mxfp4 *b = src;
    for (; n; n -= QK_SMALL, dst += QK_SMALL, b++) {
        float d = half_e8m0(b->e);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)codebook_fp4x2[b->qs[j] & 15] * d;
            dst[j + 16] = (float)codebook_fp4x2[b->qs[j] >> 4] * d;
        }
    }
}
