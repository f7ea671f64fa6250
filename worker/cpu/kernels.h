// clang-format off
/* kernels.h - inside of matmul: the arithmetic, the layouts, and what each instruction set
 * implements.
 *
 * The arithmetic (the promise of matmul.h; every instruction set follows it bit for bit)
 *
 * Integer types. A weight is w = s*(u - offset) + m: u an unsigned byte, s and m float32 per group
 * of 32 or 16 columns; a type has either an offset or mins m, never both. An activation is x = d*q:
 * q in -127..127, d float32 per 32 columns. For one row and one token, over groups g of 32 columns
 * in ascending order, from y = 0:
 *
 *     s per 32 columns:  a = sum_k (u_k - offset)*q_k                 exact, |a| < 2^24
 *                        t = float(a)*s                               with mins: t = fma(m, Q, t)
 *     s per 16 columns:  t = fma(float(a1), s1, float(a0)*s0)         with mins: t = fma(m0, Q0, t)
 *                                                                                t = fma(m1, Q1, t)
 *     then               y = fma(t, d_g, y)                           Q = float(sum_k q_k)
 *
 * Activations keep a scale per 32 columns for the 256-column types too (others use one per 256).
 * That costs about a tenth of prefill speed there, and a large activation spoils 31 neighbours, not
 * 255.
 *
 * Float weights (F32, F16, BF16, and types that only dequantize). In blocks of 512 columns, sixteen
 * chains: c_j = fma(w_k, x_k, c_j) from 0 over the block's k with k mod 16 = j, ascending; then
 *
 *                        y = y + (..((0 + c_0) + c_1) .. + c_15)
 *
 * A vector's lanes are the chains of one row where rows are read as they lie in memory (decode),
 * and rows of W in a panel.
 *
 * Both ways there is one order of sums, so a partial y may be stored and continued, and results do
 * not depend on how columns are cut into chunks, tokens into tiles, or work among threads.
 *
 * The panel: 16 rows of W, unpacked for a chunk of columns into per-thread scratch. No repacked
 * copy of W exists. Layout u[column/4][row][column%4]: what a 512-bit u8*s8 dot instruction wants
 * with the activation's 4 bytes broadcast; and it is the layout of the B operand of AMX (tdpbusd),
 * for which a micro kernel can be added beside the others. Few tokens go without a panel: the same
 * unpacking feeds their products on the spot.
 *
 * The tile: up to 16 tokens' activations, q[group][token][32], d[group][token],
 * sum16[group][2][token].
 *
 * Why not a BLAS for float weights: docs/decisions/0005-no-blas.md. */
// clang-format on
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
enum { FLOAT_BLOCK = 512, FLOAT_CHAINS = 16, FLOAT_DOT_TOKENS = TILE_TOKENS };
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
    uint8_t slow; /* to unpack: see GRID_ROWS */
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
/* kc: at most FLOAT_BLOCK, one block. */
typedef void (*micro_float_fn)(const struct panel *p, const struct tile *x, int kc, float *const *y,
                               int n_rows, int first);

/* y[t][0..15] = 16 whole rows x tokens 0..n_tok-1 of a tile, n_tok 1, 2 or DOT_TOKENS; n_in: a
 * multiple of 32. ahead: as for unpack_fn. */
typedef void (*dot_fn)(const uint8_t *rows, size_t row_bytes, const struct tile *x, int n_tok,
                       int n_in, float *const *y, const uint8_t *ahead);

/* The same for float weights: x[t][n_in], up to FLOAT_DOT_TOKENS tokens. */
typedef void (*dot_float_fn)(const uint8_t *rows, size_t row_bytes, const float *const *x,
                             int n_tok, int n_in, float *const *y);

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
    const dot_fn *dot; /* [QTYPE_COUNT_], NULL where the panel serves */
    /* Slow types, blocks of 32, blocks of 256: with more tokens the panel is faster; at most a
     * tile. */
    int dot_tokens[3];
    const dot_float_fn *dot_float; /* [QTYPE_COUNT_], NULL likewise */
    int float_tokens;              /* likewise, at most FLOAT_DOT_TOKENS */
    const unpack_fn *unpack;       /* [QTYPE_COUNT_], NULL where unpack_any() serves */
};
extern const struct kernels kernels_c;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const dot_fn dot_table_avx2[QTYPE_COUNT_], dot_table_avx512[QTYPE_COUNT_];
extern const dot_float_fn dot_float_table_avx2[QTYPE_COUNT_];
extern const dot_float_fn dot_float_table_avx512[QTYPE_COUNT_];
extern const unpack_fn unpack_table_avx2[QTYPE_COUNT_], unpack_table_avx512[QTYPE_COUNT_];
#endif

/* The portable unpack of any type that has pack.decode or qtype_info.dequantize. */
void unpack_any(enum qtype type, const struct panel *p, const uint8_t *rows, size_t row_bytes,
                int kc);

#endif
