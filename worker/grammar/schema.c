/* schema.c - goals: sets of schemas to rules. */
#include "worker/grammar/schema_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 100 };

struct named_goal {
    struct goal goal; /* sorted by address */
    uint32_t rule;
    struct named_goal *next;
};

/* ---- errors, with the place */

/* The JSON pointer of `at` below `v`, appended to `path`. */
static bool find_path(const struct json *v, const struct json *at, struct buf *path)
{
    size_t i = 0, n = path->n;
    if (v == at)
        return true;
    if (v->kind != JSON_OBJECT && v->kind != JSON_ARRAY)
        return false;
    for (const struct json *c = v->list.first; c; c = c->next, i++) {
        buf_putc(path, '/');
        if (v->kind == JSON_OBJECT)
            buf_put(path, c->key.p, c->key.n);
        else
            buf_put_u64(path, i);
        if (find_path(c, at, path))
            return true;
        path->n = n;
    }
    return false;
}

const struct expr *schema_fail(struct schema_ctx *c, enum err e, const struct json *at,
                               const char *fmt, ...)
{
    if (c->err)
        return NULL;
    char what[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    struct buf path;
    buf_init(&path);
    if (at)
        find_path(c->root, at, &path);
    c->err = err_set(c->why, e, "%s (at #%.*s)", what, (int)(path.n > 80 ? 80 : path.n),
                     path.p ? path.p : "");
    buf_fini(&path);
    return NULL;
}

bool schema_count(struct schema_ctx *c, const struct json *s, const char *key, uint32_t *out)
{
    const struct json *v = json_get(s, key);
    if (!v)
        return false;
    double d = json_is_number(v) ? json_f64(v) : -1;
    if (d > 100000) {
        schema_fail(c, ERR_RANGE, s, "'%s' is above 100000", key);
        return false;
    }
    if (d < 0 || d != (double)(uint32_t)d) {
        schema_fail(c, ERR_INVALID, s, "'%s' must be a whole number, 0 or more", key);
        return false;
    }
    *out = (uint32_t)d;
    return true;
}

/* ---- keywords */

static void check_keywords(struct schema_ctx *c, const struct json *s)
{
    static const char *const known[] = {
        "type", "enum", "const", "$ref", "$defs", "definitions", "allOf", "anyOf", "oneOf",
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
        "minProperties", "maxProperties", "items", "prefixItems", "additionalItems", "minItems",
        "maxItems", "uniqueItems", "pattern", "format", "minLength", "maxLength", "minimum",
        "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        /* annotations, and OpenAPI's */
        "title", "description", "default", "examples", "example", "$schema", "$id", "id",
        "$comment", "$anchor", "readOnly", "writeOnly", "deprecated", "contentEncoding",
        "contentMediaType", "nullable", "discriminator", "strict", NULL};
    for (const struct json *k = s->list.first; k; k = k->next) {
        int i = 0;
        while (known[i] && !str_is(k->key, known[i]))
            i++;
        if (known[i] || str_starts(k->key, STR("x-")))
            continue;
        schema_fail(c, ERR_UNSUPPORTED, s, "the keyword '%.*s' is not supported",
                    (int)(k->key.n > 60 ? 60 : k->key.n), k->key.p);
        return;
    }
    const struct json *unique = json_get(s, "uniqueItems");
    uint32_t max;
    if (unique && !(unique->kind == JSON_BOOL && !unique->b) &&
        !(schema_count(c, s, "maxItems", &max) && max <= 1))
        schema_fail(c, ERR_UNSUPPORTED, s, "the keyword 'uniqueItems' is not supported");
}

/* ---- $ref */

static bool unescape_token(struct buf *out, struct str t)
{
    for (size_t i = 0; i < t.n; i++) {
        char ch = t.p[i];
        if (ch == '~' && i + 1 < t.n && (t.p[i + 1] == '0' || t.p[i + 1] == '1')) {
            ch = t.p[++i] == '0' ? '~' : '/';
        } else if (ch == '%' && i + 2 < t.n) {
            char hex[3] = {t.p[i + 1], t.p[i + 2], 0}, *end;
            ch = (char)strtoul(hex, &end, 16);
            if (*end)
                return false;
            i += 2;
        }
        buf_putc(out, ch);
    }
    return !out->failed;
}

static const struct json *resolve(struct schema_ctx *c, const struct json *s,
                                  const struct json *ref)
{
    const struct json *at = c->root;
    if (ref->kind != JSON_STRING || ref->s.n == 0 || ref->s.p[0] != '#' ||
        (ref->s.n > 1 && ref->s.p[1] != '/')) {
        schema_fail(c, ERR_UNSUPPORTED, s,
                    "'$ref' must be \"#\" or start with \"#/\": only this document is read");
        return NULL;
    }
    struct buf token;
    buf_init(&token);
    for (size_t i = 1; i < ref->s.n && at;) {
        size_t from = ++i;
        while (i < ref->s.n && ref->s.p[i] != '/')
            i++;
        buf_clear(&token);
        const struct json *next = NULL;
        if (unescape_token(&token, (struct str){ref->s.p + from, i - from})) {
            struct str key = {token.p ? token.p : "", token.n};
            uint64_t index;
            if (at->kind == JSON_ARRAY && str_to_u64(key, 1 << 20, &index))
                next = json_at(at, index);
            for (const struct json *m = at->kind == JSON_OBJECT ? at->list.first : NULL; m;
                 m = m->next)
                if (str_eq(m->key, key))
                    next = m;
        }
        at = next;
    }
    buf_fini(&token);
    if (!at)
        schema_fail(c, ERR_INVALID, s, "'$ref' points to nothing: %.*s",
                    (int)(ref->s.n > 80 ? 80 : ref->s.n), ref->s.p);
    return at;
}

/* ---- goals */

bool goal_add(struct schema_ctx *c, struct goal *goal, const struct json *s)
{
    for (int i = 0; i < goal->n; i++)
        if (goal->s[i] == s)
            return true;
    if (s->kind != JSON_OBJECT && s->kind != JSON_BOOL) {
        schema_fail(c, ERR_INVALID, s, "a schema must be an object or a boolean");
        return false;
    }
    if (goal->n == GOAL_MAX) {
        schema_fail(c, ERR_RANGE, s, "more than %d schemas apply to one value", GOAL_MAX);
        return false;
    }
    goal->s[goal->n++] = s;
    return true;
}

static const struct json *list_keyword(struct schema_ctx *c, const struct json *s, const char *key)
{
    const struct json *l = json_get(s, key);
    if (l && (l->kind != JSON_ARRAY || !l->list.first)) {
        schema_fail(c, ERR_INVALID, s, "'%s' must be a non-empty array", key);
        return NULL;
    }
    return l;
}

/* Adds a schema, and what its $ref and allOf add, in the order of the text. Splits are left in
 * place. */
static bool add_all(struct schema_ctx *c, struct goal *out, const struct json *s)
{
    int n = out->n;
    if (!goal_add(c, out, s))
        return false;
    if (out->n == n || s->kind != JSON_OBJECT)
        return true;
    check_keywords(c, s);
    const struct json *ref = json_get(s, "$ref"), *all = list_keyword(c, s, "allOf");
    const struct json *target = ref && !c->err ? resolve(c, s, ref) : NULL;
    if (target && !add_all(c, out, target))
        return false;
    for (const struct json *m = all ? all->list.first : NULL; m; m = m->next)
        if (!add_all(c, out, m))
            return false;
    return !c->err;
}

static bool flatten(struct schema_ctx *c, struct goal *goal)
{
    struct goal in = *goal;
    goal->n = 0;
    for (int i = 0; i < in.n; i++)
        if (!add_all(c, goal, in.s[i]))
            return false;
    return !c->err;
}

struct split { /* an anyOf or a oneOf, and the schema it stands in */
    const struct json *list, *schema;
    bool one;
};

/* The splits of a flattened goal from number `from` on. */
static int splits_of(struct schema_ctx *c, const struct goal *goal, struct split *out, int max)
{
    int n = 0;
    for (int i = 0; i < goal->n; i++)
        for (int one = 0; one < 2; one++) {
            const struct json *s = goal->s[i];
            const struct json *l =
                s->kind == JSON_OBJECT ? list_keyword(c, s, one ? "oneOf" : "anyOf") : NULL;
            if (!l)
                continue;
            if (n == max) {
                schema_fail(c, ERR_RANGE, s, "too many 'anyOf' and 'oneOf' on one value");
                return 0;
            }
            out[n++] = (struct split){l, s, one};
        }
    return n;
}

bool goal_plain(struct schema_ctx *c, const struct goal *in, struct goal *out)
{
    struct split split;
    *out = *in;
    if (!flatten(c, out))
        return false;
    return splits_of(c, out, &split, 1) == 0 && !c->err;
}

static bool one_by_address(const void *a, const void *b)
{
    return (uintptr_t)a > (uintptr_t)b;
}

static void goal_sort(struct goal *goal)
{
    for (int i = 1; i < goal->n; i++)
        for (int k = i; k > 0 && one_by_address(goal->s[k - 1], goal->s[k]); k--) {
            const struct json *t = goal->s[k];
            goal->s[k] = goal->s[k - 1];
            goal->s[k - 1] = t;
        }
}

/* ---- a plain goal */

static const struct expr *plain_expr(struct schema_ctx *c, const struct goal *p)
{
    const struct json **values;
    size_t n;
    struct expr_list l = {0};
    for (int i = 0; i < p->n; i++)
        if (p->s[i]->kind == JSON_BOOL && !p->s[i]->b)
            return expr_never(c->g);
    unsigned types = plain_types(c, p);
    if (c->err)
        return NULL;
    if (plain_values(c, p, &values, &n)) {
        for (size_t i = 0; i < n; i++)
            expr_push(c->g, &l, json_literal(c->g, values[i]));
        return c->err ? NULL : expr_alt(c->g, l.items, l.n);
    }
    if (types & TYPE_STRING)
        expr_push(c->g, &l, string_expr(c, p));
    if (types & (TYPE_INTEGER | TYPE_FRACTION))
        expr_push(c->g, &l, numeric_expr(c, p, types));
    if (types & TYPE_BOOL)
        expr_push(c->g, &l, expr_alt2(c->g, expr_lit(c->g, "true"), expr_lit(c->g, "false")));
    if (types & TYPE_NULL)
        expr_push(c->g, &l, expr_lit(c->g, "null"));
    if (types & TYPE_OBJECT)
        expr_push(c->g, &l, object_expr(c, p));
    if (types & TYPE_ARRAY)
        expr_push(c->g, &l, array_expr(c, p));
    return c->err ? NULL : expr_alt(c->g, l.items, l.n);
}

/* ---- splitting */

static const struct expr *split_expr(struct schema_ctx *c, const struct goal *goal,
                                     const struct split *done, int n_done);

/* Branches of oneOf must exclude each other beside the rest of the goal; each is tried as it
 * stands alone, which is stricter. */
static bool check_one_of(struct schema_ctx *c, const struct split *s)
{
    size_t i = 0;
    for (const struct json *a = s->list->list.first; a && !c->err; a = a->next, i++) {
        size_t k = i + 1;
        for (const struct json *b = a->next; b; b = b->next, k++) {
            struct goal x = {.s = {a}, .n = 1}, y = {.s = {b}, .n = 1};
            if (goals_exclude(c, &x, &y))
                continue;
            schema_fail(c, ERR_UNSUPPORTED, s->schema,
                        "'oneOf': one value may satisfy both branch %zu and branch %zu; use "
                        "'anyOf', or tell them apart by a 'const' property",
                        i, k);
            return false;
        }
    }
    return !c->err;
}

static const struct expr *split_expr(struct schema_ctx *c, const struct goal *goal,
                                     const struct split *done, int n_done)
{
    enum { SPLITS_MAX = 16 };
    struct split all[SPLITS_MAX], taken[SPLITS_MAX + 1];
    int n = splits_of(c, goal, all, SPLITS_MAX), next = -1;
    for (int i = 0; i < n && next < 0; i++) {
        bool is_done = false;
        for (int k = 0; k < n_done; k++)
            is_done |= all[i].list == done[k].list;
        if (!is_done)
            next = i;
    }
    if (c->err)
        return NULL;
    if (next < 0)
        return plain_expr(c, goal);
    if (n_done == SPLITS_MAX)
        return schema_fail(c, ERR_RANGE, all[next].schema, "too many nested 'anyOf' and 'oneOf'");
    if (all[next].one && !check_one_of(c, &all[next]))
        return NULL;
    if (n_done)
        memcpy(taken, done, (size_t)n_done * sizeof(*done));
    taken[n_done] = all[next];
    struct expr_list l = {0};
    for (const struct json *b = all[next].list->list.first; b && !c->err; b = b->next) {
        struct goal with = *goal;
        if (++c->n_branches > BRANCHES_MAX)
            return schema_fail(c, ERR_RANGE, all[next].schema, "more than %d branches in all",
                               BRANCHES_MAX);
        /* A branch alone is a goal of its own, and found again; beside others it is not. */
        if (goal->n == 1 && n_done == 0 && goal->s[0]->list.count == 1) {
            struct goal alone = {.n = 0};
            if (goal_add(c, &alone, b))
                expr_push(c->g, &l, goal_expr(c, &alone));
        } else if (add_all(c, &with, b)) {
            expr_push(c->g, &l, split_expr(c, &with, taken, n_done + 1));
        }
    }
    return c->err ? NULL : expr_alt(c->g, l.items, l.n);
}

const struct expr *goal_expr(struct schema_ctx *c, const struct goal *goal)
{
    struct goal key = {.n = 0};
    if (c->err || c->g->failed)
        return NULL;
    for (int i = 0; i < goal->n; i++) { /* true and {} say nothing */
        const struct json *s = goal->s[i];
        if (s->kind == JSON_BOOL ? !s->b : s->list.first != NULL)
            key.s[key.n++] = s;
    }
    if (key.n == 0)
        return json_any(&c->json);
    goal_sort(&key);
    for (const struct named_goal *k = c->goals; k; k = k->next)
        if (k->goal.n == key.n && memcmp(k->goal.s, key.s, (size_t)key.n * sizeof(*key.s)) == 0)
            return expr_rule(c->g, k->rule);
    if (c->n_goals == GOALS_MAX || c->depth == DEPTH_MAX)
        return schema_fail(c, ERR_RANGE, goal->s[0], "the schema is too large or too deep");
    struct named_goal *name = arena_zalloc(&c->g->arena, sizeof(*name));
    if (!name) {
        c->g->failed = true;
        return NULL;
    }
    name->goal = key;
    name->rule = expr_rule_declare(c->g);
    name->next = c->goals;
    c->goals = name;
    c->n_goals++;
    c->depth++;
    struct goal flat = key;
    const struct expr *e = flatten(c, &flat) ? split_expr(c, &flat, NULL, 0) : NULL;
    c->depth--;
    if (c->err)
        return NULL;
    expr_rule_define(c->g, name->rule, e);
    return expr_rule(c->g, name->rule);
}

enum err schema_rule(struct expr_grammar *g, const struct json *root, uint32_t *rule,
                     struct errmsg *why)
{
    struct schema_ctx c = {.g = g, .root = root, .why = why};
    struct goal goal = {0};
    json_rules_init(&c.json, g);
    if (goal_add(&c, &goal, root)) {
        const struct expr *e = goal_expr(&c, &goal);
        *rule = expr_rule_declare(g);
        if (!c.err)
            expr_rule_define(g, *rule, e);
    }
    if (!c.err && g->failed)
        return err_set(why, ERR_RANGE, "the schema is too large");
    return c.err;
}

uint32_t json_object_rule(struct expr_grammar *g)
{
    struct json_rules r;
    json_rules_init(&r, g);
    json_any_object(&r);
    return r.object;
}
