#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The letter after the backslash; 'u' for \u00XX; 0 where the byte stands for itself. */
static char escape_of(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return c < 0x20 ? 'u' : 0;
    }
}

void json_put_str(struct buf *b, const char *p, size_t n)
{
    size_t start = b->n;
    buf_putc(b, '"');
    for (size_t i = 0; i < n && !b->failed;) {
        size_t valid = i + utf8_valid_prefix(p + i, n - i);
        while (i < valid) {
            size_t run = i;
            while (i < valid && !escape_of((unsigned char)p[i]))
                i++;
            buf_put(b, p + run, i - run);
            if (i == valid)
                break;
            unsigned char c = (unsigned char)p[i++];
            char text[7] = {'\\', escape_of(c)};
            if (text[1] == 'u')
                snprintf(text, sizeof(text), "\\u%04x", c);
            buf_puts(b, text);
        }
        if (i < n) { /* a maximal invalid subpart has at most three bytes */
            char fixed[12];
            size_t bad = 1;
            while (bad < 3 && i + bad < n && utf8_sanitize(p + i, bad + 1, fixed) == 3)
                bad++;
            buf_put(b, "\xef\xbf\xbd", 3);
            i += bad;
        }
    }
    buf_putc(b, '"');
    if (b->failed && b->n != start) { /* all or nothing */
        b->n = start;
        b->p[start] = '\0';
    }
}

void json_put_cstr(struct buf *b, const char *z)
{
    json_put_str(b, z, strlen(z));
}

void json_put_f64(struct buf *b, double v)
{
    char text[32];
    if (!isfinite(v)) {
        buf_puts(b, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) { /* 17 always read back equal (IEEE 754) */
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_puts(b, text);
}

void json_put_key(struct buf *b, const char *key)
{
    const char last = b->n ? b->p[b->n - 1] : '{';
    buf_printf(b, "%s\"%s\":", last == '{' || last == '[' ? "" : ",", key);
}

void json_put_member_u64(struct buf *b, const char *key, uint64_t v)
{
    json_put_key(b, key);
    buf_put_u64(b, v);
}

void json_put_member_str(struct buf *b, const char *key, struct str v)
{
    json_put_key(b, key);
    json_put_str(b, v.p, v.n);
}

void json_put_member_bool(struct buf *b, const char *key, bool v)
{
    json_put_key(b, key);
    buf_puts(b, v ? "true" : "false");
}
