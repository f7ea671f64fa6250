/* parser_int.h - what the two halves of the parser share: expressions (parse_expr.c), statements
 * (parser.c). Errors are sticky in the lexer: after one every token is T_EOF, and every function
 * still returns a node. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_PARSER_INT_H
#define MILLRACE_WORKER_TEXT_JINJA_PARSER_INT_H

#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/lexer.h"

struct jj_parser {
    struct jj_lexer lx;
    struct jj_program *prog;
    struct jj_token cur, ahead;
    bool has_ahead;
    int nesting;
    uint32_t *name_index; /* id + 1 by hash; its memory is the arena's */
    size_t n_index, names_cap;
    struct jj_node bad; /* stands in after an error */
};

/* tokens */
void p_advance(struct jj_parser *p);
struct jj_token p_look(struct jj_parser *p);
bool p_is_name(const struct jj_parser *p, const char *word);
bool p_skip_name(struct jj_parser *p, const char *word);
bool p_skip(struct jj_parser *p, enum jj_tok t);
void p_expect(struct jj_parser *p, enum jj_tok t);
void p_fail(struct jj_parser *p, const char *fmt, ...) PRINTF_LIKE(2, 3); /* at the current token */
bool p_failed(const struct jj_parser *p);
bool p_nest(struct jj_parser *p); /* false: too deep, error recorded */

/* nodes */
struct jj_node *p_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line);
struct jj_node *p_branch(struct jj_parser *p, enum jj_node_kind kind, int op, uint32_t line,
                         struct jj_node *a, struct jj_node *b, struct jj_node *c);
void p_raise(struct jj_parser *p, struct jj_node *n,
             const struct jj_node *child); /* height of n over child */
struct jj_value p_text(struct jj_parser *p, struct str s);
uint32_t p_name_id(struct jj_parser *p, struct str s);
struct jj_node *p_name(struct jj_parser *p, struct str s, uint32_t line);

struct p_list { /* nodes linked by next */
    struct jj_node *first, *last;
    size_t n;
};
void p_list_add(struct jj_parser *p, struct p_list *l, struct jj_node *n);
struct jj_node *p_list_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line,
                            const struct p_list *l);
struct jj_node *p_const(struct jj_parser *p, uint32_t line, struct jj_value v);

/* expressions */
struct jj_node *p_expression(struct jj_parser *p, bool with_cond);
struct jj_node *p_tuple(struct jj_parser *p, bool with_cond);
struct jj_node *p_target(struct jj_parser *p, bool with_namespace);
struct jj_node *p_primary(struct jj_parser *p, bool with_namespace);
struct jj_node *p_postfix(struct jj_parser *p, struct jj_node *n);
struct jj_node *p_filter_expr(struct jj_parser *p, struct jj_node *n);
struct jj_node *p_filter(struct jj_parser *p, struct jj_node *of, bool inline_first);

#endif
