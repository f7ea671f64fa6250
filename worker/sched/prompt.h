/* prompt.h - a job's text to its prompt tokens: chat template, then tokenizer.
 * Thread: read-only after prompt_maker_open(); prompt_prepare() runs on the preparation thread, so
 * that a megabyte of prompt stalls nobody's stream. */
#ifndef MILLRACE_WORKER_SCHED_PROMPT_H
#define MILLRACE_WORKER_SCHED_PROMPT_H

#include "worker/sched/job_req.h"
#include "worker/text/chat_wants.h"
#include "worker/text/output/format.h"
#include "worker/text/template.h"
#include "worker/text/tokenizer.h"

struct prompt_maker {
    const struct tokenizer *tokenizer; /* borrowed */
    struct chat_template *chat;  /* owned; NULL: the file has none, and chat jobs are refused */
    struct buf source;           /* of the template */
    struct output_format format; /* of reasoning and tool calls, as the template has them */
    struct chat_wants wants;     /* how the template wants what clients send */
    bool embeds;                 /* the model gives embeddings, no text: set by the owner */
    struct errmsg unusable;      /* why the model's own template can't be used; empty: it can */
};

/* The template of `file`, or the model's own where file is NULL. One that was asked for must work;
 * the model's own may be beyond this engine: then chat jobs are refused with its reason (never
 * served with another one) and completions work. */
enum err prompt_maker_open(struct prompt_maker *p, const struct gguf *g, const struct tokenizer *t,
                           const char *file, struct errmsg *why) MUST_CHECK;
void prompt_maker_fini(struct prompt_maker *p);

/* Sets r->prompt and the inputs' ids. Chat: as transformers' apply_chat_template() does, the
 * template writes every special token itself, none is added. Completions: special tokens are added
 * as the file asks, and parsed in the text. */
bool prompt_prepare(const struct prompt_maker *p, struct job_req *r,
                    struct job_fault *fault) MUST_CHECK;

#endif
