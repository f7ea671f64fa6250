/* dot_avx2.c - products for few tokens with AVX2; see micro_avx2.c about saturation. */
#include "worker/cpu/vec_avx2.h"

#include "worker/cpu/kernels.h"

enum { V_DOT_SIGNED = 1 }; /* u above 128 goes as a signed weight */

INLINE __m256i v_dot(__m256i a, __m256i u, const int8_t *q, const int big)
{
    int32_t four;
    memcpy(&four, q, 4);
    __m256i x = _mm256_set1_epi32(four), words;
    if (big) {
        __m256i w = _mm256_xor_si256(u, _mm256_set1_epi8((char)0x80));
        words = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
        words = _mm256_maddubs_epi16(u, x);
    }
    return _mm256_add_epi32(a, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}

#include "worker/cpu/dot_vec.h"

const dot_fn dot_table_avx2[QTYPE_COUNT_] = DOT_TABLE;
