#include "gateway/api/generate.h"
#include "gateway/api/submit.h"
#include "shared/base/clock.h"
#include <math.h>
#include <stdio.h>

/* ---- the end ----------------------------------------------------------------------------------
 */

/* What is owned; the request, and with it struct gen, goes right after. */
static void gen_end(struct gen *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        struct gen_choice *c = &g->choices[i];
        buf_fini(&c->text);
        buf_fini(&c->reasoning);
        buf_fini(&c->logprobs);
        buf_fini(&c->tool_calls);
        for (size_t k = 0; k < sizeof(c->more) / sizeof(c->more[0]); k++)
            buf_fini(&c->more[k]);
    }
    g->job = NULL;
}

/* ---- writing a stream
 * ---------------------------------------------------------------------------- */

static void begin_stream(struct gen *g)
{
    g->begun = true;
    http_set_timer(g->r, 0);
    http_stream_begin(g->r, 200, "text/event-stream; charset=utf-8");
    http_stream_ping(g->r, g->api->ping_ms);
}

static void send_scratch(struct gen *g)
{
    struct buf *b = &g->api->scratch;
    if (b->failed) /* half an event must not go out: the client sees the stream break off */
        log_error("api", "out of memory for an event", KV_S("request", g->r->id));
    else
        http_stream_write(g->r, b->p ? b->p : "", b->n);
    if (!g->paused && http_backlog(g->r) > HTTP_BACKLOG_HIGH) {
        g->paused = true;
        job_pause(g->job);
    }
}

static struct buf *scratch(struct gen *g)
{
    buf_clear(&g->api->scratch);
    return &g->api->scratch;
}

/* ---- the request's events
 * ---------------------------------------------------------------------------- */

static void on_abort(struct http_request *r)
{
    struct gen *g = r->user;
    struct job *j = g->job;
    gen_end(g);
    job_cancel(j, "client_gone");
}

static void on_drain(struct http_request *r)
{
    struct gen *g = r->user;
    if (g->paused) {
        g->paused = false;
        job_resume(g->job);
    }
}

/* Still queued after a whole ping interval. */
static void on_wait(struct http_request *r)
{
    struct gen *g = r->user;
    begin_stream(g);
    http_stream_write(r, ": ping\n\n", 8);
}

/* The seed decides an answer only together with everything that computes it. */
static void fingerprint(struct gen *g, const struct model_status *s)
{
    uint64_t h = str_hash(s->info_json) * 31 + str_hash(str_of(g->api->version));
    h = h * 31 + (uint64_t)s->created + str_hash(s->name);
    snprintf(g->fingerprint, sizeof(g->fingerprint), "fp_%010llx",
             (unsigned long long)(h & 0xffffffffffu));
}

/* ---- the job's events
 * --------------------------------------------------------------------------------- */

static void on_admitted(void *user, uint32_t prompt_tokens, uint32_t cached_tokens)
{
    struct gen *g = user;
    (void)prompt_tokens, (void)cached_tokens;
    struct model_status s;
    if (g->before_load && api_find_model(g->api, g->model, &s))
        fingerprint(g, &s);
    if (g->stream && !g->begun)
        begin_stream(g);
}

static void on_delta(void *user, const struct job_delta *d)
{
    struct gen *g = user;
    struct gen_choice *c = &g->choices[d->choice];
    if (g->metrics && d->n_tokens) {
        uint64_t now = clock_mono_ns();
        if (c->last_token_ns)
            histogram_observe(&g->metrics->inter_token,
                              (double)(now - c->last_token_ns) / 1e9 / d->n_tokens);
        c->last_token_ns = now;
    }
    struct job_delta hidden = *d;
    if (g->hide_reasoning && d->kind == DELTA_REASONING) {
        hidden.text = STR("");
        d = &hidden;
    }
    if (!g->stream) {
        g->dialect->collect(g, d);
        return;
    }
    struct buf *b = scratch(g);
    g->dialect->put_delta(g, b, d);
    job_delivered(g->job, d->n_tokens);
    if (b->n || b->failed)
        send_scratch(g);
}

