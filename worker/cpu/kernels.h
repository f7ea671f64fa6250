/* kernels.h - inside of matmul: the arithmetic, the layouts, and what each instruction set
 * implements.
 *
 * The arithmetic (the promise of matmul.h; every instruction set follows it bit for bit)
 *   A weight is w = s*(u - offset) + m: u an unsigned byte, s and m float32 per group of 32 or 16
 * columns; a type has either an offset or mins m, never both. An activation is x = d*q: q in
 * -127..127, d float32 per 32 columns. For one row and one token, over groups g of 32 columns in
 * ascending order, from y = 0:
 *
 *     groups of 32:  a = sum_k (u_k - offset)*q_k                      exact integer, < 2^24
 *                    t = float(a) * s                                  and with mins: t = fma(m, Q,
 * t) groups of 16:  t = fma(float(a1), s1, float(a0) * s0)            and with mins: t = fma(m0,
 * Q0, t) t = fma(m1, Q1, t) y = fma(t, d_g, y)                                               Q =
 * float(sum_k q_k) of that group
 *
 *   Float weights (F32, F16, BF16, and types that only dequantize):  y = fma(w_k, x_k, y) for
 * ascending k. One accumulator and one order, so a partial y may be stored and continued: results
 * do not depend on how columns are cut into chunks or tokens into tiles. It still vectorizes fully:
 * lanes are rows of W. Activations keep a scale per 32 columns for the 256-column types too (others
 * use one per 256). That costs about a tenth of prefill speed there, and a large activation spoils
 * 31 neighbours, not 255.
 *
 * The panel: 16 rows of W, unpacked for a chunk of columns into per-thread scratch. No repacked
 * copy of W exists; decode and prefill share this one path. Layout u[column/4][row][column%4]: what
 * a 512-bit u8*s8 dot instruction wants with the activation's 4 bytes broadcast; and it is the
 * layout of the B operand of AMX (tdpbusd), for which a micro kernel can be added beside the
 * others.
 *
 * The tile: up to 16 tokens' activations, q[group][token][32], d[group][token],
 * sum16[group][2][token].
 *
 * Why not OpenBLAS for float weights: its blocking, so its rounding, changes with the shape of the
 * batch. */
#ifndef MILLRACE_WORKER_CPU_KERNELS_H
#define MILLRACE_WORKER_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "worker/cpu/matmul.h"
#include "worker/quant/qtype.h"

#if defined(__clang__)
/* Unrolling is asked for where registers are named by loop counters; where clang declines (it may,
 * for a very long body) the code is slower, not wrong. */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

enum { PANEL_ROWS = 16, TILE_TOKENS = 16, GROUP = 32, DOT_TOKENS = 4 };
#define QUANT_TINY 1e-30f /* 127/QUANT_TINY is finite; such activations are noise of noise */

/* Decodes one block to bytes u[block_elems], s[block_elems/group] and, with mins,
 * m[block_elems/group]. */
typedef void (*decode_block_fn)(const uint8_t *block, uint8_t *u, float *s, float *m);

/* How a type becomes a panel. group 0: as floats, by its dequantize function. */
struct pack {
    uint8_t group;   /* columns per s: 32, 16 or 0 */
    uint8_t has_min; /* then offset is 0 */
    uint8_t offset;
    uint8_t max_u; /* largest u: saturation of 16-bit sums in AVX2 depends on it */
    decode_block_fn decode;
};
extern const struct pack pack_table[QTYPE_COUNT_];

struct panel {
    uint8_t *u; /* [kc/4][16][4] */
    float *s;   /* [kc/group][16] */
    float *m;   /* [kc/group][16], with mins */
    float *w;   /* [kc][16], float panels only */
};

/* Fills a panel from 16 rows at `rows`, rows + row_bytes, ...: kc columns, whole blocks of the
 * type. ahead: what will be read next, as many bytes; the cache is asked for it meanwhile. */
typedef void (*unpack_fn)(const struct panel *p, const uint8_t *rows, size_t row_bytes, int kc,
                          const uint8_t *ahead);

/* One tile of `width` tokens, cut to the columns of the panel. */
struct tile {
    int width;           /* 1..TILE_TOKENS */
    const int8_t *q;     /* [groups][width][32] */
    const float *d;      /* [groups][width] */
    const int32_t *corr; /* [groups*32/group][width]: -offset * sum of q; types with an offset */
    const float *sum;    /* the same shape: sum of q; types with mins */
    const float *x;      /* [kc][width]: float panels only */
};

/* y[t][r] (+)= panel x tile for r < n_rows, t < width; starts from 0 where `first`. */
typedef void (*micro_int_fn)(const struct panel *p, const struct pack *how, const struct tile *x,
                             int n_groups, float *const *y, int n_rows, int first);
typedef void (*micro_float_fn)(const struct panel *p, const struct tile *x, int kc, float *const *y,
                               int n_rows, int first);

/* y[t][0..15] = 16 whole rows x tile, for a tile of up to DOT_TOKENS tokens; n_in: a multiple
 * of 32. ahead: as for unpack_fn. */
typedef void (*dot_fn)(const uint8_t *rows, size_t row_bytes, const struct tile *x, int n_in,
                       float *const *y, const uint8_t *ahead);

/* One token's row x[32*n_groups] into its place in a tile of `width` tokens: group g goes to q +
 * g*32*width and d + g*width; the sums of its halves to sum16 + 2*g. A group with NaN or infinity
 * gets d = NaN and q = 0, so the result is NaN; a group below QUANT_TINY counts as 0. */
typedef void (*quantize_fn)(const float *x, int n_groups, int8_t *q, float *d, int16_t *sum16,
                            int width);

/* One per instruction set. */
struct kernels {
    quantize_fn quantize;
    micro_int_fn micro_int;
    micro_float_fn micro_float;
    const dot_fn *dot;       /* [QTYPE_COUNT_], NULL where the panel serves */
    const unpack_fn *unpack; /* [QTYPE_COUNT_], NULL where unpack_any() serves */
};
extern const struct kernels kernels_c;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const dot_fn dot_table_avx2[QTYPE_COUNT_], dot_table_avx512[QTYPE_COUNT_];
extern const unpack_fn unpack_table_avx2[QTYPE_COUNT_], unpack_table_avx512[QTYPE_COUNT_];
#endif

/* The portable unpack of any type that has pack.decode or qtype_info.dequantize. */
void unpack_any(enum qtype type, const struct panel *p, const uint8_t *rows, size_t row_bytes,
                int kc);

#endif
