/* chat_wants.h - in which form a chat template wants what clients send in one form only.
 *
 * Templates don't say so: it is found out once per model, by rendering small conversations both
 * ways and looking at what came out. A template that can't render a conversation at all leaves the
 * usual form, so that a request's own error is its own.
 * Thread: no shared state. */
#ifndef MILLRACE_WORKER_TEXT_CHAT_WANTS_H
#define MILLRACE_WORKER_TEXT_CHAT_WANTS_H

#include "worker/text/template.h"
#include <stdbool.h>

struct chat_prompt_env;

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL, CHAT_ROLES };

struct chat_wants {
    bool text_arguments;    /* a call's arguments as a string (DeepSeek-R1), not as the object */
    bool parts[CHAT_ROLES]; /* it goes through text parts itself; else they become one string */
    bool empty_content;     /* beside calls: "", not null, which it prints or trips over */
    bool short_ids;         /* a call's id is nine letters and digits (Mistral) */
    bool no_calls;          /* it leaves the calls of past messages out */
    bool no_tools;          /* what it writes does not depend on the tools */
};

/* `env`: its `wants` is not looked at. */
struct chat_wants chat_wants_of(const struct chat_template *t, const struct chat_prompt_env *env);

#endif
