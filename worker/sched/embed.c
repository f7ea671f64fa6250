/* embed.c - embedding jobs: which inputs are in the next step, and what becomes of them.
 *
 *   job: input 0 | input 1 | input 2 ...      place: one input under way (KV blocks, pooled states)
 *        done      in a place, complete or a piece of it     the next one waits for it
 *
 * A step takes inputs until the budget is used up: jobs of equal priority one input each, who has
 * had fewest tokens first, then again: so one with thousands of inputs does not hold up one with a
 * single input. An encoder needs an input whole in one step; a decoder's is cut to what is left of
 * the budget and goes on in the next step. A place has the KV blocks of its whole input from the
 * start: what has begun can always end, and nothing is ever thrown out. Inputs of a job are
 * finished in order. */
#include "worker/sched/sched_parts.h"

#include "shared/base/checked.h"

#include <math.h>
#include <stdlib.h>

enum { FIRST_STEP_BLOCKS = 8, TARGETS = 4 }; /* nobody waits for a token of an embedding job */

struct place {
    struct job *job; /* borrowed; NULL: free */
    uint32_t input;
    uint32_t pos; /* tokens computed */
    struct kv_seq *kv;
    struct pooled pooled;
};

struct embedder {
    struct place *places;   /* [n]; n: sequences of a step */
    struct embed_seq *seqs; /* [n]: of the step being made */
    struct place **who;     /* [n] */
    double *sums;           /* [n, n_embd] and */
    float *vectors;         /* [n, n_embd]: of the places */
    uint32_t n;
    int n_seqs;
    uint32_t n_tokens, allow;
    uint64_t now_turn; /* of the job that was first in the last step: where a new one starts */
};

/* --- open, close
 * ------------------------------------------------------------------------------------- */

enum err embed_open(struct sched *s, struct errmsg *why)
{
    const uint32_t n = s->engine->max_seqs, n_embd = s->engine->n_embd;
    struct embedder *m = s->embedder = calloc(1, sizeof *m);
    size_t values;
    if (m && mul_size(&values, n, n_embd)) {
        m->n = n;
        m->places = calloc(n, sizeof *m->places);
        m->seqs = calloc(n, sizeof *m->seqs);
        m->who = calloc(n, sizeof *m->who);
        m->sums = calloc(values, sizeof *m->sums);
        m->vectors = calloc(values, sizeof *m->vectors);
    }
    if (!m || !m->places || !m->seqs || !m->who || !m->sums || !m->vectors)
        return err_set(why, ERR_NOMEM, "no memory for %u inputs at once", n);
    for (uint32_t i = 0; i < n; i++)
        m->places[i].pooled = (struct pooled){.kind = s->engine->pooling,
                                              .n = n_embd,
                                              .sums = m->sums + (size_t)i * n_embd,
                                              .vector = m->vectors + (size_t)i * n_embd};
    return ERR_OK;
}

static void leave(struct place *p)
{
    kv_seq_free(p->kv);
    p->kv = NULL;
    p->job = NULL;
}

void embed_close(struct sched *s)
{
    struct embedder *m = s->embedder;
    if (!m)
        return;
    for (uint32_t i = 0; m->places && i < m->n; i++)
        leave(&m->places[i]);
    free(m->places);
    free(m->seqs);
    free(m->who);
    free(m->sums);
    free(m->vectors);
    free(m);
    s->embedder = NULL;
}

void embed_leave(struct sched *s, const struct job *j)
{
    for (uint32_t i = 0; s->embedder && i < s->embedder->n; i++)
        if (s->embedder->places[i].job == j)
            leave(&s->embedder->places[i]);
}

uint32_t embed_running(const struct sched *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; s->embedder && i < s->embedder->n; i++)
        n += s->embedder->places[i].job != NULL;
    return n;
}

/* --- a new job
 * --------------------------------------------------------------------------------------- */

static bool check_dimensions(const struct sched *s, uint32_t want, struct job_fault *fault)
{
    const struct engine *e = s->engine;
    if (!want || want == e->n_embd)
        return true;
    if (want > e->n_embd)
        return job_fault_set(fault, ERR_INVALID, PARAM_DIMENSIONS,
                             "this model's vectors have %u dimensions; 'dimensions' asks for %u",
                             e->n_embd, want);
    if (!e->min_dims)
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_DIMENSIONS,
                             "this model's vectors have %u dimensions and are not made to be "
                             "shortened: leave out 'dimensions'",
                             e->n_embd);
    if (want < e->min_dims)
        return job_fault_set(fault, ERR_INVALID, PARAM_DIMENSIONS,
                             "this model's vectors can be shortened to %u dimensions at least; "
                             "'dimensions' asks for %u",
                             e->min_dims, want);
    return true;
}

