/* methods_str.c - the methods of strings. Those of a Markup (a |safe text) escape their arguments
 * and give Markup, as markupsafe 3 does. */
#include "shared/base/utf8.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/methods.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"
#include "worker/text/jinja/strfn.h"
#include "worker/text/jinja/unicode.h"

#define METHOD(name)                                                                               \
    static struct jj_value name(struct jj_render *r, struct jj_value self,                         \
                                const struct jj_value *a, const struct jj_call *c)

static bool given(struct jj_value v)
{
    return v.kind != JJ_MISSING;
}

static bool need_str(struct jj_render *r, struct jj_value v, const char *who)
{
    if (v.kind != JJ_STR)
        jj_fail(r, "%s takes a string, not '%s'", who, jj_type_name(v));
    return !jj_failed(r);
}

static bool need_int(struct jj_render *r, struct jj_value v, int64_t absent, const char *who,
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

/* --- case and classes ---------------------------------------------------------------- */

#define CASE_METHOD(name, to)                                                                      \
    METHOD(name)                                                                                   \
    {                                                                                              \
        (void)a, (void)c;                                                                          \
        return str_case(r, self, to);                                                              \
    }
CASE_METHOD(m_upper, STR_UPPER)
CASE_METHOD(m_lower, STR_LOWER)
CASE_METHOD(m_title, STR_TITLE)
CASE_METHOD(m_capitalize, STR_CAPITALIZE)
CASE_METHOD(m_swapcase, STR_SWAPCASE)
CASE_METHOD(m_casefold, STR_CASEFOLD)

#define CLASS_METHOD(name, class)                                                                  \
    METHOD(name)                                                                                   \
    {                                                                                              \
        (void)a, (void)c;                                                                          \
        return jj_bool(str_is_class(r, self, class));                                              \
    }
CLASS_METHOD(m_isalpha, STR_ALPHA)
CLASS_METHOD(m_isalnum, STR_ALNUM)
CLASS_METHOD(m_isascii, STR_ASCII)
CLASS_METHOD(m_isdecimal, STR_DECIMAL)
CLASS_METHOD(m_isdigit, STR_DIGIT)
CLASS_METHOD(m_isnumeric, STR_NUMERIC)
CLASS_METHOD(m_isprintable, STR_PRINTABLE)
CLASS_METHOD(m_isspace, STR_SPACE)
CLASS_METHOD(m_islower, STR_IS_LOWER)
CLASS_METHOD(m_isupper, STR_IS_UPPER)
CLASS_METHOD(m_istitle, STR_IS_TITLE)

/* --- strip, split, join, replace ----------------------------------------------------- */

METHOD(m_strip)
{
    (void)c;
    return str_strip(r, self, a[0], STR_BOTH);
}

METHOD(m_lstrip)
{
    (void)c;
    return str_strip(r, self, a[0], STR_LEFT);
}

METHOD(m_rstrip)
{
    (void)c;
    return str_strip(r, self, a[0], STR_RIGHT);
}

METHOD(m_split)
{
    int64_t max = -1;
    (void)c;
    return need_int(r, a[1], -1, "split()", &max) ? str_split(r, self, a[0], max, false) : self;
}

METHOD(m_rsplit)
{
    int64_t max = -1;
    (void)c;
    return need_int(r, a[1], -1, "rsplit()", &max) ? str_split(r, self, a[0], max, true) : self;
}

METHOD(m_splitlines)
{
    (void)c;
    return str_splitlines(r, self, given(a[0]) && jj_truth(r, a[0]));
}

METHOD(m_join)
{
    (void)c;
    struct jj_list *items = jj_list_of(r, a[0]);
    for (size_t i = 0; i < items->n && !jj_failed(r); i++) {
        if (self.aux)
            items->v[i] = jj_escape(r, jj_soft_str(r, items->v[i]));
        else
            (void)need_str(r, items->v[i], "join()");
    }
    return jj_failed(r) ? self : str_join(r, self, items);
}

METHOD(m_replace)
{
    int64_t count = 0;
    (void)c;
    if (!need_str(r, a[0], "replace()") || !need_str(r, a[1], "replace()") ||
        !need_int(r, a[2], -1, "replace()", &count))
        return self;
    return str_replace(r, self, a[0], self.aux ? jj_escape(r, a[1]) : a[1], count);
}

static struct jj_value partition(struct jj_render *r, struct jj_value self, struct jj_value sep,
                                 bool last)
{
    if (!need_str(r, sep, "partition()"))
        return self;
    struct jj_value parts = str_split(r, self, sep, 1, last),
                    empty = jj_mark(jj_cstr(r, ""), self.aux);
    struct jj_list *l = jj_list_new(r, 3);
    if (jj_failed(r))
        return self;
    bool found = parts.l->n == 2;
    jj_list_push(r, l, found ? parts.l->v[0] : last ? empty : self);
    jj_list_push(r, l, found ? jj_mark(sep, self.aux) : empty);
    jj_list_push(r, l, found ? parts.l->v[1] : last ? self : empty);
    return jj_of_tuple(l);
}

METHOD(m_partition)
{
    (void)c;
    return partition(r, self, a[0], false);
}

METHOD(m_rpartition)
{
    (void)c;
    return partition(r, self, a[0], true);
}

METHOD(m_removeprefix)
{
    (void)c;
    if (!need_str(r, a[0], "removeprefix()") || !str_starts(jj_s(self), jj_s(a[0])))
        return self;
    return jj_mark(jj_str_borrow(r, self.s->p + a[0].s->n, self.s->n - a[0].s->n), self.aux);
}

METHOD(m_removesuffix)
{
    (void)c;
    if (!need_str(r, a[0], "removesuffix()") || a[0].s->n > self.s->n)
        return self;
    size_t n = self.s->n - a[0].s->n;
    if (memcmp(self.s->p + n, a[0].s->p, a[0].s->n) != 0)
        return self;
    return jj_mark(jj_str_borrow(r, self.s->p, n), self.aux);
}

/* --- search -------------------------------------------------------------------------- */

/* [start, end) in code points, as Python's slices clamp them; false: start lies behind the end of
 * the text. */
static bool window(struct jj_render *r, struct jj_value self, const struct jj_value *a,
                   const char *who, size_t *from, size_t *to)
{
    int64_t n = (int64_t)jj_cps(self), at[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (!given(a[i]) || a[i].kind == JJ_NONE)
            continue;
        if (!need_int(r, a[i], 0, who, &at[i]))
            return false;
        if (at[i] < 0)
            at[i] = at[i] + n < 0 ? 0 : at[i] + n;
    }
    if (at[1] > n)
        at[1] = n;
    if (at[0] > at[1])
        return false;
    *from = (size_t)at[0];
    *to = (size_t)at[1];
    return true;
}

static int64_t find(struct jj_render *r, struct jj_value self, const struct jj_value *a,
                    const char *who, bool last)
{
    size_t from = 0, to = 0;
    if (!need_str(r, a[0], who) || !window(r, self, a + 1, who, &from, &to))
        return -1;
    jj_charge_chars(r, self.s->n);
    size_t at = jj_cp_offset(self, from), end = jj_cp_offset(self, to);
    const char *p = self.s->p, *hit = NULL;
    struct str what = jj_s(a[0]);
    if (what.n == 0)
        return (int64_t)(last ? to : from);
    if (!last) {
        hit = memmem(p + at, end - at, what.p, what.n);
    } else {
        for (const char *h;
             (h = memmem(p + at, end - at, what.p, what.n)) && jj_charge_bytes(r, 64);
             at = (size_t)(h - p) + 1)
            hit = h;
    }
    if (!hit)
        return -1;
    int64_t cp = 0;
    for (const char *q = p; q < hit; q++)
        cp += ((unsigned char)*q & 0xC0) != 0x80;
    return cp;
}

METHOD(m_find)
{
    (void)c;
    return jj_int(find(r, self, a, "find()", false));
}

METHOD(m_rfind)
{
    (void)c;
    return jj_int(find(r, self, a, "rfind()", true));
}

METHOD(m_index)
{
    (void)c;
    int64_t at = find(r, self, a, "index()", false);
    if (at < 0)
        jj_fail(r, "index(): substring not found");
    return jj_int(at);
}

METHOD(m_rindex)
{
    (void)c;
    int64_t at = find(r, self, a, "rindex()", true);
    if (at < 0)
        jj_fail(r, "rindex(): substring not found");
    return jj_int(at);
}

METHOD(m_count)
{
    size_t from = 0, to = 0;
    int64_t n = 0;
    (void)c;
    if (!need_str(r, a[0], "count()") || !window(r, self, a + 1, "count()", &from, &to))
        return jj_int(0);
    if (a[0].s->n == 0)
        return jj_int((int64_t)(to - from) + 1);
    jj_charge_chars(r, self.s->n);
    const char *p = self.s->p + jj_cp_offset(self, from), *end = self.s->p + jj_cp_offset(self, to);
    for (; (p = memmem(p, (size_t)(end - p), a[0].s->p, a[0].s->n)) != NULL; p += a[0].s->n)
        n++;
    return jj_int(n);
}

/* startswith(), endswith(): a string or a tuple of them. */
static struct jj_value has_end(struct jj_render *r, struct jj_value self, const struct jj_value *a,
                               bool at_start)
{
    size_t from = 0, to = 0;
    const char *who = at_start ? "startswith()" : "endswith()";
    if (a[0].kind == JJ_TUPLE) {
        for (size_t i = 0; i < a[0].l->n && jj_charge(r, 1); i++) {
            struct jj_value one[3] = {a[0].l->v[i], a[1], a[2]};
            if (has_end(r, self, one, at_start).b)
                return jj_bool(true);
        }
        return jj_bool(false);
    }
    if (!need_str(r, a[0], who) || !window(r, self, a + 1, who, &from, &to))
        return jj_bool(false);
    size_t at = jj_cp_offset(self, from), end = jj_cp_offset(self, to), n = a[0].s->n;
    if (n > end - at)
        return jj_bool(false);
    return jj_bool(memcmp(self.s->p + (at_start ? at : end - n), a[0].s->p, n) == 0);
}

METHOD(m_startswith)
{
    (void)c;
    return has_end(r, self, a, true);
}

METHOD(m_endswith)
{
    (void)c;
    return has_end(r, self, a, false);
}

/* --- padding ------------------------------------------------------------------------- */

static struct jj_value pad(struct jj_render *r, struct jj_value self, const struct jj_value *a,
                           enum str_side side)
{
    int64_t width = 0;
    uint32_t fill = ' ';
    if (!need_int(r, a[0], 0, "padding", &width))
        return self;
    if (given(a[1])) {
        struct jj_value f = self.aux ? jj_escape(r, a[1]) : a[1];
        if (f.kind != JJ_STR || jj_cps(f) != 1) {
            jj_fail(r, "the fill character must be exactly one character long");
            return self;
        }
        (void)utf8_decode(f.s->p, f.s->n, &fill);
    }
    return str_pad(r, self, width, fill, side);
}

METHOD(m_center)
{
    (void)c;
    return pad(r, self, a, STR_BOTH);
}

METHOD(m_ljust)
{
    (void)c;
    return pad(r, self, a, STR_RIGHT);
}

METHOD(m_rjust)
{
    (void)c;
    return pad(r, self, a, STR_LEFT);
}

METHOD(m_zfill)
{
    int64_t width = 0;
    (void)c;
    if (!need_int(r, a[0], 0, "zfill()", &width))
        return self;
    bool sign = self.s->n && (self.s->p[0] == '-' || self.s->p[0] == '+');
    if (!sign)
        return str_pad(r, self, width, '0', STR_LEFT);
    struct jj_value digits = jj_mark(jj_str_borrow(r, self.s->p + 1, self.s->n - 1), self.aux);
    struct jj_value head = jj_mark(jj_str_borrow(r, self.s->p, 1), self.aux);
    return jj_concat(r, head, str_pad(r, digits, width - 1, '0', STR_LEFT));
}

METHOD(m_expandtabs)
{
    int64_t size = 8, column = 0;
    (void)c;
    if (!need_int(r, a[0], 8, "expandtabs()", &size) || !jj_charge_chars(r, self.s->n))
        return self;
    if (size > JJ_MAX_RANGE) {
        jj_limit(r, "makes a text longer than is allowed");
        return self;
    }
    struct buf b;
    jj_buf(&b);
    for (size_t i = 0; i < self.s->n && !b.failed; i++) {
        char ch = self.s->p[i];
        if (ch != '\t') {
            buf_putc(&b, ch);
            column = ch == '\n' || ch == '\r' ? 0 : column + (((unsigned char)ch & 0xC0) != 0x80);
            continue;
        }
        for (int64_t k = size > 0 ? size - column % size : 0; k > 0; k--, column++)
            buf_putc(&b, ' ');
    }
    return jj_mark(jj_take_buf(r, &b), self.aux);
}

/* --- formatting ---------------------------------------------------------------------- */

METHOD(m_format)
{
    (void)a;
    return jj_format_braces(r, self, c->pos, c->kw);
}

METHOD(m_format_map)
{
    (void)c;
    if (a[0].kind != JJ_DICT) {
        jj_fail(r, "format_map() takes a mapping, not '%s'", jj_type_name(a[0]));
        return self;
    }
    return jj_format_braces(r, self, jj_list_new(r, 0), a[0].d);
}

// clang-format off
const struct jj_method jj_str_methods[] = {
    /* kind    name            function        parameters ("/": not by keyword)  required */
    {JJ_STR, "capitalize",   m_capitalize,   "", 0},
    {JJ_STR, "casefold",     m_casefold,     "", 0},
    {JJ_STR, "center",       m_center,       "/width /fillchar", 1},
    {JJ_STR, "count",        m_count,        "/sub /start /end", 1},
    {JJ_STR, "encode",       NULL,           NULL, 0},
    {JJ_STR, "endswith",     m_endswith,     "/suffix /start /end", 1},
    {JJ_STR, "expandtabs",   m_expandtabs,   "tabsize", 0},
    {JJ_STR, "find",         m_find,         "/sub /start /end", 1},
    {JJ_STR, "format",       m_format,       NULL, 0},
    {JJ_STR, "format_map",   m_format_map,   "/mapping", 1},
    {JJ_STR, "index",        m_index,        "/sub /start /end", 1},
    {JJ_STR, "isalnum",      m_isalnum,      "", 0},
    {JJ_STR, "isalpha",      m_isalpha,      "", 0},
    {JJ_STR, "isascii",      m_isascii,      "", 0},
    {JJ_STR, "isdecimal",    m_isdecimal,    "", 0},
    {JJ_STR, "isdigit",      m_isdigit,      "", 0},
    {JJ_STR, "isidentifier", NULL,           NULL, 0},
    {JJ_STR, "islower",      m_islower,      "", 0},
    {JJ_STR, "isnumeric",    m_isnumeric,    "", 0},
    {JJ_STR, "isprintable",  m_isprintable,  "", 0},
    {JJ_STR, "isspace",      m_isspace,      "", 0},
    {JJ_STR, "istitle",      m_istitle,      "", 0},
    {JJ_STR, "isupper",      m_isupper,      "", 0},
    {JJ_STR, "join",         m_join,         "/iterable", 1},
    {JJ_STR, "ljust",        m_ljust,        "/width /fillchar", 1},
    {JJ_STR, "lower",        m_lower,        "", 0},
    {JJ_STR, "lstrip",       m_lstrip,       "/chars", 0},
    {JJ_STR, "maketrans",    NULL,           NULL, 0},
    {JJ_STR, "partition",    m_partition,    "/sep", 1},
    {JJ_STR, "removeprefix", m_removeprefix, "/prefix", 1},
    {JJ_STR, "removesuffix", m_removesuffix, "/suffix", 1},
    {JJ_STR, "replace",      m_replace,      "/old /new /count", 2},
    {JJ_STR, "rfind",        m_rfind,        "/sub /start /end", 1},
    {JJ_STR, "rindex",       m_rindex,       "/sub /start /end", 1},
    {JJ_STR, "rjust",        m_rjust,        "/width /fillchar", 1},
    {JJ_STR, "rpartition",   m_rpartition,   "/sep", 1},
    {JJ_STR, "rsplit",       m_rsplit,       "sep maxsplit", 0},
    {JJ_STR, "rstrip",       m_rstrip,       "/chars", 0},
    {JJ_STR, "split",        m_split,        "sep maxsplit", 0},
    {JJ_STR, "splitlines",   m_splitlines,   "keepends", 0},
    {JJ_STR, "startswith",   m_startswith,   "/prefix /start /end", 1},
    {JJ_STR, "strip",        m_strip,        "/chars", 0},
    {JJ_STR, "swapcase",     m_swapcase,     "", 0},
    {JJ_STR, "title",        m_title,        "", 0},
    {JJ_STR, "translate",    NULL,           NULL, 0},
    {JJ_STR, "upper",        m_upper,        "", 0},
    {JJ_STR, "zfill",        m_zfill,        "/width", 1},
    {0},
};
// clang-format on
