/* tojson.c - the tojson filter as transformers defines it: json.dumps(value, ensure_ascii=False,
 * indent=None, separators=None, sort_keys=False). Nothing is escaped for HTML. */
#include <math.h>

#include "shared/base/utf8.h"
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"

struct dump {
    struct buf out;
    bool ascii, sort;
    bool indented;
    struct str indent, item_sep, key_sep;
};

static void put_string(struct jj_render *r, struct dump *d, struct str s)
{
    static const char short_escapes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    if (!jj_charge_chars(r, s.n))
        return;
    buf_putc(&d->out, '"');
    for (size_t i = 0; i < s.n && !d->out.failed;) {
        uint32_t cp = 0;
        int k = utf8_decode(s.p + i, s.n - i, &cp);
        if (k <= 0)
            break;
        const char *hit = cp && cp < 0x80 ? strchr(short_escapes, (int)cp) : NULL;
        if (hit) {
            buf_putc(&d->out, '\\');
            buf_putc(&d->out, letters[hit - short_escapes]);
        } else if (cp < 0x20 || (d->ascii && cp > 0x7e && cp < 0x10000)) {
            buf_printf(&d->out, "\\u%04x", cp);
        } else if (d->ascii && cp >= 0x10000) {
            buf_printf(&d->out, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                       0xdc00 + ((cp - 0x10000) & 0x3ff));
        } else {
            buf_put(&d->out, s.p + i, (size_t)k);
        }
        i += (size_t)k;
    }
    buf_putc(&d->out, '"');
}

static void put_json_float(struct buf *b, double v)
{
    if (isnan(v))
        buf_puts(b, "NaN");
    else if (isinf(v))
        buf_puts(b, v < 0 ? "-Infinity" : "Infinity");
    else
        jj_put_float(b, v);
}

static void put_value(struct jj_render *r, struct dump *d, struct jj_value v, int level);

static void new_line(struct dump *d, int level)
{
    if (!d->indented)
        return;
    buf_putc(&d->out, '\n');
    for (int i = 0; i < level; i++)
        buf_put(&d->out, d->indent.p, d->indent.n);
}

static void put_list(struct jj_render *r, struct dump *d, const struct jj_list *l, int level)
{
    if (l->n == 0) {
        buf_puts(&d->out, "[]");
        return;
    }
    buf_putc(&d->out, '[');
    for (size_t i = 0; i < l->n && jj_charge(r, 1) && !d->out.failed; i++) {
        if (i)
            buf_put(&d->out, d->item_sep.p, d->item_sep.n);
        new_line(d, level + 1);
        put_value(r, d, l->v[i], level + 1);
    }
    new_line(d, level);
    buf_putc(&d->out, ']');
}

/* Keys are strings in JSON; Python converts the other simple types. */
static void put_key(struct jj_render *r, struct dump *d, struct jj_value key)
{
    struct buf b;
    if (key.kind == JJ_STR) {
        put_string(r, d, jj_s(key));
        return;
    }
    jj_buf(&b);
    if (key.kind == JJ_NONE)
        buf_puts(&b, "null");
    else if (key.kind == JJ_BOOL)
        buf_puts(&b, key.b ? "true" : "false");
    else if (key.kind == JJ_FLOAT)
        put_json_float(&b, key.f);
    else if (key.kind == JJ_INT || key.kind == JJ_BIG)
        jj_put_str(r, &b, key);
    else
        jj_fail(r, "tojson: keys must be strings or numbers, not '%s'", jj_type_name(key));
    put_string(r, d, (struct str){b.p, b.n});
    buf_fini(&b);
}

static void put_object(struct jj_render *r, struct dump *d, const struct jj_dict *o, int level)
{
    if (o->n == 0) {
        buf_puts(&d->out, "{}");
        return;
    }
    struct jj_list *keys = jj_list_new(r, o->n), *order = jj_list_new(r, o->n);
    for (size_t i = 0; i < o->n && d->sort && !jj_failed(r); i++) {
        jj_list_push(r, keys, o->v[i].key);
        jj_list_push(r, order, jj_int((int64_t)i));
    }
    if (d->sort)
        jj_sort(r, keys, order, false);
    buf_putc(&d->out, '{');
    for (size_t i = 0; i < o->n && jj_charge(r, 1) && !d->out.failed; i++) {
        const struct jj_pair *p = &o->v[d->sort ? (size_t)order->v[i].i : i];
        if (i)
            buf_put(&d->out, d->item_sep.p, d->item_sep.n);
        new_line(d, level + 1);
        put_key(r, d, p->key);
        buf_put(&d->out, d->key_sep.p, d->key_sep.n);
        put_value(r, d, p->value, level + 1);
    }
    new_line(d, level);
    buf_putc(&d->out, '}');
}

static void put_value(struct jj_render *r, struct dump *d, struct jj_value v, int level)
{
    if (!jj_enter(r, JJ_MAX_DEPTH))
        return;
    switch ((enum jj_kind)v.kind) {
    case JJ_NONE:
        buf_puts(&d->out, "null");
        break;
    case JJ_BOOL:
        buf_puts(&d->out, v.b ? "true" : "false");
        break;
    case JJ_FLOAT:
        put_json_float(&d->out, v.f);
        break;
    case JJ_INT:
    case JJ_BIG:
        jj_put_str(r, &d->out, v);
        break;
    case JJ_STR:
        put_string(r, d, jj_s(v));
        break;
    case JJ_LIST:
    case JJ_TUPLE:
        put_list(r, d, v.l, level);
        break;
    case JJ_DICT:
        put_object(r, d, v.d, level);
        break;
    case JJ_UNDEFINED:
        jj_fail_undefined(r, v);
        break;
    default:
        jj_fail(r, "tojson: an object of type '%s' is not JSON serializable", jj_type_name(v));
    }
    jj_leave(r);
}

static bool set_indent(struct jj_render *r, struct dump *d, struct jj_value v)
{
    if (v.kind == JJ_MISSING || v.kind == JJ_NONE)
        return true;
    d->indented = true;
    d->item_sep = STR(",");
    if (v.kind == JJ_STR) {
        d->indent = jj_s(v);
        return true;
    }
    if (!jj_is_int(v) || jj_as_int(v) > 1000) {
        jj_fail(r, "tojson: indent must be a string or a number up to 1000");
        return false;
    }
    size_t n = jj_as_int(v) < 0 ? 0 : (size_t)jj_as_int(v);
    char *spaces = jj_alloc(r, n);
    if (!spaces)
        return false;
    memset(spaces, ' ', n);
    d->indent = (struct str){spaces, n};
    return true;
}

JJ_FILTER_FN(jj_f_tojson)
{
    struct dump d = {.item_sep = STR(", "), .key_sep = STR(": ")};
    (void)c;
    d.ascii = a[0].kind != JJ_MISSING && jj_truth(r, a[0]);
    d.sort = a[3].kind != JJ_MISSING && jj_truth(r, a[3]);
    if (!set_indent(r, &d, a[1]))
        return jj_none();
    if (a[2].kind != JJ_MISSING && a[2].kind != JJ_NONE) {
        struct jj_list *l = jj_list_of(r, a[2]);
        if (!jj_failed(r) && (l->n != 2 || l->v[0].kind != JJ_STR || l->v[1].kind != JJ_STR))
            jj_fail(r, "tojson: separators must be two strings");
        if (jj_failed(r))
            return jj_none();
        d.item_sep = jj_s(l->v[0]);
        d.key_sep = jj_s(l->v[1]);
    }
    jj_buf(&d.out);
    put_value(r, &d, in, 0);
    return jj_take_buf(r, &d.out);
}
