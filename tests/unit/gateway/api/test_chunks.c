/* What a client reads, byte for byte: chunks and bodies of both dialects out of job events. */
#include "gateway/api/generate.h"
#include "shared/ipc/msg.h"
#include "tests/support/test.h"
#include <math.h>
#include <stdio.h>

#define HEAD                                                                                       \
    "data: {\"id\":\"chatcmpl-00\",\"object\":\"chat.completion.chunk\",\"created\":5,"            \
    "\"model\":\"a\\\"b\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\","           \
    "\"choices\":["
#define TAIL ",\"logprobs\":null,\"finish_reason\":null}]}\n\n"
#define ROLE                                                                                       \
    HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}" TAIL

struct stage {
    struct http_request r;
    struct gen_choice choices[2];
    struct gen g;
    struct buf out;
};

static int setup(void **state)
{
    static struct stage s;
    memset(&s, 0, sizeof(s));
    snprintf(s.r.id, sizeof(s.r.id), "req_00");
    s.g = (struct gen){.r = &s.r, .n = 1, .choices = s.choices, .model = STR("a\"b"), .created = 5};
    snprintf(s.g.id, sizeof(s.g.id), "chatcmpl-00");
    snprintf(s.g.fingerprint, sizeof(s.g.fingerprint), "fp_1");
    *state = &s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    for (int i = 0; i < 2; i++) {
        struct gen_choice *c = &s->choices[i];
        struct buf *all[] = {&c->text,    &c->reasoning, &c->logprobs, &c->tool_calls,
                             &c->more[0], &c->more[1],   &c->more[2]};
        for (size_t k = 0; k < COUNT(all); k++)
            buf_fini(all[k]);
    }
    buf_fini(&s->out);
    return 0;
}

static struct job_delta delta(enum delta_kind kind, const char *text)
{
    static const int32_t token = 1;
    return (struct job_delta){.kind = kind, .text = str_of(text), .tokens = &token, .n_tokens = 1};
}

static void stream(struct stage *s, enum delta_kind kind, const char *text)
{
    struct job_delta d = delta(kind, text);
    buf_clear(&s->out);
    dialect_chat.put_delta(&s->g, &s->out, &d);
}

static void first_chunk_has_the_role_and_later_ones_the_text(void **state)
{
    struct stage *s = *state;
    stream(s, DELTA_CONTENT, "He\n");
    assert_string_equal(s->out.p, ROLE HEAD "{\"index\":0,\"delta\":{\"content\":\"He\\n\"}" TAIL);
    stream(s, DELTA_CONTENT, "");
    assert_int_equal(s->out.n, 0); /* a token that shows nothing yet */
    stream(s, DELTA_CONTENT, "\xc3\xa9");
    assert_string_equal(s->out.p, HEAD "{\"index\":0,\"delta\":{\"content\":\"\xc3\xa9\"}" TAIL);
}

static void last_chunk_has_the_reason_and_usage_comes_after_it(void **state)
{
    struct stage *s = *state;
    stream(s, DELTA_CONTENT, "x");
    s->g.include_usage = true;
    s->choices[0].reason = FINISH_LENGTH;
    buf_clear(&s->out);
    dialect_chat.put_finish(&s->g, &s->out, 0);
    assert_string_equal(s->out.p, HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,"
                                       "\"finish_reason\":\"length\"}],\"usage\":null}\n\n");
    buf_clear(&s->out);
    const struct job_usage u = {
        .prompt_tokens = 7, .cached_tokens = 4, .completion_tokens = 3, .reasoning_tokens = 2};
    dialect_chat.put_usage(&s->g, &s->out, &u);
    assert_string_equal(
        s->out.p,
        HEAD "],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10,"
             "\"prompt_tokens_details\":{\"cached_tokens\":4,\"audio_tokens\":0},"
             "\"completion_tokens_details\":{\"reasoning_tokens\":2,\"audio_tokens\":0,"
             "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}\n\n");
}

static void empty_answer_still_has_a_role(void **state)
{
    struct stage *s = *state;
    dialect_chat.put_finish(&s->g, &s->out, 0);
    assert_string_equal(s->out.p, ROLE HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,"
                                            "\"finish_reason\":\"stop\"}]}\n\n");
}

static void reasoning_has_both_of_its_names(void **state)
{
    struct stage *s = *state;
    s->choices[0].started = true;
    stream(s, DELTA_REASONING, "hm");
    assert_string_equal(s->out.p, HEAD "{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\","
                                       "\"reasoning\":\"hm\"}" TAIL);
}

static void tool_calls_come_as_name_then_arguments(void **state)
{
    struct stage *s = *state;
    s->choices[0].started = true;
    stream(s, DELTA_TOOL_NAME, "f");
    assert_string_equal(s->out.p, HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,"
                                       "\"id\":\"call_000000\",\"type\":\"function\",\"function\":"
                                       "{\"name\":\"f\",\"arguments\":\"\"}}]}" TAIL);
    stream(s, DELTA_TOOL_ARGS, "{\"a\":");
    assert_string_equal(s->out.p, HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,"
                                       "\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]}" TAIL);
}

