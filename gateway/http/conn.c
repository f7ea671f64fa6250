#include "gateway/http/conn.h"

/* ---- states and deadlines -------------------------------------------------------------------- */

/* The one table of timeouts. HANDLING and STREAMING have none: how long an answer may take is the
 * handler's business, and a reader that stalls is noticed by its backlog. LINGER gets its deadline
 * when all is sent. */
static uint32_t timeout_of(const struct conn *c, enum conn_state state)
{
    const struct http_options *o = &c->server->o;
    switch (state) {
    case CONN_IDLE:
        return o->idle_timeout_ms;
    case CONN_HEAD:
        return o->head_timeout_ms;
    case CONN_BODY:
        return o->body_timeout_ms;
    default:
        return 0;
    }
}

static void set_deadline(struct conn *c, uint64_t at_ms)
{
    c->deadline_ms = at_ms;
    conn_arm(c, at_ms);
}

void conn_set_state(struct conn *c, enum conn_state state)
{
    uint32_t ms = timeout_of(c, state);
    c->state = state;
    c->deadline_ms = UINT64_MAX;
    if (ms)
        set_deadline(c, server_now_ms(c->server) + ms);
}

void conn_arm(struct conn *c, uint64_t at_ms)
{
    wheel_arm(&c->server->wheel, &c->timer, at_ms);
}

void conn_mark_dirty(struct conn *c)
{
    if (list_empty(&c->dirty))
        list_push_back(&c->server->dirty, &c->dirty);
}

struct buf *conn_out(struct conn *c)
{
    if (!c->out.p && !c->out.failed)
        c->out = server_take_buf(c->server);
    return &c->out;
}

size_t conn_backlog(const struct conn *c)
{
    return c->out.n + (c->writing ? c->io->queued(c) : 0);
}

void conn_init(struct conn *c, struct http_server *s, const struct transport *io)
{
    *c = (struct conn){.server = s, .io = io, .reading = true};
    list_init(&c->dirty);
    wheel_timer_init(&c->timer);
    list_push_back(&s->conns, &c->all);
    s->stats.connections++;
    conn_set_state(c, CONN_IDLE);
}

static void release_body(struct conn *c)
{
    c->server->body_bytes -= c->body_charged;
    c->body_charged = 0;
}

/* Takes the connection out of every list; what it owns is freed. */
void conn_fini(struct conn *c)
{
    list_remove(&c->dirty);
    list_remove(&c->all);
    wheel_disarm(&c->timer);
    parser_free(c->parser);
    request_free(c->req);
    c->parser = NULL;
    c->req = NULL;
    buf_fini(&c->out);
    buf_fini(&c->stash);
    release_body(c);
    c->server->stats.connections--;
}

/* ---- the end of a request ----------------------------------------------------------------------
 */

static void end_request(struct conn *c, const char *cause)
{
    struct http_server *s = c->server;
    struct request *r = c->req;
    if (s->o.on_end)
        s->o.on_end(&r->pub, r->status, r->bytes_out, cause, s->o.app);
    c->req = NULL;
    c->route = NULL;
    release_body(c);
    parser_free(c->parser);
    c->parser = NULL;
    request_free(r);
    s->stats.active--;
}

void conn_request_ended(struct conn *c)
{
    bool keep = c->req->keep_alive;
    end_request(c, c->req->cause ? c->req->cause : "done");
    conn_set_state(c, keep ? CONN_IDLE : CONN_LINGER);
    conn_mark_dirty(c); /* the next request, or the end, comes at the flush */
}

void conn_drop(struct conn *c, const char *cause)
{
    if (c->state == CONN_CLOSED)
        return;
    bool handled = c->state == CONN_HANDLING || c->state == CONN_STREAMING;
    c->state = CONN_CLOSED; /* first: the handler's on_abort may look around */
    if (c->req) {
        if (handled && c->req->pub.on_abort)
            c->req->pub.on_abort(&c->req->pub);
        end_request(c, cause);
    }
    list_remove(&c->dirty);
    wheel_disarm(&c->timer);
    buf_fini(&c->out);
    buf_fini(&c->stash);
    c->io->close(c);
}

