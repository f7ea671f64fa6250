#include "gateway/http/conn.h"
#include "shared/base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

enum {
    DEFAULT_CONNECTIONS = 10000,
    DEFAULT_HEAD_MS = 10000,
    DEFAULT_BODY_MS = 30000,
    DEFAULT_IDLE_MS = 75000,
    DEFAULT_STALL_MS = 60000,
    LISTEN_BACKLOG = 1024,
};

uint64_t server_now_ms(const struct http_server *s)
{
    return s->loop ? uv_now(s->loop) : s->now_ms; /* both are CLOCK_MONOTONIC */
}

void server_init(struct http_server *s, const struct http_options *o)
{
    s->o = *o;
    struct http_options *d = &s->o;
    d->max_connections = d->max_connections ? d->max_connections : DEFAULT_CONNECTIONS;
    d->head_timeout_ms = d->head_timeout_ms ? d->head_timeout_ms : DEFAULT_HEAD_MS;
    d->body_timeout_ms = d->body_timeout_ms ? d->body_timeout_ms : DEFAULT_BODY_MS;
    d->idle_timeout_ms = d->idle_timeout_ms ? d->idle_timeout_ms : DEFAULT_IDLE_MS;
    d->stall_timeout_ms = d->stall_timeout_ms ? d->stall_timeout_ms : DEFAULT_STALL_MS;
    d->max_body_total = d->max_body_total ? d->max_body_total : (size_t)1 << 30;
    list_init(&s->conns);
    list_init(&s->dirty);
    if (getrandom(s->random, sizeof(s->random), 0) != (ssize_t)sizeof(s->random))
        s->random[0] = clock_mono_ns() ^ (uint64_t)clock_wall_ms() << 20;
    wheel_init(&s->wheel, server_now_ms(s));
}

void server_fini(struct http_server *s)
{
    while (s->n_spare)
        buf_fini(&s->spare[--s->n_spare]);
}

struct buf server_take_buf(struct http_server *s)
{
    return s->n_spare ? s->spare[--s->n_spare] : (struct buf){0};
}

void server_give_buf(struct http_server *s, struct buf *b)
{
    if (b->p && b->cap <= SPARE_BUF_MAX && s->n_spare < SPARE_BUFS) {
        buf_clear(b);
        s->spare[s->n_spare++] = *b;
        *b = (struct buf){0};
    } else {
        buf_fini(b);
    }
}

