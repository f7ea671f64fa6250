/* schema_check.c - values against schemas, and schemas against each other. */
#include "worker/grammar/schema_parts.h"

#include <string.h>

#include "worker/grammar/automaton.h"
#include "worker/grammar/decimal.h"

/* ---- equality, as JSON Schema has it: numbers by value, objects without order */

bool json_equal(const struct json *a, const struct json *b)
{
    struct decimal x, y;
    if (json_is_number(a) && json_is_number(b))
        return decimal_parse(a->raw, &x) && decimal_parse(b->raw, &y) ? decimal_compare(&x, &y) == 0
                                                                      : str_eq(a->raw, b->raw);
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return a->b == b->b;
    case JSON_STRING:
        return str_eq(a->s, b->s);
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    default:
        return false;
    }
    if (a->list.count != b->list.count)
        return false;
    const struct json *y1 = b->list.first;
    for (const struct json *m = a->list.first; m; m = m->next) {
        const struct json *other = y1;
        if (a->kind == JSON_OBJECT)
            for (other = b->list.first; other && !str_eq(other->key, m->key);)
                other = other->next;
        if (!other || !json_equal(m, other))
            return false;
        y1 = y1 ? y1->next : NULL;
    }
    return true;
}

static unsigned type_of(const struct json *v)
{
    struct decimal d;
    switch (v->kind) {
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_BOOL:
        return TYPE_BOOL;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_OBJECT:
        return TYPE_OBJECT;
    case JSON_INT:
        return TYPE_INTEGER;
    case JSON_FLOAT:
        return decimal_parse(v->raw, &d) && decimal_is_whole(&d) ? TYPE_INTEGER : TYPE_FRACTION;
    }
    return 0;
}

/* ---- values of enum and const */

/* The literal of a scalar against an expression, by an automaton of its own. */
static bool matches(struct schema_ctx *c, const struct json *v, const struct goal *p)
{
    struct expr_grammar g, *outer = c->g;
    struct json_rules rules = c->json;
    struct automaton *a = NULL;
    struct buf text;
    bool yes = false;
    expr_grammar_init(&g, 16 << 20);
    buf_init(&text);
    c->g = &g;
    json_rules_init(&c->json, &g);
    const struct expr *e = v->kind == JSON_STRING
                               ? string_expr(c, p)
                               : numeric_expr(c, p, TYPE_INTEGER | TYPE_FRACTION);
    c->g = outer;
    c->json = rules;
    if (!c->err && e && !g.failed) {
        uint32_t rule = expr_rule_declare(&g);
        struct errmsg why;
        expr_rule_define(&g, rule, e);
        json_put(&text, v);
        yes = !text.failed && automaton_open(&a, &g, rule, &why) == ERR_OK &&
              automaton_matches(a, text.p, text.n);
    }
    automaton_close(a);
    buf_fini(&text);
    expr_grammar_fini(&g);
    return yes;
}

static bool has_any(const struct json *s, const char *const *keys)
{
    for (; *keys; keys++)
        if (json_get(s, *keys))
            return true;
    return false;
}

bool scalar_satisfies(struct schema_ctx *c, const struct json *v, const struct goal *p)
{
    static const char *const of_strings[] = {"pattern", "format", "minLength", "maxLength", NULL};
    static const char *const of_numbers[] = {"minimum",          "maximum",    "exclusiveMinimum",
                                             "exclusiveMaximum", "multipleOf", NULL};
    static const char *const of_others[] = {
        "properties",        "required",      "additionalProperties",
        "patternProperties", "propertyNames", "minProperties",
        "maxProperties",     "items",         "prefixItems",
        "minItems",          "maxItems",      NULL};
    unsigned type = type_of(v);
    bool more = false;
    for (int i = 0; i < p->n; i++) {
        const struct json *s = p->s[i], *list = json_get(s, "enum"), *one = json_get(s, "const"),
                          *t = json_get(s, "type");
        bool found = !list;
        if (s->kind == JSON_BOOL && !s->b)
            return false;
        for (const struct json *m = list && list->kind == JSON_ARRAY ? list->list.first : NULL;
             m && !found; m = m->next)
            found = json_equal(m, v);
        if (!found || (one && !json_equal(one, v)))
            return false;
        struct goal alone = {.s = {s}, .n = 1};
        if (t && !(valid_types(c, &alone) & type))
            return false;
        if (type == TYPE_STRING)
            more |= has_any(s, of_strings);
        else if (type & (TYPE_INTEGER | TYPE_FRACTION))
            more |= has_any(s, of_numbers);
        else if (type & (TYPE_OBJECT | TYPE_ARRAY) && has_any(s, of_others)) {
            schema_fail(c, ERR_UNSUPPORTED, s,
                        "'enum' or 'const' with objects or arrays beside other keywords is not "
                        "supported");
            return false;
        }
    }
    return !c->err && (!more || matches(c, v, p));
}