/* An answer of the server itself. The rest of what the peer sends can't be trusted to begin a
 * request. */
static void fault(struct conn *c, int status, const char *code, const char *message,
                  const char *cause)
{
    struct request *r = c->req;
    parser_free(c->parser);
    c->parser = NULL;
    r->keep_alive = false;
    r->cause = cause;
    c->server->stats.malformed++;
    conn_set_state(c, CONN_HANDLING);
    response_server_error(r, status, code, message);
}

/* ---- reading
 * ------------------------------------------------------------------------------------- */

static bool begin_request(struct conn *c)
{
    c->parser = parser_new();
    c->req = request_new(c);
    if (!c->parser || !c->req) {
        parser_free(c->parser);
        request_free(c->req);
        c->parser = NULL;
        c->req = NULL;
        return false;
    }
    c->server->stats.active++;
    conn_set_state(c, CONN_HEAD);
    return true;
}

/* The head is whole. A request whose body nobody will read is answered now, before the body comes;
 * all else waits for the end of the message. */
static void head_done(struct conn *c, size_t bytes_behind)
{
    struct http_server *s = c->server;
    struct request *r = c->req;
    const char *message = NULL;
    if (!request_read_head(r, c->parser, &message)) {
        fault(c, 400, NULL, message, "error");
        return;
    }
    c->route = router_find(&s->o, &r->pub, &c->allowed);
    if (parser_has_body(c->parser)) {
        size_t limit = c->route ? c->route->max_body : 0;
        uint64_t length = parser_content_length(c->parser);
        if (!c->route) {
            fault(c, c->allowed ? 405 : 404, c->allowed ? "method_not_allowed" : "unknown_url",
                  c->allowed ? "The method is not allowed here." : "There is no such endpoint.",
                  NULL);
            return;
        }
        if (length > limit || limit == 0) {
            fault(c, 413, "request_too_large",
                  "The request body is larger than this endpoint takes.", "error");
            return;
        }
        parser_set_body_limit(c->parser, limit);
        if (parser_expects_continue(c->parser) && bytes_behind == 0) {
            buf_puts(conn_out(c), "HTTP/1.1 100 Continue\r\n\r\n");
            conn_mark_dirty(c);
        }
    }
    c->body_start_ms = server_now_ms(s);
    conn_set_state(c, CONN_BODY);
}

/* The whole request is here: the phases before the handler, then the handler. */
static void message_done(struct conn *c)
{
    struct http_server *s = c->server;
    struct request *r = c->req;
    const struct http_route *route = c->route;
    parser_take_body(c->parser, &r->body);
    r->pub.body = (struct str){r->body.p ? r->body.p : "", r->body.n};
    parser_free(c->parser);
    c->parser = NULL;
    conn_set_state(c, CONN_HANDLING);
    if (!route) {
        bool any = str_is(r->pub.path, "*");
        if (r->pub.method == HTTP_OPTIONS_ && (c->allowed || any)) {
            cors_answer_options(r, any ? HTTP_GET_ | HTTP_POST_ | HTTP_OPTIONS_ : c->allowed);
        } else if (c->allowed) {
            char methods[64];
            router_methods_text(c->allowed, methods, sizeof(methods));
            http_add_header(&r->pub, "Allow", methods);
            response_server_error(r, 405, "method_not_allowed", "The method is not allowed here.");
        } else {
            response_server_error(r, 404, "unknown_url", "There is no such endpoint.");
        }
        return;
    }
    if (!(route->flags & ROUTE_OPEN) && s->o.before && !s->o.before(&r->pub, route, s->o.app))
        return; /* it has answered: r is gone */
    route->handler(&r->pub, s->o.app);
}

/* Bodies of all requests together have a budget: 10,000 connections times the largest body would be
 * more memory than there is. */
static bool charge_body(struct conn *c)
{
    struct http_server *s = c->server;
    size_t now = parser_body_bytes(c->parser);
    s->body_bytes += now - c->body_charged;
    c->body_charged = now;
    return s->body_bytes <= s->o.max_body_total;
}

