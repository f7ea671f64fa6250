/* filters_text.c - filters that give text. */
#include <stdio.h>

#include "shared/base/utf8.h"
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/number.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"
#include "worker/text/jinja/strfn.h"
#include "worker/text/jinja/unicode.h"

static bool given(struct jj_value v)
{
    return v.kind != JJ_MISSING;
}

static bool truth_or(struct jj_render *r, struct jj_value v, bool absent)
{
    return given(v) ? jj_truth(r, v) : absent;
}

static bool int_or(struct jj_render *r, struct jj_value v, int64_t absent, const char *who,
                   int64_t *out)
{
    if (!given(v))
        *out = absent;
    else if (jj_is_int(v))
        *out = jj_as_int(v);
    else
        jj_fail(r, "%s takes an integer, not '%s'", who, jj_type_name(v));
    return !jj_failed(r);
}

JJ_FILTER_FN(jj_f_upper)
{
    (void)a, (void)c;
    return str_case(r, jj_soft_str(r, in), STR_UPPER);
}

JJ_FILTER_FN(jj_f_lower)
{
    (void)a, (void)c;
    return str_case(r, jj_soft_str(r, in), STR_LOWER);
}

JJ_FILTER_FN(jj_f_capitalize)
{
    (void)a, (void)c;
    return str_case(r, jj_soft_str(r, in), STR_CAPITALIZE);
}

/* Words begin behind white space and any of -({[< ; each gets a capital and goes on in small
 * letters. */
JJ_FILTER_FN(jj_f_title)
{
    (void)a, (void)c;
    struct jj_value s = jj_soft_str(r, in), out = jj_cstr(r, "");
    const char *p = s.s->p;
    size_t n = s.s->n;
    for (size_t i = 0; i < n && jj_charge(r, 1);) {
        size_t end = i, first = 0;
        bool separator = false;
        while (end < n) {
            uint32_t cp = 0;
            int k = utf8_decode(p + end, n - end, &cp);
            bool sep = uni_is_space(cp) || (cp < 0x80 && strchr("-({[<", (int)cp) && cp);
            if (k <= 0 || (end > i && sep != separator))
                break;
            if (end == i) {
                separator = sep;
                first = (size_t)k;
            }
            end += (size_t)k;
        }
        if (end == i)
            break;
        out = jj_concat(r, out, str_case(r, jj_str_borrow(r, p + i, first), STR_UPPER));
        out = jj_concat(r, out,
                        str_case(r, jj_str_borrow(r, p + i + first, end - i - first), STR_LOWER));
        i = end;
    }
    return jj_mark(out, false);
}

JJ_FILTER_FN(jj_f_trim)
{
    (void)c;
    return str_strip(r, jj_soft_str(r, in), a[0], STR_BOTH);
}

JJ_FILTER_FN(jj_f_replace)
{
    int64_t count = 0;
    (void)c;
    if (!int_or(r, a[2].kind == JJ_NONE ? jj_missing() : a[2], -1, "replace", &count))
        return in;
    return str_replace(r, jj_to_str(r, in), jj_to_str(r, a[0]), jj_to_str(r, a[1]), count);
}

/* Python: s += "\n"; lines = s.splitlines(); the first stays, the others get the indentation unless
 * empty. */
JJ_FILTER_FN(jj_f_indent)
{
    int64_t width = 0;
    (void)c;
    if (in.kind != JJ_STR) {
        if (in.kind == JJ_UNDEFINED)
            jj_fail_undefined(r, in);
        else
            jj_fail(r, "indent takes a string, not '%s'", jj_type_name(in));
        return in;
    }
    struct jj_value by = a[0];
    if (by.kind != JJ_STR) {
        if (!int_or(r, a[0], 4, "indent", &width))
            return in;
        by = str_pad(r, jj_cstr(r, ""), width, ' ', STR_RIGHT);
    }
    bool first = truth_or(r, a[1], false), blank = truth_or(r, a[2], false);
    struct jj_value lines = str_splitlines(r, jj_concat(r, in, jj_cstr(r, "\n")), false);
    struct buf b;
    jj_buf(&b);
    for (size_t i = 0; i < lines.l->n && jj_charge(r, 1) && !b.failed; i++) {
        struct str line = jj_s(lines.l->v[i]);
        if (i)
            buf_putc(&b, '\n');
        if (i ? line.n || blank : first)
            buf_put(&b, by.s->p, by.s->n);
        buf_put(&b, line.p, line.n);
    }
    return jj_mark(jj_take_buf(r, &b), in.aux);
}