static void on_choice_done(void *user, uint32_t choice, enum finish_reason reason)
{
    struct gen *g = user;
    struct gen_choice *c = &g->choices[choice];
    c->done = true;
    c->reason = reason;
    if (!g->stream)
        return;
    g->dialect->put_finish(g, scratch(g), choice);
    send_scratch(g);
}

static void on_finished(void *user, const struct job_usage *u)
{
    struct gen *g = user;
    struct http_request *r = g->r;
    struct buf *b = scratch(g);
    api_note_usage(g->r, u);
    http_note(r, KV_S("finish", gen_finish_name(g->choices[0].reason)));
    if (g->stream) {
        if (g->include_usage)
            g->dialect->put_usage(g, b, u);
        buf_puts(b, "data: [DONE]\n\n");
        http_stream_write(r, b->p ? b->p : "", b->n);
        gen_end(g);
        http_stream_end(r);
        return;
    }
    g->dialect->put_whole(g, b, u);
    bool failed = b->failed;
    for (uint32_t i = 0; i < g->n; i++)
        failed |= g->choices[i].text.failed || g->choices[i].reasoning.failed ||
                  g->choices[i].logprobs.failed || g->choices[i].tool_calls.failed;
    if (!failed)
        job_delivered(g->job, u->completion_tokens);
    gen_end(g);
    if (failed)
        api_error_reply_later(r, API_OUT_OF_MEMORY, "The answer is too large for the memory left.",
                              1);
    else
        http_reply(r, 200, "application/json", b->p, b->n);
    if (b->cap > HTTP_BACKLOG_HIGH) /* one long answer should not be kept for all short ones */
        buf_fini(b);
}

static void on_failed(void *user, enum err e, enum job_param param, const char *message,
                      const struct job_usage *u)
{
    struct gen *g = user;
    struct http_request *r = g->r;
    const bool is_chat = g->dialect->bit == FOR_CHAT;
    api_note_usage(g->r, u);
    if (g->begun) {
        enum api_error error = api_error_of_job(e, param);
        struct buf *b = scratch(g);
        buf_puts(b, "data: ");
        api_error_put(b, error, api_param_of(param, is_chat), message);
        buf_puts(b, "\n\n");
        if (api_error_code(error))
            http_note(r, KV_S("code", api_error_code(error)));
        http_stream_write(r, b->p ? b->p : "", b->n);
        gen_end(g);
        http_stream_end(r); /* without [DONE] and without a finish_reason: it did not finish */
        return;
    }
    gen_end(g);
    api_reply_failed(r, e, param, is_chat, message);
}

/* ---- the start
 * ------------------------------------------------------------------------------------------- */

static struct gen *new_gen(struct http_request *r, struct api *api, const struct dialect *dialect,
                           const struct api_params *p, const struct model_status *status)
{
    struct gen *g = arena_zalloc(&r->arena, sizeof(*g));
    char *model = arena_strndup(&r->arena, p->model.p, p->model.n);
    struct gen_choice *choices = arena_array(&r->arena, p->head.n, sizeof(*choices));
    struct str echo = p->echo ? p->prompt->s : (struct str){"", 0};
    char *prompt = arena_strndup(&r->arena, echo.p, echo.n);
    if (!g || !model || !choices || !prompt)
        return NULL;
    *g = (struct gen){.dialect = dialect,
                      .api = api,
                      .r = r,
                      .metrics = metrics_model(api->metrics, p->model),
                      .stream = p->stream,
                      .include_usage = p->include_usage,
                      .logprobs = p->logprobs,
                      .hide_reasoning = !p->include_reasoning,
                      .n = p->head.n,
                      .choices = choices,
                      .model = {model, p->model.n},
                      .echo = {prompt, echo.n},
                      .created = clock_wall_ms() / 1000,
                      .before_load = status->info_json.n == 0};
    /* The request's own random part: one number to look for in logs, rows and answers. */
    snprintf(g->id, sizeof(g->id), "%s%s", dialect->id_prefix, r->id + 4);
    fingerprint(g, status);
    return g;
}

