/* events.c - the events of a job; job_end() is the one place where a job ends. */
#include "worker/sched/sched_parts.h"

static void emit(struct sched *s, const struct job *j, struct msg *m)
{
    m->job = j->id;
    s->opts.emit(s->opts.user, m);
}

/* After the terminal event: out of all lists. The memory goes when the current call is over. */
static void job_end(struct sched *s, struct job *j, struct msg *terminal)
{
    for (uint32_t i = 0; i < j->n_choices; i++)
        choice_fini(s, &j->choices[i]);
    embed_leave(s, j);
    list_remove(&j->embed_link);
    list_remove(&j->link);
    list_push_back(&s->dead, &j->link);
    s->n_jobs--;
    emit(s, j, terminal);
}

void job_admit(struct sched *s, struct job *j)
{
    if (j->admitted)
        return;
    j->admitted = true;
    j->started_ns = s->opts.now_ns(s->opts.user);
    s->stats.prompt_tokens += j->n_prompt;
    s->stats.cached_tokens += j->cached_tokens;
    emit(s, j,
         &(struct msg){.type = REC_ADMITTED,
                       .admitted = {.prompt_tokens = j->n_prompt,
                                    .cached_tokens = j->cached_tokens,
                                    .context = s->engine->context}});
    for (uint32_t i = 0; i < j->n_choices; i++)
        choice_tell_rest(s, &j->choices[i]);
    for (uint32_t i = 0, n = j->n_choices; i < n; i++)
        if (j->choices[i].state == CHOICE_REPLAYED)
            emit_choice_done(s, &j->choices[i]); /* of the last one: the job is over */
}

/* How much of the text goes into one record: whole code points, and a name is never cut. */
static size_t portion(const struct text_out *out, size_t at)
{
    size_t n = out->text.n - at;
    if (n <= SCHED_DELTA_BYTES || out->kind == DELTA_TOOL_NAME)
        return n;
    n = SCHED_DELTA_BYTES;
    while (((unsigned char)out->text.p[at + n] & 0xc0) == 0x80)
        n--;
    return n;
}

void emit_delta(struct sched *s, struct choice *c, const struct text_out *out, const int32_t *token)
{
    size_t at = 0;
    do {
        size_t n = portion(out, at);
        emit(s, c->job,
             &(struct msg){.type = REC_DELTA,
                           .delta = {.head = {.choice = (uint16_t)c->index,
                                              .kind = (uint16_t)out->kind,
                                              .reasoning_tokens = c->reasoning_tokens,
                                              .tool_index = out->tool_index},
                                     .tokens = token,
                                     .n_tokens = token ? 1 : 0,
                                     .text = {n ? out->text.p + at : out->text.p, n},
                                     .logprobs = {s->logprobs.p, token ? s->logprobs.n : 0}}});
        at += n;
        token = NULL;
    } while (at < out->text.n);
}

void emit_choice_done(struct sched *s, struct choice *c)
{
    struct job *j = c->job;
    choice_fini(s, c);
    emit(s, j,
         &(struct msg){.type = REC_CHOICE_DONE,
                       .choice_done = {.choice = (uint16_t)c->index,
                                       .reason = (uint16_t)c->reason,
                                       .completion_tokens = c->n_completion,
                                       .reasoning_tokens = c->reasoning_tokens,
                                       .stop_index = c->stop_index}});
    if (++j->n_done == j->n_choices)
        job_finish(s, j, j->choices[0].reason);
}

void job_finish(struct sched *s, struct job *j, enum finish_reason reason)
{
    uint64_t now = s->opts.now_ns(s->opts.user), started = j->started_ns ? j->started_ns : now;
    uint64_t first = j->first_token_ns ? j->first_token_ns : now;
    struct rec_finished f = {
        .reason = reason,
        .prompt_tokens = j->n_prompt,
        .cached_tokens = j->cached_tokens,
        .computed_tokens = (uint32_t)j->computed_tokens,
        .queue_ns = started - j->arrived_ns,
        .prefill_ns = first - started,
        .decode_ns = now - first,
    };
    for (uint32_t i = 0; i < j->n_choices; i++) {
        f.completion_tokens += j->choices[i].n_completion;
        f.reasoning_tokens += j->choices[i].reasoning_tokens;
    }
    job_end(s, j, &(struct msg){.type = REC_FINISHED, .finished = f});
}

void job_fail(struct sched *s, struct job *j, const struct job_fault *fault)
{
    const char *why = fault->why.text[0] ? fault->why.text : err_text(fault->err);
    job_end(s, j,
            &(struct msg){
                .type = REC_FAILED,
                .failed = {.head = {.err = fault->err,
                                    .param = fault->param,
                                    .prompt_tokens =
                                        fault->prompt_tokens ? fault->prompt_tokens : j->n_prompt,
                                    .context = s->engine->context},
                           .message = str_of(why)}});
}
