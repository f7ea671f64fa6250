/* stream.c - what a worker says about its jobs: checked, remembered, journaled, handed to the sink.
 *
 * msg_read() has checked the bytes of a record; here its meaning is checked against what we know: a
 * record about a job that is not on that worker's board, or an impossible choice, means that the
 * worker is mad, and it is killed. */
#include "gateway/dispatch/internal.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/ipc/msg.h"
#include <stdlib.h>
#include <string.h>

static bool choice_append(struct choice *c, const int32_t *tokens, uint32_t n)
{
    if (n > c->cap - c->n) {
        uint32_t cap = c->cap ? c->cap : 64;
        while (cap - c->n < n) {
            if (cap > UINT32_MAX / 2)
                return false;
            cap *= 2;
        }
        int32_t *grown = realloc(c->tokens, (size_t)cap * sizeof(*grown));
        if (!grown)
            return false;
        c->tokens = grown;
        c->cap = cap;
    }
    memcpy(c->tokens + c->n, tokens, (size_t)n * sizeof(*tokens));
    c->n += n;
    return true;
}

static void on_admitted(struct job *j, const struct rec_admitted *a)
{
    if (j->state == JOB_SENT) {
        struct member *mb = j->member;
        job_set_state(j, JOB_RUNNING, mb);
    }
    struct usage_row *row = j->row;
    if (!row)
        return;
    row->computed_tokens = j->computed_before;
    if (j->head.kind != JOB_EMBEDDING) /* those count by the input */
        row->computed_tokens += a->prompt_tokens - a->cached_tokens;
    if (j->admitted) /* a failover: the client was told already */
        return;
    j->admitted = true;
    j->running_ns = clock_mono_ns();
    row->prompt_tokens = a->prompt_tokens;
    row->cached_tokens = a->cached_tokens;
    if (j->sink.on_admitted)
        j->sink.on_admitted(j->sink.user, a->prompt_tokens, a->cached_tokens);
}

/* False: the worker broke the protocol. */
static bool on_delta(struct job *j, const struct msg *m)
{
    uint32_t c = m->delta.head.choice;
    if (c >= j->head.n || j->choices[c].done || !j->admitted || j->head.kind == JOB_EMBEDDING)
        return false;
    struct choice *ch = &j->choices[c];
    if (!choice_append(ch, m->delta.tokens, m->delta.n_tokens)) {
        worker_tell(j->member->worker, REC_CANCEL, j->id);
        job_finish(j, &(struct job_end){.outcome = USAGE_FAILED,
                                        .cause = "out_of_memory",
                                        .err = ERR_NOMEM,
                                        .message = "the server is out of memory"});
        return true;
    }
    ch->text_bytes += m->delta.head.text_bytes;
    ch->reasoning_tokens = m->delta.head.reasoning_tokens;
    /* The journal: plain stores into mapped memory; after kill -9 the next start finds these
     * numbers. */
    struct usage_row *row = j->row;
    row->completion_tokens += m->delta.n_tokens;
    row->computed_tokens += m->delta.n_tokens;
    uint32_t reasoning = 0;
    for (uint32_t i = 0; i < j->head.n; i++)
        reasoning += j->choices[i].reasoning_tokens;
    row->reasoning_tokens = reasoning;
    uint64_t now = clock_mono_ns();
    if (!j->first_token_ns && m->delta.n_tokens)
        j->first_token_ns = now;
    const struct dispatch_options *o = &j->d->o;
    if (ch->last_token_ns && m->delta.n_tokens && o->on_token_gap)
        o->on_token_gap(o->app, j->model->config, (double)(now - ch->last_token_ns) / 1e9);
    ch->last_token_ns = now;
    const struct job_delta d = {.choice = c,
                                .kind = (enum delta_kind)m->delta.head.kind,
                                .text = m->delta.text,
                                .tokens = m->delta.tokens,
                                .n_tokens = m->delta.n_tokens,
                                .logprobs = m->delta.logprobs,
                                .tool_index = m->delta.head.tool_index};
    if (j->sink.on_delta)
        j->sink.on_delta(j->sink.user, &d);
    return true;
}

static bool on_choice_done(struct job *j, const struct rec_choice_done *r)
{
    if (r->choice >= j->head.n || r->reason > FINISH_CANCELLED || j->head.kind == JOB_EMBEDDING)
        return false;
    struct choice *ch = &j->choices[r->choice];
    if (ch->done) /* told by the worker that died before it could finish the others */
        return true;
    ch->done = true;
    ch->reason = (enum finish_reason)r->reason;
    if (j->sink.on_choice_done)
        j->sink.on_choice_done(j->sink.user, r->choice, ch->reason);
    return true;
}

