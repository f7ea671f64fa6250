/* gbnf.c - a recursive descent over the rules. */
#include "worker/grammar/gbnf.h"

#include <string.h>

#include "shared/base/utf8.h"

enum { DEPTH_MAX = 200, NAMES_MAX = 10000, COUNT_MAX = 100000 };

struct name {
    struct str text;
    uint32_t rule;
    bool defined;
};

struct parser {
    struct expr_grammar *g;
    struct str s;
    size_t at;
    struct name *names;
    size_t n_names, cap_names;
    int depth;
    struct errmsg *why;
    enum err err;
};

static void fail(struct parser *p, const char *what)
{
    size_t line = 1;
    for (size_t i = 0; i < p->at && i < p->s.n; i++)
        line += p->s.p[i] == '\n';
    if (!p->err)
        p->err = err_set(p->why, ERR_INVALID, "line %zu of the grammar: %s", line, what);
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

/* Blanks and comments; line breaks too, where a rule cannot end. */
static void skip(struct parser *p, bool lines)
{
    for (;;) {
        int c = peek(p);
        if (c == '#')
            while (peek(p) >= 0 && peek(p) != '\n')
                p->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            p->at++;
        else
            return;
    }
}

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static struct str take_name(struct parser *p)
{
    size_t from = p->at;
    while (is_name(peek(p)))
        p->at++;
    return (struct str){p->s.p + from, p->at - from};
}

static struct name *name_of(struct parser *p, struct str text)
{
    for (size_t i = 0; i < p->n_names; i++)
        if (str_eq(p->names[i].text, text))
            return &p->names[i];
    if (p->n_names == NAMES_MAX) {
        fail(p, "too many rules");
        return NULL;
    }
    if (p->n_names == p->cap_names) {
        size_t cap = p->cap_names ? 2 * p->cap_names : 32;
        struct name *grown = arena_array(&p->g->arena, cap, sizeof(*grown));
        if (!grown) {
            p->g->failed = true;
            fail(p, "the grammar is too large");
            return NULL;
        }
        if (p->n_names)
            memcpy(grown, p->names, p->n_names * sizeof(*grown));
        p->names = grown;
        p->cap_names = cap;
    }
    p->names[p->n_names] = (struct name){text, expr_rule_declare(p->g), false};
    return &p->names[p->n_names++];
}

static uint32_t hex(struct parser *p, int digits)
{
    uint32_t v = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        int c = peek(p), l = c | 32;
        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if (c >= 0 && l >= 'a' && l <= 'f')
            v = v * 16 + (uint32_t)(l - 'a' + 10);
        else
            fail(p, "an escape needs more hex digits");
    }
    return v;
}

static uint32_t character(struct parser *p)
{
    uint32_t cp;
    if (!take(p, "\\")) {
        int n = utf8_decode(p->s.p + p->at, p->s.n - p->at, &cp);
        if (!n) {
            fail(p, "not UTF-8, or a quote or bracket is not closed");
            return 0;
        }
        p->at += (size_t)n;
        return cp;
    }
    int c = peek(p);
    p->at++;
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'x':
        return hex(p, 2);
    case 'u':
        return hex(p, 4);
    case 'U':
        return hex(p, 8);
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
        return (uint32_t)c;
    default:
        fail(p, "unknown escape");
        return 0;
    }
}

static const struct expr *class(struct parser *p)
{
    struct charset c = {0};
    bool invert = take(p, "^");
    while (!p->err && !take(p, "]")) {
        uint32_t lo = character(p), hi = lo;
        if (peek(p) == '-' && p->at + 1 < p->s.n && p->s.p[p->at + 1] != ']') {
            p->at++;
            hi = character(p);
        }
        if (lo > hi || hi > CP_MAX)
            fail(p, "a range in brackets runs backwards or beyond U+10FFFF");
        else
            charset_add(p->g, &c, lo, hi);
    }
    charset_normalize(&c);
    if (invert)
        charset_invert(p->g, &c);
    return expr_chars(p->g, &c, TEXT_RAW);
}

static const struct expr *literal(struct parser *p)
{
    struct expr_list l = {0};
    while (!p->err && !take(p, "\"")) {
        char bytes[4];
        int n = utf8_encode(character(p), bytes);
        if (!n)
            fail(p, "an escape is no code point");
        expr_push(p->g, &l, expr_literal(p->g, (struct str){bytes, (size_t)n}));
    }
    return expr_seq(p->g, l.items, l.n);
}

static const struct expr *alternatives(struct parser *p, bool nested);

