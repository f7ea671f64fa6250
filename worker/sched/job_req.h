/* job_req.h - one job as the scheduler wants it: checked, typed, with its prompt as token ids.
 *
 *   payload space ──copied once──▶ bytes ──job_req_parse()──▶ job_req ──prompt_prepare()──▶ with
 * tokens
 *
 * shared/ipc/body.h has checked the form; here the meaning is checked: ids inside the vocabulary,
 * parameters in their ranges, sections that this kind of job can have. Nothing is ignored: what
 * this worker can't do is an error that says so. Ownership: a job_req owns the bytes; all pointers
 * in it borrow from them, except `prompt`. */
#ifndef MILLRACE_WORKER_SCHED_JOB_REQ_H
#define MILLRACE_WORKER_SCHED_JOB_REQ_H

#include "shared/base/err.h"
#include "shared/base/str.h"
#include "shared/ipc/proto.h"
#include "worker/sample/sampler.h"
#include "worker/text/output/output.h"

enum { JOB_MAX_INPUT_TOKENS = 300000 }; /* of an embedding job; OpenAI's bound */

struct job_tokens {
    const int32_t *ids; /* borrowed */
    size_t n;
};

struct job_input {   /* one of an embedding job */
    struct str text; /* given as text */
    int32_t *ids;    /* owned: given as, or turned into, tokens; NULL before prompt_prepare() */
    size_t n;
    bool is_text;
};

struct job_req {
    struct job_head head;
    void *bytes; /* owned */
    struct str request_json;
    bool has_text; /* prompt_text was given; empty is possible */
    struct str prompt_text;
    struct job_tokens prompt_ids; /* given as tokens; ids NULL: not */
    struct str stops[PROTO_MAX_STOPS];
    uint32_t n_stops;
    const struct logit_bias *bias;
    size_t n_bias;
    struct job_tokens replay[PROTO_MAX_CHOICES];
    uint32_t replay_text[PROTO_MAX_CHOICES]; /* bytes of the replay's text that arrived */
    struct job_input *inputs;                /* owned [n_inputs] */
    size_t n_inputs;

    struct output_job *output; /* owned; NULL: all text is content. Set by prompt_prepare() */
    int32_t *prompt;           /* owned: the prompt's tokens, set by prompt_prepare() */
    size_t n_prompt;
};

/* Where a job is at fault: what FAILED says. */
struct job_fault {
    enum err err;
    enum job_param param;
    uint32_t prompt_tokens, context; /* where known */
    struct errmsg why;
};

/* `bytes` (n of them, from malloc) is MOVED, on failure too. False: *fault says why.
 * ERR_INVALID, ERR_RANGE, ERR_UNSUPPORTED, ERR_NOMEM; ERR_PROTOCOL when the form is broken. */
bool job_req_parse(struct job_req **out, void *bytes, size_t n, uint32_t n_vocab,
                   struct job_fault *fault) MUST_CHECK;
void job_req_free(struct job_req *r); /* NULL is fine */

struct sample_params job_req_sampling(const struct job_req *r); /* borrows from `r` */

/* Fills *fault and returns false, so that a failing check is one statement. */
bool job_fault_set(struct job_fault *fault, enum err e, enum job_param param, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

#endif
