/* lexer.c - the states of Jinja2's lexer: text, {{ }}, {% %}; comments and raw blocks are handled
 * inside text. The rules are those of jinja2/lexer.py (3.1) with trim_blocks and lstrip_blocks on.
 */
#include "worker/text/jinja/lexer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/utf8.h"
#include "worker/text/jinja/escape.h"
#include "worker/text/jinja/unicode.h"

const char *jj_tok_name(enum jj_tok t)
{
    static const char *const names[] = {
#define X(name, text) text,
        JJ_TOKENS(X)
#undef X
    };
    return names[t];
}

void jj_lexer_fail(struct jj_lexer *lx, enum err code, size_t at, const char *fmt, ...)
{
    if (lx->err)
        return;
    uint32_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < lx->n; i++) {
        if (lx->src[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)lx->src[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    lx->err = err_set(&lx->why, code, "line %u, column %u: %s", line, column, text);
}

enum err jj_lexer_init(struct jj_lexer *lx, struct arena *arena, const char *src, size_t n,
                       struct errmsg *why)
{
    size_t valid = utf8_valid_prefix(src, n);
    if (valid != n)
        return err_set(why, ERR_INVALID, "the template is not valid UTF-8 (byte %zu)", valid);
    char *copy = arena_alloc(arena, n + 1);
    if (!copy)
        return err_set(why, ERR_NOMEM, "out of memory for a template of %zu bytes", n);
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (src[i] == '\r') {
            copy[out++] = '\n';
            if (i + 1 < n && src[i + 1] == '\n')
                i++;
        } else {
            copy[out++] = src[i];
        }
    }
    if (out && copy[out - 1] == '\n')
        out--;
    copy[out] = '\0';
    *lx =
        (struct jj_lexer){.arena = arena, .src = copy, .n = out, .line = 1, .line_starting = true};
    return ERR_OK;
}

static char peek(const struct jj_lexer *lx, size_t ahead)
{
    return lx->at + ahead < lx->n ? lx->src[lx->at + ahead] : '\0';
}

static bool looking_at(const struct jj_lexer *lx, size_t at, const char *what)
{
    size_t n = strlen(what);
    return at <= lx->n && lx->n - at >= n && memcmp(lx->src + at, what, n) == 0;
}

static size_t skip_space(const struct jj_lexer *lx, size_t at)
{
    return at + uni_leading_space(lx->src + at, lx->n - at);
}

/* Moves to `to`, counting lines; what was passed ended with a newline or not. */
static void advance(struct jj_lexer *lx, size_t to)
{
    for (size_t i = lx->at; i < to; i++)
        lx->line += lx->src[i] == '\n';
    if (to > lx->at)
        lx->line_starting = lx->src[to - 1] == '\n';
    lx->at = to;
}

/* "-%}" takes all white space behind it, "%}" one newline, "+%}" nothing. Returns the end, 0 when
 * none is here. */
static size_t block_end(const struct jj_lexer *lx, size_t at, const char *close, bool plus)
{
    if (plus && at < lx->n && lx->src[at] == '+' && looking_at(lx, at + 1, close))
        return at + 3;
    if (at < lx->n && lx->src[at] == '-' && looking_at(lx, at + 1, close))
        return skip_space(lx, at + 3);
    if (!looking_at(lx, at, close))
        return 0;
    bool newline = plus && at + 2 < lx->n && lx->src[at + 2] == '\n';
    return at + 2 + newline;
}

/* The text before a tag: `sign` is the character behind the tag's opening delimiter. */
static struct str trim_text(const struct jj_lexer *lx, size_t from, size_t to, char sign,
                            bool is_print, bool line_starting)
{
    const char *p = lx->src + from;
    size_t n = to - from;
    if (sign == '-')
        return (struct str){p, n - uni_trailing_space(p, n)};
    if (sign != '+' && !is_print) {
        size_t line = n;
        while (line > 0 && p[line - 1] != '\n')
            line--;
        if ((line > 0 || line_starting) && line < n &&
            uni_leading_space(p + line, n - line) == n - line)
            n = line;
    }
    return (struct str){p, n};
}

/* {% raw %} at `at`: the end of the tag, or 0. Only "-%}" takes the white space behind it. */
static size_t raw_begin(const struct jj_lexer *lx, size_t at)
{
    size_t i = at + 2;
    if (i < lx->n && (lx->src[i] == '-' || lx->src[i] == '+'))
        i++;
    i = skip_space(lx, i);
    if (!looking_at(lx, i, "raw"))
        return 0;
    i = skip_space(lx, i + 3);
    if (looking_at(lx, i, "-%}"))
        return skip_space(lx, i + 3);
    return looking_at(lx, i, "%}") ? i + 2 : 0;
}

/* {% endraw %} at `at`: the end of the tag, or 0. */
static size_t raw_end(const struct jj_lexer *lx, size_t at)
{
    size_t i = at + 2;
    if (i < lx->n && (lx->src[i] == '-' || lx->src[i] == '+'))
        i++;
    i = skip_space(lx, i);
    if (!looking_at(lx, i, "endraw"))
        return 0;
    return block_end(lx, skip_space(lx, i + 6), "%}", true);
}

static struct jj_token token(const struct jj_lexer *lx, enum jj_tok type, size_t at)
{
    return (struct jj_token){.type = type, .at = at, .line = lx->line};
}

static struct jj_token lex_raw(struct jj_lexer *lx, size_t tag, size_t body)
{
    bool starting = body > lx->at && lx->src[body - 1] == '\n';
    for (size_t i = body; i + 1 < lx->n; i++) {
        size_t end = looking_at(lx, i, "{%") ? raw_end(lx, i) : 0;
        if (end == 0)
            continue;
        advance(lx, body);
        struct jj_token t = token(lx, T_DATA, body);
        t.text = trim_text(lx, body, i, lx->src[i + 2], false, starting);
        advance(lx, end);
        return t;
    }
    jj_lexer_fail(lx, ERR_INVALID, tag, "this raw block has no end");
    return token(lx, T_EOF, tag);
}

static void skip_comment(struct jj_lexer *lx, size_t tag)
{
    size_t i = tag + 2;
    if (i < lx->n && (lx->src[i] == '-' || lx->src[i] == '+'))
        i++;
    for (; i < lx->n; i++) {
        size_t end = block_end(lx, i, "#}", true);
        if (end) {
            advance(lx, end);
            return;
        }
    }
    jj_lexer_fail(lx, ERR_INVALID, tag, "this comment has no end");
}

/* Text up to the next tag, then that tag's opening delimiter (remembered in lx->begin). */
static struct jj_token lex_text(struct jj_lexer *lx)
{
    for (;;) {
        if (lx->at >= lx->n || lx->err)
            return token(lx, T_EOF, lx->n);
        size_t i = lx->at;
        while (i + 1 < lx->n &&
               !(lx->src[i] == '{' &&
                 (lx->src[i + 1] == '{' || lx->src[i + 1] == '%' || lx->src[i + 1] == '#')))
            i++;
        struct jj_token data = token(lx, T_DATA, lx->at);
        if (i + 1 >= lx->n) { /* no further tag */
            data.text = (struct str){lx->src + lx->at, lx->n - lx->at};
            advance(lx, lx->n);
            return data;
        }
        char what = lx->src[i + 1], sign = i + 2 < lx->n ? lx->src[i + 2] : '\0';
        data.text = trim_text(lx, lx->at, i, sign, what == '{', lx->line_starting);
        size_t raw = what == '%' ? raw_begin(lx, i) : 0;
        if (raw) {
            if (data.text.n) { /* the raw block is met again, with no text before it */
                advance(lx, i);
                lx->line_starting = false;
                return data;
            }
            struct jj_token t = lex_raw(lx, i, raw);
            if (t.type == T_EOF || t.text.n)
                return t;
            continue;
        }
        if (what == '#') {
            skip_comment(lx, i);
            if (lx->err || data.text.n)
                return lx->err ? token(lx, T_EOF, i) : data;
            continue;
        }
        advance(lx, i);
        lx->begin = what == '{' ? T_PRINT_BEGIN : T_BLOCK_BEGIN;
        lx->begin_at = i;
        lx->at = i + 2 + (sign == '-' || sign == '+');
        lx->line_starting = false;
        if (data.text.n)
            return data;
        return token(lx, T_EOF, i); /* replaced by the pending delimiter */
    }
}

/* (\d+_)*\d+ from `at`; returns the end. */
static size_t digits(const struct jj_lexer *lx, size_t at)
{
    size_t i = at;
    while (i < lx->n && lx->src[i] >= '0' && lx->src[i] <= '9') {
        i++;
        if (i + 1 < lx->n && lx->src[i] == '_' && lx->src[i + 1] >= '0' && lx->src[i + 1] <= '9')
            i++;
    }
    return i;
}

static size_t float_end(const struct jj_lexer *lx)
{
    size_t i = digits(lx, lx->at), fraction = 0;
    if (lx->at > 0 && lx->src[lx->at - 1] == '.')
        return 0;
    if (i < lx->n && lx->src[i] == '.' && digits(lx, i + 1) > i + 1)
        fraction = i = digits(lx, i + 1);
    if (i < lx->n && (lx->src[i] == 'e' || lx->src[i] == 'E')) {
        size_t e = i + 1;
        if (e < lx->n && (lx->src[e] == '+' || lx->src[e] == '-'))
            e++;
        if (digits(lx, e) > e)
            return digits(lx, e);
    }
    return fraction;
}

static bool digit_of_base(char c, int base)
{
    int v = c >= '0' && c <= '9'                 ? c - '0'
            : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                 : 99;
    return v < base;
}

static struct jj_token lex_number(struct jj_lexer *lx)
{
    char text[512];
    struct jj_token t = token(lx, T_INT, lx->at);
    size_t end = float_end(lx), i = lx->at;
    int base = 10;
    if (end) {
        t.type = T_FLOAT;
    } else {
        char kind = (char)(peek(lx, 1) | 32);
        if (lx->src[i] == '0' && (kind == 'x' || kind == 'o' || kind == 'b')) {
            base = kind == 'x' ? 16 : kind == 'o' ? 8 : 2;
            i += 2;
        } else if (lx->src[i] == '0') {
            base = 1; /* a number that starts with 0 goes on with zeros only */
        }
        end = i;
        while (end < lx->n) {
            size_t d = end + (lx->src[end] == '_' && (end > i || base != 10));
            if (d >= lx->n || !digit_of_base(lx->src[d], base))
                break;
            end = d + 1;
        }
        if (end == i) { /* "0x" without digits is the number 0 and a name */
            end = i = lx->at + 1;
            base = 1;
            i = lx->at;
        }
    }
    size_t n = 0;
    for (size_t k = i; k < end && n + 1 < sizeof(text); k++)
        if (lx->src[k] != '_')
            text[n++] = lx->src[k];
    text[n] = '\0';
    if (n + 1 == sizeof(text))
        jj_lexer_fail(lx, ERR_UNSUPPORTED, lx->at, "a number of more than 500 digits");
    if (t.type == T_FLOAT) {
        t.f = strtod(text, NULL);
    } else {
        for (size_t k = 0; k < n; k++) {
            int d = text[k] <= '9' ? text[k] - '0' : (text[k] | 32) - 'a' + 10;
            if (__builtin_mul_overflow(t.i, (int64_t)(base < 2 ? 10 : base), &t.i) ||
                __builtin_add_overflow(t.i, (int64_t)d, &t.i)) {
                jj_lexer_fail(lx, ERR_UNSUPPORTED, lx->at, "an integer beyond 64 bits");
                break;
            }
        }
    }
    advance(lx, end);
    return t;
}

static struct jj_token lex_name(struct jj_lexer *lx)
{
    struct jj_token t = token(lx, T_NAME, lx->at);
    size_t i = lx->at;
    uint32_t cp;
    for (int k; i < lx->n && (k = utf8_decode(lx->src + i, lx->n - i, &cp)) && uni_is_word(cp);)
        i += (size_t)k;
    t.text = (struct str){lx->src + lx->at, i - lx->at};
    advance(lx, i);
    return t;
}

static struct jj_token lex_string(struct jj_lexer *lx)
{
    struct jj_token t = token(lx, T_STRING, lx->at);
    char quote = lx->src[lx->at];
    size_t i = lx->at + 1;
    while (i < lx->n && lx->src[i] != quote)
        i += lx->src[i] == '\\' ? 2 : 1;
    if (i >= lx->n) {
        jj_lexer_fail(lx, ERR_INVALID, lx->at, "this string has no closing quote");
        return token(lx, T_EOF, lx->at);
    }
    struct errmsg why = {""};
    struct str body = {lx->src + lx->at + 1, i - lx->at - 1};
    enum err e = jj_unescape(lx->arena, body, &t.text, &why);
    if (e)
        jj_lexer_fail(lx, e, lx->at, "%s", why.text);
    advance(lx, i + 1);
    return t;
}

static struct jj_token lex_operator(struct jj_lexer *lx)
{
    static const struct {
        const char *text;
        enum jj_tok type;
    } ops[] = {
        {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
        {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
        {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
        {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
        {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
        {";", T_SEMICOLON},
    };
    for (size_t k = 0; k < sizeof(ops) / sizeof(ops[0]); k++) {
        if (!looking_at(lx, lx->at, ops[k].text))
            continue;
        struct jj_token t = token(lx, ops[k].type, lx->at);
        char close = t.type == T_LPAREN     ? ')'
                     : t.type == T_LBRACKET ? ']'
                     : t.type == T_LBRACE   ? '}'
                                            : '\0';
        if (close && lx->n_brackets == JJ_MAX_BRACKETS)
            jj_lexer_fail(lx, ERR_INVALID, lx->at, "brackets are nested too deeply");
        else if (close)
            lx->brackets[lx->n_brackets++] = close;
        char c = *ops[k].text;
        if (c == ')' || c == ']' || c == '}') {
            if (lx->n_brackets == 0)
                jj_lexer_fail(lx, ERR_INVALID, lx->at, "unexpected '%c'", c);
            else if (lx->brackets[--lx->n_brackets] != c)
                jj_lexer_fail(lx, ERR_INVALID, lx->at, "unexpected '%c', expected '%c'", c,
                              lx->brackets[lx->n_brackets]);
        }
        advance(lx, lx->at + strlen(ops[k].text));
        return t;
    }
    uint32_t cp = 0;
    int n = utf8_decode(lx->src + lx->at, lx->n - lx->at, &cp);
    jj_lexer_fail(lx, ERR_INVALID, lx->at, "unexpected character '%.*s'", n, lx->src + lx->at);
    return token(lx, T_EOF, lx->at);
}

static struct jj_token lex_tag(struct jj_lexer *lx)
{
    advance(lx, skip_space(lx, lx->at));
    if (lx->at >= lx->n)
        return token(lx, T_EOF, lx->n);
    bool block = lx->state == LEX_BLOCK;
    /* Inside brackets "}}" is two braces: {{ {'a': {'b': 1}} }} */
    size_t end = lx->n_brackets ? 0 : block_end(lx, lx->at, block ? "%}" : "}}", block);
    if (end) {
        struct jj_token t = token(lx, block ? T_BLOCK_END : T_PRINT_END, lx->at);
        advance(lx, end);
        lx->state = LEX_TEXT;
        return t;
    }
    char c = lx->src[lx->at];
    uint32_t cp = 0;
    (void)utf8_decode(lx->src + lx->at, lx->n - lx->at, &cp);
    if (c >= '0' && c <= '9')
        return lex_number(lx);
    if (c == '_' || uni_is_alpha(cp))
        return lex_name(lx);
    if (c == '\'' || c == '"')
        return lex_string(lx);
    return lex_operator(lx);
}

struct jj_token jj_lexer_next(struct jj_lexer *lx)
{
    struct jj_token t = {.type = T_EOF, .at = lx->n, .line = lx->line};
    if (lx->err)
        return t;
    if (lx->state == LEX_TEXT && lx->begin == T_EOF) {
        t = lex_text(lx);
        if (t.type != T_EOF)
            return lx->err ? token(lx, T_EOF, t.at) : t;
    }
    if (lx->begin != T_EOF) {
        t = token(lx, lx->begin, lx->begin_at);
        lx->state = lx->begin == T_PRINT_BEGIN ? LEX_PRINT : LEX_BLOCK;
        lx->begin = T_EOF;
        lx->n_brackets = 0;
        return t;
    }
    if (lx->state != LEX_TEXT)
        t = lex_tag(lx);
    if (lx->err)
        t.type = T_EOF;
    return t;
}
