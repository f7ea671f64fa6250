/* matmul.h - y = x W^T for float activations and weights of any qtype.
 *
 *   x [n_tok, n_in] f32 row-major    W [n_out, n_in] rows of blocks, as in the file    y [n_tok,
 * n_out] f32
 *
 * Promise (batch invariance): y[t, o] depends on x[t, :] and W[o, :] alone, bit for bit - not on
 * n_tok, on t, on the number of threads, or on which call computed it. So decode (n_tok 1) and
 * prefill give the same numbers. Quantized types: x is quantized to 8 bits per 32 columns first;
 * dots inside a group are exact integers; groups are summed in float32 in one fixed order
 * (kernels.h has the arithmetic). F32, F16, BF16 weights, and types that only have a dequantize
 * function: float32 activations, one fixed order. The instruction set (portable C, AVX2, AVX-512
 * VNNI, ...) is chosen once, at run time; all of them give the same bits for every type. NaN or
 * infinity in x gives NaN in y of that token, never a plausible number. Thread: the caller of
 * pool_run; one matmul at a time per workspace. */
#ifndef MILLRACE_WORKER_CPU_MATMUL_H
#define MILLRACE_WORKER_CPU_MATMUL_H

#include <stdbool.h>

#include "shared/base/err.h"
#include "worker/cpu/pool.h"
#include "worker/quant/qtype.h"

struct weight {
    enum qtype type;
    int n_in, n_out;  /* n_in: a multiple of the type's block_elems */
    const void *data; /* borrowed: the mapped file */
    size_t row_bytes;
};

struct matmul_ws; /* opaque: quantized activations and unpacked panels */

enum cpu_isa { CPU_ISA_C, CPU_ISA_AVX2, CPU_ISA_AVX512, CPU_ISA_AMX };
/* What this processor and OS offer; MILLRACE_CPU_ISA=c|avx2|avx512 lowers it. A value that is
 * unknown or not on offer is ignored here and refused by matmul_ws_open(). */
enum cpu_isa cpu_isa_best(void);
const char *cpu_isa_name(enum cpu_isa isa);

/* Types that matmul accepts: those with a dequantize function. */
bool matmul_supports(enum qtype type);

/* Room for up to max_tok rows of up to max_in columns. OWNED: matmul_ws_close(). */
enum err matmul_ws_open(struct matmul_ws **out, int max_tok, int max_in, int n_threads,
                        enum cpu_isa isa, struct errmsg *why) MUST_CHECK;
void matmul_ws_close(struct matmul_ws *ws); /* NULL is fine */
/* Bytes of a workspace that products touch: *_elems are rows times columns of the largest product
 * with quantized and with float weights (what others would take is address space alone). */
uint64_t matmul_ws_bytes(uint64_t quant_elems, uint64_t float_elems, int n_threads);

/* One to MATMUL_OUTS_MAX products of the same x at once (q, k, v; gate and up): x is quantized
 * once. y has leading dimension ldy (floats), at least w->n_out. All w have the same n_in. 1 <=
 * n_tok <= max_tok. y must not overlap x. */
enum { MATMUL_OUTS_MAX = 4 };
struct matmul_out {
    const struct weight *w;
    float *y;
    int ldy;
};
void matmul(struct pool *pool, struct matmul_ws *ws, const struct matmul_out *out, int n_out,
            const float *x, int ldx, int n_tok);

/* Mixture of experts: token t's row goes through expert ids[t*n_used + u] (u < n_used); the result
 * is row t*n_used + u of y [n_tok*n_used, n_out]. experts: n_expert matrices of shape w, at data +
 * e*expert_bytes. x rows: one per (t, u) when x_per_use, else one per t. Same numbers as matmul()
 * with that expert's matrix. 0 <= ids < n_expert <= MATMUL_EXPERTS_MAX, n_used <= MATMUL_USED_MAX.
 */
enum { MATMUL_EXPERTS_MAX = 1024, MATMUL_USED_MAX = 64 };
void matmul_experts(struct pool *pool, struct matmul_ws *ws, const struct weight *w,
                    size_t expert_bytes, int n_expert, const int32_t *ids, int n_used, int n_tok,
                    const float *x, int ldx, int x_per_use, float *y, int ldy);

#endif
