/* shapes.h - published model shapes: one table of the numbers that config.json files hold, one of
 * the names that people use. Thread: constant tables.
 *
 * A size without a name ("70B") takes the usual shape that is nearest, and the choice says so. */
#ifndef MILLRACE_WORKER_PLAN_SHAPES_H
#define MILLRACE_WORKER_PLAN_SHAPES_H

#include "worker/synth/params.h"

struct shape {
    const char *name;   /* of the plain model, "qwen2.5:7b" */
    const char *family; /* for people */
    double params;      /* as published */
    bool usual;         /* a size without a name may mean it */
    const char *arch;
    uint32_t layers, embd, ff, heads, kv_heads, head_dim, vocab, context;
    bool tie;
    uint32_t experts, experts_used, expert_ff, shared_experts, dense_layers;
    uint32_t q_lora, kv_lora, value_dim, rot, window;
    const char *quant; /* what it is published in; NULL: Q4_K_M by habit */
};

struct shape_choice {
    const struct shape *shape;
    bool distilled, untied;
    char what[256];
    char quant[16]; /* said by the name's tail ("llama3.1:8b-q8_0"); empty: not said */
};

/* "70B", "deepseek-r1:7b", "llama3.1:8b-q8_0"; any case. ERR_NOT_FOUND with names that are near,
 * ERR_RANGE for sizes that no model has. */
enum err shape_choose(struct shape_choice *out, const char *text, struct errmsg *why) MUST_CHECK;
/* `untied`: with an output matrix of its own in any case. The quantization is left to the caller.
 */
void shape_params(struct synth_params *p, const struct shape *s, bool untied);
const struct shape *shape_at(int i); /* NULL past the end */

/* Letters to be changed, added or dropped to make b of a, any case: for "did you mean". */
unsigned text_distance(const char *a, const char *b);

#endif
