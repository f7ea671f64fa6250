/* params.c - see params.h. */
#include "worker/synth/params.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct number_row {
    const char *option, *key;
    bool is_float;
} numbers[SYNTH_NUMBERS_] = {
#define X(id, option, key, is_float) [SYNTH_##id] = {option, key, is_float},
    SYNTH_NUMBERS(X)
#undef X
};

/* Shapes as published in the models' config.json; the sizes from 1.5B on are those of DeepSeek-R1's
 * distills. */
// clang-format off
static const struct synth_preset {
    const char *name, *arch;
    uint32_t layers, embd, ff, heads, kv_heads, vocab, context;
    double rope_base, eps;
    bool tie, rope_freqs;
} presets[] = {
    /* name   arch     layers  embd     ff  heads  kv   vocab  context  rope base   eps  tied   freqs */
    {"tiny",  "llama",      4,  256,   768,    8,  2,   1024,    2048,     10000, 1e-5, false, false},
    {"0.5B",  "qwen2",     24,  896,  4864,   14,  2, 151936,   32768,   1000000, 1e-6, true,  false},
    {"1B",    "llama",     16, 2048,  8192,   32,  8, 128256,  131072,    500000, 1e-5, true,  true},
    {"1.5B",  "qwen2",     28, 1536,  8960,   12,  2, 151936,  131072,     10000, 1e-6, false, false},
    {"3B",    "llama",     28, 3072,  8192,   24,  8, 128256,  131072,    500000, 1e-5, true,  true},
    {"7B",    "qwen2",     28, 3584, 18944,   28,  4, 152064,  131072,     10000, 1e-6, false, false},
    {"8B",    "llama",     32, 4096, 14336,   32,  8, 128256,  131072,    500000, 1e-5, false, true},
    {"14B",   "qwen2",     48, 5120, 13824,   40,  8, 152064,  131072,   1000000, 1e-5, false, false},
    {"32B",   "qwen2",     64, 5120, 27648,   40,  8, 152064,  131072,   1000000, 1e-5, false, false},
    {"70B",   "llama",     80, 8192, 28672,   64,  8, 128256,  131072,    500000, 1e-5, false, true},
};
// clang-format on
enum { PRESETS = sizeof presets / sizeof *presets };

/* What models of a family always have, beyond what the loader asks for. */
static const struct habit {
    const char *arch;
    bool tie, biases;         /* biases: also those that the loader would do without */
    enum synth_number number; /* with `value` where not given; VOCAB: none */
    double value;
} habits[] = {
    {"gemma", true, false, SYNTH_VOCAB, 0},
    {"gemma2", true, false, SYNTH_WINDOW, 4096},
    {"gemma3", true, false, SYNTH_WINDOW, 1024},
    {"command-r", true, false, SYNTH_LOGIT_SCALE, 0.0625},
    {"starcoder2", true, true, SYNTH_VOCAB, 0},
    {"phi3", false, false, SYNTH_WINDOW, 2047},
    {"gpt-oss", false, false, SYNTH_WINDOW, 128},
    {"llama4", false, false, SYNTH_MOE_STEP, 1},
    {"granite", true, false, SYNTH_LOGIT_SCALE, 8},
    {"granitemoe", true, false, SYNTH_LOGIT_SCALE, 6},
    {"glm4moe", false, true, SYNTH_SHARED_EXPERTS, 1},
    {"glm4", false, true, SYNTH_VOCAB, 0},
    {"bert", true, true, SYNTH_VOCAB, 0},
};

static const char chatml[] = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + "
                             "'\\n' + message['content'] + "
                             "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
                             "'<|im_start|>assistant\\n' }}"
                             "{% endif %}";

void synth_params_init(struct synth_params *p)
{
    *p = (struct synth_params){.seed = 1, .tie = NOT_SAID, .tmpl = STR(chatml)};
    snprintf(p->quant, sizeof p->quant, "Q8_0");
    for (int i = 0; i < SYNTH_NUMBERS_; i++)
        p->number[i] = -1;
}

void synth_preset_names(char *out, size_t n)
{
    size_t at = 0;
    for (int i = 0; i < PRESETS && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%s", i ? " " : "", presets[i].name);
}

static const struct synth_preset *find_preset(struct str name)
{
    for (int i = 0; i < PRESETS; i++)
        if (strlen(presets[i].name) == name.n && strncasecmp(presets[i].name, name.p, name.n) == 0)
            return &presets[i];
    return NULL;
}

enum err synth_use_preset(struct synth_params *p, const char *name, struct errmsg *why)
{
    p->preset = find_preset(str_of(name));
    if (p->preset)
        return ERR_OK;
    char list[128];
    synth_preset_names(list, sizeof list);
    return err_set(why, ERR_NOT_FOUND, "no preset '%s'; there are %s", name, list);
}

static void fallback(struct synth_params *p, enum synth_number n, double v)
{
    if (p->number[n] < 0)
        p->number[n] = v;
}

static void apply_habits(struct synth_params *p)
{
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++) {
        const struct habit *h = &habits[i];
        if (strcmp(h->arch, p->arch) != 0)
            continue;
        p->biases = h->biases;
        if (h->tie && p->tie == NOT_SAID)
            p->tie = YES;
        if (h->number != SYNTH_VOCAB)
            fallback(p, h->number, h->value);
    }
    if (p->preset && p->tie == NOT_SAID && p->preset->tie)
        p->tie = YES;
    if (p->tie == NOT_SAID)
        p->tie = NO;
}

