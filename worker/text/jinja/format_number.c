/* format_number.c - numbers and padding, for both kinds of format. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/utf8.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"

static size_t count_cps(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

void jj_put_padded(struct jj_render *r, struct buf *b, const struct jj_layout *y, struct str head,
                   struct str body, char own_align)
{
    char align = y->align ? y->align : own_align, fill[4];
    int64_t n = (int64_t)(count_cps(head) + count_cps(body)),
            missing = y->width > n ? y->width - n : 0;
    int k = utf8_encode(y->fill ? y->fill : ' ', fill);
    if (missing > JJ_MAX_WIDTH || !jj_charge_bytes(r, (size_t)missing)) {
        jj_limit(r, "pads a field to more than is allowed");
        return;
    }
    int64_t before = align == '>' ? missing : align == '^' ? missing / 2 : 0;
    int64_t inside = align == '=' ? missing : 0;
    for (int64_t i = 0; i < before; i++)
        buf_put(b, fill, (size_t)k);
    buf_put(b, head.p, head.n);
    for (int64_t i = 0; i < inside; i++)
        buf_put(b, fill, (size_t)k);
    buf_put(b, body.p, body.n);
    for (int64_t i = before + inside; i < missing; i++)
        buf_put(b, fill, (size_t)k);
}

/* Separators into the leading digits of `digits`, from the right. */
static void put_grouped(struct buf *b, struct str digits, char sep, size_t every)
{
    size_t n = strspn(digits.p, "0123456789abcdefABCDEF");
    if (n > digits.n)
        n = digits.n;
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % every == 0)
            buf_putc(b, sep);
        buf_putc(b, digits.p[i]);
    }
    buf_put(b, digits.p + n, digits.n - n);
}

static void put_number(struct jj_render *r, struct buf *b, const struct jj_layout *y, bool negative,
                       const char *prefix, struct str digits)
{
    char head[8];
    struct jj_layout z = *y;
    int k = snprintf(head, sizeof(head), "%s%s",
                     negative         ? "-"
                     : y->sign == '+' ? "+"
                     : y->sign == ' ' ? " "
                                      : "",
                     prefix);
    if (y->zero && !y->align) {
        z.align = '=';
        if (!z.fill)
            z.fill = '0';
    }
    if (!y->group) {
        jj_put_padded(r, b, &z, (struct str){head, (size_t)k}, digits, '>');
        return;
    }
    if (z.align == '=' && z.fill == '0' && y->width > 0)
        jj_unsupported(r, "zero padding together with a thousands separator");
    struct buf grouped;
    buf_init(&grouped);
    put_grouped(&grouped, digits, y->group,
                y->type == 'b' || y->type == 'o' || (y->type | 32) == 'x' ? 4 : 3);
    jj_put_padded(r, b, &z, (struct str){head, (size_t)k}, (struct str){grouped.p, grouped.n}, '>');
    if (grouped.failed)
        jj_nomem(r, 0);
    buf_fini(&grouped);
}

void jj_put_int(struct jj_render *r, struct buf *b, const struct jj_layout *y, int64_t v,
                const char *octal_prefix)
{
    char digits[72];
    size_t at = sizeof(digits) - 1;
    char type = y->type ? y->type : 'd';
    unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 32) == 'x' ? 16 : 10;
    const char *set = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
    digits[at] = '\0';
    do
        digits[--at] = set[u % base];
    while (u /= base);
    size_t n = sizeof(digits) - 1 - at;
    while (y->precision > (int64_t)n && at > 0) { /* "%.3d" */
        digits[--at] = '0';
        n++;
    }
    if (y->precision > (int64_t)n)
        jj_unsupported(r, "an integer with more than 70 digits");
    const char *prefix = !y->alt || base == 10 ? ""
                         : base == 16          ? (type == 'X' ? "0X" : "0x")
                         : base == 8           ? octal_prefix
                                               : "0b";
    put_number(r, b, y, v < 0, prefix, (struct str){digits + at, n});
}

/* No type given but a precision: like g, with at least one digit behind the point. */
static int general_with_point(char *out, size_t size, double v, int precision)
{
    if (precision == 0)
        precision = 1;
    char e[400];
    snprintf(e, sizeof(e), "%.*e", precision - 1, v);
    int exp10 = atoi(strchr(e, 'e') + 1);
    bool exponent = exp10 < -4 || exp10 + 1 > precision - 1;
    int n = exponent ? snprintf(out, size, "%s", e)
                     : snprintf(out, size, "%.*f", precision - 1 - exp10, v);
    char *tail = exponent ? strchr(out, 'e') : out + n, rest[16] = "";
    if (exponent)
        snprintf(rest, sizeof(rest), "%s", tail);
    *tail = '\0';
    if (strchr(out, '.'))
        while (tail[-1] == '0' && (exponent || tail[-2] != '.'))
            *--tail = '\0';
    if (tail[-1] == '.')
        *--tail = '\0';
    return (int)(tail - out) + snprintf(tail, size - (size_t)(tail - out), "%s", rest);
}

void jj_put_double(struct jj_render *r, struct buf *b, const struct jj_layout *y, double v)
{
    char text[JJ_MAX_PRECISION + 400], spec[8];
    char type = y->type;
    if (y->precision > JJ_MAX_PRECISION) {
        jj_unsupported(r, "a number with more than %d digits behind the point", JJ_MAX_PRECISION);
        return;
    }
    double u = type == '%' ? fabs(v) * 100 : fabs(v);
    int precision = y->precision < 0 ? 6 : (int)y->precision, n;
    if (!isfinite(v)) {
        n = snprintf(text, sizeof(text), "%s", isnan(v) ? "nan" : "inf");
        for (char *p = text; *p && type && isupper((unsigned char)type); p++)
            *p = (char)toupper((unsigned char)*p);
    } else if (type == 0 && y->precision < 0) {
        struct buf repr;
        buf_init(&repr);
        jj_put_float(&repr, u);
        n = snprintf(text, sizeof(text), "%s", repr.p ? repr.p : "");
        buf_fini(&repr);
    } else if (type == 0) {
        n = general_with_point(text, sizeof(text), u, precision);
    } else {
        char conversion = type == '%' || type == 'F' ? 'f' : type == 'n' ? 'g' : type;
        snprintf(spec, sizeof(spec), y->alt ? "%%#.*%c" : "%%.*%c", conversion);
        n = snprintf(text, sizeof(text) - 1, spec, precision, u);
    }
    if (type == '%') {
        text[n++] = '%';
        text[n] = '\0';
    }
    put_number(r, b, y, signbit(v) && !isnan(v), "", (struct str){text, (size_t)n});
}