static enum err submit(struct gen *g, const struct api_params *p, uint32_t *retry_s)
{
    const struct job_sink sink = {.user = g,
                                  .on_admitted = on_admitted,
                                  .on_delta = on_delta,
                                  .on_choice_done = on_choice_done,
                                  .on_finished = on_finished,
                                  .on_failed = on_failed};
    struct job_spec spec = {.model = g->model,
                            .dialect = str_of(g->dialect->name),
                            .request_id = str_of(g->r->id),
                            .key_id = STR(""),
                            .end_user = p->safety_identifier.n ? p->safety_identifier : p->user};
    enum err e = api_build_body(p, &spec.body);
    if (e) {
        buf_fini(&spec.body);
        return e;
    }
    api_add_prefixes(g->api->dispatch, p, &spec);
    return job_submit(g->api->dispatch, &spec, &sink, &g->job, retry_s);
}

/* Everything that needs the parsed JSON, which is large and is freed right after. */
static void start_with(struct http_request *r, struct api *api, const void *arg,
                       const struct json *root)
{
    const struct dialect *dialect = arg;
    struct api_params p;
    struct api_fault fault;
    struct model_status status;
    uint32_t retry_s = 1;
    if (!api_validate(root, dialect->bit, &p, &fault)) {
        api_error_reply(r, fault.error, fault.param, fault.message);
        return;
    }
    if (!api_find_model(api, p.model, &status)) {
        api_refuse_submit(r, api, ERR_NOT_FOUND, p.model, 0);
        return;
    }
    struct gen *g = new_gen(r, api, dialect, &p, &status);
    enum err e = g ? submit(g, &p, &retry_s) : ERR_NOMEM;
    http_note(r, KV_S("model", g ? g->model.p : ""));
    if (e) {
        api_refuse_submit(r, api, e, p.model, retry_s);
        return;
    }
    http_note(r, KV_S("stream", g->stream ? "true" : "false"));
    r->user = g;
    r->on_abort = on_abort;
    r->on_drain = on_drain;
    r->on_timer = on_wait;
    if (g->stream && api->ping_ms)
        http_set_timer(r, api->ping_ms);
    http_drop_body(r);
}

void gen_start(struct http_request *r, struct api *api, const struct dialect *dialect)
{
    api_with_json(r, api, dialect, start_with);
}

/* ---- for the dialects
 * ------------------------------------------------------------------------------------- */

const char *gen_finish_name(enum finish_reason reason)
{
    switch (reason) {
    case FINISH_LENGTH:
        return "length";
    case FINISH_TOOL_CALLS:
        return "tool_calls";
    case FINISH_STOP:
    case FINISH_CANCELLED:
        break;
    }
    return "stop";
}

static void put_count(struct buf *out, const char *key, uint64_t v)
{
    buf_puts(out, key);
    buf_put_u64(out, v);
}

void gen_put_usage(struct buf *out, const struct job_usage *u)
{
    put_count(out, "{\"prompt_tokens\":", u->prompt_tokens);
    put_count(out, ",\"completion_tokens\":", u->completion_tokens);
    put_count(out, ",\"total_tokens\":", (uint64_t)u->prompt_tokens + u->completion_tokens);
    put_count(out, ",\"prompt_tokens_details\":{\"cached_tokens\":", u->cached_tokens);
    buf_puts(out, ",\"audio_tokens\":0}");
    put_count(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":", u->reasoning_tokens);
    buf_puts(out, ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
                  "\"rejected_prediction_tokens\":0}}");
}

void gen_put_logprob(struct buf *out, float logprob)
{
    if (!isfinite(logprob) || logprob < -9999)
        buf_puts(out, "-9999.0");
    else
        buf_printf(out, "%.9g", (double)logprob); /* nine digits name a float exactly */
}
