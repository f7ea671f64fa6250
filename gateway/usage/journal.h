/* journal.h - the running jobs' rows, in a file that survives us.
 *
 *   0          4096        4096+512       ...
 *   | header   | slot 0    | slot 1  ...           slot: u32 state, u32 zero, struct usage_row,
 * zeros
 *
 *   FREE ──take──▶ TAKEN ──begin──▶ LIVE ──end──▶ ENDED ──committed──▶ FREE
 *                                    │              │
 *           found after kill -9:  INTERRUPTED    as it says        (TAKEN: nothing was promised
 * yet)
 *
 * Every step is a plain store into a shared file mapping: no system call on the hot path, and the
 * kernel keeps the pages when the process is killed. The file's blocks are allocated at open, so
 * that a full disk can't become a SIGBUS. Power loss is another matter: see docs/decisions. Thread:
 * the caller serializes; state stores are release. */
#ifndef MILLRACE_GATEWAY_USAGE_JOURNAL_H
#define MILLRACE_GATEWAY_USAGE_JOURNAL_H

#include "gateway/usage/usage.h"
#include <stdatomic.h>

enum slot_state { SLOT_FREE = 0, SLOT_TAKEN = 1, SLOT_LIVE = 2, SLOT_ENDED = 3 };

struct slot {
    _Atomic uint32_t state;
    uint32_t zero;
    struct usage_row row;
    char pad[512 - 8 - sizeof(struct usage_row)];
};
_Static_assert(sizeof(struct slot) == 512, "slots don't cross pages");

struct journal {
    int fd;
    void *base; /* owned mapping */
    size_t bytes;
    struct slot *slots; /* in the mapping */
    uint32_t n;
};

/* Opens or creates. What an earlier process left is kept in the slots. A journal of another layout
 * is refused. A file of fewer slots grows; one of more keeps its size. */
enum err journal_open(struct journal *j, const char *path, uint32_t n_slots,
                      struct errmsg *why) MUST_CHECK;
void journal_close(struct journal *j);

#endif
