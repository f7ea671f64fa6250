/* json_text.c - the grammar of JSON itself. */
#include "worker/grammar/json_text.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/utf8.h"
#include "worker/grammar/decimal.h"

enum { INDENT_MAX = 32 };

void json_rules_init(struct json_rules *r, struct expr_grammar *g)
{
    *r = (struct json_rules){g, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
}

static const struct expr *set_of(struct expr_grammar *g, const char *chars)
{
    const struct expr *e = expr_never(g);
    for (; *chars; chars++)
        e = expr_alt2(g, e, expr_byte_range(g, (uint8_t)*chars, (uint8_t)*chars));
    return e;
}

const struct expr *json_space(struct expr_grammar *g)
{
    const struct expr *line =
        expr_seq2(g, expr_lit(g, "\n"), expr_repeat(g, set_of(g, " \t"), 0, INDENT_MAX));
    return expr_optional(g, expr_alt2(g, expr_lit(g, " "), line));
}

const struct expr *json_comma(struct expr_grammar *g)
{
    return expr_seq2(g, expr_lit(g, ","), json_space(g));
}

const struct expr *json_colon(struct expr_grammar *g)
{
    return expr_seq2(g, expr_lit(g, ":"), expr_optional(g, expr_lit(g, " ")));
}

const struct expr *json_brackets(struct expr_grammar *g, char open, const struct expr *items,
                                 char close)
{
    const struct expr *parts[5] = {expr_literal(g, (struct str){&open, 1}), json_space(g), items,
                                   json_space(g), expr_literal(g, (struct str){&close, 1})};
    /* Nothing between them: one run of white space, not two. */
    if (items && items->kind == EXPR_EMPTY)
        parts[3] = items;
    return expr_seq(g, parts, 5);
}

/* ---- strings */

static const struct expr *hex4(struct expr_grammar *g, const char *first, const char *second)
{
    static const char all[] = "0123456789abcdefABCDEF";
    const struct expr *parts[4] = {set_of(g, first), set_of(g, second ? second : all),
                                   set_of(g, all), set_of(g, all)};
    return expr_seq(g, parts, 4);
}

const struct expr *json_char(struct expr_grammar *g)
{
    struct charset plain = {0};
    charset_add(g, &plain, 0x20, CP_MAX);
    charset_normalize(&plain);
    const struct expr *u = expr_lit(g, "\\u");
    const struct expr *pair[4] = {u, hex4(g, "dD", "89abAB"), u, hex4(g, "dD", "cdefCDEF")};
    const struct expr *unit =
        expr_alt2(g, hex4(g, "0123456789abcefABCEF", NULL), hex4(g, "dD", "01234567"));
    const struct expr *l[4] = {expr_chars(g, &plain, TEXT_JSON),
                               expr_seq2(g, expr_lit(g, "\\"), set_of(g, "/bfnrt")),
                               expr_seq2(g, u, unit), expr_seq(g, pair, 4)};
    return expr_alt(g, l, 4);
}

static const struct expr *quoted(struct expr_grammar *g, const struct expr *inside)
{
    const struct expr *parts[3] = {expr_lit(g, "\""), inside, expr_lit(g, "\"")};
    return expr_seq(g, parts, 3);
}

const struct expr *json_any_string(struct json_rules *r)
{
    if (r->string == UINT32_MAX) {
        r->string = expr_rule_declare(r->g);
        expr_rule_define(r->g, r->string, quoted(r->g, expr_star(r->g, json_char(r->g))));
    }
    return expr_rule(r->g, r->string);
}

struct key {
    const uint32_t *cp;
    size_t n;
};

static int by_code_points(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    for (size_t i = 0; i < x->n && i < y->n; i++)
        if (x->cp[i] != y->cp[i])
            return x->cp[i] < y->cp[i] ? -1 : 1;
    return (x->n > y->n) - (x->n < y->n);
}

/* The rest of a string, closing quote included, that started like these sorted keys up to `at`. */
static const struct expr *except_from(struct expr_grammar *g, const struct key *keys, size_t n,
                                      size_t at, const struct expr *free_rest)
{
    struct expr_list l = {0};
    struct charset other = {0};
    bool is_key = n && keys[0].n == at;
    if (!is_key)
        expr_push(g, &l, expr_lit(g, "\""));
    for (size_t i = is_key; i < n && !g->failed;) {
        uint32_t cp = keys[i].cp[at];
        size_t end = i;
        struct charset one = {0};
        while (end < n && keys[end].cp[at] == cp)
            end++;
        charset_add(g, &one, cp, cp);
        charset_add(g, &other, cp, cp);
        expr_push(g, &l,
                  expr_seq2(g, expr_chars(g, &one, TEXT_JSON),
                            except_from(g, keys + i, end - i, at + 1, free_rest)));
        i = end;
    }
    charset_normalize(&other);
    charset_invert(g, &other);
    expr_push(g, &l, expr_seq2(g, expr_chars(g, &other, TEXT_JSON), free_rest));
    return expr_alt(g, l.items, l.n);
}

const struct expr *json_string_except(struct expr_grammar *g, const struct str *keys, size_t n)
{
    struct charset all = {0};
    size_t kept = 0;
    struct key *k = arena_array(&g->arena, n + 1, sizeof(*k));
    charset_add(g, &all, 0, CP_MAX);
    if (!k) {
        g->failed = true;
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t *cp = arena_array(&g->arena, keys[i].n + 1, sizeof(*cp));
        if (!cp) {
            g->failed = true;
            return NULL;
        }
        k[i].cp = cp;
        for (size_t at = 0; at < keys[i].n;) {
            int used = utf8_decode(keys[i].p + at, keys[i].n - at, &cp[k[i].n]);
            if (used == 0)
                break; /* the JSON reader lets no such text through */
            at += (size_t)used;
            k[i].n++;
        }
    }
    qsort(k, n, sizeof(*k), by_code_points);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_code_points(&k[i], &k[kept - 1]) != 0)
            k[kept++] = k[i];
    /* The free rest is a rule: it is used once per character of every key. */
    uint32_t rest = expr_rule_declare(g);
    expr_rule_define(g, rest,
                     expr_seq2(g, expr_star(g, expr_chars(g, &all, TEXT_JSON)), expr_lit(g, "\"")));
    return expr_seq2(g, expr_lit(g, "\""), except_from(g, k, kept, 0, expr_rule(g, rest)));
}