const char *server_date(struct http_server *s)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    if (t.tv_sec != s->date_s) { /* "Sun, 06 Nov 1994 08:49:37 GMT", RFC 9110 5.6.7 */
        struct tm tm;
        s->date_s = t.tv_sec;
        gmtime_r(&t.tv_sec, &tm);
        strftime(s->date, sizeof(s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return s->date;
}

void server_tick(struct http_server *s, uint64_t now_ms)
{
    wheel_advance(&s->wheel, now_ms, conn_on_timer);
}

/* Until nothing is dirty: feeding a pipelined request may answer at once and make its connection
 * dirty again; it is bounded by what was stashed. */
void server_flush(struct http_server *s)
{
    while (!list_empty(&s->dirty)) {
        struct conn *c = list_entry(s->dirty.next, struct conn, dirty);
        list_remove(&c->dirty);
        conn_flush(c);
    }
}

/* ---- handles
 * --------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *t)
{
    struct http_server *s = t->data;
    server_tick(s, server_now_ms(s));
}

static void on_before_poll(uv_prepare_t *h)
{
    server_flush(h->data); /* what timers and closing callbacks wrote */
}

static void on_after_poll(uv_check_t *h)
{
    server_flush(h->data); /* what this turn's events wrote: one write per connection */
}

static void on_connection(uv_stream_t *h, int status)
{
    struct http_server *s = h->data;
    if (status == 0)
        socket_accept(s);
    else
        log_warn("http", "accept failed", KV_S("error", uv_strerror(status)));
}

static void maybe_closed(struct http_server *s)
{
    if (!s->closing || s->open_handles || !list_empty(&s->conns))
        return;
    void (*on_closed)(void *) = s->on_closed;
    void *user = s->on_closed_user;
    server_fini(s);
    free(s);
    if (on_closed)
        on_closed(user);
}

void server_conn_gone(struct http_server *s)
{
    maybe_closed(s);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct http_server *s = h->data;
    s->open_handles--;
    maybe_closed(s);
}

/* A handle exists from its init on and must be closed through the loop. */
static void own(struct http_server *s, uv_handle_t *h)
{
    h->data = s;
    s->open_handles++;
}

static enum err listen_on(struct http_server *s, struct errmsg *why)
{
    struct sockaddr_storage a;
    const char *host = s->o.host;
    if (uv_ip4_addr(host, s->o.port, (struct sockaddr_in *)&a) != 0 &&
        uv_ip6_addr(host, s->o.port, (struct sockaddr_in6 *)&a) != 0)
        return err_set(why, ERR_INVALID, "listen address %s: not a numeric IPv4 or IPv6 address",
                       host);
    int rc = uv_tcp_bind(&s->listener, (struct sockaddr *)&a, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&s->listener, LISTEN_BACKLOG, on_connection);
    if (rc == 0)
        return ERR_OK;
    if (rc == UV_EADDRINUSE)
        return err_set(why, ERR_EXISTS,
                       "cannot listen on %s port %d: the port is in use (stop the other program, "
                       "or choose another port with --listen)",
                       host, s->o.port);
    return err_set(why, ERR_IO, "cannot listen on %s port %d: %s", host, s->o.port,
                   uv_strerror(rc));
}

enum err http_server_open(struct http_server **out, uv_loop_t *loop, const struct http_options *o,
                          struct errmsg *why)
{
    struct http_server *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(why, ERR_NOMEM, "out of memory for the HTTP server");
    s->loop = loop;
    server_init(s, o);
    /* These inits can't fail (libuv docs) but for the listener's, which opens no socket yet. */
    uv_tcp_init(loop, &s->listener);
    own(s, (uv_handle_t *)&s->listener);
    uv_prepare_init(loop, &s->before_poll);
    own(s, (uv_handle_t *)&s->before_poll);
    uv_check_init(loop, &s->after_poll);
    own(s, (uv_handle_t *)&s->after_poll);
    uv_timer_init(loop, &s->tick);
    own(s, (uv_handle_t *)&s->tick);
    enum err e = listen_on(s, why);
    if (e) {
        http_server_close(s, NULL, NULL);
        return e;
    }
    s->listening = true;
    uv_prepare_start(&s->before_poll, on_before_poll);
    uv_check_start(&s->after_poll, on_after_poll);
    uv_timer_start(&s->tick, on_tick, WHEEL_TICK_MS, WHEEL_TICK_MS);
    /* The loop lives as long as something is open, not as long as we look at it. */
    uv_unref((uv_handle_t *)&s->before_poll);
    uv_unref((uv_handle_t *)&s->after_poll);
    uv_unref((uv_handle_t *)&s->tick);
    *out = s;
    return ERR_OK;
}

int http_server_port(const struct http_server *s)
{
    struct sockaddr_storage a;
    int n = sizeof(a);
    if (uv_tcp_getsockname(&s->listener, (struct sockaddr *)&a, &n) != 0)
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

void http_server_stop_listening(struct http_server *s)
{
    if (s->draining)
        return;
    s->draining = true;
    s->listening = false;
    uv_close((uv_handle_t *)&s->listener, on_handle_closed);
    for (struct link *l = s->conns.next; l != &s->conns; l = l->next) {
        struct conn *c = list_entry(l, struct conn, all);
        if (c->state == CONN_IDLE)
            conn_mark_dirty(c); /* the flush says goodbye to it */
    }
}

size_t http_server_active(const struct http_server *s)
{
    return s->stats.active;
}

void http_server_stats(const struct http_server *s, struct http_stats *out)
{
    *out = s->stats;
}

void http_server_close(struct http_server *s, void (*on_closed)(void *user), void *user)
{
    s->on_closed = on_closed;
    s->on_closed_user = user;
    s->closing = true;
    for (struct link *l = s->conns.next; l != &s->conns; l = l->next)
        conn_drop(list_entry(l, struct conn, all), "shutdown");
    uv_handle_t *handles[] = {(uv_handle_t *)&s->listener, (uv_handle_t *)&s->before_poll,
                              (uv_handle_t *)&s->after_poll, (uv_handle_t *)&s->tick};
    for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++)
        if (!uv_is_closing(handles[i]))
            uv_close(handles[i], on_handle_closed);
}
