/* params.h - what `synthesize` may be told about a model: one table of numbers (option, metadata
 * key), one of published shapes.
 *
 * A number's key stands in the file as "ARCH.key"; which keys an architecture needs is the loader's
 * business (worker/model/hparams.c), so a new architecture needs a row here only when it has a
 * number of its own. */
#ifndef MILLRACE_WORKER_SYNTH_PARAMS_H
#define MILLRACE_WORKER_SYNTH_PARAMS_H

#include "shared/base/err.h"
#include "shared/base/str.h"

/* X(id, option, key, is it a float). Keys of NULL are no metadata of their own. */
// clang-format off
#define SYNTH_NUMBERS(X)                                                                           \
    X(VOCAB,         "vocab",            NULL,                             false)                  \
    X(LAYERS,        "layers",           "block_count",                    false)                  \
    X(CONTEXT,       "context",          "context_length",                 false)                  \
    X(EMBD,          "embd",             "embedding_length",               false)                  \
    X(FF,            "ff",               "feed_forward_length",            false)                  \
    X(HEADS,         "heads",            "attention.head_count",           false)                  \
    X(KV_HEADS,      "kv-heads",         "attention.head_count_kv",        false)                  \
    X(HEAD_DIM,      "head-dim",         "attention.key_length",           false)                  \
    X(VALUE_DIM,     "value-dim",        "attention.value_length",         false)                  \
    X(ROT,           "rot",              "rope.dimension_count",           false)                  \
    X(ROPE_BASE,     "rope-base",        "rope.freq_base",                 true)                   \
    X(ROPE_FACTOR,   "rope-factor",      "rope.scaling.factor",            true)                   \
    X(ROPE_CONTEXT,  "rope-context",     "rope.scaling.original_context_length", false)            \
    X(ROPE_LOG_MUL,  "rope-log-mul",     "rope.scaling.yarn_log_multiplier", true)                 \
    X(EPS,           "eps",              NULL,                             true)                   \
    X(WINDOW,        "window",           "attention.sliding_window",       false)                  \
    X(EXPERTS,       "experts",          "expert_count",                   false)                  \
    X(EXPERTS_USED,  "experts-used",     "expert_used_count",              false)                  \
    X(EXPERT_FF,     "expert-ff",        "expert_feed_forward_length",     false)                  \
    X(SHARED_EXPERTS, "shared-experts",  "expert_shared_count",            false)                  \
    X(SHARED_FF,     "shared-ff",        "expert_shared_feed_forward_length", false)               \
    X(DENSE_LAYERS,  "dense-layers",     "leading_dense_block_count",      false)                  \
    X(MOE_STEP,      "moe-step",         "interleave_moe_layer_step",      false)                  \
    X(GATING,        "gating",           "expert_gating_func",             false)                  \
    X(EXPERT_SCALE,  "expert-scale",     "expert_weights_scale",           true)                   \
    X(GROUPS,        "expert-groups",    "expert_group_count",             false)                  \
    X(GROUPS_USED,   "expert-groups-used", "expert_group_used_count",      false)                  \
    X(Q_LORA,        "q-lora",           "attention.q_lora_rank",          false)                  \
    X(KV_LORA,       "kv-lora",          "attention.kv_lora_rank",         false)                  \
    X(EMBD_SCALE,    "embd-scale",       "embedding_scale",                true)                   \
    X(RESIDUAL_SCALE, "residual-scale",  "residual_scale",                 true)                   \
    X(ATTN_SCALE,    "attn-scale",       "attention.scale",                true)                   \
    X(LOGIT_SCALE,   "logit-scale",      "logit_scale",                    true)                   \
    X(ATTN_SOFTCAP,  "attn-softcap",     "attn_logit_softcapping",         true)                   \
    X(LOGIT_SOFTCAP, "logit-softcap",    "final_logit_softcapping",        true)                   \
    X(POOLING,       "pooling",          "pooling_type",                   false)
// clang-format on

enum synth_number {
#define X(id, option, key, is_float) SYNTH_##id,
    SYNTH_NUMBERS(X)
#undef X
        SYNTH_NUMBERS_
};

struct synth_preset; /* a published shape; constant */

struct synth_params {
    char arch[32];
    char quant[16];
    double number[SYNTH_NUMBERS_];     /* negative: not given */
    const struct synth_preset *preset; /* NULL: none; fills what was not given */
    uint64_t seed;
    enum { NOT_SAID = -1, NO, YES } tie; /* YES: no output.weight, the embedding is used */
    bool biases;                         /* optional ones too; set by synth_params_finish() */
    bool rope_freqs;                     /* the frequency factors of Llama 3.1 */
    bool pure;                           /* --quant for every matrix, the output too */
    struct str tmpl;                     /* chat template; borrowed */
    const char *pre; /* tokenizer.ggml.pre; NULL: what suits the architecture, WordPiece for
                        encoders */
};

/* Everything unset, seed 1, Q8_0, the ChatML template. */
void synth_params_init(struct synth_params *p);

/* A published shape by name ("tiny", "0.5B" ... "70B", any case). ERR_NOT_FOUND with the list. */
enum err synth_use_preset(struct synth_params *p, const char *name, struct errmsg *why) MUST_CHECK;

/* "embd" = "512". Underscores count as hyphens. ERR_NOT_FOUND with the list, ERR_RANGE. */
enum err synth_set_number(struct synth_params *p, struct str name, struct str value,
                          struct errmsg *why) MUST_CHECK;

/* What --params takes: a preset's name, or "layers=4,embd=256,...", or both ("8B,layers=2"). */
enum err synth_set_list(struct synth_params *p, const char *list, struct errmsg *why) MUST_CHECK;

/* Completes what was left out, from the preset first; ERR_INVALID names what can't be guessed. */
enum err synth_params_finish(struct synth_params *p, struct errmsg *why) MUST_CHECK;

/* The metadata key of a number without its prefix (NULL: none) and whether it is a float. */
const char *synth_number_key(enum synth_number n, bool *is_float);
void synth_preset_names(char *out, size_t n);

#endif
