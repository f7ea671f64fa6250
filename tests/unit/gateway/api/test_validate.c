/* The table of request fields, as cases: what is refused with which words, what is taken and how.
 */
#include "gateway/api/validate.h"
#include "shared/ipc/body.h"
#include "tests/support/test.h"
#include <stdio.h>
#include <stdlib.h>

#define MSG   "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define CHAT  "{" MSG ","
#define EMBED "{\"model\":\"m\",\"input\":"
#define COMP  "{\"model\":\"m\",\"prompt\":\"hi\","

struct refusal {
    enum dialect_bit dialect;
    const char *body;
    enum api_error error;
    const char *param;   /* "": null */
    const char *message; /* NULL: any */
};

// clang-format off
static const struct refusal refusals[] = {
    {FOR_CHAT, "[]", API_MALFORMED, "", NULL},
    {FOR_CHAT, "\"x\"", API_MALFORMED, "", NULL},
    {FOR_CHAT, "{}", API_MISSING, "model", "Missing required parameter: 'model'."},
    {FOR_CHAT, "{\"model\":\"m\"}", API_MISSING, "messages", "Missing required parameter: 'messages'."},
    {FOR_CHAT, "{\"model\":null,\"messages\":[]}", API_TYPE, "model", "Invalid type for 'model': expected a string, but got null instead."},
    {FOR_CHAT, "{\"model\":5,\"messages\":[]}", API_TYPE, "model", "Invalid type for 'model': expected a string, but got an integer instead."},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":null}", API_TYPE, "messages", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[]}", API_EMPTY_ARRAY, "messages", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":\"hi\"}", API_TYPE, "messages", "Invalid type for 'messages': expected an array of objects, but got a string instead."},
    {FOR_COMPLETIONS, "{\"model\":\"m\"}", API_MISSING, "prompt", NULL},
    {FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[]}", API_EMPTY_ARRAY, "prompt", NULL},
    {FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}", API_UNSUPPORTED_VALUE, "prompt", NULL},
    {FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[[1],[2]]}", API_UNSUPPORTED_VALUE, "prompt", NULL},
    {FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[1,-2]}", API_INT_BELOW, "prompt[1]", NULL},
    {FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[1,2.5]}", API_TYPE, "prompt[1]", NULL},
    {FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":{}}", API_TYPE, "prompt", NULL},
    /* numbers */
    {FOR_CHAT, CHAT "\"temperature\":\"hot\"}", API_TYPE, "temperature", "Invalid type for 'temperature': expected a decimal, but got a string instead."},
    {FOR_CHAT, CHAT "\"temperature\":2.1}", API_DECIMAL_ABOVE, "temperature", "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.1 instead."},
    {FOR_CHAT, CHAT "\"temperature\":-0.5}", API_DECIMAL_BELOW, "temperature", "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -0.5 instead."},
    {FOR_CHAT, CHAT "\"temperature\":1e300}", API_DECIMAL_ABOVE, "temperature", NULL},
    {FOR_CHAT, CHAT "\"top_p\":1.5}", API_DECIMAL_ABOVE, "top_p", NULL},
    {FOR_CHAT, CHAT "\"min_p\":-1}", API_DECIMAL_BELOW, "min_p", NULL},
    {FOR_CHAT, CHAT "\"top_k\":1.5}", API_TYPE, "top_k", NULL},
    {FOR_CHAT, CHAT "\"top_k\":-2}", API_INT_BELOW, "top_k", NULL},
    {FOR_CHAT, CHAT "\"repetition_penalty\":0}", API_DECIMAL_BELOW, "repetition_penalty", NULL},
    {FOR_CHAT, CHAT "\"frequency_penalty\":3}", API_DECIMAL_ABOVE, "frequency_penalty", NULL},
    {FOR_CHAT, CHAT "\"presence_penalty\":-3}", API_DECIMAL_BELOW, "presence_penalty", NULL},
    {FOR_CHAT, CHAT "\"max_tokens\":0}", API_INT_BELOW, "max_tokens", "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead."},
    {FOR_CHAT, CHAT "\"max_completion_tokens\":1.0}", API_TYPE, "max_completion_tokens", "Invalid type for 'max_completion_tokens': expected an integer, but got a decimal number instead."},
    {FOR_CHAT, CHAT "\"max_completion_tokens\":3000000000}", API_INT_ABOVE, "max_completion_tokens", NULL},
    {FOR_CHAT, CHAT "\"min_tokens\":9,\"max_tokens\":8}", API_INT_ABOVE, "min_tokens", NULL},
    {FOR_CHAT, CHAT "\"n\":0}", API_INT_BELOW, "n", NULL},
    {FOR_CHAT, CHAT "\"n\":129}", API_INT_ABOVE, "n", NULL},
    {FOR_CHAT, CHAT "\"seed\":\"x\"}", API_TYPE, "seed", NULL},
    {FOR_CHAT, CHAT "\"seed\":1e40}", API_TYPE, "seed", NULL},
    {FOR_CHAT, CHAT "\"top_logprobs\":21,\"logprobs\":true}", API_INT_ABOVE, "top_logprobs", NULL},
    {FOR_CHAT, CHAT "\"top_logprobs\":2}", API_VALUE, "top_logprobs", NULL},
    {FOR_CHAT, CHAT "\"logprobs\":5}", API_TYPE, "logprobs", NULL},
    {FOR_COMPLETIONS, COMP "\"logprobs\":6}", API_INT_ABOVE, "logprobs", NULL},
    {FOR_COMPLETIONS, COMP "\"logprobs\":true}", API_TYPE, "logprobs", NULL},
    {FOR_COMPLETIONS, COMP "\"best_of\":3}", API_UNSUPPORTED_VALUE, "best_of", NULL},
    {FOR_COMPLETIONS, COMP "\"suffix\":\"x\"}", API_UNSUPPORTED, "suffix", NULL},
    {FOR_COMPLETIONS, COMP "\"echo\":1}", API_TYPE, "echo", NULL},
    /* stop, logit_bias */
    {FOR_CHAT, CHAT "\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", API_ARRAY_TOO_LONG, "stop", "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead."},
    {FOR_CHAT, CHAT "\"stop\":\"\"}", API_EMPTY_STRING, "stop", NULL},
    {FOR_CHAT, CHAT "\"stop\":[\"a\",5]}", API_TYPE, "stop[1]", NULL},
    {FOR_CHAT, CHAT "\"stop\":5}", API_TYPE, "stop", "Invalid type for 'stop': expected a string or an array of strings, but got an integer instead."},
    {FOR_CHAT, CHAT "\"logit_bias\":[]}", API_TYPE, "logit_bias", NULL},
    {FOR_CHAT, CHAT "\"logit_bias\":{\"x\":1}}", API_VALUE, "logit_bias", "Invalid key in 'logit_bias': 'x'. Expected a token id as a whole number."},
    {FOR_CHAT, CHAT "\"logit_bias\":{\"-1\":1}}", API_VALUE, "logit_bias", NULL},
    {FOR_CHAT, CHAT "\"logit_bias\":{\"99999999999\":1}}", API_VALUE, "logit_bias", NULL},
    {FOR_CHAT, CHAT "\"logit_bias\":{\"5\":101}}", API_DECIMAL_ABOVE, "logit_bias.5", NULL},
    {FOR_CHAT, CHAT "\"logit_bias\":{\"5\":\"1\"}}", API_TYPE, "logit_bias.5", NULL},
    /* embeddings */
    {FOR_EMBEDDINGS, "{\"model\":\"m\"}", API_MISSING, "input", "Missing required parameter: 'input'."},
    {FOR_EMBEDDINGS, EMBED "null}", API_TYPE, "input", NULL},
    {FOR_EMBEDDINGS, EMBED "5}", API_TYPE, "input", NULL},
    {FOR_EMBEDDINGS, EMBED "{}}", API_TYPE, "input", NULL},
    {FOR_EMBEDDINGS, EMBED "\"\"}", API_EMPTY_STRING, "input", "Invalid 'input': empty string. Expected a string with minimum length 1, but got an empty string instead."},
    {FOR_EMBEDDINGS, EMBED "[]}", API_EMPTY_ARRAY, "input", NULL},
    {FOR_EMBEDDINGS, EMBED "[\"a\",\"\"]}", API_EMPTY_STRING, "input[1]", NULL},
    {FOR_EMBEDDINGS, EMBED "[[1],[]]}", API_EMPTY_ARRAY, "input[1]", NULL},
    {FOR_EMBEDDINGS, EMBED "[[]]}", API_EMPTY_ARRAY, "input[0]", NULL},
    {FOR_EMBEDDINGS, EMBED "[1,\"a\"]}", API_TYPE, "input[1]", NULL},
    {FOR_EMBEDDINGS, EMBED "[\"a\",[1]]}", API_TYPE, "input[1]", NULL},
    {FOR_EMBEDDINGS, EMBED "[[1],\"a\"]}", API_TYPE, "input[1]", NULL},
    {FOR_EMBEDDINGS, EMBED "[null]}", API_TYPE, "input[0]", NULL},
    {FOR_EMBEDDINGS, EMBED "[1.5]}", API_TYPE, "input[0]", NULL},
    {FOR_EMBEDDINGS, EMBED "[[1,-2]]}", API_INT_BELOW, "input[0][1]", NULL},
    {FOR_EMBEDDINGS, EMBED "[4294967296]}", API_INT_ABOVE, "input[0]", NULL},
    {FOR_EMBEDDINGS, EMBED "\"x\",\"encoding_format\":\"int8\"}", API_VALUE, "encoding_format", NULL},
    {FOR_EMBEDDINGS, EMBED "\"x\",\"encoding_format\":1}", API_TYPE, "encoding_format", NULL},
    {FOR_EMBEDDINGS, EMBED "\"x\",\"dimensions\":0}", API_INT_BELOW, "dimensions", NULL},
    {FOR_EMBEDDINGS, EMBED "\"x\",\"dimensions\":65537}", API_INT_ABOVE, "dimensions", NULL},
    {FOR_EMBEDDINGS, EMBED "\"x\",\"stream\":true}", API_UNKNOWN, "stream", NULL},
    {FOR_CHAT, CHAT "\"input\":\"x\"}", API_UNKNOWN, "input", NULL},
    /* streaming */
    {FOR_CHAT, CHAT "\"stream\":\"yes\"}", API_TYPE, "stream", "Invalid type for 'stream': expected a boolean, but got a string instead."},
    {FOR_CHAT, CHAT "\"stream_options\":{\"include_usage\":true}}", API_VALUE, "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."},
    {FOR_CHAT, CHAT "\"stream\":true,\"stream_options\":{\"include_usage\":1}}", API_TYPE, "stream_options.include_usage", NULL},
    {FOR_CHAT, CHAT "\"stream\":true,\"stream_options\":{\"usage\":true}}", API_UNKNOWN, "stream_options.usage", NULL},
    /* what would change the answer, and what nobody knows */
    {FOR_CHAT, CHAT "\"colour\":1}", API_UNKNOWN, "colour", "Unknown parameter: 'colour'."},
    {FOR_CHAT, CHAT "\"prompt\":\"x\"}", API_UNKNOWN, "prompt", NULL},
    {FOR_COMPLETIONS, COMP "\"messages\":[]}", API_UNKNOWN, "messages", NULL},
    {FOR_CHAT, CHAT "\"functions\":[]}", API_UNSUPPORTED, "functions", "Unsupported parameter: 'functions' is not supported."},
    {FOR_CHAT, CHAT "\"audio\":{}}", API_UNSUPPORTED, "audio", NULL},
    {FOR_CHAT, CHAT "\"web_search_options\":{}}", API_UNSUPPORTED, "web_search_options", NULL},
    {FOR_CHAT, CHAT "\"continue_final_message\":true}", API_UNSUPPORTED, "continue_final_message", NULL},
    {FOR_CHAT, CHAT "\"modalities\":[\"text\",\"audio\"]}", API_UNSUPPORTED_VALUE, "modalities", NULL},
    {FOR_CHAT, CHAT "\"store\":true}", API_UNSUPPORTED_VALUE, "store", NULL},
    {FOR_CHAT, CHAT "\"service_tier\":\"flex\"}", API_VALUE, "service_tier", "Invalid value: 'flex'. Supported values are: 'auto' and 'default'."},
    {FOR_CHAT, CHAT "\"verbosity\":\"low\"}", API_UNSUPPORTED_VALUE, "verbosity", NULL},
    {FOR_CHAT, CHAT "\"reasoning_effort\":\"huge\"}", API_VALUE, "reasoning_effort", NULL},
    {FOR_CHAT, CHAT "\"response_format\":{\"type\":\"json_object\"}}", API_UNSUPPORTED_VALUE, "response_format", NULL},
    {FOR_CHAT, CHAT "\"response_format\":{}}", API_MISSING, "response_format.type", NULL},
    {FOR_CHAT, CHAT "\"tool_choice\":\"required\"}", API_UNSUPPORTED_VALUE, "tool_choice", NULL},
    {FOR_CHAT, CHAT "\"tool_choice\":{\"type\":\"function\"}}", API_UNSUPPORTED_VALUE, "tool_choice", NULL},
    {FOR_CHAT, CHAT "\"chat_template_kwargs\":[]}", API_TYPE, "chat_template_kwargs", NULL},
    {FOR_CHAT, CHAT "\"chat_template_kwargs\":{\"messages\":[]}}", API_VALUE, "chat_template_kwargs", NULL},
    {FOR_CHAT, CHAT "\"metadata\":{\"a\":1}}", API_TYPE, "metadata.a", NULL},
    {FOR_CHAT, CHAT "\"safety_identifier\":\"0123456789012345678901234567890123456789012345678901234567890123x\"}", API_STRING_TOO_LONG, "safety_identifier", "Invalid 'safety_identifier': string too long. Expected a string with maximum length 64, but got a string with length 65 instead."},
    /* messages */
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[5]}", API_TYPE, "messages[0]", "Invalid type for 'messages[0]': expected an object, but got an integer instead."},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{}]}", API_MISSING, "messages[0].role", "Missing required parameter: 'messages[0].role'."},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", API_VALUE, "messages[0].role", "Invalid value: 'king'. Supported values are: 'system', 'developer', 'user', 'assistant', and 'tool'."},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", API_MISSING, "messages[0].content", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":null}]}", API_TYPE, "messages[0].content", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[]}]}", API_EMPTY_ARRAY, "messages[0].content", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:\"}}]}]}", API_UNSUPPORTED_VALUE, "messages[0].content[0].type", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\"}]}]}", API_MISSING, "messages[0].content[1].text", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\"}]}", API_MISSING, "messages[0].content", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{}}}]}]}", API_TYPE, "messages[0].tool_calls[0].function.arguments", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", API_MISSING, "messages[0].tool_call_id", NULL},
    {FOR_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"name\":5}]}", API_TYPE, "messages[0].name", NULL},
    /* tools */
    {FOR_CHAT, CHAT "\"reasoning_format\":\"raw\"}", API_VALUE, "reasoning_format", NULL},
    {FOR_CHAT, CHAT "\"tools\":{}}", API_TYPE, "tools", NULL},
    {FOR_CHAT, CHAT "\"tools\":[{\"type\":\"custom\"}]}", API_UNSUPPORTED_VALUE, "tools[0].type", NULL},
    {FOR_CHAT, CHAT "\"tools\":[{\"type\":\"function\"}]}", API_MISSING, "tools[0].function", NULL},
    {FOR_CHAT, CHAT "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]}", API_VALUE, "tools[0].function.name", NULL},
    {FOR_CHAT, CHAT "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"parameters\":[]}}]}", API_TYPE, "tools[0].function.parameters", NULL},
    {FOR_CHAT, CHAT "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"strict\":true}}]}", API_UNSUPPORTED_VALUE, "tools[0].function.strict", NULL},
};
// clang-format on

