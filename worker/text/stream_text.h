/* stream_text.h - one choice's tokens, one after the other, to the text that may be shown by now.
 *
 *   tokens ──pieces──▶ bytes ──whole UTF-8 only──▶ text ──minus what may become a stop string──▶
 * out
 *
 * Promise: the delivered text is a pure function of the tokens fed so far and of the stop strings:
 * feeding the same tokens again delivers the same text in the same portions (replay after failover
 * depends on it). Every portion is valid UTF-8. All portions and stream_text_end() together are the
 * decoded text, with invalid bytes replaced by U+FFFD, up to the first stop string, which is never
 * part of it. The first is the one that is complete first, byte by byte; of several that end with
 * the same byte, the one that starts first. So it does not matter how the text was cut into tokens.
 * Control tokens add nothing. Bytes that could still become a whole code point, and text that could
 * still become a stop string, are held back; nothing else is.
 * Memory: bounded by the longest stop string and the longest piece. Thread: one per stream. */
#ifndef MILLRACE_WORKER_TEXT_STREAM_TEXT_H
#define MILLRACE_WORKER_TEXT_STREAM_TEXT_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/text/tokenizer.h"

struct stream_text; /* opaque */

/* The tokenizer is BORROWED for the life of the stream; stop strings are copied (none is empty). */
enum err stream_text_open(struct stream_text **out, const struct tokenizer *t,
                          const struct str *stops, size_t n_stops) MUST_CHECK;
void stream_text_close(struct stream_text *s); /* NULL is fine */

/* Appends what may be shown now. *stop is the index of the stop string that this token completed,
 * -1: none. After a stop nothing more may be fed and there is nothing to end. ERR_NOMEM. */
enum err stream_text_feed(struct stream_text *s, int32_t id, struct buf *out,
                          int32_t *stop) MUST_CHECK;
/* The same, but a control token adds its text: for a marker that a parser must see. */
enum err stream_text_feed_shown(struct stream_text *s, int32_t id, struct buf *out,
                                int32_t *stop) MUST_CHECK;
/* The tokens are over: appends what was held back; an unfinished code point becomes U+FFFD. */
enum err stream_text_end(struct stream_text *s, struct buf *out) MUST_CHECK;

#endif
