/* rows_vec.h - how each type's blocks are read, vectorized over rows; written once, for all uses.
 *
 * The includer has defined (vec_*.h) the primitives - vint and vflt of LANES rows, v_rows() and so
 * on - and a sink, which is told what a block holds, for LANES rows at once:
 *
 *   sink_cols(k, c, v)      v: the bytes u of columns 4c..4c+3 of the block
 *   sink_group(k, g, s, m)  scale and min of group g; after all its columns, in ascending order
 *
 * k is a struct sink *; c and g are constants once everything is inlined and unrolled. unpack_*.c
 * have a sink that stores a panel; dot_*.c one that multiplies on the spot. Everything works on
 * transposed dwords: dword j of 16 rows is 4 neighbouring columns of each row, so unpacking is
 * shifts and masks. Block layouts: worker/quant/blocks.h; the plain reading of them: decode_c.c. */
#include "worker/cpu/decode.h"
#include "worker/quant/blocks.h"

#define OFF(type, field) (int)offsetof(struct block_##type, field)

INLINE vint low4(vint v)
{
    return v_and(v, v_set(0x0f0f0f0f));
}
INLINE vint high4(vint v)
{
    return v_and(v_srl(v, 4), v_set(0x0f0f0f0f));
}
/* Shifts by n to the left, where n may be negative. */
INLINE vint shift(vint v, int n)
{
    return n < 0 ? v_srl(v, -n) : n > 0 ? v_sll(v, n) : v;
}

/* n bits of each dword from bit `at` on. */
INLINE vint bits(vint v, int at, int n)
{
    return v_and(shift(v, -at), v_set((1u << n) - 1));
}
/* Bits 0..3 to bit 0 of the four bytes. */
INLINE vint spread1(vint v)
{
    v = v_and(v_or(v, v_sll(v, 14)), v_set(0x00030003));
    return v_and(v_or(v, v_sll(v, 7)), v_set(0x01010101));
}

/* ---- 32-column types
 * ----------------------------------------------------------------------------------- */

/* 16 bytes of nibbles: columns 0..15 low, 16..31 high. */
INLINE void nibbles_32(struct rows *r, int off, struct sink *k)
{
    vint q[4];
    v_rows(q, r, off);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        sink_cols(k, j, low4(q[j]));
        sink_cols(k, j + 4, high4(q[j]));
    }
}

INLINE void block_vec_q4_0(struct rows *r, struct sink *k)
{
    nibbles_32(r, OFF(q4_0, qs), k);
    sink_group(k, 0, v_f16s(r, OFF(q4_0, d)), v_setf(0));
}

INLINE void block_vec_q4_1(struct rows *r, struct sink *k)
{
    nibbles_32(r, OFF(q4_1, qs), k);
    sink_group(k, 0, v_f16s(r, OFF(q4_1, d)), v_f16s(r, OFF(q4_1, m)));
}

INLINE void block_vec_q8_0(struct rows *r, struct sink *k)
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        vint q[4];
        v_rows(q, r, OFF(q8_0, qs) + 16 * h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            sink_cols(k, 4 * h + j, v_xor(q[j], v_set(0x80808080)));
    }
    sink_group(k, 0, v_f16s(r, OFF(q8_0, d)), v_setf(0));
}

/* The same with fifth bits: bit j of a dword is that of column j. */
INLINE void nibbles_32_fifth(struct rows *r, int off, vint fifth, struct sink *k)
{
    vint q[4];
    v_rows(q, r, off);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        sink_cols(k, j, v_or(low4(q[j]), v_sll(spread1(bits(fifth, 4 * j, 4)), 4)));
        sink_cols(k, j + 4, v_or(high4(q[j]), v_sll(spread1(bits(fifth, 16 + 4 * j, 4)), 4)));
    }
}

INLINE void block_vec_q5_0(struct rows *r, struct sink *k)
{
    vint h[4];
    v_rows(h, r, OFF(q5_0, qh));
    nibbles_32_fifth(r, OFF(q5_0, qs), h[0], k);
    sink_group(k, 0, v_f16s(r, OFF(q5_0, d)), v_setf(0));
}

INLINE void block_vec_q5_1(struct rows *r, struct sink *k)
{
    vint h[4]; /* d and m, qh, ... */
    vflt d, m;
    v_rows(h, r, 0);
    v_f16_halves(h[0], &d, &m);
    nibbles_32_fifth(r, OFF(q5_1, qs), h[1], k);
    sink_group(k, 0, d, m);
}

/* ---- 256-column types
 * ---------------------------------------------------------------------------------- */

/* The 16-byte header of Q4_K and Q5_K: four scales or mins at a time stay packed in a dword. */
struct scales_q45_k {
    vint s[2], m[2];
    vflt d, dmin;
};

