/* repr.h - values as text: Python's str() and repr(). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_REPR_H
#define MILLRACE_WORKER_TEXT_JINJA_REPR_H

#include "shared/base/buf.h"
#include "worker/text/jinja/value.h"

void jj_put_float(struct buf *b,
                  double v); /* the shortest text that reads back equal, as Python lays it out */
void jj_put_str(struct jj_render *r, struct buf *b, struct jj_value v);
void jj_put_repr(struct jj_render *r, struct buf *b, struct jj_value v);
struct jj_value jj_to_str(struct jj_render *r, struct jj_value v); /* str(v): a plain string */
struct jj_value jj_soft_str(struct jj_render *r,
                            struct jj_value v); /* the same, but Markup stays Markup */
struct jj_value jj_repr(struct jj_render *r, struct jj_value v);

#endif
