/* conn.h - inside gateway/http: one connection, its request, and the server around them.
 *
 *                    first byte         head whole          body whole, or none
 *   accept ─▶ IDLE ─────────────▶ HEAD ───────────▶ BODY ─────────────────────▶ HANDLING
 *              ▲                    │                 │  fault, timeout            │ stream_begin
 *              │                    └────────┬────────┘                            ▼
 *              │                             │ answered                        STREAMING
 *              │ keep-alive                  ▼                                     │
 *              ├───────────────────────── (ended) ◀───────────────────────────────┘
 *              │                             │ no keep-alive
 *              │                             ▼
 *              │                          LINGER ──all sent, FIN sent, peer's EOF or 2 s──▶ CLOSED
 *              └── IDLE again at once                 any state: peer gone, stalled ──────▶ CLOSED
 *
 * Every move goes through conn_set_state(), which also sets the state's deadline from one table.
 * Writes only append to `out`; conn_flush() at the end of the loop turn is the one place that
 * writes, starts the next pipelined request and notices the end. So handlers may call http_*() from
 * anywhere, and no on_abort or on_drain fires inside such a call.
 * Memory: an idle or silently streaming connection owns this struct and no buffers. */
#ifndef MILLRACE_GATEWAY_HTTP_CONN_H
#define MILLRACE_GATEWAY_HTTP_CONN_H

#include "gateway/http/http.h"
#include "gateway/http/parser.h"
#include "gateway/http/wheel.h"
#include "shared/base/buf.h"

struct conn;

enum conn_state {
    CONN_IDLE,
    CONN_HEAD,
    CONN_BODY,
    CONN_HANDLING,
    CONN_STREAMING,
    CONN_LINGER,
    CONN_CLOSED,
};

enum {
    CONN_STASH_MAX = 16 << 10, /* pipelined bytes kept while a request runs; then reading stops */
    CONN_READ_BYTES = 64 << 10,
    CONN_LINGER_MS = 2000,
    SPARE_BUFS = 64,          /* write buffers kept for reuse, per server */
    SPARE_BUF_MAX = 16 << 10, /* larger ones go back to the allocator */
};

/* The socket, or a test's memory. */
struct transport {
    /* Bytes taken now, 0: none at the moment, negative: the peer is gone. */
    ssize_t (*try_write)(struct conn *c, const char *p, size_t n);
    /* Takes the rest of `b` from `from` on (MOVED) and calls conn_on_written() later. False: gone.
     */
    bool (*write)(struct conn *c, struct buf *b, size_t from);
    size_t (*queued)(const struct conn *c); /* bytes of write() not yet taken by the kernel */
    void (*set_reading)(struct conn *c, bool on);
    void (*send_fin)(struct conn *c);
    void (*close)(struct conn *c); /* conn_fini() and free later, from the loop */
};

/* What the server keeps beside a public request. */
struct request {
    struct http_request pub; /* first: handlers hold a pointer to it */
    struct conn *conn;       /* borrowed */
    struct buf body;         /* owned; pub.body points into it */
    struct buf extra;        /* header lines of the answer */
    uint64_t bytes_out;
    uint64_t timer_at_ms; /* 0: off */
    uint64_t wrote_ms;    /* last write, for pings */
    uint32_t ping_ms;     /* 0: off */
    uint16_t status;      /* 0: no answer yet */
    bool head_only, http10, keep_alive, chunked, above_high, preflight;
    const char *cause; /* set where a fault was found; NULL: "done" */
};

