/* format.c - "%s" % args, as CPython's PyUnicode_Format, and "{}".format(), as string.Formatter in
 * the sandbox. */
#include "worker/text/jinja/format.h"

#include "shared/base/utf8.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"

/* --- % ------------------------------------------------------------------------------- */

struct percent {
    struct str f;
    size_t at;
    struct jj_value args;
    size_t next;  /* of a tuple */
    bool mapping; /* %(name)s is possible, and unused arguments are no error */
    bool markup;
    struct buf out;
};

static struct jj_value next_arg(struct jj_render *r, struct percent *p)
{
    bool tuple = p->args.kind == JJ_TUPLE;
    if (p->next >= (tuple ? p->args.l->n : 1)) {
        jj_fail(r, "not enough arguments for the format string");
        return jj_none();
    }
    struct jj_value v = tuple ? p->args.l->v[p->next] : p->args;
    p->next++;
    return v;
}

/* %(name): the text up to the matching parenthesis. */
static struct jj_value named_arg(struct jj_render *r, struct percent *p)
{
    size_t start = ++p->at;
    for (int depth = 1; p->at < p->f.n; p->at++) {
        depth += p->f.p[p->at] == '(' ? 1 : p->f.p[p->at] == ')' ? -1 : 0;
        if (depth == 0)
            break;
    }
    struct jj_value key = jj_str_borrow(r, p->f.p + start, p->at - start);
    if (p->at >= p->f.n) {
        jj_fail(r, "a format string ends inside %%(name)");
        return key;
    }
    p->at++;
    if (p->args.kind != JJ_DICT) {
        jj_fail(r, "the format string needs a mapping");
        return key;
    }
    const struct jj_value *v = jj_dict_get(r, p->args.d, key);
    if (!v)
        jj_fail(r, "the format's mapping has no '" STR_FMT "'", STR_ARG(jj_s(key)));
    return v ? *v : key;
}

static int64_t star_or_number(struct jj_render *r, struct percent *p)
{
    int64_t n = 0;
    if (p->at < p->f.n && p->f.p[p->at] == '*') {
        struct jj_value v = next_arg(r, p);
        p->at++;
        if (!jj_failed(r) && !jj_is_int(v))
            jj_fail(r, "* in a format string needs an integer");
        return jj_failed(r) ? 0 : jj_as_int(v);
    }
    for (; p->at < p->f.n && p->f.p[p->at] >= '0' && p->f.p[p->at] <= '9'; p->at++)
        n = n > JJ_MAX_WIDTH ? n : n * 10 + (p->f.p[p->at] - '0');
    return n;
}

static void parse_layout(struct jj_render *r, struct percent *p, struct jj_layout *y)
{
    bool left = false;
    for (; p->at < p->f.n && strchr("-+ #0", p->f.p[p->at]) && p->f.p[p->at]; p->at++) {
        char c = p->f.p[p->at];
        left |= c == '-';
        y->zero |= c == '0';
        y->alt |= c == '#';
        if (c == '+' || (c == ' ' && !y->sign))
            y->sign = c;
    }
    y->width = star_or_number(r, p);
    if (y->width < 0) {
        left = true;
        y->width = -y->width;
    }
    if (p->at < p->f.n && p->f.p[p->at] == '.') {
        p->at++;
        y->precision = star_or_number(r, p);
        if (y->precision < 0)
            y->precision = 0;
    }
    if (left)
        y->align = '<';
}

static void put_text(struct jj_render *r, struct percent *p, const struct jj_layout *y,
                     struct jj_value text)
{
    if (jj_failed(r))
        return;
    if (y->precision >= 0 && (size_t)y->precision < jj_cps(text))
        text = jj_substr(r, text, 0, (size_t)y->precision);
    jj_put_padded(r, &p->out, y, (struct str){"", 0}, jj_s(text), '>');
}

static void put_char(struct jj_render *r, struct percent *p, struct jj_layout *y, struct jj_value v)
{
    y->precision = -1;
    if (jj_is_int(v) && jj_as_int(v) >= 0 && jj_as_int(v) < 0x110000 &&
        (jj_as_int(v) < 0xd800 || jj_as_int(v) > 0xdfff))
        v = jj_char(r, (uint32_t)jj_as_int(v));
    if (v.kind != JJ_STR || jj_cps(v) != 1)
        jj_fail(r, "%%c needs an integer or one character");
    else
        put_text(r, p, y, v);
}

