#include "gateway/api/errors.h"
#include "shared/base/json.h"
#include <stdio.h>

struct row {
    int status;
    const char *type, *code;
};

static const struct row rows[API_N_ERRORS] = {[API_OK] = {500, "server_error", NULL},
#define X(name, status, type, code) [API_##name] = {status, type, code},
                                              API_ERRORS(X)
#undef X
};

int api_error_status(enum api_error e)
{
    return rows[e].status;
}

const char *api_error_code(enum api_error e)
{
    return rows[e].code;
}

static void put_text_or_null(struct buf *out, const char *z)
{
    if (z && *z)
        json_put_cstr(out, z);
    else
        buf_puts(out, "null");
}

static void put_body(struct buf *out, const char *message, const char *type, const char *param,
                     const char *code)
{
    buf_puts(out, "{\"error\":{\"message\":");
    json_put_cstr(out, message && *message ? message : "The request failed.");
    buf_puts(out, ",\"type\":");
    json_put_cstr(out, type);
    buf_puts(out, ",\"param\":");
    put_text_or_null(out, param);
    buf_puts(out, ",\"code\":");
    put_text_or_null(out, code);
    buf_puts(out, "}}");
}

void api_error_put(struct buf *out, enum api_error e, const char *param, const char *message)
{
    put_body(out, message, rows[e].type, param, rows[e].code);
}

static void reply(struct http_request *r, int status, const char *type, const char *param,
                  const char *code, const char *message)
{
    struct buf b = {0};
    put_body(&b, message, type, param, code);
    buf_putc(&b, '\n');
    if (code && r->n_notes < HTTP_MAX_NOTES)
        http_note(r, KV_S("code", code)); /* from the table: lives for ever */
    http_reply(r, status, "application/json", b.p, b.n);
    buf_fini(&b);
}

void api_error_reply(struct http_request *r, enum api_error e, const char *param,
                     const char *message)
{
    reply(r, rows[e].status, rows[e].type, param, rows[e].code, message);
}

void api_error_reply_later(struct http_request *r, enum api_error e, const char *message,
                           uint32_t retry_after_s)
{
    char text[24];
    uint32_t s = retry_after_s ? retry_after_s : 1;
    snprintf(text, sizeof(text), "%u", s);
    http_add_header(r, "Retry-After", text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)s * 1000);
    http_add_header(r, "retry-after-ms", text); /* the OpenAI SDKs prefer it */
    http_add_header(r, "x-should-retry", "true");
    api_error_reply(r, e, NULL, message);
}

enum api_error api_error_of(enum err e)
{
    switch (e) {
    case ERR_CONTEXT_LENGTH:
        return API_CONTEXT_LENGTH;
    case ERR_TEMPLATE:
        return API_TEMPLATE;
    case ERR_INVALID:
        return API_VALUE;
    case ERR_RANGE:
        return API_TOO_LARGE;
    case ERR_UNSUPPORTED:
        return API_UNSUPPORTED;
    case ERR_NOT_FOUND:
        return API_MODEL_NOT_FOUND;
    case ERR_FULL:
        return API_QUEUE_FULL;
    case ERR_NOMEM:
    case ERR_KV_FULL:
        return API_OUT_OF_MEMORY;
    case ERR_AGAIN:
        return API_NOT_READY;
    case ERR_CLOSED:
    case ERR_CANCELLED:
        return API_SHUTTING_DOWN;
    case ERR_TIMEOUT:
        return API_TIMEOUT;
    case ERR_PROTOCOL:
        return API_WORKER_LOST;
    default:
        return API_INTERNAL;
    }
}

enum api_error api_error_of_job(enum err e, enum job_param p)
{
    /* Not the parameter is unsupported, but what it names. */
    return e == ERR_UNSUPPORTED && p == PARAM_MODEL ? API_UNSUPPORTED_VALUE : api_error_of(e);
}

const char *api_param_of(enum job_param p, bool is_chat)
{
    switch (p) {
    case PARAM_NONE:
        return NULL;
    case PARAM_MESSAGES:
        return "messages";
    case PARAM_PROMPT:
        return "prompt";
    case PARAM_MAX_TOKENS:
        return is_chat ? "max_completion_tokens" : "max_tokens";
    case PARAM_LOGIT_BIAS:
        return "logit_bias";
    case PARAM_TOOLS:
        return "tools";
    case PARAM_RESPONSE_FORMAT:
        return "response_format";
    case PARAM_INPUT:
        return "input";
    case PARAM_STOP:
        return "stop";
    case PARAM_DIMENSIONS:
        return "dimensions";
    case PARAM_MODEL:
        return "model";
    case PARAM_COUNT_:
        break;
    }
    return NULL;
}

void api_http_error(struct http_request *r, int status, const char *code, const char *message,
                    void *app)
{
    char text[256];
    (void)app;
    if (status == 404 || status == 405) { /* OpenAI names method and URL, too */
        const char *method = r->method == HTTP_GET_      ? "GET "
                             : r->method == HTTP_POST_   ? "POST "
                             : r->method == HTTP_DELETE_ ? "DELETE "
                             : r->method == HTTP_HEAD_   ? "HEAD "
                                                         : "";
        size_t n = r->path.n < 120 ? r->path.n : 120;
        snprintf(text, sizeof(text), "%s (%s%.*s)", message, method, (int)n, r->path.p);
        message = text;
    }
    reply(r, status, status < 500 ? "invalid_request_error" : "server_error", NULL, code, message);
}
