/* api.h - the dialects' common ground: what app.c hands to every handler, and the table of
 * endpoints. Everything that differs between OpenAI's endpoints stands in one file each (chat.c,
 * completions.c, models.c ...). */
#ifndef MILLRACE_GATEWAY_API_API_H
#define MILLRACE_GATEWAY_API_API_H

#include "gateway/dispatch/job.h"
#include "gateway/http/http.h"
#include "gateway/metrics/metrics.h"
#include "gateway/usage/usage.h"

struct api { /* the `app` of http_options; all borrowed for the life of the server */
    struct dispatch *dispatch;
    struct usage *usage;
    struct metrics *metrics;
    struct http_server *server; /* NULL until it listens */
    uint32_t ping_ms;   /* between SSE comments on a silent stream, from admission on; 0: none */
    bool loopback_only; /* the Host header must name a loopback host (DNS rebinding) */
    bool draining;      /* readiness is 503, new work is refused with a retryable 503 */
    int64_t started;    /* Unix seconds */
};

const struct http_route *api_routes(size_t *n);
/* For http_options: the Host check, later the keys; and errors that the server itself finds. */
bool api_before(struct http_request *r, const struct http_route *route, void *app);
void api_http_error(struct http_request *r, int status, const char *code, const char *message,
                    void *app);
void api_metrics(struct http_request *r, void *app); /* GET /metrics (metrics_page.c) */

#endif
