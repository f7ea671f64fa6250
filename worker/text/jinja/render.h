/* render.h - the state of one render, and its errors.
 *
 * Errors are sticky: the first is kept (with the line of the node that runs), everything after it
 * is skipped. A function that fails returns any value of the right type; whoever loops asks
 * jj_failed(). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_RENDER_H
#define MILLRACE_WORKER_TEXT_JINJA_RENDER_H

#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/base/json.h"
#include "worker/text/jinja/value.h"
#include "worker/text/template.h"

struct jj_program;
struct jj_scope;

struct jj_error {
    enum err code;
    bool final; /* a limit or memory: never deferred */
    struct errmsg msg;
};

enum jj_flow { JJ_NEXT, JJ_BREAK, JJ_CONTINUE };

struct jj_render {
    struct arena arena;
    const struct jj_program *program;
    const struct template_env *env;
    struct jj_dict *context; /* the variables of the caller */
    struct jj_scope *scope;  /* innermost */
    struct jj_value piped;   /* the text that a filter block hands to its filters */
    struct buf *out;         /* where text goes now: the result, or a capture */
    enum jj_flow flow;
    uint64_t steps, max_steps;
    int depth;
    uint32_t line; /* of the node that runs */
    struct jj_error error;
};

static inline bool jj_failed(const struct jj_render *r)
{
    return r->error.code != ERR_OK;
}
/* Records ERR_INVALID with "line N: ". */
void jj_fail(struct jj_render *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void jj_unsupported(struct jj_render *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void jj_limit(struct jj_render *r, const char *what);
void jj_raise(struct jj_render *r,
              struct str message); /* raise_exception(): ERR_TEMPLATE, the template's words */
void jj_nomem(struct jj_render *r,
              size_t wanted); /* which of the two: no memory, or no more allowed */

/* An operation on an undefined value that Python's Jinja refuses: says which name is missing. */
void jj_fail_undefined(struct jj_render *r, struct jj_value v);

/* Counts work. False: too much, or failed before. */
bool jj_charge(struct jj_render *r, size_t steps);
static inline bool jj_charge_bytes(struct jj_render *r, size_t n)
{
    return jj_charge(r, 1 + n / 32); /* copied or compared whole */
}
static inline bool jj_charge_chars(struct jj_render *r, size_t n)
{
    return jj_charge(r, 1 + n / 4); /* looked at one by one, or searched */
}
/* Around every recursion of C functions; false: too deep, error recorded, do not leave(). */
bool jj_enter(struct jj_render *r, int limit);
static inline void jj_leave(struct jj_render *r)
{
    r->depth--;
}

void *jj_alloc(struct jj_render *r, size_t n); /* NULL: error recorded */
struct jj_value jj_from_json(struct jj_render *r, const struct json *j);
/* Takes what a buffer holds as a text and frees the buffer, on failure too. */
struct jj_value jj_take_buf(struct jj_render *r, struct buf *b);
void jj_buf(struct buf *b); /* init, bounded by JJ_MAX_OUTPUT */

#endif
