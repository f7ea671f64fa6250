/* llhttp reports spans; they are collected in one buffer, as offsets, because it may move. */
#include "gateway/http/parser.h"
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct span {
    uint32_t name, n_name, value, n_value; /* into `text` */
};

struct parser {
    llhttp_t ll;
    struct buf text; /* target, then names and values, one after the other */
    uint32_t n_target;
    struct span *headers; /* owned; grows by doubling */
    uint32_t n_headers, cap_headers;
    bool in_value;  /* the span before was part of a value: the next name opens a header */
    bool head_done; /* what comes now is body and trailer */
    bool paused;    /* llhttp stands on a pause of ours */
    bool done, keep_alive, expects_continue;
    char last;        /* raw byte before, for the line discipline */
    size_t head_raw;  /* bytes of the head so far */
    size_t body_raw;  /* bytes after the head, framing included */
    size_t ext_bytes; /* of chunk extensions */
    size_t trailer_bytes;
    struct buf body;
    struct parser_fault fault;
};

static int fail(struct parser *p, int status, const char *message)
{
    if (!p->fault.status)
        p->fault = (struct parser_fault){status, message};
    return HPE_USER;
}

/* ---- llhttp's callbacks: collect, nothing else ------------------------------------------------
 */

static int on_url(llhttp_t *ll, const char *at, size_t n)
{
    struct parser *p = ll->data;
    if (p->n_target + n > HTTP_MAX_TARGET)
        return fail(p, 414, "The request target is longer than 8 KiB.");
    buf_put(&p->text, at, n);
    p->n_target += (uint32_t)n;
    return p->text.failed ? fail(p, 503, "Out of memory.") : 0;
}

static int trailer(struct parser *p, size_t n)
{
    p->trailer_bytes += n; /* trailers are read and dropped: nothing of ours looks at them */
    return p->trailer_bytes > HTTP_MAX_HEAD ? fail(p, 431, "The trailers are too large.") : 0;
}

static int on_field(llhttp_t *ll, const char *at, size_t n)
{
    struct parser *p = ll->data;
    if (p->head_done)
        return trailer(p, n);
    if (p->in_value || p->n_headers == 0) {
        if (p->n_headers == HTTP_MAX_HEADERS)
            return fail(p, 431, "The request has more than 100 headers.");
        if (p->n_headers == p->cap_headers) {
            uint32_t cap = p->cap_headers ? p->cap_headers * 2 : 16;
            struct span *more = realloc(p->headers, cap * sizeof(*more));
            if (!more)
                return fail(p, 503, "Out of memory.");
            p->headers = more;
            p->cap_headers = cap;
        }
        p->headers[p->n_headers++] = (struct span){.name = (uint32_t)p->text.n};
        p->in_value = false;
    }
    p->headers[p->n_headers - 1].n_name += (uint32_t)n;
    buf_put(&p->text, at, n);
    return p->text.failed ? fail(p, 503, "Out of memory.") : 0;
}

/* A value may have no bytes at all, and llhttp may or may not report an empty span: the header is
 * complete when its field is. */
static int on_field_complete(llhttp_t *ll)
{
    struct parser *p = ll->data;
    if (p->head_done)
        return 0;
    if (p->n_headers == 0 || p->in_value || p->headers[p->n_headers - 1].n_name == 0)
        return fail(p, 400, "The request has a header without a name.");
    p->headers[p->n_headers - 1].value = (uint32_t)p->text.n;
    p->in_value = true;
    return 0;
}

static int on_value(llhttp_t *ll, const char *at, size_t n)
{
    struct parser *p = ll->data;
    if (p->head_done)
        return trailer(p, n);
    p->headers[p->n_headers - 1].n_value += (uint32_t)n;
    buf_put(&p->text, at, n);
    return p->text.failed ? fail(p, 503, "Out of memory.") : 0;
}

static int on_headers_complete(llhttp_t *ll)
{
    struct parser *p = ll->data;
    ll->upgrade = 0; /* offers of h2c or WebSocket are ignored, as RFC 9110 7.8 allows */
    p->head_done = true;
    p->keep_alive = llhttp_should_keep_alive(ll);
    p->paused = true;
    return HPE_PAUSED;
}

static int on_body(llhttp_t *ll, const char *at, size_t n)
{
    struct parser *p = ll->data;
    if (n > p->body.limit || p->body.n > p->body.limit - n)
        return fail(p, 413, "The request body is larger than this endpoint takes.");
    buf_put(&p->body, at, n);
    return p->body.failed ? fail(p, 503, "Out of memory.") : 0;
}

