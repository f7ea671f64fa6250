/* micro_avx2.c - the kernels for AVX2 without VNNI: a lane is a row of one half (8 rows) of the
 * panel.
 *
 * vpmaddubsw adds pairs of u8*s8 products into 16 bits and saturates at 32767; q is within 127
 * either way. How many of its results may be added in 16 bits before widening follows from the
 * type's largest u: u <= 15: 8 (30480)    u <= 31: 4 (31496)    u <= 63: 2 (32004)    u <= 128: 1
 * (32512) Types with larger u have offset 128, so u^0x80 is the signed weight: |weight| <= 128 is
 * multiplied by q with the weight's sign (at most 32512), and there is nothing to correct. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "worker/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum { HALF_ROWS = 8, T_MAX = 4 };

/* ---- activations
 * ---------------------------------------------------------------------------------------- */

INLINE int reduce_add(__m256i v)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

INLINE int reduce_max(__m256i v)
{
    __m128i a = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

static void quantize_avx2(const float *x, int n_groups, int8_t *q, float *d, int16_t *sum16,
                          int width)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    for (int g = 0; g < n_groups; g++, x += GROUP, q += GROUP * width, d += width, sum16 += 2) {
        __m256 v[4];
        __m256i top = _mm256_setzero_si256(), i[4];
        for (int j = 0; j < 4; j++) {
            v[j] = _mm256_loadu_ps(x + 8 * j);
            top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[j]), magnitude));
        }
        int bits = reduce_max(top);
        float amax;
        memcpy(&amax, &bits, 4);
        if (bits >= 0x7f800000 || amax < QUANT_TINY) {
            *d = bits >= 0x7f800000 ? NAN : 0.0f;
            memset(q, 0, GROUP);
            sum16[0] = sum16[1] = 0;
            continue;
        }
        const __m256 inverse = _mm256_set1_ps(127.0f / amax);
        for (int j = 0; j < 4; j++)
            i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], inverse));
        /* The packs work within 128-bit lanes; the permutation puts the dwords back in order. */
        __m256i words0 = _mm256_packs_epi32(i[0], i[1]), words1 = _mm256_packs_epi32(i[2], i[3]);
        __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1),
                                                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(void *)q, bytes);
        *d = amax / 127.0f;
        sum16[0] = (int16_t)reduce_add(_mm256_add_epi32(i[0], i[1]));
        sum16[1] = (int16_t)reduce_add(_mm256_add_epi32(i[2], i[3]));
    }
}

/* ---- integer panels
 * ------------------------------------------------------------------------------------- */

INLINE __m256i four(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* n steps of four columns. `run`: how many results of vpmaddubsw fit 16 bits; 0: signed weights. */
INLINE __m256i dot(const __m256i *v, const int8_t *q, const int n, const int run, __m256i start)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a = start;
#pragma GCC unroll 8
    for (int i = 0; i < n; i += run ? run : 1) {
        __m256i words;
        if (run) {
            words = _mm256_maddubs_epi16(v[i], four(q + 4 * i));
#pragma GCC unroll 8
            for (int j = 1; j < run; j++)
                words =
                    _mm256_add_epi16(words, _mm256_maddubs_epi16(v[i + j], four(q + 4 * (i + j))));
        } else {
            words = _mm256_maddubs_epi16(_mm256_abs_epi8(v[i]),
                                         _mm256_sign_epi8(four(q + 4 * i), v[i]));
        }
        a = _mm256_add_epi32(a, _mm256_madd_epi16(words, ones));
    }
    return a;
}

/* Tokens t0..t0+T-1 and one half of the rows. T, run, parts and has_min are constants in every
 * caller. */
