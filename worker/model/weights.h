/* weights.h - a file's tensors, found by the row's list, checked against the row's shapes and bound
 * to a device.
 *
 * Promise: after weights_open() every tensor that the row demands is there, has the row's shape and
 * a type that the engine computes with, every vector is finite, and the file holds no tensor that
 * would be silently left out. Ownership: data is borrowed from the gguf (which must outlive this),
 * device forms belong to the backend. Errors: ERR_INVALID / ERR_UNSUPPORTED; the message names the
 * tensor, the expected and the found shape. */
#ifndef MILLRACE_WORKER_MODEL_WEIGHTS_H
#define MILLRACE_WORKER_MODEL_WEIGHTS_H

#include "shared/base/arena.h"
#include "worker/model/arch.h"

/* How a row's list applies to layer `il` (any, for tensors of the whole model): whether such a
 * layer has the tensor, whether a file must have it, and its name. For all who walk a row: loading,
 * synthesize, inspect. */
enum { TENSOR_NAME_MAX = 96 };
bool weights_wanted(const struct hparams *h, enum slot s, enum need need, int il);
bool weights_must(enum need need);
void weights_tensor_name(char out[TENSOR_NAME_MAX], enum slot s, int il);

/* The tensors of one layer, by slot; data is NULL where the file has none. */
struct layer {
    struct tensor t[SLOTS_ - MODEL_SLOTS_];
    struct tensor k_up, v_up; /* MLA: [n_head] matrices; see weights_derive() */
};

struct weights {
    struct tensor model[MODEL_SLOTS_];
    struct layer *layers; /* [n_layer] */
    uint64_t bytes, n_params;
};

/* NULL where the file has no such tensor. */
static inline const struct tensor *model_tensor(const struct weights *w, enum slot s)
{
    return w->model[s].data ? &w->model[s] : NULL;
}
static inline const struct tensor *layer_tensor(const struct layer *l, enum slot s)
{
    const struct tensor *t = &l->t[s - MODEL_SLOTS_];
    return t->data ? t : NULL;
}
static inline const float *model_vector(const struct weights *w, enum slot s)
{
    return w->model[s].vec;
}
static inline const float *layer_vector(const struct layer *l, enum slot s)
{
    return l->t[s - MODEL_SLOTS_].vec;
}

/* Finds and checks all tensors; nothing is on a device yet. Layers come from the arena. */
enum err weights_find(struct weights *w, struct arena *mem, const struct arch *a,
                      const struct hparams *h, const struct gguf *g, struct errmsg *why) MUST_CHECK;
/* Latent attention wants the two halves of attn_kv_b as one matrix per head: k_up [kv_lora][nope]
 * (turned: q.(W c) is (W^T q).c) and v_up [head_v][kv_lora]. Newer files hold them so; from older
 * ones k_up is made here, in the arena, as float32 from float32 and float16 from anything else.
 * Nothing to do for other families. */
enum err weights_derive(struct weights *w, struct arena *mem, const struct arch *a,
                        const struct hparams *h, struct errmsg *why) MUST_CHECK;
/* Then puts them on the device. */
enum err weights_bind(struct weights *w, const struct hparams *h, const struct backend_ops *ops,
                      struct backend *b, struct errmsg *why) MUST_CHECK;

/* One vector of the file as floats (host): rotation factors are needed before the device is opened.
 */
enum err tensor_floats(float *out, const struct tensor *t, const char *name,
                       struct errmsg *why) MUST_CHECK;

#endif
