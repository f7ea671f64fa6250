#include "gateway/api/submit.h"
#include "gateway/api/validate.h"
#include <stdio.h>
#include <strings.h>

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

void api_with_json(struct http_request *r, struct api *api, const void *arg,
                   void (*start)(struct http_request *r, struct api *api, const void *arg,
                                 const struct json *root))
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
        start(r, api, arg, root);
    } else {
        char text[320];
        snprintf(text, sizeof(text), "We could not parse the JSON body of your request: %s.",
                 r->body.n ? why.text : "it is empty");
        api_error_reply(r, API_MALFORMED, NULL, text);
    }
    arena_fini(&a);
}

void api_refuse_submit(struct http_request *r, struct api *api, enum err e, struct str model,
                       uint32_t retry_after_s)
{
    char text[320];
    struct str name = fault_cut(model, 128);
    enum api_error error = api_error_of(e);
    struct model_metrics *m = e == ERR_FULL ? metrics_model(api->metrics, model) : NULL;
    if (m)
        m->refused++;
    switch (e) {
    case ERR_NOT_FOUND:
        snprintf(text, sizeof(text),
                 "The model `" STR_FMT "` does not exist or you do not have access to it.",
                 STR_ARG(name));
        api_error_reply(r, error, NULL, text);
        return;
    case ERR_FULL:
        api_error_reply_later(r, error, "The queue of this model is full; please retry later.",
                              retry_after_s);
        return;
    case ERR_CLOSED:
        api_error_reply_later(r, error, "The server is shutting down; please retry.", 1);
        return;
    case ERR_AGAIN: {
        struct model_status s;
        struct str why = api_find_model(api, model, &s) ? s.failure : (struct str){"", 0};
        snprintf(text, sizeof(text), "The model can't be loaded: " STR_FMT, STR_ARG(why));
        api_error_reply_later(r, error,
                              why.n ? text : "The model can't be loaded; please retry later.",
                              retry_after_s);
        return;
    }
    case ERR_RANGE:
        api_error_reply(r, error, NULL, "The request is too large.");
        return;
    default:
        api_error_reply_later(r, error, "The server is out of memory; please retry later.", 1);
    }
}

void api_reply_failed(struct http_request *r, enum err e, enum job_param param, bool is_chat,
                      const char *message)
{
    enum api_error error = api_error_of_job(e, param);
    int status = api_error_status(error);
    if (status == 429 || status == 503)
        api_error_reply_later(r, error, message, 1);
    else
        api_error_reply(r, error, api_param_of(param, is_chat), message);
}

void api_note_usage(struct http_request *r, const struct job_usage *u)
{
    http_note(r, KV_U("prompt", u->prompt_tokens));
    http_note(r, KV_U("cached", u->cached_tokens));
    http_note(r, KV_U("completion", u->completion_tokens));
    http_note(r, KV_U("queue_ms", u->queue_ns / 1000000));
    http_note(r, KV_U("ttft_ms", u->ttft_ns / 1000000));
    if (u->failovers)
        http_note(r, KV_U("failovers", u->failovers));
}
