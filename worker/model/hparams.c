/* hparams.c - reads a file's metadata by one table of keys, completes what a family leaves out, and
 * refuses what can't be true. After it every size is a positive number small enough for int
 * arithmetic of one row. */
#include "worker/model/arch.h"

#include <math.h>
#include <stdio.h>
#include <stddef.h>

/* Larger than any published model by a factor of four or more; small enough that products of two
 * fit easily. */
enum {
    LAYERS_MAX = 1024,
    WIDTH_MAX = 1 << 18,
    HEADS_MAX = 4096,
    VOCAB_MAX = 1 << 24,
    EXPERTS_LIMIT = 1024
};

enum key_kind { KEY_U32, KEY_F32, KEY_BOOL };
struct key_row {
    const char *key; /* without the architecture's prefix */
    enum key_kind kind;
    bool must;
    size_t at;       /* in struct hparams */
    double min, max; /* of a number */
};

// clang-format off
#define U(key, must, field, min, max) {key, KEY_U32, must, offsetof(struct hparams, field), min, max}
#define F(key, must, field, min, max) {key, KEY_F32, must, offsetof(struct hparams, field), min, max}
#define B(key, field)                 {key, KEY_BOOL, false, offsetof(struct hparams, field), 0, 1}

static const struct key_row keys[] = {
    U("block_count",                       true,  n_layer,         1, LAYERS_MAX),
    U("context_length",                    true,  n_ctx_train,     1, 1 << 30),
    U("embedding_length",                  true,  n_embd,          1, WIDTH_MAX),
    U("feed_forward_length",               false, n_ff,            0, 4 * WIDTH_MAX),
    U("attention.head_count",              true,  n_head,          1, HEADS_MAX),
    U("attention.head_count_kv",           false, n_head_kv,       1, HEADS_MAX),
    U("attention.key_length",              false, head_k,          1, WIDTH_MAX),
    U("attention.value_length",            false, head_v,          1, WIDTH_MAX),
    F("attention.layer_norm_rms_epsilon",  false, eps,             0, 1),
    F("attention.layer_norm_epsilon",      false, eps,             0, 1),
    F("attention.scale",                   false, attn_scale,      1e-9, 1e9),
    U("attention.sliding_window",          false, window,          0, 1 << 30),
    B("attention.causal",                         causal),
    U("attention.q_lora_rank",             false, q_lora,          1, WIDTH_MAX),
    U("attention.kv_lora_rank",            false, kv_lora,         1, WIDTH_MAX),
    U("attention.key_length_mla",          false, head_k_mla,      1, WIDTH_MAX),
    U("attention.value_length_mla",        false, head_v_mla,      1, WIDTH_MAX),
    U("rope.dimension_count",              false, n_rot,           2, WIDTH_MAX),
    F("rope.freq_base",                    false, rope_base,       1.001, 1e30),
    F("rope.scale_linear",                 false, rope_factor,     1e-9, 1e9),
    F("rope.scaling.factor",               false, rope_factor,     1e-9, 1e9),
    F("rope.scaling.attn_factor",          false, rope_attn_factor, 1e-9, 1e9),
    U("rope.scaling.original_context_length", false, rope_ctx,     1, 1 << 30),
    F("rope.scaling.yarn_log_multiplier",  false, rope_log_mul,    -1e9, 1e9),
    F("rope.scaling.yarn_ext_factor",      false, yarn_ext,        -1, 1e9),
    F("rope.scaling.yarn_beta_fast",       false, yarn_beta_fast,  1e-9, 1e9),
    F("rope.scaling.yarn_beta_slow",       false, yarn_beta_slow,  1e-9, 1e9),
    F("embedding_scale",                   false, embd_scale,      -1e9, 1e9),
    F("residual_scale",                    false, residual_scale,  -1e9, 1e9),
    F("logit_scale",                       false, logit_scale,     -1e9, 1e9),
    F("attn_logit_softcapping",            false, attn_softcap,    0, 1e9),
    F("final_logit_softcapping",           false, logit_softcap,   0, 1e9),
    U("expert_count",                      false, n_expert,        0, EXPERTS_LIMIT),
    U("expert_used_count",                 false, n_expert_used,   0, 64),
    U("expert_feed_forward_length",        false, n_ff_exp,        1, WIDTH_MAX),
    U("expert_shared_feed_forward_length", false, n_ff_shared,     1, 4 * WIDTH_MAX),
    U("expert_shared_count",               false, n_expert_shared, 0, 64),
    U("expert_group_count",                false, n_group,         0, EXPERTS_LIMIT),
    U("expert_group_used_count",           false, n_group_used,    0, EXPERTS_LIMIT),
    U("leading_dense_block_count",         false, n_dense,         0, LAYERS_MAX),
    U("interleave_moe_layer_step",         false, moe_step,        1, LAYERS_MAX),
    U("nextn_predict_layers",              false, n_nextn,         0, LAYERS_MAX),
    F("rope.freq_base_swa",                false, local_rope_base, 1.001, 1e30),
    U("expert_gating_func",                false, gating,          0, 3),
    B("expert_weights_norm",                      renorm),
    F("expert_weights_scale",              false, expert_scale,    -1e9, 1e9),
    U("pooling_type",                      false, pooling,         0, 4),
};
#undef U
#undef F
#undef B
// clang-format on

