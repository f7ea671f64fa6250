/* regex.h - ECMA-262 regular expressions (the dialect of JSON Schema's "pattern") as expressions.
 *
 * All of it but what needs memory or a look around: back references, lookahead and lookbehind, \b
 * and \B, and anchors in the middle are refused by name. A pattern that is not anchored may match
 * anywhere in the text, as RegExp.test() has it. Lazy quantifiers match what greedy ones do. */
#ifndef MILLRACE_WORKER_GRAMMAR_REGEX_H
#define MILLRACE_WORKER_GRAMMAR_REGEX_H

#include "shared/base/err.h"
#include "worker/grammar/expr.h"

struct regex_result {
    const struct expr *e;
    /* Code points of the shortest and longest match; max may be EXPR_UNBOUNDED. */
    uint32_t min, max;
};

/* `whole`: the text must match from end to end, anchors or not (as guided_regex means it).
 * ERR_INVALID: not a regular expression; ERR_UNSUPPORTED: names what. */
enum err regex_expr(struct expr_grammar *g, struct str pattern, enum text_form form, bool whole,
                    struct regex_result *out, struct errmsg *why) MUST_CHECK;

#endif
