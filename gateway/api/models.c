/* GET /v1/models and /v1/models/{id}. Beside OpenAI's fields: context_length, and max_model_len as
 * vLLM calls it; clients size their prompts by them. "millrace" holds what `millrace models` shows.
 */
#include "gateway/api/api.h"
#include "gateway/api/errors.h"
#include "shared/base/json.h"
#include <stdio.h>

/* What a worker says of its model, or, as long as none has come up, an inspection of the file. */
struct facts {
    int64_t context;
    struct str quant, arch, tools, reasoning; /* in the arena */
    struct arena arena;
};

static void read_text(const struct json *root, const char *key, struct str *out)
{
    const struct json *v = json_get(root, key);
    if (!out->n && json_is(v, JSON_STRING))
        *out = v->s;
}

static void read_facts(struct facts *f, struct str json, const char *const context[2],
                       const char *quant, const char *arch)
{
    struct json *root;
    if (!json.n || json_parse(&root, &f->arena, json.p, json.n, NULL, NULL) != ERR_OK)
        return;
    for (size_t i = 0; i < 2 && !f->context; i++) {
        const struct json *v = json_get(root, context[i]);
        if (json_is(v, JSON_INT) && v->i > 0)
            f->context = v->i;
    }
    read_text(root, quant, &f->quant);
    read_text(root, arch, &f->arch);
    read_text(root, "tool_format", &f->tools);
    read_text(root, "reasoning_format", &f->reasoning);
}

static void facts_open(struct facts *f, const struct model_status *s)
{
    static const char *const context[] = {"context", "context_length"};
    *f = (struct facts){0};
    arena_init(&f->arena, 4 << 20);
    read_facts(f, s->info_json, context, "quant", "arch");
    read_facts(f, s->inspect_json, context, "quantization", "architecture");
}

static void put_text(struct buf *out, const char *key, struct str v)
{
    if (!v.n)
        return;
    buf_printf(out, ",\"%s\":", key);
    json_put_str(out, v.p, v.n);
}

static void put_model(struct buf *out, const struct model_status *s)
{
    struct facts f;
    facts_open(&f, s);
    buf_puts(out, "{\"id\":");
    json_put_str(out, s->name.p, s->name.n);
    buf_puts(out, ",\"object\":\"model\",\"created\":");
    buf_put_i64(out, s->created);
    buf_puts(out, ",\"owned_by\":\"millrace\"");
    if (f.context)
        buf_printf(out, ",\"context_length\":%lld,\"max_model_len\":%lld", (long long)f.context,
                   (long long)f.context);
    buf_printf(out,
               ",\"millrace\":{\"state\":\"%s\",\"workers\":%u,\"ready\":%u,\"slots\":%u,"
               "\"queued\":%u,\"running\":%u,\"loads\":%llu,\"unloads\":%llu",
               model_state_name(s->state), s->workers, s->ready, s->slots, s->queued, s->running,
               (unsigned long long)s->loads, (unsigned long long)s->unloads);
    if (s->memory_bytes)
        buf_printf(out, ",\"memory_bytes\":%llu", (unsigned long long)s->memory_bytes);
    put_text(out, "architecture", f.arch);
    put_text(out, "quantization", f.quant);
    put_text(out, "tool_format", f.tools);
    put_text(out, "reasoning_format", f.reasoning);
    put_text(out, "error", s->failure);
    buf_puts(out, "}}");
    arena_fini(&f.arena);
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