static struct json *parse(struct arena *a, const char *text)
{
    struct json *root = NULL;
    struct errmsg why = {0};
    if (json_parse(&root, a, text, strlen(text), NULL, &why) != ERR_OK)
        fail_msg("%s: %s", text, why.text);
    return root;
}

static void bad_requests_are_refused_with_the_field_at_fault(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < COUNT(refusals); i++) {
        const struct refusal *row = &refusals[i];
        struct arena a;
        struct api_params p;
        struct api_fault f;
        arena_init(&a, 0);
        if (api_validate(parse(&a, row->body), row->dialect, &p, &f))
            fail_msg("taken: %s", row->body);
        if (f.error != row->error || strcmp(f.param, row->param) != 0 ||
            (row->message && strcmp(f.message, row->message) != 0))
            fail_msg("%s: %s param '%s': %s", row->body,
                     api_error_code(f.error) ? api_error_code(f.error) : "null", f.param,
                     f.message);
        arena_fini(&a);
    }
}

static void chat_parameters_reach_the_job(void **state)
{
    struct arena a;
    struct api_params p;
    struct api_fault f;
    UNUSED(state);
    arena_init(&a, 0);
    assert_true(api_validate(
        parse(&a, CHAT "\"temperature\":0.5,\"top_p\":0.25,\"min_p\":0.125,\"top_k\":40,"
                       "\"frequency_penalty\":-2,\"presence_penalty\":2,\"repetition_penalty\":1.5,"
                       "\"logit_bias\":{\"7\":-100,\"9\":0.5},\"seed\":-5,\"stop\":[\"a\",\"b\"],"
                       "\"n\":3,\"max_tokens\":100,\"max_completion_tokens\":50,\"min_tokens\":2,"
                       "\"ignore_eos\":true,\"logprobs\":true,\"top_logprobs\":4,\"stream\":true,"
                       "\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false},"
                       "\"user\":\"u\",\"safety_identifier\":\"s\",\"metadata\":{\"k\":\"v\"},"
                       "\"store\":false,\"service_tier\":\"auto\",\"reasoning_effort\":\"low\","
                       "\"modalities\":[\"text\"],\"verbosity\":\"medium\",\"prediction\":null,"
                       "\"tool_choice\":\"auto\",\"parallel_tool_calls\":true,"
                       "\"response_format\":{\"type\":\"text\"}}"),
        FOR_CHAT, &p, &f));
    const struct job_head *h = &p.head;
    assert_int_equal(h->kind, JOB_CHAT);
    assert_true(h->temperature == 0.5f && h->top_p == 0.25f && h->min_p == 0.125f);
    assert_true(h->frequency_penalty == -2 && h->presence_penalty == 2);
    assert_true(h->repetition_penalty == 1.5f);
    assert_int_equal(h->top_k, 40);
    assert_int_equal((int64_t)h->seed, -5);
    assert_int_equal(h->n, 3);
    assert_int_equal(h->max_tokens, 50);
    assert_int_equal(h->min_tokens, 2);
    assert_int_equal(h->flags, JOB_IGNORE_EOS | JOB_LOGPROBS | JOB_PARSE_REASONING);
    assert_int_equal(h->top_logprobs, 4);
    assert_int_equal(p.n_stops, 2);
    assert_true(p.stream && p.include_usage);
    assert_true(str_is(p.safety_identifier, "s") && str_is(p.user, "u"));
    arena_fini(&a);
}

