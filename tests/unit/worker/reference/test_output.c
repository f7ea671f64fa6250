/* test_output.c - which forms of calls and reasoning the published templates mean, and in which
 * form they want a conversation. A regression table: printed by the recogniser, then compared by
 * hand with what each template contains. Skipped where the reference pack is absent. */
#include "tests/support/template_case.h"
#include "worker/text/chat_prompt.h"
#include "worker/text/output/format.h"

struct known {
    const char *file, *calls, *reasoning;
    /* "text": arguments as a string; "nine": short ids; "empty": beside calls no null; "no-tools"
     */
    const char *wants;
    const char *parts; /* the roles whose text parts it goes through: S, U, A, T */
};

// clang-format off
static const struct known templates[] = {
    {"CohereForAI-c4ai-command-r-plus-tool_use.jinja", "command-r", "none", "empty", ""},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use-2026.jinja", "command-r7b", "command-r7b", "", ""},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", "command-r7b", "command-r7b", "", ""},
    {"GLM-4.6.jinja", "glm", "think", "empty", "SUA"},
    {"HuggingFaceTB-SmolLM3-3B.jinja", "none", "think", "no-calls no-tools", ""},
    {"Kimi-K2-Instruct.jinja", "kimi", "none", "", "SUA"},
    {"MiMo-VL.jinja", "hermes", "none", "", ""},
    {"Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral", "none", "nine", "SUA"},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", "hermes", "none", "", ""},
    {"Qwen-QwQ-32B.jinja", "hermes", "think", "empty", ""},
    {"Qwen-Qwen2.5-7B-Instruct.jinja", "hermes", "none", "", ""},
    {"Qwen-Qwen3-0.6B.jinja", "hermes", "think", "empty", ""},
    {"Qwen3-Coder.jinja", "qwen3-coder", "none", "", ""},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B-2026.jinja", "deepseek", "think", "text no-tools", ""},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", "deepseek", "think", "text no-tools", ""},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", "deepseek", "think", "no-tools", ""},
    {"deepseek-ai-DeepSeek-V3.1.jinja", "deepseek", "think", "no-tools", ""},
    {"fireworks-ai-llama-3-firefunction-v2-2026.jinja", "firefunction", "none", "", ""},
    {"fireworks-ai-llama-3-firefunction-v2.jinja", "firefunction", "none", "", ""},
    {"google-gemma-2-2b-it.jinja", "none", "none", "no-tools", ""},
    {"ibm-granite-granite-3.3-2B-Instruct.jinja", "granite", "think", "empty no-calls", ""},
    {"llama-cpp-deepseek-r1-2026.jinja", "deepseek", "think", "", ""},
    {"llama-cpp-deepseek-r1.jinja", "deepseek", "think", "", ""},
    {"llama-cpp-rwkv-world.jinja", "none", "think", "no-calls no-tools", ""},
    {"meetkai-functionary-medium-v3.1-2026.jinja", "functionary-3.1", "none", "", ""},
    {"meetkai-functionary-medium-v3.1.jinja", "functionary-3.1", "none", "text", ""},
    {"meetkai-functionary-medium-v3.2.jinja", "functionary-3.2", "none", "text", ""},
    {"meta-llama-Llama-3.1-8B-Instruct.jinja", "llama3", "none", "", ""},
    {"meta-llama-Llama-3.2-3B-Instruct.jinja", "llama3", "none", "", ""},
    {"microsoft-Phi-3.5-mini-instruct.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"mistralai-Mistral-Nemo-Instruct-2407.jinja", "mistral", "none", "nine", ""},
    {"openai-gpt-oss-120b.jinja", "gpt-oss", "gpt-oss", "empty", ""},
    {"own-alpaca.jinja", "none", "none", "no-tools", ""},
    {"own-chatml-default-system.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-chatml.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-command-r.jinja", "none", "none", "no-tools", ""},
    {"own-deepseek-coder.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-deepseek-v2.5.jinja", "none", "none", "no-calls no-tools", ""},
    {"own-deepseek-v2.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-falcon.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-gemma-3.jinja", "none", "none", "no-tools", "SUA"},
    {"own-gemma.jinja", "none", "none", "no-tools", ""},
    {"own-llama-2.jinja", "none", "none", "no-tools", ""},
    {"own-llama-3.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-minicpm.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-mistral-v0.1.jinja", "none", "none", "no-tools", ""},
    {"own-mistral-v0.3.jinja", "mistral", "none", "nine", ""},
    {"own-openchat-3.5.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-phi-2.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-phi-3-medium.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-phi-3.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-qwen2-style-tools.jinja", "hermes", "none", "", ""},
    {"own-solar.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-vicuna.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"own-zephyr.jinja", "none", "none", "empty no-calls no-tools", ""},
    {"unsloth-mistral-Devstral-Small-2507.jinja", "mistral", "none", "empty", "SUA"},
};
// clang-format on

static void check_wants(const struct known *k, struct str source)
{
    static const char letters[CHAT_ROLES] = {
        [CHAT_SYSTEM] = 'S', [CHAT_USER] = 'U', [CHAT_ASSISTANT] = 'A', [CHAT_TOOL] = 'T'};
    struct chat_template *t;
    struct errmsg why = {""};
    if (template_compile(&t, source.p, source.n, &why) != ERR_OK)
        fail_msg("%s: %s", k->file, why.text);
    const struct chat_prompt_env env = {.bos_token = STR("<s>"),
                                        .eos_token = STR("</s>"),
                                        .template_source = source,
                                        .now_unix = CASE_NOW};
    const struct chat_wants w = chat_wants_of(t, &env);
    char parts[CHAT_ROLES + 1] = "", wants[48] = "";
    for (int i = 0, n = 0; i < CHAT_ROLES; i++)
        if (w.parts[i])
            parts[n++] = letters[i];
    const struct {
        bool on;
        const char *name;
    } all[] = {{w.text_arguments, "text"},
               {w.short_ids, "nine"},
               {w.empty_content, "empty"},
               {w.no_calls, "no-calls"},
               {w.no_tools, "no-tools"}};
    for (size_t i = 0; i < COUNT(all); i++)
        if (all[i].on)
            snprintf(wants + strlen(wants), sizeof(wants) - strlen(wants), "%s%s",
                     wants[0] ? " " : "", all[i].name);
    if (strcmp(wants, k->wants) != 0 || strcmp(parts, k->parts) != 0)
        fail_msg("%s wants '%s', parts of '%s'", k->file, wants, parts);
    template_free(t);
}

static void every_published_template_means_the_form_that_it_teaches(void **state)
{
    UNUSED(state);
    size_t seen = 0;
    for (size_t i = 0; i < COUNT(templates); i++) {
        size_t n;
        char *text = read_reference_template(str_of(templates[i].file), &n);
        if (!text)
            continue;
        seen++;
        struct output_format f = output_format_of((struct str){text, n});
        if (strcmp(output_format_calls(&f), templates[i].calls) != 0 ||
            strcmp(output_format_reasoning(&f), templates[i].reasoning) != 0)
            fail_msg("%s: calls %s, reasoning %s", templates[i].file, output_format_calls(&f),
                     output_format_reasoning(&f));
        check_wants(&templates[i], (struct str){text, n});
        free(text);
    }
    if (!seen)
        skip();
    assert_int_equal(seen, COUNT(templates));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_published_template_means_the_form_that_it_teaches),
    };
    return RUN_TESTS(tests);
}
