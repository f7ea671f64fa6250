/* ops.h - operators and subscripts on values, by Python's rules; integers are 64 bits and overflow
 * is an error. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_OPS_H
#define MILLRACE_WORKER_TEXT_JINJA_OPS_H

#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/value.h"

struct jj_value jj_binary(struct jj_render *r, enum jj_op op, struct jj_value a, struct jj_value b);
struct jj_value jj_negate(struct jj_render *r, struct jj_value v);
struct jj_value jj_positive(struct jj_render *r, struct jj_value v);
bool jj_compare_op(struct jj_render *r, enum jj_op op, struct jj_value a, struct jj_value b);
struct jj_value jj_escape(struct jj_render *r,
                          struct jj_value v); /* HTML-escaped Markup; Markup stays as it is */

/* a.name: an attribute first, an item second. a[key]: the other way round. Undefined when there is
 * none. */
struct jj_value jj_getattr(struct jj_render *r, struct jj_value v, struct jj_value name);
struct jj_value jj_getitem(struct jj_render *r, struct jj_value v, struct jj_value key);
/* v[start:stop:step]; JJ_NONE where left out. */
struct jj_value jj_slice(struct jj_render *r, struct jj_value v, struct jj_value start,
                         struct jj_value stop, struct jj_value step);
struct jj_value jj_substr(struct jj_render *r, struct jj_value s, size_t from_cp,
                          size_t to_cp); /* code points */
size_t jj_cp_offset(struct jj_value s,
                    size_t cp); /* byte offset of a code point, at most the length */

#endif