static void defaults_are_openais(void **state)
{
    struct arena a;
    struct api_params p, q;
    struct api_fault f;
    UNUSED(state);
    arena_init(&a, 0);
    assert_true(api_validate(parse(&a, "{" MSG "}"), FOR_CHAT, &p, &f));
    assert_true(p.head.temperature == 1 && p.head.top_p == 1 && p.head.repetition_penalty == 1);
    assert_true(p.head.min_p == 0 && p.head.top_k == 0 && p.head.max_tokens == 0);
    assert_int_equal(p.head.n, 1);
    assert_false(p.stream || p.logprobs);
    assert_true(api_validate(parse(&a, "{" MSG "}"), FOR_CHAT, &q, &f));
    assert_true(p.head.seed != q.head.seed); /* drawn for each request */
    assert_true(api_validate(parse(&a, COMP "\"top_k\":-1}"), FOR_COMPLETIONS, &p, &f));
    assert_int_equal(p.head.max_tokens, 16);
    assert_int_equal(p.head.top_k, 0);
    arena_fini(&a);
}

static void null_is_absent_for_every_optional_field(void **state)
{
    struct arena a;
    struct api_params p;
    struct api_fault f;
    UNUSED(state);
    arena_init(&a, 0);
    assert_true(api_validate(
        parse(&a, CHAT "\"temperature\":null,\"top_p\":null,\"n\":null,\"stop\":null,\"seed\":null,"
                       "\"max_tokens\":null,\"logit_bias\":null,\"logprobs\":null,\"tools\":null,"
                       "\"top_logprobs\":null,\"stream\":null,\"stream_options\":null,"
                       "\"functions\":null,\"audio\":null,\"response_format\":null,\"user\":null}"),
        FOR_CHAT, &p, &f));
    assert_true(p.head.temperature == 1);
    arena_fini(&a);
}