/* One per input, in order, all of one length. */
static bool on_embedding(struct job *j, const struct msg *m)
{
    const struct rec_embedding *h = &m->embedding.head;
    if (j->head.kind != JOB_EMBEDDING || !j->admitted || h->index != j->next_input ||
        h->index >= j->n_inputs || (j->n_dims && h->n_dims != j->n_dims) ||
        (j->head.dimensions && h->n_dims != j->head.dimensions))
        return false;
    j->n_dims = h->n_dims;
    j->next_input++;
    j->row->computed_tokens += h->n_tokens;
    if (h->index < j->n_embedded) /* a failover: it was told before, and is the same */
        return true;
    j->n_embedded++;
    j->embedded_tokens += h->n_tokens;
    if (j->sink.on_embedding)
        j->sink.on_embedding(j->sink.user, h->index, m->embedding.values, h->n_dims, h->n_tokens);
    return true;
}

/* False: it says that it is done, and it is not. */
static bool on_finished(struct job *j, const struct rec_finished *f)
{
    if (j->head.kind == JOB_EMBEDDING && f->reason != FINISH_CANCELLED && !j->cancelled &&
        j->next_input != j->n_inputs)
        return false;
    if (j->row) {
        struct usage_row *row = j->row;
        row->computed_tokens = j->computed_before + f->computed_tokens;
        row->prompt_tokens = f->prompt_tokens;
        if (row->completion_tokens !=
            f->completion_tokens) /* ours counts what was reported; they must agree */
            log_error("dispatch", "token counts differ", KV_S("request", row->request_id),
                      KV_U("gateway", row->completion_tokens),
                      KV_U("worker", f->completion_tokens));
    }
    if (f->reason == FINISH_CANCELLED && !j->cancelled)
        job_finish(j, &(struct job_end){.outcome = USAGE_FAILED,
                                        .cause = "deadline",
                                        .err = ERR_TIMEOUT,
                                        .message = "the request ran past its deadline"});
    else
        job_finish(j, &(struct job_end){.outcome = USAGE_FINISHED});
    return true;
}

static const char *failure_cause(enum err e)
{
    switch (e) {
    case ERR_CONTEXT_LENGTH:
        return "context_length";
    case ERR_TEMPLATE:
        return "template";
    case ERR_TIMEOUT:
        return "deadline";
    case ERR_NOMEM:
    case ERR_KV_FULL:
        return "out_of_memory";
    case ERR_INVALID:
    case ERR_RANGE:
    case ERR_UNSUPPORTED:
        return "invalid_request";
    case ERR_CLOSED:
        return "draining";
    default:
        return "worker_error";
    }
}

static void on_failed(struct job *j, const struct msg *m)
{
    char message[PROTO_MAX_MESSAGE_BYTES + 1];
    size_t n = m->failed.message.n < PROTO_MAX_MESSAGE_BYTES ? m->failed.message.n
                                                             : PROTO_MAX_MESSAGE_BYTES;
    memcpy(message, m->failed.message.p, n);
    message[n] = 0;
    enum err e = (enum err)m->failed.head.err;
    if (j->row && !j->admitted)
        j->row->prompt_tokens = m->failed.head.prompt_tokens;
    job_finish(j, &(struct job_end){.outcome = USAGE_FAILED,
                                    .cause = failure_cause(e),
                                    .err = e,
                                    .param = (enum job_param)m->failed.head.param,
                                    .message = message});
}

void stream_record(struct member *mb, const struct ring_record *rec)
{
    struct errmsg why = {0};
    struct msg m;
    if (msg_read(&m, TO_GATEWAY, rec, &why) != ERR_OK) {
        worker_kill(mb->worker, why.text);
        return;
    }
    if (m.type == REC_MODEL_INFO) {
        struct buf *info = &mb->model->info;
        buf_clear(info);
        buf_put(info, m.text.p, m.text.n);
        return;
    }
    struct job *j = job_find(mb->model->d, m.job);
    if (!j || j->member != mb) {
        worker_kill(mb->worker, "broke the protocol: a record about a job that it does not have");
        return;
    }
    if (j->cancelled && !msg_type_terminal(m.type))
        return; /* crossed with our CANCEL */
    bool ok = true;
    switch (m.type) {
    case REC_ADMITTED:
        ok = m.admitted.cached_tokens <= m.admitted.prompt_tokens;
        if (ok)
            on_admitted(j, &m.admitted);
        break;
    case REC_DELTA:
        ok = on_delta(j, &m);
        break;
    case REC_CHOICE_DONE:
        ok = on_choice_done(j, &m.choice_done);
        break;
    case REC_EMBEDDING:
        ok = on_embedding(j, &m);
        break;
    case REC_FINISHED:
        ok = on_finished(j, &m.finished);
        break;
    case REC_FAILED:
        on_failed(j, &m);
        break;
    default:
        ok = false;
    }
    if (!ok)
        worker_kill(mb->worker, "broke the protocol: an impossible record");
}
