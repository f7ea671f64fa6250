#include "shared/base/err.h"
#include "shared/base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *err_name(enum err e)
{
    switch (e) {
    case ERR_OK:
        return "OK";
#define X(name, text)                                                                              \
    case ERR_##name:                                                                               \
        return #name;
        ERR_MAP(X)
#undef X
    case ERR_COUNT_:
        break;
    }
    return "?";
}

const char *err_text(enum err e)
{
    switch (e) {
    case ERR_OK:
        return "no error";
#define X(name, text)                                                                              \
    case ERR_##name:                                                                               \
        return text;
        ERR_MAP(X)
#undef X
    case ERR_COUNT_:
        break;
    }
    return "unknown error";
}

enum err err_set(struct errmsg *why, enum err e, const char *fmt, ...)
{
    if (!why)
        return e;
    /* Formatted aside first: callers wrap a message as err_set(why, e, "%s: %s", path, why->text).
     */
    char line[sizeof(why->text)];
    va_list args;
    va_start(args, fmt);
    int want = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (want < 0)
        line[0] = '\0';
    size_t n = strlen(line);
    if (want >= (int)sizeof(line)) { /* cut visibly, and between characters */
        n -= 3;
        n -= utf8_incomplete_tail(line, n);
        memcpy(line + n, "...", 4);
        n += 3;
    }
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int len = utf8_decode(line + i, n - i, &cp);
        /* C0, DEL, C1 (a terminal obeys them), line separators, and bytes that are no text at all
         */
        if (len == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x2028 || cp == 0x2029) {
            memset(line + i, '?', len ? (size_t)len : 1);
        }
        i += len ? (size_t)len : 1;
    }
    memcpy(why->text, line, n + 1);
    return e;
}
