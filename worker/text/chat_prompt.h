/* chat_prompt.h - a chat job's request to the prompt text, through the model's template.
 *
 * The request is the JSON of SECTION_REQUEST_JSON (shared/ipc/proto.h):
 *   {"messages": [...], "tools": [...], "chat_template_kwargs": {...}}
 * What clients send and templates expect differ; this is bridged, and nothing else is changed:
 *   - content given as text parts: one string, a line each (as vLLM and llama-server do), unless
 *     the template goes through parts itself
 *   - tool_calls[].function.arguments: the object that the string holds (most templates print it
 *     with tojson), or the string, where the template wants that
 *   - no content beside calls, in whichever way: null, or "" where the template prints null or
 * trips over it
 *   - a call's id, where it is given and where it is answered: nine letters and digits made of it,
 *     where the template wants that (Mistral)
 *   - past calls that the template would leave out: content, as the model writes them (Granite), or
 *     an error where that is not known
 *   - role "developer": "system", unless the template names that role
 *   - "reasoning": "reasoning_content" as well; "thinking", where the template reads that (gpt-oss)
 *   - system messages that the template raises on: merged into one at the start, then rendered once
 *     more
 * Template variables: messages, tools (none without any), add_generation_prompt (true), bos_token,
 * eos_token, and every member of chat_template_kwargs as a variable of its own. What a template
 * can't know (an unknown content part, a role that it raises on) is an error, never left out.
 * Thread: no shared state. */
#ifndef MILLRACE_WORKER_TEXT_CHAT_PROMPT_H
#define MILLRACE_WORKER_TEXT_CHAT_PROMPT_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/text/chat_wants.h"
#include "worker/text/output/format.h"
#include "worker/text/template.h"

struct chat_prompt_env {
    struct str bos_token, eos_token; /* their text; empty: the model has none */
    struct str template_source;      /* tells which roles the template knows by name */
    struct chat_wants wants;         /* chat_wants_of() the template */
    const struct call_form *calls;   /* how the model writes calls; NULL: not known */
    uint64_t max_steps;              /* 0: the template engine's own limit */
    int64_t now_unix;
};

/* Appends the prompt text to `out`. ERR_TEMPLATE: the template raised, `why` is its own message.
 * ERR_INVALID: the request, or a run-time error of the template. ERR_UNSUPPORTED: content that this
 * model's template can't express. ERR_NOMEM. */
enum err chat_prompt_build(const struct chat_template *t, struct str request_json,
                           const struct chat_prompt_env *env, struct buf *out,
                           struct errmsg *why) MUST_CHECK;

#endif
