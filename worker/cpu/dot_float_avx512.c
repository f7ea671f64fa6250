/* dot_float_avx512.c - float weights and few tokens with AVX-512: a vector is all the chains. */
#include "worker/cpu/vec_avx512.h"

#include "worker/cpu/kernels.h"

enum { FLOAT_T = 4 };

/* LANES weights as floats; type is a constant. */
INLINE __m512 v_weights(const enum qtype type, const uint8_t *p)
{
    if (type == QTYPE_F32)
        return _mm512_loadu_ps(p);
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    if (type == QTYPE_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* chain[j]: chain j of four rows, from acc[row][0]. */
INLINE void v_chains(__m128 chain[16], __m512 acc[4][1])
{
    __m512d b0 = _mm512_castps_pd(_mm512_unpacklo_ps(acc[0][0], acc[1][0]));
    __m512d b1 = _mm512_castps_pd(_mm512_unpackhi_ps(acc[0][0], acc[1][0]));
    __m512d b2 = _mm512_castps_pd(_mm512_unpacklo_ps(acc[2][0], acc[3][0]));
    __m512d b3 = _mm512_castps_pd(_mm512_unpackhi_ps(acc[2][0], acc[3][0]));
    const __m512 c[4] = {
        _mm512_castpd_ps(_mm512_unpacklo_pd(b0, b2)), _mm512_castpd_ps(_mm512_unpackhi_pd(b0, b2)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(b1, b3)), _mm512_castpd_ps(_mm512_unpackhi_pd(b1, b3))};
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        chain[j] = _mm512_castps512_ps128(c[j]);
        chain[4 + j] = _mm512_extractf32x4_ps(c[j], 1);
        chain[8 + j] = _mm512_extractf32x4_ps(c[j], 2);
        chain[12 + j] = _mm512_extractf32x4_ps(c[j], 3);
    }
}

#include "worker/cpu/dot_float_vec.h"

const dot_float_fn dot_float_table_avx512[QTYPE_COUNT_] = DOT_FLOAT_TABLE;
