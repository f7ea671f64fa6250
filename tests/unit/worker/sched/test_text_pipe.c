/* test_text_pipe.c - one choice's way from tokens to what the client is told: reasoning, calls and
 * content in their order, stop strings in the content alone, the same for every cut into tokens. */
#include "tests/support/test.h"
#include "tests/support/vocab.h"
#include "worker/sched/engine_model.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

static const char model_path[] = "deploy/models/millrace-tiny-q8_0.gguf";

struct house {
    struct model *model;
    struct tokenizer *tokenizer;
    struct engine_model *engine;
};

static int house_open(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    struct errmsg why = {0};
    if (!h || model_open(&h->model, model_path, &(struct model_opts){.n_threads = 1}, &why) ||
        tokenizer_open(&h->tokenizer, model_gguf(h->model), &why) ||
        engine_model_open(&h->engine, h->model, h->tokenizer, 1, 64,
                          &(struct embed_opts){.pooling = POOL_MODEL}, &why)) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    *state = h;
    return 0;
}

static int house_close(void **state)
{
    struct house *h = *state;
    engine_model_close(h->engine);
    tokenizer_close(h->tokenizer);
    model_close(h->model);
    free(h);
    return 0;
}

struct told { /* R[reasoning]C[content]N0[name]A0[arguments], neighbours of one kind joined */
    struct buf text;
    enum delta_kind kind;
    uint32_t tool_index, reasoning_tokens;
    bool any, called, ended;
    int32_t stop;
    size_t tokens; /* until it ended */
};

static void take(struct told *t, struct text_out *out)
{
    static const char letters[] = "CRNA";
    if (out->text.n > 0 && (!t->any || t->kind != out->kind || t->tool_index != out->tool_index)) {
        if (t->any)
            buf_putc(&t->text, ']');
        buf_putc(&t->text, letters[out->kind]);
        if (out->kind >= DELTA_TOOL_NAME)
            buf_put_u64(&t->text, out->tool_index);
        buf_putc(&t->text, '[');
        t->any = true;
        t->kind = out->kind;
        t->tool_index = out->tool_index;
    }
    buf_put(&t->text, out->text.p, out->text.n);
    t->called = out->called;
    t->reasoning_tokens = out->reasoning_tokens;
    t->ended |= out->ends;
}

/* As choice.c does it. */
static struct told tell(const struct house *h, const struct job_req *r,
                        const struct token_list *ids)
{
    const struct engine *e = engine_model_table(h->engine);
    struct told t = {.stop = -1};
    struct text_out out = {0};
    struct text_pipe *p;
    buf_init(&t.text);
    buf_init(&out.text);
    assert_int_equal(e->text_open(e->self, r, 0, &p), ERR_OK);
    for (size_t i = 0; i < ids->n && t.stop < 0 && !t.ended; i++, t.tokens++) {
        buf_clear(&out.text);
        out.stop = -1;
        out.more = out.ends = false;
        assert_int_equal(e->text_feed(p, ids->ids[i], &out), ERR_OK);
        take(&t, &out);
        while (out.more) {
            buf_clear(&out.text);
            out.more = out.ends = false;
            assert_int_equal(e->text_more(p, &out), ERR_OK);
            take(&t, &out);
        }
        t.stop = out.stop;
    }
    do {
        buf_clear(&out.text);
        out.more = out.ends = false;
        if (t.stop >= 0)
            break;
        assert_int_equal(e->text_end(p, &out), ERR_OK);
        take(&t, &out);
    } while (out.more);
    if (t.any)
        buf_putc(&t.text, ']');
    e->text_close(p);
    buf_fini(&out.text);
    return t;
}

/* In as many tokens as there are code points of `step` in it: 0 means as the model would. */
static void cut(const struct house *h, const char *text, size_t step, struct token_list *out)
{
    struct errmsg why = {0};
    *out = (struct token_list){0};
    size_t n = strlen(text);
    for (size_t at = 0, to; at < n; at = to) {
        struct token_list piece = {0};
        to = step ? at + step : n;
        to = to < n ? to : n;
        while (to < n && ((unsigned char)text[to] & 0xc0) == 0x80)
            to++;
        assert_int_equal(
            tokenizer_encode(h->tokenizer, text + at, to - at, TOK_PARSE_SPECIAL, &piece, &why),
            ERR_OK);
        int32_t *grown = realloc(out->ids, (out->n + piece.n + 1) * sizeof *grown);
        assert_non_null(grown);
        memcpy(grown + out->n, piece.ids, piece.n * sizeof *grown);
        out->ids = grown;
        out->n += piece.n;
        token_list_fini(&piece);
    }
}

#define THOUGHT    "<think>\nhm, 2\xc3\xa9\n</think>\n\n"
#define CALL(name) "<tool_call>\n{\"name\": \"" name "\", \"arguments\": {\"a\": 1}}\n</tool_call>"

