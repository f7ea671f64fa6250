/* backend.h - the operations that the forward pass is written in; worker/cpu implements them,
 * worker/cuda too.
 *
 * A backend is one device with its weights, its activations and its paged KV cache.
 * worker/model/forward.c is the only caller. An operation has an equation here, and every backend
 * computes that equation.
 *
 * Notation: T tokens of the step in rows 0..T-1; `float *` arguments are DEVICE memory from
 * alloc(): only the backend reads through them, but address arithmetic is fine (row t of x is x +
 * t*ld). Vectors (norm weights, biases) are device float32. NULL vectors and NULL tensors mean
 * "this family has none" where it says so.
 *
 * Promise (batch invariance): row t of a result depends on row t of the inputs (attention: on its
 * sequence's KV rows) alone, bit for bit: not on T, on t, on the other rows or on the number of
 * threads. Errors: only open, bind, alloc and kv_open can fail; operations can't.   Thread: one
 * caller. */
#ifndef MILLRACE_WORKER_BACKEND_H
#define MILLRACE_WORKER_BACKEND_H

#include "shared/base/err.h"
#include "worker/quant/qtype.h"
#include "worker/window.h"
#include <stdbool.h>
#include <stddef.h>

/* A weight of the file. Matrices: [n_mat][n_out][n_in], rows of blocks. Vectors: n_in values (a
 * table of them: [n_out][n_in]), float32 on the device. */
struct tensor {
    enum qtype type;
    int n_in, n_out, n_mat;
    size_t mat_bytes; /* from one matrix to the next */
    const void *data; /* borrowed: the mapped file (host) */
    void *dev;        /* set by bind(): the backend's own form */
    const float *vec; /* set by bind(): device values of a vector */
};

enum norm_kind { NORM_RMS, NORM_LAYER };
/* NORM_RMS: w*x/sqrt(mean(x^2)+eps) (Zhang and Sennrich 2019); NORM_LAYER:
 * w*(x-mean)/sqrt(var+eps)+b. */
struct norm {
    enum norm_kind kind;
    float eps;
    const float *w, *b; /* b may be NULL; w NULL: no normalisation at all (the input is copied) */
};

enum rope_kind {
    ROPE_NONE,
    ROPE_NORM, /* rotates pairs (2i, 2i+1): Su et al. 2021 */
    ROPE_NEOX  /* rotates pairs (i, i + n_rot/2) */
};

/* One way to rotate. All scaling (linear, YaRN, per-frequency factors) is folded into inv_freq and
 * mscale. */
struct rope {
    enum rope_kind kind;
    int n_rot;              /* even; the dimensions of a head that turn */
    const double *inv_freq; /* [n_rot/2]: the angle of pair i at position p is p * inv_freq[i] (host
                               memory, borrowed) */
    float mscale;           /* magnitude of the rotated pair */
};
enum { ROPES_MAX = 2 }; /* gemma3 turns its local and global layers differently */

/* Two kinds of memory: layers that see everything keep everything, those that see a window keep
 * that, in a pool of their own with blocks (and ids) of their own. */
enum kv_kind { KV_WHOLE, KV_WINDOW, KV_KINDS };
struct kv_pool_shape {
    int n_layer[KV_KINDS];       /* layers that keep K and V */
    uint32_t n_blocks[KV_KINDS]; /* of KV_TOKENS positions, shared by all sequences */
    int n_head_kv;
    int head_k, head_v; /* floats per head */
    bool v_in_k;        /* V is the first head_v values of K (MLA): stored once */
    enum qtype type;    /* F32, F16, BF16, Q8_0 */
};
enum { KV_TOKENS = 32 }; /* positions per block; model.h calls it KV_BLOCK_TOKENS */

struct backend_opts {
    int n_threads; /* cpu only; 0: one per available core */
    int max_tok;   /* rows of a step */
    int max_seqs;
    int max_in;   /* widest input of any product */
    int max_rows; /* rows of any product: max_tok, times the experts used per token */
    struct rope rope[ROPES_MAX];
    int n_rope;
};

/* What a step works on. Host memory, borrowed from begin() to the end of the step. */
struct batch_seq {
    int first, n_tok;       /* rows first .. first+n_tok-1 */
    int pos;                /* of the first row */
    const uint32_t *blocks; /* position p lives in blocks[p / KV_TOKENS] */
    const uint32_t
        *window_blocks; /* the same of the windows' memory; only entries of positions
                           that this step writes or sees are valid. NULL: no such layer */
};
struct batch {
    int n_tok, n_seq;
    const int32_t *tokens; /* [n_tok] */
    const int32_t *pos;    /* [n_tok] */
    const struct batch_seq *seqs;
};

