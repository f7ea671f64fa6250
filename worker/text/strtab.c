/* strtab.c - see strtab.h. */
#include "worker/text/strtab.h"
#include "shared/base/checked.h"

#include <stdlib.h>

/* Eight bytes a step; multiply and fold (the mixing step of splitmix64). FNV's byte a step was half
 * the time of SentencePiece merging, where every candidate pair is one lookup. */
static uint32_t hash_of(struct str s)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ s.n;
    const char *p = s.p;
    size_t n = s.n;
    for (;;) {
        uint64_t v = 0;
        size_t take = n < 8 ? n : 8;
        memcpy(&v, p, take);
        h = (h ^ v) * 0xbf58476d1ce4e5b9u;
        h ^= h >> 29;
        if (n <= 8)
            break;
        p += 8;
        n -= 8;
    }
    h *= 0x94d049bb133111ebu;
    return (uint32_t)(h >> 32);
}

static struct strtab_slot *place(const struct strtab *t, struct str key, uint32_t hash)
{
    size_t i = hash & t->mask;
    for (;;) {
        struct strtab_slot *s = &t->slots[i];
        if (!s->p || (s->hash == hash && s->n == key.n && memcmp(s->p, key.p, key.n) == 0))
            return s;
        i = (i + 1) & t->mask;
    }
}

static enum err resize(struct strtab *t, size_t n_slots)
{
    struct strtab bigger = {.mask = n_slots - 1, .used = t->used};
    bigger.slots = calloc(n_slots, sizeof *bigger.slots);
    if (!bigger.slots)
        return ERR_NOMEM;
    for (size_t i = 0; t->slots && i <= t->mask; i++) {
        const struct strtab_slot *s = &t->slots[i];
        if (s->p)
            *place(&bigger, (struct str){s->p, s->n}, s->hash) = *s;
    }
    free(t->slots);
    *t = bigger;
    return ERR_OK;
}

enum err strtab_init(struct strtab *t, size_t expected)
{
    *t = (struct strtab){0};
    size_t n_slots = 16;
    while (n_slots / 2 < expected)
        if (!mul_size(&n_slots, n_slots, 2))
            return ERR_NOMEM;
    return resize(t, n_slots);
}

void strtab_fini(struct strtab *t)
{
    free(t->slots);
    *t = (struct strtab){0};
}

enum err strtab_put(struct strtab *t, struct str key, int32_t value)
{
    if (key.n > UINT32_MAX)
        return ERR_RANGE;
    if (key.n == 0)
        key.p = ""; /* a free slot is one with p == NULL */
    if (t->used * 2 > t->mask) {
        size_t n_slots;
        if (!mul_size(&n_slots, t->mask + 1, 2))
            return ERR_NOMEM;
        enum err e = resize(t, n_slots);
        if (e)
            return e;
    }
    uint32_t hash = hash_of(key);
    struct strtab_slot *s = place(t, key, hash);
    if (!s->p) {
        *s = (struct strtab_slot){.p = key.p, .n = (uint32_t)key.n, .hash = hash};
        t->used++;
    }
    s->value = value;
    return ERR_OK;
}

int32_t strtab_find(const struct strtab *t, struct str key)
{
    if (key.n > UINT32_MAX || !t->slots)
        return -1;
    if (key.n == 0)
        key.p = "";
    const struct strtab_slot *s = place(t, key, hash_of(key));
    return s->p ? s->value : -1;
}
