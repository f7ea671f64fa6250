/* ops.h - the loops of the CPU backend that are not matrix products: one table per instruction set.
 *
 * Promise: all tables give the same bits (ops_body.h is compiled once per instruction set over
 * v16.h). No function allocates or knows of threads; backend_cpu.c and its ops_*.c cut the work
 * into rows and heads. */
#ifndef MILLRACE_WORKER_CPU_OPS_H
#define MILLRACE_WORKER_CPU_OPS_H

#include "worker/backend.h"
#include "worker/cpu/matmul.h"

/* How one layer's K and V of a block of KV_TOKENS positions lie in memory, per KV head:
 *
 *   K: [head_k][KV_TOKENS]   a dimension's values of all positions side by side: q.K runs over d in
 * order, one lane per position, without a sum across lanes V: [KV_TOKENS][pad_v]    rows padded to
 * 16 values Q8_0: the same with int8, then f16 scales, K: [groups of 32 dimensions][KV_TOKENS], V:
 * [KV_TOKENS][groups]. v_in_k: K alone; V is its first head_v dimensions, turned when it is read */
struct kv_layout {
    enum qtype type;
    int head_k, head_v, n_head_kv;
    bool v_in_k;
    int pad_v;                        /* a multiple of 16 */
    int groups_k, groups_v;           /* scales per position (Q8_0) */
    size_t k_scales, v_off, v_scales; /* bytes from the head's start; K starts at 0 */
    size_t head_bytes, block_bytes;
};
enum { KV_PAD = 16, KV_GROUP = 32 };

void kv_layout_init(struct kv_layout *l, const struct kv_pool_shape *s);

/* Scratch of one thread; sizes in floats. */
struct attn_scratch {
    float *k;   /* [head_k][KV_TOKENS] */
    float *v;   /* [KV_TOKENS][pad_v] */
    float *s;   /* [V16_ROWS of any set: 8][KV_TOKENS] */
    float *acc; /* [ATTN_ROWS][pad_v] */
    float *l;   /* [ATTN_ROWS][16] */
    float *m;   /* [ATTN_ROWS] */
};
enum { ATTN_ROWS = 32 }; /* (query, head) rows that share one read of K and V */

/* Rows r = 0 .. n_q*n_h-1: query r / n_h, head r % n_h; all of one sequence and one KV head. */
struct attn_task {
    const struct kv_layout *kv;
    const char *base;       /* of the layer, at this KV head */
    const uint32_t *blocks; /* of the sequence */
    const float *q;         /* first query's first head; heads follow at head_k, queries at ldq */
    float *out;             /* heads at head_v, queries at ldo */
    int ldq, ldo;
    int n_q, n_h;
    int pos;  /* of the first query */
    int n_kv; /* not causal: positions that all queries see; else 0 */
    int window;
    bool chunked;
    float scale, softcap;
    const float *sinks; /* of the first head, or NULL */
};

struct cpu_ops {
    float (*dot)(const float *a, const float *b, int n);
    void (*norm)(float *y, const float *x, const struct norm *w, int n);
    void (*add)(float *y, const float *x, int n);                     /* y += x */
    void (*add_scaled)(float *y, const float *x, float scale, int n); /* y += scale*x */
    void (*scale)(float *y, float scale, int n);
    void (*softcap)(float *y, float cap, int n);
    /* f = act(gate + bg) * (up + bu), or act(up + bu) where gate is NULL; biases may be NULL */
    void (*activate)(float *f, const float *gate, const float *up, const float *bg, const float *bu,
                     enum act_kind kind, int n);
    void (*exp)(float *y, const float *x, int n);
    void (*rotate)(float *x, const float *cos, const float *sin, int n_rot, enum rope_kind kind);
    void (*attend)(const struct attn_task *t, const struct attn_scratch *s);
    void (*convert_f16)(uint16_t *y, const float *x, int n);
};

extern const struct cpu_ops cpu_ops_c, cpu_ops_avx2, cpu_ops_avx512;
const struct cpu_ops *cpu_ops_for(enum cpu_isa isa);

/* Plain loops, as in the papers: what the tests compare with. */
void rms_norm_ref(float *y, const float *x, const float *w, int n, float eps);
void layer_norm_ref(float *y, const float *x, const float *w, const float *b, int n, float eps);
void rotate_ref(float *x, const double *inv_freq, int pos, float mscale, int n_rot,
                enum rope_kind kind);
float activate_ref(float x, enum act_kind kind);
/* k: [n_kv][head_k], v: [n_kv][head_v] of one head; positions lo..hi-1 count. */
void attend_ref(float *out, const float *q, const float *k, const float *v, int head_k, int head_v,
                int lo, int hi, float scale, float softcap, const float *sink);

#endif