static void put_percent(struct jj_render *r, struct percent *p, struct jj_layout *y,
                        struct jj_value v)
{
    switch (y->type) {
    case 's':
    case 'r':
    case 'a':
        if (y->type == 'a')
            jj_unsupported(r, "the conversion %%a");
        v = y->type == 'r' ? jj_repr(r, v) : jj_soft_str(r, v);
        put_text(r, p, y, p->markup ? jj_escape(r, v) : v);
        break;
    case 'c':
        put_char(r, p, y, v);
        break;
    case 'd':
    case 'i':
    case 'u':
        y->type = 'd';
        if (v.kind == JJ_FLOAT && v.f > -9.2e18 && v.f < 9.2e18)
            v = jj_int((int64_t)v.f);
        if (jj_is_int(v))
            jj_put_int(r, &p->out, y, jj_as_int(v), "");
        else
            jj_fail(r, "%%d needs a number, not '%s'", jj_type_name(v));
        break;
    case 'x':
    case 'X':
    case 'o':
        if (jj_is_int(v))
            jj_put_int(r, &p->out, y, jj_as_int(v), "0o");
        else
            jj_fail(r, "%%%c needs an integer, not '%s'", y->type, jj_type_name(v));
        break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (jj_is_number(v))
            jj_put_double(r, &p->out, y, jj_as_f64(v));
        else
            jj_fail(r, "%%%c needs a number, not '%s'", y->type, jj_type_name(v));
        break;
    default:
        jj_fail(r, "unsupported format character '%c'", y->type);
    }
}

static void percent_field(struct jj_render *r, struct percent *p)
{
    struct jj_layout y = {.precision = -1};
    struct jj_value v = jj_missing();
    p->at++;
    if (p->at < p->f.n && p->f.p[p->at] == '(')
        v = named_arg(r, p);
    parse_layout(r, p, &y);
    while (p->at < p->f.n && strchr("hlL", p->f.p[p->at]) && p->f.p[p->at])
        p->at++;
    if (jj_failed(r))
        return;
    if (p->at >= p->f.n) {
        jj_fail(r, "incomplete format");
        return;
    }
    y.type = p->f.p[p->at++];
    if (y.type == '%') {
        buf_putc(&p->out, '%');
        return;
    }
    if (v.kind == JJ_MISSING)
        v = next_arg(r, p);
    if (!jj_failed(r))
        put_percent(r, p, &y, v);
}

struct jj_value jj_format_percent(struct jj_render *r, struct jj_value format, struct jj_value args)
{
    struct percent p = {.f = jj_s(format), .args = args, .markup = format.aux};
    p.mapping = args.kind == JJ_DICT || args.kind == JJ_LIST || args.kind == JJ_RANGE ||
                args.kind == JJ_UNDEFINED;
    jj_buf(&p.out);
    while (p.at < p.f.n && jj_charge(r, 1) && !p.out.failed) {
        const char *hit = memchr(p.f.p + p.at, '%', p.f.n - p.at);
        size_t end = hit ? (size_t)(hit - p.f.p) : p.f.n;
        buf_put(&p.out, p.f.p + p.at, end - p.at);
        p.at = end;
        if (hit)
            percent_field(r, &p);
    }
    size_t n_args = args.kind == JJ_TUPLE ? args.l->n : 1;
    if (!p.mapping && p.next < n_args)
        jj_fail(r, "not all arguments converted by the format string");
    return jj_mark(jj_take_buf(r, &p.out), format.aux);
}

/* --- {} ------------------------------------------------------------------------------ */

struct braces {
    struct str f;
    const struct jj_list *pos;
    const struct jj_dict *kw;
    int64_t automatic; /* next {}; -1: numbers were given by hand */
    bool manual;
    bool markup;
};

