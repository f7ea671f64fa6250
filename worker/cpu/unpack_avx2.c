/* unpack_avx2.c - the primitives of unpack_vec.h for 8 rows at once. */
#include <immintrin.h>
#include <string.h>

#include "worker/cpu/unpack.h"

#define LANES 8
typedef __m256i vint;
typedef __m256 vflt;

#define v_set(x)    _mm256_set1_epi32((int)(x))
#define v_and       _mm256_and_si256
#define v_or        _mm256_or_si256
#define v_xor       _mm256_xor_si256
#define v_srl       _mm256_srli_epi32
#define v_sll       _mm256_slli_epi32
#define v_sra       _mm256_srai_epi32
#define v_cvt       _mm256_cvtepi32_ps
#define v_mul       _mm256_mul_ps
#define v_neg(x)    _mm256_xor_ps(x, _mm256_set1_ps(-0.0f))
#define v_bits      _mm256_castsi256_ps
#define v_put(p, v) _mm256_store_si256((__m256i *)(void *)(p), v)
#define v_putf      _mm256_store_ps

static inline __attribute__((always_inline)) void v_rows(__m256i out[4], const uint8_t *p,
                                                         size_t stride)
{
    /* a[i]: rows i and i+4 in the two 128-bit lanes; then a 4x4 transpose inside each lane. */
    __m256i a[4];
    for (int i = 0; i < 4; i++) {
        const uint8_t *at = p + (size_t)i * stride;
        a[i] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)at));
        a[i] =
            _mm256_inserti128_si256(a[i], _mm_loadu_si128((const __m128i *)(at + 4 * stride)), 1);
    }
    __m256i b0 = _mm256_unpacklo_epi32(a[0], a[1]), b1 = _mm256_unpackhi_epi32(a[0], a[1]);
    __m256i b2 = _mm256_unpacklo_epi32(a[2], a[3]), b3 = _mm256_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm256_unpacklo_epi64(b0, b2);
    out[1] = _mm256_unpackhi_epi64(b0, b2);
    out[2] = _mm256_unpacklo_epi64(b1, b3);
    out[3] = _mm256_unpackhi_epi64(b1, b3);
}

static inline __attribute__((always_inline)) __m256 v_f16s(const uint8_t *p, size_t stride)
{
    uint16_t h[8];
    for (int r = 0; r < 8; r++)
        memcpy(&h[r], p + (size_t)r * stride, 2);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3],
                                          (short)h[4], (short)h[5], (short)h[6], (short)h[7]));
}

/* Eight dwords below 65536 to eight words, in order. */
static inline __attribute__((always_inline)) __m128i words(__m256i v)
{
    __m256i packed = _mm256_packus_epi32(v, v);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}

static inline __attribute__((always_inline)) __m256 v_f16_low(__m256i v)
{
    return _mm256_cvtph_ps(words(_mm256_and_si256(v, _mm256_set1_epi32(0xffff))));
}

static inline __attribute__((always_inline)) __m256 v_f16_high(__m256i v)
{
    return _mm256_cvtph_ps(words(_mm256_srli_epi32(v, 16)));
}

#include "worker/cpu/unpack_vec.h"

const unpack_fn unpack_table_avx2[QTYPE_COUNT_] = UNPACK_TABLE;
