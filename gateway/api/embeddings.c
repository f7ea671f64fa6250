/* POST /v1/embeddings. Vectors become text as they arrive, so that a request of thousands of inputs
 * does not hold the loop at its end; after a failover those that the client's answer already has
 * are not told again (dispatch sees to it). */
#include "gateway/api/submit.h"
#include "gateway/api/validate.h"
#include <sodium.h>
#include <string.h>

enum { ANSWER_MAX = 1 << 30 }; /* 2,048 vectors of 8,192 numbers are a third of it */

struct embeddings {
    struct api *api;        /* borrowed */
    struct http_request *r; /* borrowed; gone at the end */
    struct job *job;        /* borrowed until its terminal callback */
    struct str model;       /* as asked for; in the request's arena */
    bool base64;
    struct buf body; /* owned: the answer so far */
};

static void end(struct embeddings *e)
{
    buf_fini(&e->body);
    e->job = NULL;
}

static void on_abort(struct http_request *r)
{
    struct embeddings *e = r->user;
    struct job *j = e->job;
    end(e);
    job_cancel(j, "client_gone");
}

/* ---- the job's events
 * --------------------------------------------------------------------------------- */

/* As OpenAI has it: the nearest double of each float32, so that both formats give equal numbers. */
static void put_floats(struct buf *out, const float *v, uint32_t n)
{
    buf_putc(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, v + i, sizeof(x)); /* may lie anywhere */
        if (i)
            buf_putc(out, ',');
        buf_printf(out, "%.17g", (double)x);
    }
    buf_putc(out, ']');
}

/* float32, little-endian: as they came. */
static void put_base64(struct buf *out, const float *v, uint32_t n)
{
    const size_t bytes = (size_t)n * sizeof(*v);
    const size_t room = sodium_base64_ENCODED_LEN(bytes, sodium_base64_VARIANT_ORIGINAL);
    buf_putc(out, '"');
    if (!buf_reserve(out, room)) {
        out->failed = true;
        return;
    }
    sodium_bin2base64(out->p + out->n, room, (const unsigned char *)v, bytes,
                      sodium_base64_VARIANT_ORIGINAL);
    out->n += room - 1; /* without the NUL */
    buf_putc(out, '"');
}

static void on_embedding(void *user, uint32_t index, const float *v, uint32_t n_dims,
                         uint32_t n_tokens)
{
    struct embeddings *e = user;
    struct buf *b = &e->body;
    (void)n_tokens;
    buf_puts(b, index ? ",{\"object\":\"embedding\",\"index\":"
                      : "{\"object\":\"embedding\",\"index\":");
    buf_put_u64(b, index);
    buf_puts(b, ",\"embedding\":");
    if (e->base64)
        put_base64(b, v, n_dims);
    else
        put_floats(b, v, n_dims);
    buf_putc(b, '}');
}

static void on_finished(void *user, const struct job_usage *u)
{
    struct embeddings *e = user;
    struct http_request *r = e->r;
    struct buf body = e->body;
    e->body = (struct buf){0};
    buf_puts(&body, "],\"model\":");
    json_put_str(&body, e->model.p, e->model.n);
    buf_puts(&body, ",\"usage\":{\"prompt_tokens\":");
    buf_put_u64(&body, u->prompt_tokens);
    buf_puts(&body, ",\"total_tokens\":");
    buf_put_u64(&body, u->prompt_tokens);
    buf_puts(&body, "}}\n");
    api_note_usage(r, u);
    end(e);
    if (body.failed)
        api_error_reply_later(r, API_OUT_OF_MEMORY, "The answer is too large for the memory left.",
                              1);
    else
        http_reply(r, 200, "application/json", body.p, body.n);
    buf_fini(&body);
}

static void on_failed(void *user, enum err err, enum job_param param, const char *message,
                      const struct job_usage *u)
{
    struct embeddings *e = user;
    struct http_request *r = e->r;
    api_note_usage(r, u);
    end(e);
    api_reply_failed(r, err, param, false, message);
}

/* ---- the start
 * ------------------------------------------------------------------------------------------- */

static struct embeddings *new_embeddings(struct http_request *r, struct api *api,
                                         const struct api_params *p)
{
    struct embeddings *e = arena_zalloc(&r->arena, sizeof(*e));
    char *model = arena_strndup(&r->arena, p->model.p, p->model.n);
    if (!e || !model)
        return NULL;
    *e = (struct embeddings){.api = api, .r = r, .model = {model, p->model.n}, .base64 = p->base64};
    e->body.limit = ANSWER_MAX;
    buf_puts(&e->body, "{\"object\":\"list\",\"data\":[");
    return e;
}

static enum err submit(struct embeddings *e, const struct api_params *p, uint32_t *retry_s)
{
    const struct job_sink sink = {.user = e,
                                  .on_embedding = on_embedding,
                                  .on_finished = on_finished,
                                  .on_failed = on_failed};
    struct job_spec spec = {.model = e->model,
                            .dialect = STR("embeddings"),
                            .request_id = str_of(e->r->id),
                            .key_id = STR(""),
                            .end_user = p->user};
    enum err err = api_build_body(p, &spec.body);
    if (err) {
        buf_fini(&spec.body);
        return err;
    }
    return job_submit(e->api->dispatch, &spec, &sink, &e->job, retry_s);
}

static void start(struct http_request *r, struct api *api, const void *arg, const struct json *root)
{
    struct api_params p;
    struct api_fault fault;
    struct model_status status;
    uint32_t retry_s = 1;
    (void)arg;
    if (!api_validate(root, FOR_EMBEDDINGS, &p, &fault)) {
        api_error_reply(r, fault.error, fault.param, fault.message);
        return;
    }
    if (!api_find_model(api, p.model, &status)) {
        api_refuse_submit(r, api, ERR_NOT_FOUND, p.model, 0);
        return;
    }
    struct embeddings *e = new_embeddings(r, api, &p);
    enum err err = e ? submit(e, &p, &retry_s) : ERR_NOMEM;
    http_note(r, KV_S("model", e ? e->model.p : ""));
    if (err) {
        if (e)
            end(e);
        api_refuse_submit(r, api, err, p.model, retry_s);
        return;
    }
    http_note(r, KV_U("inputs", api_count_inputs(p.input)));
    r->user = e;
    r->on_abort = on_abort;
    http_drop_body(r);
}

void api_embeddings(struct http_request *r, void *app)
{
    api_with_json(r, app, NULL, start);
}
