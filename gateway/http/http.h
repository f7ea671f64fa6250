/* http.h - the HTTP/1.1 server's face to the rest of the gateway: a request in, a response out.
 *
 * A client that half-closes (FIN after its request) counts as gone, like in nginx and node: a
 * vanished reader and a half-closed one look the same, and tokens for nobody cost too much.
 *
 * Promise: a handler is called once, when the whole request (head and body) has arrived and passed
 * the limits. It answers now or later, with http_reply() once, or with a stream: begin, write ...,
 * end. Requests of one connection are answered in order. When the client leaves first, on_abort is
 * called once and the request is gone after it returns. Nothing here blocks; writes of one loop
 * turn are coalesced into one writev per socket. Memory: a request owns an arena that dies with it.
 * Thread: the loop's. llhttp with every lenient flag off; duplicate Content-Length, TE+CL and other
 * smuggling shapes are refused. */
#ifndef MILLRACE_GATEWAY_HTTP_HTTP_H
#define MILLRACE_GATEWAY_HTTP_HTTP_H

#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/log.h"
#include "shared/base/str.h"
#include <uv.h>

enum http_method {
    HTTP_GET_ = 1,
    HTTP_POST_ = 2,
    HTTP_DELETE_ = 4,
    HTTP_OPTIONS_ = 8,
    HTTP_HEAD_ = 16,
    HTTP_OTHER_ = 32
};

struct http_header {
    struct str name, value; /* borrowed from the request's arena; names as received */
};

enum { HTTP_MAX_NOTES = 12 };

struct http_request {
    struct arena arena; /* dies with the request */
    enum http_method method;
    struct str path;  /* percent-decoded, without the query */
    struct str query; /* raw, without '?' */
    struct str param; /* what the route's trailing '*' matched ("/v1/models/" + "*") */
    const struct http_header *headers;
    size_t n_headers;
    struct str body;   /* whole, de-chunked */
    struct str peer;   /* "127.0.0.1" */
    char id[40];       /* "req_" + 32 hex: sent as x-request-id */
    uint64_t start_ns; /* clock_mono_ns() at the first byte */
    void *user;        /* the handler's own; on_abort and on_drain get the request */
    void (*on_abort)(
        struct http_request *r); /* client gone before the end of the response. NULL is fine */
    void (*on_drain)(
        struct http_request *r); /* backlog fell below HTTP_BACKLOG_LOW after it was above HIGH */
    void (*on_timer)(struct http_request *r); /* see http_set_timer() */
    /* The handler's own fields for the one log line of this request's end; texts live in the arena
     * or for ever. */
    struct log_kv notes[HTTP_MAX_NOTES];
    uint32_t n_notes;
};

enum {
    HTTP_BACKLOG_HIGH =
        64 << 10, /* bytes queued for a slow client: from here on its sequence is paused */
    HTTP_BACKLOG_LOW = 16 << 10,
};

/* NULL when absent. Case-insensitive; the first one. */
const struct str *http_header_get(const struct http_request *r, const char *name);

/* Frees the body early: a request that streams for minutes should not hold the megabytes it came
 * with. */
void http_drop_body(struct http_request *r);
/* One more field of the log line; those past HTTP_MAX_NOTES are left out. */
void http_note(struct http_request *r, struct log_kv kv);
/* on_timer is called once, about `ms` from now (in steps of 100 ms), unless the request has ended.
 * 0: off. */
void http_set_timer(struct http_request *r, uint32_t ms);

/* Adds a response header; before reply or stream_begin. Values with control characters are refused
 * (dropped, logged). */
void http_add_header(struct http_request *r, const char *name, const char *value);
/* The whole response; the bytes are copied. The request is gone afterwards (do not touch it). Ends
 * `r` also for HEAD. */
void http_reply(struct http_request *r, int status, const char *content_type, const void *body,
                size_t n);

/* A streamed response (chunked on HTTP/1.1, until close on 1.0). text/event-stream also sets
 * Cache-Control: no-cache and X-Accel-Buffering: no. */
void http_stream_begin(struct http_request *r, int status, const char *content_type);
void http_stream_write(struct http_request *r, const void *p,
                       size_t n);                  /* copied; flushed at the end of the loop turn */
void http_stream_end(struct http_request *r);      /* the request is gone afterwards */
size_t http_backlog(const struct http_request *r); /* bytes not yet taken by the kernel */
/* After begin: an SSE comment line (": ping\n\n") whenever nothing was written for `interval_ms`. 0
 * stops it. */
void http_stream_ping(struct http_request *r, uint32_t interval_ms);

typedef void http_handler(struct http_request *r, void *app);

struct http_route {           /* one row per endpoint; app.c hands the table to the server */
    enum http_method methods; /* one bit or several */
    const char
        *path; /* exact, or with a trailing '*' that matches a non-empty rest (slashes included) */
    http_handler *handler;
    size_t max_body; /* bytes; 0: no body expected */
    unsigned flags;  /* enum http_route_flags */
};
enum http_route_flags {
    ROUTE_OPEN = 1u, /* no key needed: health, metrics on loopback */
};

struct http_options {
    const char *host; /* numeric address */
    int port;         /* 0: any free one; see http_server_port() */
    const struct http_route *routes;
    size_t n_routes;
    void *app; /* passed to handlers and to before */
    /* Runs before every handler that is not ROUTE_OPEN (keys, host check). False: it has answered
     * already. */
    bool (*before)(struct http_request *r, const struct http_route *route, void *app);
    /* Writes an error of the API's shape for faults found by the server itself (400, 404, 405, 408,
     * 411, 413, 414, 431, 501 ...); it ends the request with http_reply(). code: OpenAI's code or
     * NULL. */
    void (*error)(struct http_request *r, int status, const char *code, const char *message,
                  void *app);
    /* One call per finished request: the access log and the metrics. cause: "done", "client_gone",
     * "timeout", "error". */
    void (*on_end)(const struct http_request *r, int status, uint64_t bytes_out, const char *cause,
                   void *app);
    uint32_t max_connections;  /* 0: 10000 */
    uint32_t head_timeout_ms;  /* whole head within; 0: 10 s */
    uint32_t body_timeout_ms;  /* between two pieces of a body; 0: 30 s */
    uint32_t idle_timeout_ms;  /* keep-alive; 0: 75 s (above the 60 s of common balancers) */
    uint32_t stall_timeout_ms; /* a client that takes no byte of a waiting answer; 0: 60 s */
    size_t max_body_total;     /* bytes of bodies held at once, all requests; 0: 1 GiB */
    /* Browsers' pages that may read answers: origins divided by commas, or "*". NULL: none (no CORS
     * headers). */
    const char *cors_origins;
};

struct http_stats {
    uint64_t accepted, refused; /* connections; refused: over max_connections */
    uint64_t malformed;         /* requests that broke the rules of HTTP or a limit of its parser */
    size_t connections, active; /* now */
};

struct http_server;
enum err http_server_open(struct http_server **out, uv_loop_t *loop, const struct http_options *o,
                          struct errmsg *why) MUST_CHECK;
int http_server_port(const struct http_server *s);
void http_server_stop_listening(struct http_server *s); /* drain: running requests go on, keep-alive
                                                           ends with Connection: close */
size_t http_server_active(const struct http_server *s); /* requests not yet answered */
void http_server_stats(const struct http_server *s, struct http_stats *out);
void http_server_close(struct http_server *s, void (*on_closed)(void *user),
                       void *user); /* closes all connections */

#endif