INLINE void load_scales_q45_k(struct scales_q45_k *out, struct rows *r)
{
    vint h[4];
    v_rows(h, r, 0);
    v_f16_halves(h[0], &out->d, &out->dmin);
    out->dmin = v_neg(out->dmin);
    const vint six = v_set(0x3f3f3f3f), two = v_set(0x30303030);
    out->s[0] = v_and(h[1], six);
    out->m[0] = v_and(h[2], six);
    out->s[1] = v_or(low4(h[3]), v_and(v_srl(h[1], 2), two));
    out->m[1] = v_or(high4(h[3]), v_and(v_srl(h[2], 2), two));
}

/* Byte j of each dword, as a float. */
INLINE vflt byte_of(vint v, int j)
{
    return v_cvt(j == 3 ? v_srl(v, 24) : v_and(shift(v, -8 * j), v_set(0xff)));
}

INLINE void group_q45_k(const struct scales_q45_k *sc, int g, struct sink *k)
{
    sink_group(k, g, v_mul(byte_of(sc->s[g / 4], g % 4), sc->d),
               v_mul(byte_of(sc->m[g / 4], g % 4), sc->dmin));
}

INLINE void block_vec_q4_k(struct rows *r, struct sink *k)
{
    struct scales_q45_k sc;
    load_scales_q45_k(&sc, r);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vint q[4];
            v_rows(q, r, OFF(q4_K, qs) + 32 * c + 16 * h);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                sink_cols(k, 16 * c + 4 * h + j, low4(q[j]));
                sink_cols(k, 16 * c + 4 * h + j + 8, high4(q[j]));
            }
        }
        group_q45_k(&sc, 2 * c, k);
        group_q45_k(&sc, 2 * c + 1, k);
    }
}

INLINE void block_vec_q5_k(struct rows *r, struct sink *k)
{
    struct scales_q45_k sc;
    load_scales_q45_k(&sc, r);
    const vint bit4 = v_set(0x10101010);
    vint fifth[8]; /* bit g of each byte belongs to group g */
    v_rows(fifth, r, OFF(q5_K, qh));
    v_rows(fifth + 4, r, OFF(q5_K, qh) + 16);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vint q[4];
            v_rows(q, r, OFF(q5_K, qs) + 32 * c + 16 * h);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                vint f = fifth[4 * h + j];
                sink_cols(k, 16 * c + 4 * h + j,
                          v_or(low4(q[j]), v_and(shift(f, 4 - 2 * c), bit4)));
                sink_cols(k, 16 * c + 4 * h + j + 8,
                          v_or(high4(q[j]), v_and(shift(f, 3 - 2 * c), bit4)));
            }
        }
        group_q45_k(&sc, 2 * c, k);
        group_q45_k(&sc, 2 * c + 1, k);
    }
}

/* Signed byte j of each dword, as a float. */
INLINE vflt signed_byte_of(vint v, int j)
{
    return v_cvt(v_sra(shift(v, 24 - 8 * j), 24));
}

/* 32 bytes of two bits: byte l has columns l, l+32, l+64, l+96 of 128, which begin at 4*c. */
INLINE void crumbs_128(struct rows *r, int off, struct sink *k, int c)
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        vint q[4];
        v_rows(q, r, off + 16 * h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                sink_cols(k, c + 8 * p + 4 * h + j, v_and(shift(q[j], -2 * p), v_set(0x03030303)));
    }
}

INLINE void block_vec_q2_k(struct rows *r, struct sink *k)
{
    vint sc[4], h[4]; /* low nibbles scales, high ones mins; the last dword of h: d and dmin */
    vflt d, dmin;
    v_rows(sc, r, OFF(q2_K, scales));
    v_rows(h, r, OFF(q2_K, d) - 12);
    v_f16_halves(h[3], &d, &dmin);
    dmin = v_neg(dmin);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        crumbs_128(r, OFF(q2_K, qs) + 32 * half, k, 32 * half);
#pragma GCC unroll 8
        for (int g = 8 * half; g < 8 * half + 8; g++)
            sink_group(k, g, v_mul(v_cvt(bits(sc[g / 4], 8 * (g % 4), 4)), d),
                       v_mul(v_cvt(bits(sc[g / 4], 8 * (g % 4) + 4, 4)), dmin));
    }
}

