/* Any bytes: the reader stays inside them; what it accepts has spans inside the text, and a tree
 * written out again reads back as the same tree. */
#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static bool same(const struct json *a, const struct json *b)
{
    if (a->kind != b->kind || !str_eq(a->key, b->key))
        return false;
    switch (a->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return a->b == b->b;
    case JSON_INT:
    case JSON_FLOAT:
        return json_f64(a) == json_f64(b);
    case JSON_STRING:
        return str_eq(a->s, b->s);
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    if (a->list.count != b->list.count)
        return false;
    for (a = a->list.first, b = b->list.first; a && b; a = a->next, b = b->next)
        if (!same(a, b))
            return false;
    return !a && !b;
}

static void write_tree(struct buf *out, const struct json *v)
{
    const char *comma = "";
    switch (v->kind) {
    case JSON_STRING:
        require(utf8_valid(v->s.p, v->s.n));
        json_put_str(out, v->s.p, v->s.n);
        break;
    case JSON_FLOAT:
        /* 1.0 would be written as 1, and read as an integer */
        buf_put(out, v->raw.p, v->raw.n);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        buf_putc(out, v->kind == JSON_ARRAY ? '[' : '{');
        for (const struct json *c = v->list.first; c; c = c->next, comma = ",") {
            require(c->raw.p > v->raw.p && c->raw.p + c->raw.n < v->raw.p + v->raw.n);
            buf_puts(out, comma);
            if (v->kind == JSON_OBJECT) {
                json_put_str(out, c->key.p, c->key.n);
                buf_putc(out, ':');
            }
            write_tree(out, c);
        }
        buf_putc(out, v->kind == JSON_ARRAY ? ']' : '}');
        break;
    case JSON_INT:
        buf_put_i64(out, v->i);
        break;
    case JSON_NULL:
    case JSON_BOOL:
        buf_put(out, v->raw.p, v->raw.n);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct json *v = NULL, *back = NULL;
    struct errmsg why = {0};
    arena_init(&a, 0);
    enum err e = json_parse(&v, &a, (const char *)data, size, NULL, &why);
    require((e == ERR_OK) == (v != NULL) && (e == ERR_OK) == (why.text[0] == '\0'));
    if (v) {
        struct buf out;
        buf_init(&out);
        write_tree(&out, v);
        require(json_parse(&back, &a, out.p, out.n, NULL, NULL) == ERR_OK && same(v, back));
        buf_fini(&out);
    }
    arena_fini(&a);
    return 0;
}
