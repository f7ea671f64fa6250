/* value.c - texts, lists, dictionaries, and walking them. */
#include "worker/text/jinja/value.h"

#include "shared/base/utf8.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/render.h"
#include "worker/text/jinja/repr.h"

/* What constructors give back for nothing and after a failure. Never written: no capacity, nothing
 * to count. */
static const struct jj_text empty_text = {.p = "", .n = 0, .n_cp = 0};
static const struct jj_list empty_list;
static const struct jj_dict empty_dict;

/* --- text ---------------------------------------------------------------------------- */

struct jj_value jj_str_borrow(struct jj_render *r, const char *p, size_t n)
{
    struct jj_value v = {.kind = JJ_STR, .s = (struct jj_text *)&empty_text};
    struct jj_text *t = n ? jj_alloc(r, sizeof(*t)) : NULL;
    if (t) {
        *t = (struct jj_text){.p = p, .n = n, .n_cp = SIZE_MAX};
        v.s = t;
    }
    return v;
}

struct jj_value jj_str(struct jj_render *r, const char *p, size_t n)
{
    char *copy = n ? jj_alloc(r, n) : NULL;
    if (!copy)
        return (struct jj_value){.kind = JJ_STR, .s = (struct jj_text *)&empty_text};
    memcpy(copy, p, n);
    jj_charge_bytes(r, n);
    return jj_str_borrow(r, copy, n);
}

struct jj_value jj_cstr(struct jj_render *r, const char *literal)
{
    return jj_str_borrow(r, literal, strlen(literal));
}

struct jj_value jj_char(struct jj_render *r, uint32_t cp)
{
    char b[4];
    int n = utf8_encode(cp, b);
    return jj_str(r, b, (size_t)n);
}

struct jj_value jj_concat(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    size_t n = a.s->n + b.s->n; /* both are below the memory limit: no overflow */
    if (b.s->n == 0)
        return a;
    if (a.s->n == 0)
        return b;
    if (!jj_charge_bytes(r, b.s->n))
        return a;
    struct jj_bytes *g = a.s->grow;
    if (!g || a.s->p + a.s->n != g->p + g->used || g->cap - g->used < b.s->n) {
        size_t cap = a.s->grow ? 2 * n : n; /* room only for what already grew once */
        g = jj_alloc(r, sizeof(*g) + cap);
        if (!g || !jj_charge_bytes(r, a.s->n))
            return a;
        memcpy(g->p, a.s->p, a.s->n);
        g->used = a.s->n;
        g->cap = cap;
    }
    memcpy(g->p + g->used, b.s->p, b.s->n);
    g->used += b.s->n;
    struct jj_value v = jj_str_borrow(r, g->p, n);
    if (jj_failed(r))
        return a;
    v.s->grow = g;
    if (a.s->n_cp != SIZE_MAX && b.s->n_cp != SIZE_MAX)
        v.s->n_cp = a.s->n_cp + b.s->n_cp;
    return v;
}

size_t jj_cps(struct jj_value v)
{
    if (v.s->n_cp == SIZE_MAX) {
        size_t n = 0;
        for (size_t i = 0; i < v.s->n; i++)
            n += ((unsigned char)v.s->p[i] & 0xC0) != 0x80;
        v.s->n_cp = n;
    }
    return v.s->n_cp;
}

/* --- lists --------------------------------------------------------------------------- */

struct jj_list *jj_list_new(struct jj_render *r, size_t cap)
{
    struct jj_list *l = jj_alloc(r, sizeof(*l));
    if (!l)
        return (struct jj_list *)&empty_list;
    *l = (struct jj_list){0};
    if (cap == 0)
        return l;
    if (cap > JJ_MAX_MEMORY / sizeof(struct jj_value)) {
        jj_nomem(r, SIZE_MAX);
        return l;
    }
    struct jj_vec *vec = jj_alloc(r, sizeof(*vec) + cap * sizeof(vec->v[0]));
    if (!vec)
        return l;
    vec->used = 0;
    vec->cap = cap;
    l->vec = vec;
    l->v = vec->v;
    return l;
}

