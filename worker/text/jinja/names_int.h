/* names_int.h - the scopes of a template under examination: names_see.c collects what each
 * mentions, names.c checks and notes the outcome. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_NAMES_INT_H
#define MILLRACE_WORKER_TEXT_JINJA_NAMES_INT_H

#include "shared/base/err.h"
#include "worker/text/jinja/ast.h"

enum sym_load {
    LOAD_PARAM,   /* bound by the scope itself */
    LOAD_RESOLVE, /* from the context */
    LOAD_ALIAS,   /* from an outer scope */
    LOAD_MISSING, /* nothing, until assigned */
};

struct sym {
    uint32_t id;
    uint8_t load;
    bool stored;
};

struct symbols {
    struct sym *v;
    size_t n, cap;
    const struct symbols *parent;
};

struct checker {
    struct jj_program *prog;
    struct arena scratch;
    enum err err;
    struct errmsg why;
    uint64_t work;
};

void names_fail(struct checker *c, enum err code, uint32_t line, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
bool names_work(struct checker *c, size_t n); /* false: failed, or too much of it */

struct sym *sym_find(struct checker *c, const struct symbols *s,
                     uint32_t id); /* in this scope alone */
void sym_param(struct checker *c, struct symbols *s, uint32_t id);
void names_see_expr(struct checker *c, struct symbols *s, const struct jj_node *n);
void names_see_target(struct checker *c, struct symbols *s, const struct jj_node *n, bool param);
void names_see_body(struct checker *c, struct symbols *s, const struct jj_node *n);

#endif
