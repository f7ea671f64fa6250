/* test_output.c - reasoning and tool calls told from content: what each family writes and what the
 * client gets of it, the same for every way of cutting the text into tokens. */
#include "tests/support/output_case.h"
#include "tests/support/test.h"

/* Words by which templates are recognised; the real ones are read in reference/test_output.c. */
#define T_HERMES   "<think> <tool_call>"
#define T_LLAMA    "<|python_tag|>"
#define T_MISTRAL  "[TOOL_CALLS]"
#define T_MAGIS    "[TOOL_CALLS][THINK]"
#define T_DEEPSEEK "</think><｜tool▁calls▁begin｜>"
#define T_CMDR     "Action: ```json tool_name"
#define T_CMDR7    "<|START_THINKING|><|START_ACTION|>"
#define T_GPTOSS   "<|channel|><|message|>"
#define T_CODER    "<tool_call><function=<parameter="
#define T_GLM      "<think><tool_call><arg_key>"
#define T_KIMI     "<|tool_calls_section_begin|>"
#define T_FUN31    "<function="
#define T_FUN32    ">>>all recipient"
#define T_GRANITE  "<think><response><|tool_call|>"
#define T_FIRE     "functools["

#define DS_OPEN  "<｜tool▁calls▁begin｜>"
#define DS_CALL  "<｜tool▁call▁begin｜>"
#define DS_SEP   "<｜tool▁sep｜>"
#define DS_END   "<｜tool▁call▁end｜>"
#define DS_CLOSE "<｜tool▁calls▁end｜>"

static const char tools_json[] =
    "{\"messages\":[],\"tools\":["
    "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"},"
    "\"note\":{\"type\":[\"string\",\"null\"]}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"brave_search\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"python\"}}]}";

struct row {
    const char *template, *prompt; /* what the prompt ends with */
    const char *text, *expected;
};

