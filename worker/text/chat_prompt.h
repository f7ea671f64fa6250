/* chat_prompt.h - a chat job's request to the prompt text, through the model's template.
 *
 * The request is the JSON of SECTION_REQUEST_JSON (shared/ipc/proto.h):
 *   {"messages": [...], "tools": [...], "chat_template_kwargs": {...}}
 * What clients send and templates expect differ; this is bridged, and nothing else is changed:
 *   content given as text parts       -> one string, parts on lines of their own (as vLLM and
 * llama-server do) tool_calls[].function.arguments   -> the object that the string holds (most
 * templates print it with tojson), or the string, where the template wants that role "developer" ->
 * "system", unless the template names that role "reasoning"                       ->
 * "reasoning_content" as well system messages that the template raises on -> merged into one at the
 * start, then rendered once more Template variables: messages, tools (none without any),
 * add_generation_prompt (true), bos_token, eos_token, and every member of chat_template_kwargs as a
 * variable of its own. What a template can't know (an unknown content part, a role that it raises
 * on) is an error, never left out. Thread: no shared state. */
#ifndef MILLRACE_WORKER_TEXT_CHAT_PROMPT_H
#define MILLRACE_WORKER_TEXT_CHAT_PROMPT_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/text/template.h"
#include <stdbool.h>

struct chat_prompt_env {
    struct str bos_token, eos_token; /* their text; empty: the model has none */
    struct str template_source;      /* tells which roles the template knows by name */
    bool text_arguments;             /* the template wants a call's arguments as a string */
    int64_t now_unix;
};

/* Appends the prompt text to `out`. ERR_TEMPLATE: the template raised, `why` is its own message.
 * ERR_INVALID: the request, or a run-time error of the template. ERR_UNSUPPORTED: content that this
 * model's template can't express. ERR_NOMEM. */
enum err chat_prompt_build(const struct chat_template *t, struct str request_json,
                           const struct chat_prompt_env *env, struct buf *out,
                           struct errmsg *why) MUST_CHECK;

/* Which form of a call's arguments does the template write as the JSON that it is? True: the
 * string. Found out by rendering a small conversation both ways; env->text_arguments is not looked
 * at. */
bool chat_prompt_wants_text_arguments(const struct chat_template *t,
                                      const struct chat_prompt_env *env);

#endif
