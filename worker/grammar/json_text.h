/* json_text.h - the pieces of JSON text, as expressions. */
#ifndef MILLRACE_WORKER_GRAMMAR_JSON_TEXT_H
#define MILLRACE_WORKER_GRAMMAR_JSON_TEXT_H

#include "shared/base/json.h"
#include "worker/grammar/expr.h"

/* Rules that every schema may need, made on first use. */
struct json_rules {
    struct expr_grammar *g;
    uint32_t value, object, array, string; /* UINT32_MAX: not made yet */
};
void json_rules_init(struct json_rules *r, struct expr_grammar *g);

/* White space after a bracket or a comma and before a closing bracket: nothing, one blank, or a
 * line break with up to 32 blanks. Capped, so that a weak model cannot go on with it for ever. */
const struct expr *json_space(struct expr_grammar *g);
const struct expr *json_comma(struct expr_grammar *g);
const struct expr *json_colon(struct expr_grammar *g);
/* '[' or '{', items, and the end, with white space. */
const struct expr *json_brackets(struct expr_grammar *g, char open, const struct expr *items,
                                 char close);

const struct expr *json_any(struct json_rules *r);        /* a value */
const struct expr *json_any_string(struct json_rules *r); /* a string, with its quotes */
const struct expr *json_any_object(struct json_rules *r);
const struct expr *json_any_array(struct json_rules *r);

/* One character of a string, with any escape that JSON has; a surrogate pair is one. */
const struct expr *json_char(struct expr_grammar *g);
/* The literal text of a value: compact, numbers as they are spelled. */
const struct expr *json_literal(struct expr_grammar *g, const struct json *v);
void json_put(struct buf *b, const struct json *v);
/* A string, with its quotes, that is none of the n given. */
const struct expr *json_string_except(struct expr_grammar *g, const struct str *keys, size_t n);

#endif
