#include "shared/base/buf.h"
#include "shared/base/checked.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.limit = b->limit};
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = '\0';
}

bool buf_reserve(struct buf *b, size_t more)
{
    size_t end, need;
    if (b->failed)
        return false;
    if (!add_size(&end, b->n, more) || !add_size(&need, end, 1) || (b->limit && end > b->limit)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        if (!mul_size(&cap, cap, 2))
            cap = need;
    char *p = realloc(b->p, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    p[b->n] = '\0';
    b->p = p;
    b->cap = cap;
    return true;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    if (!buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    /* First into what room there is; its length tells whether a second try with more is needed. */
    size_t room = b->failed || !b->p ? 0 : b->cap - b->n;
    int n = vsnprintf(room ? b->p + b->n : NULL, room, fmt, args);
    if (room)
        b->p[b->n] = '\0'; /* nothing has happened yet */
    if (n < 0)
        b->failed = true;
    else if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, b->cap - b->n, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    char digits[20], *end = digits + sizeof(digits), *p = end;
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    buf_put(b, p, (size_t)(end - p));
}

void buf_put_i64(struct buf *b, int64_t v)
{
    size_t start = b->n;
    if (v < 0)
        buf_putc(b, '-');
    buf_put_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
    if (b->failed && b->n != start) { /* all or nothing */
        b->n = start;
        b->p[start] = '\0';
    }
}

void buf_drop_front(struct buf *b, size_t n)
{
    if (n == 0 || !b->p)
        return;
    if (n > b->n)
        n = b->n;
    memmove(b->p, b->p + n, b->n - n + 1);
    b->n -= n;
}
