/* serve.h - the worker process as the gateway knows it: shared memory in, events out, one model. */
#ifndef MILLRACE_WORKER_SCHED_SERVE_H
#define MILLRACE_WORKER_SCHED_SERVE_H

#include "worker/sched/engine_model.h"

struct serve_options {
    const char *path;          /* of the model */
    const char *chat_template; /* file; NULL: the model's own */
    struct model_opts model;   /* max_seqs: slots */
    struct embed_opts embeddings;
    int shm_fd, work_fd, news_fd; /* inherited */
    int parent;                   /* the gateway's pid; 0: whoever is the parent now */
};

/* Serves until it is told to DRAIN (or SIGTERM) and the last job is over; the gateway's death kills
 * it (PR_SET_PDEATHSIG). A model that can't be served ends it at once, with a FATAL record and
 * `why`. */
enum err serve_run(const struct serve_options *o, struct errmsg *why) MUST_CHECK;

#endif
