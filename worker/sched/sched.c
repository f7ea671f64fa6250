/* sched.c - jobs in, events out, and the one engine step. */
#include "worker/sched/sched_parts.h"

#include "shared/base/checked.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* --- open, close
 * ------------------------------------------------------------------------------------- */

static enum err open_batch(struct sched *s, struct errmsg *why)
{
    const struct engine *e = s->engine;
    size_t n_logits;
    enum err err = sampler_open(&s->sampler, e->n_vocab, why);
    if (err)
        return err;
    if (mul_size(&n_logits, e->max_seqs, e->n_vocab))
        s->logits = calloc(n_logits, sizeof *s->logits);
    s->batch.seqs = calloc(e->max_seqs, sizeof *s->batch.seqs);
    s->batch.who = calloc(e->max_seqs, sizeof *s->batch.who);
    if (!s->logits || !s->batch.seqs || !s->batch.who)
        return err_set(why, ERR_NOMEM, "no memory for %u slots", e->max_seqs);
    return ERR_OK;
}

enum err sched_open(struct sched **out, const struct engine *e, const struct sched_opts *o,
                    struct errmsg *why)
{
    if (e->max_seqs < 1 || (!e->embeds && e->max_step_tokens < e->max_seqs + e->block_tokens))
        return err_set(
            why, ERR_INVALID,
            "a step of %u tokens is too small for %u slots: it needs one token for each, "
            "and %u for prefill",
            e->max_step_tokens, e->max_seqs, e->block_tokens);
    struct sched *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(why, ERR_NOMEM, "no memory for the scheduler");
    s->engine = e;
    s->opts = *o;
    list_init(&s->jobs);
    list_init(&s->dead);
    list_init(&s->waiting);
    list_init(&s->resident);
    list_init(&s->embeds);
    const struct kv_shape shape = {.n_blocks = e->kv_blocks,
                                   .block_tokens = e->block_tokens,
                                   .max_seq_tokens = e->context,
                                   .n_window_blocks = e->window_blocks,
                                   .ring_blocks = e->ring_blocks,
                                   .window = e->window,
                                   .chunked = e->chunked};
    enum err err = kv_open(&s->kv, &shape, why);
    if (!err)
        err = e->embeds ? embed_open(s, why) : open_batch(s, why);
    if (err) {
        sched_close(s);
        return err;
    }
    *out = s;
    return ERR_OK;
}

static void job_free(struct job *j)
{
    free(j->choices);
    job_req_free(j->req);
    free(j);
}

static void bury(struct sched *s)
{
    while (!list_empty(&s->dead)) {
        struct job *j = list_entry(s->dead.next, struct job, link);
        list_remove(&j->link);
        job_free(j);
    }
}

void sched_close(struct sched *s)
{
    if (!s)
        return;
    bury(s);
    while (!list_empty(&s->jobs)) {
        struct job *j = list_entry(s->jobs.next, struct job, link);
        for (uint32_t i = 0; i < j->n_choices; i++)
            choice_fini(s, &j->choices[i]);
        list_remove(&j->embed_link);
        list_remove(&j->link);
        job_free(j);
    }
    embed_close(s); /* its places hold KV blocks */
    kv_close(s->kv);
    sampler_close(s->sampler);
    free(s->logits);
    free(s->batch.seqs);
    free(s->batch.who);
    buf_fini(&s->out.text);
    buf_fini(&s->tail.text);
    buf_fini(&s->logprobs);
    free(s);
}

/* --- jobs in
 * ----------------------------------------------------------------------------------------- */

static struct job *find_job(const struct sched *s, uint64_t id)
{
    for (struct link *l = s->jobs.next; l != &s->jobs; l = l->next) {
        struct job *j = list_entry(l, struct job, link);
        if (j->id == id)
            return j;
    }
    return NULL;
}

enum err sched_announce(struct sched *s, uint64_t id)
{
    if (find_job(s, id))
        return ERR_EXISTS;
    if (s->n_jobs == SCHED_MAX_JOBS)
        return ERR_FULL;
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return ERR_NOMEM;
    j->id = id;
    j->arrival = s->next_arrival++;
    j->arrived_ns = s->opts.now_ns(s->opts.user);
    list_init(&j->embed_link);
    list_push_back(&s->jobs, &j->link);
    s->n_jobs++;
    return ERR_OK;
}

