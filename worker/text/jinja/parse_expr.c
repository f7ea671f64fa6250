/* parse_expr.c - operators, in Jinja2's order of precedence, loosest first:
 *   a if b else c    or    and    not    == != < <= > >= in, not in    + -    ~    * / // %    **
 * unary - + Operands are in parse_primary.c, what follows them in parse_postfix.c. */
#include "worker/text/jinja/parser_int.h"

static struct jj_node *parse_unary(struct jj_parser *p, bool with_filter)
{
    uint32_t line = p->cur.line;
    struct jj_node *n = &p->bad;
    if (p->cur.type == T_SUB || p->cur.type == T_ADD) {
        enum jj_node_kind kind = p->cur.type == T_SUB ? N_NEG : N_POS;
        if (!p_nest(p))
            return n;
        p_advance(p);
        n = p_branch(p, kind, 0, line, parse_unary(p, false), NULL, NULL);
        p->nesting--;
    } else {
        n = p_primary(p, false);
    }
    n = p_postfix(p, n);
    return with_filter ? p_filter_expr(p, n) : n;
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
    struct p_list l = {0};
    p_list_add(p, &l, n);
    while (p_skip(p, T_TILDE))
        p_list_add(p, &l, parse_product(p));
    return p_list_node(p, N_CONCAT, line, &l);
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
    struct p_list l = {0};
    p_list_add(p, &l, n);
    for (; op >= 0 && !p_failed(p); op = compare_op(p))
        p_list_add(p, &l, p_branch(p, N_OPERAND, op, p->cur.line, parse_sum(p), NULL, NULL));
    return p_list_node(p, N_COMPARE, line, &l);
}

static struct jj_node *parse_not(struct jj_parser *p)
{
    uint32_t line = p->cur.line;
    if (!p_is_name(p, "not"))
        return parse_compare(p);
    if (!p_nest(p))
        return &p->bad;
    p_advance(p);
    struct jj_node *n = p_branch(p, N_NOT, 0, line, parse_not(p), NULL, NULL);
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