/* ---- values */

const struct expr *json_any_array(struct json_rules *r)
{
    struct expr_grammar *g = r->g;
    if (r->array == UINT32_MAX) {
        r->array = expr_rule_declare(g);
        const struct expr *v = json_any(r);
        const struct expr *items = expr_seq2(g, v, expr_star(g, expr_seq2(g, json_comma(g), v)));
        expr_rule_define(g, r->array, json_brackets(g, '[', expr_optional(g, items), ']'));
    }
    return expr_rule(g, r->array);
}

const struct expr *json_any_object(struct json_rules *r)
{
    struct expr_grammar *g = r->g;
    if (r->object == UINT32_MAX) {
        r->object = expr_rule_declare(g);
        const struct expr *parts[3] = {json_any_string(r), json_colon(g), json_any(r)};
        const struct expr *member = expr_seq(g, parts, 3);
        const struct expr *items =
            expr_seq2(g, member, expr_star(g, expr_seq2(g, json_comma(g), member)));
        expr_rule_define(g, r->object, json_brackets(g, '{', expr_optional(g, items), '}'));
    }
    return expr_rule(g, r->object);
}

const struct expr *json_any(struct json_rules *r)
{
    struct expr_grammar *g = r->g;
    static const struct number_range all = {0};
    if (r->value == UINT32_MAX) {
        r->value = expr_rule_declare(g);
        const struct expr *l[7] = {json_any_string(r),  number_expr(g, &all, false, -1),
                                   expr_lit(g, "true"), expr_lit(g, "false"),
                                   expr_lit(g, "null"), json_any_object(r),
                                   json_any_array(r)};
        expr_rule_define(g, r->value, expr_alt(g, l, 7));
    }
    return expr_rule(g, r->value);
}

/* ---- literals */

void json_put(struct buf *b, const struct json *v)
{
    bool object = v->kind == JSON_OBJECT;
    if (v->kind == JSON_STRING) {
        json_put_str(b, v->s.p, v->s.n);
        return;
    }
    if (!object && v->kind != JSON_ARRAY) {
        buf_put(b, v->raw.p, v->raw.n);
        return;
    }
    buf_putc(b, object ? '{' : '[');
    for (const struct json *c = v->list.first; c; c = c->next) {
        if (c != v->list.first)
            buf_putc(b, ',');
        if (object) {
            json_put_str(b, c->key.p, c->key.n);
            buf_putc(b, ':');
        }
        json_put(b, c);
    }
    buf_putc(b, object ? '}' : ']');
}

const struct expr *json_literal(struct expr_grammar *g, const struct json *v)
{
    struct buf b;
    buf_init(&b);
    json_put(&b, v);
    if (b.failed)
        g->failed = true;
    const struct expr *e = b.failed ? NULL : expr_literal(g, (struct str){b.p, b.n});
    buf_fini(&b);
    return e;
}
