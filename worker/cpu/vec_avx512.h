/* vec_avx512.h - the primitives of rows_vec.h for 16 rows at once. Included by *_avx512.c only. */
#ifndef MILLRACE_WORKER_CPU_VEC_AVX512_H
#define MILLRACE_WORKER_CPU_VEC_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES  16
#define INLINE static inline __attribute__((always_inline))
typedef __m512i vint;
typedef __m512 vflt;

#define v_set(x) _mm512_set1_epi32((int)(x))
#define v_setf   _mm512_set1_ps
#define v_loadf  _mm512_loadu_ps
#define v_and    _mm512_and_si512
#define v_or     _mm512_or_si512
#define v_xor    _mm512_xor_si512
#define v_srl    _mm512_srli_epi32
#define v_sll    _mm512_slli_epi32
#define v_sra    _mm512_srai_epi32
#define v_add    _mm512_add_epi32
#define v_min    _mm512_min_epi32
#define v_max    _mm512_max_epi32
#define v_cvt    _mm512_cvtepi32_ps
#define v_addf   _mm512_add_ps
#define v_mul    _mm512_mul_ps
#define v_fma    _mm512_fmadd_ps
#define v_neg(x) _mm512_xor_ps(x, _mm512_set1_ps(-0.0f))
#define v_bits   _mm512_castsi512_ps
#define v_put    _mm512_store_si512
#define v_putf   _mm512_store_ps
#define v_putuf  _mm512_storeu_ps

/* The rows of a panel at some column: four base pointers and two offsets reach all 16, so that the
 * compiler needs no more registers than there are. */
struct rows {
    const uint8_t *at[4]; /* rows 0, 4, 8, 12 */
    size_t stride, stride3;
    const uint8_t *ahead, *due; /* fetched ahead up to; should be by now */
};

/* ahead: what will be read next, as many bytes as these rows have in what is read now; it is asked
 * for at the pace of the reading, a few lines at a time, since the processor can only wait for so
 * many. */
INLINE struct rows rows_at(const uint8_t *p, size_t stride, const uint8_t *ahead)
{
    struct rows r = {
        {p, p + 4 * stride, p + 8 * stride, p + 12 * stride}, stride, 3 * stride, ahead, ahead};
    /* Hides how the pointers are related: else they become one base and twelve spilled offsets. */
    __asm__("" : "+r"(r.at[0]), "+r"(r.at[1]), "+r"(r.at[2]), "+r"(r.at[3]), "+r"(r.stride3));
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
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        __builtin_prefetch(ROW(r, i, off + NEAR), 0, 3);
}

/* out[j] lane i: dword j of the 16 bytes at `off` of row i. */
INLINE void v_rows(__m512i out[4], struct rows *r, int off)
{
    /* a[i]: rows i, i+4, i+8, i+12 in the four 128-bit lanes; then a 4x4 transpose in each lane. */
    __m512i a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_castsi128_si512(row16(ROW(r, i, off)));
        a[i] = _mm512_inserti32x4(a[i], row16(ROW(r, i + 4, off)), 1);
        a[i] = _mm512_inserti32x4(a[i], row16(ROW(r, i + 8, off)), 2);
        a[i] = _mm512_inserti32x4(a[i], row16(ROW(r, i + 12, off)), 3);
    }
    __m512i b0 = _mm512_unpacklo_epi32(a[0], a[1]), b1 = _mm512_unpackhi_epi32(a[0], a[1]);
    __m512i b2 = _mm512_unpacklo_epi32(a[2], a[3]), b3 = _mm512_unpackhi_epi32(a[2], a[3]);
    rows_fetch(r, 4);
    rows_near(r, off);
    out[0] = _mm512_unpacklo_epi64(b0, b2);
    out[1] = _mm512_unpackhi_epi64(b0, b2);
    out[2] = _mm512_unpacklo_epi64(b1, b3);
    out[3] = _mm512_unpackhi_epi64(b1, b3);
}

/* The 64 bytes at the rows' position: line->v[j] lane i is dword j of row i. A whole cache line of
 * a row at a time: rows of float weights are often a power of two apart, where the first-level
 * cache holds only half of 16 lines, so that they must not be needed twice. */
struct line {
    __m512i v[16];
};

INLINE void v_line(struct line *line, struct rows *r)
{
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        a[i] = _mm512_loadu_si512(ROW(r, i, 0));
    rows_fetch(r, 16);
    /* 4x4 transposes in each 128-bit lane: b[4*i + j] lane l: dwords 4*l + j of rows 4*i .. 4*i+3.
     */
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        __m512i b0 = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        __m512i b1 = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        __m512i b2 = _mm512_unpacklo_epi32(a[i + 2], a[i + 3]);
        __m512i b3 = _mm512_unpackhi_epi32(a[i + 2], a[i + 3]);
        b[i] = _mm512_unpacklo_epi64(b0, b2);
        b[i + 1] = _mm512_unpackhi_epi64(b0, b2);
        b[i + 2] = _mm512_unpacklo_epi64(b1, b3);
        b[i + 3] = _mm512_unpackhi_epi64(b1, b3);
    }
    /* Then the lanes themselves: a 4x4 transpose of 128-bit lanes for each j. */
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m512i c0 = _mm512_shuffle_i32x4(b[j], b[j + 4], 0x88);
        __m512i c1 = _mm512_shuffle_i32x4(b[j], b[j + 4], 0xdd);
        __m512i c2 = _mm512_shuffle_i32x4(b[j + 8], b[j + 12], 0x88);
        __m512i c3 = _mm512_shuffle_i32x4(b[j + 8], b[j + 12], 0xdd);
        line->v[j] = _mm512_shuffle_i32x4(c0, c2, 0x88);
        line->v[j + 4] = _mm512_shuffle_i32x4(c1, c3, 0x88);
        line->v[j + 8] = _mm512_shuffle_i32x4(c0, c2, 0xdd);
        line->v[j + 12] = _mm512_shuffle_i32x4(c1, c3, 0xdd);
    }
}

/* Dwords 4*h .. 4*h+3 of the line. */
INLINE void v_line_part(__m512i out[4], const struct line *line, struct rows *r, int h)
{
    (void)r;
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        out[j] = line->v[4 * h + j];
}

INLINE short row2(const uint8_t *p)
{
    short h;
    memcpy(&h, p, 2);
    return h;
}

/* Lane i: the f16 at `off` of row i, as a float. */
INLINE __m512 v_f16s(const struct rows *r, int off)
{
#define H(i) row2(ROW(r, i, off))
    return _mm512_cvtph_ps(_mm256_setr_epi16(H(0), H(1), H(2), H(3), H(4), H(5), H(6), H(7), H(8),
                                             H(9), H(10), H(11), H(12), H(13), H(14), H(15)));
#undef H
}

/* Bytes by 16-entry table; indices below 16. */
INLINE __m512i v_lookup(const uint8_t *table, __m512i index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(row16(table)), index);
}

/* Entry `index` in the low half of each dword, what follows it in the high half. */
INLINE __m512i v_gather(const uint16_t *table, __m512i index)
{
    return _mm512_i32gather_epi32(index, table, 2);
}

/* The f16 in the low and in the high halves of the dwords. */
INLINE void v_f16_halves(__m512i v, __m512 *low, __m512 *high)
{
    const __m512i order =
        _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24,
                         22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512i w = _mm512_permutexvar_epi16(order, v);
    *low = _mm512_cvtph_ps(_mm512_castsi512_si256(w));
    *high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(w, 1));
}

#endif