INLINE void block_vec_q3_k(struct rows *r, struct sink *k)
{
    const vint bit2 = v_set(0x04040404), high = v_set(0x30303030);
    vflt d = v_f16s(r, OFF(q3_K, d));
    vint third[8], p[4], sc[4]; /* bit n of third: columns 32*n..; p: 4 other bytes, 12 of scales */
    v_rows(third, r, OFF(q3_K, hmask));
    v_rows(third + 4, r, OFF(q3_K, hmask) + 16);
    v_rows(p, r, OFF(q3_K, scales) - 4);
    sc[0] = v_or(low4(p[1]), v_and(v_sll(p[3], 4), high));
    sc[1] = v_or(low4(p[2]), v_and(v_sll(p[3], 2), high));
    sc[2] = v_or(high4(p[1]), v_and(p[3], high));
    sc[3] = v_or(high4(p[2]), v_and(v_srl(p[3], 2), high));
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vint q[4];
            v_rows(q, r, OFF(q3_K, qs) + 32 * half + 16 * h);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
                for (int n = 0; n < 4; n++)
                    sink_cols(k, 32 * half + 8 * n + 4 * h + j,
                              v_or(v_and(shift(q[j], -2 * n), v_set(0x03030303)),
                                   v_and(shift(third[4 * h + j], 2 - 4 * half - n), bit2)));
        }
#pragma GCC unroll 8
        for (int g = 8 * half; g < 8 * half + 8; g++) {
            vint n = v_add(bits(sc[g / 4], 8 * (g % 4), 8), v_set(-32));
            sink_group(k, g, v_mul(v_cvt(n), d), v_setf(0));
        }
    }
}

INLINE void block_vec_q6_k(struct rows *r, struct sink *k)
{
    const vint high = v_set(0x30303030);
    vint sc[4];
    vflt d = v_f16s(r, OFF(q6_K, d));
    v_rows(sc, r, OFF(q6_K, scales));
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            /* Low nibbles of 32-column parts 0, 2 (a) and 1, 3 (b); two high bits of all four. */
            vint a[4], b[4], f[4];
            v_rows(a, r, OFF(q6_K, ql) + 64 * half + 16 * h);
            v_rows(b, r, OFF(q6_K, ql) + 64 * half + 32 + 16 * h);
            v_rows(f, r, OFF(q6_K, qh) + 32 * half + 16 * h);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                int c = 32 * half + 4 * h + j;
                sink_cols(k, c, v_or(low4(a[j]), v_and(v_sll(f[j], 4), high)));
                sink_cols(k, c + 8, v_or(low4(b[j]), v_and(v_sll(f[j], 2), high)));
                sink_cols(k, c + 16, v_or(high4(a[j]), v_and(f[j], high)));
                sink_cols(k, c + 24, v_or(high4(b[j]), v_and(v_srl(f[j], 2), high)));
            }
        }
#pragma GCC unroll 8
        for (int g = 8 * half; g < 8 * half + 8; g++)
            sink_group(k, g, v_mul(signed_byte_of(sc[g / 4], g % 4), d), v_setf(0));
    }
}

#include "worker/cpu/rows_grid_vec.h"

/* ---- the list
 * ------------------------------------------------------------------------------------------- */

/* X(QTYPE, name, columns, bytes, group, has_min). Every integer row agrees with pack_table;
 * test_matmul compares what comes out. GRID_ROWS: integer types that are slow to unpack. */
// clang-format off
#define INT_ROWS(X)                             \
    X(Q4_0, q4_0,  32,  18, 32, 0)              \
    X(Q4_1, q4_1,  32,  20, 32, 1)              \
    X(Q8_0, q8_0,  32,  34, 32, 0)              \
    X(Q5_0, q5_0,  32,  22, 32, 0)              \
    X(Q5_1, q5_1,  32,  24, 32, 1)              \
    X(Q2_K, q2_k, 256,  84, 16, 1)              \
    X(Q3_K, q3_k, 256, 110, 16, 0)              \
    X(Q4_K, q4_k, 256, 144, 32, 1)              \
    X(Q5_K, q5_k, 256, 176, 32, 1)              \
    X(Q6_K, q6_k, 256, 210, 16, 0)              \
    X(IQ4_NL, iq4_nl, 32, 18, 32, 0) \
    X(IQ4_XS, iq4_xs, 256, 136, 32, 0) \
    X(MXFP4, mxfp4, 32, 17, 32, 0) \
    X(TQ2_0, tq2_0, 256, 66, 32, 0)
#define GRID_ROWS(X)                            \
    X(IQ2_XXS, iq2_xxs, 256, 66, 32, 0)          \
    X(IQ2_XS, iq2_xs, 256, 74, 16, 0)            \
    X(IQ2_S, iq2_s, 256, 82, 16, 0)              \
    X(IQ3_XXS, iq3_xxs, 256, 98, 32, 0)          \
    X(IQ3_S, iq3_s, 256, 110, 32, 0)             \
    X(IQ1_S, iq1_s, 256, 50, 32, 0)              \
    X(IQ1_M, iq1_m, 256, 56, 16, 0)              \
    X(TQ1_0, tq1_0, 256, 54, 32, 0)
#define FLOAT_ROWS(X)                           \
    X(F32,  f32,   16,  64,  0, 0)              \
    X(F16,  f16,   32,  64,  0, 0)              \
    X(BF16, bf16,  32,  64,  0, 0)
// clang-format on
