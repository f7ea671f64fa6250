/* unpack_vec.h - the sink of rows_vec.h that stores into a panel; included after vec_*.h. */
#include "worker/cpu/kernels.h"

struct sink {
    uint8_t *u;
    float *s, *m, *w;
    int min; /* a constant: whether the type has mins */
};

INLINE void sink_cols(struct sink *k, int c, vint v)
{
    v_put(k->u + c * 4 * PANEL_ROWS, v);
}

INLINE void sink_group(struct sink *k, int g, vflt s, vflt m)
{
    v_putf(k->s + g * PANEL_ROWS, s);
    if (k->min)
        v_putf(k->m + g * PANEL_ROWS, m);
}

INLINE void sink_float(struct sink *k, int c, vflt w)
{
    v_putf(k->w + c * PANEL_ROWS, w);
}

#include "worker/cpu/rows_vec.h"

/* ---- float types: 64 bytes of each row are a block
 * ------------------------------------------------------ */

INLINE void block_vec_f32(struct rows *r, struct sink *k)
{
    struct line line;
    v_line(&line, r);
#pragma GCC unroll 4
    for (int h = 0; h < 4; h++) {
        vint v[4];
        v_line_part(v, &line, r, h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            sink_float(k, 4 * h + j, v_bits(v[j]));
    }
}

INLINE void block_vec_f16(struct rows *r, struct sink *k)
{
    struct line line;
    v_line(&line, r);
#pragma GCC unroll 4
    for (int h = 0; h < 4; h++) {
        vint v[4];
        v_line_part(v, &line, r, h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vflt low, high;
            v_f16_halves(v[j], &low, &high);
            sink_float(k, 8 * h + 2 * j, low);
            sink_float(k, 8 * h + 2 * j + 1, high);
        }
    }
}

INLINE void block_vec_bf16(struct rows *r, struct sink *k)
{
    struct line line;
    v_line(&line, r);
#pragma GCC unroll 4
    for (int h = 0; h < 4; h++) {
        vint v[4];
        v_line_part(v, &line, r, h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            sink_float(k, 8 * h + 2 * j, v_bits(v_sll(v[j], 16)));
            sink_float(k, 8 * h + 2 * j + 1, v_bits(v_and(v[j], v_set(0xffff0000))));
        }
    }
}

/* Columns after the last full block of a float row go the portable way. */
INLINE void unpack_rest(enum qtype type, int cols, int bytes, const struct panel *p,
                        const uint8_t *rows, size_t stride, int kc)
{
    int k = kc - kc % cols;
    struct panel rest = {.w = p->w + (size_t)k * PANEL_ROWS};
    if (k < kc)
        unpack_any(type, &rest, rows + (size_t)(k / cols) * bytes, stride, kc - k);
}

#define UNPACK_INT(TYPE, name, cols, bytes, group, has_min)                                        \
    static void unpack_##name(const struct panel *p, const uint8_t *rows, size_t stride, int kc,   \
                              const uint8_t *ahead)                                                \
    {                                                                                              \
        for (int half = 0; half < PANEL_ROWS; half += LANES) {                                     \
            struct rows r = rows_at(rows + (size_t)half * stride, stride, ahead);                  \
            struct sink k = {p->u + 4 * half, p->s + half, p->m + half, NULL, has_min};            \
            for (int c = 0; c < kc; c += (cols)) {                                                 \
                block_vec_##name(&r, &k);                                                          \
                rows_step(&r, bytes);                                                              \
                k.u += (cols)*PANEL_ROWS;                                                          \
                k.s += (cols) / (group)*PANEL_ROWS;                                                \
                k.m += (cols) / (group)*PANEL_ROWS;                                                \
            }                                                                                      \
            ahead = r.ahead;                                                                       \
        }                                                                                          \
    }
#define UNPACK_FLOAT(TYPE, name, cols, bytes, group, has_min)                                      \
    static void unpack_##name(const struct panel *p, const uint8_t *rows, size_t stride, int kc,   \
                              const uint8_t *ahead)                                                \
    {                                                                                              \
        for (int half = 0; half < PANEL_ROWS; half += LANES) {                                     \
            struct rows r = rows_at(rows + (size_t)half * stride, stride, ahead);                  \
            struct sink k = {.w = p->w + half};                                                    \
            for (int c = 0; c + (cols) <= kc; c += (cols)) {                                       \
                block_vec_##name(&r, &k);                                                          \
                rows_step(&r, bytes);                                                              \
                k.w += (cols)*PANEL_ROWS;                                                          \
            }                                                                                      \
            ahead = r.ahead;                                                                       \
        }                                                                                          \
        unpack_rest(QTYPE_##TYPE, cols, bytes, p, rows, stride, kc);                               \
    }
INT_ROWS(UNPACK_INT)
GRID_ROWS(UNPACK_INT)
FLOAT_ROWS(UNPACK_FLOAT)

#define UNPACK_ROW(TYPE, name, cols, bytes, group, has_min) [QTYPE_##TYPE] = unpack_##name,
#define UNPACK_TABLE                                                                               \
    {                                                                                              \
        INT_ROWS(UNPACK_ROW) GRID_ROWS(UNPACK_ROW) FLOAT_ROWS(UNPACK_ROW)                          \
    }