// clang-format off
static const struct row rows[] = {
    /* content alone */
    {T_HERMES, "", "", ""},
    {T_HERMES, "", "Hello,\n\n  world. \n", "C[Hello,\n\n  world. \n]"},
    {T_HERMES, "", "  \n ", "C[  \n ]"},
    {T_HERMES, "", "a < b <t <tool <tool_cal", "C[a < b <t <tool <tool_cal]"},
    {T_HERMES, "", "Grüße 😀 <日本", "C[Grüße 😀 <日本]"},
    /* reasoning */
    {T_HERMES, "", "<think>\nWhy? \n\nso.\n</think>\n\nBecause.", "R[Why? \n\nso.]C[Because.]"},
    {T_HERMES, "<think>\n", "Why?\n</think>\n\nBecause.", "R[Why?]C[Because.]"},
    {T_HERMES, "<think>\n\n</think>\n\n", "Because.", "C[Because.]"},
    {T_HERMES, "", "<think>\n\n</think>\n\nYes", "C[Yes]"},
    {T_HERMES, "", "\n<think>never ends </thin", "R[never ends </thin]"},
    {T_HERMES, "", "The tag <think> opens and </think> closes.", "C[The tag <think> opens and </think> closes.]"},
    {T_HERMES, "", "<think>a</think>\n", "R[a]"},
    {T_HERMES, "", "<think>a <think> b < / think></think>c", "R[a <think> b < / think>]C[c]"},
    /* Hermes, Qwen */
    {T_HERMES, "", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\", \"days\": [1, {}]}}\n</tool_call>",
     "N0[get_weather]A0[{\"city\": \"Köln\", \"days\": [1, {}]}]"},
    {T_HERMES, "", "<think>\nhm\n</think>\n\nLet me see.\n\n<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n{\"name\":\"get_weather\",\"arguments\":{\"city\":\"a\"}}\n</tool_call>",
     "R[hm]C[Let me see.]N0[now]A0[{}]N1[get_weather]A1[{\"city\":\"a\"}]"},
    {T_HERMES, "", "<tool_call>{\"arguments\": {\"a\": \"}\\\"</tool_call>\"}, \"name\": \"n\"}</tool_call> done",
     "N0[n]A0[{\"a\": \"}\\\"</tool_call>\"}]C[done]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"n\",\"arguments\":\"{\\\"a\\\": \\\"\\u00e9\\ud83d\\ude00\\\\n\\\"}\"}</tool_call>",
     "N0[n]A0[{\"a\": \"é😀\\n\"}]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"n\"}</tool_call>", "N0[n]A0[{}]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"n\",\"arguments\":null,\"id\":[1,\"}\"]}</tool_call>", "N0[n]A0[{}]"},
    {T_HERMES, "", "<tool_call>{\"type\":\"function\",\"function\":{\"name\":\"n\",\"parameters\":{\"k\":1}}}</tool_call>", "N0[n]A0[{\"k\":1}]"},
    {T_HERMES, "", "<tool_call>[{\"name\":\"a\",\"arguments\":{}},\n{\"name\":\"b\",\"arguments\":{}}]</tool_call>", "N0[a]A0[{}]N1[b]A1[{}]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"a\",\"arguments\":{}}\n{\"name\":\"b\",\"arguments\":{}}\n</tool_call>", "N0[a]A0[{}]N1[b]A1[{}]"},
    /* ... broken in the ways that models break it */
    {T_HERMES, "", "<tool_call>{\"name\":\"n\",\"arguments\":{\"a\":1}</tool_call>x", "N0[n]A0[{\"a\":1}]C[x]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"n\",\"arguments\":{\"a\":{\"b\":1}</tool_call>x", "N0[n]A0[{\"a\":{\"b\":1}]C[x]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"n\",\"arguments\":{\"a\": 'x', b: True}} extra </tool_call>", "N0[n]A0[{\"a\": 'x', b: True}]C[extra]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"n\",\"arguments\":{\"a\": \"half", "N0[n]A0[{\"a\": \"half]"},
    {T_HERMES, "", "Say <tool_call> and </tool_call>.", "C[Say <tool_call> and </tool_call>.]"},
    {T_HERMES, "", "<tool_call>\n{\"nme\": \"n\"}\n</tool_call>", "C[<tool_call>\n{\"nme\": \"n\"}\n</tool_call>]"},
    {T_HERMES, "", "<tool_call>\n{\"name\": <tool_call>{\"name\":\"n\",\"arguments\":{}}</tool_call>", "C[<tool_call>\n{\"name\": ]N0[n]A0[{}]"},
    {T_HERMES, "", "<tool_call>{\"name\": \"get_wea", "C[<tool_call>{\"name\": \"get_wea]"},
    {T_HERMES, "", "<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>", "C[<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>]"},
    {T_HERMES, "", "<tool_call></tool_call>", "C[<tool_call></tool_call>]"},
    /* Llama 3 */
    {T_LLAMA, "", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"x\"}}", "N0[get_weather]A0[{\"city\": \"x\"}]"},
    {T_LLAMA, "", "{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"parameters\": {}}", "N0[now]A0[{}]N1[now]A1[{}]"},
    {T_LLAMA, "", "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}", "N0[now]A0[{}]"},
    {T_LLAMA, "", "<|python_tag|>import os\nprint(\"é\")", "N0[python]A0[{\"code\": \"import os\\nprint(\\\"é\\\")\"}]"},
    {T_LLAMA, "", "<|python_tag|>brave_search.call(query=\"a, \\\"b\\\")\", n_max=3)", "N0[brave_search]A0[{\"query\": \"a, \\\"b\\\")\", \"n_max\": 3}]"},
    {T_LLAMA, "", "<|python_tag|>brave_search.call(query=)", "N0[python]A0[{\"code\": \"brave_search.call(query=)\"}]"},
    {T_LLAMA, "", "{\"name\": \"John\", \"parameters\": {\"age\": 3}}", "C[{\"name\": \"John\", \"parameters\": {\"age\": 3}}]"},
    {T_LLAMA, "", "{\"name\": \"now\"}", "C[{\"name\": \"now\"}]"},
    {T_LLAMA, "", "{\"a\": [1, 2]} is JSON", "C[{\"a\": [1, 2]} is JSON]"},
    {T_LLAMA, "", "See {\"name\": \"now\", \"parameters\": {}}", "C[See {\"name\": \"now\", \"parameters\": {}}]"},
    /* Mistral */
    {T_MISTRAL, "", "[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {\"a\": \"]\"}, \"id\": \"abcdef123\"}]", "N0[now]A0[{}]N1[f]A1[{\"a\": \"]\"}]"},
    {T_MISTRAL, "", "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]", "N0[now]A0[{}]"},
    {T_MISTRAL, "", "Ok.[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]f[ARGS]{\"a\": [1]}", "C[Ok.]N0[now]A0[{}]N1[f]A1[{\"a\": [1]}]"},
    {T_MISTRAL, "", "[TOOL_CALLS]now[CALL_ID]abc123XYZ[ARGS]{\"a\":1}", "N0[now]A0[{\"a\":1}]"},
    {T_MISTRAL, "", "[TOOL_CALLS]now{\"a\":1}", "N0[now]A0[{\"a\":1}]"},
    {T_MISTRAL, "", "[TOOL_CALLS] is a token, [1] a list", "C[[TOOL_CALLS] is a token, [1] a list]"},
    {T_MISTRAL, "", "[TOOL_CALLS]now[ARGS]nothing", "C[[TOOL_CALLS]now[ARGS]nothing]"},
    {T_MAGIS, "", "[THINK]so[/THINK]then[TOOL_CALLS]now[ARGS]{}", "R[so]C[then]N0[now]A0[{}]"},
    /* DeepSeek */
    {T_DEEPSEEK, "<think>\n", "hm\n</think>\n\n" DS_OPEN DS_CALL "function" DS_SEP "get_weather\n```json\n{\"city\": \"x\"}\n```" DS_END "\n" DS_CALL "function" DS_SEP "now\n```json\n{}\n```" DS_END DS_CLOSE,
     "R[hm]N0[get_weather]A0[{\"city\": \"x\"}]N1[now]A1[{}]"},
    {T_DEEPSEEK, "</think>", "Sure." DS_OPEN DS_CALL "get_weather" DS_SEP "{\"city\": \"```\"}" DS_END DS_CALL "now" DS_SEP "{}" DS_END DS_CLOSE,
     "C[Sure.]N0[get_weather]A0[{\"city\": \"```\"}]N1[now]A1[{}]"},
    {T_DEEPSEEK, "", DS_OPEN DS_CALL "now" DS_SEP DS_END DS_CLOSE "after", "N0[now]A0[{}]C[after]"},
    {T_DEEPSEEK, "", DS_OPEN "I can't", "C[" DS_OPEN "I can't]"},
    {T_DEEPSEEK, "", DS_OPEN DS_CALL "function" DS_SEP "two words\n", "C[" DS_OPEN DS_CALL "function" DS_SEP "two words\n]"},
    {T_DEEPSEEK, "", "<｛ <｜tool", "C[<｛ <｜tool]"},
    /* Kimi */
    {T_KIMI, "", "Ok<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_call_begin|>functions.f:1<|tool_call_argument_begin|>{\"a\": 2}<|tool_call_end|><|tool_calls_section_end|>",
     "C[Ok]N0[now]A0[{}]N1[f]A1[{\"a\": 2}]"},
    /* Command-R */
    {T_CMDR, "", "Plan: I look.\nAction: ```json\n[\n    {\n        \"tool_name\": \"get_weather\",\n        \"parameters\": {\"city\": \"x\"}\n    },\n {\"tool_name\": \"now\", \"parameters\": {}}\n]\n```",
     "C[Plan: I look.]N0[get_weather]A0[{\"city\": \"x\"}]N1[now]A1[{}]"},
    {T_CMDR, "", "Action:\n```json\n[\n {\"tool_name\": \"directly-answer\", \"parameters\": {}}\n]```",
     "C[Action:\n```json\n[\n {\"tool_name\": \"directly-answer\", \"parameters\": {}}\n]```]"},
    {T_CMDR, "", "Action: none is needed.", "C[Action: none is needed.]"},
    {T_CMDR7, "", "<|START_THINKING|>I will.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"a\": 1}}\n]<|END_ACTION|>",
     "R[I will.]N0[f]A0[{\"a\": 1}]"},
    {T_CMDR7, "", "<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>Hi <|END_RESPONSE|>", "R[x]C[Hi]"},
    /* gpt-oss */
    {T_GPTOSS, "<|start|>assistant", "<|channel|>analysis<|message|>We think. \n<|end|><|start|>assistant<|channel|>final<|message|>Hi <b>\n", "R[We think. \n]C[Hi <b>\n]"},
    {T_GPTOSS, "<|start|>assistant", "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\":\"<|\"}", "R[x]N0[get_weather]A0[{\"city\":\"<|\"}]"},
    {T_GPTOSS, "<|start|>assistant", " to=functions.now<|channel|>commentary json<|message|>", "N0[now]A0[{}]"},
    {T_GPTOSS, "<|start|>assistant", "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.now<|channel|>commentary<|message|>{}", "C[I look.]N0[now]A0[{}]"},
    {T_GPTOSS, "<|start|>assistant", "<|channel|>analysis to=python<|message|>1+1<|call|>", "R[1+1]"},
    {T_GPTOSS, "<|start|>assistant<|channel|>final<|message|>", "Hi", "C[Hi]"},
    {T_GPTOSS, "<|start|>assistant", "Hi, no channel <|x|>", "C[Hi, no channel <|x|>]"},
    {T_GPTOSS, "<|start|>assistant", "<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "R[a]C[b]"},
    /* Qwen3-Coder */
    {T_CODER, "", "I write.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nNew\n\"York\"\n\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=note>\nnull\n</parameter>\n<parameter=more>\n{\"a\": 1}\n</parameter>\n</function>\n</tool_call>",
     "C[I write.]N0[get_weather]A0[{\"city\": \"New\\n\\\"York\\\"\\n\", \"days\": 3, \"note\": null, \"more\": {\"a\": 1}}]"},
    {T_CODER, "", "<tool_call>\n<function=now>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n<parameter=x>\nTrue\n</parameter>\n<parameter=y>\na <b\n</parameter>\n</function>\n</tool_call>",
     "N0[now]A0[{}]N1[now]A1[{\"x\": true, \"y\": \"a <b\"}]"},
    {T_CODER, "", "<function=now>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call> ok", "N0[now]A0[{\"x\": 1}]C[ok]"},
    {T_CODER, "", "<tool_call> is a tag", "C[<tool_call> is a tag]"},
    {T_CODER, "", "<function=get_weather>\n<parameter=city>\nunfini", "N0[get_weather]A0[{\"city\": \"unfini]"},
    /* GLM */
    {T_GLM, "", "<think>a</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>x\ny</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
     "R[a]N0[get_weather]A0[{\"city\": \"x\\ny\", \"days\": 2}]N1[now]A1[{}]"},
    {T_GLM, "", "<tool_call> is a tag", "C[<tool_call> is a tag]"},
    /* others */
    {T_FUN31, "", "Ok <function=now>{\"a\": \"</function>\"}</function>\n<function=f>{}</function>", "C[Ok]N0[now]A0[{\"a\": \"</function>\"}]N1[f]A1[{}]"},
    {T_FUN32, ">>>", "all\nHi >>> there", "C[Hi >>> there]"},
    {T_FUN32, ">>>", "all\nI look.>>>get_weather\n{\"city\": 1}>>>now\n{}", "C[I look.]N0[get_weather]A0[{\"city\": 1}]N1[now]A1[{}]"},
    {T_GRANITE, "", "<think>a</think><response>b</response>", "R[a]C[b]"},
    {T_GRANITE, "", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]", "N0[f]A0[{}]"},
    {T_FIRE, "", " functools[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {}}]", "N0[f]A0[{\"a\": 1}]N1[g]A1[{}]"},
};
// clang-format on

static struct output_job *open_job(const char *template, const char *prompt,
                                   struct output_wants wants)
{
    struct output_format f = output_format_of(str_of(template));
    struct output_job *job;
    struct errmsg why = {{0}};
    if (output_job_new(&job, &f, &wants, str_of(tools_json), str_of(prompt), &why))
        fail_msg("%s", why.text);
    return job;
}

static const struct output_wants all = {.reasoning = true, .tools = true};

static void check(const struct output_job *job, const struct row *r, const size_t *cuts, size_t n)
{
    struct transcript t = transcribe(job, str_of(r->text), cuts, n);
    if (!str_eq((struct str){t.text.p, t.text.n}, str_of(r->expected)) || t.bad_utf8)
        fail_msg("%s\n of: %s\n is: %s\n not: %s\n cut at %zu %zu%s", r->template, r->text,
                 t.text.p ? t.text.p : "", r->expected, n > 0 ? cuts[0] : 0, n > 1 ? cuts[1] : 0,
                 t.bad_utf8 ? ", an event is not whole UTF-8" : "");
    transcript_fini(&t);
}

static void every_family_gives_reasoning_calls_and_content(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct output_job *job = open_job(rows[i].template, rows[i].prompt, all);
        check(job, &rows[i], NULL, 0);
        output_job_free(job);
    }
}

