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
#define QKV_NORMS        {ATTN_Q_NORM, MUST}, {ATTN_K_NORM, MUST}
#define FFN_EXPERTS      {MOE_ROUTER, MOE}, {MOE_GATE, MOE}, {MOE_UP, MOE}, {MOE_DOWN, MOE}
#define SHARED_EXPERTS   {SHARED_GATE, SHARED}, {SHARED_UP, SHARED}, {SHARED_DOWN, SHARED}
#define END              {0, NEED_END_}

static const struct tensor_need llama_tensors[] = {
    EMBEDDINGS, ATTENTION, ATTENTION_BIASES, FFN_GATED_ROWS, FFN_BIASES, FFN_EXPERTS, END
};

static const struct tensor_need qwen2_tensors[] = {
    EMBEDDINGS, ATTENTION, {ATTN_Q_BIAS, MUST}, {ATTN_K_BIAS, MUST}, {ATTN_V_BIAS, MUST},
    FFN_GATED_ROWS, END
};

static const struct tensor_need qwen2moe_tensors[] = {
    EMBEDDINGS, ATTENTION, {ATTN_Q_BIAS, MUST}, {ATTN_K_BIAS, MUST}, {ATTN_V_BIAS, MUST},
    FFN_GATED_ROWS, FFN_EXPERTS,
    {SHARED_ROUTER, MOE}, {SHARED_GATE, MOE}, {SHARED_UP, MOE}, {SHARED_DOWN, MOE}, END
};

static const struct tensor_need qwen3_tensors[] = {
    EMBEDDINGS, ATTENTION, QKV_NORMS, FFN_GATED_ROWS, FFN_EXPERTS, END
};

static const struct tensor_need gemma_tensors[] = {
    EMBEDDINGS, ATTENTION, FFN_GATED_ROWS, END
};

static const struct tensor_need gemma2_tensors[] = {
    EMBEDDINGS, ATTENTION, {ATTN_POST, MUST}, FFN_GATED_ROWS, {FFN_POST, MUST}, END
};

static const struct tensor_need gemma3_tensors[] = {
    EMBEDDINGS, ATTENTION, QKV_NORMS, {ATTN_POST, MUST}, FFN_GATED_ROWS, {FFN_POST, MUST}, END
};

static const struct tensor_need phi2_tensors[] = {
    {TOKEN_EMBD, MUST}, {OUT_NORM, MUST}, {OUT_NORM_B, MUST}, {OUTPUT, MUST}, {OUTPUT_B, MUST},
    {ATTN_NORM, MUST}, {ATTN_NORM_B, MUST}, {ATTN_QKV, MUST}, {ATTN_QKV_BIAS, MUST},
    {ATTN_OUT, MUST}, {ATTN_OUT_BIAS, MUST},
    {FFN_UP, MUST}, {FFN_UP_BIAS, MUST}, {FFN_DOWN, MUST}, {FFN_DOWN_BIAS, MUST}, END
};

static const struct tensor_need phi3_tensors[] = {
    EMBEDDINGS, {ROPE_LONG, MAY}, {ROPE_SHORT, MAY},
    {ATTN_NORM, MUST}, {ATTN_QKV, MUST}, {ATTN_OUT, MUST},
    {FFN_NORM, MUST}, {FFN_UP, MUST}, {FFN_DOWN, MUST}, END
};

static const struct tensor_need starcoder2_tensors[] = {
    EMBEDDINGS, {OUT_NORM_B, MUST}, ATTENTION, {ATTN_NORM_B, MUST}, ATTENTION_BIASES,
    {FFN_NORM, MUST}, {FFN_NORM_B, MUST}, {FFN_UP, MUST}, {FFN_UP_BIAS, MUST},
    {FFN_DOWN, MUST}, {FFN_DOWN_BIAS, MUST}, END
};

static const struct tensor_need command_r_tensors[] = {
    EMBEDDINGS, ATTENTION, {FFN_GATE, MUST}, {FFN_UP, MUST}, {FFN_DOWN, MUST}, END
};

static const struct tensor_need cohere2_tensors[] = {
    {TOKEN_EMBD, MUST}, {OUT_NORM, MUST}, ATTENTION, {FFN_GATE, MUST}, {FFN_UP, MUST}, {FFN_DOWN, MUST}, END
};

static const struct tensor_need deepseek2_tensors[] = {
    EMBEDDINGS, {ATTN_NORM, MUST}, {ATTN_Q, NO_Q_LORA},
    {MLA_Q_A, WITH_Q_LORA}, {MLA_Q_A_NORM, WITH_Q_LORA}, {MLA_Q_B, WITH_Q_LORA},
    {MLA_KV_A, MUST}, {MLA_KV_A_NORM, MUST}, {MLA_KV_B, MAY}, {MLA_K_B, MAY}, {MLA_V_B, MAY}, {ATTN_OUT, MUST},
    FFN_GATED_ROWS, FFN_EXPERTS, {MOE_BIAS, MAY_MOE}, SHARED_EXPERTS, END
};

