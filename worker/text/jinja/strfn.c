/* strfn.c - splitting, stripping, replacing, padding. */
#include "worker/text/jinja/strfn.h"

#include "shared/base/utf8.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/unicode.h"

/* A part of s, sharing its bytes. */
static struct jj_value part(struct jj_render *r, struct jj_value s, size_t from, size_t to)
{
    return jj_mark(jj_str_borrow(r, s.s->p + from, to > from ? to - from : 0), s.aux);
}

/* --- strip --------------------------------------------------------------------------- */

static bool is_one_of(struct str chars, const char *p, size_t n)
{
    for (size_t i = 0; i < chars.n;) {
        uint32_t cp;
        int k = utf8_decode(chars.p + i, chars.n - i, &cp);
        if (k <= 0)
            return false;
        if ((size_t)k == n && memcmp(chars.p + i, p, n) == 0)
            return true;
        i += (size_t)k;
    }
    return false;
}

static size_t char_before(const char *p, size_t end)
{
    size_t at = end - 1;
    while (at > 0 && ((unsigned char)p[at] & 0xC0) == 0x80)
        at--;
    return at;
}

struct jj_value str_strip(struct jj_render *r, struct jj_value s, struct jj_value chars,
                          enum str_side side)
{
    const char *p = s.s->p;
    size_t from = 0, to = s.s->n;
    if (chars.kind != JJ_NONE && chars.kind != JJ_MISSING && chars.kind != JJ_STR) {
        jj_fail(r, "strip takes a string or none, not '%s'", jj_type_name(chars));
        return s;
    }
    if (chars.kind != JJ_STR) {
        if (side & STR_LEFT)
            from = uni_leading_space(p, to);
        if (side & STR_RIGHT)
            to -= uni_trailing_space(p + from, to - from);
    } else {
        struct str set = jj_s(chars);
        while ((side & STR_LEFT) && from < to && jj_charge_chars(r, set.n)) {
            size_t next = from + 1;
            while (next < to && ((unsigned char)p[next] & 0xC0) == 0x80)
                next++;
            if (!is_one_of(set, p + from, next - from))
                break;
            from = next;
        }
        while ((side & STR_RIGHT) && to > from && jj_charge_chars(r, set.n)) {
            size_t at = char_before(p, to);
            if (!is_one_of(set, p + at, to - at))
                break;
            to = at;
        }
    }
    jj_charge_chars(r, s.s->n - (to - from));
    return from == 0 && to == s.s->n ? s : part(r, s, from, to);
}

/* --- replace, join ------------------------------------------------------------------- */

static void replace_empty(struct buf *b, struct str s, struct str with, int64_t count)
{
    size_t i = 0;
    while (count != 0) { /* in front of every character, and at the end */
        buf_put(b, with.p, with.n);
        count--;
        if (i >= s.n || b->failed)
            break;
        size_t next = i + 1;
        while (next < s.n && ((unsigned char)s.p[next] & 0xC0) == 0x80)
            next++;
        buf_put(b, s.p + i, next - i);
        i = next;
    }
    buf_put(b, s.p + i, s.n - i);
}

struct jj_value str_replace(struct jj_render *r, struct jj_value s, struct jj_value old,
                            struct jj_value with, int64_t count)
{
    struct str text = jj_s(s), from = jj_s(old), to = jj_s(with);
    if (!jj_charge_chars(r, text.n) || count == 0)
        return s;
    if (from.n && (text.n < from.n || !memmem(text.p, text.n, from.p, from.n)))
        return s;
    struct buf b;
    jj_buf(&b);
    if (from.n == 0) {
        replace_empty(&b, text, to, count);
    } else {
        size_t at = 0;
        for (const char *hit;
             count != 0 && (hit = memmem(text.p + at, text.n - at, from.p, from.n)) != NULL;
             count--) {
            buf_put(&b, text.p + at, (size_t)(hit - text.p) - at);
            buf_put(&b, to.p, to.n);
            at = (size_t)(hit - text.p) + from.n;
            if (b.failed)
                break;
        }
        buf_put(&b, text.p + at, text.n - at);
    }
    return jj_mark(jj_take_buf(r, &b), s.aux);
}

struct jj_value str_join(struct jj_render *r, struct jj_value sep, struct jj_list *items)
{
    struct buf b;
    if (items->n == 1)
        return jj_mark(items->v[0], sep.aux);
    jj_buf(&b);
    for (size_t i = 0; i < items->n && jj_charge(r, 1); i++) {
        if (i)
            buf_put(&b, sep.s->p, sep.s->n);
        buf_put(&b, items->v[i].s->p, items->v[i].s->n);
        if (b.failed)
            break;
    }
    return jj_mark(jj_take_buf(r, &b), sep.aux);
}

/* --- split --------------------------------------------------------------------------- */

static void split_space(struct jj_render *r, struct jj_value s, int64_t max, struct jj_list *l)
{
    const char *p = s.s->p;
    size_t n = s.s->n, at = uni_leading_space(p, n);
    while (at < n && jj_charge(r, 1)) {
        if (max == 0) {
            jj_list_push(r, l, part(r, s, at, n));
            return;
        }
        size_t end = at;
        uint32_t cp;
        for (int k; end < n && (k = utf8_decode(p + end, n - end, &cp)) && !uni_is_space(cp);)
            end += (size_t)k;
        jj_list_push(r, l, part(r, s, at, end));
        max--;
        at = end + uni_leading_space(p + end, n - end);
    }
}

