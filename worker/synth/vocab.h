/* vocab.h - a byte-level BPE vocabulary of any size, made up but working: every text can be encoded
 * and comes back byte for byte.
 *
 *   ids 0..255: the bytes | merges: English words, then syllables in all combinations | the control
 * tokens
 *
 * Common words come first, so that the token count of English text is near that of a real
 * vocabulary. Memory: everything lies in the arena given. */
#ifndef MILLRACE_WORKER_SYNTH_VOCAB_H
#define MILLRACE_WORKER_SYNTH_VOCAB_H

#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/str.h"

enum {
    SYNTH_CONTROL_TOKENS = 3,
    SYNTH_VOCAB_MIN = 256 + SYNTH_CONTROL_TOKENS,
    SYNTH_VOCAB_MAX = 1 << 20
};

struct synth_vocab {
    struct str *tokens; /* [n]: in the printable form that files have */
    int32_t *types;     /* [n]: 1 normal, 3 control */
    struct str *merges; /* [n_merges]: "left right" */
    size_t n, n_merges;
    uint32_t end_of_text, im_start, im_end; /* ids; of byte-level BPE */
};

enum { SYNTH_PAD, SYNTH_UNK, SYNTH_CLS, SYNTH_SEP, SYNTH_MASK }; /* ids of a WordPiece vocabulary */

/* ERR_RANGE when n is not within SYNTH_VOCAB_MIN to SYNTH_VOCAB_MAX. */
enum err synth_vocab_make(struct synth_vocab *v, struct arena *mem, size_t n,
                          struct errmsg *why) MUST_CHECK;
/* The same for BERT: what is not ASCII becomes [UNK]. No merges. */
enum err synth_wordpiece_make(struct synth_vocab *v, struct arena *mem, size_t n,
                              struct errmsg *why) MUST_CHECK;

#endif
