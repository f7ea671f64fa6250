/* test_tokenizer.c - what every kind of tokenizer promises: round trips, special tokens, the
 * metadata's flags, and a clear refusal of metadata that lies. Vocabularies: the demo model's, and
 * small ones made here. */
#include "tests/support/test.h"
#include "tests/support/vocab.h"
#include "worker/text/pretokenizers.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>

#define DEMO "deploy/models/millrace-tiny-q8_0.gguf"

static struct tokenizer *demo(void)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (gguf_open(&g, DEMO, &why) || tokenizer_open(&t, g, &why))
        fail_msg("%s (run from the repository's root)", why.text);
    gguf_close(g);
    return t;
}

static struct token_list encode(const struct tokenizer *t, struct str text, unsigned flags)
{
    struct token_list ids = {0};
    struct errmsg why = {{0}};
    if (tokenizer_encode(t, text.p, text.n, flags, &ids, &why))
        fail_msg("%s", why.text);
    for (size_t i = 0; i < ids.n; i++)
        assert_in_range(ids.ids[i], 0, tokenizer_n_vocab(t) - 1);
    return ids;
}

static void assert_ids(const struct tokenizer *t, struct str text, unsigned flags,
                       const int32_t *want, size_t n)
{
    struct token_list got = encode(t, text, flags);
    assert_int_equal(got.n, n);
    if (n)
        assert_memory_equal(got.ids, want, n * sizeof *want);
    token_list_fini(&got);
}
#define ASSERT_IDS(t, text, flags, ...)                                                            \
    assert_ids(t, STR(text), flags, (const int32_t[]){__VA_ARGS__},                                \
               COUNT(((const int32_t[]){__VA_ARGS__})))

/* ids -> bytes, less the space that SentencePiece puts in front */
static void assert_prints(const struct tokenizer *t, const struct token_list *ids, struct str want)
{
    struct buf b;
    buf_init(&b);
    assert_int_equal(tokenizer_decode(t, ids->ids, ids->n, true, true, &b), ERR_OK);
    assert_int_equal(b.n, want.n);
    if (want.n)
        assert_memory_equal(b.p, want.p, want.n);
    buf_fini(&b);
}

static void assert_round_trip(const struct tokenizer *t, struct str text)
{
    struct token_list ids = encode(t, text, 0);
    assert_prints(t, &ids, text);
    token_list_fini(&ids);
}

/* ------------------------------------------------------------------ the demo model's vocabulary */

static void texts_come_back_unchanged(void **state)
{
    UNUSED(state);
    static const char *const texts[] = {
        "",
        " ",
        "   ",
        "\n\n\n",
        " \n \t\r\n x",
        "Hello, world!",
        "It's 3.14159 o'clock",
        "\u4f60\u597d\uff0c\u4e16\u754c",
        "na\u00efve e\u0301 \U0001f469\u200d\U0001f467 \u200b\ufeff\u00a0x",
        "<|im_start|>user\n",
        "def f(x):\n    return x**2\n\n\n",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    struct tokenizer *t = demo();
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_round_trip(t, str_of(texts[i]));
    assert_round_trip(t, STR("a\0b\0\0c")); /* NUL is a character */
    tokenizer_close(t);
}

static void bytes_that_are_not_utf8_come_back_unchanged(void **state)
{
    UNUSED(state);
    struct tokenizer *t = demo();
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)(255 - i);
    assert_round_trip(t, (struct str){all, sizeof all});
    assert_round_trip(t,
                      STR("\xc3\x28 \xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xf4\x90\x80\x80 caf\xc3"));
    uint32_t seed = 1;
    for (int round = 0; round < 200; round++) {
        char noise[97];
        for (size_t i = 0; i < sizeof noise; i++) {
            seed = seed * 1664525u + 1013904223u;
            noise[i] = (char)(seed >> 24);
        }
        assert_round_trip(t, (struct str){noise, sizeof noise - (size_t)round % 90});
    }
    tokenizer_close(t);
}

