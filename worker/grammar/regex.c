/* regex.c - a recursive descent over the pattern. */
#include "worker/grammar/regex.h"

#include <string.h>

#include "shared/base/utf8.h"

enum { DEPTH_MAX = 200, COUNT_MAX = 100000 };

struct part { /* of the pattern: its expression and its lengths in code points */
    const struct expr *e;
    uint32_t min, max;
};

struct parser {
    struct expr_grammar *g;
    struct str s;
    size_t at;
    enum text_form form;
    bool whole;
    int depth;
    struct errmsg *why;
    enum err err;
};

static enum err fail(struct parser *p, enum err e, const char *what)
{
    if (!p->err)
        p->err = err_set(p->why, e, "the pattern's %s (at byte %zu)", what, p->at);
    return p->err;
}

static int peek(const struct parser *p)
{
    return p->at < p->s.n ? (unsigned char)p->s.p[p->at] : -1;
}

static bool take(struct parser *p, const char *text)
{
    struct str rest = {p->s.p + p->at, p->s.n - p->at};
    if (!str_starts(rest, str_of(text)))
        return false;
    p->at += strlen(text);
    return true;
}

static uint32_t add(uint32_t a, uint32_t b)
{
    return a == EXPR_UNBOUNDED || b == EXPR_UNBOUNDED || a + b < a ? EXPR_UNBOUNDED : a + b;
}

static uint32_t times(uint32_t a, uint32_t b)
{
    uint32_t r;
    if (a == 0 || b == 0)
        return 0;
    return a == EXPR_UNBOUNDED || b == EXPR_UNBOUNDED || __builtin_mul_overflow(a, b, &r)
               ? EXPR_UNBOUNDED
               : r;
}

/* ---- classes */

