/* parse_postfix.c - what follows an operand: .name, [index], (call), |filter, is test. */
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/parser_int.h"
#include "worker/text/jinja/tests.h"

static void parse_call_args(struct jj_parser *p, struct jj_args *out, uint16_t *height)
{
    struct p_list pos = {0}, kw = {0};
    struct jj_node top = {0};
    p_expect(p, T_LPAREN);
    while (p->cur.type != T_RPAREN && !p_failed(p)) {
        struct jj_node *v;
        if (p_skip(p, T_MUL)) {
            if (out->star || out->star2)
                p_fail(p, "invalid syntax for a call's arguments");
            out->star = v = p_expression(p, true);
        } else if (p_skip(p, T_POW)) {
            if (out->star2)
                p_fail(p, "invalid syntax for a call's arguments");
            out->star2 = v = p_expression(p, true);
        } else if (p->cur.type == T_NAME && p_look(p).type == T_ASSIGN) {
            struct jj_node *k = p_node(p, N_KEYWORD, p->cur.line);
            struct jj_value name = p_text(p, p->cur.text);
            if (out->star2)
                p_fail(p, "invalid syntax for a call's arguments");
            p_advance(p);
            p_advance(p);
            v = p_expression(p, true);
            if (k != &p->bad) {
                k->get.of = v;
                k->get.attr = name;
            }
            p_list_add(p, &kw, k);
        } else {
            if (out->star || out->star2 || kw.n)
                p_fail(p, "a positional argument behind a keyword");
            v = p_expression(p, true);
            p_list_add(p, &pos, v);
        }
        p_raise(p, &top, v);
        if (p->cur.type != T_RPAREN)
            p_expect(p, T_COMMA);
    }
    p_expect(p, T_RPAREN);
    out->pos = pos.first;
    out->kw = kw.first;
    if (top.height > *height)
        *height = top.height;
}

static struct jj_node *call_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line,
                                 struct jj_node *of)
{
    struct jj_node *n = p_node(p, kind, line);
    if (n == &p->bad)
        return n;
    n->call.of = of;
    if (of)
        p_raise(p, n, of);
    return n;
}

static struct jj_node *parse_call(struct jj_parser *p, struct jj_node *of)
{
    struct jj_args args = {0};
    uint16_t height = 0;
    uint32_t line = p->cur.line;
    parse_call_args(p, &args, &height);
    struct jj_node *n = call_node(p, N_CALL, line, of);
    if (n != &p->bad) {
        n->call.args = args;
        n->height = n->height > height ? n->height : height;
    }
    return n;
}

/* a[1], a[1:2], a[:, 1] */
static struct jj_node *parse_subscribed(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *at[3] = {NULL, NULL, NULL};
    if (p->cur.type != T_COLON) {
        at[0] = p_expression(p, true);
        if (p->cur.type != T_COLON)
            return at[0];
    }
    p_advance(p);
    if (p->cur.type != T_COLON && p->cur.type != T_RBRACKET && p->cur.type != T_COMMA)
        at[1] = p_expression(p, true);
    if (p_skip(p, T_COLON) && p->cur.type != T_RBRACKET && p->cur.type != T_COMMA)
        at[2] = p_expression(p, true);
    struct jj_node *n = p_branch(p, N_SLICE, 0, line, NULL, at[0], at[1]);
    if (n != &p->bad && at[2]) {
        n->d = at[2];
        p_raise(p, n, at[2]);
    }
    return n;
}

static struct jj_node *parse_subscript(struct jj_parser *p, struct jj_node *of)
{
    uint32_t line = p->cur.line;
    if (p_skip(p, T_DOT)) {
        struct jj_token t = p->cur;
        if (t.type == T_NAME) {
            p_advance(p);
            struct jj_node *n = p_node(p, N_GETATTR, line);
            if (n == &p->bad)
                return n;
            n->get.of = of;
            n->get.attr = p_text(p, t.text);
            p_raise(p, n, of);
            return n;
        }
        if (t.type != T_INT)
            p_fail(p, "expected a name or a number behind '.'");
        p_advance(p);
        return p_branch(p, N_GETITEM, 0, line, of, p_const(p, line, jj_int(t.i)), NULL);
    }
    struct p_list l = {0};
    p_expect(p, T_LBRACKET);
    while (p->cur.type != T_RBRACKET && !p_failed(p)) {
        if (l.n)
            p_expect(p, T_COMMA);
        p_list_add(p, &l, parse_subscribed(p));
    }
    p_expect(p, T_RBRACKET);
    if (p_failed(p))
        return &p->bad;
    struct jj_node *arg = l.n == 1 ? l.first : p_list_node(p, N_TUPLE, line, &l);
    if (arg->kind == N_SLICE) {
        arg->a = of;
        p_raise(p, arg, of);
        return arg;
    }
    for (struct jj_node *c = l.first; c; c = c->next)
        if (c->kind == N_SLICE)
            p_fail(p, "a slice among several indices");
    return p_branch(p, N_GETITEM, 0, line, of, arg, NULL);
}

