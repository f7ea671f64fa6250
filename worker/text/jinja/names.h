/* names.h - what Jinja2 decides about names while compiling: which belong to which scope, which
 * filters and tests do not exist, where break is not allowed. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_NAMES_H
#define MILLRACE_WORKER_TEXT_JINJA_NAMES_H

#include "shared/base/err.h"
#include "worker/text/jinja/ast.h"

/* Fills the frames and the takes_... fields of macros. ERR_INVALID with the line. */
enum err jj_names_check(struct jj_program *prog, struct errmsg *why) MUST_CHECK;

#endif
