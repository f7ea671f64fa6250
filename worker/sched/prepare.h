/* prepare.h - the preparation threads: job bodies in, prompts or faults out.
 *
 *   scheduler ──push──▶ queue ──▶ threads: parse, render, tokenize ──▶ done ──pop──▶ scheduler
 *
 * Two threads: one takes whatever is next, one small jobs only. So the order may change on the way;
 * rank in the scheduler is by announcement, not by readiness.
 * Thread: all functions from the scheduler's thread. `wake_fd` gets a wake-up for each finished job
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
void prepare_close(
    struct prepare *p); /* waits for the jobs at hand; drops the rest; NULL is fine */
/* `bytes` (malloc) is MOVED, on failure too. ERR_NOMEM. */
enum err prepare_push(struct prepare *p, uint64_t job, void *bytes, size_t n) MUST_CHECK;
bool prepare_pop(struct prepare *p, struct prepared *out); /* false: none is ready */
bool prepare_ready(struct prepare *p);                     /* there is one to pop */
/* When the oldest job now being prepared was begun; 0: none. Far in the past: a thread hangs. */
uint64_t prepare_busy_since_ns(struct prepare *p);

#endif