static const struct {
    const char *text, *prompt, *stop, *told;
    bool single, stops, called;
} cases[] = {
    {.text = "Just text.", .told = "C[Just text.]"},
    {.text = THOUGHT "Sure.", .told = "R[hm, 2\xc3\xa9]C[Sure.]"},
    {.text = "hm</think>Sure.", .prompt = "<think>\n", .told = "R[hm]C[Sure.]"},
    {.text = THOUGHT "Sure. " CALL("f") "\n" CALL("g"),
     .told = "R[hm, 2\xc3\xa9]C[Sure.]N0[f]A0[{\"a\": 1}]N1[g]A1[{\"a\": 1}]",
     .called = true},
    {.text = THOUGHT "Sure. " CALL("f") "\n" CALL("g"),
     .told = "R[hm, 2\xc3\xa9]C[Sure.]N0[f]A0[{\"a\": 1}]",
     .single = true,
     .called = true},
    /* a stop string counts in the content alone, and what may become one comes at the end */
    {.text = THOUGHT "Sure. Yes.", .stop = "hm", .told = "R[hm, 2\xc3\xa9]C[Sure. Yes.]"},
    {.text = THOUGHT "Sure. " CALL("f"),
     .stop = "re",
     .told = "R[hm, 2\xc3\xa9]C[Su]",
     .stops = true},
    {.text = CALL("f") "Yes.",
     .stop = "Yes. No",
     .told = "N0[f]A0[{\"a\": 1}]C[Yes.]",
     .called = true},
    {.text = "<tool_call> is a tag", .told = "C[<tool_call> is a tag]"},
};

static void answers_are_told_apart_the_same_for_every_cut_into_tokens(void **state)
{
    const struct house *h = *state;
    const struct output_format format =
        output_format_of(STR("a template with <think> and <tool_call> in it"));
    const struct str request = STR("{\"messages\":[],\"tools\":["
                                   "{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
                                   "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct output_wants wants = {
            .reasoning = true, .tools = true, .single_call = cases[i].single};
        struct job_req r = {.n_stops = cases[i].stop ? 1 : 0};
        struct errmsg why = {0};
        if (cases[i].stop)
            r.stops[0] = str_of(cases[i].stop);
        assert_int_equal(output_job_new(&r.output, &format, &wants, request,
                                        str_of(cases[i].prompt ? cases[i].prompt : ""), &why),
                         ERR_OK);
        for (size_t step = 0; step < 9; step++) {
            struct token_list ids;
            cut(h, cases[i].text, step, &ids);
            struct told t = tell(h, &r, &ids);
            buf_putc(&t.text, 0);
            assert_string_equal(t.text.p, cases[i].told);
            assert_int_equal(t.stop, cases[i].stops ? 0 : -1);
            assert_int_equal(t.ended, cases[i].single);
            assert_int_equal(t.called, cases[i].called);
            if (cases[i].single)
                assert_true(t.tokens < ids.n);
            assert_int_equal(t.reasoning_tokens > 0, cases[i].told[0] == 'R');
            token_list_fini(&ids);
            buf_fini(&t.text);
        }
        output_job_free(r.output);
    }
}

static void without_a_parser_all_text_is_content(void **state)
{
    const struct house *h = *state;
    struct job_req r = {.n_stops = 1, .stops = {STR("2")}};
    struct token_list ids;
    cut(h, THOUGHT, 0, &ids);
    struct told t = tell(h, &r, &ids);
    buf_putc(&t.text, 0);
    assert_string_equal(t.text.p, "C[<think>\nhm, ]");
    assert_int_equal(t.stop, 0);
    token_list_fini(&ids);
    buf_fini(&t.text);
}

/* --- markers that are control tokens
 * ------------------------------------------------------------------------------------------ */

static const char *const markers[] = {"[TOOL_CALLS]",
                                      "[ARGS]",
                                      "[CALL_ID]",
                                      "<|START_THINKING|>",
                                      "<|END_THINKING|>",
                                      "<|channel|>",
                                      "<|message|>",
                                      "<|start|>",
                                      "<|end|>",
                                      "<|constrain|>",
                                      "<|call|>",
                                      "<|return|>",
                                      "<｜tool▁calls▁begin｜>",
                                      "<｜tool▁call▁begin｜>",
                                      "<｜tool▁sep｜>",
                                      "<｜tool▁call▁end｜>",
                                      "<｜tool▁calls▁end｜>",
                                      "<|other|>"};
enum { BYTES = 256 };

/* The 256 bytes, then the markers, all of them control tokens: the worst cut, and the worst case of
 * what is never shown. */