void jj_list_push(struct jj_render *r, struct jj_list *l, struct jj_value v)
{
    if (!jj_charge(r, 1))
        return;
    struct jj_vec *vec = l->vec;
    if (!vec || l->v + l->n != vec->v + vec->used || vec->used == vec->cap) {
        size_t cap = l->n < 4 ? 8 : 2 * l->n;
        vec = jj_alloc(r, sizeof(*vec) + cap * sizeof(vec->v[0]));
        if (!vec)
            return;
        if (l->n)
            memcpy(vec->v, l->v, l->n * sizeof(vec->v[0]));
        vec->used = l->n;
        vec->cap = cap;
        l->vec = vec;
        l->v = vec->v;
    }
    vec->v[vec->used++] = v;
    l->n++;
}

struct jj_value jj_pair_tuple(struct jj_render *r, struct jj_value a, struct jj_value b)
{
    struct jj_list *l = jj_list_new(r, 2);
    jj_list_push(r, l, a);
    jj_list_push(r, l, b);
    return jj_of_tuple(l);
}

struct jj_value jj_gen_new(struct jj_render *r, const char *type, struct jj_list *items)
{
    struct jj_gen *g = arena_alloc(&r->arena, sizeof(*g));
    struct jj_error *later =
        jj_failed(r) && !r->error.final ? arena_alloc(&r->arena, sizeof(*later)) : NULL;
    if (!g || (jj_failed(r) && !later)) {
        jj_nomem(r, sizeof(*g)); /* keeps an error that is there already */
        return jj_none();
    }
    *g = (struct jj_gen){.items = *items, .type = type, .later = later};
    if (later) {
        *later = r->error;
        r->error.code = ERR_OK;
    }
    return (struct jj_value){.kind = JJ_GEN, .gen = g};
}

/* --- dictionaries -------------------------------------------------------------------- */

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

/* Equal values have equal hashes: 1, 1.0 and true are one key. */
static bool hash_value(struct jj_render *r, struct jj_value v, uint64_t *out)
{
    uint64_t h = 0;
    switch ((enum jj_kind)v.kind) {
    case JJ_UNDEFINED:
    case JJ_NONE:
        h = 0x9e37 + v.kind;
        break;
    case JJ_BOOL:
    case JJ_INT:
        h = (uint64_t)jj_as_int(v);
        break;
    case JJ_FLOAT:
        if (v.f >= -9.2e18 && v.f <= 9.2e18 && v.f == (double)(int64_t)v.f)
            h = (uint64_t)(int64_t)v.f;
        else
            memcpy(&h, &v.f, sizeof(h));
        break;
    case JJ_STR:
    case JJ_BIG:
        jj_charge_bytes(r, v.s->n);
        h = str_hash(jj_s(v)) ^ v.kind;
        break;
    case JJ_TUPLE:
        if (!jj_enter(r, JJ_MAX_DEPTH))
            return false;
        for (size_t i = 0; i < v.l->n; i++) {
            uint64_t e;
            if (!jj_charge(r, 1) || !hash_value(r, v.l->v[i], &e))
                return jj_leave(r), false;
            h = mix(h * 31 + e);
        }
        jj_leave(r);
        break;
    case JJ_LIST:
    case JJ_DICT:
    case JJ_VIEW:
        jj_fail(r, "unhashable type: '%s' cannot be a key", jj_type_name(v));
        return false;
    default:
        h = (uintptr_t)v.d; /* by identity */
    }
    *out = mix(h);
    return true;
}

