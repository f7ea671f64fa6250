/* Cross-origin reads by browsers (https://fetch.spec.whatwg.org/#http-cors-protocol): off unless
 * origins are configured. Without these headers a page may send simple requests but never read an
 * answer; JSON bodies need a preflight, which then fails. */
#include "gateway/http/conn.h"

bool cors_allows(const struct http_options *o, const struct http_request *r, struct str *origin)
{
    const struct str *from = o->cors_origins ? http_header_get(r, "origin") : NULL;
    if (!from || from->n == 0)
        return false;
    for (const char *p = o->cors_origins; *p;) {
        size_t n = strcspn(p, ",");
        struct str allowed = {p, n};
        while (allowed.n && allowed.p[0] == ' ')
            allowed.p++, allowed.n--;
        while (allowed.n && allowed.p[allowed.n - 1] == ' ')
            allowed.n--;
        if (str_is(allowed, "*") || str_eq(allowed, *from)) {
            *origin = *from;
            return true;
        }
        p += n + (p[n] == ',');
    }
    return false;
}

void cors_add_headers(struct request *r)
{
    struct str origin;
    if (!cors_allows(&r->conn->server->o, &r->pub, &origin))
        return;
    /* The origin itself, never "*": answers differ by Authorization, so caches must, too. */
    char *z = arena_strndup(&r->pub.arena, origin.p, origin.n);
    if (!z)
        return;
    http_add_header(&r->pub, "Access-Control-Allow-Origin", z);
    http_add_header(&r->pub, "Vary", "Origin");
    http_add_header(&r->pub, "Access-Control-Expose-Headers",
                    "x-request-id, openai-processing-ms, retry-after, retry-after-ms");
}

void cors_answer_options(struct request *r, unsigned allowed)
{
    char methods[64];
    struct str origin;
    struct http_request *pub = &r->pub;
    router_methods_text(allowed, methods, sizeof(methods));
    http_add_header(pub, "Allow", methods);
    if (http_header_get(pub, "access-control-request-method") &&
        cors_allows(&r->conn->server->o, pub, &origin)) {
        const struct str *wanted = http_header_get(pub, "access-control-request-headers");
        char *z = wanted ? arena_strndup(&pub->arena, wanted->p, wanted->n) : NULL;
        http_add_header(pub, "Access-Control-Allow-Methods", methods);
        /* SDKs add headers of their own (x-stainless-*): whatever a trusted page asks for. */
        if (z)
            http_add_header(pub, "Access-Control-Allow-Headers", z);
        http_add_header(pub, "Access-Control-Max-Age", "600");
    }
    http_reply(pub, 204, NULL, NULL, 0);
}
