/* pretokenizers.c - the table of pre-tokenizers, and the cutting; see pretokenizers.h.
 *
 * The patterns are those of the published tokenizer.json files, in PCRE2's dialect. Where an
 * obvious spelling would cost n*n steps on some text it is written so that it does not: \s+$ tried
 * at each of n spaces, each time reads them all: only where no white space comes before, possessive
 *   (?=X)[^Y]*   a group with a frame per character: a character class instead
 * White space is spelled out: PCRE2's \s has U+180E (white space until Unicode 6.3), the
 * tokenizers' has not. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/text/pretokenizers.h"
#include "shared/base/checked.h"
#include "shared/base/utf8.h"

#include <pcre2.h>
#include <stdlib.h>

enum { MAX_PATTERNS = 6 };

// clang-format off
#define WS      "\\t-\\r\\x{85}\\p{Z}"                    /* inside a class */
#define CONTR   "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES  "[" WS "]*[\\r\\n]+|[" WS "]+(?![^" WS "])|[" WS "]+"
#define OTHERS  " ?[^" WS "\\p{L}\\p{N}]+"
#define UPPER   "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER   "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD    "[^\\r\\n\\p{L}\\p{N}]?"
#define CJK_OLD "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+" /* DeepSeek's first models */

#define GPT2    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" OTHERS "|[" WS "]+(?![^" WS "])|[" WS "]+"
#define LLAMA3  CONTR "|" LEAD "\\p{L}+|\\p{N}{1,3}|" OTHERS "[\\r\\n]*|" SPACES
#define QWEN2   CONTR "|" LEAD "\\p{L}+|\\p{N}|" OTHERS "[\\r\\n]*|" SPACES
#define GPT4O   LEAD UPPER "*" LOWER "+" CONTR "?|" LEAD UPPER "+" LOWER "*" CONTR "?|\\p{N}{1,3}|" \
                OTHERS "[\\r\\n/]*|" SPACES
#define TEKKEN  LEAD UPPER "*" LOWER "+|" LEAD UPPER "+" LOWER "*|\\p{N}|" OTHERS "[\\r\\n/]*|" SPACES
#define BLOOM   " ?[^(" WS "|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"

/* deepseek-llm spells out the letters it knows: Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee ... */
#define DEEPSEEK_LETTERS \
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373" \
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f" \
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77" \
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d" \
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb" \
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128" \
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4" \
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf" \
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3" \
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"

enum set { DEFAULT_, GPT2_, LLAMA3_, QWEN2_, GPT4O_, TEKKEN_, DIGITS_GPT2_, FALCON_, DEEPSEEK_LLM_, DEEPSEEK_CODER_,
           DEEPSEEK_V3_, BLOOM_, VIKING_, CHAMELEON_, SET_COUNT_ };

