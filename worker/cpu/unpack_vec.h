/* unpack_vec.h - the vectorized unpackers, written once over a few vector primitives.
 *
 * Included by unpack_avx2.c (LANES 8) and unpack_avx512.c (LANES 16), which define the primitives
 * first: vint, vflt                       LANES dwords, LANES floats; lane r is row r of the panel
 * half v_rows(out[4], p, stride)        out[j] lane r = dword j of the 16 bytes at p + r*stride (a
 * transpose) v_f16s(p, stride)                the f16 at p + r*stride as floats v_f16_low(v),
 * v_f16_high(v)      the f16 in the low or high half of each dword v_set, v_and, v_or, v_xor,
 * v_srl, v_sll, v_sra, v_add8, v_lookup (bytes 0..15 through a table), v_cvt, v_mul, v_put (store
 * dwords), v_putf (store floats), v_bits (dwords taken as floats) All of them work on the
 * transposed dwords: dword j of 16 rows is 4 neighbouring columns of each row, just as the panel
 * wants them; so unpacking is shifts and masks. Layouts: see decode_c.c. */
#include "worker/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum { HALVES = PANEL_ROWS / LANES, COLS4 = 4 * PANEL_ROWS /* bytes of panel per 4 columns */ };

/* One unpacker: `body` sees b (a block of row 0 of this half), u, s, m (where its columns go in the
 * panel). elems, bytes: of a block; group: columns per scale. */
#define UNPACKER(name, elems, bytes, group, body)                                                  \
    static void name(const struct panel *p, const uint8_t *rows, size_t stride, int kc)            \
    {                                                                                              \
        for (int half = 0; half < HALVES; half++) {                                                \
            const uint8_t *b = rows + (size_t)half * LANES * stride;                               \
            uint8_t *u = p->u + half * LANES * 4;                                                  \
            float *s = p->s + half * LANES, *m = p->m + half * LANES;                              \
            for (int k = 0; k < kc; k += (elems)) {                                                \
                body(b, stride, u, s, m);                                                          \
                b += (bytes);                                                                      \
                u += (size_t)(elems)*PANEL_ROWS;                                                   \
                s += (elems) / (group)*PANEL_ROWS;                                                 \
                m += (elems) / (group)*PANEL_ROWS;                                                 \
            }                                                                                      \
        }                                                                                          \
    }

#define BODY(name) INLINE void name(const uint8_t *b, size_t stride, uint8_t *u, float *s, float *m)
#define UNUSED(x)  ((void)(x))

/* ---- 32-column types
 * ----------------------------------------------------------------------------------- */

INLINE vint low4(vint v)
{
    return v_and(v, v_set(0x0f0f0f0f));
}
INLINE vint high4(vint v)
{
    return v_and(v_srl(v, 4), v_set(0x0f0f0f0f));
}

/* 16 bytes of nibbles: columns 0..15 low, 16..31 high. */
INLINE void put_nibbles_32(const uint8_t *qs, size_t stride, uint8_t *u)
{
    vint q[4];
    v_rows(q, qs, stride);
    for (int j = 0; j < 4; j++) {
        v_put(u + j * COLS4, low4(q[j]));
        v_put(u + (j + 4) * COLS4, high4(q[j]));
    }
}

BODY(q4_0)
{
    UNUSED(m);
    v_putf(s, v_f16s(b, stride));
    put_nibbles_32(b + 2, stride, u);
}
BODY(q4_1)
{
    v_putf(s, v_f16s(b, stride));
    v_putf(m, v_f16s(b + 2, stride));
    put_nibbles_32(b + 4, stride, u);
}
BODY(q8_0)
{
    UNUSED(m);
    v_putf(s, v_f16s(b, stride));
    for (int h = 0; h < 2; h++) {
        vint q[4];
        v_rows(q, b + 2 + 16 * h, stride);
        for (int j = 0; j < 4; j++)
            v_put(u + (4 * h + j) * COLS4, v_xor(q[j], v_set(0x80808080)));
    }
}

/* ---- 256-column types
 * ---------------------------------------------------------------------------------- */

