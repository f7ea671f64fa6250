/* err.h - the one list of error codes, and the one-line message that travels beside them.
 *
 * Promise: 0 is success; results come through pointers and are untouched on failure.
 * `struct errmsg` is the text for a human: what, where, what to do. It is filled where the error is
 * found (the only place that knows) and printed or mapped at the edge (main.c, gateway/api/errors).
 * Codes steer programs, messages steer people: never parse a message.
 * Thread: no shared state. */
#ifndef MILLRACE_BASE_ERR_H
#define MILLRACE_BASE_ERR_H

#include <stddef.h>

/* X(name, text): the text is what err_text() returns, and the message where nobody set a better
 * one. */
#define ERR_MAP(X)                                                                                 \
    X(NOMEM, "out of memory")                                                                      \
    X(IO, "input/output error")                                                                    \
    X(INVALID, "malformed input")                                                                  \
    X(RANGE, "value out of range")                                                                 \
    X(UNSUPPORTED, "not supported")                                                                \
    X(NOT_FOUND, "not found")                                                                      \
    X(EXISTS, "already exists")                                                                    \
    X(FULL, "no space left")                                                                       \
    X(AGAIN, "not ready yet")                                                                      \
    X(CLOSED, "closed by the peer")                                                                \
    X(TIMEOUT, "timed out")                                                                        \
    X(CANCELLED, "cancelled")                                                                      \
    X(CONTEXT_LENGTH, "prompt longer than the context")                                            \
    X(TEMPLATE, "chat template failed")                                                            \
    X(KV_FULL, "no free KV cache block")                                                           \
    X(PROTOCOL, "peer broke the protocol")                                                         \
    X(DENIED, "permission denied")                                                                 \
    X(INTERNAL, "internal error")

enum err {
    ERR_OK = 0,
#define X(name, text) ERR_##name,
    ERR_MAP(X)
#undef X
        ERR_COUNT_
};

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

struct errmsg {
    char text[256]; /* NUL-terminated, one line; empty when nobody filled it */
};

const char *err_name(enum err e); /* "INVALID": for logs and tests */
const char *err_text(enum err e); /* "malformed input" */

/* Fills `why` (NULL is fine) and returns `e`, so that a failing check is one statement:
 *     return err_set(why, ERR_INVALID, "%s: tensor %s ends past the file", path, name);
 * Control characters in the result are replaced by '?': names come from hostile files. */
enum err err_set(struct errmsg *why, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
