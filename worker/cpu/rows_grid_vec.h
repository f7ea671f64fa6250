/* rows_grid_vec.h - rows_vec.h, continued: types whose codes index a codebook, and ternary types.
 *
 * A grid entry is 16 bits: 2 or 3 bits per weight (worker/quant/codebooks.h), fetched for all rows
 * by one gather. Spread to bytes, with the sign bit above, the codes index a table of 16 bytes u =
 * offset + value, which is one shuffle. */
#include "worker/quant/codebooks.h"

/* Bits 0..7 to the four bytes, two each. */
INLINE vint spread2(vint v)
{
    v = v_and(v_or(v, v_sll(v, 12)), v_set(0x000f000f));
    return v_and(v_or(v, v_sll(v, 6)), v_set(0x03030303));
}
/* Bits 0..11 to the four bytes, three each. */
INLINE vint spread3(vint v)
{
    v = v_and(v_or(v, v_sll(v, 10)), v_set(0x003f003f));
    return v_and(v_or(v, v_sll(v, 5)), v_set(0x07070707));
}
/* A small number as a float, times d. */
INLINE vflt times(vint n, vflt d)
{
    return v_mul(v_cvt(n), d);
}

/* ---- sixteen values -------------------------------------------------------------------------- */

/* 16 bytes of nibbles as nibbles_32(), from column 4*c on. */
INLINE void lookup_32(struct rows *r, int off, struct sink *k, int c, const uint8_t *table)
{
    vint q[4];
    v_rows(q, r, off);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        sink_cols(k, c + j, v_lookup(table, low4(q[j])));
        sink_cols(k, c + j + 4, v_lookup(table, high4(q[j])));
    }
}

INLINE void block_vec_iq4_nl(struct rows *r, struct sink *k)
{
    lookup_32(r, OFF(iq4_nl, qs), k, 0, u_iq4);
    sink_group(k, 0, v_f16s(r, OFF(iq4_nl, d)), v_setf(0));
}

INLINE void block_vec_mxfp4(struct rows *r, struct sink *k)
{
    vint e[4];
    v_rows(e, r, 0);
    e[0] = v_and(e[0], v_set(0xff));
    /* 2^(e-128) for e below 2 is subnormal: bits 0x200000 << e. */
    vint low = v_and(v_lookup(u_e8m0_low, v_min(e[0], v_set(2))), v_set(0xff));
    vint normal = v_sll(v_add(v_max(e[0], v_set(1)), v_set(-1)), 23);
    lookup_32(r, OFF(mxfp4, qs), k, 0, u_fp4);
    sink_group(k, 0, v_bits(v_or(normal, v_sll(low, 16))), v_setf(0));
}

INLINE void block_vec_iq4_xs(struct rows *r, struct sink *k)
{
    vint h[4];
    vflt d, none;
    v_rows(h, r, 0); /* d and scales_h, scales_l, ... */
    v_f16_halves(h[0], &d, &none);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        vint scale = v_or(bits(h[1], 4 * g, 4), v_sll(bits(h[0], 16 + 2 * g, 2), 4));
        lookup_32(r, OFF(iq4_xs, qs) + 16 * g, k, 8 * g, u_iq4);
        sink_group(k, g, times(v_add(scale, v_set(-32)), d), v_setf(0));
    }
}

/* ---- grids of eight: IQ2, IQ1 ---------------------------------------------------------------- */

/* Eight weights from column 4*c on: entry `index` of the grid, bit j of `above` over code j. */
INLINE void grid_8(struct sink *k, int c, const uint16_t *grid, vint index, vint above,
                   const uint8_t *table)
{
    vint code = v_gather(grid, index);
    vint low = v_or(spread2(v_and(code, v_set(0xff))), v_sll(spread1(v_and(above, v_set(15))), 2));
    vint high = v_or(spread2(bits(code, 8, 8)), v_sll(spread1(bits(above, 4, 4)), 2));
    sink_cols(k, c, v_lookup(table, low));
    sink_cols(k, c + 1, v_lookup(table, high));
}

/* Bit 7*g: the parity of bits 7*g .. 7*g+6. */
INLINE vint parities(vint t)
{
    vint two = v_xor(t, v_srl(t, 1)), four = v_xor(two, v_srl(two, 2));
    return v_xor(v_xor(four, v_srl(two, 4)), v_srl(t, 6));
}
/* The eight signs of group g of a word of four times seven. */
INLINE vint signs_of(vint t, vint parity, int g)
{
    return v_or(bits(t, 7 * g, 7), v_sll(bits(parity, 7 * g, 1), 7));
}
/* d * (0.5 + n) * unit, as dequantize does it. */
INLINE vflt half_scale(vint n, vflt d, float unit)
{
    return v_mul(v_mul(d, v_addf(v_setf(0.5f), v_cvt(n))), v_setf(unit));
}