static struct buf two_logprobs(void)
{
    struct buf b = {0};
    msg_put_logprob(&b, 5, -0.5f, "h\xc3", 2, 2);
    msg_put_logprob(&b, 5, -0.5f, "h\xc3", 2, 0);
    msg_put_logprob(&b, 6, -INFINITY, "i", 1, 0);
    return b;
}

static void logprobs_carry_the_raw_bytes(void **state)
{
    struct stage *s = *state;
    struct buf packed = two_logprobs();
    struct job_delta d = delta(DELTA_CONTENT, "h");
    s->choices[0].started = true;
    s->g.logprobs = true;
    d.logprobs = (struct str){packed.p, packed.n};
    dialect_chat.put_delta(&s->g, &s->out, &d);
    assert_string_equal(
        s->out.p,
        HEAD "{\"index\":0,\"delta\":{\"content\":\"h\"},\"logprobs\":{\"content\":[{\"token\":"
             "\"h\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[104,195],\"top_logprobs\":[{\"token\":"
             "\"h\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[104,195]},{\"token\":\"i\",\"logprob\":"
             "-9999.0,\"bytes\":[105]}]}],\"refusal\":null},\"finish_reason\":null}]}\n\n");
    buf_fini(&packed);
}

#define LOGPROB_I "{\"token\":\"i\",\"logprob\":-0.25,\"bytes\":[105],\"top_logprobs\":[]}"

/* One delta of a token "i" with its log probability, streamed or collected. */
static void feed_logprob(struct stage *s, enum delta_kind kind, const char *text, bool whole)
{
    struct buf packed = {0};
    struct job_delta d = delta(kind, text);
    msg_put_logprob(&packed, 6, -0.25f, "i", 1, 0);
    d.logprobs = (struct str){packed.p, packed.n};
    buf_clear(&s->out);
    if (whole)
        dialect_chat.collect(&s->g, &d);
    else
        dialect_chat.put_delta(&s->g, &s->out, &d);
    buf_fini(&packed);
}

static void logprobs_are_those_of_content_alone_also_of_what_was_held_back(void **state)
{
    struct stage *s = *state;
    s->choices[0].started = true;
    s->g.logprobs = true;
    feed_logprob(s, DELTA_REASONING, "hm", false);
    assert_null(strstr(s->out.p, "-0.25"));
    feed_logprob(s, DELTA_CONTENT, "", false); /* it may yet become a call */
    assert_int_equal(s->out.n, 0);
    feed_logprob(s, DELTA_CONTENT, "ii", false);
    assert_non_null(strstr(s->out.p, "\"content\":\"ii\"},\"logprobs\":{\"content\":[" LOGPROB_I
                                     "," LOGPROB_I "],"));
    feed_logprob(s, DELTA_CONTENT, "", false);
    feed_logprob(s, DELTA_TOOL_NAME, "f", false); /* it did */
    feed_logprob(s, DELTA_TOOL_ARGS, "{}", false);
    buf_clear(&s->out);
    dialect_chat.put_finish(&s->g, &s->out, 0);
    assert_null(strstr(s->out.p, "-0.25"));
    feed_logprob(s, DELTA_CONTENT, "", false); /* the end token */
    buf_clear(&s->out);
    dialect_chat.put_finish(&s->g, &s->out, 0);
    assert_non_null(
        strstr(s->out.p, "\"content\":\"\"},\"logprobs\":{\"content\":[" LOGPROB_I "],"));
}

static void logprobs_of_whole_answers_are_those_of_the_stream(void **state)
{
    struct stage *s = *state;
    const struct job_usage u = {0};
    s->g.logprobs = true;
    feed_logprob(s, DELTA_REASONING, "hm", true);
    feed_logprob(s, DELTA_CONTENT, "", true);
    feed_logprob(s, DELTA_CONTENT, "ii", true);
    feed_logprob(s, DELTA_CONTENT, "", true);
    feed_logprob(s, DELTA_TOOL_NAME, "f", true);
    feed_logprob(s, DELTA_TOOL_ARGS, "{}", true);
    feed_logprob(s, DELTA_CONTENT, "", true);
    dialect_chat.put_whole(&s->g, &s->out, &u);
    assert_non_null(strstr(s->out.p, "\"logprobs\":{\"content\":[" LOGPROB_I "," LOGPROB_I
                                     "," LOGPROB_I "],\"refusal\":null}"));
}

static void feed_whole(struct stage *s, enum delta_kind kind, uint32_t tool, const char *text)
{
    struct job_delta d = delta(kind, text);
    d.tool_index = tool;
    dialect_chat.collect(&s->g, &d);
}

