/* test_round_trip.c - what a published template writes for a past answer with calls,
 * the parser reads back as those calls, whatever the cut: template and parser agree on the form.
 * The templates are read in place; without them the test is skipped. */
#include "tests/support/output_case.h"
#include "tests/support/template_case.h"
#include "worker/text/chat_prompt.h"

struct trip {
    const char *file;
    int calls; /* so many of two in one answer are what the template writes; 0: none at all */
};

// clang-format off
/* Left out: two that Jinja2 refuses to render, and firefunction, which wants variables of its own. */
static const struct trip trips[] = {
    {"CohereForAI-c4ai-command-r-plus-tool_use.jinja", 2},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use-2026.jinja", 2},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", 2},
    {"GLM-4.6.jinja", 2},
    {"Kimi-K2-Instruct.jinja", 0}, /* calls a method that transformers forbids, too */
    {"MiMo-VL.jinja", 2},
    {"Mistral-Small-3.2-24B-Instruct-2506.jinja", 2},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", 2},
    {"Qwen-QwQ-32B.jinja", 2},
    {"Qwen-Qwen2.5-7B-Instruct.jinja", 2},
    {"Qwen-Qwen3-0.6B.jinja", 2},
    {"Qwen3-Coder.jinja", 2},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B-2026.jinja", 2},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", 2},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", 2},
    {"deepseek-ai-DeepSeek-V3.1.jinja", 2},
    {"ibm-granite-granite-3.3-2B-Instruct.jinja", 2}, /* leaves calls out: they come as content */
    {"meetkai-functionary-medium-v3.1-2026.jinja", 2},
    {"meetkai-functionary-medium-v3.1.jinja", 2},
    {"meetkai-functionary-medium-v3.2.jinja", 2},
    {"meta-llama-Llama-3.1-8B-Instruct.jinja", 1},
    {"meta-llama-Llama-3.2-3B-Instruct.jinja", 1},
    {"mistralai-Mistral-Nemo-Instruct-2407.jinja", 2},
    {"openai-gpt-oss-120b.jinja", 1},
    {"own-mistral-v0.3.jinja", 2},
    {"own-qwen2-style-tools.jinja", 2},
    {"unsloth-mistral-Devstral-Small-2507.jinja", 2},
};
// clang-format on

#define TOOL(name)                                                                                 \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"description\":\"d\","            \
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\","           \
    "\"description\":\"c\"},\"days\":{\"type\":\"integer\",\"description\":\"n\"}},"               \
    "\"required\":[\"city\"]}}}"
#define TOOLS ",\"tools\":[" TOOL("get_weather") "," TOOL("get_time") "]"
#define ASK   "{\"role\":\"user\",\"content\":\"q\"}"
#define CALL(id, name)                                                                             \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name                      \
    "\",\"arguments\":\"{\\\"city\\\": \\\"K\\u00f6ln <1>\\\", \\\"days\\\": 2}\"}}"
#define ONE CALL("call_a0000000", "get_weather")
#define TWO ONE "," CALL("call_a0000001", "get_time")

static const char *const talks[3] = {
    "{\"messages\":[" ASK "]" TOOLS "}",
    "{\"messages\":[" ASK ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" ONE
    "]}]" TOOLS ",\"chat_template_kwargs\":{\"add_generation_prompt\":false}}",
    "{\"messages\":[" ASK ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" TWO
    "]}]" TOOLS ",\"chat_template_kwargs\":{\"add_generation_prompt\":false}}",
};

/* Up to the token that ends the answer, which the parser never sees. */
static struct str until_end(struct str s)
{
    static const char *const ends[] = {"<|im_end|>",
                                       "<|eot_id|>",
                                       "<|eom_id|>",
                                       "</s>",
                                       "<｜end▁of▁sentence｜>",
                                       "<|END_OF_TURN_TOKEN|>",
                                       "<|START_OF_TURN_TOKEN|>",
                                       "<|call|>",
                                       "<|end_of_text|>",
                                       "<|return|>"};
    for (size_t i = 0; i < COUNT(ends); i++) {
        const char *at = memmem(s.p, s.n, ends[i], strlen(ends[i]));
        if (at)
            s.n = (size_t)(at - s.p);
    }
    return s;
}