static void one_cut_anywhere_changes_nothing(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct output_job *job = open_job(rows[i].template, rows[i].prompt, all);
        for (size_t a = 0; a <= strlen(rows[i].text); a++)
            check(job, &rows[i], &a, 1);
        output_job_free(job);
    }
}

static void two_cuts_anywhere_change_nothing(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct output_job *job = open_job(rows[i].template, rows[i].prompt, all);
        size_t n = strlen(rows[i].text);
        for (size_t a = 0; a < n; a++)
            for (size_t b = a; b < n; b++)
                check(job, &rows[i], (size_t[]){a, b}, 2);
        output_job_free(job);
    }
}

static void random_cuts_and_single_characters_change_nothing(void **state)
{
    UNUSED(state);
    uint64_t seed = 1;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct output_job *job = open_job(rows[i].template, rows[i].prompt, all);
        size_t n = strlen(rows[i].text), cuts[1024];
        assert_true(n < COUNT(cuts));
        for (int round = 0; round < 200; round++) {
            size_t k = 0;
            for (size_t at = 0; at < n; at++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                if (round == 0 || (seed >> 33) % (2 + (unsigned)round % 9) == 0)
                    cuts[k++] = at;
            }
            check(job, &rows[i], cuts, k);
        }
        output_job_free(job);
    }
}

