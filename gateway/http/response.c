#include "gateway/http/conn.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include <stdio.h>

static const char *reason(int status)
{
    // clang-format off
    static const struct { int status; const char *text; } rows[] = {
        { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
        { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" },
        { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" },
        { 409, "Conflict" }, { 411, "Length Required" }, { 413, "Content Too Large" },
        { 414, "URI Too Long" }, { 415, "Unsupported Media Type" },
        { 417, "Expectation Failed" }, { 421, "Misdirected Request" },
        { 422, "Unprocessable Content" }, { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" },
        { 501, "Not Implemented" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };
    // clang-format on
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].status == status)
            return rows[i].text;
    return "Unknown";
}

void http_add_header(struct http_request *pub, const char *name, const char *value)
{
    struct request *r = (struct request *)pub;
    for (const char *p = value; *p; p++) {
        if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f) {
            log_warn("http", "response header dropped: its value has a control character",
                     KV_S("request", pub->id), KV_S("header", name));
            return;
        }
    }
    buf_puts(&r->extra, name);
    buf_puts(&r->extra, ": ");
    buf_puts(&r->extra, value);
    buf_puts(&r->extra, "\r\n");
}

/* Status line and headers but for those that say how long the body is. */
static struct buf *put_head(struct request *r, int status, const char *content_type)
{
    struct conn *c = r->conn;
    struct http_server *s = c->server;
    struct buf *out = conn_out(c);
    r->status = (uint16_t)status;
    if (s->draining)
        r->keep_alive = false;
    cors_add_headers(r);
    buf_puts(out, "HTTP/1.1 ");
    buf_put_u64(out, (uint64_t)status);
    buf_putc(out, ' ');
    buf_puts(out, reason(status));
    buf_puts(out, "\r\nDate: ");
    buf_puts(out, server_date(s));
    if (content_type) {
        buf_puts(out, "\r\nContent-Type: ");
        buf_puts(out, content_type);
    }
    buf_puts(out, "\r\nx-request-id: ");
    buf_puts(out, r->pub.id);
    buf_puts(out, "\r\nopenai-processing-ms: ");
    buf_put_u64(out, (clock_mono_ns() - r->pub.start_ns) / 1000000);
    buf_puts(out, "\r\n");
    buf_put(out, r->extra.p, r->extra.n);
    if (!r->keep_alive)
        buf_puts(out, "Connection: close\r\n");
    else if (r->http10)
        buf_puts(out, "Connection: keep-alive\r\n");
    return out;
}

/* What was appended since `before` counts; an append that failed for lack of memory ends the
 * connection at the flush, because half an answer must not look like a whole one. */
static void wrote(struct request *r, size_t before)
{
    struct conn *c = r->conn;
    if (!c->out.failed && c->out.n > before)
        r->bytes_out += c->out.n - before;
    r->wrote_ms = server_now_ms(c->server);
    if (conn_backlog(c) > HTTP_BACKLOG_HIGH)
        r->above_high = true;
    conn_mark_dirty(c);
}

void http_reply(struct http_request *pub, int status, const char *content_type, const void *body,
                size_t n)
{
    struct request *r = (struct request *)pub;
    struct conn *c = r->conn;
    size_t before = conn_out(c)->n;
    struct buf *out = put_head(r, status, content_type);
    if (status != 204) { /* RFC 9110 8.6: no Content-Length with 204 */
        buf_puts(out, "Content-Length: ");
        buf_put_u64(out, n);
        buf_puts(out, "\r\n");
    }
    buf_puts(out, "\r\n");
    if (!r->head_only && status != 204)
        buf_put(out, body, n);
    wrote(r, before);
    conn_request_ended(c);
}

void http_stream_begin(struct http_request *pub, int status, const char *content_type)
{
    struct request *r = (struct request *)pub;
    struct conn *c = r->conn;
    size_t before = conn_out(c)->n;
    if (strncmp(content_type, "text/event-stream", 17) == 0) {
        http_add_header(pub, "Cache-Control", "no-cache");
        http_add_header(pub, "X-Accel-Buffering", "no"); /* nginx would collect the stream */
    }
    r->chunked = !r->http10;
    if (r->http10)
        r->keep_alive = false; /* the end of the connection is the end of the body */
    struct buf *out = put_head(r, status, content_type);
    buf_puts(out, r->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    wrote(r, before);
    conn_set_state(c, CONN_STREAMING);
}

void http_stream_write(struct http_request *pub, const void *p, size_t n)
{
    struct request *r = (struct request *)pub;
    struct conn *c = r->conn;
    if (n == 0 || r->head_only) /* an empty chunk would end the body */
        return;
    struct buf *out = conn_out(c);
    size_t before = out->n;
    if (r->chunked) {
        char size[20];
        int len = snprintf(size, sizeof(size), "%zx\r\n", n);
        buf_put(out, size, (size_t)len);
        buf_put(out, p, n);
        buf_put(out, "\r\n", 2);
    } else {
        buf_put(out, p, n);
    }
    wrote(r, before);
}

void http_stream_end(struct http_request *pub)
{
    struct request *r = (struct request *)pub;
    struct conn *c = r->conn;
    size_t before = conn_out(c)->n;
    if (r->chunked && !r->head_only)
        buf_puts(&c->out, "0\r\n\r\n");
    wrote(r, before);
    conn_request_ended(c);
}

size_t http_backlog(const struct http_request *pub)
{
    return conn_backlog(((const struct request *)pub)->conn);
}

void http_stream_ping(struct http_request *pub, uint32_t interval_ms)
{
    struct request *r = (struct request *)pub;
    r->ping_ms = interval_ms;
    if (interval_ms)
        conn_arm(r->conn, r->wrote_ms + interval_ms);
}

/* A comment line: https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6. Never an
 * empty `data:`, on which strict clients choke. Not sent to a client that has bytes waiting. */
void response_ping(struct request *r)
{
    if (conn_backlog(r->conn) == 0)
        http_stream_write(&r->pub, ": ping\n\n", 8);
    else
        r->wrote_ms = server_now_ms(r->conn->server);
}

void response_server_error(struct request *r, int status, const char *code, const char *message)
{
    struct http_server *s = r->conn->server;
    if (s->o.error) {
        s->o.error(&r->pub, status, code, message, s->o.app);
        return;
    }
    http_reply(&r->pub, status, "text/plain; charset=utf-8", message, strlen(message));
}
