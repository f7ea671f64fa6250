/* parser.h - template source to a program. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_PARSER_H
#define MILLRACE_WORKER_TEXT_JINJA_PARSER_H

#include "shared/base/err.h"
#include "worker/text/jinja/ast.h"

/* Fills `prog`, whose arena is initialized by the caller and owns everything, on failure too.
 * ERR_INVALID with line and column for a syntax error, ERR_UNSUPPORTED for what this engine lacks.
 */
enum err jj_parse(struct jj_program *prog, const char *src, size_t n,
                  struct errmsg *why) MUST_CHECK;

#endif
