#include "shared/base/utf8.h"
#include <string.h>

/* One step of the automaton of table 3-7. Returns 1..4 for a whole valid sequence; else minus the
 * bytes of the maximal subpart (the longest start of some valid sequence, at least one byte).
 * *open: the text ended inside a sequence that is good so far. */
static int step(const unsigned char *p, size_t n, uint32_t *cp, bool *open)
{
    unsigned char b = p[0], lo = 0x80, hi = 0xbf;
    size_t need;
    uint32_t v;
    *open = false;
    if (b < 0x80) {
        *cp = b;
        return 1;
    }
    if (b >= 0xc2 && b <= 0xdf) {
        need = 1;
        v = b & 0x1f;
    } else if (b >= 0xe0 && b <= 0xef) {
        need = 2;
        v = b & 0x0f;
        if (b == 0xe0)
            lo = 0xa0; /* overlong below */
        if (b == 0xed)
            hi = 0x9f; /* surrogates above */
    } else if (b >= 0xf0 && b <= 0xf4) {
        need = 3;
        v = b & 0x07;
        if (b == 0xf0)
            lo = 0x90; /* overlong below */
        if (b == 0xf4)
            hi = 0x8f; /* beyond U+10FFFF above */
    } else {
        return -1;
    }
    for (size_t i = 1; i <= need; i++) {
        if (i == n)
            *open = true;
        if (i == n || p[i] < lo || p[i] > hi)
            return -(int)i;
        v = v << 6 | (p[i] & 0x3f);
        lo = 0x80;
        hi = 0xbf;
    }
    *cp = v;
    return (int)need + 1;
}

size_t utf8_valid_prefix(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight; /* most text is ASCII: eight bytes at a time while no high bit shows */
        if (n - i >= 8 && (memcpy(&eight, p + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        uint32_t cp;
        bool open;
        int len = step((const unsigned char *)p + i, n - i, &cp, &open);
        if (len < 0)
            return i;
        i += (size_t)len;
    }
    return n;
}

bool utf8_valid(const char *p, size_t n)
{
    return utf8_valid_prefix(p, n) == n;
}

int utf8_decode(const char *p, size_t n, uint32_t *cp)
{
    uint32_t v;
    bool open;
    if (n == 0)
        return 0;
    int len = step((const unsigned char *)p, n, &v, &open);
    if (len < 0)
        return 0;
    *cp = v;
    return len;
}

int utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xd800 && cp <= 0xdfff)
            return 0;
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    if (cp > 0x10ffff)
        return 0;
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

size_t utf8_incomplete_tail(const char *p, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        unsigned char b = (unsigned char)p[n - k];
        if (b >= 0x80 && b <= 0xbf)
            continue; /* a continuation: its lead is further left */
        uint32_t cp;
        bool open;
        step((const unsigned char *)p + n - k, k, &cp, &open);
        return open ? k : 0;
    }
    return 0;
}

size_t utf8_sanitize(const char *p, size_t n, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < n;) {
        size_t good = utf8_valid_prefix(p + i, n - i);
        memcpy(out + at, p + i, good);
        at += good;
        i += good;
        if (i == n)
            break;
        uint32_t cp;
        bool open;
        i += (size_t)-step((const unsigned char *)p + i, n - i, &cp, &open);
        memcpy(out + at, "\xef\xbf\xbd", 3);
        at += 3;
    }
    return at;
}
