/* schema_object.c - plain goals of objects and arrays. */
#include "worker/grammar/schema_parts.h"

#include <stdlib.h>
#include <string.h>

#include "worker/grammar/automaton.h"
#include "worker/grammar/regex.h"

enum { PROPERTIES_MAX = 2000, CELLS_MAX = 20000 };

/* ---- types */

static unsigned type_bit(struct str name)
{
    static const struct {
        const char *name;
        unsigned bits;
    } table[] = {{"null", TYPE_NULL},
                 {"boolean", TYPE_BOOL},
                 {"object", TYPE_OBJECT},
                 {"array", TYPE_ARRAY},
                 {"string", TYPE_STRING},
                 {"integer", TYPE_INTEGER},
                 {"number", TYPE_INTEGER | TYPE_FRACTION}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (str_is(name, table[i].name))
            return table[i].bits;
    return 0;
}

/* The types that keywords speak of: a schema without "type" means those, if it has any. */
static unsigned implied_types(const struct json *s)
{
    static const struct {
        const char *key;
        unsigned bits;
    } table[] = {{"properties", TYPE_OBJECT},
                 {"required", TYPE_OBJECT},
                 {"additionalProperties", TYPE_OBJECT},
                 {"patternProperties", TYPE_OBJECT},
                 {"propertyNames", TYPE_OBJECT},
                 {"minProperties", TYPE_OBJECT},
                 {"maxProperties", TYPE_OBJECT},
                 {"items", TYPE_ARRAY},
                 {"prefixItems", TYPE_ARRAY},
                 {"minItems", TYPE_ARRAY},
                 {"maxItems", TYPE_ARRAY},
                 {"pattern", TYPE_STRING},
                 {"format", TYPE_STRING},
                 {"minLength", TYPE_STRING},
                 {"maxLength", TYPE_STRING},
                 {"minimum", TYPE_INTEGER | TYPE_FRACTION},
                 {"maximum", TYPE_INTEGER | TYPE_FRACTION},
                 {"exclusiveMinimum", TYPE_INTEGER | TYPE_FRACTION},
                 {"exclusiveMaximum", TYPE_INTEGER | TYPE_FRACTION},
                 {"multipleOf", TYPE_INTEGER | TYPE_FRACTION}};
    unsigned bits = 0;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (json_get(s, table[i].key))
            bits |= table[i].bits;
    return bits;
}

unsigned valid_types(struct schema_ctx *c, const struct goal *p)
{
    unsigned types = TYPE_ALL;
    for (int i = 0; i < p->n; i++) {
        const struct json *s = p->s[i], *t = json_get(s, "type");
        unsigned bits = 0;
        if (!t)
            continue;
        if (t->kind == JSON_STRING)
            bits = type_bit(t->s);
        for (const struct json *m = t->kind == JSON_ARRAY ? t->list.first : NULL; m; m = m->next) {
            unsigned bit = m->kind == JSON_STRING ? type_bit(m->s) : 0;
            bits = bit ? bits | bit : 0;
            if (!bit)
                break;
        }
        if (!bits) {
            schema_fail(c, ERR_INVALID, s, "'type' is not one of JSON Schema's seven types");
            return 0;
        }
        types &= bits;
    }
    return types;
}

unsigned plain_types(struct schema_ctx *c, const struct goal *p)
{
    unsigned implied = 0;
    bool stated = false;
    for (int i = 0; i < p->n; i++) {
        stated |= json_get(p->s[i], "type") != NULL;
        implied |= implied_types(p->s[i]);
    }
    return stated || !implied ? valid_types(c, p) : implied;
}

/* ---- properties */

bool property_required(const struct goal *p, struct str key)
{
    for (int i = 0; i < p->n; i++) {
        const struct json *r = json_get(p->s[i], "required");
        for (const struct json *m = r && r->kind == JSON_ARRAY ? r->list.first : NULL; m;
             m = m->next)
            if (m->kind == JSON_STRING && str_eq(m->s, key))
                return true;
    }
    return false;
}

static const struct json *member(const struct json *object, struct str key)
{
    for (const struct json *m = object && object->kind == JSON_OBJECT ? object->list.first : NULL;
         m; m = m->next)
        if (str_eq(m->key, key))
            return m;
    return NULL;
}

/* Whether a key matches a pattern, by an automaton of its own. */
static bool key_matches(struct schema_ctx *c, const struct json *at, struct str pattern,
                        struct str key)
{
    struct expr_grammar g;
    struct regex_result r;
    struct automaton *a = NULL;
    expr_grammar_init(&g, 8 << 20);
    enum err e = regex_expr(&g, pattern, TEXT_RAW, false, &r, c->why);
    bool yes = false;
    if (!e) {
        uint32_t rule = expr_rule_declare(&g);
        expr_rule_define(&g, rule, r.e);
        e = automaton_open(&a, &g, rule, c->why);
    }
    if (e)
        schema_fail(c, e, at, "'patternProperties' has an unusable pattern");
    else
        yes = automaton_matches(a, key.p, key.n);
    automaton_close(a);
    expr_grammar_fini(&g);
    return yes;
}

enum presence property_goal(struct schema_ctx *c, const struct goal *p, struct str key,
                            struct goal *out)
{
    bool declared = false, never = false;
    out->n = 0;
    for (int i = 0; i < p->n && !c->err; i++) {
        const struct json *s = p->s[i], *own = member(json_get(s, "properties"), key);
        const struct json *patterns = json_get(s, "patternProperties");
        bool seen = own != NULL;
        if (own && goal_add(c, out, own))
            declared = true;
        for (const struct json *m = patterns && patterns->kind == JSON_OBJECT ? patterns->list.first
                                                                              : NULL;
             m && !c->err; m = m->next)
            if (key_matches(c, s, m->key, key)) {
                seen = true;
                goal_add(c, out, m);
            }
        const struct json *rest = json_get(s, "additionalProperties");
        if (!seen && rest)
            goal_add(c, out, rest);
    }
    for (int i = 0; i < out->n; i++)
        never |= out->s[i]->kind == JSON_BOOL && !out->s[i]->b;
    if (never)
        return PROPERTY_NEVER;
    if (property_required(p, key))
        return PROPERTY_REQUIRED;
    return declared ? PROPERTY_OPTIONAL : PROPERTY_UNDECLARED;
}

struct object_plan {
    struct str *keys;
    const struct expr **members; /* "key": value */
    bool *required;
    size_t n;
    const struct expr *other; /* one undeclared member; NULL: there are none */
    uint32_t min, max;
};

static void plan_key(struct schema_ctx *c, const struct goal *p, struct str key,
                     struct object_plan *plan)
{
    struct goal value;
    for (size_t i = 0; i < plan->n; i++)
        if (str_eq(plan->keys[i], key))
            return;
    enum presence is = property_goal(c, p, key, &value);
    if (c->err)
        return;
    bool required = property_required(p, key);
    if (plan->n == PROPERTIES_MAX) {
        schema_fail(c, ERR_RANGE, p->s[0], "more than %d properties", PROPERTIES_MAX);
        return;
    }
    struct json name = {.kind = JSON_STRING, .s = key};
    const struct expr *parts[3] = {json_literal(c->g, &name), json_colon(c->g), expr_never(c->g)};
    if (is != PROPERTY_NEVER)
        parts[2] = goal_expr(c, &value);
    plan->keys[plan->n] = key;
    plan->required[plan->n] = required;
    plan->members[plan->n++] = expr_seq(c->g, parts, 3);
}

/* Members that no schema declares: where additionalProperties or a pattern asks for them, or where
 * nothing is declared at all. */
static void plan_other(struct schema_ctx *c, const struct goal *p, struct object_plan *plan)
{
    struct expr_grammar *g = c->g;
    struct goal value = {.n = 0}, name = {.n = 0};
    const struct json *pattern = NULL, *patterns_at = NULL;
    bool asked = plan->n == 0, closed = false;
    for (int i = 0; i < p->n; i++) {
        const struct json *s = p->s[i], *rest = json_get(s, "additionalProperties");
        const struct json *patterns = json_get(s, "patternProperties"),
                          *names = json_get(s, "propertyNames"),
                          *declared = json_get(s, "properties");
        if (declared)
            asked = asked && !declared->list.first && json_get(s, "additionalProperties");
        if (names)
            goal_add(c, &name, names);
        if (patterns && patterns->kind == JSON_OBJECT && patterns->list.first) {
            if (pattern || patterns->list.count > 1)
                schema_fail(c, ERR_UNSUPPORTED, s,
                            "'patternProperties' is supported with one pattern only");
            pattern = patterns->list.first;
            patterns_at = s;
        }
        if (rest && rest->kind == JSON_BOOL && !rest->b)
            closed = closed || !patterns;
        else if (rest && !patterns) {
            asked = true;
            goal_add(c, &value, rest);
        }
    }
    if (c->err || (closed || (!asked && !pattern)))
        return;
    const struct expr *key;
    if (pattern) {
        if (name.n || plan->n) {
            /* Declared names would have to be cut out of the pattern; names already are a goal. */
            for (size_t i = 0; i < plan->n; i++)
                if (key_matches(c, patterns_at, pattern->key, plan->keys[i]))
                    schema_fail(c, ERR_UNSUPPORTED, patterns_at,
                                "'patternProperties' matches a name that 'properties' declares");
            if (name.n)
                schema_fail(c, ERR_UNSUPPORTED, patterns_at,
                            "'propertyNames' beside 'patternProperties' is not supported");
        }
        struct regex_result r;
        enum err e = c->err ? c->err : regex_expr(g, pattern->key, TEXT_JSON, false, &r, c->why);
        if (e && !c->err) {
            struct errmsg why = *c->why;
            schema_fail(c, e, patterns_at, "'patternProperties': %.120s", why.text);
        }
        if (c->err)
            return;
        const struct expr *parts[3] = {expr_lit(g, "\""), r.e, expr_lit(g, "\"")};
        key = expr_seq(g, parts, 3);
        goal_add(c, &value, pattern);
    } else if (name.n) {
        for (size_t i = 0; i < plan->n; i++) {
            struct json v = {.kind = JSON_STRING, .s = plan->keys[i]};
            struct goal plain;
            if (!goal_plain(c, &name, &plain) || scalar_satisfies(c, &v, &plain))
                schema_fail(c, ERR_UNSUPPORTED, p->s[0],
                            "'propertyNames' that admits declared names is not supported");
        }
        struct goal plain;
        if (!goal_plain(c, &name, &plain)) {
            schema_fail(c, ERR_UNSUPPORTED, p->s[0],
                        "'propertyNames' with a choice is not supported");
            return;
        }
        const struct json **values;
        size_t n;
        if (plain_values(c, &plain, &values, &n)) {
            struct expr_list l = {0};
            for (size_t i = 0; i < n; i++)
                if (values[i]->kind == JSON_STRING)
                    expr_push(g, &l, json_literal(g, values[i]));
            key = expr_alt(g, l.items, l.n);
        } else {
            key = string_expr(c, &plain);
        }
    } else {
        key = plan->n ? json_string_except(g, plan->keys, plan->n) : json_any_string(&c->json);
    }
    const struct expr *parts[3] = {key, json_colon(g), goal_expr(c, &value)};
    if (!c->err)
        plan->other = expr_seq(g, parts, 3);
}

/* The undeclared members that may follow when `n` members are written. */
static const struct expr *others_expr(struct expr_grammar *g, const struct object_plan *plan,
                                      uint32_t n)
{
    uint32_t least = n < plan->min ? plan->min - n : 0;
    uint32_t most = plan->max == EXPR_UNBOUNDED ? plan->max : plan->max - n;
    if (!plan->other || most == 0)
        return least ? expr_never(g) : expr_empty(g);
    if (least > 1) /* the same name twice would count once */
        return expr_never(g);
    const struct expr *more = expr_seq2(g, json_comma(g), plan->other);
    if (n)
        return expr_repeat(g, more, least, most);
    const struct expr *some = expr_seq2(
        g, plan->other, expr_repeat(g, more, 0, most == EXPR_UNBOUNDED ? most : most - 1));
    return least ? some : expr_optional(g, some);
}

/* What may follow member i when `count` are written: a rule per (i, count). */
static const struct expr *object_tail(struct schema_ctx *c, const struct object_plan *plan)
{
    struct expr_grammar *g = c->g;
    uint32_t top = plan->min > 1 ? plan->min : 1; /* counts above this are all alike */
    if (plan->max != EXPR_UNBOUNDED)
        top = plan->max + 1 > top ? plan->max + 1 : top;
    if (top > plan->n + 1 && !plan->other)
        top = (uint32_t)plan->n + 1;
    if ((plan->n + 1) * (size_t)(top + 1) > CELLS_MAX)
        return schema_fail(c, ERR_RANGE, NULL, "'minProperties' or 'maxProperties' is too large");
    uint32_t *row = arena_array(&g->arena, top + 1, sizeof(*row));
    uint32_t *below = arena_array(&g->arena, top + 1, sizeof(*below));
    if (!row || !below) {
        g->failed = true;
        return NULL;
    }
    for (size_t i = plan->n + 1; i-- > 0 && !g->failed;) {
        for (uint32_t n = 0; n <= top; n++) {
            const struct expr *comma = n ? json_comma(g) : expr_empty(g), *e;
            row[n] = expr_rule_declare(g);
            if (n > plan->max) {
                e = expr_never(g);
            } else if (i == plan->n) {
                e = others_expr(g, plan, n);
            } else {
                const struct expr *parts[3] = {comma, plan->members[i],
                                               expr_rule(g, below[n < top ? n + 1 : n])};
                e = expr_seq(g, parts, 3);
                if (!plan->required[i])
                    e = expr_alt2(g, e, expr_rule(g, below[n]));
            }
            expr_rule_define(g, row[n], e);
        }
        uint32_t *swap = row;
        row = below;
        below = swap;
    }
    return g->failed ? NULL : expr_rule(g, below[0]);
}

const struct expr *object_expr(struct schema_ctx *c, const struct goal *p)
{
    struct object_plan plan = {.max = EXPR_UNBOUNDED};
    struct arena *a = &c->g->arena;
    size_t cap = 1;
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < 2; k++) {
            const struct json *v = json_get(p->s[i], k ? "required" : "properties");
            cap += v && (v->kind == JSON_OBJECT || v->kind == JSON_ARRAY) ? v->list.count : 0;
        }
    plan.keys = arena_array(a, cap, sizeof(*plan.keys));
    plan.members = arena_array(a, cap, sizeof(*plan.members));
    plan.required = arena_array(a, cap, sizeof(*plan.required));
    if (!plan.keys || !plan.members || !plan.required) {
        c->g->failed = true;
        return NULL;
    }
    for (int i = 0; i < p->n && !c->err; i++) {
        const struct json *s = p->s[i], *props = json_get(s, "properties"),
                          *required = json_get(s, "required");
        uint32_t n;
        if ((props && props->kind != JSON_OBJECT) || (required && required->kind != JSON_ARRAY))
            return schema_fail(c, ERR_INVALID, s,
                               "'properties' must be an object and 'required' an array");
        for (const struct json *m = props ? props->list.first : NULL; m; m = m->next)
            plan_key(c, p, m->key, &plan);
        if (schema_count(c, s, "minProperties", &n) && n > plan.min)
            plan.min = n;
        if (schema_count(c, s, "maxProperties", &n) && n < plan.max)
            plan.max = n;
    }
    for (int i = 0; i < p->n && !c->err; i++) { /* required, but declared nowhere */
        const struct json *required = json_get(p->s[i], "required");
        for (const struct json *m = required ? required->list.first : NULL; m && !c->err;
             m = m->next) {
            if (m->kind != JSON_STRING)
                return schema_fail(c, ERR_INVALID, p->s[i], "'required' must hold strings");
            plan_key(c, p, m->s, &plan);
        }
    }
    if (!c->err)
        plan_other(c, p, &plan);
    if (!c->err && plan.min > plan.n + 1 && plan.other)
        return schema_fail(c, ERR_UNSUPPORTED, p->s[0],
                           "'minProperties' above 1 is supported for declared properties only");
    const struct expr *tail = c->err ? NULL : object_tail(c, &plan);
    return c->err ? NULL : json_brackets(c->g, '{', tail, '}');
}