const char *hparams_key(int i)
{
    return i >= 0 && (size_t)i < sizeof keys / sizeof *keys ? keys[i].key : NULL;
}

static enum err read_number(const struct gguf *g, const char *full, const struct key_row *k,
                            struct hparams *h, bool *found, struct errmsg *why)
{
    const struct gguf_kv *kv = gguf_kv(g, full);
    char *field = (char *)h + k->at;
    *found = kv != NULL;
    if (!kv)
        return ERR_OK;
    float f = 0;
    uint64_t u = 0;
    bool ok;
    /* A list of one number per layer is accepted when they are all the same. */
    ok = kv->count > 0;
    for (uint64_t i = 0; ok && i < kv->count; i++) {
        float fi = 0;
        uint64_t ui = 0;
        ok = k->kind == KEY_U32 ? gguf_elem_u64(kv, i, &ui) : gguf_elem_f32(kv, i, &fi);
        if (ok && i > 0 && (ui != u || fi != f))
            return err_set(why, ERR_UNSUPPORTED,
                           "%s differs between layers; such models don't run here", full);
        u = ui;
        f = fi;
    }
    const double v = k->kind == KEY_U32 ? (double)u : (double)f;
    if (!ok)
        return err_set(why, ERR_INVALID, "%s is no %s", full,
                       k->kind == KEY_U32 ? "count" : "number");
    if (!(v >= k->min && v <= k->max))
        return err_set(why, ERR_INVALID, "%s is %g, not within %g to %g", full, v, k->min, k->max);
    if (k->kind == KEY_U32)
        *(uint32_t *)(void *)field = (uint32_t)u;
    else
        *(float *)(void *)field = f;
    return ERR_OK;
}

static enum err read_keys(struct hparams *h, const struct arch *a, const struct gguf *g,
                          struct errmsg *why)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct key_row *k = &keys[i];
        char full[128];
        snprintf(full, sizeof full, "%s.%s", a->name, k->key);
        bool found = false;
        if (k->kind == KEY_BOOL) {
            const struct gguf_kv *kv = gguf_kv(g, full);
            if (kv && !gguf_get_bool(g, full, (bool *)(void *)((char *)h + k->at)))
                return err_set(why, ERR_INVALID, "%s is no boolean", full);
            continue;
        }
        const enum err e = read_number(g, full, k, h, &found, why);
        if (e)
            return e;
        if (k->must && !found)
            return err_set(why, ERR_INVALID, "%s: the key %s is missing", gguf_path(g), full);
    }
    return ERR_OK;
}

