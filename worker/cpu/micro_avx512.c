/* micro_avx512.c - the kernels for AVX-512 with VNNI: a lane is a row of the panel, a register
 * column four columns of W; each of T tokens has one float accumulator register. See kernels.h for
 * the arithmetic. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "worker/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- activations
 * ---------------------------------------------------------------------------------------- */

static void quantize_avx512(const float *x, int n_groups, int8_t *q, float *d, int16_t *sum16,
                            int width)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    for (int g = 0; g < n_groups; g++, x += GROUP, q += GROUP * width, d += width, sum16 += 2) {
        __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
        __m512i top = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                       _mm512_and_si512(_mm512_castps_si512(b), magnitude));
        int bits = _mm512_reduce_max_epi32(top);
        float amax;
        memcpy(&amax, &bits, 4);
        if (bits >= 0x7f800000 || amax < QUANT_TINY) {
            *d = bits >= 0x7f800000 ? NAN : 0.0f;
            memset(q, 0, GROUP);
            sum16[0] = sum16[1] = 0;
            continue;
        }
        const __m512 inverse = _mm512_set1_ps(127.0f / amax);
        __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8(qa));
        _mm_storeu_si128((__m128i *)(void *)(q + 16), _mm512_cvtepi32_epi8(qb));
        *d = amax / 127.0f;
        sum16[0] = (int16_t)_mm512_reduce_add_epi32(qa);
        sum16[1] = (int16_t)_mm512_reduce_add_epi32(qb);
    }
}

/* ---- integer panels
 * ------------------------------------------------------------------------------------- */

INLINE __m512i four(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* Tokens t0..t0+T-1 of the tile. T, parts and has_min are constants in every caller. */
INLINE void tokens(const int T, const int parts, const int has_min, const struct panel *p,
                   const struct tile *x, int t0, int n_groups, float *const *y, __mmask16 rows,
                   int first)
{
    const int w = x->width;
    const uint8_t *u = p->u;
    const float *s = p->s, *m = p->m, *d = x->d + t0, *sum = x->sum + t0;
    const int8_t *q = x->q + (size_t)t0 * GROUP;
    const int32_t *corr = x->corr + t0;
    __m512 acc[TILE_TOKENS];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++)
        acc[t] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(rows, y[t0 + t]);
    for (int g = 0; g < n_groups; g++) {
        __m512i v[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            v[i] = _mm512_load_si512(u + 64 * i);
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) {
            const int8_t *qt = q + GROUP * t;
            __m512 part = _mm512_setzero_ps();
#pragma GCC unroll 2
            for (int h = 0; h < parts; h++) {
                const int n = 8 / parts;
                __m512i a = has_min ? _mm512_setzero_si512() : _mm512_set1_epi32(corr[h * w + t]);
#pragma GCC unroll 8
                for (int i = h * n; i < (h + 1) * n; i++)
                    a = _mm512_dpbusd_epi32(a, v[i], four(qt + 4 * i));
                __m512 f = _mm512_cvtepi32_ps(a), sh = _mm512_load_ps(s + 16 * h);
                part = h == 0 ? _mm512_mul_ps(f, sh) : _mm512_fmadd_ps(f, sh, part);
            }
#pragma GCC unroll 2
            for (int h = 0; has_min && h < parts; h++)
                part = _mm512_fmadd_ps(_mm512_load_ps(m + 16 * h), _mm512_set1_ps(sum[h * w + t]),
                                       part);
            acc[t] = _mm512_fmadd_ps(part, _mm512_set1_ps(d[t]), acc[t]);
        }
        u += GROUP * PANEL_ROWS;
        s += parts * PANEL_ROWS;
        m += parts * PANEL_ROWS;
        q += (size_t)w * GROUP;
        d += w;
        sum += parts * w;
        corr += parts * w;
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; t++)
        _mm512_mask_storeu_ps(y[t0 + t], rows, acc[t]);
}

