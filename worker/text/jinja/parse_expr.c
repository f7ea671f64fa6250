/* parse_expr.c - expressions, in Jinja2's order of precedence, loosest first:
 *   a if b else c | or | and | not | == != < <= > >= in, not in | + - | ~ | * / // % | ** | unary -
 * + | .name [index] (call) | |filter  is test */
#include <string.h>

#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/parser_int.h"
#include "worker/text/jinja/tests.h"

static struct jj_node *parse_unary(struct jj_parser *p, bool with_filter);

struct list {
    struct jj_node *first, **end;
    size_t n;
};

static void list_init_(struct list *l)
{
    l->first = NULL;
    l->end = &l->first;
    l->n = 0;
}

static void list_add(struct jj_parser *p, struct list *l, struct jj_node *n)
{
    if (n == &p->bad)
        return;
    *l->end = n;
    l->end = &n->next;
    l->n++;
}

static struct jj_node *list_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line,
                                 const struct list *l)
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

static struct jj_node *const_node(struct jj_parser *p, uint32_t line, struct jj_value v)
{
    struct jj_node *n = p_node(p, N_CONST, line);
    if (n != &p->bad)
        n->value = v;
    return n;
}

/* --- primary
 * -------------------------------------------------------------------------------------------------
 */

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
    return const_node(p, line, p_text(p, s));
}

static struct jj_node *parse_list(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct list l;
    list_init_(&l);
    p_expect(p, T_LBRACKET);
    while (p->cur.type != T_RBRACKET && !p_failed(p)) {
        list_add(p, &l, p_expression(p, true));
        if (p->cur.type != T_RBRACKET)
            p_expect(p, T_COMMA);
    }
    p_expect(p, T_RBRACKET);
    return list_node(p, N_LIST, line, &l);
}

static struct jj_node *parse_dict(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct list l;
    list_init_(&l);
    p_expect(p, T_LBRACE);
    while (p->cur.type != T_RBRACE && !p_failed(p)) {
        list_add(p, &l, p_expression(p, true));
        p_expect(p, T_COLON);
        list_add(p, &l, p_expression(p, true));
        if (p->cur.type != T_RBRACE)
            p_expect(p, T_COMMA);
    }
    p_expect(p, T_RBRACE);
    return list_node(p, N_DICT, line, &l);
}

static bool tuple_ends(const struct jj_parser *p)
{
    return p->cur.type == T_PRINT_END || p->cur.type == T_BLOCK_END || p->cur.type == T_RPAREN;
}

static struct jj_node *parse_primary(struct jj_parser *p, bool with_namespace);

/* "a" is itself, "a," and "a, b" are tuples; () is the empty tuple inside parentheses only. A
 * simple tuple (an assignment's target) has primaries only. As in Jinja2, "for a, in b" is an
 * error: "in" is read as a name. */
static struct jj_node *parse_tuple(struct jj_parser *p, bool simple, bool with_cond, bool in_parens,
                                   bool with_namespace)
{
    uint32_t line = p->cur.line;
    bool is_tuple = false;
    struct list l;
    list_init_(&l);
    while (!p_failed(p)) {
        if (l.n)
            p_expect(p, T_COMMA);
        if (tuple_ends(p))
            break;
        list_add(p, &l, simple ? parse_primary(p, with_namespace) : p_expression(p, with_cond));
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
    return list_node(p, N_TUPLE, line, &l);
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
        return const_node(p, line, jj_bool((s.p[0] | 32) == 't'));
    if (str_is(s, "none") || str_is(s, "None"))
        return const_node(p, line, jj_none());
    struct jj_node *n = p_name(p, s, line);
    if (with_namespace && p->cur.type == T_DOT && n != &p->bad) {
        p_advance(p);
        n->kind = N_NSREF;
        n->name.attr = p_text(p, p->cur.text);
        p_expect(p, T_NAME);
    }
    return n;
}

static struct jj_node *parse_primary(struct jj_parser *p, bool with_namespace)
{
    struct jj_node *n = &p->bad;
    struct jj_token t = p->cur;
    if (!p_nest(p))
        return n;
    switch (t.type) {
    case T_NAME:
        n = parse_name(p, with_namespace);
        break;
    case T_STRING:
        n = parse_strings(p);
        break;
    case T_INT:
        p_advance(p);
        n = const_node(p, t.line, jj_int(t.i));
        break;
    case T_FLOAT:
        p_advance(p);
        n = const_node(p, t.line, jj_float(t.f));
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
    p->nesting--;
    return n;
}

/* --- assignment targets
 * ---------------------------------------------------------------------------------------- */

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

/* --- postfix: subscripts, calls, filters, tests
 * ------------------------------------------------------------------ */

static void parse_call_args(struct jj_parser *p, struct jj_args *out, uint16_t *height)
{
    struct list pos, kw;
    list_init_(&pos);
    list_init_(&kw);
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
            list_add(p, &kw, k);
        } else {
            if (out->star || out->star2 || kw.n)
                p_fail(p, "a positional argument behind a keyword");
            v = p_expression(p, true);
            list_add(p, &pos, v);
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
        return p_branch(p, N_GETITEM, 0, line, of, const_node(p, line, jj_int(t.i)), NULL);
    }
    struct list l;
    list_init_(&l);
    p_expect(p, T_LBRACKET);
    while (p->cur.type != T_RBRACKET && !p_failed(p)) {
        if (l.n)
            p_expect(p, T_COMMA);
        list_add(p, &l, parse_subscribed(p));
    }
    p_expect(p, T_RBRACKET);
    if (p_failed(p))
        return &p->bad;
    struct jj_node *arg = l.n == 1 ? l.first : list_node(p, N_TUPLE, line, &l);
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

static struct jj_node *parse_postfix(struct jj_parser *p, struct jj_node *n)
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
        n->call.args.pos = parse_postfix(p, parse_primary(p, false));
        p_raise(p, n, n->call.args.pos);
    }
    return negated ? p_branch(p, N_NOT, 0, line, n, NULL, NULL) : n;
}