/* As `transcribe` with one token per character, but what is there before output_end(). */
static void assert_shown(const char *template, struct output_wants wants, const char *text,
                         const char *expected)
{
    struct output_job *job = open_job(template, "", wants);
    struct output *o;
    struct transcript t = {.events = 0};
    assert_int_equal(output_open(&o, job), ERR_OK);
    for (const char *p = text; *p; p++)
        assert_int_equal(output_feed(o, (struct str){p, 1}), ERR_OK);
    transcript_take(&t, o);
    buf_putc(&t.text, ']');
    assert_string_equal(t.text.p, expected);
    transcript_fini(&t);
    output_close(o);
    output_job_free(job);
}

static void nothing_is_held_back_that_can_be_told(void **state)
{
    UNUSED(state);
    assert_shown(T_HERMES, all, "Hello wor", "C[Hello wor]");
    assert_shown(T_HERMES, all, "Hello <b", "C[Hello <b]");
    assert_shown(T_HERMES, all, "Hello <tool_", "C[Hello]");
    assert_shown(T_HERMES, all, "<think>hm, so", "R[hm, so]");
    assert_shown(T_HERMES, all, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": \"xy",
                 "N0[f]A0[{\"a\": \"xy]");
    assert_shown(T_CODER, all, "<function=get_weather>\n<parameter=city>\nBer",
                 "N0[get_weather]A0[{\"city\": \"Ber]");
    assert_shown(T_GPTOSS, all, "<|channel|>final<|message|>Hi the", "C[Hi the]");
    assert_shown(T_LLAMA, all, "<|python_tag|>print(1", "N0[python]A0[{\"code\": \"print(1]");
}

