#include "gateway/api/generate.h"
#include "shared/base/clock.h"
#include <math.h>
#include <stdio.h>
#include <strings.h>

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

static void note_usage(struct gen *g, const struct job_usage *u)
{
    http_note(g->r, KV_U("prompt", u->prompt_tokens));
    http_note(g->r, KV_U("cached", u->cached_tokens));
    http_note(g->r, KV_U("completion", u->completion_tokens));
    http_note(g->r, KV_U("queue_ms", u->queue_ns / 1000000));
    http_note(g->r, KV_U("ttft_ms", u->ttft_ns / 1000000));
    if (u->failovers)
        http_note(g->r, KV_U("failovers", u->failovers));
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

/* ---- the job's events
 * --------------------------------------------------------------------------------- */

static void on_admitted(void *user, uint32_t prompt_tokens, uint32_t cached_tokens)
{
    struct gen *g = user;
    (void)prompt_tokens, (void)cached_tokens;
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
    note_usage(g, u);
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
    enum api_error error = api_error_of(e);
    const char *where = api_param_of(param, g->dialect->bit == FOR_CHAT);
    note_usage(g, u);
    if (g->begun) {
        struct buf *b = scratch(g);
        buf_puts(b, "data: ");
        api_error_put(b, error, where, message);
        buf_puts(b, "\n\n");
        if (api_error_code(error))
            http_note(r, KV_S("code", api_error_code(error)));
        http_stream_write(r, b->p ? b->p : "", b->n);
        gen_end(g);
        http_stream_end(r); /* without [DONE] and without a finish_reason: it did not finish */
        return;
    }
    gen_end(g);
    int status = api_error_status(error);
    if (status == 429 || status == 503)
        api_error_reply_later(r, error, message, 1);
    else
        api_error_reply(r, error, where, message);
}

/* ---- the start
 * ------------------------------------------------------------------------------------------- */

/* The seed decides an answer only together with everything that computes it. */
static void fingerprint(struct gen *g, const struct model_status *s)
{
    uint64_t h = str_hash(s->info_json) * 31 + str_hash(str_of(g->api->version));
    h = h * 31 + (uint64_t)s->created + str_hash(s->name);
    snprintf(g->fingerprint, sizeof(g->fingerprint), "fp_%010llx",
             (unsigned long long)(h & 0xffffffffffu));
}

static bool is_json(const struct http_request *r)
{
    const struct str *type = http_header_get(r, "content-type");
    if (!type || type->n == 0) /* curl without -H says x-www-form-urlencoded; nobody says nothing */
        return true;
    size_t n = 0;
    while (n < type->n && type->p[n] != ';' && type->p[n] != ' ')
        n++;
    return n == 16 && strncasecmp(type->p, "application/json", 16) == 0;
}

static void refuse_submit(struct http_request *r, enum err e, struct str model, uint32_t retry_s)
{
    char text[256];
    struct str name = fault_cut(model, 128);
    enum api_error error = api_error_of(e);
    switch (e) {
    case ERR_NOT_FOUND:
        snprintf(text, sizeof(text),
                 "The model `" STR_FMT "` does not exist or you do not have access to it.",
                 STR_ARG(name));
        api_error_reply(r, error, NULL, text);
        return;
    case ERR_FULL:
        api_error_reply_later(r, error, "The queue of this model is full; please retry later.",
                              retry_s);
        return;
    case ERR_CLOSED:
        api_error_reply_later(r, error, "The server is shutting down; please retry.", 1);
        return;
    case ERR_AGAIN:
        api_error_reply_later(
            r, error, "The model can't be loaded at the moment; please retry later.", retry_s);
        return;
    case ERR_RANGE:
        api_error_reply(r, error, NULL, "The request is too large.");
        return;
    default:
        api_error_reply_later(r, error, "The server is out of memory; please retry later.", 1);
    }
}

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
                      .n = p->head.n,
                      .choices = choices,
                      .model = {model, p->model.n},
                      .echo = {prompt, echo.n},
                      .created = clock_wall_ms() / 1000};
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
static void start_with(struct http_request *r, struct api *api, const struct dialect *dialect,
                       const struct json *root)
{
    struct api_params p;
    struct api_fault fault;
    struct model_status status;
    uint32_t retry_s = 1;
    if (!api_validate(root, dialect->bit, &p, &fault)) {
        api_error_reply(r, fault.error, fault.param, fault.message);
        return;
    }
    if (!api_find_model(api, p.model, &status)) {
        refuse_submit(r, ERR_NOT_FOUND, p.model, 0);
        return;
    }
    struct gen *g = new_gen(r, api, dialect, &p, &status);
    enum err e = g ? submit(g, &p, &retry_s) : ERR_NOMEM;
    http_note(r, KV_S("model", g ? g->model.p : ""));
    if (e) {
        if (e == ERR_FULL && g->metrics)
            g->metrics->refused++;
        refuse_submit(r, e, p.model, retry_s);
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
    struct arena a;
    struct json *root;
    struct errmsg why = {0};
    const struct json_limits limits = {.max_depth = 64, .max_nodes = API_MAX_NODES};
    if (!is_json(r)) {
        api_error_reply(r, API_MEDIA_TYPE, NULL,
                        "Unsupported content type: send the body as 'application/json'.");
        return;
    }
    arena_init(&a, 0);
    enum err e = json_parse(&root, &a, r->body.p, r->body.n, &limits, &why);
    if (e == ERR_OK) {
        start_with(r, api, dialect, root);
    } else {
        char text[320];
        snprintf(text, sizeof(text), "We could not parse the JSON body of your request: %s.",
                 r->body.n ? why.text : "it is empty");
        api_error_reply(r, API_MALFORMED, NULL, text);
    }
    arena_fini(&a);
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
