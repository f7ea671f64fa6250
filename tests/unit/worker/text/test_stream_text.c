/* test_stream_text.c - the streaming detokenizer: whatever the cut into tokens, the delivered text
 * is the same; what can't be shown yet is held, and no more than that. The vocabulary is the 256
 * bytes and a few longer pieces. */
#include "shared/base/utf8.h"
#include "tests/support/test.h"
#include "tests/support/vocab.h"
#include "worker/text/stream_text.h"

#include <stdio.h>

enum { BYTES = 256, CONTROL = 256, EXTRA = 257 };

/* Tokens 0 to 255 are the bytes, 256 is a control token, then come `extra` as normal tokens. */
static struct tokenizer *open_bytes(const char *const *extra, size_t n_extra)
{
    static char chars[BYTES][3];
    struct str tokens[BYTES + 64];
    int32_t types[BYTES + 64];
    struct vocab_file f;
    size_t n = 0;
    for (; n < BYTES; n++) {
        vocab_byte_char((int)n, chars[n]);
        tokens[n] = str_of(chars[n]);
        types[n] = 1;
    }
    tokens[n] = STR("<|im_end|>");
    types[n++] = 3;
    for (size_t i = 0; i < n_extra; i++, n++) {
        tokens[n] =
            str_of(extra[i]); /* ASCII letters, digits and '!', which stand for themselves */
        types[n] = 1;
    }
    vocab_begin(&f, "gpt2");
    vocab_strings(&f, "tokenizer.ggml.tokens", tokens, n);
    vocab_i32s(&f, "tokenizer.ggml.token_type", types, n);
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    struct gguf *g = vocab_open_gguf(&f);
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    gguf_close(g);
    vocab_free(&f);
    return t;
}

/* What all feeds and the end delivered, and where the stop came. */
struct run {
    struct buf out;
    int32_t stop;
    size_t n_fed;
};

static void feed_all(struct run *r, const struct tokenizer *t, const int32_t *ids, size_t n,
                     const struct str *stops, size_t n_stops)
{
    struct stream_text *s = NULL;
    buf_init(&r->out);
    r->stop = -1;
    r->n_fed = 0;
    assert_int_equal(stream_text_open(&s, t, stops, n_stops), ERR_OK);
    while (r->n_fed < n && r->stop < 0) {
        size_t before = r->out.n;
        assert_int_equal(stream_text_feed(s, ids[r->n_fed++], &r->out, &r->stop), ERR_OK);
        assert_true(
            utf8_valid(r->out.p ? r->out.p + before : "", r->out.n - before)); /* each portion */
    }
    assert_int_equal(stream_text_end(s, &r->out), ERR_OK);
    stream_text_close(s);
}

static void assert_text(const struct run *r, struct str want)
{
    if (r->out.n != want.n || (want.n && memcmp(r->out.p, want.p, want.n) != 0))
        fail_msg("'%.*s' where '%.*s' was expected", (int)r->out.n, r->out.p ? r->out.p : "",
                 STR_ARG(want));
}

/* The bytes of `text`, a token each, with these stop strings. */
static void assert_stream(struct str text, const struct str *stops, size_t n_stops, struct str want,
                          int32_t want_stop)
{
    struct tokenizer *t = open_bytes(NULL, 0);
    int32_t *ids = calloc(text.n + 1, sizeof *ids);
    struct run r;
    assert_non_null(ids);
    for (size_t i = 0; i < text.n; i++)
        ids[i] = (unsigned char)text.p[i];
    feed_all(&r, t, ids, text.n, stops, n_stops);
    assert_text(&r, want);
    assert_int_equal(r.stop, want_stop);
    buf_fini(&r.out);
    free(ids);
    tokenizer_close(t);
}
#define STOPS(...) (const struct str[]){__VA_ARGS__}, COUNT(((const struct str[]){__VA_ARGS__}))

static void text_before_a_stop_string_is_delivered_and_the_stop_is_not(void **state)
{
    UNUSED(state);
    assert_stream(STR("one\nUser: two"), STOPS(STR("\nUser:")), STR("one"), 0);
    assert_stream(STR("one two"), STOPS(STR("three"), STR(" t")), STR("one"), 1);
    assert_stream(STR("\u4f60\u597d\u3002x"), STOPS(STR("\u3002")), STR("\u4f60\u597d"), 0);
}

static void a_stop_string_at_the_very_start_leaves_nothing(void **state)
{
    UNUSED(state);
    assert_stream(STR("END of it"), STOPS(STR("END")), STR(""), 0);
    assert_stream(STR("x"), STOPS(STR("x")), STR(""), 0);
}