struct jj_node *p_postfix(struct jj_parser *p, struct jj_node *n)
{
    while (!p_failed(p)) {
        if (p->cur.type == T_DOT || p->cur.type == T_LBRACKET)
            n = parse_subscript(p, n);
        else if (p->cur.type == T_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* A name, dots allowed as Jinja2 does: "a.b". */
static struct jj_text *parse_dotted(struct jj_parser *p)
{
    struct str s = p->cur.text;
    p_expect(p, T_NAME);
    while (p->cur.type == T_DOT && !p_failed(p)) {
        p_advance(p);
        if (p->cur.type == T_NAME)
            s.n = (size_t)(p->cur.text.p + p->cur.text.n - s.p);
        p_expect(p, T_NAME);
    }
    return p_text(p, s).s;
}

struct jj_node *p_filter(struct jj_parser *p, struct jj_node *of, bool inline_first)
{
    while (!p_failed(p) && (p->cur.type == T_PIPE || inline_first)) {
        if (!inline_first)
            p_advance(p);
        inline_first = false;
        uint32_t line = p->cur.line;
        size_t at = p->cur.at;
        struct jj_text *name = parse_dotted(p);
        struct jj_args args = {0};
        uint16_t height = 0;
        if (p->cur.type == T_LPAREN)
            parse_call_args(p, &args, &height);
        of = call_node(p, N_FILTER, line, of);
        if (p_failed(p))
            return &p->bad;
        of->call.name = name;
        of->call.args = args;
        of->height = of->height > height ? of->height : height;
        of->call.filter = jj_filter_find((struct str){name->p, name->n});
        if (!of->call.filter && jj_filter_known((struct str){name->p, name->n}))
            jj_lexer_fail(&p->lx, ERR_UNSUPPORTED, at,
                          "the filter '" STR_FMT "' is not supported here", (int)name->n, name->p);
    }
    return of;
}

static struct jj_node *parse_test(struct jj_parser *p, struct jj_node *of)
{
    uint32_t line = p->cur.line;
    p_advance(p);
    bool negated = p_skip_name(p, "not");
    struct jj_text *name = parse_dotted(p);
    struct jj_node *n = call_node(p, N_TEST, line, of);
    if (p_failed(p))
        return &p->bad;
    n->call.name = name;
    n->call.test = jj_test_find((struct str){name->p, name->n});
    enum jj_tok t = p->cur.type;
    if (t == T_LPAREN) {
        uint16_t height = 0;
        parse_call_args(p, &n->call.args, &height);
        n->height = n->height > height ? n->height : height;
    } else if ((t == T_NAME && !p_is_name(p, "else") && !p_is_name(p, "or") &&
                !p_is_name(p, "and")) ||
               t == T_STRING || t == T_INT || t == T_FLOAT || t == T_LBRACKET || t == T_LBRACE) {
        if (p_is_name(p, "is"))
            p_fail(p, "tests cannot be chained with is");
        n->call.args.pos = p_postfix(p, p_primary(p, false));
        p_raise(p, n, n->call.args.pos);
    }
    return negated ? p_branch(p, N_NOT, 0, line, n, NULL, NULL) : n;
}

struct jj_node *p_filter_expr(struct jj_parser *p, struct jj_node *n)
{
    while (!p_failed(p)) {
        if (p->cur.type == T_PIPE)
            n = p_filter(p, n, false);
        else if (p_is_name(p, "is"))
            n = parse_test(p, n);
        else if (p->cur.type == T_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}