#define READ(index, name) "N" index "[" name "]A" index "[{\"city\":\"Köln<1>\",\"days\":2}]"
static const char *const calls[] = {
    "",
    READ("0", "get_weather"),
    (READ("0", "get_weather") READ("1", "get_time")),
};

static void squeeze(struct buf *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->p[i] != ' ' && b->p[i] != '\n')
            b->p[n++] = b->p[i];
    b->n = n;
}

/* `prompt` is what the template writes before the answer. */
static void read_back(const struct trip *k, const struct output_format *format, struct str prompt,
                      struct str answer, const char *expected)
{
    const struct output_wants wants = {.reasoning = true, .tools = true};
    struct output_job *job;
    struct errmsg why = {""};
    assert_int_equal(output_job_new(&job, format, &wants, str_of(talks[0]), prompt, &why), ERR_OK);
    for (size_t step = 1; step < 12; step += step == 1 ? 1 : 3) {
        size_t cuts[4096], n = 0;
        for (size_t at = step; at < answer.n && n < COUNT(cuts); at += step)
            cuts[n++] = at;
        struct transcript t = transcribe(job, answer, cuts, n);
        squeeze(&t.text);
        buf_putc(&t.text, 0);
        if (strcmp(t.text.p, expected) != 0)
            fail_msg("%s: of '" STR_FMT "' came %s", k->file, STR_ARG(answer), t.text.p);
        transcript_fini(&t);
    }
    output_job_free(job);
}

static void round_trip(const struct trip *k, struct str source)
{
    struct chat_template *t;
    struct errmsg why = {""};
    struct buf prompt = {0}, full = {0};
    if (template_compile(&t, source.p, source.n, &why))
        fail_msg("%s: %s", k->file, why.text);
    struct chat_prompt_env env = {.bos_token = STR("<s>"),
                                  .eos_token = STR("</s>"),
                                  .template_source = source,
                                  .now_unix = CASE_NOW};
    env.wants = chat_wants_of(t, &env);
    const struct output_format format = output_format_of(source);
    env.calls = format.calls;
    if (chat_prompt_build(t, str_of(talks[0]), &env, &prompt, &why))
        fail_msg("%s: %s", k->file, why.text);
    for (int n = 1; n <= 2; n++) {
        buf_clear(&full);
        enum err e = chat_prompt_build(t, str_of(talks[n]), &env, &full, &why);
        if (e && (n > k->calls))
            continue; /* "only supports single tool-calls" */
        if (e)
            fail_msg("%s: %s", k->file, why.text);
        size_t same = 0;
        while (same < prompt.n && same < full.n && prompt.p[same] == full.p[same])
            same++;
        if (same < prompt.n) /* not in the middle of a marker */
            while (same && full.p[same] != '<')
                same--;
        if (strstr(k->file, "command-r-plus"))
            same += strlen("<|CHATBOT_TOKEN|>");
        read_back(k, &format, (struct str){prompt.p, same},
                  until_end((struct str){full.p + same, full.n - same}),
                  calls[n < k->calls ? n : k->calls]);
    }
    buf_fini(&prompt);
    buf_fini(&full);
    template_free(t);
}

static void published_templates_and_the_parser_agree_on_calls(void **state)
{
    UNUSED(state);
    size_t seen = 0;
    for (size_t i = 0; i < COUNT(trips); i++) {
        size_t n;
        char *text = read_reference_template(str_of(trips[i].file), &n);
        if (!text)
            continue;
        seen++;
        round_trip(&trips[i], (struct str){text, n});
        free(text);
    }
    if (!seen)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_and_the_parser_agree_on_calls),
    };
    return RUN_TESTS(tests);
}