static bool too_long(const struct sched *s, struct job_fault *fault, enum job_param param,
                     uint64_t n_prompt, uint64_t n_more)
{
    const char *where = param == PARAM_MESSAGES ? "messages" : "prompt";
    if (n_more)
        job_fault_set(fault, ERR_CONTEXT_LENGTH, PARAM_MAX_TOKENS,
                      "this model's maximum context length is %u tokens; you asked for %llu "
                      "(%llu in the %s, %llu to complete): shorten the %s or lower max_tokens",
                      s->engine->context, (unsigned long long)(n_prompt + n_more),
                      (unsigned long long)n_prompt, where, (unsigned long long)n_more, where);
    else
        job_fault_set(fault, ERR_CONTEXT_LENGTH, param,
                      "this model's maximum context length is %u tokens; your %s resulted in %llu "
                      "tokens, and at least one is needed for the answer: shorten the %s",
                      s->engine->context, where, (unsigned long long)n_prompt, where);
    fault->prompt_tokens = n_prompt < UINT32_MAX ? (uint32_t)n_prompt : UINT32_MAX;
    return false;
}

/* A prompt is never cut. An explicit max_tokens that the context can't hold is an error, as OpenAI
 * has it; without one the choice may use what the context leaves. */
static bool fit_context(const struct sched *s, struct job *j, struct job_fault *fault)
{
    const struct job_req *r = j->req;
    enum job_param param = r->head.kind == JOB_CHAT ? PARAM_MESSAGES : PARAM_PROMPT;
    uint32_t context = s->engine->context;
    if (r->n_prompt == 0)
        return job_fault_set(fault, ERR_INVALID, param, "the prompt is empty");
    if (r->n_prompt >= context)
        return too_long(s, fault, param, r->n_prompt, 0);
    j->n_prompt = (uint32_t)r->n_prompt;
    j->max_completion = context - j->n_prompt;
    if (r->head.max_tokens > j->max_completion)
        return too_long(s, fault, param, r->n_prompt, r->head.max_tokens);
    if (r->head.max_tokens)
        j->max_completion = r->head.max_tokens;
    return true;
}

static bool start_choices(struct sched *s, struct job *j, struct job_fault *fault)
{
    if (s->engine->embeds)
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_MODEL,
                             "this model gives embeddings; it writes no text");
    if (!fit_context(s, j, fault))
        return false;
    j->sampling = job_req_sampling(j->req);
    j->choices = calloc(j->req->head.n, sizeof *j->choices);
    if (!j->choices)
        return job_fault_set(fault, ERR_NOMEM, PARAM_NONE, "out of memory");
    j->n_choices = j->req->head.n;
    for (uint32_t i = 0; i < j->n_choices; i++) {
        j->choices[i] = (struct choice){.job = j, .index = i};
        list_init(&j->choices[i].link);
    }
    uint32_t n_live = 0;
    for (uint32_t i = 0; i < j->n_choices; i++) {
        struct choice *c = &j->choices[i];
        if (!choice_start(s, c, fault))
            return false;
        n_live += c->state == CHOICE_WAITING;
    }
    for (uint32_t i = 0; i < j->n_choices; i++)
        if (j->choices[i].state == CHOICE_WAITING)
            choice_enqueue(s, &j->choices[i]);
    if (n_live == 0) /* all had been said; only the end was missing */
        job_admit(s, j);
    return true;
}

void sched_ready(struct sched *s, uint64_t id, struct job_req *r)
{
    struct job *j = find_job(s, id);
    if (!j) {
        job_req_free(r);
        return;
    }
    assert(!j->req);
    j->req = r;
    j->priority = r->head.priority;
    struct job_fault fault = {0};
    bool ok =
        r->head.kind == JOB_EMBEDDING ? embed_start(s, j, &fault) : start_choices(s, j, &fault);
    if (!ok)
        job_fail(s, j, &fault);
    bury(s);
}

void sched_refuse(struct sched *s, uint64_t id, const struct job_fault *fault)
{
    struct job *j = find_job(s, id);
    if (j)
        job_fail(s, j, fault);
    bury(s);
}

void sched_cancel(struct sched *s, uint64_t id)
{
    struct job *j = find_job(s, id);
    if (j)
        job_finish(s, j, FINISH_CANCELLED);
    bury(s);
}

void sched_pause(struct sched *s, uint64_t id)
{
    struct job *j = find_job(s, id);
    if (!j)
        return;
    j->paused = true;
    embed_leave(s, j); /* others may need it; the input begins anew */
}

void sched_resume(struct sched *s, uint64_t id)
{
    struct job *j = find_job(s, id);
    if (j)
        j->paused = false;
}

