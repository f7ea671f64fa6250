#include "gateway/http/conn.h"
#include "shared/base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* splitmix64 (Steele, Lea, Flood 2014), two lanes seeded by getrandom: ids are unique, not secret.
 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static char *put_hex(char *out, uint64_t v)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        *out++ = "0123456789abcdef"[v >> shift & 15];
    return out;
}

struct request *request_new(struct conn *c)
{
    struct request *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    arena_init(&r->pub.arena, 0);
    r->conn = c;
    r->keep_alive = false; /* until the head says so */
    r->pub.method = HTTP_OTHER_;
    r->pub.path = r->pub.query = r->pub.param = r->pub.body = STR("");
    r->pub.peer = str_of(c->peer);
    r->pub.start_ns = clock_mono_ns();
    char *p = r->pub.id;
    memcpy(p, "req_", 4);
    p = put_hex(p + 4, next_random(&c->server->random[0]));
    p = put_hex(p, next_random(&c->server->random[1]));
    *p = '\0';
    return r;
}

void request_free(struct request *r)
{
    if (!r)
        return;
    buf_fini(&r->body);
    buf_fini(&r->extra);
    arena_fini(&r->pub.arena);
    free(r);
}

const struct str *http_header_get(const struct http_request *r, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < r->n_headers; i++)
        if (r->headers[i].name.n == n && strncasecmp(r->headers[i].name.p, name, n) == 0)
            return &r->headers[i].value;
    return NULL;
}

static enum http_method method_of(struct str m)
{
    return str_is(m, "GET")       ? HTTP_GET_
           : str_is(m, "POST")    ? HTTP_POST_
           : str_is(m, "DELETE")  ? HTTP_DELETE_
           : str_is(m, "OPTIONS") ? HTTP_OPTIONS_
           : str_is(m, "HEAD")    ? HTTP_HEAD_
                                  : HTTP_OTHER_;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* In place; RFC 3986 2.1. Model ids may come as "org%2Fname". */
static bool percent_decode(char *p, size_t *n)
{
    size_t w = 0;
    for (size_t i = 0; i < *n; i++) {
        char c = p[i];
        if (c == '%') {
            if (*n - i < 3 || hex(p[i + 1]) < 0 || hex(p[i + 2]) < 0)
                return false;
            c = (char)(hex(p[i + 1]) << 4 | hex(p[i + 2]));
            i += 2;
        }
        if (c == '\0')
            return false;
        p[w++] = c;
    }
    *n = w;
    return true;
}

/* RFC 9112 3.2: origin form, absolute form (servers must take it), or "*" of OPTIONS. */
static bool read_target(struct request *r, struct str target, const char **fault)
{
    struct str t = target;
    if (t.n >= 7 && strncasecmp(t.p, "http://", 7) == 0) {
        const char *slash = memchr(t.p + 7, '/', t.n - 7);
        t = slash ? (struct str){slash, target.n - (size_t)(slash - target.p)} : STR("/");
    }
    if (t.n == 0 || (t.p[0] != '/' && !(str_is(t, "*") && r->pub.method == HTTP_OPTIONS_))) {
        *fault = "The request target is malformed.";
        return false;
    }
    char *copy = arena_strndup(&r->pub.arena, t.p, t.n);
    if (!copy) {
        *fault = "Out of memory.";
        return false;
    }
    size_t n = strcspn(copy, "?#");
    if (copy[n] == '?') {
        r->pub.query = str_of(copy + n + 1);
        r->pub.query.n = strcspn(copy + n + 1, "#");
    }
    if (!percent_decode(copy, &n)) {
        *fault = "The request target has a malformed percent escape.";
        return false;
    }
    r->pub.path = (struct str){copy, n};
    return true;
}

bool request_read_head(struct request *r, const struct parser *p, const char **fault)
{
    r->pub.method = method_of(parser_method(p));
    r->head_only = r->pub.method == HTTP_HEAD_;
    r->http10 = parser_minor_version(p) == 0;
    size_t n = parser_n_headers(p), bytes = 0;
    struct str name, value;
    for (size_t i = 0; i < n; i++) {
        parser_header(p, i, &name, &value);
        bytes += name.n + value.n;
    }
    struct http_header *rows = arena_array(&r->pub.arena, n ? n : 1, sizeof(*rows));
    char *text = arena_alloc(&r->pub.arena, bytes ? bytes : 1);
    if (!rows || !text) {
        *fault = "Out of memory.";
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        parser_header(p, i, &name, &value);
        rows[i] = (struct http_header){{text, name.n}, {text + name.n, value.n}};
        memcpy(text, name.p, name.n);
        memcpy(text + name.n, value.p, value.n);
        text += name.n + value.n;
    }
    r->pub.headers = rows;
    r->pub.n_headers = n;
    if (!read_target(r, parser_target(p), fault))
        return false;
    r->keep_alive = parser_keep_alive(p);
    return true;
}

void http_drop_body(struct http_request *pub)
{
    struct request *r = (struct request *)pub;
    struct conn *c = r->conn;
    buf_fini(&r->body);
    pub->body = STR("");
    c->server->body_bytes -= c->body_charged;
    c->body_charged = 0;
}

void http_note(struct http_request *r, struct log_kv kv)
{
    if (r->n_notes < HTTP_MAX_NOTES)
        r->notes[r->n_notes++] = kv;
}

void http_set_timer(struct http_request *pub, uint32_t ms)
{
    struct request *r = (struct request *)pub;
    r->timer_at_ms = ms ? clock_mono_ms() + ms : 0;
    if (ms)
        conn_arm(r->conn, r->timer_at_ms);
}