static void special_text_is_a_token_only_where_it_is_parsed(void **state)
{
    UNUSED(state);
    struct tokenizer *t = demo();
    int32_t end = tokenizer_find(t, STR("<|im_end|>"));
    assert_true(end >= 0);
    struct token_list parsed = encode(t, STR("a<|im_end|><|im_end|"), TOK_PARSE_SPECIAL);
    struct token_list plain = encode(t, STR("a<|im_end|><|im_end|"), 0);
    size_t in_parsed = 0, in_plain = 0;
    for (size_t i = 0; i < parsed.n; i++)
        in_parsed += parsed.ids[i] == end;
    for (size_t i = 0; i < plain.n; i++)
        in_plain += plain.ids[i] == end;
    assert_int_equal(in_parsed, 1); /* the second one isn't whole */
    assert_int_equal(in_plain, 0);
    assert_prints(t, &parsed, STR("a<|im_end|><|im_end|"));
    token_list_fini(&parsed);
    token_list_fini(&plain);
    tokenizer_close(t);
}

static void control_tokens_print_only_when_asked(void **state)
{
    UNUSED(state);
    struct tokenizer *t = demo();
    int32_t end = tokenizer_find(t, STR("<|im_end|>"));
    assert_true(tokenizer_is_eog(t, end));
    assert_true(tokenizer_is_control(t, end));
    assert_int_equal(tokenizer_eos(t), end);
    assert_true(str_is(tokenizer_piece(t, end, true), "<|im_end|>"));
    assert_int_equal(tokenizer_piece(t, end, false).n, 0);
    assert_int_equal(tokenizer_piece(t, -1, true).n, 0);
    assert_int_equal(tokenizer_piece(t, (int32_t)tokenizer_n_vocab(t), true).n, 0);
    assert_false(tokenizer_is_eog(t, -1));
    assert_string_equal(tokenizer_kind(t), "bpe/qwen2");
    tokenizer_close(t);
}

static void encoding_appends_to_what_the_list_holds(void **state)
{
    UNUSED(state);
    struct tokenizer *t = demo();
    struct token_list ids = encode(t, STR("one"), 0);
    size_t first = ids.n;
    struct errmsg why = {{0}};
    assert_int_equal(tokenizer_encode(t, " two", 4, 0, &ids, &why), ERR_OK);
    assert_true(ids.n > first);
    assert_prints(t, &ids, STR("one two"));
    token_list_fini(&ids);
    tokenizer_close(t);
}

/* ------------------------------------------------------------------ vocabularies made here */

enum { BYTES = 256, MAX_TOKENS = 400 };