/* --- one step
 * ---------------------------------------------------------------------------------------- */

static void end_overdue(struct sched *s)
{
    uint64_t now = s->opts.now_ns(s->opts.user);
    struct link *next;
    for (struct link *l = s->jobs.next; l != &s->jobs; l = next) {
        struct job *j = list_entry(l, struct job, link);
        next = l->next;
        if (!j->req || !j->req->head.deadline_ns || now < j->req->head.deadline_ns)
            continue;
        struct job_fault fault;
        job_fault_set(&fault, ERR_TIMEOUT, PARAM_NONE, "the deadline of this request has passed");
        job_fail(s, j, &fault);
    }
}

/* After the engine: the border moves, and who has come to the end of its tokens draws the next. */
static void accept(struct sched *s, int i)
{
    struct choice *c = s->batch.who[i];
    const struct step_seq *q = &s->batch.seqs[i];
    if (c->state != CHOICE_RESIDENT)
        return; /* its job ended a moment ago, through another choice */
    kv_seq_commit(c->kv, q->tokens, q->n_tok);
    c->job->computed_tokens += q->n_tok;
    if (q->n_logits)
        choice_draw(s, c, q->logits);
}

/* The engine refused a step. One by one it is found out whose fault it is; the others lose nothing,
 * because a repeated step gives the same numbers. */
static void step_one_by_one(struct sched *s)
{
    for (int i = 0; i < s->batch.n; i++) {
        struct job *j = s->batch.who[i]->job;
        struct job_fault fault = {0};
        if (s->batch.who[i]->state != CHOICE_RESIDENT)
            continue;
        fault.err = s->engine->step(s->engine->self, &s->batch.seqs[i], 1, &fault.why);
        if (fault.err)
            job_fail(s, j, &fault);
        else
            accept(s, i);
    }
}

void sched_learn_speed(struct sched *s, uint32_t n_tokens, uint64_t ns)
{
    if (n_tokens < s->engine->block_tokens || ns == 0)
        return; /* a step of few tokens costs what reading the weights costs: says nothing here */
    double now = (double)ns / n_tokens;
    s->token_ns = s->token_ns > 0 ? s->token_ns * 0.7 + now * 0.3 : now;
}

static bool step_batch(struct sched *s)
{
    batch_compose(s);
    if (s->batch.n == 0)
        return false;
    uint64_t start = s->opts.now_ns(s->opts.user);
    struct errmsg why;
    enum err e = s->engine->step(s->engine->self, s->batch.seqs, s->batch.n, &why);
    if (e) {
        step_one_by_one(s);
    } else {
        sched_learn_speed(s, s->batch.n_tokens, s->opts.now_ns(s->opts.user) - start);
        for (int i = 0; i < s->batch.n; i++)
            accept(s, i);
    }
    return true;
}

bool sched_step(struct sched *s)
{
    end_overdue(s);
    bool worked = s->engine->embeds ? embed_step(s) : step_batch(s);
    s->stats.steps += worked;
    bury(s);
    return worked;
}

bool sched_idle(const struct sched *s)
{
    return list_empty(&s->jobs);
}

uint64_t sched_next_deadline_ns(const struct sched *s)
{
    uint64_t next = 0;
    for (struct link *l = s->jobs.next; l != &s->jobs; l = l->next) {
        const struct job *j = list_entry(l, struct job, link);
        uint64_t at = j->req ? j->req->head.deadline_ns : 0;
        if (at && (!next || at < next))
            next = at;
    }
    return next;
}

static bool job_in_batch(const struct job *j)
{
    if (j->req && j->req->head.kind == JOB_EMBEDDING)
        return j->admitted;
    for (uint32_t i = 0; i < j->n_choices; i++)
        if (j->choices[i].state == CHOICE_RESIDENT && !j->paused)
            return true;
    return false;
}

void sched_stats(const struct sched *s, struct sched_stats *out)
{
    *out = s->stats;
    out->running = embed_running(s);
    for (struct link *l = s->resident.next; l != &s->resident; l = l->next)
        out->running += !list_entry(l, struct choice, link)->job->paused;
    for (struct link *l = s->jobs.next; l != &s->jobs; l = l->next)
        out->waiting += !job_in_batch(list_entry(l, struct job, link));
    struct kv_stats kv;
    kv_stats(s->kv, &kv);
    out->kv_blocks_total = kv.n_blocks;
    out->kv_blocks_used = kv.held;
}