static const struct tensor_need gpt_oss_tensors[] = {
    {TOKEN_EMBD, MUST}, {OUT_NORM, MUST}, {OUTPUT, MUST},
    ATTENTION, {ATTN_SINKS, MUST}, {ATTN_POST, MUST},
    {ATTN_Q_BIAS, MUST}, {ATTN_K_BIAS, MUST}, {ATTN_V_BIAS, MUST}, {ATTN_OUT_BIAS, MUST},
    FFN_EXPERTS, {MOE_ROUTER_B, MUST}, {MOE_GATE_B, MUST}, {MOE_UP_B, MUST}, {MOE_DOWN_B, MUST}, END
};

static const struct tensor_need llama4_tensors[] = {
    EMBEDDINGS, ATTENTION, FFN_GATED_ROWS, FFN_EXPERTS, SHARED_EXPERTS, END
};

static const struct tensor_need glm4_tensors[] = {
    EMBEDDINGS, ATTENTION, {ATTN_Q_BIAS, MAY}, {ATTN_K_BIAS, MAY}, {ATTN_V_BIAS, MAY}, {ATTN_POST, MUST},
    {FFN_NORM, MUST}, {FFN_UP, MUST}, {FFN_DOWN, MUST}, {FFN_POST, MUST}, END
};

static const struct tensor_need glm4moe_tensors[] = {
    EMBEDDINGS, ATTENTION, {ATTN_Q_BIAS, MAY}, {ATTN_K_BIAS, MAY}, {ATTN_V_BIAS, MAY},
    {ATTN_Q_NORM, MAY}, {ATTN_K_NORM, MAY}, {ATTN_POST, MUST},
    {FFN_GATE, DENSE}, {FFN_UP, DENSE}, {FFN_DOWN, DENSE}, FFN_EXPERTS, {MOE_BIAS, MOE}, SHARED_EXPERTS, END
};

static const struct tensor_need granite_tensors[] = {
    EMBEDDINGS, ATTENTION, ATTENTION_BIASES, FFN_GATED_ROWS, FFN_BIASES, FFN_EXPERTS, SHARED_EXPERTS, END
};

#define ENCODER_EMBEDDINGS {TOKEN_EMBD, MUST}, {TYPE_EMBD, MAY}, {EMBD_NORM, MUST}, {EMBD_NORM_B, MUST}
#define ENCODER_NORMS      {ATTN_RES_NORM, MUST}, {ATTN_RES_NORM_B, MUST}, {FFN_RES_NORM, MUST}, {FFN_RES_NORM_B, MUST}

static const struct tensor_need bert_tensors[] = {
    ENCODER_EMBEDDINGS, {POS_EMBD, MUST}, ENCODER_NORMS,
    {ATTN_Q, MUST}, {ATTN_K, MUST}, {ATTN_V, MUST}, {ATTN_OUT, MUST}, ATTENTION_BIASES,
    {FFN_UP, MUST}, {FFN_UP_BIAS, MAY}, {FFN_DOWN, MUST}, {FFN_DOWN_BIAS, MAY},
    {CLS, MAY}, {CLS_B, MAY}, {CLS_OUT, MAY}, {CLS_OUT_B, MAY}, END
};

static const struct tensor_need nomic_bert_tensors[] = {
    ENCODER_EMBEDDINGS, ENCODER_NORMS,
    {ATTN_QKV, MUST}, {ATTN_QKV_BIAS, MAY}, {ATTN_OUT, MUST}, {ATTN_OUT_BIAS, MAY},
    {FFN_GATE, MUST}, {FFN_UP, MUST}, {FFN_DOWN, MUST}, FFN_BIASES, END
};

