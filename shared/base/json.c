/* The reader: one loop over the text, an explicit stack of open lists, no recursion. */
#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include <math.h>
#include <stdlib.h>

enum { DEFAULT_DEPTH = 128, FEW_KEYS = 8 };

/* An open array or object. Frames are kept when popped, so that depth costs memory only once. */
struct frame {
    struct json *list, *last;
    struct frame *up, *down;
};

struct reader {
    const char *text, *at, *end;
    struct arena *arena;
    struct errmsg *why;
    size_t nodes, max_nodes;
    int depth, max_depth;
};

static enum err fault(struct reader *r, const char *where, enum err e, const char *what)
{
    return err_set(r->why, e, "invalid JSON: %s at byte %zu", what, (size_t)(where - r->text));
}

static enum err no_memory(struct reader *r)
{
    return fault(r, r->at, ERR_NOMEM, "too large for its memory limit");
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

/* Four hexadecimal digits at `p`, or -1. */
static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* r->at stands on a backslash. Writes the character's bytes to *out and advances both. */
static enum err read_escape(struct reader *r, char **out)
{
    const char *start = r->at++;
    char c = r->at < r->end ? *r->at++ : '\0';
    switch (c) {
    case '"':
    case '\\':
    case '/':
        *(*out)++ = c;
        return ERR_OK;
    case 'b':
        *(*out)++ = '\b';
        return ERR_OK;
    case 'f':
        *(*out)++ = '\f';
        return ERR_OK;
    case 'n':
        *(*out)++ = '\n';
        return ERR_OK;
    case 'r':
        *(*out)++ = '\r';
        return ERR_OK;
    case 't':
        *(*out)++ = '\t';
        return ERR_OK;
    case 'u':
        break;
    default:
        return fault(r, start, ERR_INVALID, "unknown escape");
    }
    int unit = hex4(r->at, r->end);
    if (unit < 0)
        return fault(r, start, ERR_INVALID, "\\u without four hexadecimal digits");
    r->at += 4;
    uint32_t cp = (uint32_t)unit;
    if (cp >= 0xd800 && cp <= 0xdbff && r->end - r->at >= 2 && r->at[0] == '\\' &&
        r->at[1] == 'u') {
        int low = hex4(r->at + 2, r->end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            r->at += 6;
            cp = 0x10000 + ((cp - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        }
    }
    int len = utf8_encode(cp, *out); /* never longer than the escape was */
    if (len == 0)
        return fault(r, start, ERR_INVALID, "lone surrogate");
    *out += len;
    return ERR_OK;
}

/* r->at stands on the opening quote. *out borrows from the text where nothing was escaped. */
static enum err read_string(struct reader *r, struct str *out)
{
    const char *quote = r->at, *start = quote + 1, *p = start;
    bool escaped = false;
    for (; p < r->end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20)
            return fault(r, p, ERR_INVALID, "control character in a string");
        if (*p == '\\') {
            escaped = true;
            p++; /* whatever follows is no closing quote; the second pass judges it */
            if (p == r->end)
                break;
            if ((unsigned char)*p < 0x20)
                return fault(r, p, ERR_INVALID, "control character in a string");
        }
    }
    if (p >= r->end)
        return fault(r, quote, ERR_INVALID, "unterminated string");
    size_t n = (size_t)(p - start), valid = utf8_valid_prefix(start, n);
    if (valid != n)
        return fault(r, start + valid, ERR_INVALID, "invalid UTF-8");
    if (!escaped) {
        *out = (struct str){start, n};
        r->at = p + 1;
        return ERR_OK;
    }
    char *text = arena_alloc(r->arena, n), *w = text;
    if (!text)
        return no_memory(r);
    for (r->at = start; r->at < p;) {
        const char *slash = memchr(r->at, '\\', (size_t)(p - r->at));
        size_t run = (size_t)((slash ? slash : p) - r->at);
        memcpy(w, r->at, run);
        w += run;
        r->at += run;
        if (slash) {
            enum err e = read_escape(r, &w);
            if (e)
                return e;
        }
    }
    *out = (struct str){text, (size_t)(w - text)};
    r->at = p + 1;
    return ERR_OK;
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static enum err read_number(struct reader *r, struct json *v)
{
    const char *start = r->at, *p = start + (*start == '-'), *digits = p;
    bool integer = true;
    p = skip_digits(p, r->end);
    if (p == digits)
        return fault(r, start, ERR_INVALID, "number without digits");
    if (*digits == '0' && p - digits > 1)
        return fault(r, start, ERR_INVALID, "number with a leading zero");
    if (p < r->end && *p == '.') {
        const char *fraction = ++p;
        integer = false;
        p = skip_digits(p, r->end);
        if (p == fraction)
            return fault(r, start, ERR_INVALID, "number without digits after its point");
    }
    if (p < r->end && (*p == 'e' || *p == 'E')) {
        integer = false;
        p++;
        if (p < r->end && (*p == '+' || *p == '-'))
            p++;
        const char *exponent = p;
        p = skip_digits(p, r->end);
        if (p == exponent)
            return fault(r, start, ERR_INVALID, "number without digits in its exponent");
    }
    v->raw = (struct str){start, (size_t)(p - start)};
    r->at = p;
    if (integer && str_to_i64(v->raw, INT64_MIN, INT64_MAX, &v->i)) {
        v->kind = JSON_INT;
        return ERR_OK;
    }
    char small[64], *z = small; /* strtod wants a NUL where the text may just end */
    if (v->raw.n < sizeof(small)) {
        memcpy(small, start, v->raw.n);
        small[v->raw.n] = '\0';
    } else if (!(z = arena_strndup(r->arena, start, v->raw.n))) {
        return no_memory(r);
    }
    v->kind = JSON_FLOAT;
    v->f = strtod(z, NULL);
    if (!isfinite(v->f))
        return fault(r, start, ERR_RANGE, "number beyond the range of a double");
    return ERR_OK;
}

static bool read_word(struct reader *r, const char *word, size_t n)
{
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static enum err read_scalar(struct reader *r, struct json *v)
{
    const char *start = r->at;
    enum err e = ERR_OK;
    if (start == r->end)
        return fault(r, start, ERR_INVALID, "text ends where a value should be");
    if (*start == '"') {
        v->kind = JSON_STRING;
        e = read_string(r, &v->s);
    } else if (*start == '-' || (*start >= '0' && *start <= '9')) {
        e = read_number(r, v);
    } else if (read_word(r, "true", 4) || read_word(r, "false", 5)) {
        v->kind = JSON_BOOL;
        v->b = *start == 't';
    } else if (read_word(r, "null", 4)) {
        v->kind = JSON_NULL;
    } else {
        e = fault(r, start, ERR_INVALID, "expected a value");
    }
    v->raw = (struct str){start, (size_t)(r->at - start)};
    return e;
}

static enum err read_key(struct reader *r, struct str *key)
{
    skip_space(r);
    if (r->at == r->end || *r->at != '"')
        return fault(r, r->at, ERR_INVALID, "expected a key in double quotes");
    enum err e = read_string(r, key);
    if (e)
        return e;
    skip_space(r);
    if (r->at == r->end || *r->at != ':')
        return fault(r, r->at, ERR_INVALID, "expected ':'");
    r->at++;
    return ERR_OK;
}

static int by_key_then_place(const void *a, const void *b)
{
    const struct json *x = *(const struct json *const *)a, *y = *(const struct json *const *)b;
    size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
    int order = n ? memcmp(x->key.p, y->key.p, n) : 0;
    if (order == 0)
        order = (x->key.n > y->key.n) - (x->key.n < y->key.n);
    return order ? order : (x->raw.p > y->raw.p) - (x->raw.p < y->raw.p);
}

/* The first member whose key was there before. Few keys: all pairs. Many: sorted, because the text
 * may be hostile (a hash would need a secret to be safe, and a pairwise search is quadratic). */
static enum err check_unique(struct reader *r, const struct json *object)
{
    const struct json *twin = NULL;
    size_t n = object->list.count;
    if (n <= FEW_KEYS) {
        for (const struct json *v = object->list.first; v && !twin; v = v->next)
            for (const struct json *u = object->list.first; u != v && !twin; u = u->next)
                twin = str_eq(u->key, v->key) ? v : NULL;
    } else {
        const struct json **all = malloc(n * sizeof(const struct json *)), **w = all;
        if (!all)
            return no_memory(r);
        for (const struct json *v = object->list.first; v; v = v->next)
            *w++ = v;
        qsort(all, n, sizeof(*all), by_key_then_place);
        for (size_t i = 1; i < n; i++)
            if (str_eq(all[i - 1]->key, all[i]->key) && (!twin || all[i]->raw.p < twin->raw.p))
                twin = all[i];
        free(all);
    }
    if (!twin)
        return ERR_OK;
    int shown = (int)(twin->key.n < 64 ? twin->key.n : 64);
    shown -= (int)utf8_incomplete_tail(twin->key.p, (size_t)shown);
    return err_set(r->why, ERR_INVALID,
                   "invalid JSON: duplicate key '%.*s' with its value at byte %zu", shown,
                   twin->key.p, (size_t)(twin->raw.p - r->text));
}

static enum err push(struct reader *r, struct frame **top, struct json *list)
{
    struct frame *f = *top ? (*top)->down : NULL;
    if (++r->depth > r->max_depth)
        return fault(r, r->at, ERR_RANGE, "nested too deeply");
    if (!f) {
        f = arena_zalloc(r->arena, sizeof(*f));
        if (!f)
            return no_memory(r);
        f->up = *top;
        if (*top)
            (*top)->down = f;
    }
    f->list = list;
    f->last = NULL;
    *top = f;
    return ERR_OK;
}

/* A value is complete. Closes every list that ends here; *more: a next value follows (its key is
 * read). */
static enum err after_value(struct reader *r, struct frame **top, struct str *key, bool *more)
{
    for (; *top; *top = (*top)->up, r->depth--) {
        struct json *list = (*top)->list;
        bool object = list->kind == JSON_OBJECT;
        skip_space(r);
        if (r->at < r->end && *r->at == ',') {
            r->at++;
            *more = true;
            return object ? read_key(r, key) : ERR_OK;
        }
        if (r->at == r->end || *r->at != (object ? '}' : ']'))
            return fault(r, r->at, ERR_INVALID,
                         object ? "expected ',' or '}'" : "expected ',' or ']'");
        r->at++;
        list->raw.n = (size_t)(r->at - list->raw.p);
        enum err e = object ? check_unique(r, list) : ERR_OK;
        if (e)
            return e;
    }
    *more = false;
    return ERR_OK;
}

static enum err read_tree(struct reader *r, struct json **out)
{
    struct json *root = NULL;
    struct frame *top = NULL;
    struct str key = {0};
    for (bool more = true; more;) {
        skip_space(r);
        if (r->max_nodes && r->nodes >= r->max_nodes)
            return fault(r, r->at, ERR_RANGE, "too many values");
        struct json *v = arena_zalloc(r->arena, sizeof(*v));
        if (!v)
            return no_memory(r);
        r->nodes++;
        if (top) {
            v->key = key;
            *(top->last ? &top->last->next : &top->list->list.first) = v;
            top->last = v;
            top->list->list.count++;
        } else {
            root = v;
        }
        key = (struct str){0};
        bool open = r->at < r->end && (*r->at == '{' || *r->at == '[');
        enum err e;
        if (open) {
            v->kind = *r->at == '{' ? JSON_OBJECT : JSON_ARRAY;
            v->raw.p = r->at;
            if ((e = push(r, &top, v)))
                return e;
            r->at++;
            skip_space(r);
            if (r->at == r->end || *r->at != (v->kind == JSON_OBJECT ? '}' : ']')) {
                if (v->kind == JSON_OBJECT && (e = read_key(r, &key)))
                    return e;
                continue;
            }
        } else if ((e = read_scalar(r, v))) {
            return e;
        }
        if ((e = after_value(r, &top, &key, &more)))
            return e;
    }
    skip_space(r);
    if (r->at != r->end)
        return fault(r, r->at, ERR_INVALID, "text after the value");
    *out = root;
    return ERR_OK;
}

enum err json_parse(struct json **out, struct arena *a, const char *p, size_t n,
                    const struct json_limits *limits, struct errmsg *why)
{
    if (n == 0)
        p = "";
    struct reader r = {.text = p, .at = p, .end = p + n, .arena = a, .why = why};
    r.max_depth = limits && limits->max_depth ? limits->max_depth : DEFAULT_DEPTH;
    r.max_nodes = limits ? limits->max_nodes : 0;
    return read_tree(&r, out);
}

const struct json *json_get(const struct json *object, const char *key)
{
    if (!json_is(object, JSON_OBJECT))
        return NULL;
    struct str want = str_of(key);
    for (const struct json *v = object->list.first; v; v = v->next)
        if (str_eq(v->key, want))
            return v;
    return NULL;
}

const struct json *json_at(const struct json *array, size_t i)
{
    if (!json_is(array, JSON_ARRAY) || i >= array->list.count)
        return NULL;
    const struct json *v = array->list.first;
    while (i--)
        v = v->next;
    return v;
}

bool json_is(const struct json *v, enum json_kind kind)
{
    return v && v->kind == kind;
}

bool json_is_number(const struct json *v)
{
    return json_is(v, JSON_INT) || json_is(v, JSON_FLOAT);
}

double json_f64(const struct json *v)
{
    return v->kind == JSON_INT ? (double)v->i : v->f;
}

const char *json_kind_name(enum json_kind kind)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",     [JSON_BOOL] = "boolean",
        [JSON_INT] = "integer",   [JSON_FLOAT] = "decimal number",
        [JSON_STRING] = "string", [JSON_ARRAY] = "array",
        [JSON_OBJECT] = "object",
    };
    return names[kind];
}
