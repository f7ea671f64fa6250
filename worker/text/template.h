/* template.h - chat templates: the Jinja2 language that published models use, rendered as Hugging
 * Face transformers renders it (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop
 * controls, tojson as json.dumps(ensure_ascii=False), raise_exception, strftime_now). Byte-equal to
 * Jinja2 3.1 or an error that says what is missing: a construct is never skipped.
 *
 * Limits: source 1 MiB, output 64 MiB, nesting and steps bounded, so that a hostile template ends
 * with an error. Thread: a compiled template is read-only; renders may run side by side. */
#ifndef MILLRACE_WORKER_TEXT_TEMPLATE_H
#define MILLRACE_WORKER_TEXT_TEMPLATE_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/json.h"

struct chat_template; /* opaque */

/* ERR_INVALID with line and column for a syntax error; ERR_UNSUPPORTED for what this engine lacks.
 */
enum err template_compile(struct chat_template **out, const char *src, size_t n,
                          struct errmsg *why) MUST_CHECK;
void template_free(struct chat_template *t);

struct template_env {
    const struct json *
        vars; /* an object: the variables (messages, tools, add_generation_prompt, bos_token ...) */
    int64_t now_unix; /* for strftime_now; UTC unless tz_offset_s */
    int32_t tz_offset_s;
    uint64_t max_steps; /* 0: the engine's own limit; less for a template on trial */
};

/* Appends the text. ERR_TEMPLATE: raise_exception() was called, `why` is the template's own
 * message. ERR_INVALID: a run-time error of the template (undefined attribute, wrong type), with
 * line. */
enum err template_render(const struct chat_template *t, const struct template_env *env,
                         struct buf *out, struct errmsg *why) MUST_CHECK;

#endif
