/* shapes.c - see shapes.h. Numbers as published in the models' config.json. */
#include "worker/plan/shapes.h"

#include "worker/synth/mix.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// clang-format off
#define PLAIN .experts = 0
static const struct shape shapes[] = {
    /* name, family, parameters, usual, arch, layers, width, feed-forward, heads, KV heads, head, vocabulary, context, tied */
    {"llama3.2:1b", "Llama 3.2 1B", 1.24e9, true, "llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, true, PLAIN},
    {"llama3.2:3b", "Llama 3.2 3B", 3.21e9, true, "llama", 28, 3072, 8192, 24, 8, 128, 128256, 131072, true, PLAIN},
    {"llama3.1:8b", "Llama 3.1 8B", 8.03e9, true, "llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, false, PLAIN},
    {"llama3.1:70b", "Llama 3.1 70B", 70.55e9, true, "llama", 80, 8192, 28672, 64, 8, 128, 128256, 131072, false, PLAIN},
    {"llama3.1:405b", "Llama 3.1 405B", 405.85e9, true, "llama", 126, 16384, 53248, 128, 8, 128, 128256, 131072, false, PLAIN},
    {"llama3:8b", "Llama 3 8B", 8.03e9, false, "llama", 32, 4096, 14336, 32, 8, 128, 128256, 8192, false, PLAIN},
    {"llama3:70b", "Llama 3 70B", 70.55e9, false, "llama", 80, 8192, 28672, 64, 8, 128, 128256, 8192, false, PLAIN},
    {"llama2:7b", "Llama 2 7B", 6.74e9, false, "llama", 32, 4096, 11008, 32, 32, 128, 32000, 4096, false, PLAIN},
    {"llama2:13b", "Llama 2 13B", 13.02e9, true, "llama", 40, 5120, 13824, 40, 40, 128, 32000, 4096, false, PLAIN},
    {"llama2:70b", "Llama 2 70B", 68.98e9, false, "llama", 80, 8192, 28672, 64, 8, 128, 32000, 4096, false, PLAIN},
    {"codellama:7b", "CodeLlama 7B", 6.74e9, false, "llama", 32, 4096, 11008, 32, 32, 128, 32016, 16384, false, PLAIN},
    {"codellama:13b", "CodeLlama 13B", 13.02e9, false, "llama", 40, 5120, 13824, 40, 40, 128, 32016, 16384, false, PLAIN},
    {"codellama:34b", "CodeLlama 34B", 33.74e9, true, "llama", 48, 8192, 22016, 64, 8, 128, 32000, 16384, false, PLAIN},
    {"codellama:70b", "CodeLlama 70B", 68.98e9, false, "llama", 80, 8192, 28672, 64, 8, 128, 32016, 16384, false, PLAIN},
    {"tinyllama:1.1b", "TinyLlama 1.1B", 1.1e9, false, "llama", 22, 2048, 5632, 32, 4, 64, 32000, 2048, false, PLAIN},
    {"deepseek-coder:1.3b", "DeepSeek-Coder 1.3B", 1.35e9, false, "llama", 24, 2048, 5504, 16, 16, 128, 32256, 16384, false, PLAIN},
    {"deepseek-coder:6.7b", "DeepSeek-Coder 6.7B", 6.74e9, false, "llama", 32, 4096, 11008, 32, 32, 128, 32256, 16384, false, PLAIN},
    {"deepseek-coder:33b", "DeepSeek-Coder 33B", 33.34e9, false, "llama", 62, 7168, 19200, 56, 8, 128, 32256, 16384, false, PLAIN},
    {"mistral:7b", "Mistral 7B", 7.25e9, false, "llama", 32, 4096, 14336, 32, 8, 128, 32768, 32768, false, PLAIN},
    {"mistral-nemo:12b", "Mistral-Nemo 12B", 12.25e9, true, "llama", 40, 5120, 14336, 32, 8, 128, 131072, 131072, false, PLAIN},
    {"mistral-small:24b", "Mistral-Small 24B", 23.57e9, true, "llama", 40, 5120, 32768, 32, 8, 128, 131072, 32768, false, PLAIN},
    {"mistral-large:123b", "Mistral-Large 123B", 122.6e9, true, "llama", 88, 12288, 28672, 96, 8, 128, 32768, 131072, false, PLAIN},
    {"mixtral:8x7b", "Mixtral 8x7B", 46.7e9, false, "llama", 32, 4096, 14336, 32, 8, 128, 32000, 32768, false, .experts = 8, .experts_used = 2},
    {"mixtral:8x22b", "Mixtral 8x22B", 140.6e9, false, "llama", 56, 6144, 16384, 48, 8, 128, 32768, 65536, false, .experts = 8, .experts_used = 2},
    {"qwen2.5:0.5b", "Qwen2.5 0.5B", 0.494e9, true, "qwen2", 24, 896, 4864, 14, 2, 64, 151936, 32768, true, PLAIN},
    {"qwen2.5:1.5b", "Qwen2.5 1.5B", 1.54e9, true, "qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 32768, true, PLAIN},
    {"qwen2.5:3b", "Qwen2.5 3B", 3.09e9, false, "qwen2", 36, 2048, 11008, 16, 2, 128, 151936, 32768, true, PLAIN},
    {"qwen2.5:7b", "Qwen2.5 7B", 7.62e9, true, "qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 131072, false, PLAIN},
    {"qwen2.5:14b", "Qwen2.5 14B", 14.77e9, true, "qwen2", 48, 5120, 13824, 40, 8, 128, 152064, 131072, false, PLAIN},
    {"qwen2.5:32b", "Qwen2.5 32B", 32.76e9, true, "qwen2", 64, 5120, 27648, 40, 8, 128, 152064, 131072, false, PLAIN},
    {"qwen2.5:72b", "Qwen2.5 72B", 72.71e9, true, "qwen2", 80, 8192, 29568, 64, 8, 128, 152064, 131072, false, PLAIN},
    {"qwen:110b", "Qwen1.5 110B", 111.2e9, true, "qwen2", 80, 8192, 49152, 64, 8, 128, 152064, 32768, false, PLAIN},
    {"qwen3:0.6b", "Qwen3 0.6B", 0.596e9, true, "qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960, true, PLAIN},
    {"qwen3:1.7b", "Qwen3 1.7B", 1.72e9, false, "qwen3", 28, 2048, 6144, 16, 8, 128, 151936, 40960, true, PLAIN},
    {"qwen3:4b", "Qwen3 4B", 4.02e9, true, "qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 40960, true, PLAIN},
    {"qwen3:8b", "Qwen3 8B", 8.19e9, false, "qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 40960, false, PLAIN},
    {"qwen3:14b", "Qwen3 14B", 14.77e9, false, "qwen3", 40, 5120, 17408, 40, 8, 128, 151936, 40960, false, PLAIN},
    {"qwen3:32b", "Qwen3 32B", 32.76e9, false, "qwen3", 64, 5120, 25600, 64, 8, 128, 151936, 40960, false, PLAIN},
    {"qwen3:30b-a3b", "Qwen3 30B-A3B", 30.53e9, false, "qwen3moe", 48, 2048, 6144, 32, 4, 128, 151936, 40960, false, .experts = 128, .experts_used = 8, .expert_ff = 768},
    {"qwen3:235b-a22b", "Qwen3 235B-A22B", 235.1e9, false, "qwen3moe", 94, 4096, 12288, 64, 4, 128, 151936, 40960, false, .experts = 128, .experts_used = 8, .expert_ff = 1536},
    {"deepseek-r1:671b", "DeepSeek-R1 671B", 671.03e9, true, "deepseek2", 61, 7168, 18432, 128, 128, 192, 129280, 163840, false, .experts = 256, .experts_used = 8, .expert_ff = 2048, .shared_experts = 1, .dense_layers = 3, .q_lora = 1536, .kv_lora = 512, .value_dim = 128, .rot = 64},
    {"deepseek-coder-v2:16b", "DeepSeek-Coder-V2 Lite 16B", 15.7e9, false, "deepseek2", 27, 2048, 10944, 16, 16, 192, 102400, 163840, false, .experts = 64, .experts_used = 6, .expert_ff = 1408, .shared_experts = 2, .dense_layers = 1, .kv_lora = 512, .value_dim = 128, .rot = 64},
    {"deepseek-coder-v2:236b", "DeepSeek-Coder-V2 236B", 235.7e9, false, "deepseek2", 60, 5120, 12288, 128, 128, 192, 102400, 163840, false, .experts = 160, .experts_used = 6, .expert_ff = 1536, .shared_experts = 2, .dense_layers = 1, .q_lora = 1536, .kv_lora = 512, .value_dim = 128, .rot = 64},
    {"gemma:2b", "Gemma 2B", 2.51e9, false, "gemma", 18, 2048, 16384, 8, 1, 256, 256000, 8192, true, PLAIN},
    {"gemma:7b", "Gemma 7B", 8.54e9, false, "gemma", 28, 3072, 24576, 16, 16, 256, 256000, 8192, true, PLAIN},
    {"gemma2:2b", "Gemma 2 2B", 2.61e9, true, "gemma2", 26, 2304, 9216, 8, 4, 256, 256000, 8192, true, .window = 4096},
    {"gemma2:9b", "Gemma 2 9B", 9.24e9, true, "gemma2", 42, 3584, 14336, 16, 8, 256, 256000, 8192, true, .window = 4096},
    {"gemma2:27b", "Gemma 2 27B", 27.2e9, true, "gemma2", 46, 4608, 36864, 32, 16, 128, 256000, 8192, true, .window = 4096},
    {"gemma3:1b", "Gemma 3 1B", 1e9, false, "gemma3", 26, 1152, 6912, 4, 1, 256, 262144, 32768, true, .window = 512},
    {"gemma3:4b", "Gemma 3 4B (text)", 3.88e9, false, "gemma3", 34, 2560, 10240, 8, 4, 256, 262144, 131072, true, .window = 1024},
    {"gemma3:12b", "Gemma 3 12B (text)", 11.77e9, false, "gemma3", 48, 3840, 15360, 16, 8, 256, 262144, 131072, true, .window = 1024},
    {"gemma3:27b", "Gemma 3 27B (text)", 27.01e9, false, "gemma3", 62, 5376, 21504, 32, 16, 128, 262144, 131072, true, .window = 1024},
    {"phi:2.7b", "Phi-2 2.7B", 2.78e9, false, "phi2", 32, 2560, 10240, 32, 32, 80, 51200, 2048, false, .rot = 32},
    {"phi3:3.8b", "Phi-3 mini 3.8B", 3.82e9, true, "phi3", 32, 3072, 8192, 32, 32, 96, 32064, 131072, false, PLAIN},
    {"phi3:14b", "Phi-3 medium 14B", 13.96e9, false, "phi3", 40, 5120, 17920, 40, 10, 128, 32064, 131072, false, PLAIN},
    {"phi4:14b", "Phi-4 14B", 14.66e9, false, "phi3", 40, 5120, 17920, 40, 10, 128, 100352, 16384, false, PLAIN},
    {"starcoder2:3b", "StarCoder2 3B", 3.03e9, false, "starcoder2", 30, 3072, 12288, 24, 2, 128, 49152, 16384, true, PLAIN},
    {"starcoder2:7b", "StarCoder2 7B", 7.17e9, false, "starcoder2", 32, 4608, 18432, 36, 4, 128, 49152, 16384, true, PLAIN},
    {"starcoder2:15b", "StarCoder2 15B", 15.96e9, false, "starcoder2", 40, 6144, 24576, 48, 4, 128, 49152, 16384, false, PLAIN},
    {"command-r:35b", "Command-R 35B", 34.98e9, false, "command-r", 40, 8192, 22528, 64, 64, 128, 256000, 131072, true, PLAIN},
    {"gpt-oss:20b", "gpt-oss 20B", 20.9e9, false, "gpt-oss", 24, 2880, 2880, 64, 8, 64, 201088, 131072, false, .experts = 32, .experts_used = 4, .expert_ff = 2880, .window = 128, .quant = "MXFP4_MOE"},
    {"gpt-oss:120b", "gpt-oss 120B", 116.8e9, false, "gpt-oss", 36, 2880, 2880, 64, 8, 64, 201088, 131072, false, .experts = 128, .experts_used = 4, .expert_ff = 2880, .window = 128, .quant = "MXFP4_MOE"},
    {"nomic-embed-text:137m", "nomic-embed-text", 0.137e9, false, "nomic-bert", 12, 768, 3072, 12, 12, 64, 30522, 2048, false, .quant = "F16"},
    {"mxbai-embed-large:335m", "mxbai-embed-large", 0.335e9, false, "bert", 24, 1024, 4096, 16, 16, 64, 30522, 512, false, .quant = "F16"},
    {"all-minilm:22m", "all-MiniLM-L6", 0.0227e9, false, "bert", 6, 384, 1536, 12, 12, 32, 30522, 512, false, .quant = "F16"},
    {"bge-m3:567m", "bge-m3", 0.567e9, false, "bert", 24, 1024, 4096, 16, 16, 64, 250002, 8192, false, .quant = "F16"},
};
#undef PLAIN
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Other names. A distill has its pupil's shape; what it learnt from is another model. */
static const struct alias {
    const char *name, *shape;
    const char *distill; /* the pupil; NULL: just another name */
    bool untied;
} aliases[] = {
    {"deepseek-r1:1.5b", "qwen2.5:1.5b", "Qwen2.5-Math-1.5B", true},
    {"deepseek-r1:7b", "qwen2.5:7b", "Qwen2.5-Math-7B", false},
    {"deepseek-r1:8b", "llama3.1:8b", "Llama-3.1-8B", false},
    {"deepseek-r1:8b-0528", "qwen3:8b", "Qwen3-8B", false},
    {"deepseek-r1:14b", "qwen2.5:14b", "Qwen2.5-14B", false},
    {"deepseek-r1:32b", "qwen2.5:32b", "Qwen2.5-32B", false},
    {"deepseek-r1:70b", "llama3.1:70b", "Llama-3.3-70B-Instruct", false},
    {"deepseek-r1", "qwen2.5:7b", "Qwen2.5-Math-7B", false}, /* what that name without a tag pulled */
    {"deepseek-v3:671b", "deepseek-r1:671b", NULL, false},
    {"llama3.3:70b", "llama3.1:70b", NULL, false},
    {"llama3.3", "llama3.1:70b", NULL, false},
    {"llama2-uncensored:7b", "llama2:7b", NULL, false},
    {"llama2-uncensored:70b", "llama2:70b", NULL, false},
    {"dolphin-llama3:8b", "llama3:8b", NULL, false},
    {"dolphin-llama3:70b", "llama3:70b", NULL, false},
    {"dolphin-mistral:7b", "mistral:7b", NULL, false},
    {"dolphin-mixtral:8x7b", "mixtral:8x7b", NULL, false},
    {"dolphin-mixtral:8x22b", "mixtral:8x22b", NULL, false},
    {"wizardlm2:7b", "mistral:7b", NULL, false},
    {"wizardlm2:8x22b", "mixtral:8x22b", NULL, false},
    {"codegemma:2b", "gemma:2b", NULL, false},
    {"codegemma:7b", "gemma:7b", NULL, false},
    {"qwen2:0.5b", "qwen2.5:0.5b", NULL, false},
    {"qwen2:1.5b", "qwen2.5:1.5b", NULL, false},
    {"qwen2:7b", "qwen2.5:7b", NULL, false},
    {"qwen2:72b", "qwen2.5:72b", NULL, false},
    {"qwen2.5-coder:0.5b", "qwen2.5:0.5b", NULL, false},
    {"qwen2.5-coder:1.5b", "qwen2.5:1.5b", NULL, false},
    {"qwen2.5-coder:3b", "qwen2.5:3b", NULL, false},
    {"qwen2.5-coder:7b", "qwen2.5:7b", NULL, false},
    {"qwen2.5-coder:14b", "qwen2.5:14b", NULL, false},
    {"qwen2.5-coder:32b", "qwen2.5:32b", NULL, false},
    {"snowflake-arctic-embed:335m", "mxbai-embed-large:335m", NULL, false},
    {"snowflake-arctic-embed:22m", "all-minilm:22m", NULL, false},
};
enum { ALIASES = sizeof aliases / sizeof *aliases };
// clang-format on

const struct shape *shape_at(int i)
{
    return i >= 0 && i < SHAPES ? &shapes[i] : NULL;
}

void shape_params(struct synth_params *p, const struct shape *s, bool untied)
{
    synth_params_init(p);
    snprintf(p->arch, sizeof p->arch, "%s", s->arch);
    const struct {
        enum synth_number number;
        uint32_t value; /* 0: not said */
    } numbers[] = {
        {SYNTH_LAYERS, s->layers},
        {SYNTH_EMBD, s->embd},
        {SYNTH_FF, s->ff},
        {SYNTH_HEADS, s->heads},
        {SYNTH_KV_HEADS, s->kv_heads},
        {SYNTH_HEAD_DIM, s->head_dim},
        {SYNTH_VOCAB, s->vocab},
        {SYNTH_CONTEXT, s->context},
        {SYNTH_EXPERTS, s->experts},
        {SYNTH_EXPERTS_USED, s->experts_used},
        {SYNTH_EXPERT_FF, s->expert_ff},
        {SYNTH_SHARED_EXPERTS, s->shared_experts},
        {SYNTH_DENSE_LAYERS, s->dense_layers},
        {SYNTH_Q_LORA, s->q_lora},
        {SYNTH_KV_LORA, s->kv_lora},
        {SYNTH_VALUE_DIM, s->value_dim},
        {SYNTH_ROT, s->rot},
        {SYNTH_WINDOW, s->window},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value)
            p->number[numbers[i].number] = numbers[i].value;
    p->tie = s->tie && !untied ? YES : NO;
}

/* --- by name --------------------------------------------------------------------------------- */

static const struct shape *find(const char *name)
{
    for (int i = 0; i < SHAPES; i++)
        if (strcasecmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

static bool choose_name(struct shape_choice *c, const char *name)
{
    c->shape = find(name);
    if (c->shape) {
        snprintf(c->what, sizeof c->what, "%s as published (%.4g billion parameters)",
                 c->shape->family, c->shape->params / 1e9);
        return true;
    }
    for (int i = 0; i < ALIASES; i++) {
        const struct alias *a = &aliases[i];
        if (strcasecmp(a->name, name) != 0)
            continue;
        c->shape = find(a->shape);
        c->distilled = a->distill != NULL;
        c->untied = a->untied;
        if (a->distill)
            snprintf(c->what, sizeof c->what,
                     "a distill: %s, taught with R1's answers; it is not R1, which has 671 billion "
                     "parameters",
                     a->distill);
        else
            snprintf(c->what, sizeof c->what, "the shape of %s", c->shape->family);
        return true;
    }
    return false;
}

unsigned text_distance(const char *a, const char *b)
{
    enum { MOST = 48 };
    unsigned row[MOST + 1];
    const size_t n = strlen(a), m = strlen(b);
    if (n > MOST || m > MOST)
        return MOST;
    for (size_t k = 0; k <= m; k++)
        row[k] = (unsigned)k;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t k = 1; k <= m; k++) {
            const bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[k - 1]);
            const unsigned change = diagonal + !same;
            diagonal = row[k];
            unsigned least = change < row[k] + 1 ? change : row[k] + 1;
            row[k] = least < row[k - 1] + 1 ? least : row[k - 1] + 1;
        }
    }
    return row[m];
}

static const char *name_at(int i)
{
    return i < SHAPES ? shapes[i].name : i < SHAPES + ALIASES ? aliases[i - SHAPES].name : NULL;
}

/* Names of the same family, or else those that differ least. */
static enum err unknown(const char *text, struct errmsg *why)
{
    char list[200];
    size_t at = 0, family = strcspn(text, ":");
    int listed = 0;
    list[0] = '\0';
    for (int i = 0; name_at(i) && listed < 8; i++)
        if (strncasecmp(name_at(i), text, family) == 0 && name_at(i)[family] == ':' &&
            at + 40 < sizeof list) {
            at += (size_t)snprintf(list + at, sizeof list - at, " %s", name_at(i));
            listed++;
        }
    for (unsigned far = 0; !listed && far < 8; far++)
        for (int i = 0; name_at(i) && listed < 4; i++)
            if (text_distance(text, name_at(i)) == far && at + 40 < sizeof list) {
                at += (size_t)snprintf(list + at, sizeof list - at, " %s", name_at(i));
                listed++;
            }
    return err_set(why, ERR_NOT_FOUND,
                   "'%.60s' is no file, no size such as 70B and no model known here%s%s", text,
                   listed ? "; near names:" : "; a name looks like deepseek-r1:7b", list);
}

/* --- by size --------------------------------------------------------------------------------- */

/* "70B", "1.5b", "600M"; false: it is no size at all. */
static bool read_size(const char *text, double *params)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    const double v = strtod(text, &end);
    if ((*end != 'b' && *end != 'B' && *end != 'm' && *end != 'M') || end[1])
        return false;
    *params = v * (tolower((unsigned char)*end) == 'b' ? 1e9 : 1e6);
    return true;
}

static enum err choose_size(struct shape_choice *c, const char *text, double params,
                            struct errmsg *why)
{
    double best = HUGE_VAL;
    for (int i = 0; i < SHAPES; i++) {
        const double far = params > 0 ? fabs(log(shapes[i].params / params)) : HUGE_VAL;
        if (shapes[i].usual && far < best) {
            best = far;
            c->shape = &shapes[i];
        }
    }
    if (!(best <= log(1.6)))
        return err_set(why, ERR_RANGE,
                       "'%.40s': no model of about that size is known here; sizes go from 0.5B to "
                       "671B",
                       text);
    const double off = c->shape->params / params;
    snprintf(c->what, sizeof c->what,
             "a size without a name: the usual shape nearest to it, %s (%.4g billion parameters%s)",
             c->shape->family, c->shape->params / 1e9,
             off > 1.1   ? ": larger than asked for"
             : off < 0.9 ? ": smaller than asked for"
                         : "");
    return ERR_OK;
}

enum err shape_choose(struct shape_choice *c, const char *text, struct errmsg *why)
{
    *c = (struct shape_choice){0};
    double params;
    if (read_size(text, &params))
        return choose_size(c, text, params, why);
    if (choose_name(c, text))
        return ERR_OK;
    /* NAME-QUANT, as registries write it: "llama3.1:8b-instruct-q8_0" */
    char name[64];
    const struct mix *mix;
    struct errmsg ignored;
    if (strlen(text) >= sizeof name)
        return unknown(text, why);
    snprintf(name, sizeof name, "%s", text);
    char *tail = strrchr(name, '-');
    if (tail && strlen(tail + 1) < sizeof c->quant && !mix_find(&mix, tail + 1, &ignored)) {
        snprintf(c->quant, sizeof c->quant, "%s", tail + 1);
        *tail = '\0';
    }
    if (choose_name(c, name))
        return ERR_OK;
    static const char *const words[] = {"-fp16", "-instruct", "-chat",         "-text",
                                        "-it",   "-base",     "-qwen-distill", "-llama-distill"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t n = strlen(name), k = strlen(words[i]);
        if (n > k && strcasecmp(name + n - k, words[i]) == 0) {
            name[n - k] = '\0';
            if (strcmp(words[i], "-fp16") == 0)
                snprintf(c->quant, sizeof c->quant, "F16");
            if (choose_name(c, name))
                return ERR_OK;
        }
    }
    return unknown(text, why);
}
