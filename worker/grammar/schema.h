/* schema.h - JSON Schema (2020-12, and draft 7 where it is spelled otherwise) as expressions.
 *
 * What comes out is a subset of what the schema allows: compact JSON or JSON with short runs of
 * white space, properties in the order they are declared in, no undeclared ones unless
 * additionalProperties asks for them. Everything it lets through is valid; what cannot be enforced
 * is refused with the keyword's name and place, never ignored. Annotations (title, description,
 * default, examples ...) are skipped.
 *
 * Enforced: type enum const $ref (inside the document) $defs allOf anyOf, oneOf where its branches
 * exclude each other, properties required additionalProperties patternProperties (one pattern)
 * propertyNames minProperties maxProperties, items prefixItems minItems maxItems, pattern format
 * minLength maxLength, minimum maximum exclusiveMinimum exclusiveMaximum multipleOf.
 * Refused: not if then else dependent* contains uniqueItems unevaluated* and what is unknown. */
#ifndef MILLRACE_WORKER_GRAMMAR_SCHEMA_H
#define MILLRACE_WORKER_GRAMMAR_SCHEMA_H

#include "shared/base/json.h"
#include "worker/grammar/expr.h"

/* Defines a rule for documents that satisfy the schema. ERR_INVALID: not a schema, or nothing
 * satisfies it; ERR_UNSUPPORTED: names the keyword; ERR_RANGE: too large. `root` is borrowed for
 * the call. */
enum err schema_rule(struct expr_grammar *g, const struct json *root, uint32_t *rule,
                     struct errmsg *why) MUST_CHECK;

/* Any JSON object, as response_format json_object asks for. */
uint32_t json_object_rule(struct expr_grammar *g);

#endif
