/* engine_model.h - the scheduler's engine table, filled from a loaded model and its tokenizer.
 * Thread: open anywhere; the table's functions from the scheduler's thread. */
#ifndef MILLRACE_WORKER_SCHED_ENGINE_MODEL_H
#define MILLRACE_WORKER_SCHED_ENGINE_MODEL_H

#include "worker/sched/engine.h"
#include "worker/text/tokenizer.h"

struct engine_model; /* opaque */

struct embed_opts {
    enum pooling pooling; /* POOL_MODEL: as the file says, if it does; else the model embeds so */
    uint32_t min_dims;    /* vectors may be cut to so many values; 0: as known of the model */
};

/* Model and tokenizer are BORROWED for the life of the engine. ERR_INVALID: their vocabularies
 * differ, or the embedding options don't fit the model. ERR_UNSUPPORTED: it gives embeddings, but
 * nobody says how they are pooled. */
enum err engine_model_open(struct engine_model **out, struct model *m, const struct tokenizer *t,
                           uint32_t max_seqs, uint32_t max_step_tokens,
                           const struct embed_opts *embeddings, struct errmsg *why) MUST_CHECK;
void engine_model_close(struct engine_model *e); /* NULL is fine */
const struct engine *engine_model_table(const struct engine_model *e);

#endif