/* Decoders of embedding models are told from those that write text by this key alone. */
static void read_purpose(struct hparams *h, const struct arch *a, const struct gguf *g)
{
    char full[128];
    snprintf(full, sizeof full, "%s.pooling_type", a->name);
    h->embeds = a->encoder || (gguf_kv(g, full) && h->pooling != 0);
}

static enum err read_scaling(struct hparams *h, const struct arch *a, const struct gguf *g,
                             struct errmsg *why)
{
    static const char *const names[] = {[SCALING_NONE] = "none",
                                        [SCALING_LINEAR] = "linear",
                                        [SCALING_YARN] = "yarn",
                                        [SCALING_LONGROPE] = "longrope"};
    char full[128];
    struct str type = STR("linear"); /* the format's default: with a factor it is linear */
    snprintf(full, sizeof full, "%s.rope.scaling.type", a->name);
    if (gguf_kv(g, full) && !gguf_get_str(g, full, &type))
        return err_set(why, ERR_INVALID, "%s is no string", full);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(type, names[i])) {
            h->scaling = (enum rope_scaling)i;
            return ERR_OK;
        }
    return err_set(why, ERR_UNSUPPORTED,
                   "%s is '" STR_FMT "'; none, linear, yarn and longrope are known", full,
                   (int)(type.n < 40 ? type.n : 40), type.p);
}

/* Newer files may say which layers see a window: a period, or for each layer whether. */
static enum err read_window_pattern(struct hparams *h, const struct arch *a, const struct gguf *g,
                                    struct errmsg *why)
{
    char full[128];
    snprintf(full, sizeof full, "%s.attention.sliding_window_pattern", a->name);
    const struct gguf_kv *kv = gguf_kv(g, full);
    if (!kv || a->window != WINDOW_PERIOD)
        return ERR_OK;
    uint64_t v = 0, period = 0;
    if (kv->type != GGUF_ARRAY) {
        if (!gguf_elem_u64(kv, 0, &period) || period < 2 || period > LAYERS_MAX)
            return err_set(why, ERR_UNSUPPORTED, "%s is no period of layers", full);
        h->window_period = (uint32_t)period;
        return ERR_OK;
    }
    bool ok = kv->count >= h->n_layer;
    for (uint32_t il = 0; ok && il < h->n_layer; il++) {
        ok = gguf_elem_u64(kv, il, &v);
        if (ok && !v && !period)
            period = il + 1;
        ok = ok && (v != 0) == (!period || (il + 1) % period != 0);
    }
    if (!ok)
        return err_set(why, ERR_UNSUPPORTED,
                       "%s: the layers that see everything don't come at one distance", full);
    h->window_period = period ? (uint32_t)period : h->n_layer + 1;
    return ERR_OK;
}

/* The vocabulary's size is the tokenizer's, where the file has one, else the key's; the embedding
 * is checked against it. */
static enum err read_vocab(struct hparams *h, const struct arch *a, const struct gguf *g,
                           struct errmsg *why)
{
    const struct gguf_kv *tokens = gguf_kv(g, "tokenizer.ggml.tokens");
    char full[128];
    uint64_t n = 0;
    snprintf(full, sizeof full, "%s.vocab_size", a->name);
    if (tokens)
        n = tokens->type == GGUF_ARRAY ? tokens->count : 0;
    else if (!gguf_get_u64(g, full, &n))
        return err_set(why, ERR_INVALID,
                       "%s: neither tokenizer.ggml.tokens nor %s says how many tokens there are",
                       gguf_path(g), full);
    if (n < 1 || n > VOCAB_MAX)
        return err_set(why, ERR_INVALID, "%s: %llu tokens, not within 1 to %d", gguf_path(g),
                       (unsigned long long)n, VOCAB_MAX);
    h->n_vocab = (uint32_t)n;

