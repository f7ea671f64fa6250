/* methods.h - the methods of values ("x".strip, d.items) and the attributes of the built-in
 * objects. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_METHODS_H
#define MILLRACE_WORKER_TEXT_JINJA_METHODS_H

#include "worker/text/jinja/call.h"

typedef struct jj_value (*jj_method_fn)(struct jj_render *r, struct jj_value self,
                                        const struct jj_value *a, const struct jj_call *c);

struct jj_method {
    uint8_t kind; /* enum jj_kind of the value it belongs to */
    const char *name;
    jj_method_fn fn;    /* NULL: Python has it, this engine does not */
    const char *params; /* for jj_bind(); NULL: the function takes `c` as it is */
    int min;
};

/* What Python's getattr(v, name) finds. */
enum jj_attr { JJ_ATTR_NONE, JJ_ATTR_VALUE, JJ_ATTR_UNSAFE };
enum jj_attr jj_attr_find(struct jj_render *r, struct jj_value v, struct str name,
                          struct jj_value *out);
struct jj_value jj_method_call(struct jj_render *r, const struct jj_method *m, struct jj_value self,
                               const struct jj_call *c);

extern const struct jj_method jj_str_methods[]; /* ends with a NULL name */

#endif