/* GELU is the tanh form. SWIGLU_OAI (gpt-oss; with a gate only): g = min(gate, 7), u = up clamped
 * to -7 .. 7, f = g * sigmoid(1.702 g) * (u + 1). */
enum act_kind { ACT_SILU, ACT_GELU, ACT_RELU2, ACT_SWIGLU_OAI };

/* Heads of this step's rows become queries (in place) and K/V rows of the cache. Per head h of row
 * t: z = z + bias;  z = norm(z) if normed;  z = rotate(z[rope_from ..], pos[t]);   V: bias only. */
struct qkv {
    enum kv_kind kind; /* of the KV cache, and */
    int layer;         /* the layer's number in it */
    int n_head, n_head_kv, head_k, head_v;
    float *q, *k, *v; /* [T, n_head*head_k], [T, n_head_kv*head_k], [T, n_head_kv*head_v]; v NULL
                         when v_in_k */
    int ldq, ldk, ldv;
    const float *bias_q, *bias_k, *bias_v; /* may be NULL */
    struct norm norm_q, norm_k;            /* per head; w NULL: none */
    int norm_q_stride,
        norm_k_stride; /* floats from one head's norm weights to the next: 0 when shared */
    int norm_n;        /* first values of a head that are normalised: head_k, less for MLA */
    int rope;          /* index into backend_opts.rope, -1: not rotated */
    int rope_from;     /* first rotated value of a head */
    int warm_floor; /* q is multiplied by 1 + warm_scale * log(1 + floor((pos+1) / warm_floor)); */
    float warm_scale; /* 0: no */
};

/* out[t, h] = sum_j softmax_j(cap(scale * q[t,h].K[j,g])) V[j,g], g = h / (n_head/n_head_kv), over
 * the positions j of the row's sequence with j <= pos (all of them when not causal) and j >=
 * kv_first_seen(window, chunked, pos); cap(s) = softcap*tanh(s/softcap) (0: none). Positions are
 * visited in ascending order. */
struct attention {
    enum kv_kind kind;
    int layer;
    int n_head;
    const float *q; /* [T, n_head*head_k] */
    float *out;     /* [T, n_head*head_v] */
    int ldq, ldo;
    float scale, softcap;
    int window;
    bool chunked;
    bool causal;
    const float *sinks; /* [n_head] or NULL: a logit more per head that has no value (gpt-oss) */
};

/* x = x + scale * post(y + bias);  then, where `h` is wanted, h = next(x). h may be x itself. */
struct residual {
    float *x;          /* [T, n] */
    const float *y;    /* [T, n]; NULL: nothing is added */
    const float *bias; /* [n] or NULL */
    struct norm post;  /* w NULL: none */
    float scale;
    struct norm next;
    float *h; /* [T, n] or NULL */
    int n, rows;
};

/* f[t] = act(gate[t] + bias_gate) * (up[t] + bias_up); gate NULL: f[t] = act(up[t] + bias_up). f
 * may be up or gate. gate and up are dead after it. With `ids` the biases are [n_expert][n] and row
 * t takes those of expert ids[t]; with row_scale gate[t] and up[t] are multiplied by row_scale[t]
 * first. */
struct activation {
    enum act_kind kind;
    const float *gate, *up;
    float *f;
    int ld_gate, ld_up, ld_f;
    const float *bias_gate, *bias_up; /* [n] or NULL */
    const int32_t *ids;               /* [T] or NULL */
    const float *row_scale;           /* [T] or NULL */
    int n, rows;
};

/* One product of a group that shares its input: y[t, :n_out] = W x[t]. */
struct product {
    const struct tensor *w;
    float *y;
    int ldy;
};

/* One product per head: y[t,h] = [W_h x[t,h,:n_in] | x[t,h,n_in:n_in+n_copy]], h = 0 .. w->n_mat-1.
 */
struct heads {
    const struct tensor *w; /* [n_head][n_out][n_in] */
    const float *x;         /* [T, n_head, ldx] */
    float *y;               /* [T, n_head, ldy] */
    int ldx, ldy, n_copy, rows;
};

