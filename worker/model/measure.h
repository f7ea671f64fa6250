/* measure.h - what a model is called and needs, known before it is opened: one place for loading
 * and `inspect`. Thread: no state. */
#ifndef MILLRACE_WORKER_MODEL_MEASURE_H
#define MILLRACE_WORKER_MODEL_MEASURE_H

#include "worker/model/arch.h"

/* The name of the file's mix of types: by general.file_type, else the type that most bytes have. */
void model_mix_name(char out[32], const struct gguf *g);

/* The KV cache: what it takes is said here alone, for the allocator, `inspect` and `plan`.
 *
 * Layers that see everything keep the whole context of every slot, in blocks of KV_TOKENS
 * positions. Layers that see a sliding window (or a chunk) keep a ring of blocks per slot, where
 * that is less: the window, what one step adds to it, and the block that the window's border may
 * stand in; one ring more than slots, so that a prefix outlives its sequence (worker/kv). Encoders
 * keep K and V of one layer for one step, always in F32. */
struct kv_ask {
    uint32_t context;     /* tokens per sequence; 0: the model's own */
    uint32_t slots;       /* sequences at a time */
    uint32_t step_tokens; /* the most that one step adds to a sequence; 0: KV_STEP_DEFAULT */
    uint32_t blocks;      /* of the whole-context kind; 0: enough for all slots */
    uint32_t rings;       /* of the window kind; 0: one for each slot, and one */
    enum qtype type;
};
enum { KV_STEP_DEFAULT = 512 };
/* A step of `serve`, where none was asked for: at least a token of each slot and a block of prefill
 * beside them. */
static inline uint64_t model_least_step(uint64_t slots)
{
    return slots + KV_TOKENS;
}
static inline uint64_t model_default_step(uint64_t slots)
{
    return model_least_step(slots) > KV_STEP_DEFAULT ? model_least_step(slots) : KV_STEP_DEFAULT;
}

struct kv_need {
    struct kv_pool_shape shape; /* complete */
    uint32_t seq_blocks;        /* of one whole context */
    uint32_t ring_blocks;       /* the most window blocks of one sequence; 0: no layer is kept so */
    uint32_t window;            /* and what those layers see (kv_first_seen()) */
    bool chunked;
    uint64_t block_bytes[KV_KINDS]; /* of one block, over its layers */
    uint64_t bytes;                 /* all of it */
    uint64_t token_bytes;           /* what a token of context adds: the layers that keep it all */
    uint64_t slot_bytes;            /* one whole context with its ring */
};
/* ERR_RANGE: more than can be counted. */
enum err model_kv_need(struct kv_need *out, const struct hparams *h, const struct arch *a,
                       const struct backend_ops *ops, const struct kv_ask *ask,
                       struct errmsg *why) MUST_CHECK;
/* The same in `budget` bytes, where all slots together need more: fewer blocks for all, and as many
 * rings as go into a quarter of it (who gets none waits). ERR_NOMEM: not even one whole context. */
enum err model_kv_fit(struct kv_need *out, const struct hparams *h, const struct arch *a,
                      const struct backend_ops *ops, const struct kv_ask *ask, uint64_t budget,
                      struct errmsg *why) MUST_CHECK;

#endif
