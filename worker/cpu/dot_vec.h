/* dot_vec.h - few tokens: rows_vec.h with a sink that multiplies on the spot, without a panel
 * between.
 *
 * Included after vec_*.h and v_dot(a, u, q), which adds the dots of four columns. Decode is bound
 * by the memory: what it needs is few instructions per byte, and the bytes of the next panel on
 * their way. The arithmetic is that of kernels.h, so the results are those of the micro kernels bit
 * for bit. */
#include "worker/cpu/kernels.h"

struct sink {
    /* Constants of the instance: tokens, columns per scale, ... */
    int n_tok, group, min, big;
    /* The tile at this block; strides in groups are the tile's width. */
    int width;
    const int8_t *q;
    const float *d, *sum;
    const int32_t *corr;
    vint acc[16][DOT_TOKENS];
    vflt part[DOT_TOKENS], min0;
    vflt y[DOT_TOKENS];
};

INLINE void sink_cols(struct sink *k, int c, vint v)
{
    const int per = k->group / 4, g = c / per;
#pragma GCC unroll 4
    for (int t = 0; t < k->n_tok; t++) {
        vint a = k->acc[g][t];
        if (c % per == 0)
            a = k->min || k->big ? v_set(0) : v_set(k->corr[g * k->width + t]);
        k->acc[g][t] = v_dot(a, v, k->q + ((c / 8) * k->width + t) * GROUP + 4 * (c % 8), k->big);
    }
}

INLINE void sink_group(struct sink *k, int g, vflt s, vflt m)
{
    const int parts = GROUP / k->group, whole = g / parts; /* the group of 32 that g is in */
#pragma GCC unroll 4
    for (int t = 0; t < k->n_tok; t++) {
        vflt f = v_cvt(k->acc[g][t]);
        vflt part = g % parts == 0 ? v_mul(f, s) : v_fma(f, s, k->part[t]);
        if (g % parts == parts - 1) {
            const float *sum = k->sum + whole * parts * k->width + t;
            if (k->min && parts == 2)
                part = v_fma(k->min0, v_setf(sum[0]), part);
            if (k->min)
                part = v_fma(m, v_setf(sum[(parts - 1) * k->width]), part);
            k->y[t] = v_fma(part, v_setf(k->d[whole * k->width + t]), k->y[t]);
        } else {
            k->part[t] = part;
        }
    }
    k->min0 = m;
}

#include "worker/cpu/rows_vec.h"

/* One type and number of tokens; everything but the pointers is a constant. */
#define DOT_BODY(T, name, cols, bytes, group_, min_)                                               \
    {                                                                                              \
        for (int half = 0; half < PANEL_ROWS; half += LANES) {                                     \
            struct rows r = rows_at(rows + (size_t)half * stride, stride, ahead);                  \
            struct sink k = {.n_tok = T, .group = group_, .min = min_, .big = BIG_##name};         \
            k.width = x->width;                                                                    \
            k.q = x->q;                                                                            \
            k.d = x->d;                                                                            \
            k.sum = x->sum;                                                                        \
            k.corr = x->corr;                                                                      \
            _Pragma("GCC unroll 4") for (int t = 0; t < T; t++) k.y[t] = v_setf(0);                \
            for (int c = 0; c < n_in; c += (cols)) {                                               \
                block_vec_##name(&r, &k);                                                          \
                rows_step(&r, bytes);                                                              \
                const int g = (cols) / GROUP, sums = (cols) / (group_);                            \
                k.q += (cols)*k.width;                                                             \
                k.d += g * k.width;                                                                \
                k.sum += sums * k.width;                                                           \
                k.corr += sums * k.width;                                                          \
            }                                                                                      \
            _Pragma("GCC unroll 4") for (int t = 0; t < T; t++) v_putuf(y[t] + half, k.y[t]);      \
            ahead = r.ahead;                                                                       \
        }                                                                                          \
    }

#define DOT(TYPE, name, cols, bytes, group, min)                                                   \
    static void dot_##name(const uint8_t *rows, size_t stride, const struct tile *x, int n_tok,    \
                           int n_in, float *const *y, const uint8_t *ahead)                        \
    {                                                                                              \
        switch (n_tok) {                                                                           \
        case 1:                                                                                    \
            DOT_BODY(1, name, cols, bytes, group, min) break;                                      \
        case 2:                                                                                    \
            DOT_BODY(2, name, cols, bytes, group, min) break;                                      \
        default:                                                                                   \
            DOT_BODY(4, name, cols, bytes, group, min) break;                                      \
        }                                                                                          \
    }
/* u above 128 (all with offset 128): v_dot may need another way (AVX2). */
enum { BIG_q4_0, BIG_q4_1 = 0, BIG_q5_0 = 0, BIG_q5_1 = 0, BIG_q2_k = 0, BIG_q3_k = 0 };
enum { BIG_q4_k, BIG_q5_k = 0, BIG_q6_k = 0, BIG_mxfp4 = 0, BIG_tq1_0 = 0, BIG_tq2_0 = 0 };
enum { BIG_iq2_xxs, BIG_iq2_xs = 0, BIG_iq2_s = 0, BIG_iq3_xxs = 0, BIG_iq3_s = 0 };
enum { BIG_iq1_s, BIG_iq1_m = 0 };
enum { BIG_q8_0 = V_DOT_SIGNED, BIG_iq4_nl = V_DOT_SIGNED, BIG_iq4_xs = V_DOT_SIGNED };
INT_ROWS(DOT)

/* Slow to unpack: more tokens than one take the panel, which is unpacked once for all of them. */
#define DOT_ONE(TYPE, name, cols, bytes, group, min)                                               \
    static void dot_##name(const uint8_t *rows, size_t stride, const struct tile *x, int n_tok,    \
                           int n_in, float *const *y, const uint8_t *ahead)                        \
    {                                                                                              \
        (void)n_tok;                                                                               \
        DOT_BODY(1, name, cols, bytes, group, min)                                                 \
    }
GRID_ROWS(DOT_ONE)

#define DOT_ROW(TYPE, name, cols, bytes, group, min) [QTYPE_##TYPE] = dot_##name,
#define DOT_TABLE                                                                                  \
    {                                                                                              \
        INT_ROWS(DOT_ROW) GRID_ROWS(DOT_ROW)                                                       \
    }
