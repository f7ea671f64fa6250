/* prepare.h - the preparation thread: job bodies in, prompts or faults out, in order.
 *
 *   scheduler ──prepare_push──▶ queue ──▶ thread: parse, render, tokenize ──▶ done ──prepare_pop──▶
 * scheduler
 *
 * Thread: push and pop from the scheduler's thread. `wake_fd` gets a wake-up for each finished job
 * (shared/ipc/wake.h). */
#ifndef MILLRACE_WORKER_SCHED_PREPARE_H
#define MILLRACE_WORKER_SCHED_PREPARE_H

#include "worker/sched/prompt.h"

struct prepare; /* opaque */

struct prepared {
    uint64_t job;
    struct job_req *req; /* owned by the taker; NULL: see fault */
    struct job_fault fault;
};

enum err prepare_open(struct prepare **out, const struct prompt_maker *maker, uint32_t n_vocab,
                      int wake_fd, struct errmsg *why) MUST_CHECK;
void prepare_close(struct prepare *p); /* waits for the job at hand; drops the rest; NULL is fine */
/* `bytes` (malloc) is MOVED, on failure too. ERR_NOMEM. */
enum err prepare_push(struct prepare *p, uint64_t job, void *bytes, size_t n) MUST_CHECK;
bool prepare_pop(struct prepare *p, struct prepared *out); /* false: none is ready */

#endif
