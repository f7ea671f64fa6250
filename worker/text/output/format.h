/* format.h - how a model writes its reasoning and its tool calls: one row per form, and which rows
 * a chat template means.
 *
 * A form is recognised by the words of the template, since the template is what the model was
 * taught with: it renders past calls and past reasoning in the very form in which the model writes
 * new ones. A template that names no form gives none, and then an answer is content as it stands.
 * Adding a family is a row here and its cases in tests/unit/worker/text/test_output.c.
 * Thread: constant tables. */
#ifndef MILLRACE_WORKER_TEXT_OUTPUT_FORMAT_H
#define MILLRACE_WORKER_TEXT_OUTPUT_FORMAT_H

#include "shared/base/str.h"
#include <stdbool.h>

/* <think> ... </think>. `wrap_*`: tags around the answer proper, which are dropped; may be NULL. */
struct reasoning_form {
    const char *name;
    const char *detect; /* the template has this text */
    const char *open, *close;
    const char *wrap_open, *wrap_close;
};

enum call_body {
    CALL_JSON,    /* open {"name":..., "arguments":{...}} close, or a list of those */
    CALL_HEADER,  /* open NAME separator {...} close */
    CALL_XML,     /* open NAME header_end (key value)* close: arguments as tags */
    CALL_CHANNEL, /* gpt-oss: messages with a channel and a recipient */
};

struct call_form {
    const char *name;
    const char *detect[3]; /* the template has all of these texts */
    const char *unless;    /* ... and not this one */
    enum call_body body;
    const char *section_open, *section_close; /* around all calls; NULL: none */
    const char *open, *close;                 /* around each call; NULL: none */
    const char *separator;                    /* CALL_HEADER: after the name. CALL_XML: NULL: a
                                                 line end, or the first key */
    const char *key_open, *key_close, *value_open,
        *value_close; /* CALL_XML; value_open: optional */
    bool bare;        /* an answer that starts with { may be a call */
    bool named;       /* CALL_JSON: a name may stand where the JSON is expected (Mistral) */
    bool code;        /* CALL_JSON: code may stand there (Llama's <|python_tag|>) */
    bool known_names; /* what names no tool of the request is no call */
    bool late_name;   /* CALL_HEADER: the name may follow the separator (DeepSeek-V3, R1) */
    bool numbered;    /* CALL_HEADER: names are written functions.NAME:3 (Kimi) */
    bool to_all;      /* CALL_HEADER: the name "all" means content (functionary 3.2) */
    bool newlines;    /* CALL_XML: a line end after value's start and before its end is no part */
};

struct output_format { /* either may be NULL */
    const struct reasoning_form *reasoning;
    const struct call_form *calls;
};

struct output_format output_format_of(struct str template_source);
/* "hermes", "think"; "none". */
const char *output_format_calls(const struct output_format *f);
const char *output_format_reasoning(const struct output_format *f);
/* Is this the text of one of the format's markers? Such control tokens are seen as text by the
 * parser, unlike all others, which add nothing to an answer. */
bool output_format_marks(const struct output_format *f, struct str text, bool reasoning,
                         bool tools);
/* For tests and fuzzing: every row, NULL after the last. */
const struct call_form *output_call_form(int i);
const struct reasoning_form *output_reasoning_form(int i);

#endif
