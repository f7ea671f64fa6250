/* choice.c - one choice: from logits to a delivered token, live or replayed. */
#include "worker/sched/sched_parts.h"

#include <stdlib.h>
#include <string.h>

static bool is_end_token(const struct engine *e, int32_t id)
{
    for (size_t i = 0; i < e->n_end_tokens; i++)
        if (e->end_tokens[i] == id)
            return true;
    return false;
}

static void text_out_clear(struct text_out *out)
{
    buf_clear(&out->text);
    out->kind = DELTA_CONTENT;
    out->tool_index = 0;
    out->stop = -1;
    out->more = out->ends = false;
}

/* --- one token
 * --------------------------------------------------------------------------------------- */

struct step_end { /* what one token did to its choice */
    bool ends;
    enum finish_reason reason;
    int32_t stop_index;
};

struct untold { /* head of a piece of c->untold */
    enum delta_kind kind;
    uint32_t tool_index;
    size_t n;
};

/* What a token gave goes out; of a replay only what lies behind the bytes that had arrived. */
static void tell(struct sched *s, struct choice *c, const struct text_out *out,
                 const int32_t *token, bool live)
{
    uint64_t before = c->text_bytes, arrived = c->job->req->replay_text[c->index];
    c->text_bytes += out->text.n;
    if (live) {
        emit_delta(s, c, out, token);
    } else if (out->text.n > 0 && c->text_bytes > arrived) {
        size_t skip = arrived > before ? (size_t)(arrived - before) : 0;
        const struct untold head = {out->kind, out->tool_index, out->text.n - skip};
        buf_put(&c->untold, &head, sizeof head);
        buf_put(&c->untold, out->text.p + skip, head.n);
    }
}

void choice_tell_rest(struct sched *s, struct choice *c)
{
    struct untold head;
    buf_clear(&s->logprobs);
    for (size_t at = 0; at < c->untold.n; at += sizeof head + head.n) {
        memcpy(&head, c->untold.p + at, sizeof head);
        text_out_clear(&s->out);
        s->out.kind = head.kind;
        s->out.tool_index = head.tool_index;
        buf_put(&s->out.text, c->untold.p + at + sizeof head, head.n);
        emit_delta(s, c, &s->out, NULL);
    }
    buf_fini(&c->untold);
}

/* What was held back, when a choice ends otherwise than by a stop string. It goes out with the last
 * token where the kind allows (then token and text arrive together or not at all), else behind it.
 */
static enum err flush(struct sched *s, struct choice *c, const int32_t **token, bool live)
{
    struct text_out *out = &s->out, *tail = &s->tail;
    do {
        text_out_clear(tail);
        tail->called = c->called;
        tail->reasoning_tokens = c->reasoning_tokens;
        enum err e = s->engine->text_end(c->text, tail);
        if (e)
            return e;
        c->called = tail->called;
        c->reasoning_tokens = tail->reasoning_tokens;
        if (tail->text.n == 0)
            continue;
        bool same = out->kind == tail->kind && out->tool_index == tail->tool_index;
        if (out->text.n > 0 && !same) {
            tell(s, c, out, *token, live);
            *token = NULL;
            buf_clear(&out->text);
        }
        out->kind = tail->kind;
        out->tool_index = tail->tool_index;
        buf_put(&out->text, tail->text.p, tail->text.n);
    } while (tail->more);
    return ERR_OK;
}

/* Token `id` is the next of this choice: text, count, and whether it ends here. `live`: the gateway
 * hears of it. */
static enum err advance(struct sched *s, struct choice *c, int32_t id, bool live,
                        struct step_end *end)
{
    const struct job *j = c->job;
    struct text_out *out = &s->out;
    const int32_t *token = &id;
    *end = (struct step_end){.stop_index = -1};
    text_out_clear(out);
    c->n_completion++;
    if (is_end_token(s->engine, id)) {
        end->ends = true;
    } else {
        out->called = c->called;
        out->reasoning_tokens = c->reasoning_tokens;
        enum err e = s->engine->text_feed(c->text, id, out);
        while (!e && out->more) {
            c->reasoning_tokens = out->reasoning_tokens;
            tell(s, c, out, token, live);
            token = NULL;
            text_out_clear(out);
            e = s->engine->text_more(c->text, out);
        }
        if (e)
            return e;
        c->called = out->called;
        c->reasoning_tokens = out->reasoning_tokens;
        end->stop_index = out->stop;
        end->ends = out->stop >= 0 || out->ends;
    }
    end->reason = FINISH_STOP;
    if (!end->ends && c->n_completion >= j->max_completion) {
        end->ends = true;
        end->reason = FINISH_LENGTH;
    }
    if (end->ends && end->stop_index < 0) {
        enum err e = flush(s, c, &token, live);
        if (e)
            return e;
    }
    if (end->reason == FINISH_STOP && c->called)
        end->reason = FINISH_TOOL_CALLS;
    if (out->text.failed)
        return ERR_NOMEM;
    if (token || out->text.n > 0)
        tell(s, c, out, token, live);
    return ERR_OK;
}