struct conn {
    struct http_server *server;     /* borrowed */
    const struct transport *io;     /* borrowed */
    struct link all;                /* in server->conns */
    struct link dirty;              /* in server->dirty when something is to be done at flush */
    struct wheel_timer timer;       /* at the earliest of the deadlines */
    struct parser *parser;          /* owned; NULL but in HEAD and BODY */
    struct request *req;            /* owned; NULL in IDLE and LINGER */
    const struct http_route *route; /* of req; NULL before the head is whole */
    struct buf out;                 /* not yet offered to the kernel */
    struct buf stash;               /* bytes read behind the running request */
    uint64_t deadline_ms;           /* of the state; UINT64_MAX: none */
    uint64_t progress_ms;           /* the kernel last took bytes, or had none waiting */
    size_t queued_seen;             /* at that time */
    uint64_t body_start_ms;         /* of the state BODY */
    unsigned allowed;               /* methods of the path, where route is NULL */
    size_t body_charged;            /* of server->body_bytes */
    enum conn_state state;
    bool writing;  /* a write() is in flight */
    bool reading;  /* the transport delivers bytes */
    bool eof;      /* the peer sent FIN while we still had to flush */
    bool fin_sent; /* by us */
    char peer[46];
};

struct http_server {
    uv_loop_t *loop; /* NULL in tests that bring their own transport */
    struct http_options o;
    uv_tcp_t listener;
    uv_prepare_t before_poll;
    uv_check_t after_poll;
    uv_timer_t tick;
    struct link conns, dirty;
    struct wheel wheel;
    struct buf spare[SPARE_BUFS];
    int n_spare;
    struct http_stats stats;
    size_t body_bytes;  /* of all bodies held */
    uint64_t random[2]; /* state of the request ids */
    uint64_t now_ms;    /* where there is no loop: the test's clock */
    int64_t date_s;     /* second that `date` shows */
    char date[32];
    bool listening, draining, closing;
    int open_handles;
    void (*on_closed)(void *user);
    void *on_closed_user;
    char read_bytes[CONN_READ_BYTES]; /* one read at a time; consumed before the next */
};

/* server.c */
void server_init(struct http_server *s, const struct http_options *o); /* all but the handles */
void server_fini(struct http_server *s);
void server_tick(struct http_server *s, uint64_t now_ms); /* deadlines */
void server_flush(struct http_server *s);                 /* every dirty connection */
void server_conn_gone(struct http_server *s);             /* a connection was freed */
struct buf server_take_buf(struct http_server *s);
void server_give_buf(struct http_server *s, struct buf *b);
const char *server_date(struct http_server *s);
uint64_t server_now_ms(const struct http_server *s); /* of this loop turn */

/* socket.c */
void socket_accept(struct http_server *s); /* from the listener, if it may */

/* conn.c: events in */
void conn_init(struct conn *c, struct http_server *s, const struct transport *io);
void conn_fini(struct conn *c);
void conn_on_bytes(struct conn *c, const char *p, size_t n);
void conn_on_eof(struct conn *c);
void conn_on_written(struct conn *c, bool ok);
void conn_on_timer(struct wheel_timer *t);
void conn_flush(struct conn *c);
void conn_drop(struct conn *c, const char *cause); /* now: on_abort, on_end, close */

/* conn.c: for response.c */
void conn_set_state(struct conn *c, enum conn_state state);
void conn_mark_dirty(struct conn *c);
void conn_arm(struct conn *c, uint64_t at_ms);
struct buf *conn_out(struct conn *c); /* to append to */
size_t conn_backlog(const struct conn *c);
void conn_request_ended(struct conn *c); /* the answer is complete: log, free, go on */

/* request.c */
struct request *request_new(struct conn *c);
void request_free(struct request *r);
bool request_read_head(struct request *r, const struct parser *p, const char **fault);

/* router.c */
const struct http_route *router_find(const struct http_options *o, struct http_request *r,
                                     unsigned *allowed);
void router_methods_text(unsigned methods, char *out, size_t size); /* "GET, HEAD, OPTIONS" */

/* cors.c */
bool cors_allows(const struct http_options *o, const struct http_request *r, struct str *origin);
void cors_add_headers(struct request *r);
void cors_answer_options(struct request *r, unsigned allowed); /* also the plain OPTIONS */

/* response.c */
void response_server_error(struct request *r, int status, const char *code, const char *message);
void response_ping(struct request *r);

#endif