static bool hashable(struct jj_render *r, struct jj_value v, int depth)
{
    if (v.kind == JJ_TUPLE &&
        depth < JJ_MAX_VALUE_DEPTH) /* deeper ones fail when they are hashed */
        for (size_t i = 0; i < v.l->n; i++)
            if (!jj_charge(r, 1) || !hashable(r, v.l->v[i], depth + 1))
                return false;
    return v.kind != JJ_LIST && v.kind != JJ_DICT && v.kind != JJ_VIEW;
}

bool jj_hashable(struct jj_render *r, struct jj_value v)
{
    return hashable(r, v, 0);
}

struct jj_dict *jj_dict_new(struct jj_render *r)
{
    struct jj_dict *d = jj_alloc(r, sizeof(*d));
    if (!d)
        return (struct jj_dict *)&empty_dict;
    *d = (struct jj_dict){0};
    return d;
}

static bool key_equal(struct jj_render *r, const struct jj_pair *p, struct jj_value key,
                      uint64_t hash)
{
    jj_charge(r, 1);
    return p->hash == hash && jj_equal(r, p->key, key);
}

static struct jj_pair *find(struct jj_render *r, const struct jj_dict *d, struct jj_value key,
                            uint64_t hash)
{
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (key_equal(r, &d->v[i], key, hash))
                return &d->v[i];
        return NULL;
    }
    size_t mask = d->n_index - 1;
    for (size_t at = hash & mask; d->index[at] && !jj_failed(r); at = (at + 1) & mask)
        if (key_equal(r, &d->v[d->index[at] - 1], key, hash))
            return &d->v[d->index[at] - 1];
    return NULL;
}

static void reindex(struct jj_render *r, struct jj_dict *d)
{
    size_t n = 32;
    while (n < 3 * d->cap)
        n *= 2;
    uint32_t *index = arena_array(&r->arena, n, sizeof(*index));
    if (!index) {
        jj_nomem(r, n * sizeof(*index));
        return;
    }
    d->index = index;
    d->n_index = n;
    for (size_t i = 0; i < d->n; i++) {
        size_t at = d->v[i].hash & (n - 1);
        while (index[at])
            at = (at + 1) & (n - 1);
        index[at] = (uint32_t)i + 1;
    }
}

void jj_dict_set(struct jj_render *r, struct jj_dict *d, struct jj_value key, struct jj_value v)
{
    uint64_t hash;
    if (!jj_charge(r, 1) || !hash_value(r, key, &hash))
        return;
    struct jj_pair *old = find(r, d, key, hash);
    if (old) {
        old->value = v;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 4;
        struct jj_pair *grown = jj_alloc(r, cap * sizeof(*grown));
        if (!grown)
            return;
        if (d->n)
            memcpy(grown, d->v, d->n * sizeof(*grown));
        d->v = grown;
        d->cap = cap;
        if (cap > 8)
            reindex(r, d);
        if (jj_failed(r))
            return;
    }
    d->v[d->n] = (struct jj_pair){.key = key, .value = v, .hash = hash};
    d->n++;
    if (d->index) {
        size_t at = hash & (d->n_index - 1);
        while (d->index[at])
            at = (at + 1) & (d->n_index - 1);
        d->index[at] = (uint32_t)d->n;
    }
}

const struct jj_value *jj_dict_get(struct jj_render *r, const struct jj_dict *d,
                                   struct jj_value key)
{
    uint64_t hash;
    if (!hash_value(r, key, &hash))
        return NULL;
    const struct jj_pair *p = find(r, d, key, hash);
    return p && !jj_failed(r) ? &p->value : NULL;
}

const struct jj_value *jj_dict_find(struct jj_render *r, const struct jj_dict *d, struct str key)
{
    struct jj_text t = {.p = key.p, .n = key.n, .n_cp = SIZE_MAX};
    return jj_dict_get(r, d, (struct jj_value){.kind = JJ_STR, .s = &t});
}

/* --- undefined ----------------------------------------------------------------------- */

