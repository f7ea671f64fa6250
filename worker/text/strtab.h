/* strtab.h - hash table from text to a small number: token text -> id.
 *
 * Open addressing with linear probing at most half full; the 32-bit hash is kept beside the key, so
 * that a miss costs one comparison of integers in nearly all cases. Keys are BORROWED and must
 * outlive the table. Thread: read-only after the last strtab_put(). */
#ifndef MILLRACE_WORKER_TEXT_STRTAB_H
#define MILLRACE_WORKER_TEXT_STRTAB_H

#include "shared/base/err.h"
#include "shared/base/str.h"

struct strtab_slot {
    const char *p; /* NULL: free */
    uint32_t n, hash;
    int32_t value;
};

struct strtab {
    struct strtab_slot *slots; /* owned */
    size_t mask;               /* slots - 1, a power of two minus one; 0: nothing allocated */
    size_t used;
};

enum err strtab_init(struct strtab *t, size_t expected) MUST_CHECK; /* grows when more arrive */
void strtab_fini(struct strtab *t);
/* The last put of a key wins. Keys of 4 GiB and more are ERR_RANGE. */
enum err strtab_put(struct strtab *t, struct str key, int32_t value) MUST_CHECK;
int32_t strtab_find(const struct strtab *t, struct str key); /* -1: absent */

#endif