static bool check_input(const struct sched *s, size_t i, size_t n, struct job_fault *fault)
{
    const struct engine *e = s->engine;
    if (n == 0)
        return job_fault_set(fault, ERR_INVALID, PARAM_INPUT, "input %zu has no tokens", i);
    if (n <= e->context && (n - 1) / e->block_tokens < e->kv_blocks)
        return true;
    job_fault_set(fault, ERR_CONTEXT_LENGTH, PARAM_INPUT,
                  "this model's maximum context length is %u tokens; input %zu has %zu: shorten it "
                  "or split it up",
                  e->context, i, n);
    fault->prompt_tokens = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
    return false;
}

static bool job_before(const struct job *a, const struct job *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->turn < b->turn;
}

static void enqueue(struct sched *s, struct job *j)
{
    struct link *at = s->embeds.prev;
    while (at != &s->embeds && job_before(j, list_entry(at, struct job, embed_link)))
        at = at->prev;
    list_push_front(at, &j->embed_link); /* behind `at` */
}

bool embed_start(struct sched *s, struct job *j, struct job_fault *fault)
{
    uint64_t total = 0;
    if (!s->embedder)
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_MODEL,
                             "this model writes text; it gives no embeddings");
    if (!check_dimensions(s, j->req->head.dimensions, fault))
        return false;
    for (size_t i = 0; i < j->req->n_inputs; i++) {
        if (!check_input(s, i, j->req->inputs[i].n, fault))
            return false;
        total += j->req->inputs[i].n;
    }
    if (total > JOB_MAX_INPUT_TOKENS)
        return job_fault_set(fault, ERR_INVALID, PARAM_INPUT,
                             "the inputs have %llu tokens together; a request may have %d: split "
                             "it up",
                             (unsigned long long)total, JOB_MAX_INPUT_TOKENS);
    j->n_prompt = (uint32_t)total;
    j->turn = s->embedder->now_turn;
    enqueue(s, j);
    return true;
}

/* --- composing a step
 * -------------------------------------------------------------------------------- */

/* Tokens that this step can afford: as with prompts, a CANCEL is obeyed within one step. */
static uint32_t allowance(const struct sched *s)
{
    const struct engine *e = s->engine;
    double n = e->max_step_tokens;
    if (s->opts.target_ns && s->token_ns > 0)
        n = (double)s->opts.target_ns * TARGETS / s->token_ns;
    else if (s->opts.target_ns)
        n = FIRST_STEP_BLOCKS * e->block_tokens;
    n = n < e->block_tokens ? e->block_tokens : n; /* always some progress */
    return n < e->max_step_tokens ? (uint32_t)n : e->max_step_tokens;
}

/* The place of the job's unfinished input, if it has one. */
static struct place *under_way(const struct sched *s, const struct job *j)
{
    for (uint32_t i = 0; i < s->embedder->n; i++)
        if (s->embedder->places[i].job == j && s->embedder->places[i].input == j->next_input)
            return &s->embedder->places[i];
    return NULL;
}

/* NULL: no place or no KV blocks now. */
static struct place *enter(struct sched *s, struct job *j)
{
    struct embedder *m = s->embedder;
    uint32_t i = 0;
    while (i < m->n && m->places[i].job)
        i++;
    if (i == m->n)
        return NULL;
    struct place *p = &m->places[i];
    /* No sharing of prefixes: pooling wants the states of all tokens. */
    if (kv_seq_new(s->kv, 0, false, &p->kv))
        return NULL;
    if (kv_seq_grow(p->kv, (uint32_t)j->req->inputs[j->next_input].n)) {
        leave(p);
        return NULL;
    }
    p->job = j;
    p->input = (uint32_t)j->next_input;
    p->pos = 0;
    p->pooled.n_rows = 0;
    return p;
}

/* The next piece of the job's next input joins the step. False: nothing of it fits. */
static bool add_next(struct sched *s, struct job *j)
{
    struct embedder *m = s->embedder;
    const uint32_t left = m->allow > m->n_tokens ? m->allow - m->n_tokens : 0;
    if (j->paused || j->next_input == j->req->n_inputs || m->n_seqs == (int)m->n)
        return false;
    struct place *p = under_way(s, j);
    const struct job_input *in = &j->req->inputs[j->next_input];
    uint32_t n = (uint32_t)in->n - (p ? p->pos : 0);
    if (n > left) {
        if (s->engine->is_encoder ? m->n_seqs > 0 : left == 0)
            return false;
        n = s->engine->is_encoder ? n : left;
    }
    if (!p)
        p = enter(s, j);
    if (!p)
        return false;
    struct embed_seq *q = &m->seqs[m->n_seqs];
    *q = (struct embed_seq){.tokens = in->ids + p->pos,
                            .n_tok = n,
                            .pos = p->pos,
                            .last = p->pos + n == in->n,
                            .pooled = &p->pooled};
    q->blocks = kv_seq_blocks(p->kv, &q->n_blocks);
    q->window_blocks = kv_seq_window_blocks(p->kv);
    m->who[m->n_seqs++] = p;
    m->n_tokens += n;
    j->next_input += q->last; /* which lets the one behind it in */
    j->served += n;
    return q->last;
}

