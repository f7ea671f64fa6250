/* arch.h - the table of architectures: one row says all that a family does differently.
 *
 * A row names the parts (norm, rotation, attention, feed-forward, routing) and the tensors that a
 * file of the family must or may have. hparams.c reads the metadata by the table of keys, weights.c
 * finds and checks tensors by the table of slots, forward.c walks the parts, `inspect` prints them.
 * Adding a family is adding a row (docs/ADDING_A_MODEL.md). Thread: constant tables. */
#ifndef MILLRACE_WORKER_MODEL_ARCH_H
#define MILLRACE_WORKER_MODEL_ARCH_H

#include "worker/backend.h"
#include "worker/model/gguf.h"

/* --- sizes that tensor shapes are made of ---------------------------------------------------- */
enum dim {
    D_ONE,
    D_SINGLE, /* one row, but a matrix */
    D_EMBD,
    D_VOCAB,
    D_CTX,      /* positions of a learned table: the trained context */
    D_TYPES,    /* token types (BERT segments) */
    D_Q,        /* n_head * head_k */
    D_K,        /* n_head_kv * head_k */
    D_V,        /* n_head_kv * head_v */
    D_QKV,      /* D_Q + D_K + D_V */
    D_O,        /* n_head * head_v: what goes into attn_output */
    D_HEAD_K,   /* one head: q and k norms */
    D_HEADS,    /* n_head */
    D_ROT_HALF, /* n_rot / 2: frequency factors */
    D_FF,       /* feed-forward width */
    D_FF_UP,    /* D_FF, twice that where gate and up are one tensor */
    D_EXPERTS,
    D_FF_EXP,    /* of one expert */
    D_FF_SHARED, /* of the experts that every token goes through, together */
    D_Q_LORA,
    D_KV_LORA,
    D_KV_A,   /* kv_lora + n_rot */
    D_KV_B,   /* n_head * (head_nope + head_v) */
    D_NOPE,   /* head_k - n_rot: the part of an MLA head that is not rotated */
    D_HEAD_V, /* head_v */
    D_LABELS, /* outputs of a classifier head */
    D_COUNT_
};

/* --- tensor slots: X(slot, name, n_in, n_out, n_mat). Vectors have n_out D_ONE. -------------- */
// clang-format off
#define MODEL_TENSORS(X)                                                                           \
    X(TOKEN_EMBD,    "token_embd.weight",           D_EMBD,     D_VOCAB,   D_ONE)                  \
    X(POS_EMBD,      "position_embd.weight",        D_EMBD,     D_CTX,     D_ONE)                  \
    X(TYPE_EMBD,     "token_types.weight",          D_EMBD,     D_TYPES,   D_ONE)                  \
    X(EMBD_NORM,     "token_embd_norm.weight",      D_EMBD,     D_ONE,     D_ONE)                  \
    X(EMBD_NORM_B,   "token_embd_norm.bias",        D_EMBD,     D_ONE,     D_ONE)                  \
    X(ROPE_FREQS,    "rope_freqs.weight",           D_ROT_HALF, D_ONE,     D_ONE)                  \
    X(ROPE_LONG,     "rope_factors_long.weight",    D_ROT_HALF, D_ONE,     D_ONE)                  \
    X(ROPE_SHORT,    "rope_factors_short.weight",   D_ROT_HALF, D_ONE,     D_ONE)                  \
    X(OUT_NORM,      "output_norm.weight",          D_EMBD,     D_ONE,     D_ONE)                  \
    X(OUT_NORM_B,    "output_norm.bias",            D_EMBD,     D_ONE,     D_ONE)                  \
    X(OUTPUT,        "output.weight",               D_EMBD,     D_VOCAB,   D_ONE)                  \
    X(OUTPUT_B,      "output.bias",                 D_VOCAB,    D_ONE,     D_ONE)                  \
    X(CLS,           "cls.weight",                  D_EMBD,     D_EMBD,    D_ONE)                  \
    X(CLS_B,         "cls.bias",                    D_EMBD,     D_ONE,     D_ONE)                  \
    X(CLS_OUT,       "cls.output.weight",           D_EMBD,     D_LABELS,  D_ONE)                  \
    X(CLS_OUT_B,     "cls.output.bias",             D_LABELS,   D_ONE,     D_ONE)