static const struct expr *atom(struct parser *p)
{
    if (take(p, "\""))
        return literal(p);
    if (take(p, "["))
        return class(p);
    if (take(p, ".")) {
        struct charset all = {0};
        charset_add(p->g, &all, 0, CP_MAX);
        return expr_chars(p->g, &all, TEXT_RAW);
    }
    if (take(p, "(")) {
        if (++p->depth > DEPTH_MAX)
            fail(p, "groups are nested too deeply");
        skip(p, true);
        const struct expr *e = p->err ? NULL : alternatives(p, true);
        p->depth--;
        skip(p, true);
        if (!take(p, ")"))
            fail(p, "'(' is not closed");
        return e;
    }

    struct name *name = is_name(peek(p)) ? name_of(p, take_name(p)) : NULL;
    if (!name) {
        fail(p, "expected a literal, a class, a group or a rule's name");
        return NULL;
    }
    return expr_rule(p->g, name->rule);
}

static bool number(struct parser *p, uint32_t *out)
{
    size_t from = p->at;
    for (*out = 0; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if ((*out = *out * 10 + (uint32_t)(peek(p) - '0')) > COUNT_MAX) {
            fail(p, "a repeat count is above 100000");
            return false;
        }
    return p->at > from;
}

static const struct expr *quantified(struct parser *p, bool nested)
{
    const struct expr *e = atom(p);
    for (;;) {
        uint32_t min = 0, max = EXPR_UNBOUNDED;
        skip(p, nested);
        if (p->err)
            return NULL;
        if (take(p, "+")) {
            min = 1;
        } else if (take(p, "?")) {
            max = 1;
        } else if (take(p, "{")) {
            bool has_min = number(p, &min);
            max = min;
            if (take(p, ",")) {
                if (!number(p, &max))
                    max = EXPR_UNBOUNDED;
            } else if (!has_min) {
                fail(p, "'{' needs a count");
            }
            if (!take(p, "}") || min > max)
                fail(p, "a repeat count is malformed");
        } else if (!take(p, "*")) {
            return e;
        }
        e = expr_repeat(p->g, e, min, max);
    }
}

/* Whether a new rule starts here: "name ::=". */
static bool at_rule(struct parser *p)
{
    size_t from = p->at;
    bool yes = take_name(p).n > 0;
    skip(p, false);
    yes = yes && take(p, "::=");
    p->at = from;
    return yes;
}

static const struct expr *sequence(struct parser *p, bool nested)
{
    struct expr_list l = {0};
    for (;;) {
        skip(p, nested);
        int c = peek(p);
        if (p->err || c < 0 || c == '|' || c == ')' || c == '\n' || c == '\r' || at_rule(p))
            break;
        expr_push(p->g, &l, quantified(p, nested));
    }
    return expr_seq(p->g, l.items, l.n);
}

static const struct expr *alternatives(struct parser *p, bool nested)
{
    struct expr_list l = {0};
    expr_push(p->g, &l, sequence(p, nested));
    for (;;) {
        /* A line may begin with the bar that continues the rule. */
        size_t from = p->at;
        skip(p, true);
        if (p->err || !take(p, "|")) {
            p->at = nested ? p->at : from;
            break;
        }
        skip(p, true);
        expr_push(p->g, &l, sequence(p, nested));
    }
    return expr_alt(p->g, l.items, l.n);
}

enum err gbnf_rule(struct expr_grammar *g, struct str text, uint32_t *root, struct errmsg *why)
{
    struct parser p = {.g = g, .s = text, .why = why};
    const struct name *start = name_of(&p, STR("root"));
    *root = start ? start->rule : 0;
    for (;;) {
        skip(&p, true);
        if (p.err || peek(&p) < 0)
            break;
        struct str id = take_name(&p);
        struct name *name = id.n ? name_of(&p, id) : NULL;
        skip(&p, false);
        if (!name || !take(&p, "::=")) {
            fail(&p, "expected \"name ::= ...\"");
            break;
        }
        if (name->defined)
            fail(&p, "a rule is defined twice");
        name->defined = true;
        uint32_t rule = name->rule;
        skip(&p, true);
        expr_rule_define(g, rule, p.err ? expr_empty(g) : alternatives(&p, false));
    }
    for (size_t i = 0; i < p.n_names && !p.err; i++)
        if (!p.names[i].defined)
            p.err =
                err_set(why, ERR_INVALID, "the grammar has no rule \"%.*s\"",
                        (int)(p.names[i].text.n > 60 ? 60 : p.names[i].text.n), p.names[i].text.p);
    if (!p.err && g->failed)
        p.err = err_set(why, ERR_RANGE, "the grammar is too large");
    return p.err;
}