JJ_FILTER_FN(jj_f_center)
{
    int64_t width = 0;
    (void)c;
    return int_or(r, a[0], 80, "center", &width)
               ? str_pad(r, jj_soft_str(r, in), width, ' ', STR_BOTH)
               : in;
}

JJ_FILTER_FN(jj_f_truncate)
{
    int64_t length = 0, leeway = 0, n;
    (void)c;
    struct jj_value end = given(a[2]) ? a[2] : jj_cstr(r, "...");
    if (!int_or(r, a[0], 255, "truncate", &length) ||
        !int_or(r, a[3].kind == JJ_NONE ? jj_missing() : a[3], 5, "truncate", &leeway))
        return in;
    if (end.kind != JJ_STR || length < (int64_t)jj_cps(end) || leeway < 0) {
        jj_fail(r, "truncate takes a length that its end fits into");
        return in;
    }
    if (!jj_length(r, in, &n)) {
        jj_fail(r, "truncate takes a string, not '%s'", jj_type_name(in));
        return in;
    }
    if (n <= length || n - length <= leeway)
        return in;
    if (in.kind != JJ_STR) {
        jj_fail(r, "truncate takes a string, not '%s'", jj_type_name(in));
        return in;
    }
    struct jj_value head = jj_substr(r, in, 0, (size_t)(length - (int64_t)jj_cps(end)));
    if (!truth_or(r, a[1], false)) {
        struct jj_value words = str_split(r, head, jj_cstr(r, " "), 1, true);
        if (jj_failed(r))
            return in;
        head = words.l->v[0];
    }
    return jj_binary(r, OP_ADD, head, end);
}

JJ_FILTER_FN(jj_f_wordcount)
{
    int64_t n = 0;
    bool inside = false;
    (void)a, (void)c;
    struct jj_value s = jj_soft_str(r, in);
    jj_charge_chars(r, s.s->n);
    for (size_t i = 0; i < s.s->n;) {
        uint32_t cp = 0;
        int k = utf8_decode(s.s->p + i, s.s->n - i, &cp);
        if (k <= 0)
            break;
        bool word = uni_is_word(cp);
        n += word && !inside;
        inside = word;
        i += (size_t)k;
    }
    return jj_int(n);
}

JJ_FILTER_FN(jj_f_format)
{
    (void)a;
    if (c->pos->n && c->kw->n) {
        jj_fail(r, "format takes positional or keyword arguments, not both");
        return in;
    }
    return jj_format_percent(r, jj_soft_str(r, in),
                             c->kw->n ? jj_of_dict(c->kw) : jj_of_tuple(c->pos));
}

JJ_FILTER_FN(jj_f_string)
{
    (void)a, (void)c;
    return jj_soft_str(r, in);
}

JJ_FILTER_FN(jj_f_safe)
{
    (void)a, (void)c;
    return jj_mark(jj_soft_str(r, in), true);
}

JJ_FILTER_FN(jj_f_escape)
{
    (void)a, (void)c;
    return jj_escape(r, jj_soft_str(r, in));
}

JJ_FILTER_FN(jj_f_forceescape)
{
    (void)a, (void)c;
    return jj_escape(r, jj_to_str(r, in));
}

/* --- web ----------------------------------------------------------------------------- */