static void rsplit_space(struct jj_render *r, struct jj_value s, int64_t max, struct jj_list *l)
{
    const char *p = s.s->p;
    size_t end = s.s->n - uni_trailing_space(p, s.s->n);
    while (end > 0 && jj_charge(r, 1)) {
        if (max == 0) {
            jj_list_push(r, l, part(r, s, 0, end));
            return;
        }
        size_t at = end;
        while (at > 0) {
            size_t before = char_before(p, at);
            uint32_t cp = 0;
            if (!utf8_decode(p + before, at - before, &cp) || uni_is_space(cp))
                break;
            at = before;
        }
        jj_list_push(r, l, part(r, s, at, end));
        max--;
        end = at - uni_trailing_space(p, at);
    }
}

static const char *find_last(struct jj_render *r, const char *p, size_t n, struct str what)
{
    for (size_t at = n >= what.n ? n - what.n + 1 : 0; at-- > 0;)
        if (p[at] == what.p[0] && jj_charge_bytes(r, what.n) && memcmp(p + at, what.p, what.n) == 0)
            return p + at;
    return NULL;
}

static void split_by(struct jj_render *r, struct jj_value s, struct str sep, int64_t max,
                     struct jj_list *l)
{
    const char *p = s.s->p, *hit;
    size_t at = 0;
    for (; max != 0 && (hit = memmem(p + at, s.s->n - at, sep.p, sep.n)) != NULL && jj_charge(r, 1);
         max--) {
        jj_list_push(r, l, part(r, s, at, (size_t)(hit - p)));
        at = (size_t)(hit - p) + sep.n;
    }
    jj_list_push(r, l, part(r, s, at, s.s->n));
}

static void rsplit_by(struct jj_render *r, struct jj_value s, struct str sep, int64_t max,
                      struct jj_list *l)
{
    const char *p = s.s->p, *hit;
    size_t end = s.s->n;
    for (; max != 0 && (hit = find_last(r, p, end, sep)) != NULL && jj_charge(r, 1); max--) {
        jj_list_push(r, l, part(r, s, (size_t)(hit - p) + sep.n, end));
        end = (size_t)(hit - p);
    }
    jj_list_push(r, l, part(r, s, 0, end));
}

struct jj_value str_split(struct jj_render *r, struct jj_value s, struct jj_value sep, int64_t max,
                          bool from_right)
{
    struct jj_list *l = jj_list_new(r, 0);
    jj_charge_chars(r, s.s->n);
    if (sep.kind == JJ_NONE || sep.kind == JJ_MISSING) {
        (from_right ? rsplit_space : split_space)(r, s, max, l);
    } else if (sep.kind != JJ_STR) {
        jj_fail(r, "split takes a string or none, not '%s'", jj_type_name(sep));
    } else if (sep.s->n == 0) {
        jj_fail(r, "split by an empty string");
    } else {
        (from_right ? rsplit_by : split_by)(r, s, jj_s(sep), max, l);
    }
    if (from_right && !jj_failed(r))
        for (size_t i = 0; i < l->n / 2; i++) {
            struct jj_value swap = l->v[i];
            l->v[i] = l->v[l->n - 1 - i];
            l->v[l->n - 1 - i] = swap;
        }
    return jj_of_list(l);
}

static bool is_line_end(uint32_t cp)
{
    return (cp >= 0x0a && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

struct jj_value str_splitlines(struct jj_render *r, struct jj_value s, bool keep_ends)
{
    struct jj_list *l = jj_list_new(r, 0);
    const char *p = s.s->p;
    size_t n = s.s->n, start = 0;
    jj_charge_chars(r, n);
    for (size_t i = 0; i < n && !jj_failed(r);) {
        uint32_t cp = 0;
        int k = utf8_decode(p + i, n - i, &cp);
        if (k <= 0)
            break;
        size_t end = i;
        i += (size_t)k;
        if (!is_line_end(cp))
            continue;
        if (cp == '\r' && i < n && p[i] == '\n')
            i++;
        jj_list_push(r, l, part(r, s, start, keep_ends ? i : end));
        start = i;
    }
    if (start < n)
        jj_list_push(r, l, part(r, s, start, n));
    return jj_of_list(l);
}

/* --- padding ------------------------------------------------------------------------- */

struct jj_value str_pad(struct jj_render *r, struct jj_value s, int64_t width, uint32_t fill,
                        enum str_side side)
{
    int64_t n = (int64_t)jj_cps(s), missing = width - n;
    if (missing <= 0)
        return s;
    if (missing > JJ_MAX_OUTPUT || !jj_charge_bytes(r, (size_t)missing)) {
        jj_limit(r, "makes a text longer than is allowed");
        return s;
    }
    /* CPython's str.center() puts the odd space on the left when the width is odd. */
    int64_t left = side == STR_LEFT    ? missing
                   : side == STR_RIGHT ? 0
                                       : missing / 2 + (missing & width & 1);
    char c[4];
    int k = utf8_encode(fill, c);
    struct buf b;
    jj_buf(&b);
    for (int64_t i = 0; i < left && !b.failed; i++)
        buf_put(&b, c, (size_t)k);
    buf_put(&b, s.s->p, s.s->n);
    for (int64_t i = left; i < missing && !b.failed; i++)
        buf_put(&b, c, (size_t)k);
    return jj_mark(jj_take_buf(r, &b), s.aux);
}
