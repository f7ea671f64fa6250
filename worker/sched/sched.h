/* sched.h - continuous batching: which tokens of which jobs go into the next engine step.
 *
 * A job has n choices; a choice is one sequence. A sequence is a list of tokens (prompt, then
 * completion) of which a front part is in the KV cache; a step moves that border. There is no
 * difference between prefill, decode, replay and recompute but the distance to go, so all of them
 * give the same numbers.
 *
 *   ANNOUNCED ──ready──▶ WAITING ──slot and KV blocks──▶ RESIDENT ──last token──▶ DONE
 *   (job: its prompt     (choice)  ◀──preempted──────────  (choice: has KV, is stepped)
 *    is being made)
 *
 * Order of one sched_step():
 *   1. deadlines that have passed
 *   2. admission, by rank (priority, then arrival): while slots and KV blocks last
 *   3. decode: every resident that has one token to go; KV blocks that are missing are taken from
 * the residents of lowest rank, paused ones first (preemption: they go back to WAITING and are
 *      recomputed, mostly from cached blocks)
 *   4. prefill with what the step's budget leaves, by rank, in chunks; a chunk is made so short
 * that the step should take `target_ns`: so a long prompt never stalls other streams, and a CANCEL
 * is obeyed within one step
 *   5. the engine; then sampling and text, and one DELTA per sampled token
 * An engine that embeds has inputs instead of choices, and embed.c instead of 2 to 5.
 * A choice whose next block is about to be computed by one of better rank waits for that block:
 * equal prompts that arrive together, and the n choices of a job, are computed once.
 *
 * Promise: exactly one terminal event per announced job, nothing after it; what a job gets does not
 * depend on other jobs. A paused job keeps its KV blocks while nobody needs them, and isn't
 * stepped. Errors of a job end that job alone. Thread: one. Events come through the sink, from
 * inside these calls; the sink must not call back. */
#ifndef MILLRACE_WORKER_SCHED_SCHED_H
#define MILLRACE_WORKER_SCHED_SCHED_H

#include "shared/ipc/msg.h"
#include "worker/sched/engine.h"

enum {
    SCHED_MAX_JOBS = 4096,
    SCHED_DELTA_BYTES = 32 << 10, /* of text in one DELTA; more of it follows in the next */
};

struct sched_opts {
    uint64_t target_ns; /* what a step with prefill should take; 0: always the full budget */
    uint64_t (*now_ns)(void *user); /* monotonic */
    void (*emit)(void *user,
                 const struct msg *m); /* m and what it points to: borrowed for the call */
    void *user;
};

struct sched; /* opaque */

/* The engine is BORROWED for the life of the scheduler. ERR_INVALID: budget or pool too small. */
enum err sched_open(struct sched **out, const struct engine *e, const struct sched_opts *o,
                    struct errmsg *why) MUST_CHECK;
void sched_close(struct sched *s); /* drops all jobs without a word; NULL is fine */

/* A job has arrived; its prompt is being prepared. From here on it can be cancelled, paused,
 * counted. ERR_EXISTS: there is one with this id. ERR_FULL, ERR_NOMEM: not taken, no event was
 * sent. */
enum err sched_announce(struct sched *s, uint64_t id) MUST_CHECK;
/* The prompt is ready: `r` is MOVED. A job that is gone meanwhile (cancelled) is dropped silently.
 */
void sched_ready(struct sched *s, uint64_t id, struct job_req *r);
/* It could not be prepared: FAILED, unless the job is gone. */
void sched_refuse(struct sched *s, uint64_t id, const struct job_fault *fault);

/* Jobs that are gone are no error: CANCEL and FINISHED may cross. */
void sched_cancel(struct sched *s, uint64_t id);
void sched_pause(struct sched *s, uint64_t id);
void sched_resume(struct sched *s, uint64_t id);

/* One step. False: there was nothing to compute (idle, or all paused). */
bool sched_step(struct sched *s);
bool sched_idle(const struct sched *s);                 /* no job at all */
uint64_t sched_next_deadline_ns(const struct sched *s); /* 0: none */

struct sched_stats {
    uint32_t running, waiting; /* sequences in the batch; jobs with none there */
    uint32_t kv_blocks_total, kv_blocks_used;
    uint64_t steps, prompt_tokens, cached_tokens, generated_tokens, preemptions;
};
void sched_stats(const struct sched *s, struct sched_stats *out);

#endif
