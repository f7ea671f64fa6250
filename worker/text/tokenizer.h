/* tokenizer.h - text to token ids and back, as the model file says. Exact: the ids are those of the
 * tokenizer the model was trained with.
 *
 * Kinds: byte-level BPE ("gpt2" with tokenizer.ggml.pre), SentencePiece BPE ("llama"), WordPiece
 * ("bert"), Unigram ("t5"). A pre-tokenizer that is not in the table is refused by name, never
 * guessed. Cost: near-linear in the text for any input (1 MB of one letter included). Thread:
 * read-only after open; tokenize() keeps its scratch in the caller's struct. Memory: tables are
 * owned by the tokenizer; the gguf may be closed after tokenizer_open(). */
#ifndef MILLRACE_WORKER_TEXT_TOKENIZER_H
#define MILLRACE_WORKER_TEXT_TOKENIZER_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/model/gguf.h"

struct tokenizer; /* opaque */

struct token_list {
    int32_t *ids; /* owned; token_list_fini() */
    size_t n, cap;
};
void token_list_fini(struct token_list *t);

enum token_flags { TOK_ADD_SPECIAL = 1, TOK_PARSE_SPECIAL = 2 };
/* ADD_SPECIAL: BOS/EOS/CLS/SEP as the file asks for.  PARSE_SPECIAL: the text of control tokens
 * becomes those tokens (rendered templates); otherwise it is plain text (user-defined tokens are
 * matched in both). */

enum err tokenizer_open(struct tokenizer **out, const struct gguf *g,
                        struct errmsg *why) MUST_CHECK;
void tokenizer_close(struct tokenizer *t);
/* Bytes that the tables of such a vocabulary take, with the reader's list of its strings, within a
 * tenth: for who plans memory. `pre`: tokenizer.ggml.pre, or empty. */
uint64_t tokenizer_bytes(uint64_t n_vocab, uint64_t n_merges, struct str pre);

/* Appends to `out`. Invalid UTF-8 is tokenized too (bytes), never a crash. */
enum err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                          struct token_list *out, struct errmsg *why) MUST_CHECK;

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
/* The raw bytes that token `id` adds to a text (may be part of a UTF-8 sequence). Special tokens
 * give their text when `special`, nothing otherwise. BORROWED. Out of range: empty. */
struct str tokenizer_piece(const struct tokenizer *t, int32_t id, bool special);
bool tokenizer_is_eog(const struct tokenizer *t,
                      int32_t id); /* ends a generation: EOS, EOT, EOM, <|im_end|> ... */
bool tokenizer_is_control(const struct tokenizer *t,
                          int32_t id);            /* control, unknown or unused: never shown */
int32_t tokenizer_bos(const struct tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_add_bos(const struct tokenizer *t); /* what ADD_SPECIAL would do */
bool tokenizer_add_eos(const struct tokenizer *t);
int32_t tokenizer_find(const struct tokenizer *t,
                       struct str text); /* id of the token with exactly this text; -1 */
const char *
tokenizer_kind(const struct tokenizer *t); /* "bpe/qwen2", "spm": for inspect and logs */
/* Text of a whole list, as `detokenize` prints it: pieces joined; SPM's leading space removed as
 * SentencePiece does only when `strip_space`. */
enum err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool special,
                          bool strip_space, struct buf *out) MUST_CHECK;

#endif
