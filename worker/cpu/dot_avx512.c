/* dot_avx512.c - products for few tokens with AVX-512 VNNI. */
#include "worker/cpu/vec_avx512.h"

#include "worker/cpu/kernels.h"

enum { V_DOT_SIGNED = 0 }; /* vpdpbusd takes any u */

INLINE __m512i v_dot(__m512i a, __m512i u, const int8_t *q, const int big)
{
    int32_t four;
    (void)big;
    memcpy(&four, q, 4);
    return _mm512_dpbusd_epi32(a, u, _mm512_set1_epi32(four));
}

#include "worker/cpu/dot_vec.h"

const dot_fn dot_table_avx512[QTYPE_COUNT_] = DOT_TABLE;