/* The sections of a body as text: kind:bytes|... */
static void show_body(const struct buf *body, struct buf *out, struct job_head *head)
{
    struct body b;
    struct errmsg why = {0};
    if (body_open(&b, body->p, body->n, &why) != ERR_OK)
        fail_msg("%s", why.text);
    *head = b.head;
    struct body_part part;
    for (size_t at = 0; body_next(&b, &at, &part);) {
        buf_printf(out, "%d:", (int)part.kind);
        if (part.kind == SECTION_PROMPT_TOKENS || part.kind == SECTION_LOGIT_BIAS ||
            part.kind == SECTION_INPUT_TOKENS)
            for (size_t i = 0; i < part.n; i += 4) {
                int32_t v;
                memcpy(&v, (const char *)part.p + i, 4);
                buf_printf(out, "%x,", (unsigned)v);
            }
        else
            buf_put(out, part.p, part.n);
        buf_putc(out, '|');
    }
}

static void expect_body(enum dialect_bit dialect, const char *request, const char *sections)
{
    struct arena a;
    struct api_params p;
    struct api_fault f;
    struct buf body = {0}, text = {0};
    struct job_head head;
    arena_init(&a, 0);
    if (!api_validate(parse(&a, request), dialect, &p, &f))
        fail_msg("%s: %s", request, f.message);
    assert_int_equal(api_build_body(&p, &body), ERR_OK);
    show_body(&body, &text, &head);
    assert_string_equal(text.p, sections);
    buf_fini(&text);
    buf_fini(&body);
    arena_fini(&a);
}

