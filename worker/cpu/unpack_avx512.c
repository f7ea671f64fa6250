/* unpack_avx512.c - the primitives of unpack_vec.h for 16 rows at once. */
#include <immintrin.h>
#include <string.h>

#include "worker/cpu/unpack.h"

#define LANES 16
typedef __m512i vint;
typedef __m512 vflt;

#define v_set(x) _mm512_set1_epi32((int)(x))
#define v_and    _mm512_and_si512
#define v_or     _mm512_or_si512
#define v_xor    _mm512_xor_si512
#define v_srl    _mm512_srli_epi32
#define v_sll    _mm512_slli_epi32
#define v_sra    _mm512_srai_epi32
#define v_cvt    _mm512_cvtepi32_ps
#define v_mul    _mm512_mul_ps
#define v_neg(x) _mm512_xor_ps(x, _mm512_set1_ps(-0.0f))
#define v_bits   _mm512_castsi512_ps
#define v_put    _mm512_store_si512
#define v_putf   _mm512_store_ps

static inline __attribute__((always_inline)) void v_rows(__m512i out[4], const uint8_t *p,
                                                         size_t stride)
{
    /* a[i]: rows i, i+4, i+8, i+12 in the four 128-bit lanes; then a 4x4 transpose inside each
     * lane. */
    __m512i a[4];
    for (int i = 0; i < 4; i++) {
        const uint8_t *at = p + (size_t)i * stride;
        a[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)at));
        a[i] = _mm512_inserti32x4(a[i], _mm_loadu_si128((const __m128i *)(at + 4 * stride)), 1);
        a[i] = _mm512_inserti32x4(a[i], _mm_loadu_si128((const __m128i *)(at + 8 * stride)), 2);
        a[i] = _mm512_inserti32x4(a[i], _mm_loadu_si128((const __m128i *)(at + 12 * stride)), 3);
    }
    __m512i b0 = _mm512_unpacklo_epi32(a[0], a[1]), b1 = _mm512_unpackhi_epi32(a[0], a[1]);
    __m512i b2 = _mm512_unpacklo_epi32(a[2], a[3]), b3 = _mm512_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm512_unpacklo_epi64(b0, b2);
    out[1] = _mm512_unpackhi_epi64(b0, b2);
    out[2] = _mm512_unpacklo_epi64(b1, b3);
    out[3] = _mm512_unpackhi_epi64(b1, b3);
}

static inline __attribute__((always_inline)) __m512 v_f16s(const uint8_t *p, size_t stride)
{
    uint16_t h[16];
    for (int r = 0; r < 16; r++)
        memcpy(&h[r], p + (size_t)r * stride, 2);
    __m256i v = _mm256_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], (short)h[4],
                                  (short)h[5], (short)h[6], (short)h[7], (short)h[8], (short)h[9],
                                  (short)h[10], (short)h[11], (short)h[12], (short)h[13],
                                  (short)h[14], (short)h[15]);
    return _mm512_cvtph_ps(v);
}

static inline __attribute__((always_inline)) __m512 v_f16_low(__m512i v)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

static inline __attribute__((always_inline)) __m512 v_f16_high(__m512i v)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
}

#include "worker/cpu/unpack_vec.h"

const unpack_fn unpack_table_avx512[QTYPE_COUNT_] = UNPACK_TABLE;