static int on_extension(llhttp_t *ll, const char *at, size_t n)
{
    struct parser *p = ll->data;
    (void)at;
    p->ext_bytes += n;
    return p->ext_bytes > HTTP_MAX_CHUNK_EXT ? fail(p, 413, "The chunk extensions are too large.")
                                             : 0;
}

static int on_message_complete(llhttp_t *ll)
{
    struct parser *p = ll->data;
    p->done = true;
    p->paused = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_message_complete = on_message_complete,
};

struct parser *parser_new(void)
{
    struct parser *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    llhttp_init(&p->ll, HTTP_REQUEST, &settings);
    p->ll.data = p;
    return p;
}

void parser_free(struct parser *p)
{
    if (!p)
        return;
    buf_fini(&p->text);
    buf_fini(&p->body);
    free(p->headers);
    free(p);
}

/* ---- what must be stricter than llhttp ---------------------------------------------------------
 */

/* RFC 9112 2.2: lines end with CRLF. Peers that disagree about a bare CR, a bare LF or a folded
 * line are what request smuggling is made of (also 8.1.0 itself took a bare CR for a line end). */
static bool lines_ok(struct parser *p, const char *bytes, size_t n)
{
    char last = p->last;
    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        if (c == '\0')
            return fail(p, 400, "The request head contains a NUL byte."), false;
        if ((last == '\r') != (c == '\n'))
            return fail(p, 400, "The request head has a line that does not end with CRLF."), false;
        if (last == '\n' && (c == ' ' || c == '\t'))
            return fail(p, 400, "The request head has a folded or indented line."), false;
        last = c;
    }
    p->last = last;
    return true;
}

static bool value_ok(struct str v)
{
    for (size_t i = 0; i < v.n; i++)
        if (((unsigned char)v.p[i] < 0x20 && v.p[i] != '\t') || v.p[i] == 0x7f)
            return false;
    return true;
}

static bool is_name(struct str s, const char *z)
{
    return s.n == strlen(z) && strncasecmp(s.p, z, s.n) == 0;
}

/* RFC 9112 3.2 and 6: one Host, and one unambiguous way to say how long the body is. */
static bool head_ok(struct parser *p)
{
    int hosts = 0, lengths = 0, codings = 0;
    for (size_t i = 0; i < p->n_headers; i++) {
        struct str name, value;
        parser_header(p, i, &name, &value);
        if (!value_ok(value))
            return fail(p, 400, "A header value contains a control character."), false;
        if (is_name(name, "host")) {
            hosts++;
        } else if (is_name(name, "content-length")) {
            lengths++;
            for (size_t k = 0; k < value.n; k++)
                if (value.p[k] < '0' || value.p[k] > '9')
                    return fail(p, 400, "Content-Length is not a plain number."), false;
            if (value.n == 0)
                return fail(p, 400, "Content-Length is empty."), false;
        } else if (is_name(name, "transfer-encoding")) {
            codings++;
            if (!is_name(value, "chunked"))
                return fail(p, 501, "The only transfer coding taken is 'chunked'."), false;
        } else if (is_name(name, "expect")) {
            if (!is_name(value, "100-continue"))
                return fail(p, 417, "The only expectation taken is '100-continue'."), false;
            p->expects_continue = p->ll.http_minor == 1;
        }
    }
    if (hosts > 1)
        return fail(p, 400, "The request has more than one Host header."), false;
    if (hosts == 0 && p->ll.http_minor == 1)
        return fail(p, 400, "The request has no Host header."), false;
    if (lengths > 1)
        return fail(p, 400, "The request has more than one Content-Length header."), false;
    if (codings > 1 || (codings && lengths))
        return fail(p, 400, "Content-Length and Transfer-Encoding contradict each other."), false;
    if (codings && p->ll.http_minor == 0)
        return fail(p, 400, "HTTP/1.0 knows no Transfer-Encoding."), false;
    return true;
}