/* One job after the other, one input each, as long as inputs fit. */
static void add_class(struct sched *s, struct link *from, const struct link *to)
{
    bool more = true;
    while (more) {
        more = false;
        for (struct link *l = from; l != to; l = l->next)
            more |= add_next(s, list_entry(l, struct job, embed_link));
    }
}

static void compose(struct sched *s)
{
    struct embedder *m = s->embedder;
    m->n_seqs = 0;
    m->n_tokens = 0;
    m->allow = allowance(s);
    struct link *l = s->embeds.next;
    while (l != &s->embeds) { /* by priority */
        struct link *from = l;
        const int32_t priority = list_entry(l, struct job, embed_link)->priority;
        while (l != &s->embeds && list_entry(l, struct job, embed_link)->priority == priority)
            l = l->next;
        add_class(s, from, l);
    }
    struct link *next;
    for (l = s->embeds.next; l != &s->embeds; l = next) { /* who had something moves back */
        struct job *j = list_entry(l, struct job, embed_link);
        next = l->next; /* a job met again has served 0 */
        if (!j->served)
            continue;
        m->now_turn = m->now_turn > j->turn ? m->now_turn : j->turn;
        j->turn += j->served;
        j->served = 0;
        job_admit(s, j);
        list_remove(&j->embed_link);
        enqueue(s, j);
    }
}

/* --- the step
 * ---------------------------------------------------------------------------------------- */

/* An input is done. The job may end. */
static void deliver(struct sched *s, struct place *p)
{
    struct job *j = p->job;
    const uint32_t n_embd = s->engine->n_embd, input = p->input;
    const uint32_t dims = j->req->head.dimensions ? j->req->head.dimensions : n_embd;
    float *v = p->pooled.vector;
    for (uint32_t i = 0; i < n_embd; i++)
        if (!isfinite(v[i])) {
            struct job_fault fault;
            job_fault_set(&fault, ERR_INTERNAL, PARAM_INPUT,
                          "the model computed no number for input %u: the file may be damaged",
                          input);
            job_fail(s, j, &fault);
            return;
        }
    pooled_normalize(v, dims);
    leave(p); /* its memory stays until the next step */
    s->opts.emit(
        s->opts.user,
        &(struct msg){.type = REC_EMBEDDING,
                      .job = j->id,
                      .embedding = {.head = {.index = input,
                                             .n_dims = dims,
                                             .n_tokens = (uint32_t)j->req->inputs[input].n},
                                    .values = v}});
    if (input + 1 == j->req->n_inputs)
        job_finish(s, j, FINISH_STOP);
}

static void accept(struct sched *s, int i)
{
    struct place *p = s->embedder->who[i];
    const struct embed_seq *q = &s->embedder->seqs[i];
    if (!p->job)
        return; /* its job failed a moment ago, through another input */
    kv_seq_commit(p->kv, q->tokens, q->n_tok);
    p->pos += q->n_tok;
    p->job->computed_tokens += q->n_tok;
    if (q->last)
        deliver(s, p);
}

/* As with choices: who is at fault fails, the others lose nothing. */
static void one_by_one(struct sched *s)
{
    struct embedder *m = s->embedder;
    for (int i = 0; i < m->n_seqs; i++) {
        struct job_fault fault = {.param = PARAM_INPUT};
        if (!m->who[i]->job)
            continue;
        fault.err = s->engine->embed(s->engine->self, &m->seqs[i], 1, &fault.why);
        if (fault.err)
            job_fail(s, m->who[i]->job, &fault);
        else
            accept(s, i);
    }
}

bool embed_step(struct sched *s)
{
    struct embedder *m = s->embedder;
    if (!m)
        return false;
    compose(s);
    if (m->n_seqs == 0)
        return false;
    const uint64_t start = s->opts.now_ns(s->opts.user);
    struct errmsg why;
    if (s->engine->embed(s->engine->self, m->seqs, m->n_seqs, &why)) {
        one_by_one(s);
        return true;
    }
    sched_learn_speed(s, m->n_tokens, s->opts.now_ns(s->opts.user) - start);
    for (int i = 0; i < m->n_seqs; i++)
        accept(s, i);
    return true;
}