    const struct gguf_tensor *types = gguf_tensor(g, arch_slots[TYPE_EMBD].name);
    if (types && types->ne[1] >= 1 && types->ne[1] <= 1024)
        h->n_types = (uint32_t)types->ne[1];
    const struct gguf_tensor *labels = gguf_tensor(g, arch_slots[CLS_OUT].name);
    if (labels && labels->ne[1] >= 1 && labels->ne[1] <= WIDTH_MAX)
        h->n_labels = (uint32_t)labels->ne[1];
    return ERR_OK;
}

static enum err complete(struct hparams *h, const struct arch *a, const struct gguf *g,
                         struct errmsg *why)
{
    const char *n = a->name;
    if (a->attn == ATTN_MLA && h->head_k_mla && h->head_v_mla) { /* the plain keys mean the cache */
        h->head_k = h->head_k_mla;
        h->head_v = h->head_v_mla;
        h->n_head_kv = h->n_head;
    }
    if (!h->n_head_kv)
        h->n_head_kv = h->n_head;
    if (h->n_head % h->n_head_kv)
        return err_set(why, ERR_INVALID,
                       "%s.attention.head_count %u is no multiple of head_count_kv %u", n,
                       h->n_head, h->n_head_kv);
    if ((!h->head_k || !h->head_v) && h->n_embd % h->n_head)
        return err_set(why, ERR_INVALID,
                       "%s.embedding_length %u is no multiple of attention.head_count %u", n,
                       h->n_embd, h->n_head);
    if (!h->head_k)
        h->head_k = h->n_embd / h->n_head;
    if (!h->head_v)
        h->head_v = h->n_embd / h->n_head;
    if ((uint64_t)h->n_head * h->head_k > 16 * WIDTH_MAX ||
        (uint64_t)h->n_head * h->head_v > 16 * WIDTH_MAX)
        return err_set(why, ERR_INVALID, "%s: %u heads of %u values are too wide", gguf_path(g),
                       h->n_head, h->head_k);
    if (!h->n_rot)
        h->n_rot = a->attn == ATTN_MLA ? 64 : h->head_k;
    if (a->rope != ROPE_NONE && (h->n_rot % 2 || h->n_rot > h->head_k))
        return err_set(why, ERR_INVALID,
                       "%s.rope.dimension_count %u: must be even and at most a head's %u values", n,
                       h->n_rot, h->head_k);
    if (!h->rope_ctx)
        h->rope_ctx = h->n_ctx_train;
    if (h->scaling == SCALING_NONE)
        h->rope_factor = 1;
    if (h->n_nextn >= h->n_layer)
        return err_set(why, ERR_INVALID, "%s.nextn_predict_layers %u: there are %u layers", n,
                       h->n_nextn, h->n_layer);
    h->n_layer -= h->n_nextn;
    if (h->local_rope_base > 0 && !(a->local_rope_base > 0) && h->local_rope_base != h->rope_base)
        return err_set(why, ERR_UNSUPPORTED,
                       "%s.rope.freq_base_swa: layers with a window turn as the others do here", n);
    if (!(h->local_rope_base > 0))
        h->local_rope_base = a->local_rope_base;
    if (!(a->local_rope_base > 0))
        h->local_rope_base = 0;
    bool finetuned = true;
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.finetuned", n);
    if (a->finetuned_is_rope && gguf_get_bool(g, key, &finetuned))
        h->no_rope = !finetuned;
    if (a->window == WINDOW_PERIOD && !h->window) /* which would be another model */
        return err_set(why, ERR_INVALID, "%s.attention.sliding_window is missing or 0", n);
    h->unit_norms = a->unit_norms && h->n_expert != a->unnormed_experts;
    if (!h->n_ff && (!h->n_expert || h->n_dense || h->moe_step > 1))
        return err_set(why, ERR_INVALID, "%s: the key %s.feed_forward_length is missing",
                       gguf_path(g), n);
    if (a->window == WINDOW_NONE)
        h->window = 0;
    if (!h->causal && !a->encoder)
        return err_set(why, ERR_UNSUPPORTED,
                       "%s.attention.causal is false: such a decoder doesn't run here", n);