/* The tile in pieces of 16, 8, 4, 2, 1 tokens. */
#define MICRO_INT(name, parts, has_min)                                                            \
    static void name(const struct panel *p, const struct tile *x, int n_groups, float *const *y,   \
                     __mmask16 rows, int first)                                                    \
    {                                                                                              \
        int t = 0;                                                                                 \
        for (; t + 16 <= x->width; t += 16)                                                        \
            tokens(16, parts, has_min, p, x, t, n_groups, y, rows, first);                         \
        for (; t + 8 <= x->width; t += 8)                                                          \
            tokens(8, parts, has_min, p, x, t, n_groups, y, rows, first);                          \
        for (; t + 4 <= x->width; t += 4)                                                          \
            tokens(4, parts, has_min, p, x, t, n_groups, y, rows, first);                          \
        for (; t + 2 <= x->width; t += 2)                                                          \
            tokens(2, parts, has_min, p, x, t, n_groups, y, rows, first);                          \
        for (; t < x->width; t++)                                                                  \
            tokens(1, parts, has_min, p, x, t, n_groups, y, rows, first);                          \
    }
MICRO_INT(group32, 1, 0)
MICRO_INT(group32_min, 1, 1)
MICRO_INT(group16, 2, 0)
MICRO_INT(group16_min, 2, 1)

static void micro_int_avx512(const struct panel *p, const struct pack *how, const struct tile *x,
                             int n_groups, float *const *y, int n_rows, int first)
{
    __mmask16 rows = (__mmask16)((1u << n_rows) - 1);
    if (how->group == 32)
        (how->has_min ? group32_min : group32)(p, x, n_groups, y, rows, first);
    else
        (how->has_min ? group16_min : group16)(p, x, n_groups, y, rows, first);
}

/* ---- float panels
 * --------------------------------------------------------------------------------------- */

INLINE void tokens_float(const int T, const struct panel *p, const struct tile *x, int t0, int kc,
                         float *const *y, __mmask16 rows, int first)
{
    const int w = x->width;
    __m512 sum[TILE_TOKENS];
    for (int t = 0; t < T; t++)
        sum[t] = _mm512_setzero_ps();
    for (int j = 0; j < FLOAT_CHAINS; j++) {
        const float *xt = x->x + (size_t)j * w + t0, *pw = p->w + (size_t)j * PANEL_ROWS;
        __m512 acc[TILE_TOKENS];
#pragma GCC unroll 16
        for (int t = 0; t < T; t++)
            acc[t] = _mm512_setzero_ps();
        for (int k = j; k < kc; k += FLOAT_CHAINS) {
            __m512 v = _mm512_load_ps(pw);
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
                acc[t] = _mm512_fmadd_ps(v, _mm512_set1_ps(xt[t]), acc[t]);
            pw += FLOAT_CHAINS * PANEL_ROWS;
            xt += FLOAT_CHAINS * w;
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; t++)
            sum[t] = _mm512_add_ps(sum[t], acc[t]);
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) {
        __m512 v = first ? sum[t] : _mm512_add_ps(_mm512_maskz_loadu_ps(rows, y[t0 + t]), sum[t]);
        _mm512_mask_storeu_ps(y[t0 + t], rows, v);
    }
}

static void micro_float_avx512(const struct panel *p, const struct tile *x, int kc, float *const *y,
                               int n_rows, int first)
{
    __mmask16 rows = (__mmask16)((1u << n_rows) - 1);
    int t = 0;
    for (; t + 16 <= x->width; t += 16)
        tokens_float(16, p, x, t, kc, y, rows, first);
    for (; t + 8 <= x->width; t += 8)
        tokens_float(8, p, x, t, kc, y, rows, first);
    for (; t + 4 <= x->width; t += 4)
        tokens_float(4, p, x, t, kc, y, rows, first);
    for (; t + 2 <= x->width; t += 2)
        tokens_float(2, p, x, t, kc, y, rows, first);
    for (; t < x->width; t++)
        tokens_float(1, p, x, t, kc, y, rows, first);
}

const struct kernels kernels_avx512 = {
    .quantize = quantize_avx512,
    .micro_int = micro_int_avx512,
    .micro_float = micro_float_avx512,
    .dot = dot_table_avx512,
    .dot_tokens = {1, 4, 8},
    .dot_float = dot_float_table_avx512,
    .float_tokens = 16,
    .unpack = unpack_table_avx512,
};
