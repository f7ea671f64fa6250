#include "gateway/api/api.h"
#include "gateway/api/errors.h"
#include "gateway/auth/host.h"

// clang-format off
const struct http_route api_routes[] = {
    { HTTP_POST_, "/v1/chat/completions", api_chat,        8u << 20, 0 },
    { HTTP_POST_, "/v1/completions",      api_completions, 8u << 20, 0 },
    { HTTP_POST_, "/v1/embeddings",       api_embeddings,  8u << 20, 0 },
    { HTTP_GET_,  "/v1/models",           api_models,      0,        0 },
    { HTTP_GET_,  "/v1/models/*",         api_model,       0,        0 },
    { HTTP_GET_,  "/healthz",             api_health,      0,        ROUTE_OPEN },
    { HTTP_GET_,  "/readyz",              api_ready,       0,        ROUTE_OPEN },
    { HTTP_GET_,  "/metrics",             api_metrics,     0,        ROUTE_OPEN },
};
// clang-format on
const size_t api_n_routes = sizeof(api_routes) / sizeof(api_routes[0]);

bool api_before(struct http_request *r, const struct http_route *route, void *app)
{
    const struct api *api = app;
    const struct str *host = api->check_host ? http_header_get(r, "host") : NULL;
    (void)route;
    if (!host || host_allowed(*host, api->allow_hosts)) /* none at all: HTTP/1.0, no browser */
        return true;
    api_error_reply(r, API_HOST, NULL,
                    "The Host header does not name this machine. Use localhost or 127.0.0.1, or "
                    "start millrace with --allow-host NAME.");
    return false;
}

bool api_find_model(const struct api *api, struct str name, struct model_status *out)
{
    for (size_t i = 0; i < dispatch_n_models(api->dispatch); i++) {
        dispatch_model_status(api->dispatch, i, out);
        if (str_eq(out->name, name))
            return true;
    }
    return false;
}
