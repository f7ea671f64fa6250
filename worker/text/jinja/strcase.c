/* strcase.c - case mapping and character classes of whole strings, as CPython's unicodeobject.c
 * does them. */
#include "shared/base/utf8.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/strfn.h"
#include "worker/text/jinja/unicode.h"

static bool is_cased(uint32_t cp)
{
    return uni_is_lower(cp) || uni_is_upper(cp) || uni_is_title(cp);
}

/* Unicode 3.13, Final_Sigma: a cased letter before, none after, case-ignorable characters passed
 * over. */
static bool sigma_is_final(const uint32_t *cp, size_t n, size_t at)
{
    size_t i = at;
    while (i > 0 && uni_is_case_ignorable(cp[i - 1]))
        i--;
    if (i == 0 || !is_cased(cp[i - 1]))
        return false;
    for (i = at + 1; i < n && uni_is_case_ignorable(cp[i]); i++)
        ;
    return i == n || !is_cased(cp[i]);
}

static void put_cp(struct buf *b, uint32_t cp)
{
    char c[4];
    buf_put(b, c, (size_t)utf8_encode(cp, c));
}

static void put_mapped(struct buf *b, const uint32_t *cp, size_t n, size_t at, enum uni_case to)
{
    uint32_t out[UNI_CASE_MAX];
    if (to == UNI_LOWER && cp[at] == 0x3a3) {
        put_cp(b, sigma_is_final(cp, n, at) ? 0x3c2 : 0x3c3);
        return;
    }
    int k = uni_case_map(cp[at], to, out);
    for (int i = 0; i < k; i++)
        put_cp(b, out[i]);
}

static struct jj_value map_ascii(struct jj_render *r, struct jj_value s, enum str_case to)
{
    char *p = jj_alloc(r, s.s->n);
    bool cased = false;
    if (!p)
        return s;
    for (size_t i = 0; i < s.s->n; i++) {
        char c = s.s->p[i];
        bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
        bool up = to == STR_UPPER || (to == STR_SWAPCASE && lower) || (to == STR_TITLE && !cased) ||
                  (to == STR_CAPITALIZE && i == 0);
        p[i] = lower && up ? (char)(c - 32) : upper && !up ? (char)(c + 32) : c;
        cased = lower || upper;
    }
    return jj_mark(jj_str_borrow(r, p, s.s->n), s.aux);
}

struct jj_value str_case(struct jj_render *r, struct jj_value s, enum str_case to)
{
    size_t n = jj_cps(s);
    if (!jj_charge_chars(r, s.s->n) || n == 0)
        return s;
    if (n == s.s->n)
        return map_ascii(r, s, to);
    uint32_t *cp = jj_alloc(r, n * sizeof(*cp));
    if (!cp)
        return s;
    for (size_t i = 0, at = 0; i < n; i++) {
        cp[i] = 0;
        at += (size_t)utf8_decode(s.s->p + at, s.s->n - at, &cp[i]);
    }
    struct buf b;
    jj_buf(&b);
    bool cased = false;
    for (size_t i = 0; i < n && jj_charge(r, 1); i++) {
        enum uni_case c = UNI_LOWER;
        if (to == STR_UPPER || (to == STR_SWAPCASE && uni_is_lower(cp[i])))
            c = UNI_UPPER;
        else if (to == STR_CASEFOLD)
            c = UNI_FOLD;
        else if ((to == STR_TITLE && !cased) || (to == STR_CAPITALIZE && i == 0))
            c = UNI_TITLE;
        if (to == STR_SWAPCASE && c == UNI_LOWER && !uni_is_upper(cp[i]))
            put_cp(&b, cp[i]);
        else
            put_mapped(&b, cp, n, i, c);
        cased = to == STR_TITLE && is_cased(cp[i]);
    }
    return jj_mark(jj_take_buf(r, &b), s.aux);
}

/* --- classes ------------------------------------------------------------------------- */

static bool in_class(uint32_t cp, enum str_class c)
{
    switch (c) {
    case STR_ALPHA:
        return uni_is_alpha(cp);
    case STR_ALNUM:
        return uni_is_alpha(cp) || uni_is_numeric(cp) || uni_is_digit(cp);
    case STR_ASCII:
        return cp < 0x80;
    case STR_DECIMAL:
        return uni_is_decimal(cp);
    case STR_DIGIT:
        return uni_is_digit(cp);
    case STR_NUMERIC:
        return uni_is_numeric(cp);
    case STR_PRINTABLE:
        return uni_is_printable(cp);
    case STR_SPACE:
        return uni_is_space(cp);
    default:
        return false;
    }
}

/* islower(), isupper(), istitle(): no letter of the other kind, and one at least of its own. */
static bool case_step(enum str_class c, uint32_t cp, bool *after_cased, bool *any)
{
    bool lower = uni_is_lower(cp), upper = uni_is_upper(cp), title = uni_is_title(cp);
    if (c == STR_IS_TITLE) {
        if ((upper || title) && *after_cased)
            return false;
        if (lower && !*after_cased)
            return false;
        *after_cased = lower || upper || title;
        *any |= *after_cased;
        return true;
    }
    *any |= c == STR_IS_LOWER ? lower : upper;
    return !title && !(c == STR_IS_LOWER ? upper : lower);
}

bool str_is_class(struct jj_render *r, struct jj_value s, enum str_class c)
{
    bool any = false, after_cased = false;
    if (!jj_charge_chars(r, s.s->n))
        return false;
    if (s.s->n == 0)
        return c == STR_ASCII || c == STR_PRINTABLE;
    for (size_t i = 0; i < s.s->n;) {
        uint32_t cp = 0;
        int k = utf8_decode(s.s->p + i, s.s->n - i, &cp);
        if (k <= 0)
            return false;
        if (c >= STR_IS_LOWER ? !case_step(c, cp, &after_cased, &any) : !in_class(cp, c))
            return false;
        i += (size_t)k;
    }
    return c >= STR_IS_LOWER ? any : true;
}
