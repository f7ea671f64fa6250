/* json.h - strict JSON (RFC 8259): a reader that keeps what a proxy must keep, and a writer.
 *
 * Reader: builds a tree in an arena. It refuses what RFC 8259 refuses, and also invalid UTF-8, lone
 * surrogates, duplicate keys and nesting past the limit, with the byte offset of the first fault.
 * Each value remembers its span in the text, so that a part can be forwarded byte for byte; numbers
 * keep their spelling (1 is not 1.0; integers beyond 2^53 survive).  Strings may contain NUL
 * (\u0000): use the length. Writer: appends to a struct buf; output is valid UTF-8 if the input
 * was. Thread: no shared state. Memory: all nodes and strings live in the arena of json_parse(). */
#ifndef MILLRACE_BASE_JSON_H
#define MILLRACE_BASE_JSON_H

#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_INT, JSON_FLOAT, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    struct str raw; /* borrowed from the parsed text: exactly this value's bytes */
    struct str key; /* unescaped; set when this value is an object's member */
    union {
        bool b;
        int64_t i; /* JSON_INT: no fraction or exponent, and fits int64 */
        double f;  /* JSON_FLOAT: everything else that is a number; always finite */
        struct str
            s; /* JSON_STRING: unescaped, in the arena (or in the text when nothing was escaped) */
        struct {
            struct json *first; /* children in document order, linked by next */
            size_t count;
        } list; /* JSON_ARRAY and JSON_OBJECT */
    };
    struct json *next;
};

struct json_limits {
    int max_depth;    /* 0: 128 */
    size_t max_nodes; /* 0: unlimited; the arena's own limit applies as well */
};

/* Parses exactly one value with optional white space around it. On failure `why` says what and at
 * which byte. */
enum err json_parse(struct json **out, struct arena *a, const char *p, size_t n,
                    const struct json_limits *limits, struct errmsg *why) MUST_CHECK;

const struct json *json_get(const struct json *object,
                            const char *key); /* NULL: absent or not an object */
const struct json *json_at(const struct json *array, size_t i);
bool json_is(const struct json *v, enum json_kind kind); /* false for NULL */
bool json_is_number(const struct json *v);
double json_f64(const struct json *v); /* of a number */
const char *
json_kind_name(enum json_kind kind); /* "string", "integer", ... as OpenAI's messages spell them */

/* Writer: no commas are implied, the caller places them; these write one value. */
void json_put_str(struct buf *b, const char *p,
                  size_t n); /* quoted and escaped; invalid UTF-8 becomes U+FFFD */
void json_put_cstr(struct buf *b, const char *z);
/* Members of an object that is being written: the comma where one is due, the key (not escaped: a
 * name of ours), the value. */
void json_put_key(struct buf *b, const char *key);
void json_put_member_u64(struct buf *b, const char *key, uint64_t v);
void json_put_member_str(struct buf *b, const char *key, struct str v);
void json_put_member_bool(struct buf *b, const char *key, bool v);
void json_put_f64(struct buf *b,
                  double v); /* shortest form that reads back equal; null when not finite */

#endif