static bool is_align(uint32_t c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

/* [[fill]align][sign][#][0][width][,_][.precision][type] */
static bool parse_spec(struct jj_render *r, struct str s, struct jj_layout *y)
{
    uint32_t fill = 0;
    size_t i = 0;
    int k = utf8_decode(s.p, s.n, &fill);
    *y = (struct jj_layout){.width = -1, .precision = -1};
    if (k > 0 && (size_t)k < s.n && is_align((unsigned char)s.p[k])) {
        y->fill = fill;
        y->align = s.p[k];
        i = (size_t)k + 1;
    } else if (s.n && is_align((unsigned char)s.p[0])) {
        y->align = s.p[0];
        i = 1;
    }
    if (i < s.n && (s.p[i] == '+' || s.p[i] == '-' || s.p[i] == ' '))
        y->sign = s.p[i] == '-' ? (i++, '\0') : s.p[i++];
    if (i < s.n && s.p[i] == '#')
        y->alt = (i++, true);
    if (i < s.n && s.p[i] == '0')
        y->zero = (i++, true);
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        y->width = y->width > JJ_MAX_WIDTH ? y->width
                                           : (y->width < 0 ? 0 : y->width) * 10 + (s.p[i] - '0');
    if (i < s.n && (s.p[i] == ',' || s.p[i] == '_'))
        y->group = s.p[i++];
    if (i < s.n && s.p[i] == '.') {
        y->precision = 0;
        i++;
        if (i >= s.n || s.p[i] < '0' || s.p[i] > '9')
            jj_fail(r, "a format specification without precision behind '.'");
        for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
            y->precision =
                y->precision > JJ_MAX_WIDTH ? y->precision : y->precision * 10 + (s.p[i] - '0');
    }
    if (i < s.n)
        y->type = s.p[i++];
    if (i < s.n)
        jj_fail(r, "invalid format specification '" STR_FMT "'", STR_ARG(s));
    return !jj_failed(r);
}

static void bad_type(struct jj_render *r, char type, struct jj_value v)
{
    jj_fail(r, "unknown format code '%c' for an object of type '%s'", type, jj_type_name(v));
}

static void put_str_spec(struct jj_render *r, struct buf *b, struct jj_layout *y, struct jj_value v)
{
    if ((y->type && y->type != 's') || y->sign || y->alt || y->group || y->align == '=') {
        bad_type(r, y->type ? y->type : '=', v);
        return;
    }
    if (y->zero && !y->fill)
        y->fill = '0';
    if (y->precision >= 0 && (size_t)y->precision < jj_cps(v))
        v = jj_substr(r, v, 0, (size_t)y->precision);
    jj_put_padded(r, b, y, (struct str){"", 0}, jj_s(v), '<');
}

static void put_int_spec(struct jj_render *r, struct buf *b, struct jj_layout *y, struct jj_value v)
{
    if (y->type && strchr("eEfFgG%", y->type)) {
        jj_put_double(r, b, y, jj_as_f64(v));
    } else if (y->precision >= 0) {
        jj_fail(r, "precision not allowed in an integer's format");
    } else if (y->type == 'c') {
        int64_t cp = jj_as_int(v);
        if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
            jj_fail(r, "%%c: not a character");
        else
            jj_put_padded(r, b, y, (struct str){"", 0}, jj_s(jj_char(r, (uint32_t)cp)), '<');
    } else if (y->type && !strchr("bdnoxX", y->type)) {
        bad_type(r, y->type, v);
    } else {
        y->type = y->type == 'n' ? 'd' : y->type;
        jj_put_int(r, b, y, jj_as_int(v), "0o");
    }
}

static void put_spec(struct jj_render *r, struct buf *b, struct str spec, struct jj_value v)
{
    struct jj_layout y;
    if (spec.n == 0) {
        jj_put_str(r, b, v);
        return;
    }
    if (!parse_spec(r, spec, &y))
        return;
    if (v.kind == JJ_STR)
        put_str_spec(r, b, &y, v);
    else if (jj_is_int(v))
        put_int_spec(r, b, &y, v);
    else if (v.kind == JJ_FLOAT && y.type && !strchr("eEfFgGn%", y.type))
        bad_type(r, y.type, v);
    else if (v.kind == JJ_FLOAT)
        jj_put_double(r, b, &y, v.f);
    else
        jj_fail(r, "a format specification for an object of type '%s'", jj_type_name(v));
}

static bool parse_index(struct str s, int64_t *out)
{
    return s.n && str_to_i64(s, 0, INT64_MAX, out);
}

/* "0", "name", "" (the next), then .attribute and [key] */
static struct jj_value field_value(struct jj_render *r, struct braces *m, struct str name)
{
    size_t n = 0;
    int64_t index;
    while (n < name.n && name.p[n] != '.' && name.p[n] != '[')
        n++;
    struct str first = {name.p, n};
    struct jj_value v = jj_none();
    bool automatic = n == 0;
    if (automatic || parse_index(first, &index)) {
        if (automatic ? m->manual : m->automatic > 0)
            jj_fail(r, "a format string numbers some fields and not others");
        index = automatic ? m->automatic++ : index;
        m->manual |= !automatic;
        if ((uint64_t)index >= m->pos->n)
            jj_fail(r, "the format string has more fields than there are arguments");
        else
            v = m->pos->v[index];
    } else {
        const struct jj_value *kw = jj_dict_find(r, m->kw, first);
        if (!kw)
            jj_fail(r, "the format string names an unknown argument '" STR_FMT "'", STR_ARG(first));
        else
            v = *kw;
    }
    while (n < name.n && !jj_failed(r)) {
        size_t start = n + 1, end = start;
        bool attr = name.p[n] == '.';
        while (end < name.n &&
               (attr ? name.p[end] != '.' && name.p[end] != '[' : name.p[end] != ']'))
            end++;
        struct str key = {name.p + start, end - start};
        if (key.n == 0 || (!attr && end == name.n)) {
            jj_fail(r, "empty attribute in a format string");
            break;
        }
        if (attr)
            v = jj_getattr(r, v, jj_str(r, key.p, key.n));
        else
            v = jj_getitem(r, v,
                           parse_index(key, &index) ? jj_int(index) : jj_str(r, key.p, key.n));
        n = end + !attr;
        if (n < name.n && name.p[n] != '.' && name.p[n] != '[')
            jj_fail(r, "only '.' or '[' may follow ']' in a format field");
    }
    return v;
}

static void expand(struct jj_render *r, struct braces *m, struct str f, struct buf *out, int depth);

static void put_field(struct jj_render *r, struct braces *m, struct str field, struct buf *out,
                      int depth)
{
    size_t n = 0;
    int brackets = 0;
    for (; n < field.n; n++) {
        brackets += field.p[n] == '[' ? 1 : field.p[n] == ']' ? -1 : 0;
        if (brackets <= 0 && (field.p[n] == '!' || field.p[n] == ':'))
            break;
    }
    struct jj_value v = field_value(r, m, (struct str){field.p, n});
    if (jj_failed(r))
        return;
    if (n < field.n && field.p[n] == '!') {
        char c = n + 1 < field.n ? field.p[n + 1] : '\0';
        if (c == 'a')
            jj_unsupported(r, "the conversion !a");
        else if (c == 'r' || c == 's')
            v = c == 'r' ? jj_repr(r, v) : jj_to_str(r, v);
        else
            jj_fail(r, "unknown conversion in a format string");
        n += 2;
        if (n < field.n && field.p[n] != ':')
            jj_fail(r, "expected ':' behind a conversion");
    }
    struct buf spec, text;
    jj_buf(&spec);
    jj_buf(&text);
    if (n < field.n)
        expand(r, m, (struct str){field.p + n + 1, field.n - n - 1}, &spec, depth + 1);
    if (m->markup && v.kind == JJ_STR && v.aux && spec.n)
        jj_fail(r, "a format specification for Markup");
    if (!jj_failed(r))
        put_spec(r, &text, (struct str){spec.p, spec.n}, v);
    if (m->markup && !(v.kind == JJ_STR && v.aux)) {
        struct jj_value escaped = jj_escape(r, jj_take_buf(r, &text));
        buf_put(out, escaped.s->p, escaped.s->n);
    } else {
        buf_put(out, text.p, text.n);
    }
    buf_fini(&text);
    buf_fini(&spec);
}

static void expand(struct jj_render *r, struct braces *m, struct str f, struct buf *out, int depth)
{
    if (depth > 1) {
        if (memchr(f.p, '{', f.n))
            jj_fail(r, "format fields nested too deeply");
        buf_put(out, f.p, f.n);
        return;
    }
    for (size_t i = 0; i < f.n && jj_charge(r, 1);) {
        char c = f.p[i];
        if (c != '{' && c != '}') {
            buf_putc(out, c);
            i++;
        } else if (i + 1 < f.n && f.p[i + 1] == c) {
            buf_putc(out, c);
            i += 2;
        } else if (c == '}') {
            jj_fail(r, "single '}' in a format string");
        } else {
            size_t start = i + 1, end = start;
            for (int open = 1; end < f.n; end++) {
                open += f.p[end] == '{' ? 1 : f.p[end] == '}' ? -1 : 0;
                if (open == 0)
                    break;
            }
            if (end == f.n) {
                jj_fail(r, "a format string without closing '}'");
                return;
            }
            put_field(r, m, (struct str){f.p + start, end - start}, out, depth);
            i = end + 1;
        }
    }
}

struct jj_value jj_format_braces(struct jj_render *r, struct jj_value format,
                                 const struct jj_list *pos, const struct jj_dict *kw)
{
    struct braces m = {.f = jj_s(format), .pos = pos, .kw = kw, .markup = format.aux};
    struct buf out;
    jj_buf(&out);
    expand(r, &m, m.f, &out, 0);
    return jj_mark(jj_take_buf(r, &out), format.aux);
}