/* ---- arrays */

static bool item_goal(struct schema_ctx *c, const struct goal *p, uint32_t at, struct goal *out)
{
    out->n = 0;
    for (int i = 0; i < p->n && !c->err; i++) {
        const struct json *s = p->s[i], *prefix = json_get(s, "prefixItems"),
                          *items = json_get(s, "items");
        const struct json *rest = items;
        if (items && items->kind == JSON_ARRAY) { /* draft 7's spelling */
            prefix = items;
            rest = json_get(s, "additionalItems");
        }
        if (prefix && prefix->kind != JSON_ARRAY) {
            schema_fail(c, ERR_INVALID, s, "'prefixItems' must be an array");
            return false;
        }
        const struct json *own = prefix ? json_at(prefix, at) : NULL;
        if (own || rest)
            goal_add(c, out, own ? own : rest);
    }
    return !c->err;
}

const struct expr *array_expr(struct schema_ctx *c, const struct goal *p)
{
    struct expr_grammar *g = c->g;
    uint32_t min = 0, max = EXPR_UNBOUNDED, n_prefix = 0, n;
    bool typed = false;
    for (int i = 0; i < p->n && !c->err; i++) {
        const struct json *s = p->s[i], *prefix = json_get(s, "prefixItems"),
                          *items = json_get(s, "items");
        if (items && items->kind == JSON_ARRAY)
            prefix = items;
        else if (items)
            typed = true;
        if (prefix && prefix->kind == JSON_ARRAY && prefix->list.count > n_prefix)
            n_prefix = (uint32_t)prefix->list.count;
        if (schema_count(c, s, "minItems", &n) && n > min)
            min = n;
        if (schema_count(c, s, "maxItems", &n) && n < max)
            max = n;
    }
    if (n_prefix > 1000)
        return schema_fail(c, ERR_RANGE, p->s[0], "more than 1000 'prefixItems'");
    if (n_prefix && !typed && min <= n_prefix && max > n_prefix)
        max = n_prefix; /* a tuple is not continued unless "items" says with what */
    if (c->err || min > max)
        return c->err ? NULL : expr_never(g);
    /* From the end: the rest of one kind, then the items that have a schema each. */
    struct goal item;
    const struct expr *tail = expr_empty(g);
    if (max > n_prefix && item_goal(c, p, n_prefix, &item)) {
        const struct expr *one = goal_expr(c, &item);
        uint32_t least = min > n_prefix ? min - n_prefix : 0;
        uint32_t most = max == EXPR_UNBOUNDED ? max : max - n_prefix;
        bool never = false;
        for (int i = 0; i < item.n; i++)
            never |= item.s[i]->kind == JSON_BOOL && !item.s[i]->b;
        if (never) {
            tail = least ? expr_never(g) : tail;
        } else if (n_prefix) {
            tail = expr_repeat(g, expr_seq2(g, json_comma(g), one), least, most);
        } else {
            tail = expr_seq2(g, one,
                             expr_repeat(g, expr_seq2(g, json_comma(g), one), least ? least - 1 : 0,
                                         most == EXPR_UNBOUNDED ? most : most - 1));
            tail = least ? tail : expr_optional(g, tail);
        }
    }
    for (uint32_t i = n_prefix; i-- > 0 && !c->err;) {
        if (i >= max) {
            tail = expr_empty(g);
            continue;
        }
        if (!item_goal(c, p, i, &item))
            return NULL;
        const struct expr *parts[3] = {i ? json_comma(g) : expr_empty(g), goal_expr(c, &item),
                                       tail};
        tail = expr_seq(g, parts, 3);
        if (i >= min)
            tail = expr_optional(g, tail);
    }
    return c->err ? NULL : json_brackets(g, '[', tail, ']');
}
