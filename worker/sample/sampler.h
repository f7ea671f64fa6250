/* sampler.h - logits to a token: a pure function of (logits, history, parameters, seed, choice,
 * position).
 *
 * Order, fixed:
 *   1. logprobs (when asked): log-softmax of the model's own logits, before anything below, as
 * OpenAI and vLLM report them
 *   2. repetition penalty: tokens in the window of prompt and completion: x > 0 ? x / p : x * p
 *      (Keskar et al. 2019, arXiv:1909.05858, section 4.1)
 *   3. frequency and presence penalty: tokens of the completion inside the window:
 *      x -= frequency * count + presence. The prompt doesn't count, as OpenAI defines them.
 *   4. logit_bias: x += bias
 *   5. bans: end tokens while min_tokens or ignore_eos forbid them
 *   6. temperature 0: the greatest wins, the lowest id among equals; done
 *   7. temperature, then top_k, top_p (of what top_k left), min_p (relative to the best)
 *   8. a draw by inverse distribution in id order, u = Philox(seed; choice, position)
 * The window is the last penalty_last_n tokens of prompt and completion together; -1: all; 0: none.
 *
 * Numbers are IEEE arithmetic in a fixed order: same input, same token on any x86-64 build.
 * Memory: scratch in sampler_open(), nothing per call. Thread: one per sampler. */
#ifndef MILLRACE_WORKER_SAMPLE_SAMPLER_H
#define MILLRACE_WORKER_SAMPLE_SAMPLER_H

#include "shared/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SAMPLE_MAX_TOP = 20 };

struct logit_bias {
    int32_t token;
    float bias;
};

struct sample_params { /* ranges are the caller's duty: all finite, penalties > 0 where they divide
                        */
    float temperature;
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    int32_t top_k;            /* <= 0: off */
    float repetition_penalty; /* 1: off */
    float frequency_penalty;  /* 0: off */
    float presence_penalty;   /* 0: off */
    int32_t penalty_last_n;
    uint64_t seed;
    const struct logit_bias *bias; /* borrowed; ids inside the vocabulary */
    size_t n_bias;
};

struct sample_in {
    const float *logits;    /* [n_vocab] */
    const int32_t *history; /* prompt, then completion; ids inside the vocabulary */
    size_t n_prompt, n_history;
    uint32_t choice;
    uint32_t position;     /* of the token to draw, counted from the completion's start */
    const int32_t *banned; /* borrowed: ids that must not come now */
    size_t n_banned;
    int n_top; /* alternatives wanted, 0..SAMPLE_MAX_TOP; -1: no logprobs at all */
};

struct sample_out {
    int32_t token;
    float logprob; /* of the token; 0 when n_top is -1 */
    int n_top;
    struct {
        int32_t token;
        float logprob;
    } top[SAMPLE_MAX_TOP]; /* best first */
};

struct sampler; /* opaque: scratch for one vocabulary */

enum err sampler_open(struct sampler **out, uint32_t n_vocab, struct errmsg *why) MUST_CHECK;
void sampler_close(struct sampler *s); /* NULL is fine */

/* ERR_INTERNAL: a logit is not finite (a damaged model file, or a bug), or everything is banned. */
enum err sampler_draw(struct sampler *s, const struct sample_params *p, const struct sample_in *in,
                      struct sample_out *out, struct errmsg *why) MUST_CHECK;

#endif
