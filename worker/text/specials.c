/* specials.c - see specials.h. */
#include "worker/text/specials.h"

#include <strings.h>

#define IDS "tokenizer.ggml."

enum { NONE = -1 };

/* The ids of the file, and what each kind means where the file is silent: the ids that the first
 * model of the kind had, which its early converters took for granted (Llama, BERT, T5). */
struct special_id {
    const char *key;
    size_t offset;         /* of the int32_t in struct vocab */
    int32_t by_default[4]; /* by enum vocab_kind */
    bool must_be_valid; /* false: nothing here depends on it, and files with 2^32 - 1 are common */
};

// clang-format off
#define AT(field) offsetof(struct vocab, field)
static const struct special_id ids[] = {
    /* key                              field     bpe   spm   wordpiece unigram */
    { IDS "bos_token_id",               AT(bos),  {NONE, 1,    NONE, NONE}, true  },
    { IDS "eos_token_id",               AT(eos),  {NONE, 2,    NONE, 1},    true  },
    { IDS "eot_token_id",               AT(eot),  {NONE, NONE, NONE, NONE}, true  },
    { IDS "eom_token_id",               AT(eom),  {NONE, NONE, NONE, NONE}, true  },
    { IDS "unknown_token_id",           AT(unk),  {NONE, 0,    100,  2},    true  },
    { IDS "seperator_token_id",         AT(sep),  {NONE, NONE, 102,  NONE}, true  }, /* as the format spells it */
    { IDS "cls_token_id",               AT(cls),  {NONE, NONE, 101,  NONE}, true  },
    { IDS "padding_token_id",           AT(pad),  {NONE, NONE, 0,    0},    false },
    { IDS "mask_token_id",              AT(mask), {NONE, NONE, 103,  NONE}, false },
};

/* Texts that end a turn in the chat formats of the models named. A file that lists none of them as EOT still stops
 * there, and a file that types one as a normal token doesn't let it be written by a user. */
static const char *const ends_of_turn[] = {
    "<|im_end|>",               /* ChatML: Qwen, Yi, SmolLM, Dolphin */
    "<|eot_id|>", "<|eom_id|>", /* Llama 3 */
    "<|end_of_text|>",          /* Llama 3 base, Granite */
    "<|eot|>", "<|eom|>",       /* Llama 4 */
    "<end_of_turn>",            /* Gemma */
    "<|end|>",                  /* Phi */
    "<|return|>", "<|call|>",   /* gpt-oss */
    "<|endoftext|>",            /* GPT-2 and its heirs, Qwen */
    "<|END_OF_TURN_TOKEN|>",    /* Command-R */
    "<|EOT|>",                  /* DeepSeek-Coder */
    "<EOT>",                    /* CodeLlama */
    "<｜end▁of▁sentence｜>", /* DeepSeek */
    "<|fim_pad|>", "<|repo_name|>", "<|fim_repo|>", "<|file_sep|>", /* code completion: Qwen2.5-Coder */
};
// clang-format on

static int32_t *field_at(struct vocab *v, size_t offset)
{
    return (int32_t *)(void *)((char *)v + offset);
}

static enum err read_ids(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        int32_t *id = field_at(v, ids[i].offset);
        int32_t fallback = ids[i].by_default[v->kind];
        int64_t given;
        *id = fallback >= 0 && (uint32_t)fallback < v->n ? fallback : NONE;
        if (!gguf_kv(g, ids[i].key))
            continue;
        if (!gguf_get_i64(g, ids[i].key, &given))
            return err_set(why, ERR_INVALID, "%s: %s is not an integer", gguf_path(g), ids[i].key);
        if (given >= 0 && given < (int64_t)v->n)
            *id = (int32_t)given;
        else if (given == -1 || given == UINT32_MAX || !ids[i].must_be_valid)
            *id = NONE; /* "there is none", as converters write it */
        else
            return err_set(why, ERR_INVALID, "%s: %s is %lld, but there are %u tokens",
                           gguf_path(g), ids[i].key, (long long)given, v->n);
    }
    return ERR_OK;
}

/* *flag: as the file says; `by_default` where it is silent and the token exists. */
static enum err read_flag(const struct vocab *v, const struct gguf *g, const char *key, int32_t id,
                          bool by_default, bool *flag, struct errmsg *why)
{
    *flag = by_default && id >= 0;
    if (!gguf_kv(g, key))
        return ERR_OK;
    if (!gguf_get_bool(g, key, flag))
        return err_set(why, ERR_INVALID, "%s: %s is not a boolean", gguf_path(g), key);
    if (*flag && id < 0)
        return err_set(why, ERR_INVALID,
                       "%s: %s is true, but the file names no such token among its %u",
                       gguf_path(g), key, v->n);
    return ERR_OK;
}

