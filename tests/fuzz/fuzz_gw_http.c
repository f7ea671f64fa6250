/* Bytes into a connection, whole and in pieces: what the handlers see must be the same, every
 * request must end, and nothing may be left over. First byte: the handler's manners and the size of
 * the pieces. */
#include "tests/unit/gateway/http/harness.h"

static void note(struct world *w, const struct http_request *r)
{
    buf_printf(&w->log, "%d " STR_FMT "?" STR_FMT " " STR_FMT " %zu:", (int)r->method,
               STR_ARG(r->path), STR_ARG(r->query), STR_ARG(r->param), r->n_headers);
    for (size_t i = 0; i < r->n_headers; i++)
        buf_printf(&w->log, STR_FMT "=" STR_FMT ";", STR_ARG(r->headers[i].name),
                   STR_ARG(r->headers[i].value));
    buf_put(&w->log, r->body.p, r->body.n);
    buf_putc(&w->log, '\n');
}

static void at_once(struct http_request *r, void *app)
{
    note(app, r);
    http_reply(r, 200, "text/plain", r->body.p, r->body.n);
}

static void forget(struct http_request *r)
{
    ((struct world *)r->user)->held = NULL;
}

static void later(struct http_request *r, void *app)
{
    struct world *w = app;
    note(w, r);
    w->held = r;
    r->user = w;
    r->on_abort = forget;
}

static void finish_held(struct world *w, bool stream)
{
    struct http_request *r = w->held;
    if (!r)
        return;
    w->held = NULL;
    if (stream) {
        http_stream_begin(r, 200, "text/event-stream");
        http_stream_write(r, "data: x\n\n", 9);
        http_stream_end(r);
    } else {
        http_reply(r, 200, "text/plain", "x", 1);
    }
    server_flush(&w->s);
}

static const struct http_route routes_now[] = {{HTTP_GET_ | HTTP_POST_, "/a", at_once, 4096, 0},
                                               {HTTP_POST_, "/b/*", at_once, 100, 0}};
static const struct http_route routes_later[] = {{HTTP_GET_ | HTTP_POST_, "/a", later, 4096, 0},
                                                 {HTTP_POST_, "/b/*", later, 100, 0}};

static struct buf play(const uint8_t *p, size_t n, uint8_t manners, size_t piece)
{
    struct world w;
    bool async = manners & 1, stream = manners & 2;
    world_open(&w, async ? routes_later : routes_now, 2);
    struct fake_conn *f = world_connect(&w);
    if (manners & 4)
        f->room = 50; /* a client that reads nothing */
    for (size_t at = 0; at < n && !f->closed; at += piece) {
        size_t k = n - at < piece ? n - at : piece;
        world_send(&w, f, (const char *)p + at, k);
        for (int i = 0; async && w.held && i < 1000; i++)
            finish_held(&w, stream);
    }
    if (manners & 8)
        world_wait(&w, 100000); /* every deadline passes */
    if (!f->closed && manners & 16)
        conn_on_eof(&f->c);
    server_flush(&w.s);
    world_drop(f);
    if (w.s.stats.active || w.s.body_bytes || w.s.stats.connections || w.held)
        __builtin_trap();
    struct buf log = w.log;
    w.log = (struct buf){0};
    world_close(&w);
    return log;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2 || n > 65536)
        return 0;
    uint8_t manners = data[0] & 31;
    struct buf whole = play(data + 1, n - 1, manners, n);
    struct buf pieces = play(data + 1, n - 1, manners, 1 + (data[0] >> 5) * 3u);
    /* A client that does not read is served less in one piece than in many; else all is equal. */
    if (!(manners & 4) &&
        (whole.n != pieces.n || (whole.n && memcmp(whole.p, pieces.p, whole.n) != 0)))
        __builtin_trap();
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
