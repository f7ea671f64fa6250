/* arena.h - memory with one lifetime: a request, a parse, a model. Freed as a whole.
 *
 * Promise: pointers stay valid and unmoved until arena_reset() or arena_fini(); allocation is a
 * bump of a pointer. Thread: one owner at a time. Errors: NULL when the limit or the system says
 * no. */
#ifndef MILLRACE_BASE_ARENA_H
#define MILLRACE_BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* owned; newest first */
    size_t used;                /* bytes handed out since the last reset */
    size_t limit;               /* 0: none */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_fini(struct arena *a);  /* frees everything; the arena may be used again */
void arena_reset(struct arena *a); /* forgets everything, keeps one chunk for reuse */

void *arena_alloc(struct arena *a, size_t n);                  /* 16-byte aligned, not cleared */
void *arena_zalloc(struct arena *a, size_t n);                 /* cleared */
void *arena_array(struct arena *a, size_t n, size_t elem);     /* cleared; checked multiplication */
char *arena_strndup(struct arena *a, const char *p, size_t n); /* adds a NUL */

#endif
