#include "shared/base/log.h"
#include "shared/base/clock.h"
#include "shared/base/err.h"
#include "shared/base/utf8.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The log sink: the one mutable global of the house (STYLE 2). Atomic because a reload may change
 * it. */
static struct {
    _Atomic int min, format, fd;
} sink = {LOG_INFO, LOG_PLAIN, STDERR_FILENO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* A line that never grows past its array: what does not fit is left out, and the line says so.
 *   | timestamp level module message k=v k=v ...   | TAIL |
 *                                                 ^room  ^LOG_LINE_MAX
 * The tail is kept free for the closing quote, the "truncated" mark, the brace and the newline. */
enum { TAIL = 32 };
struct line {
    char p[LOG_LINE_MAX];
    size_t n;
    bool cut;
};

static bool put(struct line *l, const char *p, size_t n)
{
    if (l->cut || n > sizeof(l->p) - TAIL - l->n) {
        l->cut = true;
        return false;
    }
    memcpy(l->p + l->n, p, n);
    l->n += n;
    return true;
}

static void put_tail(struct line *l, const char *z)
{
    size_t n = strlen(z);
    memcpy(l->p + l->n, z, n);
    l->n += n;
}

PRINTF_LIKE(2, 3)
static bool putf(struct line *l, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text)) {
        l->cut = true;
        return false;
    }
    return put(l, text, (size_t)n);
}

/* Text with everything escaped that could end a line, a string or a terminal's patience. */
static void put_escaped(struct line *l, const char *z, bool json)
{
    size_t n = strlen(z);
    for (size_t i = 0; i < n && !l->cut;) {
        uint32_t cp;
        int len = utf8_decode(z + i, n - i, &cp);
        if (len == 0) { /* not UTF-8 */
            if (json)
                put(l, "\xef\xbf\xbd", 3);
            else
                putf(l, "\\x%02x", (unsigned char)z[i]);
            len = 1;
        } else if (cp == '"' || cp == '\\') {
            char pair[2] = {'\\', (char)cp};
            put(l, pair, 2);
        } else if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x2028 || cp == 0x2029) {
            putf(l, "\\u%04x", (unsigned)cp);
        } else {
            put(l, z + i, (size_t)len);
        }
        i += (size_t)len;
    }
}

static bool needs_quotes(const char *z)
{
    if (!*z)
        return true;
    for (; *z; z++)
        if ((unsigned char)*z <= ' ' || strchr("\"\\=\x7f", *z))
            return true;
    return false;
}

static void put_value(struct line *l, const struct log_kv *kv, bool json)
{
    switch (kv->kind) {
    case LOG_KV_STR: {
        const char *z = kv->s ? kv->s : "";
        bool quotes = json || needs_quotes(z);
        if (quotes && !put(l, "\"", 1))
            return;
        put_escaped(l, z, json);
        if (quotes)
            put_tail(l, "\"");
        break;
    }
    case LOG_KV_INT:
        putf(l, "%" PRId64, kv->i);
        break;
    case LOG_KV_UINT:
        putf(l, "%" PRIu64, kv->u);
        break;
    case LOG_KV_F64:
        if (json && !isfinite(kv->f))
            putf(l, "null");
        else
            putf(l, "%.6g", kv->f);
        break;
    }
}

static void put_time(struct line *l)
{
    int64_t ms = clock_wall_ms();
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    putf(l, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
         tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
}

void log_event(enum log_level level, const char *module, const char *msg, const struct log_kv *kv,
               int n_kv)
{
    if ((int)level < atomic_load_explicit(&sink.min, memory_order_relaxed))
        return;
    bool json = atomic_load_explicit(&sink.format, memory_order_relaxed) == LOG_JSON;
    struct line l;
    l.n = 0;
    l.cut = false;
    if (json) {
        put(&l, "{\"ts\":\"", 7);
        put_time(&l);
        putf(&l, "\",\"level\":\"%s\",\"module\":\"", level_names[level]);
        put_escaped(&l, module, true);
        put(&l, "\",\"msg\":\"", 9);
        put_escaped(&l, msg, true);
        put_tail(&l, "\"");
    } else {
        put_time(&l);
        putf(&l, " %-5s ", level_names[level]);
        put_escaped(&l, module, false);
        put(&l, " ", 1);
        put_escaped(&l, msg, false);
    }
    for (int i = 0; i < n_kv && !l.cut; i++) {
        size_t start = l.n;
        if (json) {
            put(&l, ",\"", 2);
            put_escaped(&l, kv[i].key, true);
            put(&l, "\":", 2);
        } else {
            put(&l, " ", 1);
            put_escaped(&l, kv[i].key, false);
            put(&l, "=", 1);
        }
        size_t value = l.n;
        if (!l.cut)
            put_value(&l, &kv[i], json);
        if (l.cut && (value == start || l.n == value))
            l.n = start; /* half a key, or a key without value */
    }
    if (l.cut)
        put_tail(&l, json ? ",\"truncated\":true" : " truncated=true");
    put_tail(&l, json ? "}\n" : "\n");
    int fd = atomic_load_explicit(&sink.fd, memory_order_relaxed);
    ssize_t done;
    do
        done = write(fd, l.p, l.n);
    while (done < 0 && errno == EINTR);
    /* A log that cannot be written must not stop the program: there is nobody left to tell. */
}

void log_setup(enum log_level min, enum log_format format, int fd)
{
    atomic_store_explicit(&sink.min, min, memory_order_relaxed);
    atomic_store_explicit(&sink.format, format, memory_order_relaxed);
    atomic_store_explicit(&sink.fd, fd, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}