static void add_class(struct parser *p, struct charset *c, int letter)
{
    struct charset k = {0};
    static const struct cp_range digit[] = {{'0', '9'}},
                                 word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                 space[] = {{9, 13},          {' ', ' '},       {0xa0, 0xa0},
                                            {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                                            {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
                                            {0xfeff, 0xfeff}};
    const struct cp_range *r = space;
    size_t n = sizeof(space) / sizeof(*space);
    if ((letter | 32) == 'd') {
        r = digit;
        n = 1;
    } else if ((letter | 32) == 'w') {
        r = word;
        n = 4;
    }
    for (size_t i = 0; i < n; i++)
        charset_add(p->g, &k, r[i].lo, r[i].hi);
    charset_normalize(&k);
    if (letter < 'a') /* \D, \W, \S */
        charset_invert(p->g, &k);
    for (size_t i = 0; i < k.n; i++)
        charset_add(p->g, c, k.r[i].lo, k.r[i].hi);
}

static bool hex(struct parser *p, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        int c = peek(p), l = c | 32;
        if (c >= '0' && c <= '9')
            *out = *out * 16 + (uint32_t)(c - '0');
        else if (c >= 0 && l >= 'a' && l <= 'f')
            *out = *out * 16 + (uint32_t)(l - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* After a backslash: one character; or -1 with a class added to `c`. */
static int64_t escape(struct parser *p, struct charset *c, bool in_class)
{
    uint32_t cp, low;
    int ch = peek(p);
    if (ch < 0) {
        fail(p, ERR_INVALID, "end is a lone backslash");
        return 0;
    }
    p->at++;
    switch (ch) {
    case 'd':
    case 'D':
    case 'w':
    case 'W':
    case 's':
    case 'S':
        add_class(p, c, ch);
        return -1;
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'f':
        return '\f';
    case 'v':
        return '\v';
    case '0':
        if (peek(p) >= '0' && peek(p) <= '9')
            fail(p, ERR_UNSUPPORTED, "octal escapes are not supported");
        return 0;
    case 'x':
        if (!hex(p, 2, &cp))
            fail(p, ERR_INVALID, "\\x needs two hex digits");
        return cp;
    case 'c':
        ch = peek(p) | 32;
        if (ch < 'a' || ch > 'z')
            fail(p, ERR_INVALID, "\\c needs a letter");
        p->at++;
        return ch & 31;
    case 'u':
        if (take(p, "{")) {
            size_t n = 0;
            for (cp = 0; peek(p) != '}' && n < 6 && hex(p, 1, &low); n++)
                cp = cp * 16 + low;
            if (!n || !take(p, "}") || cp > CP_MAX)
                fail(p, ERR_INVALID, "\\u{...} is not a code point");
            return cp;
        }
        if (!hex(p, 4, &cp))
            fail(p, ERR_INVALID, "\\u needs four hex digits");
        if (cp >= 0xd800 && cp < 0xdc00 && take(p, "\\u")) {
            if (!hex(p, 4, &low) || low < 0xdc00 || low > 0xdfff)
                fail(p, ERR_INVALID, "\\u escapes are half a surrogate pair");
            return 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
        }
        if (cp >= 0xd800 && cp <= 0xdfff)
            fail(p, ERR_INVALID, "\\u escapes are half a surrogate pair");
        return cp;
    case 'p':
    case 'P':
        fail(p, ERR_UNSUPPORTED, "\\p classes are not supported");
        return 0;
    case 'k':
        fail(p, ERR_UNSUPPORTED, "back references are not supported");
        return 0;
    case 'b':
        if (in_class)
            return '\b';
        /* fall through */
    case 'B':
        fail(p, ERR_UNSUPPORTED, "\\b and \\B are not supported");
        return 0;
    default:
        if (ch >= '1' && ch <= '9')
            fail(p, ERR_UNSUPPORTED, "back references are not supported");
        else if ((ch | 32) >= 'a' && (ch | 32) <= 'z')
            fail(p, ERR_INVALID, "escape of a letter has no meaning");
        else if (ch >= 0x80) {
            p->at--;
            int n = utf8_decode(p->s.p + p->at, p->s.n - p->at, &cp);
            p->at += (size_t)(n ? n : 1);
            return n ? cp : 0xfffd;
        }
        return ch;
    }
}

static uint32_t character(struct parser *p)
{
    uint32_t cp;
    int n = utf8_decode(p->s.p + p->at, p->s.n - p->at, &cp);
    if (!n) {
        fail(p, ERR_INVALID, "text is not UTF-8");
        return 0;
    }
    p->at += (size_t)n;
    return cp;
}

static void bracket(struct parser *p, struct charset *c)
{
    bool invert = take(p, "^");
    while (!p->err && peek(p) != ']') {
        if (peek(p) < 0) {
            fail(p, ERR_INVALID, "'[' is not closed");
            return;
        }
        int64_t lo = take(p, "\\") ? escape(p, c, true) : character(p);
        size_t dash = p->at;
        if (!take(p, "-") || peek(p) == ']' || peek(p) < 0) {
            p->at = dash;
            if (lo >= 0)
                charset_add(p->g, c, (uint32_t)lo, (uint32_t)lo);
            continue;
        }
        int64_t hi = take(p, "\\") ? escape(p, c, true) : character(p);
        if (p->err)
            return;
        if (lo < 0 || hi < 0 || lo > hi)
            fail(p, ERR_INVALID, "range in brackets runs backwards or has a class for an end");
        else
            charset_add(p->g, c, (uint32_t)lo, (uint32_t)hi);
    }
    p->at++;
    charset_normalize(c);
    if (invert)
        charset_invert(p->g, c);
}

/* ---- atoms and quantifiers */

static struct part alternatives(struct parser *p, bool top);

static struct part one_of(struct parser *p, struct charset *c)
{
    charset_normalize(c);
    return (struct part){expr_chars(p->g, c, p->form), 1, 1};
}

static struct part group(struct parser *p)
{
    if (take(p, "?")) {
        if (take(p, "=") || take(p, "!") || take(p, "<=") || take(p, "<!"))
            fail(p, ERR_UNSUPPORTED, "lookahead and lookbehind are not supported");
        else if (take(p, "<"))
            while (peek(p) >= 0 && !take(p, ">"))
                p->at++;
        else if (!take(p, ":"))
            fail(p, ERR_UNSUPPORTED, "inline flags are not supported");
    }
    if (++p->depth > DEPTH_MAX)
        fail(p, ERR_RANGE, "groups are nested too deeply");
    struct part r = p->err ? (struct part){0} : alternatives(p, false);
    p->depth--;
    if (!p->err && !take(p, ")"))
        fail(p, ERR_INVALID, "'(' is not closed");
    return r;
}

static struct part atom(struct parser *p)
{
    struct charset c = {0};
    if (take(p, "("))
        return group(p);
    if (take(p, "[")) {
        bracket(p, &c);
        return one_of(p, &c);
    }
    if (take(p, ".")) { /* all but line terminators */
        charset_add(p->g, &c, '\n', '\n');
        charset_add(p->g, &c, '\r', '\r');
        charset_add(p->g, &c, 0x2028, 0x2029);
        charset_normalize(&c);
        charset_invert(p->g, &c);
        return one_of(p, &c);
    }
    if (peek(p) == '*' || peek(p) == '+' || peek(p) == '?') {
        fail(p, ERR_INVALID, "quantifier has nothing to repeat");
        return (struct part){0};
    }
    int64_t cp = take(p, "\\") ? escape(p, &c, false) : character(p);
    if (cp >= 0)
        charset_add(p->g, &c, (uint32_t)cp, (uint32_t)cp);
    return one_of(p, &c);
}

static bool number(struct parser *p, uint32_t *out)
{
    size_t from = p->at;
    uint64_t v = 0;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        v = v > COUNT_MAX ? v : v * 10 + (uint64_t)(peek(p) - '0');
    if (v > COUNT_MAX)
        fail(p, ERR_RANGE, "repeat count is above 100000");
    *out = (uint32_t)v;
    return p->at > from;
}

static struct part quantified(struct parser *p)
{
    struct part a = atom(p);
    uint32_t min = 1, max = 1;
    size_t from = p->at;
    if (p->err)
        return a;
    if (take(p, "*")) {
        min = 0;
        max = EXPR_UNBOUNDED;
    } else if (take(p, "+")) {
        max = EXPR_UNBOUNDED;
    } else if (take(p, "?")) {
        min = 0;
    } else if (take(p, "{")) {
        bool ok = number(p, &min);
        max = min;
        if (ok && take(p, ",") && !number(p, &max))
            max = EXPR_UNBOUNDED;
        if (!ok || !take(p, "}")) { /* a brace that counts nothing stands for itself */
            p->at = from;
            return a;
        }
        if (min > max)
            fail(p, ERR_INVALID, "repeat counts run backwards");
    } else {
        return a;
    }
    take(p, "?");
    return (struct part){expr_repeat(p->g, a.e, min, max), times(a.min, min), times(a.max, max)};
}

/* ---- sequences and alternatives */

static struct part any_text(struct parser *p)
{
    struct charset all = {0};
    charset_add(p->g, &all, 0, CP_MAX);
    return (struct part){expr_star(p->g, expr_chars(p->g, &all, p->form)), 0, EXPR_UNBOUNDED};
}

static struct part sequence(struct parser *p, bool top)
{
    struct part r = {expr_empty(p->g), 0, 0}, free_text = r;
    struct expr_list l = {0};
    bool open_start = top && !take(p, "^") && !p->whole, open_end = top && !p->whole;
    if (open_start || open_end)
        free_text = any_text(p);
    if (open_start) {
        expr_push(p->g, &l, free_text.e);
        r.max = EXPR_UNBOUNDED;
    }
    while (!p->err && peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
        if (peek(p) == '$') {
            p->at++;
            if (!top || (peek(p) >= 0 && peek(p) != '|'))
                fail(p, ERR_UNSUPPORTED, "'$' is supported at its end only");
            open_end = false;
            break;
        }
        if (peek(p) == '^') {
            fail(p, ERR_UNSUPPORTED, "'^' is supported at its start only");
            break;
        }
        struct part q = quantified(p);
        expr_push(p->g, &l, q.e);
        r.min = add(r.min, q.min);
        r.max = add(r.max, q.max);
    }
    if (open_end) {
        expr_push(p->g, &l, free_text.e);
        r.max = EXPR_UNBOUNDED;
    }
    r.e = expr_seq(p->g, l.items, l.n);
    return r;
}

static struct part alternatives(struct parser *p, bool top)
{
    struct part r = sequence(p, top);
    struct expr_list l = {0};
    expr_push(p->g, &l, r.e);
    while (!p->err && take(p, "|")) {
        struct part q = sequence(p, top);
        expr_push(p->g, &l, q.e);
        r.min = q.min < r.min ? q.min : r.min;
        r.max = q.max > r.max ? q.max : r.max;
    }
    r.e = expr_alt(p->g, l.items, l.n);
    return r;
}

enum err regex_expr(struct expr_grammar *g, struct str pattern, enum text_form form, bool whole,
                    struct regex_result *out, struct errmsg *why)
{
    struct parser p = {.g = g, .s = pattern, .form = form, .whole = whole, .why = why};
    struct part r = alternatives(&p, true);
    if (!p.err && p.at < p.s.n)
        fail(&p, ERR_INVALID, "')' closes nothing");
    if (!p.err && g->failed)
        fail(&p, ERR_RANGE, "size is beyond the limit");
    if (!p.err)
        *out = (struct regex_result){r.e, r.min, r.max};
    return p.err;
}