INLINE void tokens(const int T, const int run, const int parts, const int has_min,
                   const struct panel *p, int half, const struct tile *x, int t0, int n_groups,
                   __m256 *acc)
{
    const int w = x->width;
    const uint8_t *u = p->u + 32 * half;
    const float *s = p->s + HALF_ROWS * half, *m = p->m + HALF_ROWS * half;
    const float *d = x->d + t0, *sum = x->sum + t0;
    const int8_t *q = x->q + (size_t)t0 * GROUP;
    const int32_t *corr = x->corr + t0;
    const __m256i flip = _mm256_set1_epi8(run ? 0 : (char)0x80);
    for (int g = 0; g < n_groups; g++) {
        __m256i v[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            v[i] = _mm256_load_si256((const __m256i *)(const void *)(u + 64 * i));
            if (!run)
                v[i] = _mm256_xor_si256(v[i], flip);
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) {
            __m256 part = _mm256_setzero_ps();
#pragma GCC unroll 2
            for (int h = 0; h < parts; h++) {
                const int n = 8 / parts, r = run < n ? run : n;
                __m256i a =
                    has_min || !run ? _mm256_setzero_si256() : _mm256_set1_epi32(corr[h * w + t]);
                a = dot(v + h * n, q + GROUP * t + 4 * h * n, n, r, a);
                __m256 f = _mm256_cvtepi32_ps(a), sh = _mm256_load_ps(s + PANEL_ROWS * h);
                part = h == 0 ? _mm256_mul_ps(f, sh) : _mm256_fmadd_ps(f, sh, part);
            }
#pragma GCC unroll 2
            for (int h = 0; has_min && h < parts; h++)
                part = _mm256_fmadd_ps(_mm256_load_ps(m + PANEL_ROWS * h),
                                       _mm256_set1_ps(sum[h * w + t]), part);
            acc[t] = _mm256_fmadd_ps(part, _mm256_set1_ps(d[t]), acc[t]);
        }
        u += GROUP * PANEL_ROWS;
        s += parts * PANEL_ROWS;
        m += parts * PANEL_ROWS;
        q += (size_t)w * GROUP;
        d += w;
        sum += parts * w;
        corr += parts * w;
    }
}

/* Lanes below n_rows - 8*half. */
INLINE __m256i row_mask(int n_rows, int half)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n_rows - HALF_ROWS * half),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE void load_acc(__m256 *acc, const int T, float *const *y, int half, __m256i rows, int first)
{
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
        acc[t] = first ? _mm256_setzero_ps() : _mm256_maskload_ps(y[t] + HALF_ROWS * half, rows);
}

INLINE void store_acc(const __m256 *acc, const int T, float *const *y, int half, __m256i rows)
{
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
        _mm256_maskstore_ps(y[t] + HALF_ROWS * half, rows, acc[t]);
}

#define PIECE(T, run, parts, has_min)                                                              \
    for (; t + (T) <= x->width; t += (T)) {                                                        \
        __m256 acc[T_MAX];                                                                         \
        load_acc(acc, T, y + t, half, rows, first);                                                \
        tokens(T, run, parts, has_min, p, half, x, t, n_groups, acc);                              \
        store_acc(acc, T, y + t, half, rows);                                                      \
    }

/* The tile in pieces of 4, 2, 1 tokens. */
#define MICRO_INT(name, run, parts, has_min)                                                       \
    static void name(const struct panel *p, const struct tile *x, int n_groups, float *const *y,   \
                     int n_rows, int first)                                                        \
    {                                                                                              \
        for (int half = 0; half < 2 && n_rows > HALF_ROWS * half; half++) {                        \
            const __m256i rows = row_mask(n_rows, half);                                           \
            int t = 0;                                                                             \
            PIECE(4, run, parts, has_min)                                                          \
            PIECE(2, run, parts, has_min)                                                          \
            PIECE(1, run, parts, has_min)                                                          \
        }                                                                                          \
    }
MICRO_INT(group32_u4, 8, 1, 0)
MICRO_INT(group32_u5, 4, 1, 0)
MICRO_INT(group32_u7, 1, 1, 0)
MICRO_INT(group32_s8, 0, 1, 0)
MICRO_INT(group32_u4_min, 8, 1, 1)
MICRO_INT(group32_u5_min, 4, 1, 1)
MICRO_INT(group16_u4, 4, 2, 0)
MICRO_INT(group16_u6, 2, 2, 0)
MICRO_INT(group16_u7, 1, 2, 0)
MICRO_INT(group16_u4_min, 4, 2, 1)