bool plain_values(struct schema_ctx *c, const struct goal *p, const struct json ***values,
                  size_t *n)
{
    const struct json *from = NULL;
    bool one = false;
    *n = 0;
    *values = NULL;
    for (int i = 0; i < p->n; i++) {
        const struct json *k = json_get(p->s[i], "const"), *e = json_get(p->s[i], "enum");
        if (e && (e->kind != JSON_ARRAY || !e->list.first)) {
            schema_fail(c, ERR_INVALID, p->s[i], "'enum' must be a non-empty array");
            return false;
        }
        if (k) {
            from = k;
            one = true;
        } else if (e && !from) {
            from = e;
        }
    }
    if (!from || c->err)
        return false;
    size_t count = one ? 1 : from->list.count;
    *values = arena_array(&c->g->arena, count, sizeof(**values));
    if (!*values) {
        c->g->failed = true;
        return false;
    }
    for (const struct json *v = one ? from : from->list.first; v && !c->err;
         v = one ? NULL : v->next)
        if (scalar_satisfies(c, v, p))
            (*values)[(*n)++] = v;
    return true;
}

/* ---- schemas that exclude each other */

static bool values_exclude(struct schema_ctx *c, const struct json **v, size_t n,
                           const struct goal *other)
{
    for (size_t i = 0; i < n; i++)
        if (scalar_satisfies(c, v[i], other))
            return false;
    return true;
}

/* Members that tell objects apart: required on one side and impossible on the other, or required on
 * both with values that exclude each other. */
static bool objects_exclude(struct schema_ctx *c, const struct goal *a, const struct goal *b)
{
    for (int i = 0; i < a->n; i++) {
        const struct json *r = json_get(a->s[i], "required");
        for (const struct json *m = r && r->kind == JSON_ARRAY ? r->list.first : NULL; m;
             m = m->next) {
            struct goal x, y;
            if (m->kind != JSON_STRING)
                continue;
            enum presence in_a = property_goal(c, a, m->s, &x),
                          in_b = property_goal(c, b, m->s, &y);
            if (in_a != PROPERTY_REQUIRED)
                continue;
            if (in_b == PROPERTY_NEVER)
                return true;
            if (in_b == PROPERTY_REQUIRED && x.n && y.n && goals_exclude(c, &x, &y))
                return true;
        }
    }
    return false;
}

bool goals_exclude(struct schema_ctx *c, const struct goal *a, const struct goal *b)
{
    struct goal x, y;
    const struct json **va, **vb;
    size_t na, nb;
    if (c->err || c->depth >= 50)
        return false;
    c->depth++;
    bool yes = false;
    if (goal_plain(c, a, &x) && goal_plain(c, b, &y)) {
        unsigned both =
            (plain_types(c, &x) & valid_types(c, &y)) | (plain_types(c, &y) & valid_types(c, &x));
        bool la = plain_values(c, &x, &va, &na), lb = plain_values(c, &y, &vb, &nb);
        if (c->err)
            yes = false;
        else if (la)
            yes = values_exclude(c, va, na, &y);
        else if (lb)
            yes = values_exclude(c, vb, nb, &x);
        else if (!both)
            yes = true;
        else if (both == TYPE_OBJECT)
            yes = objects_exclude(c, &x, &y) || objects_exclude(c, &y, &x);
    }
    c->depth--;
    return yes;
}
