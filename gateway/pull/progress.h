/* progress.h - how far a pull is, on stderr: one line that repaints itself on a terminal, else a
 * plain line every ten seconds.
 *
 * Thread: one. Memory: none. */
#ifndef MILLRACE_GATEWAY_PULL_PROGRESS_H
#define MILLRACE_GATEWAY_PULL_PROGRESS_H

#include "shared/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool tty, quiet;
    bool painted;         /* a line without an end stands on the terminal */
    char label[96];       /* what is under way */
    uint64_t total, done; /* bytes; total 0: unknown */
    uint64_t fetched;     /* of done: over the network, in this run */
    uint64_t painted_ms;
    uint64_t rate_ms, rate_fetched; /* start of the span that the rate is taken over */
    double rate;                    /* bytes/s, smoothed; 0: not known yet */
};

void progress_init(struct progress *p, bool quiet);
/* What is already here counts as done, not as fetched. */
void progress_have(struct progress *p, uint64_t bytes);
void progress_add(struct progress *p, uint64_t bytes);  /* came in; repaints when it is time */
void progress_lose(struct progress *p, uint64_t bytes); /* was dropped: starts over */
void progress_tick(struct progress *p);                 /* repaints when it is time */
/* One line of text between; ends the painted line first. */
void progress_note(struct progress *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
void progress_end(struct progress *p); /* ends the painted line, if any */

#endif
