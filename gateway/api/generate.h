/* generate.h - what every text-generating dialect does the same way: from the body of a request to
 * a job, and from the job's events to an answer, streamed or whole.
 *
 *                  ADMITTED, or the first ping is due
 *   submitted ───────────────────────────────────────▶ streaming ──▶ ended
 *       │  failed: an HTTP status                          │  failed: data: {"error":...}
 *       └──────────────▶ ended ◀──────── client gone: job_cancel
 *
 * The head of a stream waits for ADMITTED, so that an error before it has its proper status; a job
 * that queues longer than a ping interval gets its head then, because proxies cut silent
 * connections. What differs between dialects is in struct dialect: how one event looks as bytes.
 * Memory: struct gen lives in the request's arena, its texts on the heap until gen_end().
 * Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_API_GENERATE_H
#define MILLRACE_GATEWAY_API_GENERATE_H

#include "gateway/api/api.h"
#include "gateway/api/validate.h"

struct gen_choice {
    bool started; /* its first chunk was sent */
    bool done;
    enum finish_reason reason;
    struct buf text, reasoning; /* whole answers */
    struct buf logprobs;        /* whole answers: what the dialect collects, comma-separated */
    struct buf more[3];         /* whole answers: the dialect's own */
    struct buf tool_calls;      /* whole answers: JSON objects, comma-separated */
    uint32_t n_tool_calls;
    uint32_t text_offset;   /* code points of tokens so far (completions' logprobs) */
    uint64_t last_token_ns; /* for the metric */
};

struct gen;

struct dialect {
    const char *name;      /* for the usage row */
    const char *id_prefix; /* "chatcmpl-" */
    enum dialect_bit bit;
    /* One event as complete `data: ...\n\n` lines appended to `out`; nothing when there is nothing
     * to say. */
    void (*put_delta)(struct gen *g, struct buf *out, const struct job_delta *d);
    void (*put_finish)(struct gen *g, struct buf *out, uint32_t choice);
    void (*put_usage)(struct gen *g, struct buf *out, const struct job_usage *u);
    /* For whole answers: remember, then the body. */
    void (*collect)(struct gen *g, const struct job_delta *d);
    void (*put_whole)(struct gen *g, struct buf *out, const struct job_usage *u);
};

extern const struct dialect dialect_chat, dialect_completions;

struct gen {
    const struct dialect *dialect;
    struct api *api;               /* borrowed */
    struct http_request *r;        /* borrowed; gone at the end */
    struct job *job;               /* borrowed until its terminal callback */
    struct model_metrics *metrics; /* borrowed */
    bool stream, include_usage, logprobs;
    bool hide_reasoning;
    bool begun; /* the head of the stream is out */
    bool paused;
    bool before_load; /* the model had never been loaded when the request came */
    uint32_t n;
    struct gen_choice *choices; /* in the arena; their bufs owned */
    struct str model;           /* as asked for */
    struct str echo;            /* completions: the prompt, to stand before each choice's text */
    int64_t created;
    char id[48];
    char fingerprint[24]; /* of model and engine: equal ones give equal answers for equal seeds */
};

/* A handler's whole body. */
void gen_start(struct http_request *r, struct api *api, const struct dialect *dialect);

/* For the dialects. */
const char *gen_finish_name(enum finish_reason reason);
void gen_put_usage(struct buf *out, const struct job_usage *u); /* {"prompt_tokens":...} */
/* -inf and worse than any logit can be: OpenAI's -9999. */
void gen_put_logprob(struct buf *out, float logprob);

#endif