struct small {
    char chars[BYTES][3];
    struct str tokens[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    float scores[MAX_TOKENS];
    size_t n;
};

static int32_t add(struct small *s, const char *text, int32_t type, float score)
{
    s->tokens[s->n] = str_of(text);
    s->types[s->n] = type;
    s->scores[s->n] = score;
    return (int32_t)s->n++;
}

/* Tokens 0 to 255: the bytes, as byte-level BPE writes them. */
static void add_byte_chars(struct small *s)
{
    for (int b = 0; b < BYTES; b++) {
        vocab_byte_char(b, s->chars[b]);
        add(s, s->chars[b], 1, 0);
    }
}

/* Tokens 0 to 2: unknown, begin, end; 3 to 258: the bytes, as SentencePiece writes them. */
static void add_byte_tokens(struct small *s)
{
    static char names[BYTES][8];
    add(s, "<unk>", 2, 0);
    add(s, "<s>", 3, 0);
    add(s, "</s>", 3, 0);
    for (int b = 0; b < BYTES; b++) {
        snprintf(names[b], sizeof names[b], "<0x%02X>", b);
        add(s, names[b], 6, 0);
    }
}

static void put_tokens(struct vocab_file *f, const struct small *s)
{
    vocab_strings(f, "tokenizer.ggml.tokens", s->tokens, s->n);
    vocab_i32s(f, "tokenizer.ggml.token_type", s->types, s->n);
    vocab_f32s(f, "tokenizer.ggml.scores", s->scores, s->n);
}

static struct tokenizer *open_file(struct vocab_file *f)
{
    struct gguf *g = vocab_open_gguf(f);
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    gguf_close(g);
    vocab_free(f); /* the tokenizer must not point into the file any more */
    return t;
}

static void bpe_merges_by_rank_then_from_the_left(void **state)
{
    UNUSED(state);
    struct small s = {.n = 0};
    struct vocab_file f;
    const struct str merges[] = {STR("b c"), STR("a a"), STR("a b"), STR("aa a"), STR("bc d")};
    add_byte_chars(&s);
    int32_t ab = add(&s, "ab", 1, 0), bc = add(&s, "bc", 1, 0), aa = add(&s, "aa", 1, 0),
            aaa = add(&s, "aaa", 1, 0);
    vocab_begin(&f, "gpt2");
    vocab_str(&f, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(&f, &s);
    vocab_strings(&f, "tokenizer.ggml.merges", merges, COUNT(merges));
    struct tokenizer *t = open_file(&f);
    ASSERT_IDS(t, "abc", 0, 'a', bc); /* rank 0 before rank 2 */
    ASSERT_IDS(t, "ab", 0, ab);
    ASSERT_IDS(t, "aaaaa", 0, aa, aaa);     /* aa aa a -> aa aaa */
    ASSERT_IDS(t, "ab ab", 0, ab, ' ', ab); /* words don't merge across */
    ASSERT_IDS(t, "bcd", 0, 'b', 'c', 'd'); /* "bcd" merges but is no token: its bytes are */
    tokenizer_close(t);
}

static void bos_and_eos_go_where_the_file_asks_for_them(void **state)
{
    UNUSED(state);
    for (int bits = 0; bits < 4; bits++) {
        struct small s = {.n = 0};
        struct vocab_file f;
        add_byte_chars(&s);
        int32_t bos = add(&s, "<s>", 3, 0), eos = add(&s, "</s>", 3, 0), want[4];
        size_t n = 0;
        vocab_begin(&f, "gpt2");
        vocab_str(&f, "tokenizer.ggml.pre", "llama-bpe"); /* adds BOS where the file is silent */
        put_tokens(&f, &s);
        vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
        vocab_u32(&f, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
        vocab_u32(&f, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
        vocab_bool(&f, "tokenizer.ggml.add_bos_token", bits & 1);
        vocab_bool(&f, "tokenizer.ggml.add_eos_token", bits & 2);
        struct tokenizer *t = open_file(&f);
        if (bits & 1)
            want[n++] = bos;
        want[n++] = 'x';
        if (bits & 2)
            want[n++] = eos;
        assert_ids(t, STR("x"), TOK_ADD_SPECIAL, want, n);
        ASSERT_IDS(t, "x", 0, 'x');
        assert_int_equal(tokenizer_add_bos(t), bits & 1);
        assert_int_equal(tokenizer_add_eos(t), (bits & 2) != 0);
        assert_true(tokenizer_is_eog(t, eos));
        assert_false(tokenizer_is_eog(t, bos));
        tokenizer_close(t);
    }
}

static void user_defined_tokens_are_found_in_any_text_longest_first(void **state)
{
    UNUSED(state);
    struct small s = {.n = 0};
    struct vocab_file f;
    add_byte_chars(&s);
    int32_t one = add(&s, "<x>", 4, 0), two = add(&s, "<x><x>", 4, 0),
            control = add(&s, "<c>", 3, 0);
    int32_t turn = add(&s, "<|im_end|>", 4, 0); /* typed as a user's, but it ends a turn */
    vocab_begin(&f, "gpt2");
    vocab_str(&f, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(&f, &s);
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    struct tokenizer *t = open_file(&f);
    ASSERT_IDS(t, "a<x><x><x>b", 0, 'a', two, one, 'b');
    ASSERT_IDS(t, "<c>", 0, '<', 'c', '>');
    ASSERT_IDS(t, "<c>", TOK_PARSE_SPECIAL, control);
    assert_true(tokenizer_is_eog(t, turn));
    struct token_list ids =
        encode(t, STR("<|im_end|>"), 0); /* a user can't write the end of a turn */
    assert_int_equal(ids.n, strlen("<|im_end|>"));
    token_list_fini(&ids);
    tokenizer_close(t);
}

static void known_ends_of_turn_end_a_generation(void **state)
{
    UNUSED(state);
    for (int oss = 0; oss < 2; oss++) {
        struct small s = {.n = 0};
        struct vocab_file f;
        add_byte_chars(&s);
        int32_t end = add(&s, "<|end|>", 3, 0), eot = add(&s, "<|eot_id|>", 1, 0);
        int32_t eom = add(&s, "<stop>", 3, 0), user = add(&s, "<|user|>", 3, 0);
        if (oss) {
            add(&s, "<|return|>", 3, 0);
            add(&s, "<|call|>", 3, 0);
        }
        vocab_begin(&f, "gpt2");
        put_tokens(&f, &s);
        vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
        vocab_u32(&f, "tokenizer.ggml.eom_token_id", (uint32_t)eom);
        struct tokenizer *t = open_file(&f);
        assert_int_equal(tokenizer_is_eog(t, end),
                         !oss);                /* gpt-oss ends a part of an answer with it */
        assert_true(tokenizer_is_eog(t, eot)); /* by its text, though typed as a normal token */
        assert_true(tokenizer_is_control(t, eot));
        assert_true(tokenizer_is_eog(t, eom)); /* by the file */
        assert_false(tokenizer_is_eog(t, user));
        assert_false(tokenizer_is_eog(t, 'a'));
        tokenizer_close(t);
    }
}

static void sentencepiece_merges_by_score_and_falls_back_to_bytes(void **state)
{
    UNUSED(state);
    struct small s = {.n = 0};
    struct vocab_file f;
    add_byte_tokens(&s);
    add(&s, "a", 1, -10);
    int32_t b = add(&s, "b", 1, -11), ab = add(&s, "ab", 1, -3), ba = add(&s, "ba", 1, -2);
    int32_t space = add(&s, "\u2581", 1, -1), space_a = add(&s, "\u2581a", 1, -5);
    vocab_begin(&f, "llama");
    put_tokens(&f, &s);
    struct tokenizer *t = open_file(&f);
    ASSERT_IDS(t, "ab", 0, space, ab);     /* the space prefix; ab (-3) before ▁a (-5) */
    ASSERT_IDS(t, "bab", 0, space, ba, b); /* ba (-2) before ab (-3) */
    ASSERT_IDS(t, "a", TOK_ADD_SPECIAL, 1, space_a);
    ASSERT_IDS(t, "\u00e9", 0, space, 3 + 0xc3, 3 + 0xa9);
    ASSERT_IDS(t, "<s>", 0, space, 3 + '<', 3 + 's',
               3 + '>'); /* merging never makes a control token */
    ASSERT_IDS(t, "<s>a", TOK_PARSE_SPECIAL, 1, space_a);
    ASSERT_IDS(t, "<0x41>", 0, space, 3 + '<', 3 + '0', 3 + 'x', 3 + '4', 3 + '1', 3 + '>');
    assert_round_trip(t, STR("a \xff b\xc3  \n"));
    assert_string_equal(tokenizer_kind(t), "spm");
    tokenizer_close(t);
}

static void phi3_special_tokens_take_the_white_space_behind_them(void **state)
{
    UNUSED(state);
    struct small s = {.n = 0};
    struct vocab_file f;
    add_byte_tokens(&s);
    int32_t user = add(&s, "<|user|>", 3, 0), a = add(&s, "\u2581a", 1, 0),
            space = add(&s, "\u2581", 1, 0);
    add(&s, "a", 1, 0);
    vocab_begin(&f, "llama");
    vocab_str(&f, "general.architecture", "phi3");
    put_tokens(&f, &s);
    struct tokenizer *t = open_file(&f);
    ASSERT_IDS(t, "<|user|> \n a <|user|>", TOK_PARSE_SPECIAL, user, a, space, user);
    tokenizer_close(t);
}

static void wordpiece_takes_the_longest_pieces_of_clean_words(void **state)
{
    UNUSED(state);
    struct small s = {.n = 0};
    struct vocab_file f;
    int32_t unk = add(&s, "[UNK]", 3, 0), cls = add(&s, "[CLS]", 3, 0),
            sep = add(&s, "[SEP]", 3, 0);
    int32_t play = add(&s, "\u2581play", 1, 0), ing = add(&s, "ing", 1, 0),
            comma = add(&s, "\u2581,", 1, 0);
    int32_t cafe = add(&s, "\u2581cafe", 1, 0), cjk = add(&s, "\u2581\u4f60", 1, 0);
    vocab_begin(&f, "bert");
    put_tokens(&f, &s);
    vocab_u32(&f, "tokenizer.ggml.unknown_token_id", (uint32_t)unk);
    vocab_u32(&f, "tokenizer.ggml.cls_token_id", (uint32_t)cls);
    vocab_u32(&f, "tokenizer.ggml.seperator_token_id", (uint32_t)sep);
    struct tokenizer *t = open_file(&f);
    ASSERT_IDS(t, "Playing,play", TOK_ADD_SPECIAL, cls, play, ing, comma, play, sep);
    ASSERT_IDS(t, " \t caf\u00e9\u4f60\u4f60 ", 0, cafe, cjk, cjk);
    ASSERT_IDS(t, "playx play", 0, unk, play); /* a word that isn't covered is one unknown */
    ASSERT_IDS(t,
               "pl\xff"
               "ay",
               0, play); /* like a control character */
    ASSERT_IDS(t, "[CLS]", TOK_PARSE_SPECIAL, cls);
    tokenizer_close(t);
}

static void unigram_takes_the_best_path(void **state)
{
    UNUSED(state);
    struct small s = {.n = 0};
    struct vocab_file f;
    int32_t unk = add(&s, "<unk>", 2, 0), end = add(&s, "</s>", 3, 0);
    int32_t space = add(&s, "\u2581", 1, -2), ab = add(&s, "\u2581ab", 1, -4),
            c = add(&s, "c", 1, -3);
    int32_t a = add(&s, "\u2581a", 1, -3), bc = add(&s, "bc", 1, -3.5f);
    add(&s, "b", 1, -5);
    vocab_begin(&f, "t5");
    put_tokens(&f, &s);
    vocab_u32(&f, "tokenizer.ggml.unknown_token_id", (uint32_t)unk);
    vocab_u32(&f, "tokenizer.ggml.eos_token_id", (uint32_t)end);
    vocab_bool(&f, "tokenizer.ggml.add_space_prefix", true);
    vocab_bool(&f, "tokenizer.ggml.remove_extra_whitespaces", true);
    struct tokenizer *t = open_file(&f);
    ASSERT_IDS(t, "abc", 0, a, bc); /* -6.5, not -7 */
    ASSERT_IDS(t, " ab   c ", TOK_ADD_SPECIAL, ab, space, c, end);
    ASSERT_IDS(t, "ab\u00e9\u00e8\xff", 0, ab, unk); /* neighbours are one unknown */
    ASSERT_IDS(t, "abz", 0, ab, unk);
    tokenizer_close(t);
}

/* ------------------------------------------------------------------ pre-tokenizers */

static void every_pretokenizer_of_the_table_cuts_without_loss(void **state)
{
    UNUSED(state);
    static const char text[] =
        "It's 12345 l'\u00e9t\u00e9: \u4e2d\u6587\u3001\u3053\u3093\u306b\u3061\u306f!? \t\r\n\n  "
        "x_y--z  <|a|> "
        "\U0001f600\U0001f44d\u0661\u0662 \x80\xff HTTPServer IMGIMGABCZ  \n ";
    assert_true(pretokenizer_count() >= 40);
    for (size_t row = 0; row < pretokenizer_count(); row++) {
        struct pretokenizer *p = NULL;
        struct cuts cuts = {0};
        struct errmsg why = {{0}};
        uint32_t before = 0;
        if (pretokenizer_open(&p, str_of(pretokenizer_name(row)), "x.gguf", &why) ||
            pretokenizer_split(p, text, sizeof text - 1, &cuts, &why))
            fail_msg("%s", why.text);
        assert_true(cuts.n > 5);
        for (size_t i = 0; i < cuts.n; i++) {
            assert_true(cuts.ends[i] > before);
            before = cuts.ends[i];
        }
        assert_int_equal(before, sizeof text - 1);
        cuts_fini(&cuts);
        pretokenizer_close(p);
    }
}

static void assert_words(const char *name, const char *text, const char *const *want, size_t n)
{
    struct pretokenizer *p = NULL;
    struct cuts cuts = {0};
    struct errmsg why = {{0}};
    uint32_t begin = 0;
    assert_int_equal(pretokenizer_open(&p, str_of(name), "x.gguf", &why), ERR_OK);
    assert_int_equal(pretokenizer_split(p, text, strlen(text), &cuts, &why), ERR_OK);
    assert_int_equal(cuts.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(cuts.ends[i] - begin, strlen(want[i]));
        assert_memory_equal(text + begin, want[i], strlen(want[i]));
        begin = cuts.ends[i];
    }
    cuts_fini(&cuts);
    pretokenizer_close(p);
}
#define ASSERT_WORDS(name, text, ...)                                                              \
    assert_words(name, text, (const char *const[]){__VA_ARGS__},                                   \
                 COUNT(((const char *const[]){__VA_ARGS__})))

static void words_are_cut_as_the_models_cut_them(void **state)
{
    UNUSED(state);
    ASSERT_WORDS("qwen2", "I'M 123  ok\n\n x", "I", "'M", " ", "1", "2", "3", " ", " ok", "\n\n",
                 " x");
    ASSERT_WORDS("llama-bpe", "12345 (a) \n", "123", "45", " (", "a", ")", " \n");
    ASSERT_WORDS("gpt-2", "I'm  12a", "I", "'m", " ", " 12", "a");
    ASSERT_WORDS("deepseek-v3", "a1234 ~~", "a", "123", "4", " ~~");
    ASSERT_WORDS("tekken", "helloWorld HTTPServer \u00e9t\u00c9", "hello", "World", " HTTPServer",
                 " \u00e9t", "\u00c9");
    ASSERT_WORDS("starcoder", "x12 34", "x", "1", "2", " ", "3", "4");
    ASSERT_WORDS("qwen2", "a\u180e b", "a", "\u180e",
                 " b"); /* U+180E is no white space since Unicode 6.3 */
}

/* ------------------------------------------------------------------ metadata that lies */

static void assert_refused(struct vocab_file *f, enum err want, const char *says)
{
    struct gguf *g = vocab_open_gguf(f);
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    enum err e = tokenizer_open(&t, g, &why);
    if (e != want || !strstr(why.text, says) || t)
        fail_msg("%s '%s' where %s with '%s' was expected", err_name(e), why.text, err_name(want),
                 says);
    gguf_close(g);
    vocab_free(f);
}

/* A complete byte-level vocabulary, which each test breaks in one place. */
static void begin_good(struct vocab_file *f, struct small *s, const char *model)
{
    *s = (struct small){.n = 0};
    vocab_begin(f, model);
    add_byte_chars(s);
    add(s, "<s>", 3, 0);
}

static void unknown_models_and_pretokenizers_are_refused_by_name(void **state)
{
    UNUSED(state);
    struct vocab_file f;
    struct small s;
    vocab_begin(&f, NULL);
    assert_refused(&f, ERR_INVALID, "tokenizer.ggml.model");
    vocab_begin(&f, "rwkv");
    assert_refused(&f, ERR_UNSUPPORTED, "'rwkv'");
    begin_good(&f, &s, "gpt2");
    put_tokens(&f, &s);
    vocab_str(&f, "tokenizer.ggml.pre", "qwen99");
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    assert_refused(&f, ERR_UNSUPPORTED, "'qwen99'");
}

static void wrong_token_arrays_are_refused(void **state)
{
    UNUSED(state);
    struct vocab_file f;
    struct small s;
    vocab_begin(&f, "gpt2");
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    assert_refused(&f, ERR_INVALID, "tokenizer.ggml.tokens");

    vocab_begin(&f, "gpt2");
    vocab_strings(&f, "tokenizer.ggml.tokens", NULL, 0);
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    assert_refused(&f, ERR_INVALID, "0 entries");

    begin_good(&f, &s, "gpt2");
    vocab_i32s(&f, "tokenizer.ggml.tokens", s.types, s.n); /* numbers, not texts */
    assert_refused(&f, ERR_INVALID, "array of strings");

    begin_good(&f, &s, "gpt2");
    vocab_strings(&f, "tokenizer.ggml.tokens", s.tokens, s.n);
    vocab_i32s(&f, "tokenizer.ggml.token_type", s.types, s.n - 1);
    assert_refused(&f, ERR_INVALID, "256 entries for 257 tokens");

    begin_good(&f, &s, "llama");
    vocab_strings(&f, "tokenizer.ggml.tokens", s.tokens, s.n);
    vocab_f32s(&f, "tokenizer.ggml.scores", s.scores, 3);
    assert_refused(&f, ERR_INVALID, "3 entries for 257 tokens");

    begin_good(&f, &s, "llama");
    vocab_strings(&f, "tokenizer.ggml.tokens", s.tokens, s.n);
    assert_refused(&f, ERR_INVALID, "tokenizer.ggml.scores");

    begin_good(&f, &s, "llama");
    s.scores[5] = (float)(0.0 / (double)(s.n - 257));
    put_tokens(&f, &s);
    assert_refused(&f, ERR_INVALID, "scores[5]");

    begin_good(&f, &s, "gpt2");
    s.types[7] = 9;
    put_tokens(&f, &s);
    assert_refused(&f, ERR_INVALID, "token_type[7]");

    begin_good(&f, &s, "gpt2");
    s.types[7] = 6; /* a byte, but not written as one */
    put_tokens(&f, &s);
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    assert_refused(&f, ERR_INVALID, "token 7");
}

static void wrong_special_ids_are_refused(void **state)
{
    UNUSED(state);
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.unknown_token_id"};
    struct vocab_file f;
    struct small s;
    for (size_t i = 0; i < COUNT(keys); i++) {
        begin_good(&f, &s, "gpt2");
        put_tokens(&f, &s);
        vocab_u32(&f, keys[i], 257);
        vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
        assert_refused(&f, ERR_INVALID, keys[i]);
    }
    begin_good(&f, &s, "gpt2");
    put_tokens(&f, &s);
    vocab_bool(&f, "tokenizer.ggml.add_bos_token", true);
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    assert_refused(&f, ERR_INVALID, "add_bos_token is true");

    begin_good(&f, &s, "gpt2");
    put_tokens(&f, &s);
    vocab_str(&f, "tokenizer.ggml.eos_token_id", "256");
    assert_refused(&f, ERR_INVALID, "not an integer");

    begin_good(
        &f, &s,
        "bert"); /* 257 tokens: [CLS] would be 101 by default, the words don't start with ▁ */
    put_tokens(&f, &s);
    assert_refused(&f, ERR_UNSUPPORTED, "WordPiece");
}

static void missing_and_malformed_merges_are_refused(void **state)
{
    UNUSED(state);
    static const char *const broken[] = {"", " ", "a", "ab", "a ", " a", "ab "};
    struct vocab_file f;
    struct small s;
    begin_good(&f, &s, "gpt2");
    put_tokens(&f, &s);
    assert_refused(&f, ERR_INVALID, "tokenizer.ggml.merges");
    for (size_t i = 0; i < COUNT(broken); i++) {
        const struct str merges[] = {STR("a b"), str_of(broken[i])};
        begin_good(&f, &s, "gpt2");
        put_tokens(&f, &s);
        vocab_strings(&f, "tokenizer.ggml.merges", merges, 2);
        assert_refused(&f, ERR_INVALID, "merges[1]");
    }
}

static void merges_in_circles_and_twice_are_harmless(void **state)
{
    UNUSED(state);
    struct vocab_file f;
    struct small s;
    const struct str merges[] = {
        STR("a b"),  STR("b a"),           STR("ab a"), STR("a ba"),  STR("aba aba"),  STR("a b"),
        STR("ab a"), STR("\u4e2d \u6587"), STR("a a"),  STR("aa aa"), STR("aaaa aaaa")};
    begin_good(&f, &s, "gpt2");
    put_tokens(&f, &s); /* no merged text is a token */
    vocab_strings(&f, "tokenizer.ggml.merges", merges, COUNT(merges));
    struct tokenizer *t = open_file(&f);
    assert_round_trip(t, STR("abababababaaaaaaaaaaaaaaaaabbbbbbbbaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                             "aaaaaaaaaaaaaaaaa"));
    ASSERT_IDS(t, "aba", 0, 'a', 'b', 'a');
    tokenizer_close(t);
}

static void damaged_character_maps_are_refused_or_harmless(void **state)
{
    UNUSED(state);
    static const unsigned char bad_sizes[][8] = {{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
                                                 {4, 0, 0, 0, 0, 0, 0, 0},
                                                 {3, 0, 0, 0, 0, 0, 0, 0},
                                                 {0, 0, 0, 0, 0, 0, 0, 0}};
    struct vocab_file f;
    struct small s;
    for (size_t i = 0; i < COUNT(bad_sizes); i++) {
        begin_good(&f, &s, "t5");
        put_tokens(&f, &s);
        vocab_bytes(&f, "tokenizer.ggml.precompiled_charsmap", bad_sizes[i],
                    i == 1 ? 8 : sizeof bad_sizes[i]);
        assert_refused(&f, ERR_INVALID, "precompiled_charsmap");
    }
    uint32_t seed = 7; /* any links in the array: no loop, no read outside of it */
    for (int round = 0; round < 300; round++) {
        unsigned char map[4 + 4 * 64 + 8] = {0, 1};
        for (size_t i = 4; i < sizeof map - 1; i++) {
            seed = seed * 1664525u + 1013904223u;
            map[i] = (unsigned char)(seed >> (i % 4 == 0 ? 30 : 24));
        }
        begin_good(&f, &s, "t5");
        put_tokens(&f, &s);
        vocab_u32(&f, "tokenizer.ggml.unknown_token_id", 0);
        vocab_bytes(&f, "tokenizer.ggml.precompiled_charsmap", map, sizeof map);
        struct tokenizer *t = open_file(&f);
        struct token_list ids = encode(t, STR("\x01\x02\x03\x01\x01\x02 abc \xff\xfe\x03\x03"), 0);
        token_list_fini(&ids);
        tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_unchanged),
        cmocka_unit_test(bytes_that_are_not_utf8_come_back_unchanged),
        cmocka_unit_test(special_text_is_a_token_only_where_it_is_parsed),
        cmocka_unit_test(control_tokens_print_only_when_asked),
        cmocka_unit_test(encoding_appends_to_what_the_list_holds),
        cmocka_unit_test(bpe_merges_by_rank_then_from_the_left),
        cmocka_unit_test(bos_and_eos_go_where_the_file_asks_for_them),
        cmocka_unit_test(user_defined_tokens_are_found_in_any_text_longest_first),
        cmocka_unit_test(known_ends_of_turn_end_a_generation),
        cmocka_unit_test(sentencepiece_merges_by_score_and_falls_back_to_bytes),
        cmocka_unit_test(phi3_special_tokens_take_the_white_space_behind_them),
        cmocka_unit_test(wordpiece_takes_the_longest_pieces_of_clean_words),
        cmocka_unit_test(unigram_takes_the_best_path),
        cmocka_unit_test(every_pretokenizer_of_the_table_cuts_without_loss),
        cmocka_unit_test(words_are_cut_as_the_models_cut_them),
        cmocka_unit_test(unknown_models_and_pretokenizers_are_refused_by_name),
        cmocka_unit_test(wrong_token_arrays_are_refused),
        cmocka_unit_test(wrong_special_ids_are_refused),
        cmocka_unit_test(missing_and_malformed_merges_are_refused),
        cmocka_unit_test(merges_in_circles_and_twice_are_harmless),
        cmocka_unit_test(damaged_character_maps_are_refused_or_harmless),
    };
    return RUN_TESTS(tests);
}
