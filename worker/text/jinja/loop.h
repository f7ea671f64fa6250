/* loop.h - the loop variable of a for statement, and the items it walks. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_LOOP_H
#define MILLRACE_WORKER_TEXT_JINJA_LOOP_H

#include "shared/base/buf.h"
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/value.h"

/* Items are fetched when they are asked for: a filter condition (for x in y if ...) runs between
 * the turns of the loop, and only loop.last, nextitem and length look ahead. */
struct jj_loop {
    const struct jj_node *node;
    struct jj_scope *scope; /* around the loop */
    struct jj_iter source;
    struct jj_value iterable;
    struct jj_list *items; /* fetched so far */
    size_t at;             /* index0 of the current item */
    bool ended;            /* the source has no more */
    int depth0;
    bool has_changed;
    struct jj_list *changed; /* arguments of the last loop.changed() */
};

bool jj_loop_next(struct jj_render *r, struct jj_loop *l, bool first); /* moves to the next item */
struct jj_value jj_loop_attr(struct jj_render *r, struct jj_loop *l,
                             struct str name);                           /* JJ_MISSING: none */
void jj_loop_put(struct jj_render *r, struct buf *b, struct jj_loop *l); /* repr() */

#endif
