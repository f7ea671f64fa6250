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

#include "worker/synth/params.h"

struct synth_result {
    uint64_t n_params, file_bytes, n_tensors;
};

enum err synth_write(const char *path, const struct synth_params *p, struct synth_result *result,
                     struct errmsg *why) MUST_CHECK;

#endif
