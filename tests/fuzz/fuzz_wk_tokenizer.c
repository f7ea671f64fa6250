/* fuzz_wk_tokenizer.c - any text through every kind of tokenizer, and any file as a tokenizer's
 * metadata.
 *
 *   byte 0: 0-3 a kind, over a tiny vocabulary made here; others: the rest is a GGUF file
 *   byte 1: which pre-tokenizer
 *
 * What must hold: ids are in range, and where every byte has a token the text comes back, also in a
 * stream. */
#include "shared/base/utf8.h"
#include "tests/support/vocab.h"
#include "worker/text/pretokenizers.h"
#include "worker/text/stream_text.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>

enum { BYTES = 256, MAX_TOKENS = 320, MAX_PRE = 64 };

static const char *const words[] = {"a",       "b",        "ab",           "aa",
                                    "aaaa",    "aaaaaaaa", "th",           "the",
                                    "\u2581",  "\u2581a",  "\u2581the",    "\u2581\u2581",
                                    "e\u0301", "\u4e2d",   "\u2581\u4e2d", "\u2581,"};
static const struct str merges[] = {{"a a", 3}, {"aa aa", 5},     {"t h", 3}, {"th e", 4},
                                    {"a b", 3}, {"aaaa aaaa", 9}, {"b c", 3}};

static struct tokenizer *make(int kind, const char *pre)
{
    static const char *const models[] = {"gpt2", "llama", "bert", "t5"};
    static char names[BYTES][8];
    struct str tokens[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    float scores[MAX_TOKENS];
    struct vocab_file f;
    size_t n = 0;
    for (int b = 0; b < BYTES; b++, n++) {
        if (kind == 0)
            vocab_byte_char(b, names[b]);
        else
            snprintf(names[b], sizeof names[b], "<0x%02X>", b);
        tokens[n] = str_of(names[b]);
        types[n] = kind == 0 ? 1 : 6;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (kind != 0 || (words[i][0] & 0x80) == 0) {
            tokens[n] = str_of(words[i]);
            types[n++] = 1;
        }
    tokens[n] = STR("<unk>"), types[n++] = 2;
    tokens[n] = STR("<s>"), types[n++] = 3;
    tokens[n] = STR("<|end|>"), types[n++] = 3;
    tokens[n] = STR("  <u>"), types[n++] = 4;
    for (size_t i = 0; i < n; i++)
        scores[i] = -(float)(i % 7);
    vocab_begin(&f, models[kind]);
    if (pre)
        vocab_str(&f, "tokenizer.ggml.pre", pre);
    vocab_strings(&f, "tokenizer.ggml.tokens", tokens, n);
    vocab_i32s(&f, "tokenizer.ggml.token_type", types, n);
    vocab_f32s(&f, "tokenizer.ggml.scores", scores, n);
    vocab_strings(&f, "tokenizer.ggml.merges", merges, sizeof merges / sizeof *merges);
    vocab_u32(&f, "tokenizer.ggml.unknown_token_id", (uint32_t)n - 4);
    vocab_u32(&f, "tokenizer.ggml.cls_token_id", (uint32_t)n - 3);
    vocab_u32(&f, "tokenizer.ggml.seperator_token_id", (uint32_t)n - 3);
    struct gguf *g = vocab_open_gguf(&f);
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (tokenizer_open(&t, g, &why)) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    gguf_close(g);
    vocab_free(&f);
    return t;
}

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* The stream of the tokens is the whole text, sanitised. */
static void check_stream(const struct tokenizer *t, const struct token_list *ids)
{
    struct stream_text *s = NULL;
    struct buf streamed, whole;
    int32_t stop;
    buf_init(&streamed);
    buf_init(&whole);
    check(tokenizer_decode(t, ids->ids, ids->n, false, false, &whole) == ERR_OK);
    char *clean = malloc(whole.n * 3 + 1);
    check(clean && stream_text_open(&s, t, &(struct str){"\ufffe\ufffe", 6}, 1) == ERR_OK);
    size_t n = utf8_sanitize(whole.p ? whole.p : "", whole.n, clean);
    bool has_stop = memmem(clean, n, "\ufffe\ufffe", 6) != NULL;
    for (size_t i = 0; i < ids->n && !has_stop; i++) {
        check(stream_text_feed(s, ids->ids[i], &streamed, &stop) == ERR_OK);
        check(stop < 0);
    }
    if (!has_stop) {
        check(stream_text_end(s, &streamed) == ERR_OK);
        check(streamed.n == n && (n == 0 || memcmp(streamed.p, clean, n) == 0));
    }
    stream_text_close(s);
    free(clean);
    buf_fini(&streamed);
    buf_fini(&whole);
}

static void try_text(const struct tokenizer *t, const char *p, size_t n, unsigned flags,
                     bool lossless)
{
    struct token_list ids = {0};
    struct errmsg why = {{0}};
    if (tokenizer_encode(t, p, n, flags, &ids, &why)) {
        check(why.text[0] != '\0' && !lossless);
        token_list_fini(&ids); /* unchanged in content, but it may have grown */
        return;
    }
    for (size_t i = 0; i < ids.n; i++)
        check(ids.ids[i] >= 0 && (uint32_t)ids.ids[i] < tokenizer_n_vocab(t));
    if (lossless) {
        struct buf b;
        buf_init(&b);
        check(tokenizer_decode(t, ids.ids, ids.n, true, true, &b) == ERR_OK);
        check(b.n == n && (n == 0 || memcmp(b.p, p, n) == 0));
        buf_fini(&b);
    }
    check_stream(t, &ids);
    token_list_fini(&ids);
}

static void try_file(const uint8_t *p, size_t n)
{
    static const char text[] = "the  ab\u00e9 <|end|>aaaa \xff 12345\n";
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (gguf_open_memory(&g, p, n, &why))
        return;
    if (tokenizer_open(&t, g, &why))
        check(why.text[0] != '\0');
    gguf_close(g);
    if (!t)
        return;
    try_text(t, text, sizeof text - 1, TOK_ADD_SPECIAL | TOK_PARSE_SPECIAL, false);
    try_text(t, text, sizeof text - 1, 0, false);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct tokenizer *bpe[MAX_PRE], *others[4]; /* made when first asked for */
    if (n < 2)
        return 0;
    if (data[0] > 3) {
        try_file(data + 1, n - 1);
        return 0;
    }
    int kind = data[0];
    size_t row = data[1] % pretokenizer_count();
    struct tokenizer **t = kind == 0 ? &bpe[row % MAX_PRE] : &others[kind];
    if (!*t)
        *t = make(kind, kind == 0 ? pretokenizer_name(row % MAX_PRE) : NULL);
    const char *text = (const char *)data + 2;
    try_text(*t, text, n - 2, 0, kind == 0);
    /* SentencePiece may print a space for U+2581, and puts one behind every special token. */
    try_text(*t, text, n - 2, TOK_ADD_SPECIAL | TOK_PARSE_SPECIAL, false);
    return 0;
}
