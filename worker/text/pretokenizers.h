/* pretokenizers.h - cuts text into the words that byte-level BPE merges within, by the patterns of
 * the tokenizer that the file names (tokenizer.ggml.pre). Internal to worker/text.
 *
 * A pre-tokenizer is a list of patterns. The first cuts the whole text into its matches and the
 * gaps between them, each next one cuts every piece again; a look-around never sees past its piece.
 *
 * Promise: time linear in the text (the patterns are written so that no search rescans a run of
 * characters, and none keeps a frame per character); a text that a pattern can't be run on is an
 * error, never a coarser cut. Thread: read-only after open. */
#ifndef MILLRACE_WORKER_TEXT_PRETOKENIZERS_H
#define MILLRACE_WORKER_TEXT_PRETOKENIZERS_H

#include "shared/base/err.h"
#include "shared/base/str.h"

struct pretokenizer; /* opaque */

/* What else depends on the name. */
struct pretokenizer_traits {
    bool ignore_merges; /* a word that is a token is that token, even where merges would not build
                           it */
    bool add_bos;       /* where the file doesn't say */
};

/* ERR_UNSUPPORTED: a name that is not in the table. An empty name is "default", as the format has
 * it. */
enum err pretokenizer_open(struct pretokenizer **out, struct str name, const char *path,
                           struct errmsg *why) MUST_CHECK;
void pretokenizer_close(struct pretokenizer *p);
struct pretokenizer_traits pretokenizer_traits(const struct pretokenizer *p);

struct cuts {
    uint32_t *ends; /* owned; ascending; the last is the length of the text */
    size_t n, cap;
};
void cuts_fini(struct cuts *c);

/* n below 1 GiB. Bytes that are not UTF-8 count as U+FFFD, one each, and stay what they are. */
enum err pretokenizer_split(const struct pretokenizer *p, const char *text, size_t n,
                            struct cuts *out, struct errmsg *why) MUST_CHECK;

size_t pretokenizer_count(void); /* rows of the table; tests walk it */
const char *pretokenizer_name(size_t row);

#endif
