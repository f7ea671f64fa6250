/* api.h - what all endpoints share, and the table of them.
 *
 * Handlers get a struct api as `app`. Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_API_API_H
#define MILLRACE_GATEWAY_API_API_H

#include "gateway/dispatch/dispatch.h"
#include "gateway/http/http.h"
#include "gateway/metrics/metrics.h"

struct api {
    struct dispatch *dispatch; /* borrowed */
    struct metrics *metrics;   /* borrowed */
    struct http_server *http;  /* borrowed: for its numbers */
    const struct usage *usage; /* borrowed: for its numbers */
    const char *version;       /* static text */
    uint32_t ping_ms;          /* 0: no pings */
    bool unready;              /* SIGTERM was received: /readyz says 503, all else goes on */
    bool check_host;           /* Host must name this machine */
    const char *allow_hosts;   /* besides; NULL: none */
    struct buf scratch;        /* for chunks; used and forgotten within one call */
};

extern const struct http_route api_routes[];
extern const size_t api_n_routes;

/* struct http_options.before: host check. */
bool api_before(struct http_request *r, const struct http_route *route, void *app);

/* False: dispatch has no such model. */
bool api_find_model(const struct api *api, struct str name, struct model_status *out);

http_handler api_chat, api_completions;          /* chat.c, completions.c */
http_handler api_embeddings;                     /* embeddings.c */
http_handler api_models, api_model;              /* models.c */
http_handler api_health, api_ready, api_metrics; /* health.c */

#endif