static void assert_whole(const char *template, struct output_wants wants, const char *text,
                         const char *expected)
{
    struct output_job *job = open_job(template, "", wants);
    struct row r = {template, "", text, expected};
    check(job, &r, NULL, 0);
    for (size_t a = 0; a <= strlen(text); a++)
        check(job, &r, &a, 1);
    output_job_free(job);
}

static void what_is_not_wanted_stays_content(void **state)
{
    UNUSED(state);
    static const char call[] = "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>";
    static const char thought[] = "<think>a</think>b";
    assert_whole(T_HERMES, (struct output_wants){.reasoning = true}, call,
                 "C[<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>]");
    assert_whole(T_HERMES, (struct output_wants){.tools = true}, thought, "C[<think>a</think>b]");
    assert_whole(T_GPTOSS, (struct output_wants){.tools = true},
                 "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|"
                 "message|>b",
                 "C[ab]");
    assert_whole(T_GPTOSS, (struct output_wants){.reasoning = true},
                 "<|channel|>commentary to=functions.f<|message|>{}", "C[{}]");
    assert_whole("no word of tools", all, thought, "C[<think>a</think>b]");
}

static void a_single_call_ends_the_answer(void **state)
{
    UNUSED(state);
    const struct output_wants one = {.reasoning = true, .tools = true, .single_call = true};
    static const struct row cases[] = {
        {T_HERMES, "",
         "a<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"g\","
         "\"arguments\":{}}</tool_call>b",
         "C[a]N0[f]A0[{}]"},
        {T_MISTRAL, "", "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{}", "N0[f]A0[{}]"},
        {T_CODER, "", "<function=now>\n</function>\n<function=now>\n</function>", "N0[now]A0[{}]"},
        {T_GPTOSS, "", "<|channel|>commentary to=functions.f<|message|>{}<|end|>x", "N0[f]A0[{}]"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct output_job *job = open_job(cases[i].template, "", one);
        check(job, &cases[i], NULL, 0);
        struct transcript t = transcribe(job, str_of(cases[i].text), NULL, 0);
        assert_true(t.over);
        assert_true(t.called);
        transcript_fini(&t);
        output_job_free(job);
    }
}

static uint32_t count_reasoning(const char *template, const char *prompt, const char *const *tokens)
{
    struct output_job *job = open_job(template, prompt, all);
    struct output *o;
    assert_int_equal(output_open(&o, job), ERR_OK);
    for (; *tokens; tokens++)
        assert_int_equal(output_feed(o, str_of(*tokens)), ERR_OK);
    assert_int_equal(output_end(o), ERR_OK);
    uint32_t n = output_reasoning_tokens(o);
    output_close(o);
    output_job_free(job);
    return n;
}

#define TOKENS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void reasoning_tokens_are_those_of_the_block_with_its_markers(void **state)
{
    UNUSED(state);
    assert_int_equal(
        count_reasoning(T_HERMES, "",
                        TOKENS("<think>", "\n", "so", " it", "\n", "</think>", "\n\n", "Yes")),
        6);
    assert_int_equal(
        count_reasoning(T_HERMES, "<think>\n", TOKENS("so", "</think>", "\n\n", "Yes")), 2);
    assert_int_equal(
        count_reasoning(T_HERMES, "",
                        TOKENS("<", "think", ">", "so", "</", "think", ">\n\n", "Yes", ".")),
        7);
    assert_int_equal(count_reasoning(T_HERMES, "", TOKENS("<th", "ing> is", " text")), 0);
    assert_int_equal(count_reasoning(T_HERMES, "", TOKENS("<think>", "never", " ends", "", "</t")),
                     5);
    assert_int_equal(count_reasoning(T_GPTOSS, "<|start|>assistant",
                                     TOKENS("<|channel|>", "analysis", "<|message|>", "a", " b",
                                            "<|end|>", "<|start|>", "assistant", "<|channel|>",
                                            "final", "<|message|>", "Hi")),
                     6);
    assert_int_equal(count_reasoning(T_HERMES, "", TOKENS("Yes", "", ".")), 0);
}

static void every_row_of_the_table_is_recognised_by_its_own_words(void **state)
{
    UNUSED(state);
    const struct call_form *f;
    for (int i = 0; (f = output_call_form(i)); i++) {
        char words[256];
        snprintf(words, sizeof(words), "x %s y %s z %s", f->detect[0],
                 f->detect[1] ? f->detect[1] : "", f->detect[2] ? f->detect[2] : "");
        struct output_format found = output_format_of(str_of(words));
        assert_string_equal(output_format_calls(&found), f->name);
    }
    struct output_format none = output_format_of(str_of("{{ messages[0].content }}"));
    assert_string_equal(output_format_calls(&none), "none");
    assert_string_equal(output_format_reasoning(&none), "none");
}

static void only_markers_of_the_format_are_seen_of_control_tokens(void **state)
{
    UNUSED(state);
    struct output_job *job = open_job(T_DEEPSEEK, "", all);
    assert_true(output_job_marks(job, STR(DS_OPEN)));
    assert_true(output_job_marks(job, STR("</think>")));
    assert_false(output_job_marks(job, STR("<｜User｜>")));
    assert_false(output_job_marks(job, STR("[TOOL_CALLS]")));
    output_job_free(job);
    job = open_job(T_DEEPSEEK, "", (struct output_wants){.reasoning = true});
    assert_false(output_job_marks(job, STR(DS_OPEN)));
    output_job_free(job);
}

/* Memory and time stay in proportion: a megabyte of what may become a marker, and of white space.
 */
static void a_megabyte_of_half_markers_is_read_in_linear_time(void **state)
{
    UNUSED(state);
    static const char *const bits[] = {"<tool_call", "   \n", "<tool_call>{\"name\":\"n\",",
                                       "<think><", "{\"a\":[\"\\\""};
    for (size_t b = 0; b < COUNT(bits); b++) {
        struct output_job *job = open_job(T_HERMES, "", all);
        struct output *o;
        struct output_event ev;
        size_t got = 0, fed = 0;
        assert_int_equal(output_open(&o, job), ERR_OK);
        for (; fed < 1 << 20; fed += strlen(bits[b])) {
            assert_int_equal(output_feed(o, str_of(bits[b])), ERR_OK);
            while (output_next(o, &ev))
                got += ev.text.n;
        }
        assert_int_equal(output_end(o), ERR_OK);
        while (output_next(o, &ev))
            got += ev.text.n;
        assert_true(got + 16 >= fed);
        output_close(o);
        output_job_free(job);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_gives_reasoning_calls_and_content),
        cmocka_unit_test(one_cut_anywhere_changes_nothing),
        cmocka_unit_test(two_cuts_anywhere_change_nothing),
        cmocka_unit_test(random_cuts_and_single_characters_change_nothing),
        cmocka_unit_test(nothing_is_held_back_that_can_be_told),
        cmocka_unit_test(what_is_not_wanted_stays_content),
        cmocka_unit_test(a_single_call_ends_the_answer),
        cmocka_unit_test(reasoning_tokens_are_those_of_the_block_with_its_markers),
        cmocka_unit_test(every_row_of_the_table_is_recognised_by_its_own_words),
        cmocka_unit_test(only_markers_of_the_format_are_seen_of_control_tokens),
        cmocka_unit_test(a_megabyte_of_half_markers_is_read_in_linear_time),
    };
    return RUN_TESTS(tests);
}
