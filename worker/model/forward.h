/* forward.h - the one forward pass: walks a row of the table over the operations of a backend.
 *
 * Memory: all buffers are allocated in forward_open() on the device; a pass allocates nothing.
 * Thread: one caller. */
#ifndef MILLRACE_WORKER_MODEL_FORWARD_H
#define MILLRACE_WORKER_MODEL_FORWARD_H

#include "worker/model/weights.h"

enum { LOGITS_ROWS = 32 }; /* rows of logits computed at a time */

struct forward {
    const struct arch *a; /* borrowed */
    const struct hparams *h;
    const struct weights *w;
    const struct backend_ops *ops;
    struct backend *b;
    bool rings; /* layers with a window keep that alone */
    int max_tok;
    void (*on_layer)(void *user); /* after each layer; NULL is fine */
    void *user;

    /* Device buffers, by row; T = max_tok, U = experts used per token. */
    float *x;      /* [T, n_embd] the residual stream */
    float *n;      /* [T, n_embd] its norm: the input of attention and feed-forward */
    float *y;      /* [T, n_embd] their output */
    float *picked; /* [T, n_embd] rows that somebody wants to see */
    float *qkv;    /* [T, D_QKV] */
    float *att;    /* [T, D_O] */
    float *q_a;    /* MLA: [T, q_lora] */
    float *kv_a;   /* MLA: [T, D_KV_A] */
    float *q_lat;  /* MLA: [T, n_head, D_KV_A] */
    float *o_lat;  /* MLA: [T, n_head, kv_lora] */
    float *up;     /* [T, gate | up] */
    float *logits; /* [LOGITS_ROWS, n_vocab] */
    /* experts */
    float *router;               /* [T, n_expert] */
    int32_t *ids;                /* [T, U] */
    float *ids_weights;          /* [T, U] */
    float *exp_gate, *exp_up;    /* [T*U, n_ff_exp] */
    float *exp_out;              /* [T*U, n_embd] */
    float *shared, *shared_gate; /* [T, n_embd], [T] */
    float *ones;                 /* [head_k]: norms without weights */
};

/* Bytes of all buffers, for steps of up to max_tok tokens: what forward_open() takes. */
uint64_t forward_bytes(const struct arch *a, const struct hparams *h, uint32_t max_tok);

enum err forward_open(struct forward *f,
                      struct errmsg *why) MUST_CHECK; /* the fields above the buffers are set */

/* All layers over a batch; writes K and V. What rows[0..n_rows-1] (row numbers of the batch) became
 * is left in place for forward_logits() and forward_states(). ERR_CANCELLED when *stop turned
 * nonzero between layers. */
enum err forward_layers(struct forward *f, const struct batch *batch, const int32_t *rows,
                        int n_rows, const volatile int *stop) MUST_CHECK;
/* Logits of the wanted rows first .. first+n-1, n <= LOGITS_ROWS; then row 0..n-1 of them to the
 * host. */
void forward_logits(struct forward *f, int first, int n);
void forward_read_logits(struct forward *f, int row, float *out); /* [n_vocab] */
/* out [n_rows, n_embd], host: the last layer's states of the wanted rows, after the last norm. */
void forward_states(struct forward *f, int n_rows, float *out);

/* The reranker's head on one pooled state [n_embd]: out [n_labels] = W_o tanh(W s + b) + b_o; both
 * host. */
void forward_rank(struct forward *f, const float *state, float *out);

#endif
