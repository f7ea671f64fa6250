/* charset.c - sets of code points, and how one of them is spelled in bytes. */
#include "worker/grammar/expr.h"

#include <stdlib.h>
#include <string.h>

void charset_add(struct expr_grammar *g, struct charset *c, uint32_t lo, uint32_t hi)
{
    if (lo > hi || g->failed)
        return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 8;
        struct cp_range *grown = arena_array(&g->arena, cap, sizeof(*grown));
        if (!grown) {
            g->failed = true;
            return;
        }
        if (c->n)
            memcpy(grown, c->r, c->n * sizeof(*grown));
        c->r = grown;
        c->cap = cap;
    }
    c->r[c->n++] = (struct cp_range){lo, hi > CP_MAX ? CP_MAX : hi};
}

static int by_lo(const void *a, const void *b)
{
    const struct cp_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

void charset_normalize(struct charset *c)
{
    size_t n = 0;
    if (c->n == 0)
        return;
    qsort(c->r, c->n, sizeof(*c->r), by_lo);
    for (size_t i = 1; i < c->n; i++) {
        if (c->r[i].lo <= c->r[n].hi + 1) {
            if (c->r[i].hi > c->r[n].hi)
                c->r[n].hi = c->r[i].hi;
        } else {
            c->r[++n] = c->r[i];
        }
    }
    c->n = n + 1;
}

void charset_invert(struct expr_grammar *g, struct charset *c)
{
    struct charset out = {0};
    uint32_t next = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->r[i].lo > next)
            charset_add(g, &out, next, c->r[i].lo - 1);
        next = c->r[i].hi + 1;
    }
    if (next <= CP_MAX)
        charset_add(g, &out, next, CP_MAX);
    *c = out;
}

bool charset_has(const struct charset *c, uint32_t cp)
{
    for (size_t i = 0; i < c->n; i++)
        if (cp >= c->r[i].lo && cp <= c->r[i].hi)
            return true;
    return false;
}

/* ---- UTF-8 */

static void put_bytes(uint32_t cp, int n, uint8_t out[4])
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = 0x80 | (cp & 0x3f);
    out[0] = n == 1 ? (uint8_t)cp : (uint8_t)(lead[n] | cp);
}

/* All sequences of n bytes from a to b, position by position in lexical order. Holds because both
 * ends have the same length, and UTF-8 sorts as code points do. */
static const struct expr *byte_sequences(struct expr_grammar *g, const uint8_t *a, const uint8_t *b,
                                         int n)
{
    static const uint8_t first[] = {0x80, 0x80, 0x80}, last[] = {0xbf, 0xbf, 0xbf};
    if (n == 1)
        return expr_byte_range(g, a[0], b[0]);
    if (a[0] == b[0])
        return expr_seq2(g, expr_byte_range(g, a[0], a[0]), byte_sequences(g, a + 1, b + 1, n - 1));
    bool whole_a = memcmp(a + 1, first, (size_t)n - 1) == 0;
    bool whole_b = memcmp(b + 1, last, (size_t)n - 1) == 0;
    struct expr_list l = {0};
    if (!whole_a)
        expr_push(
            g, &l,
            expr_seq2(g, expr_byte_range(g, a[0], a[0]), byte_sequences(g, a + 1, last, n - 1)));
    unsigned lo = a[0] + !whole_a, hi = (unsigned)b[0] - !whole_b;
    if (lo <= hi)
        expr_push(g, &l,
                  expr_seq2(g, expr_byte_range(g, (uint8_t)lo, (uint8_t)hi),
                            byte_sequences(g, first, last, n - 1)));
    if (!whole_b)
        expr_push(
            g, &l,
            expr_seq2(g, expr_byte_range(g, b[0], b[0]), byte_sequences(g, first, b + 1, n - 1)));
    return expr_alt(g, l.items, l.n);
}

static void push_utf8(struct expr_grammar *g, struct expr_list *l, uint32_t lo, uint32_t hi)
{
    /* Ranges of one length each, without the surrogates. */
    static const struct cp_range parts[] = {
        {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, CP_MAX}};
    static const int bytes[] = {1, 2, 3, 3, 4};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        uint32_t a = lo > parts[i].lo ? lo : parts[i].lo, b = hi < parts[i].hi ? hi : parts[i].hi;
        uint8_t from[4], to[4];
        if (a > b)
            continue;
        put_bytes(a, bytes[i], from);
        put_bytes(b, bytes[i], to);
        expr_push(g, l, byte_sequences(g, from, to, bytes[i]));
    }
}

/* ---- JSON strings */

static const struct expr *hex_digit(struct expr_grammar *g, unsigned v)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    return expr_alt2(g, expr_byte_range(g, (uint8_t)lower[v], (uint8_t)lower[v]),
                     v < 10 ? expr_never(g)
                            : expr_byte_range(g, (uint8_t)upper[v], (uint8_t)upper[v]));
}

static const struct expr *json_escape(struct expr_grammar *g, uint32_t cp)
{
    static const char *const names[128] = {
        ['"'] = "\\\"", ['\\'] = "\\\\", ['\b'] = "\\b", ['\f'] = "\\f",
        ['\n'] = "\\n", ['\r'] = "\\r",  ['\t'] = "\\t"};
    if (names[cp])
        return expr_lit(g, names[cp]);
    return expr_seq2(g, expr_lit(g, cp < 16 ? "\\u000" : "\\u001"), hex_digit(g, cp % 16));
}

const struct expr *expr_chars(struct expr_grammar *g, const struct charset *c, enum text_form form)
{
    struct expr_list l = {0};
    for (size_t i = 0; i < c->n; i++) {
        uint32_t lo = c->r[i].lo, hi = c->r[i].hi;
        while (form == TEXT_JSON && lo <= hi && lo <= '\\') {
            if (lo < ' ' || lo == '"' || lo == '\\') {
                expr_push(g, &l, json_escape(g, lo++));
                continue;
            }
            uint32_t stop = lo < '"' ? '"' - 1 : '\\' - 1; /* up to what needs an escape */
            stop = stop < hi ? stop : hi;
            push_utf8(g, &l, lo, stop);
            lo = stop + 1;
        }
        if (lo <= hi)
            push_utf8(g, &l, lo, hi);
    }
    return expr_alt(g, l.items, l.n);
}