INLINE void block_vec_iq2_xxs(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(iq2_xxs, d));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vint q[4];
        v_rows(q, r, OFF(iq2_xxs, qs) + 16 * i);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vint tail = q[2 * h + 1], parity = parities(tail);
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++)
                grid_8(k, 16 * i + 8 * h + 2 * g, codebook_iq2_xxs, bits(q[2 * h], 8 * g, 8),
                       signs_of(tail, parity, g), u_iq2);
            sink_group(k, 2 * i + h, half_scale(v_srl(tail, 28), d, 0.25f), v_setf(0));
        }
    }
}

INLINE void block_vec_iq2_xs(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(iq2_xs, d));
    vint sc[4]; /* its last 8 bytes are scales */
    v_rows(sc, r, OFF(iq2_xs, scales) - 8);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vint q[4];
        v_rows(q, r, OFF(iq2_xs, qs) + 16 * i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const int g = 4 * i + j; /* two groups of eight */
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                vint seven = bits(q[j], 16 * h + 9, 7), parity = parities(seven);
                grid_8(k, 4 * g + 2 * h, codebook_iq2_xs, bits(q[j], 16 * h, 9),
                       signs_of(seven, parity, 0), u_iq2);
            }
            sink_group(k, g, half_scale(bits(sc[2 + g / 8], 4 * (g % 8), 4), d, 0.25f), v_setf(0));
        }
    }
}

INLINE void block_vec_iq2_s(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(iq2_s, d));
    vint h[4]; /* 8 bytes of high bits, 8 of scales */
    v_rows(h, r, OFF(iq2_s, qh));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vint q[4], s[4];
        v_rows(q, r, OFF(iq2_s, qs) + 16 * i);
        v_rows(s, r, OFF(iq2_s, signs) + 16 * i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                vint index = v_or(bits(q[j], 8 * g, 8), v_sll(bits(h[i], 8 * j + 2 * g, 2), 8));
                grid_8(k, 32 * i + 8 * j + 2 * g, codebook_iq2_s, index, bits(s[j], 8 * g, 8),
                       u_iq2);
            }
#pragma GCC unroll 2
            for (int g = 8 * i + 2 * j; g < 8 * i + 2 * j + 2; g++)
                sink_group(k, g, half_scale(bits(h[2 + i], 4 * (g % 8), 4), d, 0.25f), v_setf(0));
        }
    }
}

/* Eight times the values of IQ1 are whole: 8*(-1, 0, 1) + or - 1. */
INLINE void block_vec_iq1_s(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(iq1_s, d));
    vint qh[4]; /* half g%2 of dword g/2 belongs to group g */
    v_rows(qh, r, OFF(iq1_s, qh));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vint q[4];
        v_rows(q, r, OFF(iq1_s, qs) + 16 * i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const int g = 4 * i + j, at = 16 * (g % 2);
            vint w = qh[g / 2];
            vint down = v_and(v_sra(v_sll(w, 16 - at), 31), v_set(0xff));
#pragma GCC unroll 4
            for (int e = 0; e < 4; e++)
                grid_8(k, 8 * g + 2 * e, codebook_iq1,
                       v_or(bits(q[j], 8 * e, 8), v_sll(bits(w, at + 3 * e, 3), 8)), down, u_iq1);
            vint n = v_or(v_sll(bits(w, at + 12, 3), 1), v_set(1));
            sink_group(k, g, v_mul(times(n, d), v_setf(0.125f)), v_setf(0));
        }
    }
}

INLINE void block_vec_iq1_m(struct rows *r, struct sink *k)
{
    vint sc[4], qh[4]; /* the last 8 bytes of sc are scales */
    vflt d, none;
    v_rows(sc, r, OFF(iq1_m, scales) - 8);
    v_rows(qh, r, OFF(iq1_m, qh));
    v_f16_halves(v_or(v_or(bits(sc[2], 12, 4), v_sll(bits(sc[2], 28, 4), 4)),
                      v_or(v_sll(bits(sc[3], 12, 4), 8), v_sll(bits(sc[3], 28, 4), 12))),
                 &d, &none);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vint q[4];
        v_rows(q, r, OFF(iq1_m, qs) + 16 * i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vint h = qh[2 * i + j / 2]; /* a nibble for each of 8 entries */
#pragma GCC unroll 4
            for (int e = 0; e < 4; e++) {
                const int at = 16 * (j % 2) + 4 * e;
                vint down = v_and(v_sra(v_sll(h, 28 - at), 31), v_set(0xff));
                grid_8(k, 32 * i + 8 * j + 2 * e, codebook_iq1,
                       v_or(bits(q[j], 8 * e, 8), v_sll(bits(h, at, 3), 8)), down, u_iq1);
            }
#pragma GCC unroll 2
            for (int g = 8 * i + 2 * j; g < 8 * i + 2 * j + 2; g++) {
                vint n = bits(sc[2 + g / 8], 16 * (g / 4 % 2) + 3 * (g % 4), 3);
                sink_group(k, g, v_mul(times(v_or(v_sll(n, 1), v_set(1)), d), v_setf(0.125f)),
                           v_setf(0));
            }
        }
    }
}

