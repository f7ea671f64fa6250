/* dot_float_vec.h - float weights and few tokens: four rows at a time, read as they lie in memory.
 *
 * Included after vec_*.h, which define a vector of LANES floats, v_weights() and v_chains(). The
 * sixteen chains of kernels.h are the lanes of one vector (or of two), so that nothing has to be
 * transposed but the chains at the end of a block; decode then waits for the memory alone. */
#include "worker/cpu/kernels.h"

enum { ROWS = 4, VECS = FLOAT_CHAINS / LANES, STEP = 32, LINE = 64 };

/* Rows row .. row + 3*stride, tokens x[0..T-1]. T, type and bytes (of a weight) are constants. */
INLINE void float_rows(const int T, const enum qtype type, const int bytes, const uint8_t *row,
                       size_t stride, const float *const *x, int n_in, float *const *y)
{
    /* What to fetch: the same columns, at least 16 KiB on. */
    const size_t four = ROWS * stride, ahead = (16384 + four - 1) / four * four;
    __m128 sum[FLOAT_T];
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
        sum[t] = _mm_setzero_ps();
    for (int k0 = 0; k0 < n_in; k0 += FLOAT_BLOCK) {
        const int end = n_in - k0 < FLOAT_BLOCK ? n_in : k0 + FLOAT_BLOCK;
        vflt acc[FLOAT_T][ROWS][VECS];
#pragma GCC unroll 4
        for (int t = 0; t < T; t++)
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
                for (int v = 0; v < VECS; v++)
                    acc[t][r][v] = v_setf(0);
        for (int k = k0; k < end; k += STEP) {
            const uint8_t *at = row + (size_t)k * bytes;
#pragma GCC unroll 8
            for (int b = 0; b < ROWS * STEP * bytes; b += LINE) { /* one line of a row */
                const uint8_t *line =
                    at + (size_t)(b / (STEP * bytes)) * stride + b % (STEP * bytes);
                __builtin_prefetch(line + ahead, 0, 2);
                if (bytes == 2) /* once more, nearer: see rows_near() */
                    __builtin_prefetch(line + 512, 0, 3);
            }
#pragma GCC unroll 4
            for (int c = 0; c < STEP; c += LANES) {
                const int v = c / LANES % VECS;
                vflt w[ROWS];
#pragma GCC unroll 4
                for (int r = 0; r < ROWS; r++)
                    w[r] = v_weights(type, at + (size_t)r * stride + c * bytes);
#pragma GCC unroll 4
                for (int t = 0; t < T; t++) {
                    vflt xv = v_loadf(x[t] + k + c);
#pragma GCC unroll 4
                    for (int r = 0; r < ROWS; r++)
                        acc[t][r][v] = v_fma(w[r], xv, acc[t][r][v]);
                }
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) {
            __m128 chain[FLOAT_CHAINS], s = _mm_setzero_ps();
            v_chains(chain, acc[t]);
#pragma GCC unroll 16
            for (int j = 0; j < FLOAT_CHAINS; j++)
                s = _mm_add_ps(s, chain[j]);
            sum[t] = _mm_add_ps(sum[t], s);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
        _mm_storeu_ps(y[t], sum[t]);
}

#define DOT_FLOAT(TYPE, name, bytes)                                                               \
    static void dot_float_##name(const uint8_t *rows, size_t stride, const float *const *x,        \
                                 int n_tok, int n_in, float *const *y)                             \
    {                                                                                              \
        for (int r = 0; r < PANEL_ROWS; r += ROWS, rows += ROWS * stride) {                        \
            float *to[FLOAT_DOT_TOKENS];                                                           \
            for (int t = 0; t < n_tok; t++)                                                        \
                to[t] = y[t] + r;                                                                  \
            int t = 0;                                                                             \
            for (; FLOAT_T >= 4 && t + 4 <= n_tok; t += 4)                                         \
                float_rows(FLOAT_T, QTYPE_##TYPE, bytes, rows, stride, x + t, n_in, to + t);       \
            for (; FLOAT_T >= 2 && t + 2 <= n_tok; t += 2)                                         \
                float_rows(2, QTYPE_##TYPE, bytes, rows, stride, x + t, n_in, to + t);             \
            for (; t < n_tok; t++)                                                                 \
                float_rows(1, QTYPE_##TYPE, bytes, rows, stride, x + t, n_in, to + t);             \
        }                                                                                          \
    }
DOT_FLOAT(F32, f32, 4)
DOT_FLOAT(F16, f16, 2)
DOT_FLOAT(BF16, bf16, 2)

#define DOT_FLOAT_TABLE                                                                            \
    {                                                                                              \
        [QTYPE_F32] = dot_float_f32, [QTYPE_F16] = dot_float_f16, [QTYPE_BF16] = dot_float_bf16    \
    }