static void what_only_looks_like_a_stop_string_is_delivered_in_the_end(void **state)
{
    UNUSED(state);
    assert_stream(STR("a EN"), STOPS(STR("END")), STR("a EN"), -1);
    assert_stream(STR("aaaab"), STOPS(STR("aaab")), STR("a"),
                  0); /* the match starts inside the first try */
    assert_stream(STR("ababac"), STOPS(STR("abac")), STR("ab"), 0);
    assert_stream(STR("aabaaabaaac"), STOPS(STR("aabaaac")), STR("aaba"), 0);
    assert_stream(STR("ENENEND"), STOPS(STR("END")), STR("ENEN"), 0);
}

static void of_overlapping_stop_strings_the_one_complete_first_counts(void **state)
{
    UNUSED(state);
    assert_stream(STR("xabcd"), STOPS(STR("abcd"), STR("bc")), STR("xa"), 1);
    assert_stream(STR("xabcd"), STOPS(STR("bcd"), STR("abcd")), STR("x"),
                  1); /* same end: the earlier start */
    assert_stream(STR("xabcd"), STOPS(STR("ab"), STR("abc")), STR("x"), 0);
    assert_stream(STR("abab!"), STOPS(STR("abac"), STR("ab!")), STR("ab"), 1);
}

static void broken_utf8_becomes_replacement_characters_as_in_the_whole_text(void **state)
{
    UNUSED(state);
    static const struct str texts[] = {STR("a\xffz"),
                                       STR("\xe2\x82"),
                                       STR("\xe2\x82(\xf0\x9f\x98"),
                                       STR("\xed\xa0\x80"),
                                       STR("\xf0\x9f\x98\x80\xf0\x9f"),
                                       STR("\xc3\xc3\xa9"),
                                       STR("\x80\x80"),
                                       STR("")};
    for (size_t i = 0; i < COUNT(texts); i++) {
        char want[64];
        size_t n = utf8_sanitize(texts[i].p, texts[i].n, want);
        assert_stream(texts[i], NULL, 0, (struct str){want, n}, -1);
        assert_stream(texts[i], STOPS(STR("not there"), STR("\xf0\x9f\x98\x81")),
                      (struct str){want, n}, -1);
    }
    assert_stream(STR("a\xe2\x82"), STOPS(STR("\ufffd")), STR("a"),
                  -1); /* completed only by the end */
    assert_stream(STR("a\xe2\x82z"), STOPS(STR("\ufffd")), STR("a"), 0);
}

static void nothing_is_held_that_could_be_shown(void **state)
{
    UNUSED(state);
    struct tokenizer *t = open_bytes(NULL, 0);
    struct stream_text *s = NULL;
    struct buf out;
    int32_t stop;
    /* fed, then delivered so far */
    static const struct {
        unsigned char byte;
        const char *shown;
    } steps[] = {{'a', "a"},
                 {0xe4, "a"},
                 {0xbd, "a"},
                 {0xa0, "a\u4f60"},
                 {'E', "a\u4f60"},
                 {'N', "a\u4f60"},
                 {'E', "a\u4f60EN"},
                 {'x', "a\u4f60ENEx"},
                 {0xf0, "a\u4f60ENEx"},
                 {'y', "a\u4f60ENEx\ufffdy"}};
    buf_init(&out);
    assert_int_equal(stream_text_open(&s, t, STOPS(STR("END"))), ERR_OK);
    for (size_t i = 0; i < COUNT(steps); i++) {
        assert_int_equal(stream_text_feed(s, steps[i].byte, &out, &stop), ERR_OK);
        assert_int_equal(stop, -1);
        assert_string_equal(out.p, steps[i].shown);
    }
    stream_text_close(s);
    buf_fini(&out);
    tokenizer_close(t);
}

static void control_tokens_and_ids_out_of_range_add_nothing(void **state)
{
    UNUSED(state);
    struct tokenizer *t = open_bytes(NULL, 0);
    const int32_t ids[] = {'a', CONTROL, 'b', -1, 0xe4, CONTROL, 0xbd, 1 << 30, 0xa0, CONTROL};
    struct run r;
    feed_all(&r, t, ids, COUNT(ids), NULL, 0);
    assert_text(&r, STR("ab\u4f60"));
    buf_fini(&r.out);
    tokenizer_close(t);
}

/* Draws tokens whose pieces are short runs over a small alphabet, so that stop strings meet often,
 * and feeds the same text as single bytes. */
