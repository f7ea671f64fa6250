/* repr.c - Python's str() and repr() of every value. */
#include "worker/text/jinja/repr.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/utf8.h"
#include "worker/text/jinja/call.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/unicode.h"

/* Python's float_repr_style "short": digits of the shortest text that reads back equal, exponent
 * form when the decimal exponent is below -4 or from 16 on. */
void jj_put_float(struct buf *b, double v)
{
    if (isnan(v) || isinf(v)) {
        buf_puts(b, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    char e[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(e, sizeof(e), "%.*e", digits - 1, v);
        if (strtod(e, NULL) == v)
            break;
    }
    const char *p = e;
    if (*p == '-')
        buf_putc(b, *p++);
    char digits[24];
    int n = 0;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            digits[n++] = *p;
    int exp10 = atoi(p + 1);
    if (exp10 < -4 || exp10 >= 16) {
        buf_putc(b, digits[0]);
        if (n > 1) {
            buf_putc(b, '.');
            buf_put(b, digits + 1, (size_t)n - 1);
        }
        buf_printf(b, "e%c%02d", exp10 < 0 ? '-' : '+', abs(exp10));
    } else if (exp10 < 0) {
        buf_puts(b, "0.");
        for (int i = -1; i > exp10; i--)
            buf_putc(b, '0');
        buf_put(b, digits, (size_t)n);
    } else {
        for (int i = 0; i <= exp10 || i < n; i++) {
            if (i == exp10 + 1)
                buf_putc(b, '.');
            buf_putc(b, i < n ? digits[i] : '0');
        }
        if (n <= exp10 + 1)
            buf_puts(b, ".0");
    }
}

static void put_quoted(struct jj_render *r, struct buf *b, struct str s)
{
    bool single = memchr(s.p, '\'', s.n) != NULL, dbl = memchr(s.p, '"', s.n) != NULL;
    char quote = single && !dbl ? '"' : '\'';
    if (!jj_charge_chars(r, s.n))
        return;
    buf_putc(b, quote);
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0;
        int n = utf8_decode(s.p + i, s.n - i, &cp);
        if (n == 0)
            break; /* cannot happen: texts are valid UTF-8 */
        if (cp == (unsigned char)quote || cp == '\\')
            buf_putc(b, '\\');
        if (cp == '\n')
            buf_puts(b, "\\n");
        else if (cp == '\r')
            buf_puts(b, "\\r");
        else if (cp == '\t')
            buf_puts(b, "\\t");
        else if (uni_is_printable(cp))
            buf_put(b, s.p + i, (size_t)n);
        else if (cp < 0x100)
            buf_printf(b, "\\x%02x", cp);
        else
            buf_printf(b, cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        i += (size_t)n;
    }
    buf_putc(b, quote);
}

static void put_items(struct jj_render *r, struct buf *b, const struct jj_value *v, size_t n)
{
    for (size_t i = 0; i < n && jj_charge(r, 1) && !b->failed; i++) {
        if (i)
            buf_puts(b, ", ");
        jj_put_repr(r, b, v[i]);
    }
}

static void put_dict(struct jj_render *r, struct buf *b, const struct jj_dict *d)
{
    buf_putc(b, '{');
    for (size_t i = 0; i < d->n && jj_charge(r, 1) && !b->failed; i++) {
        if (i)
            buf_puts(b, ", ");
        jj_put_repr(r, b, d->v[i].key);
        buf_puts(b, ": ");
        jj_put_repr(r, b, d->v[i].value);
    }
    buf_putc(b, '}');
}

static void put_view(struct jj_render *r, struct buf *b, struct jj_value v)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    buf_puts(b, names[v.view->what]);
    struct jj_list *l = jj_list_of(r, v);
    put_items(r, b, l->v, l->n);
    buf_puts(b, "])");
}

void jj_put_repr(struct jj_render *r, struct buf *b, struct jj_value v)
{
    if (!jj_enter(r, JJ_MAX_DEPTH))
        return;
    switch ((enum jj_kind)v.kind) {
    case JJ_UNDEFINED:
        buf_puts(b, "Undefined");
        break;
    case JJ_NONE:
        buf_puts(b, "None");
        break;
    case JJ_BOOL:
        buf_puts(b, v.b ? "True" : "False");
        break;
    case JJ_INT:
        buf_put_i64(b, v.i);
        break;
    case JJ_BIG:
        buf_put(b, v.s->p, v.s->n);
        break;
    case JJ_FLOAT:
        jj_put_float(b, v.f);
        break;
    case JJ_STR:
        if (v.aux)
            buf_puts(b, "Markup(");
        put_quoted(r, b, jj_s(v));
        if (v.aux)
            buf_putc(b, ')');
        break;
    case JJ_LIST:
        buf_putc(b, '[');
        put_items(r, b, v.l->v, v.l->n);
        buf_putc(b, ']');
        break;
    case JJ_TUPLE:
        buf_putc(b, '(');
        put_items(r, b, v.l->v, v.l->n);
        buf_puts(b, v.l->n == 1 ? ",)" : ")");
        break;
    case JJ_DICT:
        put_dict(r, b, v.d);
        break;
    case JJ_NAMESPACE:
        buf_puts(b, "<Namespace ");
        put_dict(r, b, v.d);
        buf_putc(b, '>');
        break;
    case JJ_VIEW:
        put_view(r, b, v);
        break;
    case JJ_RANGE:
        buf_printf(b, "range(%lld, %lld", (long long)v.range->start, (long long)v.range->stop);
        if (v.range->step != 1)
            buf_printf(b, ", %lld", (long long)v.range->step);
        buf_putc(b, ')');
        break;
    case JJ_LOOP:
        jj_loop_put(r, b, v.loop);
        break;
    case JJ_FUNC:
        jj_func_put(r, b, v.func);
        break;
    default: /* Python prints an address */
        jj_unsupported(r, "printing a %s (use |list)", jj_type_name(v));
    }
    jj_leave(r);
}

void jj_put_str(struct jj_render *r, struct buf *b, struct jj_value v)
{
    if (v.kind == JJ_STR)
        buf_put(b, v.s->p, v.s->n);
    else if (v.kind != JJ_UNDEFINED)
        jj_put_repr(r, b, v);
}

struct jj_value jj_repr(struct jj_render *r, struct jj_value v)
{
    struct buf b;
    jj_buf(&b);
    jj_put_repr(r, &b, v);
    return jj_take_buf(r, &b);
}

struct jj_value jj_soft_str(struct jj_render *r, struct jj_value v)
{
    if (v.kind == JJ_STR)
        return v;
    if (v.kind == JJ_UNDEFINED)
        return jj_cstr(r, "");
    return jj_repr(r, v);
}

struct jj_value jj_to_str(struct jj_render *r, struct jj_value v)
{
    return jj_mark(jj_soft_str(r, v), false);
}
