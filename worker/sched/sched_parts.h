/* sched_parts.h - the scheduler's own structures, shared by sched.c, batch.c, choice.c and events.c
 * only.
 *
 * Who is where:
 *   job:     s->jobs in order of arrival, until its terminal event; then s->dead until the call is
 * over (the batch may still point at its choices) choice:  WAITING in s->waiting, RESIDENT in
 * s->resident, both by rank; REPLAYED and DONE in no list embedding job: also in s->embeds, by
 * priority and turn
 */
#ifndef MILLRACE_WORKER_SCHED_SCHED_PARTS_H
#define MILLRACE_WORKER_SCHED_SCHED_PARTS_H

#include "shared/base/list.h"
#include "worker/kv/kv_cache.h"
#include "worker/sample/sampler.h"
#include "worker/sched/sched.h"

enum choice_state {
    CHOICE_WAITING,
    CHOICE_RESIDENT,
    CHOICE_REPLAYED, /* its end was in the replay; CHOICE_DONE follows ADMITTED */
    CHOICE_DONE,
};

struct choice {
    struct link link;
    struct job *job; /* borrowed */
    uint32_t index;
    enum choice_state state;
    int32_t *tokens; /* owned: prompt, completion; NULL until first needed */
    uint32_t cap;
    uint32_t n_completion;
    struct kv_seq *kv;      /* owned when RESIDENT, else NULL */
    struct text_pipe *text; /* owned until done */
    uint64_t text_bytes;    /* that its tokens gave so far */
    struct buf untold;      /* owned: text of the replay that never arrived; struct untold, bytes */
    uint32_t reasoning_tokens;
    bool called; /* made tool calls */
    enum finish_reason reason;
    int32_t stop_index;
};

struct job {
    struct link link;
    struct link embed_link;
    uint64_t id, arrival;
    int32_t priority;
    bool paused, admitted;
    uint32_t served;        /* embedding job: tokens that it has in the step being made */
    uint64_t turn;          /* embedding job: tokens it has had; who had fewest is next */
    struct job_req *req;    /* owned; NULL while announced */
    struct choice *choices; /* owned [n_choices] */
    uint32_t n_choices, n_done;
    struct sample_params sampling; /* borrows from req */
    uint32_t n_prompt, cached_tokens;
    uint32_t max_completion; /* per choice: max_tokens, or what the context leaves */
    size_t next_input;       /* embedding job: those before it are done, or end with this step */
    uint64_t computed_tokens;
    uint64_t arrived_ns, started_ns, first_token_ns; /* 0: not yet */
};

struct batch {
    struct step_seq *seqs; /* [max_seqs] */
    struct choice **who;   /* [max_seqs] */
    int n;
    uint32_t n_tokens;
};

struct sched {
    const struct engine *engine; /* borrowed */
    struct sched_opts opts;
    struct kv_cache *kv;
    struct sampler *sampler;   /* NULL when the engine embeds */
    float *logits;             /* [max_seqs, n_vocab]; NULL when the engine embeds */
    struct embedder *embedder; /* NULL when it does not */
    struct batch batch;
    struct text_out out, tail; /* scratch of one delivery */
    struct buf logprobs;
    struct link jobs, dead, waiting, resident, embeds;
    uint32_t n_jobs;
    uint64_t next_arrival;
    double token_ns; /* what a position of a larger step costs, smoothed; 0: not known yet */
    struct sched_stats stats;
};

static inline uint32_t choice_n_tokens(const struct choice *c)
{
    return c->job->n_prompt + c->n_completion;
}

static inline uint32_t choice_to_go(const struct choice *c) /* of a resident */
{
    return choice_n_tokens(c) - kv_seq_len(c->kv);
}

/* --- choice.c: tokens to text, and the end of a choice
 * ----------------------------------------------- */

/* Opens the text pipeline and feeds the replay, if any. False: *fault. */
bool choice_start(struct sched *s, struct choice *c, struct job_fault *fault) MUST_CHECK;
/* Fills c->tokens. */
enum err choice_load(struct choice *c) MUST_CHECK;
/* The logits after its last token are there: draws the next one, delivers it. The job may end. */
void choice_draw(struct sched *s, struct choice *c, const float *logits);
/* After ADMITTED: the text of the replay that had not arrived. */
void choice_tell_rest(struct sched *s, struct choice *c);
void choice_fini(struct sched *s, struct choice *c); /* gives everything back */

/* --- batch.c: lists by rank, admission, preemption, composing a step
 * --------------------------------- */

void choice_enqueue(struct sched *s, struct choice *c); /* into s->waiting */
void choice_leave(struct choice *c); /* out of its list, its KV blocks given back */
void batch_compose(struct sched *s); /* admits, preempts, fills s->batch */

/* --- embed.c: embedding jobs
 * ------------------------------------------------------------------------- */

enum err embed_open(struct sched *s, struct errmsg *why) MUST_CHECK;
void embed_close(struct sched *s);
/* The job's inputs are there: queued, or false and *fault. */
bool embed_start(struct sched *s, struct job *j, struct job_fault *fault) MUST_CHECK;
bool embed_step(struct sched *s);                       /* false: nothing to do */
void embed_leave(struct sched *s, const struct job *j); /* gives back what the job holds */
uint32_t embed_running(const struct sched *s);          /* inputs under way */

/* --- sched.c: what a position of a larger step costs
 * ------------------------------------------------- */

void sched_learn_speed(struct sched *s, uint32_t n_tokens, uint64_t ns);

/* --- events.c: what the gateway hears
 * ---------------------------------------------------------------- */

void job_admit(struct sched *s,
               struct job *j); /* ADMITTED, and CHOICE_DONE of what replay had ended */
void emit_delta(struct sched *s, struct choice *c, const struct text_out *out,
                const int32_t *token);
void emit_choice_done(struct sched *s, struct choice *c); /* FINISHED, too, when it was the last */
void job_finish(struct sched *s, struct job *j, enum finish_reason reason);
void job_fail(struct sched *s, struct job *j, const struct job_fault *fault);

#endif