static void every_cut_into_tokens_delivers_the_same_text(void **state)
{
    UNUSED(state);
    enum { PIECES = 40, LEN = 60 };
    char names[PIECES][8];
    const char *extra[PIECES];
    uint32_t seed = 5;
    for (int i = 0; i < PIECES; i++) {
        int n = 2 + i % 5;
        for (int k = 0; k < n; k++) {
            seed = seed * 1664525u + 1013904223u;
            names[i][k] = "abc"[(seed >> 20) % 3];
        }
        names[i][n] = '\0';
        extra[i] = names[i];
    }
    struct tokenizer *t = open_bytes(extra, PIECES);
    const struct str stops[] = {STR("abacab"), STR("bb"),     STR("cabcab"),
                                STR("acc"),    STR("aabaab"), STR("caca\u00e9")};
    size_t n_stopped = 0;
    for (int round = 0; round < 3000; round++) {
        int32_t ids[LEN], bytes[LEN * 8];
        size_t n = 0, n_bytes = 0, n_stops = 1 + (size_t)round % COUNT(stops);
        for (; n < LEN; n++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t pick = seed >> 16;
            ids[n] = pick % 7 == 0 ? 0x80 + (int32_t)(pick >> 3) % 128
                                   : EXTRA + (int32_t)(pick % PIECES);
            struct str piece = tokenizer_piece(t, ids[n], false);
            for (size_t i = 0; i < piece.n; i++)
                bytes[n_bytes++] = (unsigned char)piece.p[i];
        }
        struct run a, b, again;
        feed_all(&a, t, ids, n, stops + COUNT(stops) - n_stops, n_stops);
        feed_all(&b, t, bytes, n_bytes, stops + COUNT(stops) - n_stops, n_stops);
        feed_all(&again, t, ids, n, stops + COUNT(stops) - n_stops, n_stops);
        assert_text(&a, (struct str){b.out.p, b.out.n});
        assert_text(&a, (struct str){again.out.p, again.out.n});
        assert_int_equal(a.stop, b.stop);
        assert_int_equal(a.n_fed, again.n_fed);
        n_stopped += a.stop >= 0;
        buf_fini(&a.out);
        buf_fini(&b.out);
        buf_fini(&again.out);
    }
    assert_in_range(n_stopped, 300, 2999); /* both ends were met */
    tokenizer_close(t);
}

static void without_stop_strings_it_equals_the_sanitised_whole(void **state)
{
    UNUSED(state);
    struct tokenizer *t = open_bytes(NULL, 0);
    uint32_t seed = 11;
    for (int round = 0; round < 500; round++) {
        char bytes[80], want[240];
        int32_t ids[80];
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            static const unsigned char pool[] = {'a',  0xe4, 0xbd, 0xa0, 0xf0, 0x9f,
                                                 0x98, 0x80, 0xc3, 0xa9, 0xed, 0xf4};
            ids[i] = pool[(seed >> 16) % sizeof pool];
            bytes[i] = (char)ids[i];
        }
        struct run r;
        feed_all(&r, t, ids, COUNT(ids), NULL, 0);
        assert_text(&r, (struct str){want, utf8_sanitize(bytes, sizeof bytes, want)});
        buf_fini(&r.out);
    }
    tokenizer_close(t);
}

static void many_long_stop_strings_work_at_once(void **state)
{
    UNUSED(state);
    enum { N = 16, LEN = 256 };
    char texts[N][LEN], fed[LEN * 3];
    struct str stops[N];
    for (int i = 0; i < N; i++) { /* all alike but for the last byte: the worst to tell apart */
        memset(texts[i], 'a', LEN);
        texts[i][LEN - 1] = (char)('b' + i);
        stops[i] = (struct str){texts[i], LEN};
    }
    memset(fed, 'a', sizeof fed);
    fed[sizeof fed - 1] = 'f';
    assert_stream((struct str){fed, sizeof fed}, stops, N, (struct str){fed, sizeof fed - LEN}, 4);
    assert_stream((struct str){fed, sizeof fed - 1}, stops, N, (struct str){fed, sizeof fed - 1},
                  -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_before_a_stop_string_is_delivered_and_the_stop_is_not),
        cmocka_unit_test(a_stop_string_at_the_very_start_leaves_nothing),
        cmocka_unit_test(what_only_looks_like_a_stop_string_is_delivered_in_the_end),
        cmocka_unit_test(of_overlapping_stop_strings_the_one_complete_first_counts),
        cmocka_unit_test(broken_utf8_becomes_replacement_characters_as_in_the_whole_text),
        cmocka_unit_test(nothing_is_held_that_could_be_shown),
        cmocka_unit_test(control_tokens_and_ids_out_of_range_add_nothing),
        cmocka_unit_test(every_cut_into_tokens_delivers_the_same_text),
        cmocka_unit_test(without_stop_strings_it_equals_the_sanitised_whole),
        cmocka_unit_test(many_long_stop_strings_work_at_once),
    };
    return RUN_TESTS(tests);
}
