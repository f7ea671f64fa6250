/* gguf_read.c - typed reads of values: one place that knows the widths, one that knows the
 * conversions. */
#include "worker/model/gguf_parts.h"

/* A number as it stands in the file: exactly one of the three is meant. */
struct number {
    enum { NOT_A_NUMBER, SIGNED, UNSIGNED, FLOATING } kind;
    int64_t i;
    uint64_t u;
    double f;
};

#define LOAD(type)                                                                                 \
    type v;                                                                                        \
    memcpy(&v, p, sizeof v)
static struct number number_at(const struct gguf_kv *kv, uint64_t index)
{
    size_t width = gguf_scalar_bytes(kv->elem);
    if (index >= kv->count || width == 0)
        return (struct number){0};
    const uint8_t *p = (const uint8_t *)kv->data + index * width;
    switch (kv->elem) {
    case GGUF_U8:
        return (struct number){.kind = UNSIGNED, .u = *p};
    case GGUF_I8:
        return (struct number){.kind = SIGNED, .i = (int8_t)*p};
    case GGUF_U16: {
        LOAD(uint16_t);
        return (struct number){.kind = UNSIGNED, .u = v};
    }
    case GGUF_I16: {
        LOAD(int16_t);
        return (struct number){.kind = SIGNED, .i = v};
    }
    case GGUF_U32: {
        LOAD(uint32_t);
        return (struct number){.kind = UNSIGNED, .u = v};
    }
    case GGUF_I32: {
        LOAD(int32_t);
        return (struct number){.kind = SIGNED, .i = v};
    }
    case GGUF_U64: {
        LOAD(uint64_t);
        return (struct number){.kind = UNSIGNED, .u = v};
    }
    case GGUF_I64: {
        LOAD(int64_t);
        return (struct number){.kind = SIGNED, .i = v};
    }
    case GGUF_F32: {
        LOAD(float);
        return (struct number){.kind = FLOATING, .f = (double)v};
    }
    case GGUF_F64: {
        LOAD(double);
        return (struct number){.kind = FLOATING, .f = v};
    }
    case GGUF_BOOL:
    case GGUF_STRING:
    case GGUF_ARRAY:
        break;
    }
    return (struct number){0};
}
#undef LOAD

bool gguf_elem_u64(const struct gguf_kv *kv, uint64_t i, uint64_t *out)
{
    struct number v = number_at(kv, i);
    if (v.kind == UNSIGNED)
        *out = v.u;
    else if (v.kind == SIGNED && v.i >= 0)
        *out = (uint64_t)v.i;
    else
        return false;
    return true;
}

bool gguf_elem_i64(const struct gguf_kv *kv, uint64_t i, int64_t *out)
{
    struct number v = number_at(kv, i);
    if (v.kind == SIGNED)
        *out = v.i;
    else if (v.kind == UNSIGNED && v.u <= INT64_MAX)
        *out = (int64_t)v.u;
    else
        return false;
    return true;
}

bool gguf_elem_f32(const struct gguf_kv *kv, uint64_t i, float *out)
{
    struct number v = number_at(kv, i);
    if (v.kind ==
        FLOATING) /* a double beyond float's range becomes infinite: defined by IEEE 754 */
        *out = (float)v.f;
    else if (v.kind == SIGNED)
        *out = (float)v.i;
    else if (v.kind == UNSIGNED)
        *out = (float)v.u;
    else
        return false;
    return true;
}

bool gguf_elem_str(const struct gguf_kv *kv, uint64_t i, struct str *out)
{
    if (kv->elem != GGUF_STRING || i >= kv->count)
        return false;
    *out = kv->strings[i];
    return true;
}

/* The scalar behind a key; NULL when absent or an array. */
static const struct gguf_kv *scalar(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv = gguf_kv(g, key);
    return kv && kv->type != GGUF_ARRAY ? kv : NULL;
}

bool gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out)
{
    uint64_t v;
    if (!gguf_get_u64(g, key, &v) || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

bool gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out)
{
    const struct gguf_kv *kv = scalar(g, key);
    return kv && gguf_elem_u64(kv, 0, out);
}

bool gguf_get_i64(const struct gguf *g, const char *key, int64_t *out)
{
    const struct gguf_kv *kv = scalar(g, key);
    return kv && gguf_elem_i64(kv, 0, out);
}

bool gguf_get_f32(const struct gguf *g, const char *key, float *out)
{
    const struct gguf_kv *kv = scalar(g, key);
    return kv && gguf_elem_f32(kv, 0, out);
}

bool gguf_get_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_kv *kv = scalar(g, key);
    if (!kv || kv->type != GGUF_BOOL)
        return false;
    *out = *(const uint8_t *)kv->data != 0;
    return true;
}

bool gguf_get_str(const struct gguf *g, const char *key, struct str *out)
{
    const struct gguf_kv *kv = scalar(g, key);
    return kv && gguf_elem_str(kv, 0, out);
}
