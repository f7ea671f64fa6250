#include "shared/base/str.h"
#include <math.h>
#include <stdlib.h>

bool str_to_u64(struct str s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    if (s.n == 0 || v > max)
        return false;
    *out = v;
    return true;
}

bool str_to_i64(struct str s, int64_t min, int64_t max, int64_t *out)
{
    bool minus = s.n > 0 && s.p[0] == '-';
    uint64_t v;
    if (!str_to_u64((struct str){s.p + minus, s.n - minus}, (uint64_t)INT64_MAX + minus, &v))
        return false;
    int64_t r = minus ? (int64_t)(0 - v) : (int64_t)v;
    if (r < min || r > max)
        return false;
    *out = r;
    return true;
}

bool str_to_f64(struct str s, double *out)
{
    char text[512]; /* strtod wants a NUL; nobody writes an option this long */
    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    for (size_t i = 0; i < s.n; i++) /* keeps out white space, hexadecimal, "inf" and "nan" */
        if (!strchr("0123456789+-.eE", s.p[i]) || s.p[i] == '\0')
            return false;
    if (s.p[0] == '+')
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    char *end;
    double v = strtod(text, &end);
    if (end != text + s.n || !isfinite(v))
        return false;
    *out = v;
    return true;
}

bool str_to_bytes(struct str s, uint64_t *out)
{
    static const char letters[] = "KMGTP";
    size_t digits = 0;
    while (digits < s.n && ((s.p[digits] >= '0' && s.p[digits] <= '9') || s.p[digits] == '.'))
        digits++;
    struct str unit = {s.p + digits, s.n - digits};
    const char *letter = unit.n ? strchr(letters, unit.p[0] & ~0x20) : NULL;
    double v, base = 1024, scale = 1;
    if (!str_to_f64((struct str){s.p, digits}, &v) || (unit.n && (!letter || !*letter)))
        return false;
    if (unit.n == 2 && unit.p[1] == 'B')
        base = 1000;
    else if (unit.n > 1 && !(unit.n == 3 && unit.p[1] == 'i' && unit.p[2] == 'B'))
        return false;
    for (const char *l = letters; letter && l <= letter; l++)
        scale *= base;
    if (v * scale < 1 || v * scale > 1e18)
        return false;
    *out = (uint64_t)(v * scale);
    return true;
}