/* Byte j of each dword, times d. */
INLINE vflt byte_times(vint v, int j, vflt d)
{
    return v_mul(v_cvt(v_and(v_srl(v, 8 * j), v_set(0xff))), d);
}

/* The 16-byte header of Q4_K and Q5_K: four scales or mins at once stay packed in the bytes of a
 * dword. */
INLINE void put_scales_q45_k(const uint8_t *b, size_t stride, float *s, float *m)
{
    vint h[4];
    v_rows(h, b, stride);
    vflt d = v_f16_low(h[0]), dmin = v_neg(v_f16_high(h[0]));
    const vint six = v_set(0x3f3f3f3f), two = v_set(0x30303030);
    vint s_low = v_and(h[1], six), m_low = v_and(h[2], six);
    vint s_high = v_or(low4(h[3]), v_and(v_srl(h[1], 2), two));
    vint m_high = v_or(high4(h[3]), v_and(v_srl(h[2], 2), two));
    for (int j = 0; j < 4; j++) {
        v_putf(s + j * PANEL_ROWS, byte_times(s_low, j, d));
        v_putf(s + (j + 4) * PANEL_ROWS, byte_times(s_high, j, d));
        v_putf(m + j * PANEL_ROWS, byte_times(m_low, j, dmin));
        v_putf(m + (j + 4) * PANEL_ROWS, byte_times(m_high, j, dmin));
    }
}

BODY(q4_k)
{
    put_scales_q45_k(b, stride, s, m);
    for (int c = 0; c < 4; c++)
        for (int h = 0; h < 2; h++) {
            vint q[4];
            v_rows(q, b + 16 + 32 * c + 16 * h, stride);
            uint8_t *at = u + (16 * c + 4 * h) * COLS4;
            for (int j = 0; j < 4; j++) {
                v_put(at + j * COLS4, low4(q[j]));
                v_put(at + (j + 8) * COLS4, high4(q[j]));
            }
        }
}

BODY(q5_k)
{
    put_scales_q45_k(b, stride, s, m);
    const vint bit4 = v_set(0x10101010);
    for (int h = 0; h < 2; h++) {
        vint fifth[4]; /* bit i of each byte belongs to group i */
        v_rows(fifth, b + 16 + 16 * h, stride);
        for (int c = 0; c < 4; c++) {
            vint q[4];
            v_rows(q, b + 48 + 32 * c + 16 * h, stride);
            uint8_t *at = u + (16 * c + 4 * h) * COLS4;
            for (int j = 0; j < 4; j++) {
                vint f0 = c < 2 ? v_sll(fifth[j], 4 - 2 * c) : v_srl(fifth[j], 2 * c - 4);
                vint f1 = c < 2 ? v_sll(fifth[j], 3 - 2 * c) : v_srl(fifth[j], 2 * c - 3);
                v_put(at + j * COLS4, v_or(low4(q[j]), v_and(f0, bit4)));
                v_put(at + (j + 8) * COLS4, v_or(high4(q[j]), v_and(f1, bit4)));
            }
        }
    }
}

BODY(q6_k)
{
    UNUSED(m);
    vflt d = v_f16s(b + 208, stride);
    vint sc[4];
    v_rows(sc, b + 192, stride);
    for (int j = 0; j < 16; j++)
        v_putf(s + j * PANEL_ROWS, v_mul(v_cvt(v_sra(v_sll(sc[j / 4], 24 - 8 * (j % 4)), 24)), d));
    const vint high = v_set(0x30303030);
    for (int half = 0; half < 2; half++)
        for (int h = 0; h < 2; h++) {
            vint a[4], c[4],
                f[4]; /* low nibbles: groups 0, 2 and 1, 3; two high bits each of all four */
            v_rows(a, b + 64 * half + 16 * h, stride);
            v_rows(c, b + 64 * half + 32 + 16 * h, stride);
            v_rows(f, b + 128 + 32 * half + 16 * h, stride);
            uint8_t *at = u + (32 * half + 4 * h) * COLS4;
            for (int j = 0; j < 4; j++) {
                v_put(at + j * COLS4, v_or(low4(a[j]), v_and(v_sll(f[j], 4), high)));
                v_put(at + (j + 8) * COLS4, v_or(low4(c[j]), v_and(v_sll(f[j], 2), high)));
                v_put(at + (j + 16) * COLS4, v_or(high4(a[j]), v_and(f[j], high)));
                v_put(at + (j + 24) * COLS4, v_or(high4(c[j]), v_and(v_srl(f[j], 2), high)));
            }
        }
}

