/* The transport of conn.c over a libuv TCP handle. */
#include "gateway/http/conn.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct socket {
    struct conn conn; /* first */
    uv_tcp_t tcp;
};

struct write_op {
    uv_write_t req;
    struct buf data; /* owned */
};

static struct socket *socket_of(const struct conn *c)
{
    return (struct socket *)c;
}

static ssize_t socket_try_write(struct conn *c, const char *p, size_t n)
{
    uv_buf_t b = uv_buf_init((char *)p, n > INT_MAX ? INT_MAX : (unsigned)n);
    int rc = uv_try_write((uv_stream_t *)&socket_of(c)->tcp, &b, 1);
    return rc == UV_EAGAIN ? 0 : rc;
}

static void on_write(uv_write_t *req, int status)
{
    struct write_op *op = (struct write_op *)req;
    struct socket *s = list_entry(req->handle, struct socket, tcp);
    buf_fini(&op->data);
    free(op);
    conn_on_written(&s->conn, status == 0);
}

static bool socket_write(struct conn *c, struct buf *b, size_t from)
{
    struct write_op *op = malloc(sizeof(*op));
    if (!op) {
        buf_fini(b);
        return false;
    }
    op->data = *b;
    uv_buf_t piece = uv_buf_init(op->data.p + from, (unsigned)(op->data.n - from));
    if (uv_write(&op->req, (uv_stream_t *)&socket_of(c)->tcp, &piece, 1, on_write) != 0) {
        buf_fini(&op->data);
        free(op);
        return false;
    }
    return true;
}

static size_t socket_queued(const struct conn *c)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&socket_of(c)->tcp);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
    (void)hint; /* one buffer for all: on_read() has used it before the next read */
    struct http_server *s = list_entry(h, struct socket, tcp)->conn.server;
    *out = uv_buf_init(s->read_bytes, sizeof(s->read_bytes));
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct conn *c = &list_entry(h, struct socket, tcp)->conn;
    if (n > 0)
        conn_on_bytes(c, b->base, (size_t)n);
    else if (n == UV_EOF)
        conn_on_eof(c);
    else if (n < 0)
        conn_drop(c, "client_gone");
}

static void socket_set_reading(struct conn *c, bool on)
{
    uv_stream_t *h = (uv_stream_t *)&socket_of(c)->tcp;
    if (!on)
        uv_read_stop(h);
    else if (uv_read_start(h, on_alloc, on_read) != 0)
        conn_drop(c, "client_gone");
}

/* Only called when nothing is queued: no need for uv_shutdown() and its memory. */
static void socket_send_fin(struct conn *c)
{
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&socket_of(c)->tcp, &fd) == 0)
        shutdown(fd, SHUT_WR);
}

static void on_socket_closed(uv_handle_t *h)
{
    struct socket *s = list_entry(h, struct socket, tcp);
    struct http_server *server = s->conn.server;
    conn_fini(&s->conn);
    free(s);
    server_conn_gone(server);
}

static void socket_close(struct conn *c)
{
    uv_close((uv_handle_t *)&socket_of(c)->tcp, on_socket_closed);
}

static const struct transport transport = {
    .try_write = socket_try_write,
    .write = socket_write,
    .queued = socket_queued,
    .set_reading = socket_set_reading,
    .send_fin = socket_send_fin,
    .close = socket_close,
};

static void name_peer(struct conn *c, const uv_tcp_t *tcp)
{
    struct sockaddr_storage a;
    int n = sizeof(a);
    if (uv_tcp_getpeername(tcp, (struct sockaddr *)&a, &n) == 0)
        uv_ip_name((struct sockaddr *)&a, c->peer, sizeof(c->peer));
}

#define TOO_MANY                                                                                   \
    "{\"error\":{\"message\":\"Too many connections; try again shortly.\","                        \
    "\"type\":\"server_error\",\"param\":null,\"code\":\"too_many_connections\"}}\n"

/* Over the limit: a client learns why, if one write can tell it. Nothing is read, nothing waits. */
static void turn_away(struct conn *c)
{
    char text[512];
    int n = snprintf(text, sizeof(text),
                     "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                     "Retry-After: 1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n" TOO_MANY,
                     sizeof(TOO_MANY) - 1);
    (void)socket_try_write(c, text, (size_t)n);
    socket_send_fin(c);
    conn_drop(c, "refused");
}

void socket_accept(struct http_server *server)
{
    struct socket *s = malloc(sizeof(*s));
    if (!s) /* the connection stays in the kernel's queue; libuv will ask again */
        return;
    if (uv_tcp_init(server->loop, &s->tcp) != 0) {
        free(s);
        return;
    }
    bool room = server->stats.connections < server->o.max_connections;
    conn_init(&s->conn, server, &transport);
    if (uv_accept((uv_stream_t *)&server->listener, (uv_stream_t *)&s->tcp) != 0) {
        conn_drop(&s->conn, "error");
        return;
    }
    uv_tcp_nodelay(&s->tcp, 1); /* we coalesce ourselves, once per loop turn */
    if (!room) {
        server->stats.refused++;
        turn_away(&s->conn);
        return;
    }
    server->stats.accepted++;
    name_peer(&s->conn, &s->tcp);
    socket_set_reading(&s->conn, true);
}
