/* call.h - calling: arguments, macros, global functions, bound methods. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_CALL_H
#define MILLRACE_WORKER_TEXT_JINJA_CALL_H

#include "shared/base/buf.h"
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/value.h"

/* Evaluated arguments. Borrowed by the callee for the duration of the call. */
struct jj_call {
    struct jj_list *pos;
    struct jj_dict *kw; /* keys are JJ_STR, in the order written */
};

enum { JJ_MAX_PARAMS = 6 };

/* Sorts arguments into `out` by the parameter names in `params` ("width first blank"); what was not
 * given becomes JJ_MISSING. The first `min` are required. A name that starts with '/' takes no
 * keyword. Errors are recorded in `who`'s name. */
bool jj_bind(struct jj_render *r, const struct jj_call *c, const char *who, const char *params,
             int min, struct jj_value out[JJ_MAX_PARAMS]);

struct jj_method;
struct jj_global;
struct jj_func { /* exactly one of method, global, macro is set */
    const struct jj_method *method;
    struct jj_value self;
    const struct jj_global *global;
    const struct jj_macro *macro;
    struct jj_scope *scope; /* where the macro was defined */
};

struct jj_value jj_func_method(struct jj_render *r, const struct jj_method *m,
                               struct jj_value self);
struct jj_value jj_func_macro(struct jj_render *r, const struct jj_macro *m,
                              struct jj_scope *scope);
void jj_func_put(struct jj_render *r, struct buf *b, const struct jj_func *f); /* repr() */
struct jj_value jj_call_value(struct jj_render *r, struct jj_value callee, const struct jj_call *c);
/* name, arguments, catch_kwargs ...: an attribute of a macro; JJ_MISSING: it has no such attribute.
 */
struct jj_value jj_macro_attr(struct jj_render *r, const struct jj_func *f, struct str name);

/* Global names: range, dict, namespace, raise_exception ... JJ_MISSING: there is none of this name.
 */
struct jj_value jj_global_find(struct jj_render *r, struct str name);
struct jj_value jj_global_call(struct jj_render *r, const struct jj_global *g,
                               const struct jj_call *c);
const char *jj_global_name(const struct jj_global *g);

#endif
