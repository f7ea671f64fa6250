/* encode_k.c - writing K-quants: a scale per sub-block by least squares, then the scales as
 * integers of the block's scale, then the codes for the scales as they came out. */
#include "worker/quant/blocks.h"
#include "worker/quant/formats.h"
#include "worker/quant/qtype.h"

#include <math.h>
#include <string.h>

static int code(float x, int lo, int hi)
{
    float r = nearbyintf(x);
    return r < (float)lo ? lo : r > (float)hi ? hi : (int)r;
}

static float inverse(float d)
{
    return d != 0 ? 1 / d : 0;
}

/* x ~ scale * q - min with q in 0..top and min >= 0 (the format stores it unsigned). Starts from
 * the range, then alternates: best codes for the line, best line for the codes. Four rounds are
 * where random and real weights stop improving. */
static void fit_line(const float *x, int n, int top, float *scale, float *min)
{
    float lo = 0, hi = x[0];
    for (int i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *scale = hi > lo ? (hi - lo) / (float)top : 0;
    *min = -lo;
    float best = INFINITY, s = *scale, m = *min;
    for (int round = 0; round < 4 && s > 0; round++) {
        float err = 0, sum_q = 0, sum_qq = 0, sum_x = 0, sum_qx = 0;
        for (int i = 0; i < n; i++) {
            float q = (float)code((x[i] + m) / s, 0, top), d = s * q - m - x[i];
            err += d * d;
            sum_q += q;
            sum_qq += q * q;
            sum_x += x[i];
            sum_qx += q * x[i];
        }
        if (err < best) {
            best = err;
            *scale = s;
            *min = m;
        }
        float det = (float)n * sum_qq - sum_q * sum_q;
        if (det <= 0)
            break;
        s = ((float)n * sum_qx - sum_q * sum_x) / det;
        m = (s * sum_q - sum_x) / (float)n;
        if (m < 0) {
            m = 0;
            s = sum_qx / sum_qq;
        }
    }
}

/* x ~ scale * q with q in lo..-lo-1, likewise. */
static float fit_scale(const float *x, int n, int lo)
{
    float e = 0, best = INFINITY, scale = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(e))
            e = x[i];
    float s = e / (float)lo;
    for (int round = 0; round < 4 && s != 0; round++) {
        float err = 0, sum_qq = 0, sum_qx = 0;
        for (int i = 0; i < n; i++) {
            float q = (float)code(x[i] / s, lo, -lo - 1), d = s * q - x[i];
            err += d * d;
            sum_qq += q * q;
            sum_qx += q * x[i];
        }
        if (err < best) {
            best = err;
            scale = s;
        }
        s = sum_qq > 0 ? sum_qx / sum_qq : 0;
    }
    return scale;
}

static float largest(const float *x, int n)
{
    float m = 0;
    for (int i = 0; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

/* d and dmin, the 6-bit scales and mins in their packed order, and the codes: shared by Q4_K and
 * Q5_K. */
static void encode_lines(const float *x, int top, uint16_t *d, uint16_t *dmin, uint8_t packed[12],
                         uint8_t q[256])
{
    float scale[8], min[8];
    uint8_t ls[8], lm[8];
    for (int s = 0; s < 8; s++)
        fit_line(x + 32 * s, 32, top, &scale[s], &min[s]);
    *d = f32_to_f16(largest(scale, 8) / 63);
    *dmin = f32_to_f16(largest(min, 8) / 63);
    float fd = f16_to_f32(*d), fmin = f16_to_f32(*dmin);
    for (int s = 0; s < 8; s++) {
        ls[s] = (uint8_t)code(scale[s] * inverse(fd), 0, 63);
        lm[s] = (uint8_t)code(min[s] * inverse(fmin), 0, 63);
        float ds = fd * (float)ls[s], ms = fmin * (float)lm[s], inv = inverse(ds);
        for (int i = 32 * s; i < 32 * s + 32; i++)
            q[i] = (uint8_t)code((x[i] + ms) * inv, 0, top);
    }
    for (int i = 0; i < 4; i++) { /* see q4k_scales() */
        packed[i] = (uint8_t)(ls[i] | (ls[i + 4] >> 4) << 6);
        packed[i + 4] = (uint8_t)(lm[i] | (lm[i + 4] >> 4) << 6);
        packed[i + 8] = (uint8_t)((ls[i + 4] & 15) | (lm[i + 4] & 15) << 4);
    }
}

void quantize_q4_k(void *dst, const float *src, size_t n)
{
    struct block_q4_K *b = dst;
    for (; n; n -= QK_SUPER, src += QK_SUPER, b++) {
        uint8_t q[256], packed[12];
        uint16_t d, dmin;
        encode_lines(src, 15, &d, &dmin, packed, q);
        b->d = d;
        b->dmin = dmin;
        memcpy(b->scales, packed, sizeof packed);
        for (int i = 0; i < 128; i++) {
            const uint8_t *pair = q + i / 32 * 64 + i % 32;
            b->qs[i] = (uint8_t)(pair[0] | pair[32] << 4);
        }
    }
}

void quantize_q5_k(void *dst, const float *src, size_t n)
{
    struct block_q5_K *b = dst;
    for (; n; n -= QK_SUPER, src += QK_SUPER, b++) {
        uint8_t q[256], packed[12];
        uint16_t d, dmin;
        encode_lines(src, 31, &d, &dmin, packed, q);
        b->d = d;
        b->dmin = dmin;
        memcpy(b->scales, packed, sizeof packed);
        for (int i = 0; i < 128; i++) {
            const uint8_t *pair = q + i / 32 * 64 + i % 32;
            b->qs[i] = (uint8_t)((pair[0] & 15) | (pair[32] & 15) << 4);
        }
        for (int i = 0; i < 32; i++) {
            b->qh[i] = 0;
            for (int s = 0; s < 8; s++)
                b->qh[i] |= (uint8_t)((q[32 * s + i] >> 4) << s);
        }
    }
}

void quantize_q6_k(void *dst, const float *src, size_t n)
{
    struct block_q6_K *b = dst;
    for (; n; n -= QK_SUPER, src += QK_SUPER, b++) {
        float scale[16], most = 0;
        for (int s = 0; s < 16; s++) {
            scale[s] = fit_scale(src + 16 * s, 16, -32);
            most = fabsf(scale[s]) > fabsf(most) ? scale[s] : most;
        }
        b->d = f32_to_f16(most / -128); /* the largest scale becomes -128 */
        float d = f16_to_f32(b->d);
        memset(b->ql, 0, sizeof b->ql);
        memset(b->qh, 0, sizeof b->qh);
        for (int s = 0; s < 16; s++)
            b->scales[s] = (int8_t)code(scale[s] * inverse(d), -128, 127);
        for (int i = 0; i < QK_SUPER; i++) {
            int half = i / 128, j = i % 128;
            int q = code(src[i] * inverse(d * (float)b->scales[i / 16]), -32, 31) + 32;
            b->ql[64 * half + j % 64] |= (uint8_t)((q & 15) << (4 * (j / 64)));
            b->qh[32 * half + j % 32] |= (uint8_t)((q >> 4) << (2 * (j / 32)));
        }
    }
}
