/* schema_parts.h - inside of schema*.c: a goal is a set of schemas that all have to hold.
 *
 * $ref and allOf add to the set, anyOf and oneOf split it, and what remains is plain: schemas whose
 * other keywords are simply read side by side. Every goal is one rule, found again by its set: that
 * is what makes recursive schemas finite. */
#ifndef MILLRACE_WORKER_GRAMMAR_SCHEMA_PARTS_H
#define MILLRACE_WORKER_GRAMMAR_SCHEMA_PARTS_H

#include "shared/base/json.h"
#include "worker/grammar/json_text.h"
#include "worker/grammar/schema.h"

enum { GOAL_MAX = 64, BRANCHES_MAX = 1024, GOALS_MAX = 20000 };

enum type_bits {
    TYPE_NULL = 1,
    TYPE_BOOL = 2,
    TYPE_OBJECT = 4,
    TYPE_ARRAY = 8,
    TYPE_STRING = 16,
    TYPE_INTEGER = 32,
    TYPE_FRACTION = 64, /* numbers that are not integers */
    TYPE_ALL = 127
};

struct goal {
    const struct json *s[GOAL_MAX];
    int n;
};

struct named_goal;

struct schema_ctx {
    struct expr_grammar *g;
    struct json_rules json;
    const struct json *root;
    struct named_goal *goals; /* all so far, newest first */
    int n_goals, n_branches, depth;
    struct errmsg *why;
    enum err err;
};

/* Says what is wrong with `at`, once. Returns NULL so that a builder may return it. */
const struct expr *schema_fail(struct schema_ctx *c, enum err e, const struct json *at,
                               const char *fmt, ...) PRINTF_LIKE(4, 5);

bool goal_add(struct schema_ctx *c, struct goal *goal, const struct json *s);
const struct expr *goal_expr(struct schema_ctx *c, const struct goal *goal); /* by its rule */

/* Of a plain goal: the types that its values may have, and those that are made. They differ where a
 * schema without "type" speaks of one type: {"properties": ...} admits strings, too. */
unsigned valid_types(struct schema_ctx *c, const struct goal *p);
unsigned plain_types(struct schema_ctx *c, const struct goal *p);
/* Of a plain goal: expressions by type. */
const struct expr *object_expr(struct schema_ctx *c, const struct goal *p);
const struct expr *array_expr(struct schema_ctx *c, const struct goal *p);
const struct expr *string_expr(struct schema_ctx *c, const struct goal *p);
const struct expr *numeric_expr(struct schema_ctx *c, const struct goal *p, unsigned types);

/* enum and const: the candidates of a plain goal that satisfy all of it; false: it has neither. */
bool plain_values(struct schema_ctx *c, const struct goal *p, const struct json ***values,
                  size_t *n);
bool json_equal(const struct json *a, const struct json *b);
bool scalar_satisfies(struct schema_ctx *c, const struct json *v, const struct goal *p);

/* No text made for `a` satisfies `b`, and the other way round: schemas of oneOf. False when that
 * cannot be told. */
bool goals_exclude(struct schema_ctx *c, const struct goal *a, const struct goal *b);
/* $ref and allOf followed; false when it splits (anyOf, oneOf) or is unusable. */
bool goal_plain(struct schema_ctx *c, const struct goal *in, struct goal *out);

/* What a plain goal says of one property: what its value must be, and whether it must, may or
 * cannot be there. */
enum presence { PROPERTY_NEVER, PROPERTY_UNDECLARED, PROPERTY_OPTIONAL, PROPERTY_REQUIRED };
enum presence property_goal(struct schema_ctx *c, const struct goal *p, struct str key,
                            struct goal *out);
bool property_required(const struct goal *p, struct str key);

/* A keyword's count; false when absent. Failing when it is not a whole number >= 0. */
bool schema_count(struct schema_ctx *c, const struct json *s, const char *key, uint32_t *out);

#endif
