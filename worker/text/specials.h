/* specials.h - which tokens begin, end and delimit: from the metadata, and from texts that are
 * known to end a turn where files don't say so. Part of vocab_open(); internal to worker/text. */
#ifndef MILLRACE_WORKER_TEXT_SPECIALS_H
#define MILLRACE_WORKER_TEXT_SPECIALS_H

#include "worker/text/vocab.h"

/* Needs texts, types and by_text; fills the special ids, the add_ flags, attrs; types a known end
 * of turn as control. ERR_INVALID: an id beyond the vocabulary, or a flag that asks for a token
 * which isn't there. */
enum err specials_read(struct vocab *v, const struct gguf *g, bool pre_add_bos,
                       struct errmsg *why) MUST_CHECK;

#endif
