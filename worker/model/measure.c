/* measure.c - see measure.h. */
#include "worker/model/measure.h"

#include "shared/base/checked.h"

#include <stdio.h>

/* general.file_type, as the format numbers the mixes. */
static const char *const mixes[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",    [3] = "Q4_1",    [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",   [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL", [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS", [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4",
};

void model_mix_name(char out[32], const struct gguf *g)
{
    uint32_t ft;
    if (gguf_get_u32(g, "general.file_type", &ft) && ft < sizeof mixes / sizeof *mixes &&
        mixes[ft]) {
        snprintf(out, 32, "%s", mixes[ft]);
        return;
    }
    uint64_t bytes[QTYPE_COUNT_] = {0};
    int most = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        bytes[t->type] += t->bytes;
        if (bytes[t->type] > bytes[most])
            most = (int)t->type;
    }
    snprintf(out, 32, "%s", qtype_info((uint32_t)most)->name);
}

/* Blocks that `n` positions in a row can touch, wherever they begin. */
static uint64_t blocks_touched(uint64_t n)
{
    return n == 0 ? 0 : (n - 1 + KV_TOKENS - 1) / KV_TOKENS + 1;
}

enum err model_kv_need(struct kv_need *out, const struct hparams *h, const struct arch *a,
                       const struct backend_ops *ops, const struct kv_ask *ask, struct errmsg *why)
{
    const bool mla = a->attn == ATTN_MLA; /* one latent head for all; see forward.c */
    const uint32_t context = ask->context ? ask->context : h->n_ctx_train;
    const uint32_t step = ask->step_tokens ? ask->step_tokens : KV_STEP_DEFAULT;
    const uint64_t slots = ask->slots ? ask->slots : 1;
    const int n_layer = a->encoder ? 1 : (int)h->n_layer; /* an encoder's cache lives for a layer */
    struct kv_need n = {
        .shape = {.n_head_kv = mla ? 1 : (int)h->n_head_kv,
                  .head_k = mla ? (int)(h->kv_lora + h->n_rot) : (int)h->head_k,
                  .head_v = mla ? (int)h->kv_lora : (int)h->head_v,
                  .v_in_k = mla,
                  .type = a->encoder ? QTYPE_F32 : ask->type},
        .seq_blocks = (uint32_t)(((uint64_t)context + KV_TOKENS - 1) / KV_TOKENS),
    };
    int windowed = 0;
    for (uint32_t il = 0; !a->encoder && il < h->n_layer; il++)
        windowed += layer_window(h, a, il) > 0;
    /* A border of a block and not the last token: what a finished block's reader sees is kept. */
    const uint64_t ring = blocks_touched((uint64_t)h->window + step + KV_TOKENS);
    if (windowed && ring < n.seq_blocks) {
        n.ring_blocks = (uint32_t)ring;
        n.window = h->window;
        n.chunked = a->chunked;
    } else {
        windowed = 0;
    }
    n.shape.n_layer[KV_WHOLE] = n_layer - windowed;
    n.shape.n_layer[KV_WINDOW] = windowed;
    /* An encoder's K and V live for one step: its tokens, and each input begins a block. */
    const uint64_t wide = step < context ? context : step, most = context * slots;
    const uint64_t every =
        !a->encoder ? n.seq_blocks * slots : blocks_touched(wide < most ? wide : most) + slots;
    const uint64_t whole = ask->blocks ? ask->blocks : every,
                   rings = n.ring_blocks * (ask->rings ? (uint64_t)ask->rings : slots + 1);
    uint64_t bytes[KV_KINDS];
    for (int k = 0; k < KV_KINDS; k++)
        n.block_bytes[k] = ops->kv_block_bytes(&n.shape, (enum kv_kind)k);
    if (whole > UINT32_MAX / KV_TOKENS || rings > UINT32_MAX / KV_TOKENS ||
        !mul_u64(&bytes[KV_WHOLE], n.block_bytes[KV_WHOLE], whole) ||
        !mul_u64(&bytes[KV_WINDOW], n.block_bytes[KV_WINDOW], rings) ||
        !add_u64(&n.bytes, bytes[KV_WHOLE], bytes[KV_WINDOW]))
        return err_set(why, ERR_RANGE,
                       "%llu slots of %u tokens: the KV cache is larger than any memory",
                       (unsigned long long)slots, context);
    n.shape.n_blocks[KV_WHOLE] = (uint32_t)whole;
    n.shape.n_blocks[KV_WINDOW] = (uint32_t)rings;
    n.token_bytes = n.block_bytes[KV_WHOLE] / KV_TOKENS;
    n.slot_bytes =
        n.block_bytes[KV_WHOLE] * n.seq_blocks + n.block_bytes[KV_WINDOW] * n.ring_blocks;
    *out = n;
    return ERR_OK;
}

enum err model_kv_fit(struct kv_need *out, const struct hparams *h, const struct arch *a,
                      const struct backend_ops *ops, const struct kv_ask *ask, uint64_t budget,
                      struct errmsg *why)
{
    const enum err e = model_kv_need(out, h, a, ops, ask, why);
    if (e || out->bytes <= budget)
        return e;
    struct kv_ask less = *ask;
    const uint64_t ring = out->block_bytes[KV_WINDOW] * out->ring_blocks,
                   block = out->block_bytes[KV_WHOLE];
    uint64_t rings = 0, blocks = out->shape.n_blocks[KV_WHOLE];
    if (ring) {
        const uint64_t all = out->shape.n_blocks[KV_WINDOW] / out->ring_blocks;
        rings = block ? budget / 4 / ring : budget / ring;
        rings = rings < 1 ? 1 : rings < all ? rings : all;
    }
    const uint64_t left = budget > rings * ring ? budget - rings * ring : 0;
    if (block && blocks > left / block)
        blocks = left / block;
    if (left == 0 || blocks < out->seq_blocks)
        return err_set(
            why, ERR_NOMEM,
            "the KV cache has room for %llu tokens, less than one context of %u: lower the context",
            (unsigned long long)(left ? blocks * KV_TOKENS : 0),
            ask->context ? ask->context : h->n_ctx_train);
    less.blocks = (uint32_t)blocks;
    less.rings = (uint32_t)rings;
    return model_kv_need(out, h, a, ops, &less, why);
}
