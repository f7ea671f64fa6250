/* grammar.h - constrained decoding: which tokens may come next.
 *
 * A grammar is compiled once, shared by all jobs that ask for the same text, and walked byte by
 * byte; the mask of a state says for every token of the vocabulary whether its bytes go on from
 * there, and is remembered. End tokens are in the mask where the text may end.
 *
 * Thread: compile on any thread; retain and release are atomic; everything else on the one thread
 * that decodes. */
#ifndef MILLRACE_WORKER_GRAMMAR_GRAMMAR_H
#define MILLRACE_WORKER_GRAMMAR_GRAMMAR_H

#include "shared/base/err.h"
#include "shared/base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct grammar;    /* opaque */
struct token_tree; /* opaque; token_tree.h */

enum grammar_kind {
    GRAMMAR_JSON_OBJECT, /* any JSON object; the text is ignored */
    GRAMMAR_JSON_SCHEMA,
    GRAMMAR_GBNF,
    GRAMMAR_REGEX, /* the whole text, as if anchored */
    GRAMMAR_KIND_COUNT_
};

/* A new grammar with one reference. ERR_INVALID, ERR_UNSUPPORTED, ERR_RANGE: `why` is the sentence
 * for the user, it names the keyword and its place. */
enum err grammar_compile(struct grammar **out, enum grammar_kind kind, struct str text,
                         struct errmsg *why) MUST_CHECK;
struct grammar *grammar_retain(struct grammar *g);
void grammar_release(struct grammar *g); /* NULL is fine */
/* Made from this text, so that it may be shared. */
bool grammar_is(const struct grammar *g, enum grammar_kind kind, struct str text);

enum { GRAMMAR_DEAD = 0 };
uint32_t grammar_start(const struct grammar *g);
/* The state after these bytes. GRAMMAR_DEAD: they do not fit, or grammar_failed(). */
uint32_t grammar_feed(struct grammar *g, uint32_t state, const char *p, size_t n);
bool grammar_accepts(const struct grammar *g, uint32_t state);  /* the text may end here */
bool grammar_finished(const struct grammar *g, uint32_t state); /* and must */
bool grammar_failed(const struct grammar *g); /* it outgrew its tables: the job cannot go on */

/* One bit per token id, (n_vocab + 63) / 64 words; valid until the next call. Both calls' pointers
 * are borrowed from g. NULL: out of memory, or grammar_failed(). */
const uint64_t *grammar_mask(struct grammar *g, const struct token_tree *tree, uint32_t state);
bool grammar_matches(struct grammar *g, struct str text); /* from start to an accepting end */

struct grammar_stats {
    uint32_t n_states;
    size_t bytes;
    uint64_t masks_made, masks_found;
};
struct grammar_stats grammar_stats(const struct grammar *g);

#endif
