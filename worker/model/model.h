/* model.h - a loaded model that computes logits: the engine's face to the scheduler and the
 * subcommands.
 *
 * Promise (batch invariance): the logits of a position depend on its sequence's tokens alone, bit
 * for bit: not on the other sequences of the step, on how a prompt was cut into chunks, or on
 * cached versus recomputed prefixes. Memory: everything is allocated in model_open(); model_step()
 * allocates nothing. Thread: one (the scheduler's); inside, the model's own compute threads. */
#ifndef MILLRACE_WORKER_MODEL_MODEL_H
#define MILLRACE_WORKER_MODEL_MODEL_H

#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/model/gguf.h"
#include "worker/model/pooling.h"

enum { KV_BLOCK_TOKENS = 32 }; /* positions per KV block: prefix reuse works on these borders */

struct model_opts {
    const char *device;       /* "cpu" */
    int n_threads;            /* 0: one per available core */
    uint32_t context;         /* tokens per sequence; 0: the model's own */
    uint32_t max_seqs;        /* sequences per step */
    uint32_t max_step_tokens; /* tokens per step over all sequences: the scheduler's budget */
    uint32_t kv_blocks; /* blocks of the KV pool; 0: enough for max_seqs full contexts, bounded by
                           free memory */
    uint64_t memory_bytes; /* weights and KV pool together; the pool is cut to fit. 0: no limit */
    enum qtype kv_type;    /* QTYPE_F16 (default), QTYPE_F32, QTYPE_BF16, QTYPE_Q8_0; encoders keep
                              K and V of one layer for one step only, always in F32 */
    void (*on_progress)(void *user, uint32_t permille); /* NULL is fine */
    void (*on_layer)(void *user); /* after each layer of a step: a sign of life. NULL is fine */
    void *user;
};

struct model_desc { /* constant after model_open(); strings borrowed from the model */
    struct str name, arch, size_label;
    char quant[32];  /* the file's mix, e.g. "Q4_K_M" or "Q8_0" */
    char device[96]; /* what runs it: "cpu, 2 threads, avx512" */
    uint64_t n_params, weight_bytes;
    uint32_t n_layer, n_vocab, n_embd;
    uint32_t context_train, context; /* what the file says; what was opened */
    uint32_t max_step_tokens;        /* what model_opts asked for, as far as it makes sense here */
    uint32_t kv_blocks;
    /* Layers with a sliding window keep that alone, in a second pool of blocks (worker/kv): its
     * size, the most blocks that one sequence needs of it at a time (0: no such layers; then all
     * below are 0), and what those layers see. */
    uint32_t kv_window_blocks, kv_ring_blocks, kv_window;
    bool kv_chunked;
    uint64_t kv_bytes_per_token, kv_bytes;
    enum pooling pooling; /* what the file asks for; POOL_LAST for decoders that don't say */
    bool embeds; /* it is a model for embeddings: an encoder, or a decoder whose file says how its
                    states are pooled */
    uint32_t min_dims; /* vectors may be cut to so many values (Matryoshka); 0: they may not */
    uint32_t n_labels; /* outputs of a reranker's head; 0: none */
    bool is_encoder;   /* embeddings only: model_step() gives no logits */
};

struct model; /* opaque */

enum err model_open(struct model **out, const char *path, const struct model_opts *opts,
                    struct errmsg *why) MUST_CHECK;
void model_close(struct model *m); /* NULL is fine */
const struct model_desc *model_desc(const struct model *m);
const struct gguf *model_gguf(const struct model *m); /* borrowed: tokenizer, template */

/* One sequence's share of a step: tokens at positions pos .. pos+n_tok-1, appended to its KV
 * blocks. */
struct step_seq {
    const int32_t *tokens;  /* borrowed for the call */
    uint32_t n_tok;         /* at least 1 */
    uint32_t pos;           /* positions before it are in the KV cache already */
    const uint32_t *blocks; /* block table: position p lives in blocks[p / KV_BLOCK_TOKENS] */
    uint32_t n_blocks;      /* covers pos + n_tok */
    const uint32_t *window_blocks; /* the same of the windows' pool, where there is one
                                      (kv_ring_blocks): n_blocks entries, of which those count that
                                      hold positions kv_first_seen(pos) .. pos + n_tok - 1. A
                                      sequence with blocks of its own may use them in a ring: entry
                                      i is the ring's i % kv_ring_blocks-th. NULL: none */
    uint32_t n_logits; /* rows wanted: of the last n_logits tokens of this call (0, 1, or n_tok for
                          `echo`) */
    float *logits;     /* out: [n_logits, n_vocab]; NULL when n_logits is 0 */
};

/* Sum of n_tok <= max_step_tokens, n_seqs <= max_seqs. ERR_INVALID for a token id out of range
 * (nothing was written). `stop` is polled between layers (NULL: never); when it turns nonzero the
 * step ends with ERR_CANCELLED and the caller may repeat it: KV writes of a repeated step give the
 * same bytes. */
enum err model_step(struct model *m, const struct step_seq *seqs, int n_seqs,
                    const volatile int *stop, struct errmsg *why) MUST_CHECK;

/* One input's share of an embedding step: encoders take the whole input (pos 0, last), decoders any
 * piece, appended to its KV blocks. */
struct embed_seq {
    const int32_t *tokens;  /* borrowed for the call */
    uint32_t n_tok, pos;    /* as in struct step_seq */
    const uint32_t *blocks; /* of this input alone */
    uint32_t n_blocks;
    const uint32_t *window_blocks;
    bool last;             /* the input ends here: pooled->vector is complete afterwards */
    struct pooled *pooled; /* takes the states; any pooling but POOL_MODEL */
};

/* Several inputs in one pass; limits, errors and repeating as of model_step(). What an input
 * becomes does not depend on its company or on how it was cut. */
enum err model_embed_step(struct model *m, const struct embed_seq *seqs, int n_seqs,
                          struct errmsg *why) MUST_CHECK;

/* Pooled or per-token embeddings of one input (encoders, and decoders used as such). out: [n_embd];
 * [n_tok, n_embd] for POOL_NONE; [n_labels], the scores of a reranker, for POOL_RANK. POOL_MODEL
 * does as model_desc.pooling says. Uses the KV blocks 0 .. n_tok/KV_BLOCK_TOKENS and the window
 * blocks 0 .. kv_ring_blocks-1: no sequence of a step may own them. */
enum err model_embed(struct model *m, const int32_t *tokens, uint32_t n_tok, enum pooling pooling,
                     bool normalize, float *out, struct errmsg *why) MUST_CHECK;

#endif
