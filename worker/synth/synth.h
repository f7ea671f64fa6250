/* synth.h - writes a model of random weights: any architecture of the table, any shape, any
 * quantization, with a tokenizer that works. For testing that a shape loads, and how fast it is,
 * without a download.
 *
 * Promise: the same parameters give the same file, byte for byte; activations keep their size from
 * layer to layer and logits differ from token to token, so that no kernel is timed on zeros or
 * infinities. Errors: parameters that no such model can have, a full disk; nothing is left behind
 * then. */
#ifndef MILLRACE_WORKER_SYNTH_SYNTH_H
#define MILLRACE_WORKER_SYNTH_SYNTH_H

#include "worker/model/arch.h"
#include "worker/synth/params.h"

struct synth_result {
    uint64_t n_params, file_bytes, n_tensors;
};

enum err synth_write(const char *path, const struct synth_params *p, struct synth_result *result,
                     struct errmsg *why) MUST_CHECK;

/* The same without a file: the numbers that the loader would read, and each tensor that the file
 * would have, shown in its order (`see` borrows). For who wants to know sizes alone. */
struct synth_tensor {
    enum slot slot;
    int layer; /* of the model as a whole: 0 */
    enum qtype type;
    uint64_t ne[3], elems;
};
enum err synth_outline(const struct synth_params *p, const struct arch **arch, struct hparams *h,
                       void (*see)(void *user, const struct synth_tensor *t), void *user,
                       struct errmsg *why) MUST_CHECK;

#endif