static void messages_and_tools_are_forwarded_as_written(void **state)
{
    UNUSED(state);
    expect_body(
        FOR_CHAT,
        "{\"model\":\"m\",\"messages\":[ {\"role\" : \"user\", \"content\":\"\\u00e9 "
        "1.50\", \"x\":1.50}, "
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":"
        "\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"ok\"}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\", "
        "\"parameters\":{\"b\":1,\"a\":2}}}],"
        "\"stop\":\"END\",\"logit_bias\":{\"7\":1}}",
        "1:{\"messages\":[ {\"role\" : \"user\", \"content\":\"\\u00e9 1.50\", \"x\":1.50}, "
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":"
        "\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"ok\"}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\", "
        "\"parameters\":{\"b\":1,\"a\":2}}}]}|"
        "4:END|5:7,3f800000,|");
}

static void text_parts_are_left_to_the_worker(void **state)
{
    UNUSED(state);
    expect_body(FOR_CHAT,
                "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                "\"text\":\"a\\n\\\"\"},{\"type\":\"text\",\"text\":\"b\"}],\"name\":\"n\"}]}",
                "1:{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                "\"a\\n\\\"\"},{\"type\":\"text\",\"text\":\"b\"}],\"name\":\"n\"}]}|");
}

static void tool_choice_none_keeps_tools_from_the_template(void **state)
{
    UNUSED(state);
    expect_body(FOR_CHAT,
                CHAT "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
                     "\"tool_choice\":\"none\"}",
                "1:{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}|");
}

