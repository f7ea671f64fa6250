/* kinds.h - the four kinds of tokenizer, each in its own file, as tokenizer.c calls them. Internal
 * to worker/text.
 *
 * Each encodes one fragment: text without special tokens inside. They append to `out` and leave it
 * longer on failure (the caller cuts it back). Models are read-only after open; what a call needs
 * besides lives in the call. */
#ifndef MILLRACE_WORKER_TEXT_KINDS_H
#define MILLRACE_WORKER_TEXT_KINDS_H

#include "worker/text/tokenizer.h"
#include "worker/text/vocab.h"
#include <stdlib.h>

static inline bool token_list_put(struct token_list *t, int32_t id)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        int32_t *ids = realloc(t->ids, cap * sizeof *ids);
        if (!ids)
            return false;
        t->ids = ids;
        t->cap = cap;
    }
    t->ids[t->n++] = id;
    return true;
}

/* The token of one byte; where it has none the unknown token, U+FFFD for a byte that UTF-8 never
 * has, or an error: a byte is never dropped. */
enum err put_byte(const struct vocab *v, uint8_t b, struct token_list *out,
                  struct errmsg *why) MUST_CHECK;

/* Byte-level BPE (Radford et al. 2019): words by the pre-tokenizer, merges by rank. */
struct bpe;
enum err bpe_open(struct bpe **out, const struct vocab *v, const struct gguf *g, bool ignore_merges,
                  struct errmsg *why) MUST_CHECK;
void bpe_close(struct bpe *m);
/* The words end where `ends` says; n_ends may be 0. */
enum err bpe_encode(const struct bpe *m, const struct vocab *v, const char *text,
                    const uint32_t *ends, size_t n_ends, struct token_list *out,
                    struct errmsg *why) MUST_CHECK;

/* SentencePiece BPE (Kudo and Richardson 2018): merges by score, over the whole text. */
struct spm;
enum err spm_open(struct spm **out, const struct vocab *v, struct errmsg *why) MUST_CHECK;
void spm_close(struct spm *m);
/* `prefix`: a space goes before the text. */
enum err spm_encode(const struct spm *m, const struct vocab *v, const char *text, size_t n,
                    bool prefix, struct token_list *out, struct errmsg *why) MUST_CHECK;

/* WordPiece of BERT (Devlin et al. 2018): lower case without accents, longest match first within a
 * word. */
struct wordpiece;
enum err wordpiece_open(struct wordpiece **out, const struct vocab *v,
                        struct errmsg *why) MUST_CHECK;
void wordpiece_close(struct wordpiece *m);
enum err wordpiece_encode(const struct wordpiece *m, const struct vocab *v, const char *text,
                          size_t n, struct token_list *out, struct errmsg *why) MUST_CHECK;

/* Unigram (Kudo 2018): the most probable segmentation of the normalized text. */
struct unigram;
enum err unigram_open(struct unigram **out, const struct vocab *v, const struct gguf *g,
                      struct errmsg *why) MUST_CHECK;
void unigram_close(struct unigram *m);
enum err unigram_encode(const struct unigram *m, const struct vocab *v, const char *text, size_t n,
                        struct token_list *out, struct errmsg *why) MUST_CHECK;

#endif
