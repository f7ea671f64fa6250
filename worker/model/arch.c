/* arch.c - the rows. */
#include "worker/model/arch.h"

const struct slot_info arch_slots[SLOTS_] = {
#define X(slot, name, in, out, mat) [slot] = {name, in, out, mat},
    MODEL_TENSORS(X) LAYER_TENSORS(X)
#undef X
};

// clang-format off
/* What most decoders share. */
#define EMBEDDINGS       {TOKEN_EMBD, MUST}, {OUT_NORM, MUST}, {OUTPUT, MAY}, {ROPE_FREQS, MAY}
#define ATTENTION        {ATTN_NORM, MUST}, {ATTN_Q, MUST}, {ATTN_K, MUST}, {ATTN_V, MUST}, {ATTN_OUT, MUST}
#define ATTENTION_BIASES {ATTN_Q_BIAS, MAY}, {ATTN_K_BIAS, MAY}, {ATTN_V_BIAS, MAY}, {ATTN_OUT_BIAS, MAY}
#define FFN_GATED_ROWS   {FFN_NORM, MUST}, {FFN_GATE, DENSE}, {FFN_UP, DENSE}, {FFN_DOWN, DENSE}
#define FFN_BIASES       {FFN_GATE_BIAS, MAY}, {FFN_UP_BIAS, MAY}, {FFN_DOWN_BIAS, MAY}
#define END              {0, NEED_END_}

static const struct tensor_need llama_tensors[] = {
    EMBEDDINGS, ATTENTION, ATTENTION_BIASES, FFN_GATED_ROWS, FFN_BIASES, END
};

static const struct tensor_need qwen2_tensors[] = {
    EMBEDDINGS, ATTENTION, {ATTN_Q_BIAS, MUST}, {ATTN_K_BIAS, MUST}, {ATTN_V_BIAS, MUST},
    FFN_GATED_ROWS, END
};

static const struct arch rows[] = {
    {
        .name = "llama",
        .families = "Llama 1-3.x, Mistral, TinyLlama, CodeLlama, DeepSeek-Coder, DeepSeek-R1 distills (Llama)",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .tensors = llama_tensors,
    },
    {
        .name = "qwen2",
        .families = "Qwen 1.5, Qwen 2, Qwen 2.5, DeepSeek-R1 distills (Qwen)",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .tensors = qwen2_tensors,
    },
};
// clang-format on

enum { ROWS = sizeof rows / sizeof *rows };

const struct arch *arch_at(int i)
{
    return i >= 0 && i < ROWS ? &rows[i] : NULL;
}

const struct arch *arch_find(struct str name)
{
    for (int i = 0; i < ROWS; i++)
        if (str_is(name, rows[i].name))
            return &rows[i];
    return NULL;
}
