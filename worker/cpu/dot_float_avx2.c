/* dot_float_avx2.c - float weights and few tokens with AVX2: two vectors are all the chains. */
#include "worker/cpu/vec_avx2.h"

#include "worker/cpu/kernels.h"

enum { FLOAT_T = 1 }; /* eight accumulators of sixteen registers */

/* LANES weights as floats; type is a constant. */
INLINE __m256 v_weights(const enum qtype type, const uint8_t *p)
{
    if (type == QTYPE_F32)
        return _mm256_loadu_ps((const float *)(const void *)p);
    if (type == QTYPE_F16)
        return _mm256_cvtph_ps(row16(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(row16(p)), 16));
}

/* chain[j]: chain j of four rows, from acc[row][0] (chains 0..7) and acc[row][1]. */
INLINE void v_chains(__m128 chain[16], __m256 acc[4][2])
{
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
        __m256d b0 = _mm256_castps_pd(_mm256_unpacklo_ps(acc[0][v], acc[1][v]));
        __m256d b1 = _mm256_castps_pd(_mm256_unpackhi_ps(acc[0][v], acc[1][v]));
        __m256d b2 = _mm256_castps_pd(_mm256_unpacklo_ps(acc[2][v], acc[3][v]));
        __m256d b3 = _mm256_castps_pd(_mm256_unpackhi_ps(acc[2][v], acc[3][v]));
        const __m256 c[4] = {_mm256_castpd_ps(_mm256_unpacklo_pd(b0, b2)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(b0, b2)),
                             _mm256_castpd_ps(_mm256_unpacklo_pd(b1, b3)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(b1, b3))};
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            chain[8 * v + j] = _mm256_castps256_ps128(c[j]);
            chain[8 * v + 4 + j] = _mm256_extractf128_ps(c[j], 1);
        }
    }
}

#include "worker/cpu/dot_float_vec.h"

const dot_float_fn dot_float_table_avx2[QTYPE_COUNT_] = DOT_FLOAT_TABLE;
