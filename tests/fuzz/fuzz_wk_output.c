/* fuzz_wk_output.c - the answer of a model of any family, read in any cut.
 *   byte 0: which form of calls, byte 1: what is wanted and how the prompt ends, the rest: the
 * text. The same text cut by bytes of itself, and in single characters, must give the same events,
 * all of whole characters. Then the text, rid of what could start a marker, stands before a
 * well-formed call and inside its arguments: the call must come out, the text unharmed, and no
 * marker with it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/json.h"
#include "tests/support/output_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TEXT = 1 << 12 };

static const char request[] =
    "{\"tools\":[{\"function\":{\"name\":\"now\",\"parameters\":{\"properties\":{\"s\":{\"type\":"
    "\"string\"}}}}},{\"function\":{\"name\":\"python\"}},{\"function\":{\"name\":\"search\"}}]}";

struct family {
    const char *template; /* words that mean this form */
    const char *before, *after;
    bool escapes; /* the string between them is JSON's */
};

static const struct family families[] = {
    {"<think><tool_call>", "<tool_call>{\"name\":\"now\",\"arguments\":{\"s\":\"",
     "\"}}</tool_call>", true},
    {"<|python_tag|>", "<|python_tag|>{\"name\":\"now\",\"parameters\":{\"s\":\"", "\"}}", true},
    {"[TOOL_CALLS][THINK]", "[TOOL_CALLS][{\"name\":\"now\",\"arguments\":{\"s\":\"", "\"}}]",
     true},
    {"[TOOL_CALLS]", "[TOOL_CALLS]now[ARGS]{\"s\":\"", "\"}", true},
    {"</think><｜tool▁calls▁begin｜>",
     "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{\"s\":\"",
     "\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", true},
    {"<|tool_calls_section_begin|>",
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>"
     "{\"s\":\"",
     "\"}<|tool_call_end|><|tool_calls_section_end|>", true},
    {"Action: ```json tool_name",
     "Action: ```json\n[{\"tool_name\":\"now\",\"parameters\":{\"s\":\"", "\"}}]\n```", true},
    {"<|START_THINKING|><|START_ACTION|>",
     "<|START_ACTION|>[{\"tool_name\":\"now\",\"parameters\":{\"s\":\"", "\"}}]<|END_ACTION|>",
     true},
    {"<tool_call><function=<parameter=", "<tool_call>\n<function=now>\n<parameter=s>\n",
     "\n</parameter>\n</function>\n</tool_call>", false},
    {"<think><tool_call><arg_key>", "<tool_call>now\n<arg_key>s</arg_key>\n<arg_value>",
     "</arg_value>\n</tool_call>", false},
    {"<function=", "<function=now>{\"s\":\"", "\"}</function>", true},
    {"<think><response><|tool_call|>", "<|tool_call|>[{\"name\":\"now\",\"arguments\":{\"s\":\"",
     "\"}}]", true},
    {"functools[", "functools[{\"name\":\"now\",\"arguments\":{\"s\":\"", "\"}}]", true},
    /* the two below have no content before a call that is not framed itself */
    {"<|channel|><|message|>", NULL, NULL, false},
    {">>>all recipient", NULL, NULL, false},
};

static const char *const prompts[] = {"",
                                      "<think>\n",
                                      "<think>\n\n</think>\n\n",
                                      "<|start|>assistant",
                                      "<|start|>assistant<|channel|>final<|message|>",
                                      ">>>",
                                      "[TOOL_CALLS]",
                                      "<|START_RESPONSE|>"};

static struct output_job *open_job(const struct family *f, struct output_wants wants,
                                   const char *prompt)
{
    struct output_format format = output_format_of(str_of(f->template));
    struct output_job *job;
    struct errmsg why;
    if (output_job_new(&job, &format, &wants, STR(request), str_of(prompt), &why))
        abort();
    return job;
}

static void same(const struct output_job *job, struct str text, const struct transcript *whole,
                 const size_t *cuts, size_t n)
{
    struct transcript t = transcribe(job, text, cuts, n);
    if (t.bad_utf8 || t.text.n != whole->text.n || t.called != whole->called ||
        (t.text.n && memcmp(t.text.p, whole->text.p, t.text.n) != 0))
        abort();
    transcript_fini(&t);
}

static void every_cut_is_the_same(const struct output_job *job, struct str text, const uint8_t *by)
{
    static size_t cuts[3 * MAX_TEXT];
    struct transcript whole = transcribe(job, text, NULL, 0);
    if (whole.bad_utf8)
        abort();
    size_t n = 0;
    for (size_t at = 0; at < text.n; at++)
        cuts[n++] = at;
    same(job, text, &whole, cuts, n);
    n = 0;
    for (size_t at = 0, i = 0; text.n && at < text.n; at += 1 + by[i++ % text.n] % 7)
        cuts[n++] = at;
    same(job, text, &whole, cuts, n);
    transcript_fini(&whole);
}

static void a_call_comes_out(const struct family *f, struct str text)
{
    struct output_job *job = open_job(f, (struct output_wants){true, true, false}, "");
    struct buf plain, answer, expected;
    buf_init(&plain);
    buf_init(&answer);
    buf_init(&expected);
    buf_putc(&plain, '.'); /* neither white space nor the start of anything */
    for (size_t i = 0; i < text.n; i++)
        if (!strchr("<[{>Af \n\r\t`]}", text.p[i]) || !text.p[i])
            buf_putc(&plain, text.p[i]);
    buf_put(&answer, plain.p, plain.n);
    buf_puts(&answer, "\n");
    buf_puts(&answer, f->before);
    struct buf quoted;
    buf_init(&quoted);
    json_put_str(&quoted, plain.p, plain.n);
    if (f->escapes)
        buf_put(&answer, quoted.p + 1, quoted.n - 2);
    else
        buf_put(&answer, plain.p, plain.n);
    buf_puts(&answer, f->after);
    buf_puts(&expected, "C[");
    buf_put(&expected, plain.p, plain.n);
    buf_puts(&expected, f->escapes ? "]N0[now]A0[{\"s\":" : "]N0[now]A0[{\"s\": ");
    buf_put(&expected, quoted.p, quoted.n);
    buf_puts(&expected, "}]");
    struct transcript t = transcribe(job, (struct str){answer.p, answer.n}, NULL, 0);
    if (t.text.n != expected.n || memcmp(t.text.p, expected.p, t.text.n) != 0)
        abort();
    transcript_fini(&t);
    buf_fini(&quoted);
    buf_fini(&plain);
    buf_fini(&answer);
    buf_fini(&expected);
    output_job_free(job);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[3 * MAX_TEXT];
    if (size < 2 || size - 2 > MAX_TEXT)
        return 0;
    const struct family *f = &families[data[0] % (sizeof(families) / sizeof(families[0]))];
    const struct output_wants wants = {data[1] & 1, data[1] & 2, data[1] & 4};
    size_t n = utf8_sanitize((const char *)data + 2, size - 2, text);
    struct output_job *job = open_job(f, wants, prompts[data[1] >> 3 & 7]);
    every_cut_is_the_same(job, (struct str){text, n}, (const uint8_t *)text);
    output_job_free(job);
    if (f->before)
        a_call_comes_out(f, (struct str){text, n});
    return 0;
}
