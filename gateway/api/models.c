/* GET /v1/models and /v1/models/{id}. Beside OpenAI's fields: context_length, and max_model_len as
 * vLLM calls it; clients size their prompts by them. */
#include "gateway/api/api.h"
#include "gateway/api/errors.h"
#include "shared/base/json.h"
#include <stdio.h>

/* From what the model's worker says of itself; 0 while none has come up yet. */
static int64_t context_of(const struct model_status *s)
{
    static const char *const keys[] = {"context", "context_length"};
    struct arena a;
    struct json *root;
    int64_t context = 0;
    arena_init(&a, 1 << 20);
    if (s->info_json.n &&
        json_parse(&root, &a, s->info_json.p, s->info_json.n, NULL, NULL) == ERR_OK)
        for (size_t i = 0; i < 2 && !context; i++) {
            const struct json *v = json_get(root, keys[i]);
            if (json_is(v, JSON_INT) && v->i > 0)
                context = v->i;
        }
    arena_fini(&a);
    return context;
}

static void put_model(struct buf *out, const struct model_status *s)
{
    int64_t context = context_of(s);
    buf_puts(out, "{\"id\":");
    json_put_str(out, s->name.p, s->name.n);
    buf_puts(out, ",\"object\":\"model\",\"created\":");
    buf_put_i64(out, s->created);
    buf_puts(out, ",\"owned_by\":\"millrace\"");
    if (context)
        buf_printf(out, ",\"context_length\":%lld,\"max_model_len\":%lld", (long long)context,
                   (long long)context);
    buf_puts(out, "}");
}

void api_models(struct http_request *r, void *app)
{
    struct api *api = app;
    struct buf b = {0};
    buf_puts(&b, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < dispatch_n_models(api->dispatch); i++) {
        struct model_status s;
        dispatch_model_status(api->dispatch, i, &s);
        if (i)
            buf_putc(&b, ',');
        put_model(&b, &s);
    }
    buf_puts(&b, "]}\n");
    http_reply(r, 200, "application/json", b.p, b.n);
    buf_fini(&b);
}

void api_model(struct http_request *r, void *app)
{
    struct api *api = app;
    struct model_status s;
    if (!api_find_model(api, r->param, &s)) {
        char text[256];
        int n = r->param.n < 128 ? (int)r->param.n : 128;
        snprintf(text, sizeof(text), "The model '%.*s' does not exist.", n, r->param.p);
        api_error_reply(r, API_MODEL_NOT_FOUND, "model", text);
        return;
    }
    struct buf b = {0};
    put_model(&b, &s);
    buf_putc(&b, '\n');
    http_reply(r, 200, "application/json", b.p, b.n);
    buf_fini(&b);
}