static const char *const sets[SET_COUNT_][MAX_PATTERNS] = {
    [DEFAULT_]        = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
    [GPT2_]           = {GPT2},
    [LLAMA3_]         = {LLAMA3},
    [QWEN2_]          = {QWEN2},
    [GPT4O_]          = {GPT4O},
    [TEKKEN_]         = {TEKKEN},
    [DIGITS_GPT2_]    = {"\\p{N}", GPT2},
    [FALCON_]         = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"},
    [DEEPSEEK_LLM_]   = {"[\\r\\n]", "[" WS "]?[" DEEPSEEK_LETTERS "]+",
                         "[" WS "]?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                         "(?<![" WS "])[" WS "]++\\z", CJK_OLD, "\\p{N}+"},
    [DEEPSEEK_CODER_] = {"[\\r\\n]", "[" WS "]?\\p{L}+", "[" WS "]?\\p{P}+", CJK_OLD, "\\p{N}"},
    [DEEPSEEK_V3_]    = {"\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                         "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                         "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES},
    [BLOOM_]          = {BLOOM},
    [VIKING_]         = {BLOOM, "\\p{N}"},
    [CHAMELEON_]      = {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}",
                         "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
};

struct row {
    const char *name;
    enum set set;
    struct pretokenizer_traits traits;
};

static const struct row rows[] = { /* name, patterns, {ignore merges, add BOS} */
    {"default",          DEFAULT_,        {0}},
    {"llama-bpe",        LLAMA3_,         {true, true}},
    {"llama3",           LLAMA3_,         {true, true}},
    {"llama-v3",         LLAMA3_,         {true, true}},
    {"falcon3",          LLAMA3_,         {true, true}},
    {"dbrx",             LLAMA3_,         {0}},
    {"smaug-bpe",        LLAMA3_,         {0}},
    {"chatglm-bpe",      LLAMA3_,         {0}},
    {"glm4",             LLAMA3_,         {0}},
    {"qwen2",            QWEN2_,          {0}},
    {"deepseek-r1-qwen", QWEN2_,          {0}},
    {"stablelm2",        QWEN2_,          {0}},
    {"megrez",           QWEN2_,          {0}},
    {"gpt-4o",           GPT4O_,          {0}},
    {"llama4",           GPT4O_,          {0}},
    {"tekken",           TEKKEN_,         {true, true}},
    {"deepseek-llm",     DEEPSEEK_LLM_,   {0}},
    {"deepseek-coder",   DEEPSEEK_CODER_, {0}},
    {"deepseek-v3",      DEEPSEEK_V3_,    {0}},
    {"falcon",           FALCON_,         {0}},
    {"starcoder",        DIGITS_GPT2_,    {0}},
    {"refact",           DIGITS_GPT2_,    {0}},
    {"command-r",        DIGITS_GPT2_,    {0}},
    {"smollm",           DIGITS_GPT2_,    {0}},
    {"codeshell",        DIGITS_GPT2_,    {0}},
    {"exaone",           DIGITS_GPT2_,    {0}},
    {"minerva-7b",       DIGITS_GPT2_,    {0}},
    {"gpt-2",            GPT2_,           {0}},
    {"mpt",              GPT2_,           {0}},
    {"olmo",             GPT2_,           {0}},
    {"jais",             GPT2_,           {0}},
    {"phi-2",            GPT2_,           {0}},
    {"gigachat",         GPT2_,           {0}},
    {"roberta-bpe",      GPT2_,           {0}},
    {"jina-es",          GPT2_,           {0}},
    {"jina-de",          GPT2_,           {0}},
    {"jina-v1-en",       GPT2_,           {0}},
    {"jina-v2-es",       GPT2_,           {0}},
    {"jina-v2-de",       GPT2_,           {0}},
    {"jina-v2-code",     GPT2_,           {0}},
    {"poro-chat",        BLOOM_,          {0}},
    {"bloom",            BLOOM_,          {0}},
    {"gpt3-finnish",     BLOOM_,          {0}},
    {"viking",           VIKING_,         {0}},
    {"chameleon",        CHAMELEON_,      {false, true}},
};
// clang-format on

enum { N_ROWS = sizeof rows / sizeof rows[0] };

size_t pretokenizer_count(void)
{
    return N_ROWS;
}

const char *pretokenizer_name(size_t row)
{
    return row < N_ROWS ? rows[row].name : NULL;
}

struct pretokenizer {
    const struct row *row;
    int n_codes;
    pcre2_code *codes[MAX_PATTERNS]; /* owned */
    bool jit[MAX_PATTERNS]; /* compiled to machine code; else PCRE2 interprets: slower, same cuts */
};

static enum err compile(struct pretokenizer *p, int i, const char *path, struct errmsg *why)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    p->codes[i] = pcre2_compile((PCRE2_SPTR)sets[p->row->set][i], PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!p->codes[i])
        return err_set(why, ERR_INTERNAL,
                       "%s: pre-tokenizer '%s': PCRE2 refuses pattern %d at %zu: error %d", path,
                       p->row->name, i, (size_t)at, code);
    p->jit[i] = pcre2_jit_compile(p->codes[i], PCRE2_JIT_COMPLETE) == 0;
    return ERR_OK;
}

enum err pretokenizer_open(struct pretokenizer **out, struct str name, const char *path,
                           struct errmsg *why)
{
    const struct row *row = NULL;
    for (size_t i = 0; i < N_ROWS && !row; i++)
        if (str_is(name, rows[i].name))
            row = &rows[i];
    if (name.n == 0)
        row = &rows[0];
    if (!row)
        return err_set(why, ERR_UNSUPPORTED,
                       "%s: pre-tokenizer '" STR_FMT "' is not known to this version", path,
                       (int)(name.n < 64 ? name.n : 64), name.p);
    struct pretokenizer *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(why, ERR_NOMEM, "%s: out of memory", path);
    p->row = row;
    while (p->n_codes < MAX_PATTERNS && sets[row->set][p->n_codes]) {
        enum err e = compile(p, p->n_codes, path, why);
        if (e) {
            pretokenizer_close(p);
            return e;
        }
        p->n_codes++;
    }
    *out = p;
    return ERR_OK;
}

void pretokenizer_close(struct pretokenizer *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_codes; i++)
        pcre2_code_free(p->codes[i]);
    free(p);
}

struct pretokenizer_traits pretokenizer_traits(const struct pretokenizer *p)
{
    return p->row->traits;
}

void cuts_fini(struct cuts *c)
{
    free(c->ends);
    *c = (struct cuts){0};
}

static bool cuts_put(struct cuts *c, size_t end)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 256;
        uint32_t *ends = realloc(c->ends, cap * sizeof *ends);
        if (!ends)
            return false;
        c->ends = ends;
        c->cap = cap;
    }
    c->ends[c->n++] = (uint32_t)end;
    return true;
}

/* What one split holds besides its cuts. */
struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL until 32 KiB of the thread's own stack have been too little */
};

static pcre2_jit_stack *give_stack(void *m)
{
    return ((struct matcher *)m)->stack;
}