/* ---- grids of four: IQ3 ---------------------------------------------------------------------- */

INLINE void grid_4(struct sink *k, int c, const uint16_t *grid, vint index, vint signs,
                   const uint8_t *table)
{
    vint code = v_and(v_gather(grid, index), v_set(0xfff));
    sink_cols(k, c, v_lookup(table, v_or(spread3(code), v_sll(spread1(signs), 3))));
}

INLINE void block_vec_iq3_xxs(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(iq3_xxs, d));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vint tails[4];
        v_rows(tails, r, OFF(iq3_xxs, scales_signs) + 16 * i);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vint q[4];
            v_rows(q, r, OFF(iq3_xxs, qs) + 32 * i + 16 * h);
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) {
                const int s = 4 * i + 2 * h + j;
                vint tail = tails[2 * h + j], parity = parities(tail);
#pragma GCC unroll 4
                for (int g = 0; g < 4; g++) {
                    vint signs = signs_of(tail, parity, g), pair = q[2 * j + g / 2];
                    const int at = 16 * (g % 2);
                    grid_4(k, 8 * s + 2 * g, codebook_iq3_xxs, bits(pair, at, 8),
                           v_and(signs, v_set(15)), u_iq3_xxs);
                    grid_4(k, 8 * s + 2 * g + 1, codebook_iq3_xxs, bits(pair, at + 8, 8),
                           v_srl(signs, 4), u_iq3_xxs);
                }
                sink_group(k, s, half_scale(v_srl(tail, 28), d, 0.5f), v_setf(0));
            }
        }
    }
}

INLINE void block_vec_iq3_s(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(iq3_s, d));
    vint qh[4], sc[4]; /* the first 8 bytes are high bits; the last 4 are scales */
    v_rows(qh, r, OFF(iq3_s, qh));
    v_rows(sc, r, OFF(iq3_s, scales) - 12);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vint signs[4];
        v_rows(signs, r, OFF(iq3_s, signs) + 16 * i);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vint q[4];
            v_rows(q, r, OFF(iq3_s, qs) + 32 * i + 16 * h);
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) {
                const int s = 4 * i + 2 * h + j;
#pragma GCC unroll 8
                for (int g = 0; g < 8; g++) {
                    vint index = v_or(bits(q[2 * j + g / 4], 8 * (g % 4), 8),
                                      v_sll(bits(qh[s / 4], 8 * (s % 4) + g, 1), 8));
                    grid_4(k, 8 * s + g, codebook_iq3_s, index, bits(signs[2 * h + j], 4 * g, 4),
                           u_iq3_s);
                }
                vint n = v_or(v_sll(bits(sc[3], 4 * s, 4), 1), v_set(1));
                sink_group(k, s, times(n, d), v_setf(0));
            }
        }
    }
}

/* ---- ternary --------------------------------------------------------------------------------- */

INLINE void block_vec_tq2_0(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(tq2_0, d));
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        crumbs_128(r, OFF(tq2_0, qs) + 32 * half, k, 32 * half);
#pragma GCC unroll 4
        for (int g = 4 * half; g < 4 * half + 4; g++)
            sink_group(k, g, d, v_setf(0));
    }
}

/* The bytes of a dword apart, so that each can be multiplied by three; see ternary.c. */
struct digits {
    vint even, odd;
};

INLINE struct digits digits_of(vint v)
{
    const vint byte = v_set(0x00ff00ff);
    return (struct digits){v_and(v, byte), v_and(v_srl(v, 8), byte)};
}

INLINE vint next_digit(struct digits *t)
{
    const vint byte = v_set(0x00ff00ff);
    vint e = v_add(t->even, v_sll(t->even, 1)), o = v_add(t->odd, v_sll(t->odd, 1));
    t->even = v_and(e, byte);
    t->odd = v_and(o, byte);
    return v_or(v_and(v_srl(e, 8), v_set(0x00030003)), v_and(o, v_set(0x03000300)));
}

INLINE void block_vec_tq1_0(struct rows *r, struct sink *k)
{
    vflt d = v_f16s(r, OFF(tq1_0, d));
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) { /* 16 bytes: columns i*16 of each 32, then 16 at a time */
        vint q[4];
        v_rows(q, r, OFF(tq1_0, qs) + 16 * i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            struct digits t = digits_of(q[j]);
#pragma GCC unroll 5
            for (int n = 0; n < 5; n++)
                sink_cols(k, i < 2 ? 8 * n + 4 * i + j : 40 + 4 * n + j, next_digit(&t));
        }
    }
    vint q[4]; /* its last 4 bytes are qh */
    v_rows(q, r, OFF(tq1_0, qh) - 12);
    struct digits t = digits_of(q[3]);
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++)
        sink_cols(k, 60 + n, next_digit(&t));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        sink_group(k, g, d, v_setf(0));
}