/* Every piece of a body buys time, but not without end: a byte is worth a millisecond, so a sender
 * slower than 1 kB/s is cut off after the timeout. */
static void extend_body_deadline(struct conn *c)
{
    uint64_t now = server_now_ms(c->server), ms = c->server->o.body_timeout_ms;
    uint64_t total = c->body_start_ms + ms + parser_body_bytes(c->parser);
    set_deadline(c, now + ms < total ? now + ms : total);
}

/* Bytes behind a running request wait in the stash. Reading goes on so that the end of the client
 * is noticed, until the stash is full. */
static void keep_for_later(struct conn *c, const char *p, size_t n)
{
    buf_put(&c->stash, p, n);
    if (c->stash.failed) {
        conn_drop(c, "error");
    } else if (c->stash.n >= CONN_STASH_MAX && c->reading) {
        c->reading = false;
        c->io->set_reading(c, false);
    }
}

static void feed(struct conn *c, const char *p, size_t n)
{
    for (;;) {
        switch (c->state) {
        case CONN_IDLE:
            if (n == 0)
                return;
            if (conn_backlog(c) > HTTP_BACKLOG_HIGH) { /* asks, but does not read the answers */
                keep_for_later(c, p, n);
                return;
            }
            if (!begin_request(c)) {
                conn_drop(c, "error");
                return;
            }
            break;
        case CONN_HEAD:
        case CONN_BODY: {
            size_t used;
            enum parser_event event = parser_feed(c->parser, p, n, &used);
            p += used;
            n -= used;
            if (event == PARSER_FAULT) {
                struct parser_fault f = parser_fault(c->parser);
                fault(c, f.status, NULL, f.message, "error");
            } else if (!charge_body(c)) {
                http_add_header(&c->req->pub, "Retry-After", "1");
                fault(c, 503, "overloaded", "Too many large requests at once; try again shortly.",
                      "error");
            } else if (event == PARSER_HEAD) {
                head_done(c, n);
            } else if (event == PARSER_DONE) {
                message_done(c);
            } else {
                if (c->state == CONN_BODY)
                    extend_body_deadline(c);
                return;
            }
            break;
        }
        case CONN_HANDLING:
        case CONN_STREAMING:
            if (n)
                keep_for_later(c, p, n);
            return;
        case CONN_LINGER: /* read and thrown away, or the kernel would answer with RST */
        case CONN_CLOSED:
            return;
        }
    }
}

void conn_on_bytes(struct conn *c, const char *p, size_t n)
{
    if (c->stash.n && c->state == CONN_IDLE) { /* order: what came first goes first */
        keep_for_later(c, p, n);
        conn_mark_dirty(c);
        return;
    }
    feed(c, p, n);
}

void conn_on_eof(struct conn *c)
{
    c->eof = true;
    switch (c->state) {
    case CONN_IDLE: /* answers may still be on their way out, and requests in the stash */
    case CONN_LINGER:
        if (conn_backlog(c) == 0 && c->stash.n == 0)
            conn_drop(c, "client_gone");
        else
            conn_mark_dirty(c);
        break;
    default:
        conn_drop(c, "client_gone");
    }
}

/* ---- time
 * ------------------------------------------------------------------------------------------ */

static void note_progress(struct conn *c)
{
    size_t queued = c->writing ? c->io->queued(c) : 0;
    if (queued == 0 || queued != c->queued_seen)
        c->progress_ms = server_now_ms(c->server);
    c->queued_seen = queued;
}

static void arm_next(struct conn *c)
{
    uint64_t at = c->deadline_ms, t;
    if (c->writing && (t = c->progress_ms + c->server->o.stall_timeout_ms) < at)
        at = t;
    struct request *r = c->req;
    if (r && r->timer_at_ms && r->timer_at_ms < at)
        at = r->timer_at_ms;
    if (r && r->ping_ms && c->state == CONN_STREAMING && (t = r->wrote_ms + r->ping_ms) < at)
        at = t;
    if (at != UINT64_MAX)
        conn_arm(c, at);
}

