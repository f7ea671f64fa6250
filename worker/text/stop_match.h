/* stop_match.h - text, up to the first stop string.
 *
 * Promise: what is delivered is a pure function of the text fed and of the stop strings: the text
 * up to the first stop string, which is never part of it. The first is the one that is complete
 * first, byte by byte; of several that end with the same byte, the one that starts first. So it
 * does not matter how the text was cut. Text that could still become a stop string is held back;
 * nothing else is. Memory: bounded by the longest stop string and the longest piece. Thread: one
 * per matcher. */
#ifndef MILLRACE_WORKER_TEXT_STOP_MATCH_H
#define MILLRACE_WORKER_TEXT_STOP_MATCH_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include <stdint.h>

struct stop_match; /* opaque */

/* The stop strings are copied; none is empty. */
enum err stop_match_open(struct stop_match **out, const struct str *stops,
                         size_t n_stops) MUST_CHECK;
void stop_match_close(struct stop_match *s); /* NULL is fine */

/* Appends what may be shown now. *stop is the index of the stop string that this text completed,
 * -1: none. After a stop nothing more may be fed and there is nothing to end. ERR_NOMEM. */
enum err stop_match_feed(struct stop_match *s, struct str text, struct buf *out,
                         int32_t *stop) MUST_CHECK;
/* The text is over: appends what was held back. */
enum err stop_match_end(struct stop_match *s, struct buf *out) MUST_CHECK;

#endif