    if (h->n_expert) {
        if (h->n_expert_used < 1 || h->n_expert_used > h->n_expert)
            return err_set(why, ERR_INVALID,
                           "%s.expert_used_count %u: not within 1 to the %u experts", n,
                           h->n_expert_used, h->n_expert);
        if (!h->n_expert_shared && !h->n_ff_shared)
            h->n_expert_shared = a->shared_default;
        if (!h->n_ff_exp)
            h->n_ff_exp = h->n_ff;
        if (!h->n_ff_shared)
            h->n_ff_shared = h->n_ff_exp * h->n_expert_shared;
        if (!h->n_ff_exp)
            return err_set(why, ERR_INVALID, "%s: the key %s.expert_feed_forward_length is missing",
                           gguf_path(g), n);
        if (h->n_group > 1 &&
            (h->n_expert % h->n_group || h->n_group_used < 1 || h->n_group_used > h->n_group ||
             h->n_expert / h->n_group * h->n_group_used < h->n_expert_used))
            return err_set(why, ERR_INVALID,
                           "%s: %u experts can't be chosen from %u of %u groups of %u experts",
                           gguf_path(g), h->n_expert_used, h->n_group_used, h->n_group,
                           h->n_expert / h->n_group);
    }
    if (!h->gating)
        h->gating = a->gating ? a->gating : GATE_SOFTMAX;

    if (h->embd_scale == 0) /* multipliers of 0 mean "none" */
        h->embd_scale = 1;
    if (h->residual_scale == 0)
        h->residual_scale = 1;
    if (a->logit_divisor) {
        if (h->logit_scale == 0)
            return err_set(why, ERR_INVALID, "%s.logit_scale is 0, and divides", n);
        h->logit_scale = 1 / h->logit_scale;
    }
    if (a->scale_embd && h->embd_scale == 1)
        h->embd_scale = sqrtf((float)h->n_embd);
    if (h->attn_scale == 0) {
        const uint32_t width = a->wide_scale_layers && h->n_layer == a->wide_scale_layers
                                   ? h->n_embd / h->n_head
                                   : h->head_k;
        h->attn_scale = 1 / sqrtf((float)width);
    }
    if (a->attn == ATTN_MLA) {
        if (!h->kv_lora || h->head_k <= h->n_rot)
            return err_set(
                why, ERR_INVALID,
                "%s: attention.kv_lora_rank is missing, or key_length %u is not above %u",
                gguf_path(g), h->head_k, h->n_rot);
        /* YaRN's magnitude goes into the scale of q.k here, not into the rotated values
         * (DeepSeek-V2, section 3.1.4) */
        if (h->scaling == SCALING_YARN) {
            const float m = h->rope_attn_factor * (1 + h->rope_log_mul * logf(h->rope_factor));
            h->attn_scale *= m * m;
        }
    }
    return ERR_OK;
}

enum err hparams_read(struct hparams *h, const struct arch *a, const struct gguf *g,
                      struct errmsg *why)
{
    *h = (struct hparams){.rope_base = 10000,
                          .rope_factor = 1,
                          .rope_attn_factor = 1,
                          .yarn_beta_fast = 32,
                          .yarn_beta_slow = 1,
                          .yarn_ext = -1,
                          .embd_scale = 1,
                          .residual_scale = 1,
                          .logit_scale = 1,
                          .expert_scale = 1,
                          .eps = -1,
                          .pooling = a->encoder ? 0 : 3,
                          .window = a->window_default,
                          .window_period = (uint32_t)a->window_period,
                          .moe_step = 1,
                          .renorm = a->renorm,
                          .attn_softcap = a->attn_softcap,
                          .logit_softcap = a->logit_softcap,
                          .causal = !a->encoder};
    enum err e = read_keys(h, a, g, why);
    if (!e)
        read_purpose(h, a, g);
    if (!e)
        e = read_scaling(h, a, g, why);
    if (!e)
        e = read_window_pattern(h, a, g, why);
    if (!e)
        e = read_vocab(h, a, g, why);
    if (!e)
        e = complete(h, a, g, why);
    if (!e && h->eps < 0)
        e = err_set(why, ERR_INVALID, "%s: the key %s.attention.layer_norm_%sepsilon is missing",
                    gguf_path(g), a->name, a->norm == NORM_RMS ? "rms_" : "");
    return e;
}

