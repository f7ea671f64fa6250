/* dispatch.h - opening and closing of the dispatcher; app.c's business. The dialects use job.h
 * only. */
#ifndef MILLRACE_GATEWAY_DISPATCH_DISPATCH_H
#define MILLRACE_GATEWAY_DISPATCH_DISPATCH_H

#include "gateway/dispatch/job.h"
#include "gateway/usage/usage.h"
#include <uv.h>

struct model_config {
    struct str name;           /* what requests call it */
    const char *path;          /* GGUF file */
    const char *device;        /* "cpu", "cuda:0" */
    int replicas;              /* workers, at least 1 */
    uint32_t context;          /* 0: the model's */
    uint32_t slots;            /* sequences per worker; 0: default */
    int threads;               /* per worker; 0: cores / workers */
    const char *chat_template; /* file; NULL: the model's own */
    const char *kv_type;       /* NULL: f16 */
    const char *pooling;       /* NULL: as the file says; "mean", "cls", "last": it embeds */
    uint32_t dimensions;       /* embeddings may be cut to so many values; 0: as known of it */
    uint32_t queue_limit;      /* jobs waiting in the gateway; 0: 512 */
    uint64_t memory_bytes;     /* weights and KV cache of all its workers; 0: the budget */
};

struct dispatch_options {
    uv_loop_t *loop;
    const struct model_config *models; /* borrowed for the life of the dispatcher */
    size_t n_models;
    const char *worker_path; /* millrace-worker; beside the gateway's own binary by default */
    struct usage *usage;     /* journal and rows; borrowed */
    uint32_t
        stall_ms; /* a worker that holds jobs and makes no step for so long is killed; 0: 30 s */
    uint32_t max_attempts; /* workers a job may take down: 0: 2 */
    /* Loading on first use (resident.c), where one of the first three is set; else all models load
     * at once and stay. */
    uint32_t max_loaded;          /* models that may be loaded together */
    uint64_t memory_budget_bytes; /* what they may need together */
    uint32_t idle_unload_ms;      /* without a job for so long: unloaded */
    uint32_t turn_ms;  /* a busy model gives way to a waiting one after so long; 0: 10 s */
    uint32_t queue_ms; /* a job that was not begun within fails; 0: no limit */
    void (*on_job_end)(void *app,
                       const struct usage_row *row); /* metrics and the log line; NULL is fine */
    /* Seconds between two tokens of a choice, for the metrics. NULL is fine. */
    void (*on_token_gap)(void *app, const struct model_config *m, double seconds);
    /* A model's first worker is ready (error NULL), or it can't be loaded (one line). With loading
     * on first use: it is found fit to be loaded (NULL); one that is not is no reason to end. NULL
     * is fine. */
    void (*on_model_state)(void *app, const struct model_config *m, const char *error);
    void *app;
};

enum err dispatch_open(struct dispatch **out, const struct dispatch_options *o,
                       struct errmsg *why) MUST_CHECK;
/* Drain: queued jobs fail with a retryable error now, running ones go on. */
void dispatch_drain(struct dispatch *d);
bool dispatch_idle(const struct dispatch *d); /* no job left */
/* Ends everything: jobs fail, workers are killed (process groups), on_closed when all handles are
 * closed. */
void dispatch_close(struct dispatch *d, void (*on_closed)(void *user), void *user);

#endif
