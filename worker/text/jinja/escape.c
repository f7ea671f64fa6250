/* escape.c - string literals. An unknown escape keeps its backslash: '\d' is two characters. */
#include "worker/text/jinja/escape.h"

#include <stdio.h>

#include "shared/base/utf8.h"

static int hex_value(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* `n` hexadecimal digits at p[0..left); false when they are not all there. */
static bool read_hex(const char *p, size_t left, int n, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) {
        int d = (size_t)i < left ? hex_value(p[i]) : -1;
        if (d < 0)
            return false;
        v = v * 16 + (uint32_t)d;
    }
    *out = v;
    return true;
}

/* One escape, s.p[*at] being the character behind the backslash. Returns the code point, UINT32_MAX
 * on error, and UINT32_MAX - 1 where there is no escape after all. */
static const uint32_t BAD = UINT32_MAX, PLAIN = UINT32_MAX - 1;
static uint32_t read_escape(struct str s, size_t *at, enum err *e, struct errmsg *why)
{
    static const char letters[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    char c = s.p[*at];
    const char *simple = memchr(letters, c, sizeof(letters) - 1);
    uint32_t cp = 0;
    if (simple) {
        (*at)++;
        return (unsigned char)values[simple - letters];
    }
    if (c >= '0' && c <= '7') {
        for (int i = 0; i < 3 && *at < s.n && s.p[*at] >= '0' && s.p[*at] <= '7'; i++)
            cp = cp * 8 + (uint32_t)(s.p[(*at)++] - '0');
        return cp;
    }
    if (c == 'N') {
        *e = err_set(why, ERR_UNSUPPORTED, "characters by name (\\N) in a string");
        return BAD;
    }
    if (c != 'x' && c != 'u' && c != 'U')
        return PLAIN;
    int n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    if (!read_hex(s.p + *at + 1, s.n - *at - 1, n, &cp) || cp > 0x10ffff) {
        *e = err_set(why, ERR_INVALID, "the escape \\%c in a string needs %d hexadecimal digits", c,
                     n);
        return BAD;
    }
    if (cp >= 0xd800 && cp < 0xe000) {
        *e = err_set(why, ERR_UNSUPPORTED, "half of a surrogate pair (\\u%04x) in a string", cp);
        return BAD;
    }
    *at += 1 + (size_t)n;
    return cp;
}

enum err jj_unescape(struct arena *a, struct str body, struct str *out, struct errmsg *why)
{
    if (body.n == 0 || !memchr(body.p, '\\', body.n)) {
        *out = body;
        return ERR_OK;
    }
    char *p = arena_alloc(a, 3 * body.n); /* "\é" grows from 3 bytes to 4, nothing grows more */
    if (!p)
        return err_set(why, ERR_NOMEM, "out of memory for a string");
    size_t n = 0;
    for (size_t i = 0; i < body.n;) {
        if (body.p[i] != '\\' || i + 1 == body.n) {
            p[n++] = body.p[i++];
            continue;
        }
        i++;
        uint32_t cp = 0;
        if (body.p[i] == '\n') { /* a continued line */
            i++;
            continue;
        }
        enum err e = ERR_OK;
        uint32_t escaped = read_escape(body, &i, &e, why);
        if (e)
            return e;
        if (escaped != PLAIN) {
            n += (size_t)utf8_encode(escaped, p + n);
            continue;
        }
        p[n++] = '\\';
        int k = utf8_decode(body.p + i, body.n - i, &cp);
        if (cp < 0x80) {
            p[n++] = body.p[i++];
            continue;
        }
        /* Jinja2 turns é into \xe9 before it looks for escapes, so that "\é" is a backslash and
         * "xe9". */
        char name[12];
        int len = snprintf(name, sizeof(name),
                           cp < 0x100     ? "x%02x"
                           : cp < 0x10000 ? "u%04x"
                                          : "U%08x",
                           cp);
        memcpy(p + n, name, (size_t)len);
        n += (size_t)len;
        i += (size_t)k;
    }
    *out = (struct str){p, n};
    return ERR_OK;
}
