/* parser.h - one HTTP/1.x request out of a stream of bytes: llhttp, and what must be stricter than
 * it.
 *
 * Promise: feeding the same bytes in any pieces gives the same result. It stops exactly after the
 * head and exactly after the message, so that the owner decides about limits before a body byte is
 * kept, and a pipelined request begins with a parser of its own. Beyond llhttp (lenient flags off,
 * strict mode): no NUL, bare CR, bare LF or folded line anywhere in the head; no control characters
 * in values; one Host, one Content-Length, never together with Transfer-Encoding; no coding but
 * chunked; limits on everything that a client can make long. Memory: freed with parser_free();
 * texts and body until then. */
#ifndef MILLRACE_GATEWAY_HTTP_PARSER_H
#define MILLRACE_GATEWAY_HTTP_PARSER_H

#include "shared/base/buf.h"
#include "shared/base/str.h"

enum {
    HTTP_MAX_HEAD = 32 << 10,   /* request line and headers, raw bytes; trailers once more */
    HTTP_MAX_TARGET = 8 << 10,  /* the request target */
    HTTP_MAX_HEADERS = 100,     /* more than any client sends; nginx and node have 100 or so, too */
    HTTP_MAX_CHUNK_EXT = 1024,  /* bytes of chunk extensions, whole body */
    HTTP_MAX_OVERHEAD = 1 << 20 /* framing bytes of a chunked body beyond eight per body byte */
};

struct parser; /* opaque */

enum parser_event {
    PARSER_MORE,  /* all bytes used, the message goes on */
    PARSER_HEAD,  /* the head is whole: read it, set the body's limit, feed on */
    PARSER_DONE,  /* the message is whole */
    PARSER_FAULT, /* see parser_fault(); this connection can't be read any further */
};

struct parser_fault {
    int status;          /* 400, 413, 414, 417, 431, 501, 505 */
    const char *message; /* fixed text */
};

struct parser *parser_new(void); /* NULL: out of memory */
void parser_free(struct parser *p);

/* *used: how many of the bytes belong to this message so far. */
enum parser_event parser_feed(struct parser *p, const char *bytes, size_t n, size_t *used);
struct parser_fault parser_fault(const struct parser *p);

/* After PARSER_HEAD. */
struct str parser_method(const struct parser *p);
struct str parser_target(const struct parser *p);
int parser_minor_version(const struct parser *p); /* 0 or 1, of HTTP/1 */
size_t parser_n_headers(const struct parser *p);
void parser_header(const struct parser *p, size_t i, struct str *name, struct str *value);
bool parser_keep_alive(const struct parser *p);
bool parser_has_body(const struct parser *p);           /* a body follows */
uint64_t parser_content_length(const struct parser *p); /* 0 when chunked or absent */
bool parser_expects_continue(const struct parser *p);
void parser_set_body_limit(struct parser *p, size_t bytes);
/* The body so far; after PARSER_DONE the whole. take: MOVED to the caller. */
size_t parser_body_bytes(const struct parser *p);
void parser_take_body(struct parser *p, struct buf *out);

#endif