static void whole_answer_has_every_required_field(void **state)
{
    struct stage *s = *state;
    const struct job_usage u = {.prompt_tokens = 1, .completion_tokens = 2};
    feed_whole(s, DELTA_REASONING, 0, "why");
    feed_whole(s, DELTA_CONTENT, 0, "so ");
    feed_whole(s, DELTA_CONTENT, 0, "it is");
    dialect_chat.put_whole(&s->g, &s->out, &u);
    assert_string_equal(
        s->out.p,
        "{\"id\":\"chatcmpl-00\",\"object\":\"chat.completion\",\"created\":5,\"model\":\"a\\\"b\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"so it is\","
        "\"refusal\":null,\"annotations\":[],\"reasoning_content\":\"why\",\"reasoning\":\"why\"},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,"
        "\"completion_tokens\":2,\"total_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":0,"
        "\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,"
        "\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},"
        "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\"}\n");
}

static void whole_answer_collects_several_tool_calls(void **state)
{
    struct stage *s = *state;
    const struct job_usage u = {0};
    feed_whole(s, DELTA_TOOL_NAME, 0, "f");
    feed_whole(s, DELTA_TOOL_ARGS, 0, "{\"a\"");
    feed_whole(s, DELTA_TOOL_ARGS, 0, ":1}");
    feed_whole(s, DELTA_TOOL_NAME, 1, "g");
    feed_whole(s, DELTA_TOOL_ARGS, 1, "{}");
    s->choices[0].reason = FINISH_TOOL_CALLS;
    dialect_chat.put_whole(&s->g, &s->out, &u);
    assert_non_null(
        strstr(s->out.p,
               "\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null,"
               "\"annotations\":[],\"tool_calls\":[{\"id\":\"call_000000\",\"type\":\"function\","
               "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},{\"id\":"
               "\"call_000001\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":"
               "\"{}\"}}]},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}"));
}

static void completions_have_their_own_shape(void **state)
{
    struct stage *s = *state;
    struct buf packed = two_logprobs();
    struct job_delta d = delta(DELTA_CONTENT, "h");
    snprintf(s->g.id, sizeof(s->g.id), "cmpl-00");
    s->g.logprobs = true;
    d.logprobs = (struct str){packed.p, packed.n};
    dialect_completions.put_delta(&s->g, &s->out, &d);
    assert_string_equal(
        s->out.p,
        "data: "
        "{\"id\":\"cmpl-00\",\"object\":\"text_completion\",\"created\":5,\"model\":\"a\\\"b\","
        "\"system_fingerprint\":\"fp_1\",\"choices\":[{\"index\":0,\"text\":\"h\",\"logprobs\":"
        "{\"tokens\":[\"h\xef\xbf\xbd\"],\"token_logprobs\":[-0.5],\"top_logprobs\":[{"
        "\"h\xef\xbf\xbd\":-0.5,\"i\":-9999.0}],\"text_offset\":[0]},\"finish_reason\":null}]}"
        "\n\n");
    buf_clear(&s->out);
    dialect_completions.put_finish(&s->g, &s->out, 0);
    assert_non_null(strstr(s->out.p, "\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,"
                                     "\"finish_reason\":\"stop\"}]}\n\n"));
    const struct job_usage u = {.prompt_tokens = 1, .completion_tokens = 1};
    dialect_completions.collect(&s->g, &d);
    dialect_completions.collect(&s->g, &d);
    buf_clear(&s->out);
    dialect_completions.put_whole(&s->g, &s->out, &u);
    assert_non_null(strstr(s->out.p, "\"text\":\"hh\",\"logprobs\":{\"tokens\":[\"h\xef\xbf\xbd\","
                                     "\"h\xef\xbf\xbd\"],\"token_logprobs\":[-0.5,-0.5],"));
    assert_non_null(strstr(s->out.p, "\"text_offset\":[2,4]}"));
    buf_fini(&packed);
}

static void errors_have_openais_shape(void **state)
{
    struct stage *s = *state;
    api_error_put(&s->out, API_CONTEXT_LENGTH, "messages", "too \"long\"");
    assert_string_equal(s->out.p, "{\"error\":{\"message\":\"too \\\"long\\\"\",\"type\":"
                                  "\"invalid_request_error\",\"param\":\"messages\",\"code\":"
                                  "\"context_length_exceeded\"}}");
    buf_clear(&s->out);
    api_error_put(&s->out, API_MALFORMED, NULL, "");
    assert_string_equal(s->out.p, "{\"error\":{\"message\":\"The request failed.\",\"type\":"
                                  "\"invalid_request_error\",\"param\":null,\"code\":null}}");
    for (int e = ERR_OK; e < ERR_COUNT_; e++) /* every code that can arrive has a row */
        assert_in_range(api_error_status(api_error_of((enum err)e)), 400, 599);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(first_chunk_has_the_role_and_later_ones_the_text),
        T(last_chunk_has_the_reason_and_usage_comes_after_it),
        T(empty_answer_still_has_a_role),
        T(reasoning_has_both_of_its_names),
        T(tool_calls_come_as_name_then_arguments),
        T(logprobs_carry_the_raw_bytes),
        T(logprobs_are_those_of_content_alone_also_of_what_was_held_back),
        T(logprobs_of_whole_answers_are_those_of_the_stream),
        T(whole_answer_has_every_required_field),
        T(whole_answer_collects_several_tool_calls),
        T(completions_have_their_own_shape),
        T(errors_have_openais_shape),
    };
    return RUN_TESTS(tests);
}