static struct jj_node *parse_filter_expr(struct jj_parser *p, struct jj_node *n)
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

/* --- operators
 * ---------------------------------------------------------------------------------------------------
 */

static struct jj_node *parse_unary(struct jj_parser *p, bool with_filter)
{
    uint32_t line = p->cur.line;
    struct jj_node *n = &p->bad;
    if (!p_nest(p))
        return n;
    if (p_skip(p, T_SUB))
        n = p_branch(p, N_NEG, 0, line, parse_unary(p, false), NULL, NULL);
    else if (p_skip(p, T_ADD))
        n = p_branch(p, N_POS, 0, line, parse_unary(p, false), NULL, NULL);
    else
        n = parse_primary(p, false);
    n = parse_postfix(p, n);
    if (with_filter)
        n = parse_filter_expr(p, n);
    p->nesting--;
    return n;
}

static struct jj_node *parse_pow(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *left = parse_unary(p, true);
    while (p_skip(p, T_POW))
        left = p_branch(p, N_BINARY, OP_POW, line, left, parse_unary(p, true), NULL);
    return left;
}

static struct jj_node *parse_product(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *left = parse_pow(p);
    for (;;) {
        enum jj_tok t = p->cur.type;
        int op = t == T_MUL        ? OP_MUL
                 : t == T_DIV      ? OP_DIV
                 : t == T_FLOORDIV ? OP_FLOORDIV
                 : t == T_MOD      ? OP_MOD
                                   : -1;
        if (op < 0)
            return left;
        p_advance(p);
        left = p_branch(p, N_BINARY, op, line, left, parse_pow(p), NULL);
    }
}

static struct jj_node *parse_concat(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *n = parse_product(p);
    if (p->cur.type != T_TILDE)
        return n;
    struct list l;
    list_init_(&l);
    list_add(p, &l, n);
    while (p_skip(p, T_TILDE))
        list_add(p, &l, parse_product(p));
    return list_node(p, N_CONCAT, line, &l);
}

static struct jj_node *parse_sum(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *left = parse_concat(p);
    while (p->cur.type == T_ADD || p->cur.type == T_SUB) {
        int op = p->cur.type == T_ADD ? OP_ADD : OP_SUB;
        p_advance(p);
        left = p_branch(p, N_BINARY, op, line, left, parse_concat(p), NULL);
    }
    return left;
}

static int compare_op(struct jj_parser *p)
{
    static const struct {
        enum jj_tok t;
        enum jj_op op;
    } ops[] = {{T_EQ, OP_EQ}, {T_NE, OP_NE}, {T_LT, OP_LT},
               {T_LE, OP_LE}, {T_GT, OP_GT}, {T_GE, OP_GE}};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        if (p_skip(p, ops[i].t))
            return ops[i].op;
    if (p_skip_name(p, "in"))
        return OP_IN;
    if (p_is_name(p, "not")) {
        struct jj_token next = p_look(p);
        if (next.type == T_NAME && str_is(next.text, "in")) {
            p_advance(p);
            p_advance(p);
            return OP_NOT_IN;
        }
    }
    return -1;
}

static struct jj_node *parse_compare(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *n = parse_sum(p);
    int op = compare_op(p);
    if (op < 0)
        return n;
    struct list l;
    list_init_(&l);
    list_add(p, &l, n);
    for (; op >= 0 && !p_failed(p); op = compare_op(p))
        list_add(p, &l, p_branch(p, N_OPERAND, op, p->cur.line, parse_sum(p), NULL, NULL));
    return list_node(p, N_COMPARE, line, &l);
}

static struct jj_node *parse_not(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *n;
    if (!p_nest(p))
        return &p->bad;
    if (p_skip_name(p, "not"))
        n = p_branch(p, N_NOT, 0, line, parse_not(p), NULL, NULL);
    else
        n = parse_compare(p);
    p->nesting--;
    return n;
}

static struct jj_node *parse_and(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *left = parse_not(p);
    while (p_skip_name(p, "and"))
        left = p_branch(p, N_AND, 0, line, left, parse_not(p), NULL);
    return left;
}

static struct jj_node *parse_or(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    struct jj_node *left = parse_and(p);
    while (p_skip_name(p, "or"))
        left = p_branch(p, N_OR, 0, line, left, parse_and(p), NULL);
    return left;
}

struct jj_node *p_expression(struct jj_parser *p, bool with_cond)
{
    uint32_t line = p->cur.line;
    if (!p_nest(p))
        return &p->bad;
    struct jj_node *n = parse_or(p);
    while (with_cond && p_skip_name(p, "if")) {
        struct jj_node *test = parse_or(p);
        struct jj_node *orelse = p_skip_name(p, "else") ? p_expression(p, true) : NULL;
        n = p_branch(p, N_COND, 0, line, n, test, orelse);
    }
    p->nesting--;
    return n;
}