static void put_quoted(struct jj_render *r, struct buf *b, struct jj_value v, bool query)
{
    static const char hex[] = "0123456789ABCDEF";
    struct jj_value s = jj_to_str(r, v);
    jj_charge_chars(r, s.s->n);
    for (size_t i = 0; i < s.s->n && !b->failed; i++) {
        unsigned char ch = (unsigned char)s.s->p[i];
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9') || (ch && strchr("_.-~", ch)) ||
                     (ch == '/' && !query);
        if (plain)
            buf_putc(b, (char)ch);
        else if (ch == ' ' && query)
            buf_putc(b, '+');
        else
            buf_put(b, (char[]){'%', hex[ch >> 4], hex[ch & 15]}, 3);
    }
}

JJ_FILTER_FN(jj_f_urlencode)
{
    struct buf b;
    struct jj_iter it;
    struct jj_value v;
    (void)a, (void)c;
    jj_buf(&b);
    if (in.kind == JJ_STR || !jj_iterable(in)) {
        put_quoted(r, &b, in, false);
        return jj_take_buf(r, &b);
    }
    struct jj_value pairs = in;
    if (in.kind == JJ_DICT)
        pairs = jj_call_value(r, jj_getattr(r, in, jj_cstr(r, "items")),
                              &(struct jj_call){.pos = jj_list_new(r, 0), .kw = jj_dict_new(r)});
    if (!jj_failed(r) && jj_iter_init(r, &it, pairs))
        for (bool first = true; jj_iter_next(r, &it, &v) && !b.failed; first = false) {
            struct jj_list *pair = jj_list_of(r, v);
            if (!jj_failed(r) && pair->n != 2)
                jj_fail(r, "urlencode takes pairs");
            if (jj_failed(r))
                break;
            if (!first)
                buf_putc(&b, '&');
            put_quoted(r, &b, pair->v[0], true);
            buf_putc(&b, '=');
            put_quoted(r, &b, pair->v[1], true);
        }
    return jj_take_buf(r, &b);
}

JJ_FILTER_FN(jj_f_xmlattr)
{
    struct buf b;
    (void)c;
    if (in.kind != JJ_DICT) {
        jj_fail(r, "xmlattr takes a mapping, not '%s'", jj_type_name(in));
        return in;
    }
    jj_buf(&b);
    for (size_t i = 0; i < in.d->n && jj_charge(r, 1) && !b.failed; i++) {
        struct jj_value key = in.d->v[i].key, v = in.d->v[i].value;
        if (v.kind == JJ_NONE || v.kind == JJ_UNDEFINED)
            continue;
        if (key.kind != JJ_STR) {
            jj_fail(r, "xmlattr: keys must be strings");
            break;
        }
        for (size_t k = 0; k < key.s->n; k++)
            if (key.s->p[k] && strchr(" \t\n\r\f\v/>=", key.s->p[k]))
                jj_fail(r, "xmlattr: invalid character in an attribute's name");
        struct jj_value name = jj_escape(r, key), text = jj_escape(r, jj_soft_str(r, v));
        if (b.n || truth_or(r, a[0], true))
            buf_putc(&b, ' ');
        buf_put(&b, name.s->p, name.s->n);
        buf_puts(&b, "=\"");
        buf_put(&b, text.s->p, text.s->n);
        buf_putc(&b, '"');
    }
    return jj_take_buf(r, &b);
}

JJ_FILTER_FN(jj_f_filesizeformat)
{
    static const char *const prefixes[2][8] = {
        {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
        {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    char text[400];
    double bytes;
    (void)c;
    bool binary = truth_or(r, a[0], false);
    if (!jj_to_double(in, &bytes)) {
        jj_fail(r, "filesizeformat takes a number, not '%s'", jj_type_name(in));
        return in;
    }
    double base = binary ? 1024 : 1000, unit = base;
    if (bytes == 1)
        return jj_cstr(r, "1 Byte");
    if (bytes < base) {
        snprintf(text, sizeof(text), "%.0f Bytes",
                 (double)(int64_t)(bytes < -9e18 ? -9e18 : bytes));
        return jj_str(r, text, strlen(text));
    }
    int i = 0;
    for (unit = base * base; i < 7 && !(bytes < unit); i++)
        unit *= base;
    snprintf(text, sizeof(text), "%.1f %s", base * bytes / unit, prefixes[binary][i]);
    return jj_str(r, text, strlen(text));
}