void conn_on_timer(struct wheel_timer *timer)
{
    struct conn *c = list_entry(timer, struct conn, timer);
    uint64_t now = server_now_ms(c->server);
    note_progress(c);
    if (c->writing && now >= c->progress_ms + c->server->o.stall_timeout_ms) {
        conn_drop(c, "timeout");
        return;
    }
    if (now >= c->deadline_ms) {
        if (c->state == CONN_HEAD || c->state == CONN_BODY)
            fault(c, 408, NULL, "The request did not arrive in time.", "timeout");
        else
            conn_drop(c, "timeout");
    }
    bool running = c->state == CONN_HANDLING || c->state == CONN_STREAMING;
    if (running && c->req->timer_at_ms && now >= c->req->timer_at_ms) {
        struct http_request *pub = &c->req->pub;
        c->req->timer_at_ms = 0;
        if (pub->on_timer)
            pub->on_timer(pub); /* may end the request */
    }
    struct request *r = c->req;
    if (c->state == CONN_STREAMING && r->ping_ms && now >= r->wrote_ms + r->ping_ms)
        response_ping(r);
    if (c->state != CONN_CLOSED)
        arm_next(c);
}

/* ---- writing, and what comes after an answer
 * -------------------------------------------------------- */

static bool write_out(struct conn *c)
{
    if (c->out.failed) { /* out of memory in the middle of an answer */
        conn_drop(c, "error");
        return false;
    }
    if (c->writing || c->out.n == 0)
        return true;
    ssize_t took = c->io->try_write(c, c->out.p, c->out.n);
    if (took < 0) {
        conn_drop(c, "client_gone");
        return false;
    }
    if ((size_t)took == c->out.n) {
        server_give_buf(c->server, &c->out);
        return true;
    }
    struct buf rest = c->out;
    c->out = (struct buf){0};
    c->writing = true;
    if (!c->io->write(c, &rest, (size_t)took)) {
        conn_drop(c, "client_gone");
        return false;
    }
    c->queued_seen = c->io->queued(c);
    c->progress_ms = server_now_ms(c->server);
    conn_arm(c, c->progress_ms + c->server->o.stall_timeout_ms);
    return true;
}

static void feed_stash(struct conn *c)
{
    struct buf b = c->stash;
    c->stash = (struct buf){0};
    feed(c, b.p, b.n);
    buf_fini(&b);
    if (c->state != CONN_CLOSED && !c->reading && c->stash.n < CONN_STASH_MAX) {
        c->reading = true;
        c->io->set_reading(c, true);
    }
}

void conn_flush(struct conn *c)
{
    if (c->state == CONN_CLOSED || !write_out(c))
        return;
    size_t backlog = conn_backlog(c);
    if (c->req && c->req->above_high && backlog < HTTP_BACKLOG_LOW) {
        struct http_request *pub = &c->req->pub;
        c->req->above_high = false;
        if (pub->on_drain)
            pub->on_drain(pub);
    }
    if (c->state == CONN_IDLE && c->stash.n && backlog <= HTTP_BACKLOG_HIGH)
        feed_stash(c);
    if (c->state == CONN_IDLE && c->stash.n == 0 && (c->eof || c->server->draining))
        conn_set_state(c, CONN_LINGER);
    if (c->state != CONN_LINGER || conn_backlog(c) || c->fin_sent)
        return;
    if (c->eof) {
        conn_drop(c, "done");
        return;
    }
    /* RFC 9112 9.6: close in two steps, or what the peer still sends would reset the connection
     * and take our last answer with it. */
    c->io->send_fin(c);
    c->fin_sent = true;
    set_deadline(c, server_now_ms(c->server) + CONN_LINGER_MS);
    if (!c->reading) {
        c->reading = true;
        c->io->set_reading(c, true);
    }
}

void conn_on_written(struct conn *c, bool ok)
{
    c->writing = false;
    if (c->state == CONN_CLOSED)
        return;
    if (!ok) {
        conn_drop(c, "client_gone");
        return;
    }
    note_progress(c);
    conn_mark_dirty(c);
}