static bool matcher_init(struct matcher *m)
{
    *m = (struct matcher){.data = pcre2_match_data_create(1, NULL),
                          .context = pcre2_match_context_create(NULL)};
    if (!m->data || !m->context)
        return false;
    /* The limit is against runaway patterns of strangers. These are ours and linear, and the
     * interpreter counts every character that a repeat gives back: at its default a run of ten
     * million spaces would fail. */
    pcre2_set_match_limit(m->context, UINT32_MAX);
    pcre2_jit_stack_assign(m->context, give_stack, m);
    return true;
}

static void matcher_fini(struct matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
}

/* First match in text[0..n) from `from` on. False: none, or *error is set. */
static bool find(const struct pretokenizer *p, int i, struct matcher *m, const char *text, size_t n,
                 size_t from, size_t *start, size_t *end, int *error)
{
    for (;;) {
        int rc = p->jit[i] ? pcre2_jit_match(p->codes[i], (PCRE2_SPTR)text, n, from,
                                             PCRE2_NO_UTF_CHECK, m->data, m->context)
                           : pcre2_match(p->codes[i], (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK,
                                         m->data, m->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
            m->stack = pcre2_jit_stack_create(64 * 1024, (size_t)64 * 1024 * 1024, NULL);
            if (m->stack)
                continue;
        }
        if (rc == PCRE2_ERROR_NOMATCH)
            return false;
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(m->data);
        if (rc < 0 || o[1] <= o[0]) { /* no pattern of ours matches nothing: it would loop */
            *error = rc < 0 ? rc : PCRE2_ERROR_INTERNAL;
            return false;
        }
        *start = o[0];
        *end = o[1];
        return true;
    }
}

/* Cuts the pieces of `in` by pattern i into `out`. 0, or PCRE2's error. */
static int split_by(const struct pretokenizer *p, int i, struct matcher *m, const char *text,
                    const struct cuts *in, struct cuts *out)
{
    size_t begin = 0;
    for (size_t k = 0; k < in->n; k++) {
        size_t end = in->ends[k], done = 0, n = end - begin, a, b;
        int error = 0;
        while (done < n && find(p, i, m, text + begin, n, done, &a, &b, &error)) {
            if ((a > done && !cuts_put(out, begin + a)) || !cuts_put(out, begin + b))
                return PCRE2_ERROR_NOMEMORY;
            done = b;
        }
        if (error)
            return error;
        if (done < n && !cuts_put(out, end))
            return PCRE2_ERROR_NOMEMORY;
        begin = end;
    }
    return 0;
}

static enum err split_valid(const struct pretokenizer *p, const char *text, size_t n,
                            struct cuts *out, struct errmsg *why)
{
    struct cuts next = {0};
    struct matcher m = {0};
    int rc = PCRE2_ERROR_NOMEMORY;
    out->n = 0;
    if (matcher_init(&m) && (n == 0 || cuts_put(out, n))) {
        rc = 0;
        for (int i = 0; i < p->n_codes && rc == 0; i++) {
            next.n = 0;
            rc = split_by(p, i, &m, text, out, &next);
            struct cuts swap = *out;
            *out = next;
            next = swap;
        }
    }
    matcher_fini(&m);
    cuts_fini(&next);
    if (rc == 0)
        return ERR_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return err_set(why, ERR_NOMEM, "out of memory cutting %zu bytes into words", n);
    return err_set(why, ERR_INTERNAL, "pre-tokenizer '%s' failed on %zu bytes: PCRE2 error %d",
                   p->row->name, n, rc);
}

/* PCRE2 reads valid UTF-8 only. The copy has U+FFFD for every byte that is none, the cuts are moved
 * back. */
static enum err split_invalid(const struct pretokenizer *p, const char *text, size_t n,
                              struct cuts *out, struct errmsg *why)
{
    static const char replacement[3] = {'\xef', '\xbf', '\xbd'};
    char *copy = malloc(n * 3);
    if (!copy)
        return err_set(why, ERR_NOMEM, "out of memory cutting %zu bytes into words", n);
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int len = utf8_decode(text + i, n - i, &cp);
        memcpy(copy + m, len ? text + i : replacement, len ? (size_t)len : 3);
        m += len ? (size_t)len : 3;
        i += len ? (size_t)len : 1;
    }
    enum err e = split_valid(p, copy, m, out, why);
    free(copy);
    size_t at = 0, i = 0; /* in the copy, in the text */
    for (size_t k = 0; !e && k < out->n; k++) {
        while (at < out->ends[k]) {
            uint32_t cp;
            int len = utf8_decode(text + i, n - i, &cp);
            at += len ? (size_t)len : 3;
            i += len ? (size_t)len : 1;
        }
        out->ends[k] = (uint32_t)i;
    }
    return e;
}

enum err pretokenizer_split(const struct pretokenizer *p, const char *text, size_t n,
                            struct cuts *out, struct errmsg *why)
{
    if (n >= (size_t)1 << 30)
        return err_set(why, ERR_RANGE, "a text of %zu bytes: the limit is 1 GiB", n);
    return utf8_valid(text, n) ? split_valid(p, text, n, out, why)
                               : split_invalid(p, text, n, out, why);
}