static bool version_ok(struct parser *p)
{
    if (p->ll.http_major == 1 && p->ll.http_minor <= 1)
        return true;
    return fail(p, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here."), false;
}

static void translate_error(struct parser *p)
{
    switch (llhttp_get_errno(&p->ll)) {
    case HPE_INVALID_METHOD:
        fail(p, 400, "The request does not begin with a known HTTP method.");
        break;
    case HPE_INVALID_VERSION:
    case HPE_PAUSED_H2_UPGRADE:
        fail(p, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
        break;
    case HPE_INVALID_URL:
        fail(p, 400, "The request target is malformed.");
        break;
    case HPE_INVALID_HEADER_TOKEN:
        fail(p, 400, "The request has a malformed header line.");
        break;
    case HPE_INVALID_CONTENT_LENGTH:
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        fail(p, 400, "Content-Length is malformed, given twice, or contradicts Transfer-Encoding.");
        break;
    case HPE_INVALID_TRANSFER_ENCODING:
        fail(p, 400, "Transfer-Encoding is malformed, or contradicts Content-Length.");
        break;
    case HPE_INVALID_CHUNK_SIZE:
        fail(p, 400, "A chunk size of the request body is malformed.");
        break;
    default:
        fail(p, 400, "The request is malformed.");
    }
}

enum parser_event parser_feed(struct parser *p, const char *bytes, size_t n, size_t *used)
{
    *used = 0;
    if (p->fault.status)
        return PARSER_FAULT;
    if (p->paused) {
        llhttp_resume(&p->ll);
        p->paused = false;
    }
    bool in_head = !p->head_done;
    if (in_head && n > HTTP_MAX_HEAD + 1 - p->head_raw)
        n = HTTP_MAX_HEAD + 1 - p->head_raw; /* one more than allowed is enough to know */
    enum llhttp_errno e = llhttp_execute(&p->ll, bytes, n);
    size_t took = n;
    if (e != HPE_OK) {
        const char *at = llhttp_get_error_pos(&p->ll);
        took = at && at >= bytes && at <= bytes + n ? (size_t)(at - bytes) : n;
    }
    *used = took;
    if (in_head) {
        p->head_raw += took;
        if (!lines_ok(p, bytes, took))
            return PARSER_FAULT;
    } else {
        p->body_raw += took;
        if (p->body_raw / 8 > p->body.n + HTTP_MAX_OVERHEAD / 8) /* a byte per chunk is 6 to 1 */
            fail(p, 413, "The request body has too much framing.");
    }
    if (p->fault.status)
        return PARSER_FAULT;
    if (e == HPE_PAUSED)
        return p->done ? PARSER_DONE : version_ok(p) && head_ok(p) ? PARSER_HEAD : PARSER_FAULT;
    if (e != HPE_OK) {
        translate_error(p);
        return PARSER_FAULT;
    }
    if (in_head && p->head_raw > HTTP_MAX_HEAD) {
        fail(p, 431, "The request head is larger than 32 KiB.");
        return PARSER_FAULT;
    }
    return PARSER_MORE;
}

struct parser_fault parser_fault(const struct parser *p)
{
    return p->fault;
}

struct str parser_method(const struct parser *p)
{
    return str_of(llhttp_method_name((llhttp_method_t)p->ll.method));
}

struct str parser_target(const struct parser *p)
{
    return (struct str){p->text.p, p->n_target};
}

int parser_minor_version(const struct parser *p)
{
    return p->ll.http_minor;
}

size_t parser_n_headers(const struct parser *p)
{
    return p->n_headers;
}

void parser_header(const struct parser *p, size_t i, struct str *name, struct str *value)
{
    const struct span *s = &p->headers[i];
    *name = (struct str){p->text.p + s->name, s->n_name};
    *value = (struct str){p->text.p + s->value, s->n_value};
    while (value->n && (value->p[value->n - 1] == ' ' || value->p[value->n - 1] == '\t'))
        value->n--; /* OWS after the value is no part of it (RFC 9110 5.5) */
}

bool parser_keep_alive(const struct parser *p)
{
    return p->keep_alive;
}

bool parser_has_body(const struct parser *p)
{
    return (p->ll.flags & F_CHUNKED) || p->ll.content_length > 0;
}

uint64_t parser_content_length(const struct parser *p)
{
    return p->ll.flags & F_CHUNKED ? 0 : p->ll.content_length;
}

bool parser_expects_continue(const struct parser *p)
{
    return p->expects_continue;
}

void parser_set_body_limit(struct parser *p, size_t bytes)
{
    p->body.limit = bytes;
}

size_t parser_body_bytes(const struct parser *p)
{
    return p->body.n;
}

void parser_take_body(struct parser *p, struct buf *out)
{
    *out = p->body;
    p->body = (struct buf){0};
}