static struct jj_value undefined(struct jj_render *r, struct jj_undef u)
{
    struct jj_value v = {.kind = JJ_UNDEFINED};
    v.undef = jj_alloc(r, sizeof(*v.undef));
    if (v.undef)
        *v.undef = u;
    return v;
}

struct jj_value jj_undefined(struct jj_render *r, const char *hint)
{
    return undefined(r, (struct jj_undef){.hint = hint});
}

struct jj_value jj_undefined_name(struct jj_render *r, struct jj_text *name)
{
    return undefined(r, (struct jj_undef){.name = {.kind = JJ_STR, .s = name}});
}

struct jj_value jj_undefined_attr(struct jj_render *r, struct jj_value owner, struct jj_value name)
{
    return undefined(r, (struct jj_undef){.name = name, .attribute = true, .owner = owner.kind});
}

/* --- walking ------------------------------------------------------------------------- */

bool jj_iterable(struct jj_value v)
{
    switch ((enum jj_kind)v.kind) {
    case JJ_UNDEFINED:
    case JJ_STR:
    case JJ_LIST:
    case JJ_TUPLE:
    case JJ_DICT:
    case JJ_VIEW:
    case JJ_RANGE:
    case JJ_GEN:
    case JJ_LOOP:
        return true;
    default:
        return false;
    }
}

bool jj_iter_init(struct jj_render *r, struct jj_iter *it, struct jj_value v)
{
    *it = (struct jj_iter){.of = v};
    if (v.kind == JJ_LOOP)
        jj_unsupported(r, "walking the loop variable itself");
    else if (!jj_iterable(v))
        jj_fail(r, "'%s' object is not iterable", jj_type_name(v));
    return !jj_failed(r);
}

bool jj_iter_next(struct jj_render *r, struct jj_iter *it, struct jj_value *out)
{
    if (!jj_charge(r, 1))
        return false;
    struct jj_value v = it->of;
    switch ((enum jj_kind)v.kind) {
    case JJ_STR: {
        uint32_t cp;
        int n = utf8_decode(v.s->p + it->at, v.s->n - it->at, &cp);
        if (n == 0)
            return false;
        *out = jj_str_borrow(r, v.s->p + it->at, (size_t)n);
        it->at += (size_t)n;
        return !jj_failed(r);
    }
    case JJ_LIST:
    case JJ_TUPLE:
        if (it->at >= v.l->n)
            return false;
        *out = v.l->v[it->at++];
        return true;
    case JJ_DICT:
    case JJ_VIEW: {
        const struct jj_dict *d = v.kind == JJ_DICT ? v.d : v.view->d;
        enum jj_view_what what = v.kind == JJ_DICT ? JJ_KEYS : v.view->what;
        if (it->at >= d->n)
            return false;
        const struct jj_pair *p = &d->v[it->at++];
        *out = what == JJ_KEYS     ? p->key
               : what == JJ_VALUES ? p->value
                                   : jj_pair_tuple(r, p->key, p->value);
        return !jj_failed(r);
    }
    case JJ_RANGE:
        if ((int64_t)it->at >= v.range->n)
            return false;
        *out = jj_int(v.range->start + (int64_t)it->at++ * v.range->step);
        return true;
    case JJ_GEN:
        if (v.gen->at < v.gen->items.n) {
            *out = v.gen->items.v[v.gen->at++];
            return true;
        }
        if (v.gen->later) {
            r->error = *v.gen->later;
            v.gen->later = NULL;
        }
        return false;
    default:
        return false;
    }
}

struct jj_list *jj_list_of(struct jj_render *r, struct jj_value v)
{
    int64_t n = 0;
    struct jj_iter it;
    if (!jj_length(r, v, &n) || v.kind == JJ_STR)
        n = 0;
    struct jj_list *l = jj_list_new(r, (size_t)n);
    if (jj_iter_init(r, &it, v))
        for (struct jj_value e; jj_iter_next(r, &it, &e);)
            jj_list_push(r, l, e);
    return l;
}