#define LAYER_TENSORS(X)                                                                           \
    X(ATTN_NORM,     "attn_norm.weight",            D_EMBD,     D_ONE,     D_ONE)                  \
    X(ATTN_NORM_B,   "attn_norm.bias",              D_EMBD,     D_ONE,     D_ONE)                  \
    X(ATTN_Q,        "attn_q.weight",               D_EMBD,     D_Q,       D_ONE)                  \
    X(ATTN_Q_BIAS,   "attn_q.bias",                 D_Q,        D_ONE,     D_ONE)                  \
    X(ATTN_K,        "attn_k.weight",               D_EMBD,     D_K,       D_ONE)                  \
    X(ATTN_K_BIAS,   "attn_k.bias",                 D_K,        D_ONE,     D_ONE)                  \
    X(ATTN_V,        "attn_v.weight",               D_EMBD,     D_V,       D_ONE)                  \
    X(ATTN_V_BIAS,   "attn_v.bias",                 D_V,        D_ONE,     D_ONE)                  \
    X(ATTN_QKV,      "attn_qkv.weight",             D_EMBD,     D_QKV,     D_ONE)                  \
    X(ATTN_QKV_BIAS, "attn_qkv.bias",               D_QKV,      D_ONE,     D_ONE)                  \
    X(ATTN_Q_NORM,   "attn_q_norm.weight",          D_HEAD_K,   D_ONE,     D_ONE)                  \
    X(ATTN_K_NORM,   "attn_k_norm.weight",          D_HEAD_K,   D_ONE,     D_ONE)                  \
    X(ATTN_SINKS,    "attn_sinks.weight",           D_HEADS,    D_ONE,     D_ONE)                  \
    X(MLA_Q_A,       "attn_q_a.weight",             D_EMBD,     D_Q_LORA,  D_ONE)                  \
    X(MLA_Q_A_NORM,  "attn_q_a_norm.weight",        D_Q_LORA,   D_ONE,     D_ONE)                  \
    X(MLA_Q_B,       "attn_q_b.weight",             D_Q_LORA,   D_Q,       D_ONE)                  \
    X(MLA_KV_A,      "attn_kv_a_mqa.weight",        D_EMBD,     D_KV_A,    D_ONE)                  \
    X(MLA_KV_A_NORM, "attn_kv_a_norm.weight",       D_KV_LORA,  D_ONE,     D_ONE)                  \
    X(MLA_KV_B,      "attn_kv_b.weight",            D_KV_LORA,  D_KV_B,    D_ONE)                  \
    X(MLA_K_B,       "attn_k_b.weight",             D_NOPE,     D_KV_LORA, D_HEADS)                \
    X(MLA_V_B,       "attn_v_b.weight",             D_KV_LORA,  D_HEAD_V,  D_HEADS)                \
    X(ATTN_OUT,      "attn_output.weight",          D_O,        D_EMBD,    D_ONE)                  \
    X(ATTN_OUT_BIAS, "attn_output.bias",            D_EMBD,     D_ONE,     D_ONE)                  \
    X(ATTN_POST,     "post_attention_norm.weight",  D_EMBD,     D_ONE,     D_ONE)                  \
    X(ATTN_RES_NORM, "attn_output_norm.weight",     D_EMBD,     D_ONE,     D_ONE)                  \
    X(ATTN_RES_NORM_B, "attn_output_norm.bias",     D_EMBD,     D_ONE,     D_ONE)                  \
    X(FFN_NORM,      "ffn_norm.weight",             D_EMBD,     D_ONE,     D_ONE)                  \
    X(FFN_NORM_B,    "ffn_norm.bias",               D_EMBD,     D_ONE,     D_ONE)                  \
    X(FFN_GATE,      "ffn_gate.weight",             D_EMBD,     D_FF,      D_ONE)                  \
    X(FFN_GATE_BIAS, "ffn_gate.bias",               D_FF,       D_ONE,     D_ONE)                  \
    X(FFN_UP,        "ffn_up.weight",               D_EMBD,     D_FF_UP,   D_ONE)                  \
    X(FFN_UP_BIAS,   "ffn_up.bias",                 D_FF_UP,    D_ONE,     D_ONE)                  \
    X(FFN_DOWN,      "ffn_down.weight",             D_FF,       D_EMBD,    D_ONE)                  \
    X(FFN_DOWN_BIAS, "ffn_down.bias",               D_EMBD,     D_ONE,     D_ONE)                  \
    X(FFN_POST,      "post_ffw_norm.weight",        D_EMBD,     D_ONE,     D_ONE)                  \
    X(FFN_RES_NORM,  "layer_output_norm.weight",    D_EMBD,     D_ONE,     D_ONE)                  \
    X(FFN_RES_NORM_B, "layer_output_norm.bias",     D_EMBD,     D_ONE,     D_ONE)                  \
    X(MOE_ROUTER,    "ffn_gate_inp.weight",         D_EMBD,     D_EXPERTS, D_ONE)                  \
    X(MOE_ROUTER_B,  "ffn_gate_inp.bias",           D_EXPERTS,  D_ONE,     D_ONE)                  \
    X(MOE_BIAS,      "exp_probs_b.bias",            D_EXPERTS,  D_ONE,     D_ONE)                  \
    X(MOE_GATE,      "ffn_gate_exps.weight",        D_EMBD,     D_FF_EXP,  D_EXPERTS)              \
    X(MOE_UP,        "ffn_up_exps.weight",          D_EMBD,     D_FF_EXP,  D_EXPERTS)              \
    X(MOE_DOWN,      "ffn_down_exps.weight",        D_FF_EXP,   D_EMBD,    D_EXPERTS)              \
    X(MOE_GATE_B,    "ffn_gate_exps.bias",          D_FF_EXP,   D_EXPERTS, D_ONE)                  \
    X(MOE_UP_B,      "ffn_up_exps.bias",            D_FF_EXP,   D_EXPERTS, D_ONE)                  \
    X(MOE_DOWN_B,    "ffn_down_exps.bias",          D_EMBD,     D_EXPERTS, D_ONE)                  \
    X(SHARED_ROUTER, "ffn_gate_inp_shexp.weight",   D_EMBD,     D_SINGLE,  D_ONE)                  \
    X(SHARED_GATE,   "ffn_gate_shexp.weight",       D_EMBD,     D_FF_SHARED, D_ONE)                \
    X(SHARED_UP,     "ffn_up_shexp.weight",         D_EMBD,     D_FF_SHARED, D_ONE)                \
    X(SHARED_DOWN,   "ffn_down_shexp.weight",       D_FF_SHARED, D_EMBD,   D_ONE)