uint64_t hparams_dim(const struct hparams *h, const struct arch *a, enum dim d)
{
    const uint64_t q = (uint64_t)h->n_head * h->head_k, k = (uint64_t)h->n_head_kv * h->head_k,
                   v = (uint64_t)h->n_head_kv * h->head_v;
    const uint64_t size[D_COUNT_] = {
        [D_ONE] = 1,
        [D_SINGLE] = 1,
        [D_EMBD] = h->n_embd,
        [D_VOCAB] = h->n_vocab,
        [D_CTX] = h->n_ctx_train,
        [D_TYPES] = h->n_types,
        [D_Q] = q,
        [D_K] = k,
        [D_V] = v,
        [D_QKV] = q + k + v,
        [D_O] = (uint64_t)h->n_head * h->head_v,
        [D_HEAD_K] = h->head_k,
        [D_HEADS] = h->n_head,
        [D_ROT_HALF] = h->n_rot / 2,
        [D_FF] = h->n_ff,
        [D_FF_UP] = a->ffn == FFN_FUSED ? 2 * (uint64_t)h->n_ff : h->n_ff,
        [D_EXPERTS] = h->n_expert,
        [D_FF_EXP] = h->n_ff_exp,
        [D_FF_SHARED] = h->n_ff_shared,
        [D_Q_LORA] = h->q_lora,
        [D_KV_LORA] = h->kv_lora,
        [D_KV_A] = (uint64_t)h->kv_lora + h->n_rot,
        [D_KV_B] = (uint64_t)h->n_head * (h->head_k - h->n_rot + h->head_v),
        [D_NOPE] = h->head_k - h->n_rot,
        [D_HEAD_V] = h->head_v,
        [D_LABELS] = h->n_labels,
    };
    return size[d];
}

/* Peng et al. 2023, "YaRN", section 3.2: dimensions that turn often keep their frequency, those
 * that turn less than once in the trained context are interpolated, those between are mixed by a
 * ramp. */
void rope_frequencies(const struct hparams *h, const struct arch *a, const float *factors,
                      bool local, double *inv_freq, float *mscale)
{
    const int n = (int)h->n_rot;
    const bool plain = local && h->local_rope_base > 0;
    const double base = plain ? (double)h->local_rope_base : (double)h->rope_base;
    const bool yarn = !plain && h->scaling == SCALING_YARN;
    const double factor = plain || h->scaling == SCALING_LONGROPE ? 1 : (double)h->rope_factor;
    const double ext = yarn ? (h->yarn_ext >= 0 ? (double)h->yarn_ext : 1) : 0;
    /* the dimension that makes `beta` turns within the original context */
    double low = n * log(h->rope_ctx / (h->yarn_beta_fast * 2 * M_PI)) / (2 * log(base));
    double high = n * log(h->rope_ctx / (h->yarn_beta_slow * 2 * M_PI)) / (2 * log(base));
    low = fmax(0, floor(low));
    high = fmin(n - 1, ceil(high));
    for (int i = 0; i < n / 2; i++) {
        const double turn = pow(base, -2.0 * i / n) / (factors ? (double)factors[i] : 1);
        const double y = (i - low) / fmax(0.001, high - low);
        const double keep = (1 - fmin(1, fmax(0, y))) * ext;
        inv_freq[i] = turn / factor * (1 - keep) + turn * keep;
    }
    *mscale = plain ? 1 : h->rope_attn_factor;
    if (ext != 0)
        *mscale *= (float)(1 + 0.1 * log(factor));
    if (a->attn == ATTN_MLA) /* it stands in attn_scale */
        *mscale = 1;
}
