/* eval.h - running a program: expressions (eval.c) and statements (exec.c, loop.c). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_EVAL_H
#define MILLRACE_WORKER_TEXT_JINJA_EVAL_H

#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/call.h"
#include "worker/text/jinja/render.h"

struct jj_binding {
    uint32_t id;
    struct jj_value value;
};
/* Variables of one scope; lookups walk outward, assignments stay here. */
struct jj_scope {
    struct jj_scope *parent;
    struct jj_binding *v;
    size_t n, cap;
};

struct jj_scope *jj_scope_new(struct jj_render *r, struct jj_scope *parent,
                              const struct jj_frame *f); /* never NULL */
void jj_scope_set(struct jj_render *r, struct jj_scope *s, uint32_t id, struct jj_value v);

struct jj_value jj_eval(struct jj_render *r, const struct jj_node *n);
bool jj_eval_args(struct jj_render *r, const struct jj_args *a, struct jj_call *out);
/* A chain of filters applied to a captured text. */
struct jj_value jj_eval_piped(struct jj_render *r, const struct jj_node *filter,
                              struct jj_value text);

void jj_exec(struct jj_render *r, const struct jj_node *body); /* a list of statements */
/* Runs a body in a new scope and gives its text. */
struct jj_value jj_capture(struct jj_render *r, const struct jj_node *body, struct jj_scope *scope);
void jj_assign(struct jj_render *r, const struct jj_node *target, struct jj_value v);
void jj_exec_for(struct jj_render *r, const struct jj_node *n, struct jj_value iterable,
                 int depth0);
struct jj_value jj_loop_recurse(struct jj_render *r, struct jj_loop *l, struct jj_value iterable);
struct jj_value jj_call_macro(struct jj_render *r, const struct jj_func *f,
                              const struct jj_call *c);

#endif
