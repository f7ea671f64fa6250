/* output.h - what a model writes to what the client is told: content, reasoning, tool calls.
 *
 *   text of a token ──▶ output_feed() ──▶ events: CONTENT, REASONING, TOOL_NAME, TOOL_ARGS*
 *
 * Promise:
 *   - The events, with neighbours of one kind and one call joined, depend on the text alone, not on
 *     how it was cut into tokens. Replay after a failover and whole answers rely on it.
 *   - Markers of reasoning and of well-formed calls appear in no event, nor does the white space
 *     beside them. All other text appears in exactly one event, in order.
 *   - What starts like a call and is none is content, as the model wrote it. A call counts once its
 *     name is known and its arguments begin; from there all text up to the call's end is its
 *     arguments, also when it is not valid JSON or breaks off.
 *   - Arguments are the model's own JSON text, streamed as it comes; a JSON string that holds the
 *     arguments is unescaped, none are "{}". Forms that write no JSON (tags, code) give JSON made
 *     of them.
 *   - Only what may still become a marker is held back, and white space before it; of a call, what
 *     stands before its arguments.
 * `reasoning` counts the tokens of which any byte is reasoning or one of its markers.
 *
 * Thread: one per parser; struct output_job is read-only. Memory: bounded by the answer. */
#ifndef MILLRACE_WORKER_TEXT_OUTPUT_OUTPUT_H
#define MILLRACE_WORKER_TEXT_OUTPUT_OUTPUT_H

#include "shared/base/err.h"
#include "shared/ipc/proto.h"
#include "worker/text/output/format.h"

/* What of a request the parser needs; shared by its choices. */
struct output_job; /* opaque */

struct output_wants {
    bool reasoning;   /* tell it from content; else it is content, tags and all */
    bool tools;       /* recognise calls */
    bool single_call; /* the answer ends with its first call */
};

/* `request_json` is read for its tools when they are wanted. `prompt`: the rendered prompt, whose
 * end says whether the template has already opened a block of reasoning or the head of a message.
 * Nothing is borrowed but the format's rows. ERR_NOMEM; ERR_INVALID: not JSON. */
enum err output_job_new(struct output_job **out, const struct output_format *format,
                        const struct output_wants *wants, struct str request_json,
                        struct str prompt, struct errmsg *why) MUST_CHECK;
void output_job_free(struct output_job *j); /* NULL is fine */
/* Must the parser see this control token's text? */
bool output_job_marks(const struct output_job *j, struct str text);

struct output; /* opaque: one choice */

enum err output_open(struct output **out, const struct output_job *job) MUST_CHECK;
void output_close(struct output *o); /* NULL is fine */

/* The text that one token adds: whole code points, may be empty. */
enum err output_feed(struct output *o, struct str text) MUST_CHECK;
/* No more will come: what was held back is decided. */
enum err output_end(struct output *o) MUST_CHECK;

struct output_event {
    enum delta_kind kind;
    uint32_t tool_index;
    struct str text; /* borrowed until the next call of any of these functions */
};

/* Takes the oldest event; false: none is left. */
bool output_next(struct output *o, struct output_event *ev);

uint32_t output_reasoning_tokens(const struct output *o); /* of those fed and decided */
bool output_called(const struct output *o);
bool output_over(const struct output *o);            /* single_call: its one call is complete */
enum delta_kind output_kind(const struct output *o); /* what text is being read as just now */

#endif
