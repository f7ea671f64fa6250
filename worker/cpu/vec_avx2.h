/* vec_avx2.h - the primitives of rows_vec.h for 8 rows at once. Included by *_avx2.c only. */
#ifndef MILLRACE_WORKER_CPU_VEC_AVX2_H
#define MILLRACE_WORKER_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES  8
#define INLINE static inline __attribute__((always_inline))
typedef __m256i vint;
typedef __m256 vflt;

#define v_set(x)    _mm256_set1_epi32((int)(x))
#define v_setf      _mm256_set1_ps
#define v_loadf     _mm256_loadu_ps
#define v_and       _mm256_and_si256
#define v_or        _mm256_or_si256
#define v_xor       _mm256_xor_si256
#define v_srl       _mm256_srli_epi32
#define v_sll       _mm256_slli_epi32
#define v_sra       _mm256_srai_epi32
#define v_add       _mm256_add_epi32
#define v_min       _mm256_min_epi32
#define v_max       _mm256_max_epi32
#define v_cvt       _mm256_cvtepi32_ps
#define v_addf      _mm256_add_ps
#define v_mul       _mm256_mul_ps
#define v_fma       _mm256_fmadd_ps
#define v_neg(x)    _mm256_xor_ps(x, _mm256_set1_ps(-0.0f))
#define v_bits      _mm256_castsi256_ps
#define v_put(p, v) _mm256_store_si256((__m256i *)(void *)(p), v)
#define v_putf      _mm256_store_ps
#define v_putuf     _mm256_storeu_ps

/* Eight rows at some column; see vec_avx512.h. */
struct rows {
    const uint8_t *at[2]; /* rows 0, 4 */
    size_t stride, stride3;
    const uint8_t *ahead, *due; /* fetched ahead up to; should be by now */
};

/* ahead: what will be read next, as many bytes as these rows have in what is read now; it is asked
 * for at the pace of the reading, a few lines at a time, since the processor can only wait for so
 * many. */
INLINE struct rows rows_at(const uint8_t *p, size_t stride, const uint8_t *ahead)
{
    struct rows r = {{p, p + 4 * stride}, stride, 3 * stride, ahead, ahead};
    __asm__("" : "+r"(r.at[0]), "+r"(r.at[1]), "+r"(r.stride3));
    return r;
}

INLINE void rows_step(struct rows *r, int bytes)
{
    for (int i = 0; i < LANES / 4; i++)
        r->at[i] += bytes;
    r->due += LANES * bytes;
    for (; r->ahead < r->due; r->ahead += 64)
        __builtin_prefetch(r->ahead, 0, 2);
}

INLINE void rows_fetch(struct rows *r, int lines)
{
#pragma GCC unroll 16
    for (int i = 0; i < lines; i++)
        __builtin_prefetch(r->ahead + 64 * i, 0, 2);
    r->ahead += 64 * lines;
}

#define ROW(r, i, off)                                                                             \
    ((r)->at[(i) / 4] + (off) +                                                                    \
     ((i) % 4 == 0   ? 0                                                                           \
      : (i) % 4 == 1 ? (r)->stride                                                                 \
      : (i) % 4 == 2 ? 2 * (r)->stride                                                             \
                     : (r)->stride3))

INLINE __m128i row16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* What was fetched ahead is in the second-level cache, or was not fetched at all: the processor
 * drops such requests while many are under way. So the lines that these rows need soon are asked
 * for once more, at `off` and once per line. */
INLINE void rows_near(const struct rows *r, int off)
{
    enum { NEAR = 256 };
    if (off % 64 >= 16)
        return;
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++)
        __builtin_prefetch(ROW(r, i, off + NEAR), 0, 3);
}

/* out[j] lane i: dword j of the 16 bytes at `off` of row i. */
INLINE void v_rows(__m256i out[4], struct rows *r, int off)
{
    /* a[i]: rows i and i+4 in the two 128-bit lanes; then a 4x4 transpose in each lane. */
    __m256i a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_castsi128_si256(row16(ROW(r, i, off)));
        a[i] = _mm256_inserti128_si256(a[i], row16(ROW(r, i + 4, off)), 1);
    }
    __m256i b0 = _mm256_unpacklo_epi32(a[0], a[1]), b1 = _mm256_unpackhi_epi32(a[0], a[1]);
    __m256i b2 = _mm256_unpacklo_epi32(a[2], a[3]), b3 = _mm256_unpackhi_epi32(a[2], a[3]);
    rows_fetch(r, 2);
    rows_near(r, off);
    out[0] = _mm256_unpacklo_epi64(b0, b2);
    out[1] = _mm256_unpackhi_epi64(b0, b2);
    out[2] = _mm256_unpacklo_epi64(b1, b3);
    out[3] = _mm256_unpackhi_epi64(b1, b3);
}

/* The 64 bytes at the rows' position, in four parts: dwords 4*h .. 4*h+3 of each row. */
struct line {
    char none;
};

INLINE void v_line(struct line *line, struct rows *r)
{
    (void)line;
    (void)r;
}

INLINE void v_line_part(__m256i out[4], const struct line *line, struct rows *r, int h)
{
    (void)line;
    v_rows(out, r, 16 * h);
}

INLINE short row2(const uint8_t *p)
{
    short h;
    memcpy(&h, p, 2);
    return h;
}

/* Lane i: the f16 at `off` of row i, as a float. */
INLINE __m256 v_f16s(const struct rows *r, int off)
{
#define H(i) row2(ROW(r, i, off))
    return _mm256_cvtph_ps(_mm_setr_epi16(H(0), H(1), H(2), H(3), H(4), H(5), H(6), H(7)));
#undef H
}

/* Bytes by 16-entry table; indices below 16. */
INLINE __m256i v_lookup(const uint8_t *table, __m256i index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row16(table)), index);
}

/* Entry `index` in the low half of each dword, what follows it in the high half. */
INLINE __m256i v_gather(const uint16_t *table, __m256i index)
{
    return _mm256_i32gather_epi32((const int *)(const void *)table, index, 2);
}

/* The f16 in the low and in the high halves of the dwords. */
INLINE void v_f16_halves(__m256i v, __m256 *low, __m256 *high)
{
    /* Low halves to the front of each 128-bit lane, high halves behind; then the lanes' quarters.
     */
    const __m256i split = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0,
                                           1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m256i w = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v, split), 0xd8);
    *low = _mm256_cvtph_ps(_mm256_castsi256_si128(w));
    *high = _mm256_cvtph_ps(_mm256_extracti128_si256(w, 1));
}

#endif
