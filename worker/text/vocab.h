/* vocab.h - the tokens of a model file, as every tokenizer kind needs them. Internal to
 * worker/text.
 *
 * Promise: after vocab_open() all arrays have n entries, every special id is -1 or below n, and
 * nothing points into the gguf any more.   Thread: read-only after open. */
#ifndef MILLRACE_WORKER_TEXT_VOCAB_H
#define MILLRACE_WORKER_TEXT_VOCAB_H

#include "shared/base/err.h"
#include "worker/model/gguf.h"
#include "worker/text/strtab.h"
#include "worker/text/trie.h"

enum vocab_kind { VOCAB_BPE, VOCAB_SPM, VOCAB_WORDPIECE, VOCAB_UNIGRAM };

enum token_type { /* ids of tokenizer.ggml.token_type */
                  TOKEN_UNDEFINED = 0,
                  TOKEN_NORMAL = 1,
                  TOKEN_UNKNOWN = 2,
                  TOKEN_CONTROL = 3,
                  TOKEN_USER_DEFINED = 4,
                  TOKEN_UNUSED = 5,
                  TOKEN_BYTE = 6,
                  TOKEN_TYPE_COUNT_
};

enum { TOKEN_LSTRIP = 1, TOKEN_RSTRIP = 2, TOKEN_EOG = 4 }; /* vocab.attrs */

/* Spans of one blob: text of token i is bytes[at[i] .. at[i + 1]). */
struct spans {
    char *bytes;  /* owned */
    uint32_t *at; /* owned; [n + 1] */
};

struct vocab {
    enum vocab_kind kind;
    uint32_t n;
    struct spans texts;  /* as written in the file */
    struct spans pieces; /* the bytes that a token stands for */
    uint8_t *types;      /* owned; [n] enum token_type */
    uint8_t *attrs;      /* owned; [n] */
    float *scores;       /* owned; [n]; zeros where the file has none */
    struct strtab by_text;
    size_t max_text;      /* bytes of the longest token */
    int32_t byte_id[256]; /* the token of one byte: byte-level character, <0xXX>, or the byte
                             itself; -1: none */

    int32_t bos, eos, eot, eom, unk, sep, pad, cls, mask; /* -1: none */
    bool add_bos, add_eos, add_sep, add_space_prefix, remove_extra_whitespaces;

    struct trie user_defined; /* texts that are one token in any text */
    struct trie special; /* these and control and unknown tokens: where special text is parsed */
};

/* `pre_add_bos`: what the pre-tokenizer's row says where the file is silent. */
enum err vocab_open(struct vocab *v, const struct gguf *g, enum vocab_kind kind, bool pre_add_bos,
                    struct errmsg *why) MUST_CHECK;
void vocab_close(struct vocab *v);

static inline struct str vocab_text(const struct vocab *v, uint32_t id)
{
    return (struct str){v->texts.bytes + v->texts.at[id], v->texts.at[id + 1] - v->texts.at[id]};
}

static inline struct str vocab_piece(const struct vocab *v, uint32_t id)
{
    return (struct str){v->pieces.bytes + v->pieces.at[id],
                        v->pieces.at[id + 1] - v->pieces.at[id]};
}

/* The token that byte-level BPE writes as `text`; -1: none. Added tokens are written as they are,
 * not byte by byte: DeepSeek's added y-diaeresis is U+00FF, though in BPE that character stands for
 * the byte 255. */
static inline int32_t vocab_byte_level(const struct vocab *v, struct str text)
{
    int32_t id = strtab_find(&v->by_text, text);
    return id >= 0 && (v->types[id] == TOKEN_NORMAL || v->types[id] == TOKEN_BYTE) ? id : -1;
}

/* GPT-2's printable stand-ins for the 256 bytes, as code points, and back (-1: not one of them). */
uint32_t byte_to_char(uint8_t b);
int char_to_byte(uint32_t cp);

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, what SentencePiece writes for a space */

#endif
