/* v16.h - sixteen floats at once, in the widest registers that this file is compiled for.
 *
 * Three implementations (AVX-512, AVX2+FMA, plain C), one meaning: every function is a fixed
 * sequence of IEEE 754 operations per lane, reductions add the upper half to the lower one until
 * one lane is left. So a loop written with v16 gives the same bits on every processor, and vector
 * lanes never change an order of summation. Include it only from ops_body.h users (ops_c.c,
 * ops_avx2.c, ops_avx512.c). */
#ifndef MILLRACE_WORKER_CPU_V16_H
#define MILLRACE_WORKER_CPU_V16_H

#include "worker/quant/qtype.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>

typedef __m512 v16;

static inline v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
static inline v16 v16_load_n(const float *p,
                             int n) /* the first n lanes, zero beyond; 1 <= n < 16 */
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void v16_store_n(float *p, v16 a, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
static inline v16 v16_set1(float f)
{
    return _mm512_set1_ps(f);
}
static inline v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
static inline v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static inline v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
static inline v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
static inline v16 v16_fma(v16 a, v16 b, v16 c) /* a*b + c, rounded once */
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline v16 v16_max(v16 a, v16 b) /* a > b ? a : b; so a NaN in b stays */
{
    return _mm512_max_ps(a, b);
}
static inline v16 v16_min(v16 a, v16 b) /* a < b ? a : b */
{
    return _mm512_min_ps(a, b);
}
static inline v16 v16_zero_below(v16 v, v16 x, float limit) /* x < limit ? 0 : v */
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_NLT_UQ), v);
}
static inline v16 v16_keep(v16 v, uint32_t lanes,
                           float other) /* lane i of v where bit i is set, else `other` */
{
    return _mm512_mask_mov_ps(_mm512_set1_ps(other), (__mmask16)lanes, v);
}
static inline v16 v16_round(v16 a) /* to nearest, ties to even */
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline v16 v16_pow2(v16 a) /* 2^a for whole a in [-126, 127] */
{
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
static inline float v16_sum(v16 a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline float v16_hmax(v16 a)
{
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
static inline v16 v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline v16 v16_load_bf16(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
static inline v16 v16_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline void v16_store_f16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

enum { V16_ROWS = 4 }; /* query rows that share a pass over a tile: as many as the registers hold */
enum { V16_COLS = 4 }; /* vectors of V columns kept in registers per row */

#elif defined(__AVX2__)
#include <immintrin.h>

typedef struct {
    __m256 a, b; /* lanes 0..7, 8..15 */
} v16;

#define V16_2(ea, eb) ((v16){(ea), (eb)})

static inline v16 v16_load(const float *p)
{
    return V16_2(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
static inline void v16_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline v16 v16_load_n(const float *p, int n)
{
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return v16_load(t);
}
static inline void v16_store_n(float *p, v16 x, int n)
{
    float t[16];
    v16_store(t, x);
    memcpy(p, t, (size_t)n * sizeof *t);
}
static inline v16 v16_set1(float f)
{
    return V16_2(_mm256_set1_ps(f), _mm256_set1_ps(f));
}
static inline v16 v16_add(v16 x, v16 y)
{
    return V16_2(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
static inline v16 v16_sub(v16 x, v16 y)
{
    return V16_2(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
static inline v16 v16_mul(v16 x, v16 y)
{
    return V16_2(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
static inline v16 v16_div(v16 x, v16 y)
{
    return V16_2(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}
static inline v16 v16_fma(v16 x, v16 y, v16 z)
{
    return V16_2(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
static inline v16 v16_max(v16 x, v16 y)
{
    return V16_2(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}
static inline v16 v16_min(v16 x, v16 y)
{
    return V16_2(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b));
}
static inline v16 v16_zero_below(v16 v, v16 x, float limit)
{
    __m256 l = _mm256_set1_ps(limit);
    return V16_2(_mm256_and_ps(v.a, _mm256_cmp_ps(x.a, l, _CMP_NLT_UQ)),
                 _mm256_and_ps(v.b, _mm256_cmp_ps(x.b, l, _CMP_NLT_UQ)));
}
static inline v16 v16_keep(v16 v, uint32_t lanes, float other)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i lo = _mm256_set1_epi32((int)(lanes & 255)),
            hi = _mm256_set1_epi32((int)(lanes >> 8 & 255));
    __m256 ma = _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(lo, bit), bit));
    __m256 mb = _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(hi, bit), bit));
    __m256 o = _mm256_set1_ps(other);
    return V16_2(_mm256_blendv_ps(o, v.a, ma), _mm256_blendv_ps(o, v.b, mb));
}
static inline v16 v16_round(v16 x)
{
    return V16_2(_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline v16 v16_pow2(v16 x)
{
    __m256i k = _mm256_set1_epi32(127);
    __m256i ea = _mm256_add_epi32(_mm256_cvtps_epi32(x.a), k),
            eb = _mm256_add_epi32(_mm256_cvtps_epi32(x.b), k);
    return V16_2(_mm256_castsi256_ps(_mm256_slli_epi32(ea, 23)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(eb, 23)));
}
static inline float v16_sum(v16 x)
{
    __m256 h = _mm256_add_ps(x.a, x.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline float v16_hmax(v16 x)
{
    __m256 h = _mm256_max_ps(x.a, x.b);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
static inline v16 v16_load_f16(const uint16_t *p)
{
    return V16_2(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8))));
}
static inline v16 v16_load_bf16(const uint16_t *p)
{
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)));
    return V16_2(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)));
}
static inline v16 v16_load_i8(const int8_t *p)
{
    __m128i q = _mm_loadu_si128((const __m128i *)(const void *)p);
    return V16_2(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))));
}
static inline void v16_store_f16(uint16_t *p, v16 x)
{
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(void *)(p + 8),
                     _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

enum { V16_ROWS = 2 };
enum { V16_COLS = 2 };

#else /* plain C: the same operations, lane by lane */

typedef struct {
    float f[16];
} v16;

#define V16_EACH(expr)                                                                             \
    v16 r_;                                                                                        \
    for (int i = 0; i < 16; i++)                                                                   \
        r_.f[i] = (expr);                                                                          \
    return r_

static inline v16 v16_load(const float *p)
{
    V16_EACH(p[i]);
}
static inline void v16_store(float *p, v16 a)
{
    memcpy(p, a.f, sizeof a.f);
}
static inline v16 v16_load_n(const float *p, int n)
{
    V16_EACH(i < n ? p[i] : 0);
}
static inline void v16_store_n(float *p, v16 a, int n)
{
    memcpy(p, a.f, (size_t)n * sizeof *p);
}
static inline v16 v16_set1(float f)
{
    V16_EACH(f);
}
static inline v16 v16_add(v16 a, v16 b)
{
    V16_EACH(a.f[i] + b.f[i]);
}
static inline v16 v16_sub(v16 a, v16 b)
{
    V16_EACH(a.f[i] - b.f[i]);
}
static inline v16 v16_mul(v16 a, v16 b)
{
    V16_EACH(a.f[i] * b.f[i]);
}
static inline v16 v16_div(v16 a, v16 b)
{
    V16_EACH(a.f[i] / b.f[i]);
}
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(fmaf(a.f[i], b.f[i], c.f[i]));
}
static inline v16 v16_max(v16 a, v16 b)
{
    V16_EACH(a.f[i] > b.f[i] ? a.f[i] : b.f[i]);
}
static inline v16 v16_min(v16 a, v16 b)
{
    V16_EACH(a.f[i] < b.f[i] ? a.f[i] : b.f[i]);
}
static inline v16 v16_zero_below(v16 v, v16 x, float limit)
{
    V16_EACH(x.f[i] < limit ? 0 : v.f[i]);
}
static inline v16 v16_keep(v16 v, uint32_t lanes, float other)
{
    V16_EACH((lanes >> i & 1) ? v.f[i] : other);
}
static inline v16 v16_round(v16 a)
{
    V16_EACH(rintf(a.f[i]));
}
static inline v16 v16_pow2(v16 a)
{
    v16 r;
    for (int i = 0; i < 16; i++) {
        /* NaN converts to INT_MIN in the vector units: the same bits, whatever they are worth */
        int32_t n = a.f[i] >= -126 && a.f[i] <= 127 ? (int32_t)a.f[i] : INT32_MIN;
        uint32_t u = ((uint32_t)n + 127) << 23;
        memcpy(&r.f[i], &u, 4);
    }
    return r;
}
static inline float v16_sum(v16 a)
{
    for (int w = 8; w; w /= 2)
        for (int i = 0; i < w; i++)
            a.f[i] = a.f[i] + a.f[i + w];
    return a.f[0];
}
static inline float v16_hmax(v16 a)
{
    for (int w = 8; w; w /= 2)
        for (int i = 0; i < w; i++)
            a.f[i] = a.f[i] > a.f[i + w] ? a.f[i] : a.f[i + w];
    return a.f[0];
}
static inline v16 v16_load_f16(const uint16_t *p)
{
    V16_EACH(f16_to_f32(p[i]));
}
static inline v16 v16_load_bf16(const uint16_t *p)
{
    V16_EACH(bf16_to_f32(p[i]));
}
static inline v16 v16_load_i8(const int8_t *p)
{
    V16_EACH((float)p[i]);
}
static inline void v16_store_f16(uint16_t *p, v16 a)
{
    for (int i = 0; i < 16; i++)
        p[i] = f32_to_f16(a.f[i]);
}

enum { V16_ROWS = 2 };
enum { V16_COLS = 2 };

#endif

/* exp, to about 1e-7 relative; 0 below -87.3 (where floats turn denormal), NaN stays NaN, capped
 * above 88.3. x = n ln2 + r with ln2 split in two so that r is exact (Cody and Waite 1980); e^r by
 * its series. */
static inline v16 v16_exp(v16 x)
{
    const float lowest = -87.3F, highest = 88.3F;
    v16 c = v16_max(v16_set1(lowest), v16_min(v16_set1(highest), x));
    v16 n = v16_round(v16_mul(c, v16_set1(0x1.715476p+0F)));
    v16 r = v16_fma(n, v16_set1(-0x1.62e4p-1F), c);
    r = v16_fma(n, v16_set1(-0x1.7f7d1cp-20F), r);
    v16 p = v16_set1(1.0F / 5040);
    p = v16_fma(p, r, v16_set1(1.0F / 720));
    p = v16_fma(p, r, v16_set1(1.0F / 120));
    p = v16_fma(p, r, v16_set1(1.0F / 24));
    p = v16_fma(p, r, v16_set1(1.0F / 6));
    p = v16_fma(p, r, v16_set1(0.5F));
    p = v16_fma(p, r, v16_set1(1));
    p = v16_fma(p, r, v16_set1(1));
    return v16_zero_below(v16_mul(p, v16_pow2(n)), x, lowest);
}

/* tanh x = 1 - 2/(e^2x + 1): absolute error about 1e-7, all that its users (GELU, softcap) need. */
static inline v16 v16_tanh(v16 x)
{
    v16 e = v16_exp(v16_add(x, x));
    return v16_sub(v16_set1(1), v16_div(v16_set1(2), v16_add(e, v16_set1(1))));
}

#endif