static void micro_int_avx2(const struct panel *p, const struct pack *how, const struct tile *x,
                           int n_groups, float *const *y, int n_rows, int first)
{
    /* The first row that covers the type; every row of pack_table finds one. */
    static const struct {
        uint8_t group, has_min, max_u;
        void (*run)(const struct panel *p, const struct tile *x, int n_groups, float *const *y,
                    int n_rows, int first);
    } table[] = {
        // clang-format off
        { 32, 0,  15, group32_u4 },     { 32, 0,  31, group32_u5 },
        { 32, 0, 128, group32_u7 },     { 32, 0, 255, group32_s8 },
        { 32, 1,  15, group32_u4_min }, { 32, 1,  31, group32_u5_min },
        { 16, 0,  15, group16_u4 },     { 16, 0,  63, group16_u6 },
        { 16, 0, 128, group16_u7 },     { 16, 1,  15, group16_u4_min },
        // clang-format on
    };
    int i = 0;
    while (table[i].group != how->group || table[i].has_min != how->has_min ||
           table[i].max_u < how->max_u)
        i++;
    table[i].run(p, x, n_groups, y, n_rows, first);
}

/* ---- float panels
 * --------------------------------------------------------------------------------------- */

INLINE void tokens_float(const int T, const struct panel *p, int half, const struct tile *x, int t0,
                         int kc, __m256 *acc, int first)
{
    const int w = x->width;
    __m256 sum[T_MAX];
    for (int t = 0; t < T; t++)
        sum[t] = _mm256_setzero_ps();
    for (int j = 0; j < FLOAT_CHAINS; j += 2) { /* two chains at a time, to hide the latency */
        const float *xt = x->x + (size_t)j * w + t0;
        const float *pw = p->w + (size_t)j * PANEL_ROWS + HALF_ROWS * half;
        __m256 c[2][T_MAX];
#pragma GCC unroll 4
        for (int t = 0; t < T; t++)
            c[0][t] = c[1][t] = _mm256_setzero_ps();
        int k = j;
        for (; k + 1 < kc; k += FLOAT_CHAINS) {
            __m256 v0 = _mm256_load_ps(pw), v1 = _mm256_load_ps(pw + PANEL_ROWS);
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) {
                c[0][t] = _mm256_fmadd_ps(v0, _mm256_set1_ps(xt[t]), c[0][t]);
                c[1][t] = _mm256_fmadd_ps(v1, _mm256_set1_ps(xt[w + t]), c[1][t]);
            }
            pw += FLOAT_CHAINS * PANEL_ROWS;
            xt += FLOAT_CHAINS * w;
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) {
            if (k < kc) /* the last column of all */
                c[0][t] = _mm256_fmadd_ps(_mm256_load_ps(pw), _mm256_set1_ps(xt[t]), c[0][t]);
            sum[t] = _mm256_add_ps(_mm256_add_ps(sum[t], c[0][t]), c[1][t]);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
        acc[t] = first ? sum[t] : _mm256_add_ps(acc[t], sum[t]);
}

#define PIECE_FLOAT(T)                                                                             \
    for (; t + (T) <= x->width; t += (T)) {                                                        \
        __m256 acc[T_MAX];                                                                         \
        load_acc(acc, T, y + t, half, rows, first);                                                \
        tokens_float(T, p, half, x, t, kc, acc, first);                                            \
        store_acc(acc, T, y + t, half, rows);                                                      \
    }

static void micro_float_avx2(const struct panel *p, const struct tile *x, int kc, float *const *y,
                             int n_rows, int first)
{
    for (int half = 0; half < 2 && n_rows > HALF_ROWS * half; half++) {
        const __m256i rows = row_mask(n_rows, half);
        int t = 0;
        PIECE_FLOAT(4)
        PIECE_FLOAT(2)
        PIECE_FLOAT(1)
    }
}

const struct kernels kernels_avx2 = {
    .quantize = quantize_avx2,
    .micro_int = micro_int_avx2,
    .micro_float = micro_float_avx2,
    .dot = dot_table_avx2,
    .dot_tokens = {1, 8, 2},
    .dot_float = dot_float_table_avx2,
    .float_tokens = 4,
    .unpack = unpack_table_avx2,
};
