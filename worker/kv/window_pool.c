/* window_pool.c - see window_pool.h. */
#include "worker/kv/window_pool.h"

#include <assert.h>
#include <stdlib.h>

static void push_free(struct window_pool *p, uint32_t id)
{
    p->blocks[id].owner = NO_BLOCK;
    p->blocks[id].older = p->free_head;
    p->free_head = id;
    p->n_free++;
}

enum err window_open(struct window_pool *p, uint32_t n_blocks)
{
    *p = (struct window_pool){
        .n_blocks = n_blocks, .free_head = NO_BLOCK, .oldest = NO_BLOCK, .newest = NO_BLOCK};
    if (!n_blocks)
        return ERR_OK;
    p->blocks = calloc(n_blocks, sizeof *p->blocks);
    if (!p->blocks)
        return ERR_NOMEM;
    for (uint32_t i = n_blocks; i-- > 0;) /* so that block 0 is handed out first */
        push_free(p, i);
    return ERR_OK;
}

void window_close(struct window_pool *p)
{
    free(p->blocks);
    p->blocks = NULL;
}

bool window_reserve(struct window_pool *p, uint32_t n)
{
    if (n > p->n_blocks - p->reserved)
        return false;
    p->reserved += n;
    return true;
}

void window_unreserve(struct window_pool *p, uint32_t n)
{
    assert(n <= p->reserved);
    p->reserved -= n;
}

static void lru_remove(struct window_pool *p, uint32_t id)
{
    struct window_block *b = &p->blocks[id];
    *(b->older == NO_BLOCK ? &p->oldest : &p->blocks[b->older].newer) = b->newer;
    *(b->newer == NO_BLOCK ? &p->newest : &p->blocks[b->newer].older) = b->older;
    b->older = b->newer = NO_BLOCK;
    p->n_cached--;
}

static void lru_push(struct window_pool *p, uint32_t id)
{
    struct window_block *b = &p->blocks[id];
    b->newer = NO_BLOCK;
    b->older = p->newest;
    *(p->newest == NO_BLOCK ? &p->oldest : &p->blocks[p->newest].newer) = id;
    p->newest = id;
    p->n_cached++;
}

uint32_t window_take(struct window_pool *p, uint32_t *lost)
{
    uint32_t id = p->free_head;
    *lost = NO_BLOCK;
    if (id != NO_BLOCK) {
        p->free_head = p->blocks[id].older;
        p->n_free--;
    } else {
        id = p->oldest;
        assert(id != NO_BLOCK);
        lru_remove(p, id);
        *lost = p->blocks[id].owner;
    }
    p->blocks[id] = (struct window_block){1, NO_BLOCK, NO_BLOCK, NO_BLOCK};
    return id;
}

void window_hold(struct window_pool *p, uint32_t id)
{
    if (p->blocks[id].refs++ == 0)
        lru_remove(p, id);
}

void window_release(struct window_pool *p, uint32_t id)
{
    struct window_block *b = &p->blocks[id];
    assert(b->refs > 0);
    if (--b->refs > 0)
        return;
    if (b->owner != NO_BLOCK)
        lru_push(p, id);
    else
        push_free(p, id);
}

void window_publish(struct window_pool *p, uint32_t id, uint32_t owner)
{
    assert(p->blocks[id].owner == NO_BLOCK && p->blocks[id].refs > 0);
    p->blocks[id].owner = owner;
}

void window_drop(struct window_pool *p, uint32_t id)
{
    assert(p->blocks[id].refs == 0 && p->blocks[id].owner != NO_BLOCK);
    lru_remove(p, id);
    push_free(p, id);
}
