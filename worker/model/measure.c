/* measure.c - see measure.h. */
#include "worker/model/measure.h"

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

struct kv_pool_shape model_kv_shape(const struct hparams *h, const struct arch *a, enum qtype type)
{
    const bool mla = a->attn == ATTN_MLA; /* one latent head for all; see forward.c */
    return (struct kv_pool_shape){.n_layer = a->encoder ? 1 : (int)h->n_layer,
                                  .n_head_kv = mla ? 1 : (int)h->n_head_kv,
                                  .head_k = mla ? (int)(h->kv_lora + h->n_rot) : (int)h->head_k,
                                  .head_v = mla ? (int)h->kv_lora : (int)h->head_v,
                                  .v_in_k = mla,
                                  .type = type};
}