static const struct arch rows[] = {
    {
        .name = "llama",
        .families = "Llama 1-3.x, Mistral, Mixtral, TinyLlama, CodeLlama, DeepSeek-Coder, R1 distills",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .renorm = true, .may_tie = true,
        .tensors = llama_tensors,
    },
    {
        .name = "qwen2",
        .families = "Qwen 1.5, Qwen 2, Qwen 2.5, R1 distills",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .tensors = qwen2_tensors,
    },
    {
        .name = "qwen2moe",
        .families = "Qwen 1.5 MoE, Qwen 2 57B-A14B",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .tensors = qwen2moe_tensors,
    },
    {
        .name = "qwen3",
        .families = "Qwen 3, R1-0528 distill",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .tensors = qwen3_tensors,
    },
    {
        .name = "qwen3moe",
        .families = "Qwen 3 30B-A3B, 235B-A22B",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .renorm = true, .may_tie = true,
        .tensors = qwen3_tensors,
    },
    {
        .name = "gemma",
        .families = "Gemma, CodeGemma",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_GELU, .scale_embd = true, .may_tie = true,
        .tensors = gemma_tensors,
    },
    {
        .name = "gemma2",
        .families = "Gemma 2",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_GELU, .scale_embd = true, .may_tie = true,
        .wide_scale_layers = 46, .attn_softcap = 50, .logit_softcap = 30,
        .window = WINDOW_PERIOD, .window_period = 2, .window_default = 4096,
        .tensors = gemma2_tensors,
    },
    {
        .name = "gemma3",
        .families = "Gemma 3 (text)",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_GELU, .scale_embd = true, .may_tie = true,
        .wide_scale_layers = 62, .window = WINDOW_PERIOD, .window_period = 6,
        .local_rope_base = 10000,
        .tensors = gemma3_tensors,
    },
    {
        .name = "phi2",
        .families = "Phi-1, Phi-1.5, Phi-2",
        .norm = NORM_LAYER, .block = BLOCK_PARALLEL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_PLAIN, .act = ACT_GELU,
        .tensors = phi2_tensors,
    },
    {
        .name = "phi3",
        .families = "Phi-3, Phi-4",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_FUSED, .act = ACT_SILU, .window = WINDOW_ALL, .may_tie = true,
        .tensors = phi3_tensors,
    },
    {
        .name = "starcoder2",
        .families = "StarCoder2",
        .norm = NORM_LAYER, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_PLAIN, .act = ACT_GELU, .may_tie = true,
        .tensors = starcoder2_tensors,
    },
    {
        .name = "command-r",
        .families = "Command-R",
        .norm = NORM_LAYER, .block = BLOCK_PARALLEL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .tensors = command_r_tensors,
    },
    {
        .name = "cohere2",
        .families = "Command-R7B, Command-A",
        .norm = NORM_LAYER, .block = BLOCK_PARALLEL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .window = WINDOW_PERIOD, .window_period = 4, .rope_local_only = true,
        .tensors = cohere2_tensors,
    },
    {
        .name = "deepseek2",
        .families = "DeepSeek-V2, V2-Lite, Coder-V2, V3, R1",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_MLA,
        .ffn = FFN_GATED, .act = ACT_SILU,
        .tensors = deepseek2_tensors,
    },
    {
        .name = "gpt-oss",
        .families = "gpt-oss 20B, 120B",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SWIGLU_OAI, .gating = GATE_SOFTMAX_CHOSEN,
        .norm_after_is_before = true, .window = WINDOW_PERIOD, .window_period = 2,
        .tensors = gpt_oss_tensors,
    },
    {
        .name = "llama4",
        .families = "Llama 4 Scout, Maverick (text)",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .gating = GATE_SIGMOID, .shared_default = 1, .weigh_input = true,
        .window = WINDOW_PERIOD, .window_period = 4, .window_default = 8192, .chunked = true,
        .rope_local_only = true, .warm_floor = 8192, .warm_scale = 0.1F,
        .unit_norms = true, .unnormed_experts = 128,
        .tensors = llama4_tensors,
    },
    {
        .name = "glm4",
        .families = "GLM-4-0414, GLM-Z1",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_FUSED, .act = ACT_SILU, .may_tie = true,
        .tensors = glm4_tensors,
    },
    {
        .name = "glm4moe",
        .families = "GLM-4.5, GLM-4.5-Air, GLM-4.6",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .gating = GATE_SIGMOID, .norm_after_is_before = true,
        .tensors = glm4moe_tensors,
    },
    {
        .name = "granite",
        .families = "Granite 3.x dense",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .logit_divisor = true, .finetuned_is_rope = true, .renorm = true,
        .tensors = granite_tensors,
    },
    {
        .name = "granitemoe",
        .families = "Granite 3.x MoE",
        .norm = NORM_RMS, .block = BLOCK_SERIAL, .rope = ROPE_NORM, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .may_tie = true,
        .logit_divisor = true, .finetuned_is_rope = true, .renorm = true,
        .tensors = granite_tensors,
    },
    {
        .name = "bert",
        .families = "mxbai-embed, all-minilm, snowflake-arctic-embed, bge, bge-m3 (XLM-R)",
        .norm = NORM_LAYER, .block = BLOCK_POST_NORM, .rope = ROPE_NONE, .attn = ATTN_GQA,
        .ffn = FFN_PLAIN, .act = ACT_GELU, .encoder = true,
        .tensors = bert_tensors,
    },
    {
        .name = "nomic-bert",
        .families = "nomic-embed-text",
        .norm = NORM_LAYER, .block = BLOCK_POST_NORM, .rope = ROPE_NEOX, .attn = ATTN_GQA,
        .ffn = FFN_GATED, .act = ACT_SILU, .encoder = true,
        .tensors = nomic_bert_tensors,
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
