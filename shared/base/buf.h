/* buf.h - growable bytes, for building text and messages.
 *
 * Promise: appends either succeed whole or set `failed` and change nothing; so a builder appends
 * freely and checks `failed` once at the end. The bytes are always followed by a NUL that is not
 * counted. Thread: one owner. */
#ifndef MILLRACE_BASE_BUF_H
#define MILLRACE_BASE_BUF_H

#include "shared/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct buf {
    char *p;      /* owned; NULL while empty */
    size_t n;     /* bytes used */
    size_t cap;   /* bytes allocated */
    bool failed;  /* out of memory, or past `limit`: sticky until buf_clear() */
    size_t limit; /* 0: none */
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* n = 0, failed = false; keeps the memory */
bool buf_reserve(struct buf *b, size_t more);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_put_u64(struct buf *b, uint64_t v); /* decimal; the hot path of usage numbers */
void buf_put_i64(struct buf *b, int64_t v);
void buf_drop_front(struct buf *b, size_t n); /* removes the first n bytes */

#endif
