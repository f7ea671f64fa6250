/* harness.h - a server and connections without sockets: bytes in, bytes out, a clock in the test's
 * hand. The kernel of this world takes `room` bytes at once and the rest when the test says so. */
#ifndef MILLRACE_TESTS_HTTP_HARNESS_H
#define MILLRACE_TESTS_HTTP_HARNESS_H

#include "gateway/http/conn.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct fake_conn {
    struct conn c; /* first */
    struct buf sent;
    struct buf pending;
    size_t room; /* bytes the kernel takes */
    bool fin, closed, reset;
};

struct world {
    struct http_server s;
    struct fake_conn *fc;
    struct buf log;            /* what handlers and hooks saw */
    struct http_request *held; /* the request whose handler waits */
    int aborts, drains, ends, timers;
    char last_cause[32];
    int last_status;
};

static inline struct fake_conn *fake_of(const struct conn *c)
{
    return (struct fake_conn *)(void *)c;
}

static inline ssize_t fake_try_write(struct conn *c, const char *p, size_t n)
{
    struct fake_conn *f = fake_of(c);
    if (f->reset)
        return -32;
    size_t take = n < f->room ? n : f->room;
    buf_put(&f->sent, p, take);
    f->room -= take;
    return (ssize_t)take;
}

static inline bool fake_write(struct conn *c, struct buf *b, size_t from)
{
    buf_put(&fake_of(c)->pending, b->p + from, b->n - from);
    buf_fini(b);
    return true;
}

static inline size_t fake_queued(const struct conn *c)
{
    return fake_of(c)->pending.n;
}

static inline void fake_set_reading(struct conn *c, bool on)
{
    (void)c;
    (void)on;
}

static inline void fake_send_fin(struct conn *c)
{
    fake_of(c)->fin = true;
}

static inline void fake_close(struct conn *c)
{
    fake_of(c)->closed = true;
}

static const struct transport fake_transport = {fake_try_write,   fake_write,    fake_queued,
                                                fake_set_reading, fake_send_fin, fake_close};

/* The kernel takes what waits. */
static inline void fake_drain(struct fake_conn *f)
{
    buf_put(&f->sent, f->pending.p, f->pending.n);
    buf_clear(&f->pending);
    conn_on_written(&f->c, true);
}

static inline void world_error(struct http_request *r, int status, const char *code,
                               const char *message, void *app)
{
    (void)app;
    (void)code;
    http_reply(r, status, "text/plain", message, strlen(message));
}

static inline void world_end(const struct http_request *r, int status, uint64_t bytes,
                             const char *cause, void *app)
{
    struct world *w = app;
    (void)r;
    (void)bytes;
    w->ends++;
    w->last_status = status;
    snprintf(w->last_cause, sizeof(w->last_cause), "%s", cause);
}

static inline void world_open(struct world *w, const struct http_route *routes, size_t n)
{
    memset(w, 0, sizeof(*w));
    struct http_options o = {.routes = routes, .n_routes = n, .app = w};
    o.error = world_error;
    o.on_end = world_end;
    w->s.now_ms = 1000000;
    server_init(&w->s, &o);
}

static inline struct fake_conn *world_connect(struct world *w)
{
    struct fake_conn *f = calloc(1, sizeof(*f));
    conn_init(&f->c, &w->s, &fake_transport);
    f->room = SIZE_MAX;
    w->fc = f;
    return f;
}

static inline void world_drop(struct fake_conn *f)
{
    conn_drop(&f->c, "test");
    conn_fini(&f->c);
    buf_fini(&f->sent);
    buf_fini(&f->pending);
    free(f);
}

static inline void world_close(struct world *w)
{
    buf_fini(&w->log);
    server_fini(&w->s);
}

static inline void world_send(struct world *w, struct fake_conn *f, const char *p, size_t n)
{
    if (!f->closed)
        conn_on_bytes(&f->c, p, n);
    server_flush(&w->s);
}

static inline void world_wait(struct world *w, uint64_t ms)
{
    for (uint64_t end = w->s.now_ms + ms; w->s.now_ms < end;) {
        w->s.now_ms += 50;
        server_tick(&w->s, w->s.now_ms);
        server_flush(&w->s);
    }
}

/* "" when nothing was sent. */
static inline const char *sent(const struct fake_conn *f)
{
    return f->sent.p ? f->sent.p : "";
}

static inline int sent_status(const struct fake_conn *f)
{
    return f->sent.n > 12 ? atoi(f->sent.p + 9) : 0;
}

static inline int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

#endif