static void apply_preset(struct synth_params *p, const struct synth_preset *s)
{
    if (!p->arch[0])
        snprintf(p->arch, sizeof p->arch, "%s", s->arch);
    fallback(p, SYNTH_LAYERS, s->layers);
    fallback(p, SYNTH_EMBD, s->embd);
    fallback(p, SYNTH_FF, s->ff);
    fallback(p, SYNTH_HEADS, s->heads);
    apply_habits(p);
    fallback(p, SYNTH_KV_HEADS, s->kv_heads);
    fallback(p, SYNTH_VOCAB, s->vocab);
    fallback(p, SYNTH_CONTEXT, s->context);
    fallback(p, SYNTH_ROPE_BASE, s->rope_base);
    fallback(p, SYNTH_EPS, s->eps);
    p->rope_freqs |= s->rope_freqs && strcmp(p->arch, s->arch) == 0;
}

static bool same_option(struct str name, const char *option)
{
    if (name.n != strlen(option))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if ((name.p[i] == '_' ? '-' : name.p[i]) != option[i])
            return false;
    return true;
}

enum err synth_set_number(struct synth_params *p, struct str name, struct str value,
                          struct errmsg *why)
{
    for (int i = 0; i < SYNTH_NUMBERS_; i++) {
        if (!same_option(name, numbers[i].option))
            continue;
        double v;
        uint64_t whole;
        if (numbers[i].is_float ? !str_to_f64(value, &v) || v < 0
                                : !str_to_u64(value, UINT32_MAX, &whole))
            return err_set(why, ERR_RANGE, "%s: '" STR_FMT "' is no %s", numbers[i].option,
                           STR_ARG(value),
                           numbers[i].is_float ? "positive number" : "whole number below 2^32");
        p->number[i] = numbers[i].is_float ? v : (double)whole;
        return ERR_OK;
    }
    char list[200];
    size_t at = 0;
    for (int i = 0; i < SYNTH_NUMBERS_ && at < sizeof list; i++)
        at +=
            (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? " " : "", numbers[i].option);
    return err_set(why, ERR_NOT_FOUND, "no parameter '" STR_FMT "'; there are %s", STR_ARG(name),
                   list);
}

enum err synth_set_list(struct synth_params *p, const char *list, struct errmsg *why)
{
    for (const char *item = list; *item;) {
        struct str s = {item, strcspn(item, ",")};
        item += s.n + (item[s.n] == ',');
        const char *eq = memchr(s.p, '=', s.n);
        enum err e = ERR_OK;
        if (!eq) {
            const struct synth_preset *preset = find_preset(s);
            if (preset) {
                p->preset = preset;
            } else {
                char names[128];
                synth_preset_names(names, sizeof names);
                e = err_set(why, ERR_NOT_FOUND, "'" STR_FMT "' is neither NAME=VALUE nor one of %s",
                            STR_ARG(s), names);
            }
        } else {
            struct str name = {s.p, (size_t)(eq - s.p)};
            e = synth_set_number(p, name, (struct str){eq + 1, s.n - name.n - 1}, why);
        }
        if (e)
            return e;
    }
    return ERR_OK;
}

enum err synth_params_finish(struct synth_params *p, struct errmsg *why)
{
    static const enum synth_number must[] = {SYNTH_LAYERS, SYNTH_EMBD, SYNTH_FF, SYNTH_HEADS};
    char list[128];
    synth_preset_names(list, sizeof list);
    if (p->preset)
        apply_preset(p, p->preset);
    for (size_t i = 0; i < sizeof must / sizeof *must; i++)
        if (p->number[must[i]] < 1)
            return err_set(why, ERR_INVALID, "--%s is missing; give it, or --preset with one of %s",
                           numbers[must[i]].option, list);
    if (!p->arch[0])
        snprintf(p->arch, sizeof p->arch, "llama");
    const double *n = p->number;
    if (n[SYNTH_HEAD_DIM] < 0 && (uint64_t)n[SYNTH_EMBD] % (uint64_t)n[SYNTH_HEADS] != 0)
        return err_set(why, ERR_INVALID,
                       "--embd %g is no multiple of --heads %g; give --head-dim too", n[SYNTH_EMBD],
                       n[SYNTH_HEADS]);
    apply_habits(p);
    fallback(p, SYNTH_KV_HEADS, n[SYNTH_HEADS]);
    fallback(p, SYNTH_VOCAB, 32000);
    fallback(p, SYNTH_CONTEXT, 4096);
    fallback(p, SYNTH_EPS, 1e-5);
    if (n[SYNTH_HEAD_DIM] < 0)
        p->number[SYNTH_HEAD_DIM] = n[SYNTH_EMBD] / n[SYNTH_HEADS];
    fallback(p, SYNTH_VALUE_DIM, n[SYNTH_HEAD_DIM]);
    if (n[SYNTH_KV_LORA] < 0) /* MLA turns a part of a head only, and says which by itself */
        fallback(p, SYNTH_ROT, n[SYNTH_HEAD_DIM]);
    return ERR_OK;
}

const char *synth_number_key(enum synth_number n, bool *is_float)
{
    *is_float = numbers[n].is_float;
    return numbers[n].key;
}