static enum err read_flags(struct vocab *v, const struct gguf *g, bool pre_add_bos,
                           struct errmsg *why)
{
    enum err e;
    if (v->kind == VOCAB_WORDPIECE) { /* BERT: always [CLS] text [SEP] */
        if (v->cls < 0)
            v->cls = v->bos;
        if (v->cls < 0 || v->sep < 0)
            return err_set(why, ERR_INVALID, "%s: a BERT vocabulary without [CLS] or [SEP]",
                           gguf_path(g));
        v->bos = v->cls;
        v->add_bos = v->add_sep = true;
    } else {
        bool bos = v->kind == VOCAB_SPM || (v->kind == VOCAB_BPE && pre_add_bos);
        if ((e = read_flag(v, g, IDS "add_bos_token", v->bos, bos, &v->add_bos, why)) ||
            (e = read_flag(v, g, IDS "add_eos_token", v->eos, v->kind == VOCAB_UNIGRAM, &v->add_eos,
                           why)))
            return e;
    }
    if ((v->kind == VOCAB_WORDPIECE || v->kind == VOCAB_UNIGRAM) && v->unk < 0)
        return err_set(why, ERR_INVALID,
                       "%s: no %sunknown_token_id, which this kind of tokenizer needs",
                       gguf_path(g), IDS);
    v->add_space_prefix = v->kind == VOCAB_SPM;
    (void)gguf_get_bool(g, IDS "add_space_prefix", &v->add_space_prefix);
    (void)gguf_get_bool(g, IDS "remove_extra_whitespaces", &v->remove_extra_whitespaces);
    return ERR_OK;
}

static bool contains_nocase(struct str s, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.n; i++)
        if (strncasecmp(s.p + i, part, n) == 0)
            return true;
    return false;
}

static void set_attr(struct vocab *v, const char *text, uint8_t attr, bool on)
{
    int32_t id = strtab_find(&v->by_text, str_of(text));
    if (id >= 0)
        v->attrs[id] = on ? v->attrs[id] | attr : (uint8_t)(v->attrs[id] & ~attr);
}

/* White space beside a special token that belongs to it. GGUF has no field for this; the models are
 * known. */
static void read_strips(struct vocab *v, const struct gguf *g)
{
    struct str name = {0}, arch = {0}, pre = {0};
    (void)gguf_get_str(g, "general.name", &name);
    (void)gguf_get_str(g, "general.architecture", &arch);
    (void)gguf_get_str(g, IDS "pre", &pre);
    bool phi3 =
        contains_nocase(name, "phi-3") || contains_nocase(name, "phi3") || str_is(arch, "phi3");
    if (phi3 &&
        v->kind == VOCAB_SPM) { /* microsoft/Phi-3-*: tokenizer.json, added_tokens, rstrip */
        for (uint32_t i = 0; i < v->n; i++)
            if (v->types[i] == TOKEN_CONTROL || v->types[i] == TOKEN_USER_DEFINED ||
                v->types[i] == TOKEN_UNKNOWN)
                v->attrs[i] |= TOKEN_RSTRIP;
        set_attr(v, "</s>", TOKEN_RSTRIP, true);
        set_attr(v, "<unk>", TOKEN_RSTRIP, false);
        set_attr(v, "<s>", TOKEN_RSTRIP, false);
        set_attr(v, "<|endoftext|>", TOKEN_RSTRIP, false);
    }
    if (str_starts(pre, STR("jina-v2-")))
        set_attr(v, "<mask>", TOKEN_LSTRIP, true);
}

/* gpt-oss: <|end|> closes one message of an answer (the reasoning), and the answer goes on. */
static bool goes_on_after(const struct vocab *v, const char *text)
{
    return strcmp(text, "<|end|>") == 0 && strtab_find(&v->by_text, STR("<|return|>")) >= 0 &&
           strtab_find(&v->by_text, STR("<|call|>")) >= 0;
}

enum err specials_read(struct vocab *v, const struct gguf *g, bool pre_add_bos, struct errmsg *why)
{
    enum err e = read_ids(v, g, why);
    if (e || (e = read_flags(v, g, pre_add_bos, why)))
        return e;
    for (size_t i = 0; i < sizeof ends_of_turn / sizeof ends_of_turn[0]; i++) {
        int32_t id = strtab_find(&v->by_text, str_of(ends_of_turn[i]));
        if (id >= 0) {
            v->types[id] = TOKEN_CONTROL;
            if (!goes_on_after(v, ends_of_turn[i]))
                v->attrs[id] |= TOKEN_EOG;
        }
    }
    const int32_t ends[] = {v->eos, v->eot, v->eom};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends[i] >= 0)
            v->attrs[ends[i]] |= TOKEN_EOG;
    read_strips(v, g);
    return ERR_OK;
}