static void reasoning_effort_reaches_the_template(void **state)
{
    UNUSED(state);
    expect_body(FOR_CHAT, CHAT "\"reasoning_effort\":\"high\"}",
                "1:{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                "\"chat_template_kwargs\":{\"reasoning_effort\":\"high\"}}|");
    expect_body(FOR_CHAT,
                CHAT "\"reasoning_effort\":\"none\",\"chat_template_kwargs\":{\"x\":[1]}}",
                "1:{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"chat_template_kwargs\":"
                "{\"x\":[1],\"reasoning_effort\":\"none\",\"enable_thinking\":false}}|");
    expect_body(
        FOR_CHAT,
        CHAT
        "\"reasoning_effort\":\"high\",\"chat_template_kwargs\":{\"reasoning_effort\":\"low\"}}",
        "1:{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
        "\"chat_template_kwargs\":{\"reasoning_effort\":\"low\"}}|");
}

static void prompts_may_be_text_or_tokens(void **state)
{
    UNUSED(state);
    expect_body(FOR_COMPLETIONS, COMP "\"echo\":true}", "2:hi|");
    expect_body(FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[\"one\"]}", "2:one|");
    expect_body(FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[1,2,255]}", "3:1,2,ff,|");
    expect_body(FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[[3]]}", "3:3,|");
    expect_body(FOR_COMPLETIONS, "{\"model\":\"m\",\"prompt\":\"\"}", "2:|");
}

static void embedding_inputs_may_be_texts_or_tokens_one_or_many(void **state)
{
    UNUSED(state);
    expect_body(FOR_EMBEDDINGS, EMBED "\"hi\"}", "7:hi|");
    expect_body(FOR_EMBEDDINGS, EMBED "[\"one\",\"two\"]}", "7:one|7:two|");
    expect_body(FOR_EMBEDDINGS, EMBED "[1,2,255]}", "8:1,2,ff,|");
    expect_body(FOR_EMBEDDINGS, EMBED "[[1,2],[3]]}", "8:1,2,|8:3,|");
    struct arena a;
    struct api_params p;
    struct api_fault f;
    struct json *root;
    arena_init(&a, 0);
    static const char text[] = EMBED "\"x\",\"dimensions\":64,\"encoding_format\":\"base64\","
                                     "\"user\":\"u\"}";
    assert_int_equal(json_parse(&root, &a, text, sizeof(text) - 1, NULL, NULL), ERR_OK);
    assert_true(api_validate(root, FOR_EMBEDDINGS, &p, &f));
    assert_true(p.base64 && str_is(p.user, "u"));
    assert_int_equal(p.head.kind, JOB_EMBEDDING);
    assert_int_equal(p.head.dimensions, 64);
    arena_fini(&a);
}

static void more_inputs_than_openai_takes_are_refused(void **state)
{
    UNUSED(state);
    for (int n = 2048; n <= 2049; n++) {
        struct arena a;
        struct api_params p;
        struct api_fault f;
        struct json *root;
        struct buf text = {0};
        arena_init(&a, 0);
        buf_puts(&text, EMBED "[\"x\"");
        for (int i = 1; i < n; i++)
            buf_puts(&text, ",\"x\"");
        buf_puts(&text, "]}");
        assert_int_equal(json_parse(&root, &a, text.p, text.n, NULL, NULL), ERR_OK);
        assert_int_equal(api_validate(root, FOR_EMBEDDINGS, &p, &f), n == 2048);
        if (n == 2049) {
            assert_int_equal(f.error, API_ARRAY_TOO_LONG);
            assert_string_equal(f.param, "input");
        }
        buf_fini(&text);
        arena_fini(&a);
    }
}

static void hostile_names_come_back_cut_and_whole(void **state)
{
    struct arena a;
    struct api_params p;
    struct api_fault f;
    struct buf text = {0}, out = {0};
    struct json *root;
    UNUSED(state);
    arena_init(&a, 0);
    buf_puts(&text, CHAT "\"");
    for (int i = 0; i < 500; i++)
        buf_puts(&text, "\xc3\xa9");
    buf_puts(&text, "\\u0000\\\"\":1}");
    assert_int_equal(json_parse(&root, &a, text.p, text.n, NULL, NULL), ERR_OK);
    assert_false(api_validate(root, FOR_CHAT, &p, &f));
    assert_true(strlen(f.param) <= 64);
    api_error_put(&out, f.error, f.param, f.message);
    assert_int_equal(json_parse(&root, &a, out.p, out.n, NULL, NULL),
                     ERR_OK); /* valid UTF-8, too */
    buf_fini(&out);
    buf_fini(&text);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_requests_are_refused_with_the_field_at_fault),
        cmocka_unit_test(chat_parameters_reach_the_job),
        cmocka_unit_test(defaults_are_openais),
        cmocka_unit_test(null_is_absent_for_every_optional_field),
        cmocka_unit_test(messages_and_tools_are_forwarded_as_written),
        cmocka_unit_test(text_parts_are_left_to_the_worker),
        cmocka_unit_test(tool_choice_none_keeps_tools_from_the_template),
        cmocka_unit_test(reasoning_effort_reaches_the_template),
        cmocka_unit_test(prompts_may_be_text_or_tokens),
        cmocka_unit_test(embedding_inputs_may_be_texts_or_tokens_one_or_many),
        cmocka_unit_test(more_inputs_than_openai_takes_are_refused),
        cmocka_unit_test(hostile_names_come_back_cut_and_whole),
    };
    return RUN_TESTS(tests);
}