/* --- replay
 * ------------------------------------------------------------------------------------------ */

bool choice_start(struct sched *s, struct choice *c, struct job_fault *fault)
{
    const struct job_tokens *replay = &c->job->req->replay[c->index];
    enum err e = s->engine->text_open(s->engine->self, c->job->req, c->index, &c->text);
    if (e)
        return job_fault_set(fault, e, PARAM_NONE, "the text of a choice: %s", err_text(e));
    c->stop_index = -1;
    buf_init(&c->untold);
    for (size_t i = 0; i < replay->n; i++) {
        struct step_end end;
        if (c->state == CHOICE_REPLAYED)
            return job_fault_set(fault, ERR_INVALID, PARAM_NONE,
                                 "the replay of choice %u goes on after its end", c->index);
        e = advance(s, c, replay->ids[i], false, &end);
        if (e)
            return job_fault_set(fault, e, PARAM_NONE, "the text of a choice: %s", err_text(e));
        if (end.ends) {
            c->state = CHOICE_REPLAYED;
            c->reason = end.reason;
            c->stop_index = end.stop_index;
        }
    }
    if (c->untold.failed)
        return job_fault_set(fault, ERR_NOMEM, PARAM_NONE, "the text of a choice: %s",
                             err_text(ERR_NOMEM));
    return true;
}

enum err choice_load(struct choice *c)
{
    if (c->tokens)
        return ERR_OK;
    const struct job *j = c->job;
    uint32_t n = choice_n_tokens(c); /* the completion is the replay: nothing was drawn yet */
    uint32_t cap = n + 64;
    int32_t *tokens = malloc(cap * sizeof *tokens);
    if (!tokens)
        return ERR_NOMEM;
    memcpy(tokens, j->req->prompt, j->n_prompt * sizeof *tokens);
    if (c->n_completion)
        memcpy(tokens + j->n_prompt, j->req->replay[c->index].ids,
               c->n_completion * sizeof *tokens);
    c->tokens = tokens;
    c->cap = cap;
    return ERR_OK;
}

/* --- live
 * -------------------------------------------------------------------------------------------- */

static enum err put_logprobs(struct sched *s, const struct sample_out *drawn)
{
    const struct engine *e = s->engine;
    buf_clear(&s->logprobs);
    struct str text = e->piece(e->self, drawn->token);
    msg_put_logprob(&s->logprobs, drawn->token, drawn->logprob, text.p, text.n,
                    (uint16_t)drawn->n_top);
    for (int i = 0; i < drawn->n_top; i++) {
        text = e->piece(e->self, drawn->top[i].token);
        msg_put_logprob(&s->logprobs, drawn->top[i].token, drawn->top[i].logprob, text.p, text.n,
                        0);
    }
    return s->logprobs.failed ? ERR_NOMEM : ERR_OK;
}

static enum err push_token(struct choice *c, int32_t id)
{
    uint32_t n = choice_n_tokens(c);
    if (n == c->cap) {
        uint32_t cap = c->cap + c->cap / 2 + 64;
        int32_t *grown = realloc(c->tokens, cap * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        c->tokens = grown;
        c->cap = cap;
    }
    c->tokens[n] = id;
    return ERR_OK;
}

void choice_draw(struct sched *s, struct choice *c, const float *logits)
{
    struct job *j = c->job;
    const struct job_head *h = &j->req->head;
    bool must_go_on = (h->flags & JOB_IGNORE_EOS) || c->n_completion < h->min_tokens;
    struct sample_in in = {
        .logits = logits,
        .history = c->tokens,
        .n_prompt = j->n_prompt,
        .n_history = choice_n_tokens(c),
        .choice = c->index,
        .position = c->n_completion,
        .banned = s->engine->end_tokens,
        .n_banned = must_go_on ? s->engine->n_end_tokens : 0,
        .n_top = h->flags & JOB_LOGPROBS ? (int)h->top_logprobs : -1,
    };
    struct sample_out drawn;
    struct step_end end;
    struct job_fault fault = {0};
    buf_clear(&s->logprobs);
    fault.err = sampler_draw(s->sampler, &j->sampling, &in, &drawn, &fault.why);
    if (!fault.err && in.n_top >= 0)
        fault.err = put_logprobs(s, &drawn);
    if (!fault.err)
        fault.err = push_token(c, drawn.token);
    if (!j->first_token_ns)
        j->first_token_ns = s->opts.now_ns(s->opts.user);
    if (!fault.err)
        fault.err = advance(s, c, drawn.token, true, &end);
    if (fault.err) {
        job_fail(s, j, &fault);
        return;
    }
    s->stats.generated_tokens++;
    if (end.ends) {
        c->reason = end.reason;
        c->stop_index = end.stop_index;
        emit_choice_done(s, c);
    }
}

void choice_fini(struct sched *s, struct choice *c)
{
    choice_leave(c);
    c->state = CHOICE_DONE;
    if (c->text)
        s->engine->text_close(c->text);
    c->text = NULL;
    buf_fini(&c->untold);
    free(c->tokens);
    c->tokens = NULL;
}
