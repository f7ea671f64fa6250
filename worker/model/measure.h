/* measure.h - what a model is called and needs, known before it is opened: one place for loading
 * and `inspect`. Thread: no state. */
#ifndef MILLRACE_WORKER_MODEL_MEASURE_H
#define MILLRACE_WORKER_MODEL_MEASURE_H

#include "worker/model/arch.h"

/* The name of the file's mix of types: by general.file_type, else the type that most bytes have. */
void model_mix_name(char out[32], const struct gguf *g);

/* The KV cache of the model, without its number of blocks. */
struct kv_pool_shape model_kv_shape(const struct hparams *h, const struct arch *a, enum qtype type);

#endif
