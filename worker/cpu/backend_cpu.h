/* backend_cpu.h - what the files of the CPU backend share: the state of one device and the split of
 * work over threads. Private to worker/cpu. */
#ifndef MILLRACE_WORKER_CPU_BACKEND_CPU_H
#define MILLRACE_WORKER_CPU_BACKEND_CPU_H

#include "shared/base/arena.h"
#include "worker/backend.h"
#include "worker/cpu/matmul.h"
#include "worker/cpu/ops.h"
#include "worker/cpu/pool.h"

enum { HEAD_MAX = 1024 }; /* values of a head; deepseek2's latent head has 576 */

struct backend {
    struct pool *pool;    /* owned */
    struct pool *solo;    /* owned; this thread alone: for work too small to share */
    struct matmul_ws *ws; /* owned */
    const struct cpu_ops *ops;
    enum cpu_isa isa;
    struct arena memory; /* activations, vectors, tables */
    struct backend_opts opts;

    struct kv_layout kv;
    struct kv_pool {
        char *memory; /* owned, mmap; [n_layer][n_blocks][block_bytes]; NULL: no layer is kept so */
        size_t bytes, layer_bytes;
    } kv_pools[KV_KINDS];

    const struct batch *batch;              /* borrowed, from begin() to end() */
    float *cos[ROPES_MAX], *sin[ROPES_MAX]; /* [max_tok][n_rot/2] of this step */
    int32_t *head_ids;                      /* [max_rows]: 0 .. n_head-1, again and again */
    int head_ids_of;                        /* that n_head */
    struct attn_scratch *scratch;           /* one per thread */
};

/* Calls fn(b, op, begin, end) so that the ranges cover 0..n-1: on this thread alone when the whole
 * is cheap (n * cost floats touched), else on all. */
typedef void (*range_fn)(struct backend *b, const void *op, int begin, int end);
void run_ranges(struct backend *b, range_fn fn, const void *op, int n, size_t cost);

/* ops_kv.c */
void cpu_qkv(struct backend *b, const struct qkv *a);
void cpu_attention(struct backend *b, const struct attention *a);
size_t cpu_kv_block_bytes(const struct kv_pool_shape *s, enum kv_kind kind);
enum err cpu_kv_open(struct backend *b, const struct kv_pool_shape *s, struct errmsg *why);
/* ops_rows.c */
void cpu_rope_tables(struct backend *b);
void cpu_embed(struct backend *b, float *x, const struct tensor *table, float scale,
               const struct tensor *pos_table, const struct tensor *types, int n);
void cpu_norm(struct backend *b, float *y, int ldy, const float *x, int ldx, const struct norm *w,
              int n, int rows);
void cpu_residual(struct backend *b, const struct residual *r);
void cpu_activation(struct backend *b, const struct activation *a);
void cpu_logits(struct backend *b, float *y, const float *bias, float scale, float softcap, int n,
                int rows);
/* ops_moe.c */
void cpu_route(struct backend *b, const struct route *r);
void cpu_combine(struct backend *b, const struct combine *c);

#endif
