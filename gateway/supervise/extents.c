#include "gateway/supervise/extents.h"

#include "shared/base/checked.h"
#include <stdlib.h>
#include <string.h>

void extents_init(struct extents *e, uint64_t size)
{
    *e = (struct extents){.size = size};
}

void extents_fini(struct extents *e)
{
    free(e->taken);
    *e = (struct extents){0};
}

enum err extents_take(struct extents *e, uint64_t bytes, uint64_t job, uint64_t *offset)
{
    uint64_t need;
    if (!align_up_u64(&need, bytes ? bytes : 1, EXTENT_ALIGN) || need > e->size)
        return ERR_RANGE;
    if (e->n == e->cap) {
        uint32_t cap = e->cap ? e->cap * 2 : 16;
        struct extent *grown = realloc(e->taken, cap * sizeof(*grown));
        if (!grown)
            return ERR_NOMEM;
        e->taken = grown;
        e->cap = cap;
    }
    uint64_t at = 0;
    uint32_t i = 0;
    for (; i < e->n && e->taken[i].offset - at < need; i++)
        at = e->taken[i].offset + e->taken[i].bytes;
    if (i == e->n && e->size - at < need)
        return ERR_FULL;
    memmove(e->taken + i + 1, e->taken + i, (e->n - i) * sizeof(*e->taken));
    e->taken[i] = (struct extent){.offset = at, .bytes = need, .job = job};
    e->n++;
    *offset = at;
    return ERR_OK;
}

bool extents_give(struct extents *e, uint64_t offset)
{
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->taken[i].offset == offset) {
            e->n--;
            memmove(e->taken + i, e->taken + i + 1, (e->n - i) * sizeof(*e->taken));
            return true;
        }
    }
    return false;
}
