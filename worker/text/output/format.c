#include "worker/text/output/format.h"

#include <stddef.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

// clang-format off
static const struct reasoning_form reasoning_forms[] = {
    /* DeepSeek-R1 and its distills, Qwen3, QwQ, GLM-4.5, SmolLM3; Granite 3.3 wraps its answer as well */
    {.name = "think", .detect = "<response>", .open = "<think>", .close = "</think>",
     .wrap_open = "<response>", .wrap_close = "</response>"},
    {.name = "think", .detect = "<think>", .open = "<think>", .close = "</think>"},
    {.name = "think", .detect = "</think>", .open = "<think>", .close = "</think>"},
    {.name = "command-r7b", .detect = "<|START_THINKING|>", .open = "<|START_THINKING|>", .close = "<|END_THINKING|>",
     .wrap_open = "<|START_RESPONSE|>", .wrap_close = "<|END_RESPONSE|>"},
    {.name = "magistral", .detect = "[THINK]", .open = "[THINK]", .close = "[/THINK]"},
    /* its channels are read by the form of calls below */
    {.name = "gpt-oss", .detect = "<|channel|>", .open = "<|channel|>", .close = "<|end|>"},
};

/* The first row that fits is taken: what is special stands before what is general. */
static const struct call_form call_forms[] = {
    {.name = "gpt-oss", .detect = {"<|channel|>", "<|message|>"}, .body = CALL_CHANNEL},
    {.name = "functionary-3.2", .detect = {">>>all", "recipient"}, .body = CALL_HEADER, .open = ">>>",
     .separator = "\n", .known_names = true, .to_all = true},
    {.name = "qwen3-coder", .detect = {"<function=", "<parameter="}, .body = CALL_XML, .section_open = "<tool_call>",
     .section_close = "</tool_call>", .open = "<function=", .close = "</function>", .separator = ">",
     .key_open = "<parameter=", .key_close = ">", .value_close = "</parameter>", .newlines = true},
    {.name = "functionary-3.1", .detect = {"<function="}, .unless = "<tool_call>", .body = CALL_HEADER,
     .open = "<function=", .close = "</function>", .separator = ">"},
    {.name = "glm", .detect = {"<tool_call>", "<arg_key>"}, .body = CALL_XML, .open = "<tool_call>",
     .close = "</tool_call>", .key_open = "<arg_key>", .key_close = "</arg_key>", .value_open = "<arg_value>",
     .value_close = "</arg_value>"},
    {.name = "kimi", .detect = {"<|tool_calls_section_begin|>"}, .body = CALL_HEADER,
     .section_open = "<|tool_calls_section_begin|>", .section_close = "<|tool_calls_section_end|>",
     .open = "<|tool_call_begin|>", .close = "<|tool_call_end|>", .separator = "<|tool_call_argument_begin|>",
     .numbered = true},
    {.name = "deepseek", .detect = {"<｜tool▁calls▁begin｜>"}, .body = CALL_HEADER,
     .section_open = "<｜tool▁calls▁begin｜>", .section_close = "<｜tool▁calls▁end｜>",
     .open = "<｜tool▁call▁begin｜>", .close = "<｜tool▁call▁end｜>", .separator = "<｜tool▁sep｜>",
     .late_name = true},
    {.name = "command-r7b", .detect = {"<|START_ACTION|>"}, .body = CALL_JSON, .open = "<|START_ACTION|>",
     .close = "<|END_ACTION|>"},
    {.name = "command-r", .detect = {"Action:", "```json", "tool_name"}, .body = CALL_JSON, .open = "Action:",
     .known_names = true},
    {.name = "mistral", .detect = {"[TOOL_CALLS]"}, .body = CALL_JSON, .open = "[TOOL_CALLS]", .named = true},
    {.name = "granite", .detect = {"<|tool_call|>"}, .body = CALL_JSON, .open = "<|tool_call|>"},
    {.name = "firefunction", .detect = {"functools["}, .body = CALL_JSON, .open = "functools"},
    {.name = "hermes", .detect = {"<tool_call>"}, .body = CALL_JSON, .open = "<tool_call>", .close = "</tool_call>"},
    {.name = "llama3", .detect = {"<|python_tag|>"}, .body = CALL_JSON, .open = "<|python_tag|>", .bare = true,
     .code = true, .known_names = true},
    {.name = "llama3", .detect = {"Environment: ipython", "\"parameters\""}, .body = CALL_JSON,
     .open = "<|python_tag|>", .bare = true, .code = true, .known_names = true},
};
// clang-format on

static bool has(struct str text, const char *word)
{
    return !word || (text.n && memmem(text.p, text.n, word, strlen(word)));
}

struct output_format output_format_of(struct str source)
{
    struct output_format f = {NULL, NULL};
    for (int i = 0; i < COUNT(reasoning_forms) && !f.reasoning; i++)
        if (has(source, reasoning_forms[i].detect) &&
            (!reasoning_forms[i].wrap_open || has(source, reasoning_forms[i].open)))
            f.reasoning = &reasoning_forms[i];
    for (int i = 0; i < COUNT(call_forms) && !f.calls; i++) {
        const struct call_form *c = &call_forms[i];
        if (has(source, c->detect[0]) && has(source, c->detect[1]) && has(source, c->detect[2]) &&
            !(c->unless && has(source, c->unless)))
            f.calls = c;
    }
    return f;
}

const char *output_format_calls(const struct output_format *f)
{
    return f->calls ? f->calls->name : "none";
}

const char *output_format_reasoning(const struct output_format *f)
{
    return f->reasoning ? f->reasoning->name : "none";
}

static bool is_one_of(struct str text, const char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i] && str_is(text, list[i]))
            return true;
    return false;
}

bool output_format_marks(const struct output_format *f, struct str text, bool reasoning, bool tools)
{
    const struct reasoning_form *r = f->reasoning;
    const struct call_form *c = f->calls;
    if (c && c->body == CALL_CHANNEL) { /* its answers are nothing without them */
        static const char *const channel[] = {"<|channel|>", "<|message|>", "<|start|>", "<|end|>",
                                              "<|constrain|>"};
        return is_one_of(text, channel, COUNT(channel));
    }
    if (r && reasoning) {
        const char *const marks[] = {r->open, r->close, r->wrap_open, r->wrap_close};
        if (is_one_of(text, marks, COUNT(marks)))
            return true;
    }
    if (!c || !tools)
        return false;
    const char *const marks[] = {c->section_open,
                                 c->section_close,
                                 c->open,
                                 c->close,
                                 c->separator,
                                 c->named ? "[ARGS]" : NULL,
                                 c->named ? "[CALL_ID]" : NULL};
    return is_one_of(text, marks, COUNT(marks));
}

const struct call_form *output_call_form(int i)
{
    return i >= 0 && i < COUNT(call_forms) ? &call_forms[i] : NULL;
}

const struct reasoning_form *output_reasoning_form(int i)
{
    return i >= 0 && i < COUNT(reasoning_forms) ? &reasoning_forms[i] : NULL;
}