/* Experts: which and how much. probs = softmax or sigmoid of `logits` [T, n_expert]; the n_used
 * experts with the largest probs + bias (ties: the smaller index) are taken, out of the
 * n_group_used best groups where groups are used (a group's score is its best under softmax, the
 * sum of its two best under sigmoid); weights are the probs of the chosen (without bias), divided
 * by their sum when renorm, times scale. */
enum gating {
    GATE_SOFTMAX = 1,
    GATE_SIGMOID = 2,
    GATE_SOFTMAX_CHOSEN = 3 /* softmax over the chosen logits */
};
struct route {
    const float *logits;
    const float *bias; /* [n_expert] or NULL */
    int n_expert, n_used, n_group, n_group_used;
    enum gating gating;
    bool renorm;
    float scale;
    int32_t *ids;   /* out [T, n_used], best first */
    float *weights; /* out [T, n_used] */
    int rows;
};

/* y[t] = sum_u weights[t,u] * (d[t*n_used+u] + bias[ids[t,u]]) + shared[t] * sigmoid(gate[t]) */
struct combine {
    float *y;             /* [T, n] */
    const float *d;       /* [T*n_used, n] */
    const float *weights; /* [T, n_used]; NULL: all 1 */
    const float *bias;    /* [n_expert][n]; NULL: none */
    const int32_t *ids;   /* [T, n_used]; read where there is a bias */
    const float *shared;  /* [T, n]; NULL: none */
    const float *gate;    /* [T]; NULL: factor 1 */
    int n_used, n, rows;
};

struct backend; /* opaque */

struct backend_ops {
    const char *name; /* "cpu": what --device says */
    enum err (*open)(struct backend **out, const struct backend_opts *o, struct errmsg *why);
    void (*close)(struct backend *b);
    void (*describe)(const struct backend *b, char *text, size_t n); /* "cpu, 2 threads, avx512" */

    /* Memory of the device, cleared, freed by close(); NULL when there is none. Any of it may hold
     * int32. */
    float *(*alloc)(struct backend *b, size_t n_floats);
    void (*upload)(struct backend *b, float *dst, const float *src, size_t n);
    void (*download)(struct backend *b, float *dst, const float *src, size_t n);
    enum err (*bind)(struct backend *b, struct tensor *t, bool is_vector, struct errmsg *why);
    /* Bytes of one block over all layers of that kind, as kv_open() would take them. */
    size_t (*kv_block_bytes)(const struct kv_pool_shape *s, enum kv_kind kind);
    enum err (*kv_open)(struct backend *b, const struct kv_pool_shape *s, struct errmsg *why);

    void (*begin)(struct backend *b, const struct batch *batch); /* tables of the step */
    void (*end)(struct backend *b);                              /* all results are in place */

    /* x[t] = scale * table[tokens[t]] (+ pos_table[pos[t]] + type_row when given) */
    void (*embed)(struct backend *b, float *x, const struct tensor *table, float scale,
                  const struct tensor *pos_table, const struct tensor *types, int n);
    void (*norm)(struct backend *b, float *y, int ldy, const float *x, int ldx,
                 const struct norm *w, int n, int rows);
    void (*matmul)(struct backend *b, const struct product *p, int n_products, const float *x,
                   int ldx, int rows);
    void (*heads)(struct backend *b, const struct heads *a);
    void (*qkv)(struct backend *b, const struct qkv *a);
    void (*attention)(struct backend *b, const struct attention *a);
    void (*residual)(struct backend *b, const struct residual *r);
    void (*activation)(struct backend *b, const struct activation *a);
    /* y[i] = cap(scale * (x[rows[i]] + bias)): in place on logits [rows, n]; softcap 0: none */
    void (*logits)(struct backend *b, float *y, const float *bias, float scale, float softcap,
                   int n, int rows);
    void (*gather)(struct backend *b, float *y, const float *x, const int32_t *row_of, int rows,
                   int n); /* row_of: host */

    /* Mixture of experts. y[t*n_used+u] = W[ids[t*n_used+u]] x, x row t, or t*n_used+u when
     * per_use. */
    void (*route)(struct backend *b, const struct route *r);
    void (*matmul_experts)(struct backend *b, const struct tensor *w, const int32_t *ids,
                           int n_used, const float *x, int ldx, bool per_use, float *y, int ldy,
                           int rows);
    void (*combine)(struct backend *b, const struct combine *c);
};

/* The backend that `device` names ("cpu"); NULL when this program has none of that name. */
const struct backend_ops *backend_find(const char *device);
extern const struct backend_ops cpu_backend;

#endif