// clang-format on

enum slot {
#define X(slot, name, in, out, mat) slot,
    MODEL_TENSORS(X) MODEL_SLOTS_,
    LAYER_SLOTS_BEGIN_ = MODEL_SLOTS_ - 1,
    LAYER_TENSORS(X) SLOTS_
#undef X
};

struct slot_info {
    const char *name; /* layer slots: what follows "blk.N." */
    enum dim in, out, mat;
};
extern const struct slot_info arch_slots[SLOTS_];

static inline bool slot_of_layer(enum slot s)
{
    return s >= MODEL_SLOTS_;
}
/* Whether the device holds it as float32: vectors, and the tables of the experts' biases. The rest
 * are matrices. */
static inline bool slot_is_vector(enum slot s)
{
    return arch_slots[s].out == D_ONE || s == MOE_GATE_B || s == MOE_UP_B || s == MOE_DOWN_B;
}

/* --- rows ------------------------------------------------------------------------------------ */

enum need {
    NEED_END_ = 0,
    MUST,
    MAY,         /* used when there */
    DENSE,       /* must, in layers with one feed-forward network */
    MOE,         /* must, in layers with experts */
    MAY_MOE,     /* may, in layers with experts */
    SHARED,      /* must, in layers with experts, when there are shared ones */
    WITH_Q_LORA, /* must, when attention.q_lora_rank is set */
    NO_Q_LORA    /* must, when it isn't */
};
struct tensor_need {
    enum slot slot;
    enum need need;
};

enum block_kind {
    BLOCK_SERIAL,   /* x += attn(norm(x)); x += ffn(norm(x)) */
    BLOCK_PARALLEL, /* n = norm(x); x += attn(n) + ffn(n) */
    BLOCK_POST_NORM /* x = norm(x + attn(x)); x = norm(x + ffn(x)): BERT */
};
enum attn_kind { ATTN_GQA, ATTN_MLA };
enum ffn_kind {
    FFN_GATED,
    FFN_PLAIN,
    FFN_FUSED /* gated; gate and up are one tensor, gate first */
};

/* Which layers see a sliding window only (where attention.sliding_window is set). */
enum window_kind { WINDOW_NONE, WINDOW_ALL, WINDOW_PERIOD };

