/* gbnf.h - the grammar notation of llama.cpp's users: rules "name ::= alternatives", matched from
 * "root".
 *
 * Literals "..." and classes [...] with the escapes \n \t \r \\ \" \[ \] \xXX \uXXXX \UXXXXXXXX;
 * '.' for any character; groups, |, * + ? and {m}, {m,}, {m,n}; # comments. */
#ifndef MILLRACE_WORKER_GRAMMAR_GBNF_H
#define MILLRACE_WORKER_GRAMMAR_GBNF_H

#include "shared/base/err.h"
#include "worker/grammar/expr.h"

/* ERR_INVALID says what and in which line. */
enum err gbnf_rule(struct expr_grammar *g, struct str text, uint32_t *root,
                   struct errmsg *why) MUST_CHECK;

#endif
