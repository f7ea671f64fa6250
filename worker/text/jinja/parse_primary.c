/* parse_primary.c - names, literals, tuples, and what can stand on the left of an assignment. */
#include <string.h>

#include "worker/text/jinja/parser_int.h"

void p_list_add(struct jj_parser *p, struct p_list *l, struct jj_node *n)
{
    if (n == &p->bad)
        return;
    if (l->last)
        l->last->next = n;
    else
        l->first = n;
    l->last = n;
    l->n++;
}

struct jj_node *p_list_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line,
                            const struct p_list *l)
{
    struct jj_node *n = p_node(p, kind, line);
    if (n == &p->bad)
        return n;
    n->list.first = l->first;
    n->list.n = l->n;
    for (struct jj_node *c = l->first; c; c = c->next)
        p_raise(p, n, c);
    return n;
}

struct jj_node *p_const(struct jj_parser *p, uint32_t line, struct jj_value v)
{
    struct jj_node *n = p_node(p, N_CONST, line);
    if (n != &p->bad)
        n->value = v;
    return n;
}

/* --- primary ------------------------------------------------------------------------- */

static struct jj_node *parse_strings(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct str s = p->cur.text;
    p_advance(p);
    while (p->cur.type == T_STRING) { /* 'a' 'b' is one string */
        struct str t = p->cur.text;
        char *joined = arena_alloc(&p->prog->arena, s.n + t.n + 1);
        if (!joined) {
            p_fail(p, "out of memory");
            break;
        }
        memcpy(joined, s.p, s.n);
        memcpy(joined + s.n, t.p, t.n);
        s = (struct str){joined, s.n + t.n};
        p_advance(p);
    }
    return p_const(p, line, p_text(p, s));
}

static struct jj_node *parse_list(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct p_list l = {0};
    p_expect(p, T_LBRACKET);
    while (p->cur.type != T_RBRACKET && !p_failed(p)) {
        p_list_add(p, &l, p_expression(p, true));
        if (p->cur.type != T_RBRACKET)
            p_expect(p, T_COMMA);
    }
    p_expect(p, T_RBRACKET);
    return p_list_node(p, N_LIST, line, &l);
}

static struct jj_node *parse_dict(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct p_list l = {0};
    p_expect(p, T_LBRACE);
    while (p->cur.type != T_RBRACE && !p_failed(p)) {
        p_list_add(p, &l, p_expression(p, true));
        p_expect(p, T_COLON);
        p_list_add(p, &l, p_expression(p, true));
        if (p->cur.type != T_RBRACE)
            p_expect(p, T_COMMA);
    }
    p_expect(p, T_RBRACE);
    return p_list_node(p, N_DICT, line, &l);
}

static bool tuple_ends(const struct jj_parser *p)
{
    return p->cur.type == T_PRINT_END || p->cur.type == T_BLOCK_END || p->cur.type == T_RPAREN;
}

/* "a" is itself, "a," and "a, b" are tuples; () is the empty tuple inside parentheses only. A
 * simple tuple (an assignment's target) has primaries only. As in Jinja2, "for a, in b" is an
 * error: "in" is read as a name. */
static struct jj_node *parse_tuple(struct jj_parser *p, bool simple, bool with_cond, bool in_parens,
                                   bool with_namespace)
{
    uint32_t line = p->cur.line;
    bool is_tuple = false;
    struct p_list l = {0};
    while (!p_failed(p)) {
        if (l.n)
            p_expect(p, T_COMMA);
        if (tuple_ends(p))
            break;
        p_list_add(p, &l, simple ? p_primary(p, with_namespace) : p_expression(p, with_cond));
        if (p->cur.type != T_COMMA)
            break;
        is_tuple = true;
    }
    if (p_failed(p))
        return &p->bad;
    if (!is_tuple && l.first)
        return l.first;
    if (!is_tuple && !in_parens) {
        p_fail(p, "expected an expression, got %s", jj_tok_name(p->cur.type));
        return &p->bad;
    }
    return p_list_node(p, N_TUPLE, line, &l);
}

struct jj_node *p_tuple(struct jj_parser *p, bool with_cond)
{
    return parse_tuple(p, false, with_cond, false, false);
}

static struct jj_node *parse_name(struct jj_parser *p, bool with_namespace)
{
    uint32_t line = p->cur.line;
    struct str s = p->cur.text;
    p_advance(p);
    if (str_is(s, "true") || str_is(s, "True") || str_is(s, "false") || str_is(s, "False"))
        return p_const(p, line, jj_bool((s.p[0] | 32) == 't'));
    if (str_is(s, "none") || str_is(s, "None"))
        return p_const(p, line, jj_none());
    struct jj_node *n = p_name(p, s, line);
    if (with_namespace && p->cur.type == T_DOT && n != &p->bad) {
        p_advance(p);
        n->kind = N_NSREF;
        n->name.attr = p_text(p, p->cur.text);
        p_expect(p, T_NAME);
    }
    return n;
}

struct jj_node *p_primary(struct jj_parser *p, bool with_namespace)
{
    struct jj_node *n = &p->bad;
    struct jj_token t = p->cur;
    switch (t.type) {
    case T_NAME:
        n = parse_name(p, with_namespace);
        break;
    case T_STRING:
        n = parse_strings(p);
        break;
    case T_INT:
        p_advance(p);
        n = p_const(p, t.line, jj_int(t.i));
        break;
    case T_FLOAT:
        p_advance(p);
        n = p_const(p, t.line, jj_float(t.f));
        break;
    case T_LPAREN:
        p_advance(p);
        n = parse_tuple(p, false, true, true, false);
        p_expect(p, T_RPAREN);
        break;
    case T_LBRACKET:
        n = parse_list(p);
        break;
    case T_LBRACE:
        n = parse_dict(p);
        break;
    default:
        p_fail(p, "unexpected %s", jj_tok_name(t.type));
    }
    return n;
}

/* --- assignment targets -------------------------------------------------------------- */

static void check_target(struct jj_parser *p, const struct jj_node *n)
{
    if (n == &p->bad || n->kind == N_NAME || n->kind == N_NSREF)
        return;
    if (n->kind != N_TUPLE) {
        p_fail(p, "cannot assign to this expression");
        return;
    }
    for (const struct jj_node *c = n->list.first; c; c = c->next)
        check_target(p, c);
}

struct jj_node *p_target(struct jj_parser *p, bool with_namespace)
{
    struct jj_node *n = parse_tuple(p, true, true, false, with_namespace);
    check_target(p, n);
    return n;
}