static struct tokenizer *byte_tokenizer(void)
{
    static char chars[BYTES][3];
    struct str tokens[BYTES + COUNT(markers)];
    int32_t types[BYTES + COUNT(markers)];
    struct vocab_file f;
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    for (size_t i = 0; i < COUNT(tokens); i++) {
        if (i < BYTES)
            vocab_byte_char((int)i, chars[i]);
        tokens[i] = str_of(i < BYTES ? chars[i] : markers[i - BYTES]);
        types[i] = i < BYTES ? 1 : 3;
    }
    vocab_begin(&f, "gpt2");
    vocab_strings(&f, "tokenizer.ggml.tokens", tokens, COUNT(tokens));
    vocab_i32s(&f, "tokenizer.ggml.token_type", types, COUNT(tokens));
    vocab_strings(&f, "tokenizer.ggml.merges", NULL, 0);
    struct gguf *g = vocab_open_gguf(&f);
    if (tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    gguf_close(g);
    vocab_free(&f);
    return t;
}

static void in_bytes_and_markers(const char *text, struct token_list *out)
{
    size_t n = strlen(text);
    *out = (struct token_list){.ids = calloc(n + 1, sizeof *out->ids), .cap = n + 1};
    assert_non_null(out->ids);
    for (size_t at = 0; at < n;) {
        size_t m = 0, len = 1;
        while (m < COUNT(markers) && strncmp(text + at, markers[m], strlen(markers[m])) != 0)
            m++;
        if (m < COUNT(markers))
            len = strlen(markers[m]);
        out->ids[out->n++] = m < COUNT(markers) ? (int32_t)(BYTES + m) : (unsigned char)text[at];
        at += len;
    }
}

static const struct {
    const char *template, *prompt, *text, *told;
    bool unread; /* neither reasoning nor calls are asked for */
} control_cases[] = {
    {"[TOOL_CALLS]", "", "Grü[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{\"a\": \"ß\"}",
     "C[Grü]N0[f]A0[{\"a\": \"ß\"}]", false},
    {"[TOOL_CALLS]", "", "a<|other|>b[TOOL_CALLS]c", "C[abc]", true},
    {"<|START_THINKING|><|START_ACTION|>", "<|START_THINKING|>", "hm<|END_THINKING|>yes",
     "R[hm]C[yes]", false},
    {"<|START_THINKING|><|START_ACTION|>", "", "<|START_THINKING|>hm<|END_THINKING|>yes",
     "C[hmyes]", true}, /* the tags are no text of this model's */
    {"</think><｜tool▁calls▁begin｜>", "",
     "ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
     "1}\n```"
     "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "C[ok]N0[f]A0[{\"a\": 1}]", false},
    {"<|channel|><|message|>", "<|start|>assistant",
     "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.f "
     "<|constrain|>json<|message|>{\"a\": 1}",
     "R[hm]N0[f]A0[{\"a\": 1}]", false},
    {"<|channel|><|message|>", "<|start|>assistant",
     "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes",
     "C[hmyes]", true}, /* still without the names of the channels */
};

static void markers_that_are_control_tokens_are_read_and_never_shown(void **state)
{
    const struct house *h = *state;
    struct house bytes = {.model = h->model, .tokenizer = byte_tokenizer()};
    struct errmsg why = {0};
    assert_int_equal(engine_model_open(&bytes.engine, bytes.model, bytes.tokenizer, 1, 64,
                                       &(struct embed_opts){.pooling = POOL_MODEL}, &why),
                     ERR_OK);
    const struct str request = STR("{\"messages\":[],\"tools\":["
                                   "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}");
    for (size_t i = 0; i < COUNT(control_cases); i++) {
        const struct output_wants wants = {.reasoning = !control_cases[i].unread,
                                           .tools = !control_cases[i].unread};
        const struct output_format format = output_format_of(str_of(control_cases[i].template));
        struct job_req r = {.n_stops = 1, .stops = {STR("never there")}};
        struct token_list ids;
        assert_int_equal(output_job_new(&r.output, &format, &wants, request,
                                        str_of(control_cases[i].prompt), &why),
                         ERR_OK);
        in_bytes_and_markers(control_cases[i].text, &ids);
        struct told t = tell(&bytes, &r, &ids);
        buf_putc(&t.text, 0);
        assert_string_equal(t.text.p, control_cases[i].told);
        token_list_fini(&ids);
        buf_fini(&t.text);
        output_job_free(r.output);
    }
    engine_model_close(bytes.engine);
    tokenizer_close(bytes.tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_told_apart_the_same_for_every_cut_into_tokens),
        cmocka_unit_test(without_a_parser_all_text_is_content),
        cmocka_unit_test(markers_that_are_control_tokens_are_read_and_never_shown),
    };
    return cmocka_run_group_tests(tests, house_open, house_close);
}