struct arch {
    const char *name;     /* general.architecture */
    const char *families; /* for people */
    enum norm_kind norm;
    enum block_kind block;
    enum rope_kind rope;
    enum attn_kind attn;
    enum ffn_kind ffn;
    enum act_kind act;
    bool encoder;               /* sees the whole input; gives embeddings, no logits */
    bool scale_embd;            /* embeddings times sqrt(n_embd) */
    uint32_t wide_scale_layers; /* the size (told by its layers: no key says it) whose attention
                                   scale comes from n_embd/n_head instead of head_k; 0: none */
    bool norm_after_is_before;  /* post_attention_norm is the feed-forward's own norm */
    bool logit_divisor;         /* logit_scale divides */
    bool finetuned_is_rope;     /* rope.scaling.finetuned = false turns rotation off */
    enum gating gating;         /* default of expert_gating_func */
    bool renorm;                /* default of expert_weights_norm */
    uint32_t shared_default;    /* expert_shared_count without the key */
    bool weigh_input;           /* an expert's weight multiplies its input, not its output */
    float attn_softcap, logit_softcap; /* without the keys; 0: none */
    enum window_kind window;
    uint32_t window_default; /* without the key */
    int window_period;       /* every window_period-th layer sees all (WINDOW_PERIOD) */
    bool chunked;          /* a window is a chunk: positions since the last multiple of its size */
    float local_rope_base; /* windowed layers turn by this base, unscaled; 0: like the others */
    bool rope_local_only;  /* layers that see all don't turn; their queries are warmed instead: */
    int warm_floor;        /* (struct qkv) */
    float warm_scale;
    bool unit_norms;           /* heads that turn are normed, without weights, */
    uint32_t unnormed_experts; /* but not in the size (told by its experts: no key says it) that has
                                  so many */
    bool may_tie;              /* without output.weight the embedding is used */
    const struct tensor_need *tensors; /* up to {0, NEED_END_} */
};

/* NULL: no such row. */
const struct arch *arch_find(struct str name);
const struct arch *arch_at(int i); /* NULL past the end */

/* --- a file's numbers ------------------------------------------------------------------------ */

enum rope_scaling { SCALING_NONE, SCALING_LINEAR, SCALING_YARN, SCALING_LONGROPE };

struct hparams {
    uint32_t n_layer, n_embd, n_vocab, n_ctx_train;
    uint32_t n_head, n_head_kv, head_k,
        head_v; /* head_*: values per head. MLA: as the file says (nope + rope) */
    uint32_t n_ff, n_rot;
    float eps;
    float rope_base;
    enum rope_scaling scaling;
    float rope_factor, rope_attn_factor, rope_log_mul;
    float yarn_beta_fast, yarn_beta_slow, yarn_ext;
    uint32_t rope_ctx; /* the context before scaling */
    float embd_scale, residual_scale, attn_scale, logit_scale;
    float attn_softcap, logit_softcap;
    uint32_t window; /* 0: none */
    uint32_t window_period;
    float local_rope_base;
    bool no_rope, unit_norms;
    uint32_t n_nextn;  /* layers at the end that predict further tokens: not run */
    uint32_t moe_step; /* every moe_step-th layer has experts */
    uint32_t n_expert, n_expert_used, n_ff_exp, n_ff_shared, n_expert_shared;
    uint32_t n_group, n_group_used, n_dense; /* n_dense: leading layers without experts */
    uint32_t gating;                         /* enum gating */
    bool renorm;
    float expert_scale;
    uint32_t q_lora, kv_lora;
    uint32_t head_k_mla, head_v_mla; /* how newer files say head_k and head_v; 0: not said */
    uint32_t pooling;                /* enum pooling of model.h, 4: rank */
    bool embeds;                     /* an encoder, or a decoder whose file says how to pool */
    uint32_t n_types, n_labels;
    bool causal;
};

/* Reads, completes and checks every key of the row. ERR_INVALID or ERR_UNSUPPORTED with the key in
 * the message. */
enum err hparams_read(struct hparams *h, const struct arch *a, const struct gguf *g,
                      struct errmsg *why) MUST_CHECK;
/* The keys that are read, without the architecture's prefix; NULL past the end. */
const char *hparams_key(int i);
uint64_t hparams_dim(const struct hparams *h, const struct arch *a, enum dim d);

static inline bool layer_has_experts(const struct hparams *h, uint32_t il)
{
    return h->n_expert > 0 && il >= h->n_dense && (il + 1) % h->moe_step == 0;
}
/* The window of layer il; 0: it sees everything. */
static inline uint32_t layer_window(const struct hparams *h, const struct arch *a, uint32_t il)
{
    if (a->window == WINDOW_NONE ||
        (a->window == WINDOW_PERIOD && (il + 1) % h->window_period == 0))
        return 0;
    return h->window;
}

/* The number of layer il among those that have a window too, or have none too. */
static inline uint32_t layer_number(const struct hparams *h, const struct arch *a, uint32_t il)
{
    if (a->window != WINDOW_PERIOD || h->window == 0)
        return il;
    const uint32_t whole = il / h->window_period;
    return layer_window(h, a, il) ? il - whole : whole;
}

/* inv_freq [n_rot/2] and mscale of the file's rotation. factors: [n_rot/2] or NULL. `local`: the
 * windowed layers'. */
void rope_frequencies(const struct hparams *h, const struct arch *a, const float *factors,
                      bool local, double *inv_freq, float *mscale);

#endif
