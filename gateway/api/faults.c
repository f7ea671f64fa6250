/* What was wrong, in OpenAI's words: its SDKs and their users know them. */
#include "gateway/api/validate.h"
#include "shared/base/utf8.h"
#include <stdarg.h>
#include <stdio.h>

static void cut_at(char *z, size_t size, int wanted)
{
    if (wanted >= 0 && (size_t)wanted >= size) {
        size_t n = size - 1;
        z[n - utf8_incomplete_tail(z, n)] = '\0';
    }
}

bool fault_set(struct api_fault *f, enum api_error e, const char *param, const char *fmt, ...)
{
    va_list args;
    f->error = e;
    cut_at(f->param, sizeof(f->param),
           snprintf(f->param, sizeof(f->param), "%s", param ? param : ""));
    va_start(args, fmt);
    cut_at(f->message, sizeof(f->message), vsnprintf(f->message, sizeof(f->message), fmt, args));
    va_end(args);
    return false;
}

struct str fault_cut(struct str s, size_t max)
{
    if (s.n > max)
        s.n = max - utf8_incomplete_tail(s.p, max);
    return s;
}

static const char *article(const char *kind)
{
    return kind[0] == 'a' || kind[0] == 'o' || kind[0] == 'i' ? "an" : "a";
}

bool fault_type(struct api_fault *f, const char *param, const char *expected,
                const struct json *got)
{
    const char *kind = json_kind_name(got->kind);
    if (got->kind == JSON_NULL)
        return fault_set(f, API_TYPE, param,
                         "Invalid type for '%s': expected %s, but got null instead.", param,
                         expected);
    return fault_set(f, API_TYPE, param,
                     "Invalid type for '%s': expected %s, but got %s %s instead.", param, expected,
                     article(kind), kind);
}

bool fault_missing(struct api_fault *f, const char *param)
{
    return fault_set(f, API_MISSING, param, "Missing required parameter: '%s'.", param);
}
