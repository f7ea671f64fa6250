/* subscript.c - v.name, v[key], v[a:b:c]. */
#include "worker/text/jinja/methods.h"
#include "worker/text/jinja/ops.h"
#include "worker/text/jinja/render.h"

size_t jj_cp_offset(struct jj_value s, size_t cp)
{
    if (cp >= jj_cps(s))
        return s.s->n;
    if (jj_cps(s) == s.s->n)
        return cp;
    size_t at = 0;
    for (; at < s.s->n; at++) {
        if (((unsigned char)s.s->p[at] & 0xC0) == 0x80)
            continue;
        if (cp-- == 0)
            break;
    }
    return at;
}

struct jj_value jj_substr(struct jj_render *r, struct jj_value s, size_t from_cp, size_t to_cp)
{
    if (from_cp >= to_cp)
        return jj_mark(jj_cstr(r, ""), s.aux);
    jj_charge_chars(r, jj_cps(s) == s.s->n ? 0 : s.s->n);
    size_t from = jj_cp_offset(s, from_cp), to = jj_cp_offset(s, to_cp);
    return jj_mark(jj_str_borrow(r, s.s->p + from, to - from), s.aux);
}

/* v[i] of a sequence; JJ_MISSING when i is past its ends. */
static struct jj_value item_at(struct jj_render *r, struct jj_value v, int64_t i)
{
    int64_t n = 0;
    (void)jj_length(r, v, &n);
    if (i < 0)
        i += n;
    if (i < 0 || i >= n)
        return jj_missing();
    if (v.kind == JJ_STR)
        return jj_substr(r, v, (size_t)i, (size_t)i + 1);
    if (v.kind == JJ_RANGE)
        return jj_int(v.range->start + i * v.range->step);
    return v.l->v[i];
}

static struct jj_value unsafe_attr(struct jj_render *r, struct jj_value v, struct jj_value name)
{
    struct jj_value u = jj_undefined_attr(r, v, name);
    if (!jj_failed(r))
        u.undef->security = true;
    return u;
}

struct jj_value jj_getattr(struct jj_render *r, struct jj_value v, struct jj_value name)
{
    struct jj_value out = jj_none();
    enum jj_attr found = jj_attr_find(r, v, jj_s(name), &out);
    if (found == JJ_ATTR_VALUE)
        return out;
    if (found == JJ_ATTR_UNSAFE)
        return unsafe_attr(r, v, name);
    if (v.kind == JJ_UNDEFINED) {
        jj_fail_undefined(r, v);
        return v;
    }
    const struct jj_value *item = v.kind == JJ_DICT ? jj_dict_get(r, v.d, name) : NULL;
    return item ? *item : jj_undefined_attr(r, v, name);
}

struct jj_value jj_getitem(struct jj_render *r, struct jj_value v, struct jj_value key)
{
    struct jj_value out = jj_none();
    if (v.kind == JJ_UNDEFINED) {
        jj_fail_undefined(r, v);
        return v;
    }
    if (v.kind == JJ_DICT && jj_hashable(r, key)) {
        const struct jj_value *item = jj_dict_get(r, v.d, key);
        if (item)
            return *item;
    } else if ((v.kind == JJ_STR || v.kind == JJ_LIST || v.kind == JJ_TUPLE ||
                v.kind == JJ_RANGE) &&
               jj_is_int(key)) {
        out = item_at(r, v, jj_as_int(key));
        return out.kind == JJ_MISSING ? jj_undefined_attr(r, v, key) : out;
    }
    if (key.kind == JJ_STR) {
        enum jj_attr found = jj_attr_find(r, v, jj_s(key), &out);
        if (found != JJ_ATTR_NONE)
            return found == JJ_ATTR_VALUE ? out : unsafe_attr(r, v, key);
    }
    return jj_undefined_attr(r, v, key);
}

/* --- slices -------------------------------------------------------------------------- */

static bool slice_part(struct jj_render *r, struct jj_value v, int64_t none, int64_t *out)
{
    if (v.kind == JJ_NONE)
        *out = none;
    else if (jj_is_int(v))
        *out = jj_as_int(v);
    else
        jj_fail(r, "slice indices must be integers, not '%s'", jj_type_name(v));
    return !jj_failed(r);
}

static int64_t clamp(int64_t i, int64_t n, int64_t lo, int64_t hi)
{
    if (i < 0)
        i += n;
    return i < lo ? lo : i > hi ? hi : i;
}

struct jj_value jj_slice(struct jj_render *r, struct jj_value v, struct jj_value start_v,
                         struct jj_value stop_v, struct jj_value step_v)
{
    int64_t n = 0, start, stop, step;
    if (v.kind == JJ_UNDEFINED) {
        jj_fail_undefined(r, v);
        return v;
    }
    if ((v.kind != JJ_STR && v.kind != JJ_LIST && v.kind != JJ_TUPLE && v.kind != JJ_RANGE) ||
        !jj_length(r, v, &n)) {
        jj_fail(r, "'%s' object cannot be sliced", jj_type_name(v));
        return v;
    }
    if (!slice_part(r, step_v, 1, &step))
        return v;
    if (step == 0 || step == INT64_MIN) {
        jj_fail(r, "a slice needs a step that is not zero");
        return v;
    }
    int64_t lo = step < 0 ? -1 : 0, hi = step < 0 ? n - 1 : n;
    if (!slice_part(r, start_v, step < 0 ? INT64_MAX : 0, &start) ||
        !slice_part(r, stop_v, step < 0 ? INT64_MIN : INT64_MAX, &stop))
        return v;
    start = clamp(start, n, lo, hi);
    stop = stop_v.kind == JJ_NONE ? (step < 0 ? -1 : n) : clamp(stop, n, lo, hi);
    int64_t count = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0)
                             : (start > stop ? (start - stop - 1) / -step + 1 : 0);
    if (v.kind == JJ_RANGE) {
        struct jj_range *range = jj_alloc(r, sizeof(*range));
        if (!range)
            return v;
        uint64_t first = (uint64_t)v.range->start,
                 by = (uint64_t)v.range->step; /* ends may wrap, items do not */
        *range = (struct jj_range){(int64_t)(first + (uint64_t)start * by),
                                   (int64_t)(first + (uint64_t)stop * by),
                                   (int64_t)(by * (uint64_t)step), count};
        return (struct jj_value){.kind = JJ_RANGE, .range = range};
    }
    if (v.kind == JJ_STR && step == 1)
        return jj_substr(r, v, (size_t)start, (size_t)(start + count));
    if (v.kind == JJ_STR) {
        struct buf b;
        jj_buf(&b);
        for (int64_t k = 0; k < count; k++) {
            size_t at = jj_cp_offset(v, (size_t)(start + k * step)), end = at + 1;
            if (!jj_charge(r, 1 + (jj_cps(v) == v.s->n ? 0 : at / 16)))
                break;
            while (end < v.s->n && ((unsigned char)v.s->p[end] & 0xC0) == 0x80)
                end++;
            buf_put(&b, v.s->p + at, end - at);
        }
        return jj_mark(jj_take_buf(r, &b), v.aux);
    }
    struct jj_list *l = jj_list_new(r, (size_t)count);
    for (int64_t k = 0; k < count && !jj_failed(r); k++)
        jj_list_push(r, l, v.l->v[start + k * step]);
    v.l = l;
    v.aux = false;
    return v;
}