UNPACKER(unpack_q4_0, 32, 18, 32, q4_0)
UNPACKER(unpack_q4_1, 32, 20, 32, q4_1)
UNPACKER(unpack_q8_0, 32, 34, 32, q8_0)
UNPACKER(unpack_q4_k, 256, 144, 32, q4_k)
UNPACKER(unpack_q5_k, 256, 176, 32, q5_k)
UNPACKER(unpack_q6_k, 256, 210, 16, q6_k)

/* ---- float types: columns beyond the last full vector go the portable way
 * ------------------------------- */

/* Columns k.. that are left when `step` columns at a time are done. */
INLINE void unpack_rest(enum qtype type, int bytes, const struct panel *p, const uint8_t *rows,
                        size_t stride, int kc, int step)
{
    int k = kc - kc % step;
    if (k == kc)
        return;
    struct panel rest = {.w = p->w + (size_t)k * PANEL_ROWS};
    unpack_any(type, &rest, rows + (size_t)k * bytes, stride, kc - k);
}

static void unpack_f32(const struct panel *p, const uint8_t *rows, size_t stride, int kc)
{
    for (int half = 0; half < HALVES; half++)
        for (int k = 0; k + 4 <= kc; k += 4) {
            vint v[4];
            v_rows(v, rows + (size_t)half * LANES * stride + (size_t)k * 4, stride);
            for (int j = 0; j < 4; j++)
                v_putf(p->w + (size_t)(k + j) * PANEL_ROWS + half * LANES, v_bits(v[j]));
        }
    unpack_rest(QTYPE_F32, 4, p, rows, stride, kc, 4);
}

static void unpack_f16(const struct panel *p, const uint8_t *rows, size_t stride, int kc)
{
    for (int half = 0; half < HALVES; half++)
        for (int k = 0; k + 8 <= kc; k += 8) {
            vint v[4];
            v_rows(v, rows + (size_t)half * LANES * stride + (size_t)k * 2, stride);
            for (int j = 0; j < 4; j++) {
                float *w = p->w + (size_t)(k + 2 * j) * PANEL_ROWS + half * LANES;
                v_putf(w, v_f16_low(v[j]));
                v_putf(w + PANEL_ROWS, v_f16_high(v[j]));
            }
        }
    unpack_rest(QTYPE_F16, 2, p, rows, stride, kc, 8);
}

static void unpack_bf16(const struct panel *p, const uint8_t *rows, size_t stride, int kc)
{
    for (int half = 0; half < HALVES; half++)
        for (int k = 0; k + 8 <= kc; k += 8) {
            vint v[4];
            v_rows(v, rows + (size_t)half * LANES * stride + (size_t)k * 2, stride);
            for (int j = 0; j < 4; j++) {
                float *w = p->w + (size_t)(k + 2 * j) * PANEL_ROWS + half * LANES;
                v_putf(w, v_bits(v_sll(v[j], 16)));
                v_putf(w + PANEL_ROWS, v_bits(v_and(v[j], v_set(0xffff0000))));
            }
        }
    unpack_rest(QTYPE_BF16, 2, p, rows, stride, kc, 8);
}

// clang-format off
#define UNPACK_TABLE {                                                                                       \
    [QTYPE_F32]  = unpack_f32,  [QTYPE_F16]  = unpack_f16,  [QTYPE_BF16] = unpack_bf16,                      \
    [QTYPE_Q4_0] = unpack_q4_0, [QTYPE_Q4_1] = unpack_q4_1, [QTYPE_Q8_0] = unpack_q8_0,                      \
    [QTYPE_Q4_K] = unpack_q4_k, [QTYPE_Q5_K] = unpack_q5_k, [QTYPE_Q6_K] = unpack_q6_k,                      \
}
// clang-format on
