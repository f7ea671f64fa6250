/* tokenizer.c - opens the kind that the file asks for, cuts texts at special tokens, joins pieces;
 * see tokenizer.h. */
#include "worker/text/tokenizer.h"
#include "worker/text/kinds.h"
#include "worker/text/pretokenizers.h"

#include <stdio.h>

struct tokenizer {
    struct vocab vocab;
    struct pretokenizer *pre; /* owned; BPE */
    struct bpe *bpe;          /* owned; one of these four */
    struct spm *spm;
    struct wordpiece *wordpiece;
    struct unigram *unigram;
    char kind[80];
};

void token_list_fini(struct token_list *t)
{
    free(t->ids);
    *t = (struct token_list){0};
}

enum err put_byte(const struct vocab *v, uint8_t b, struct token_list *out, struct errmsg *why)
{
    static const uint8_t replacement[] = {0xef, 0xbf, 0xbd}; /* U+FFFD */
    int32_t id = v->byte_id[b] >= 0 ? v->byte_id[b] : v->unk;
    if (id >= 0)
        return token_list_put(out, id) ? ERR_OK
                                       : err_set(why, ERR_NOMEM, "out of memory for tokens");
    if (b < 0xf5 && b != 0xc0 && b != 0xc1)
        return err_set(why, ERR_UNSUPPORTED,
                       "the vocabulary has no token for byte 0x%02x of the text", b);
    for (size_t i = 0; i < sizeof replacement;
         i++) { /* Falcon: no tokens for bytes that UTF-8 never has */
        enum err e = put_byte(v, replacement[i], out, why);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* ------------------------------------------------------------------ open */

static const struct {
    const char *model; /* tokenizer.ggml.model */
    enum vocab_kind kind;
    const char *name;
} kinds[] = {
    {"gpt2", VOCAB_BPE, "bpe"},
    {"llama", VOCAB_SPM, "spm"},
    {"bert", VOCAB_WORDPIECE, "wordpiece"},
    {"t5", VOCAB_UNIGRAM, "unigram"},
};

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static enum err open_kind(struct tokenizer *t, const struct gguf *g, size_t row, struct errmsg *why)
{
    struct pretokenizer_traits traits = {0};
    struct str pre = {0};
    enum err e = ERR_OK;
    snprintf(t->kind, sizeof t->kind, "%s", kinds[row].name);
    if (kinds[row].kind == VOCAB_BPE) {
        (void)gguf_get_str(g, "tokenizer.ggml.pre", &pre);
        if ((e = pretokenizer_open(&t->pre, pre, gguf_path(g), why)))
            return e;
        traits = pretokenizer_traits(t->pre);
        if (pre.n == 0)
            pre = STR("default");
        snprintf(t->kind, sizeof t->kind, "%s/" STR_FMT, kinds[row].name, STR_ARG(pre));
    }
    if ((e = vocab_open(&t->vocab, g, kinds[row].kind, traits.add_bos, why)))
        return e;
    switch (kinds[row].kind) {
    case VOCAB_BPE:
        return bpe_open(&t->bpe, &t->vocab, g, traits.ignore_merges, why);
    case VOCAB_SPM:
        return spm_open(&t->spm, &t->vocab, why);
    case VOCAB_WORDPIECE:
        return wordpiece_open(&t->wordpiece, &t->vocab, why);
    case VOCAB_UNIGRAM:
        return unigram_open(&t->unigram, &t->vocab, g, why);
    }
    return ERR_INTERNAL;
}

static uint64_t slots_for(uint64_t least)
{
    uint64_t n = 16;
    while (n < least && n <= UINT64_MAX / 4)
        n *= 2;
    return n;
}

uint64_t tokenizer_bytes(uint64_t n_vocab, uint64_t n_merges, struct str pre)
{
    enum {
        TEXT = 9,  /* bytes of a token's text: 7 to 10 in published vocabularies */
        PAIR = 16, /* of bpe.c */
    };
    const uint64_t table = slots_for(2 * n_vocab) * sizeof(struct strtab_slot);
    struct pretokenizer *p = NULL;
    struct errmsg ignored;
    bool words = false; /* a second table, of the words that are tokens */
    if (n_merges && pretokenizer_open(&p, pre, "", &ignored) == ERR_OK) {
        words = pretokenizer_traits(p).ignore_merges;
        pretokenizer_close(p);
    }
    const uint64_t spans = 2 * n_vocab * (TEXT + sizeof(uint32_t));
    return spans + 2 * n_vocab + table * (words ? 2 : 1) +
           (n_merges ? slots_for(n_merges + n_merges / 2) * PAIR : n_vocab * sizeof(float)) +
           (n_vocab + n_merges) * sizeof(struct str);
}

enum err tokenizer_open(struct tokenizer **out, const struct gguf *g, struct errmsg *why)
{
    struct str model;
    size_t row = 0;
    if (!gguf_get_str(g, "tokenizer.ggml.model", &model))
        return err_set(why, ERR_INVALID, "%s: no tokenizer.ggml.model: the file has no tokenizer",
                       gguf_path(g));
    while (row < N_KINDS && !str_is(model, kinds[row].model))
        row++;
    if (row == N_KINDS)
        return err_set(why, ERR_UNSUPPORTED,
                       "%s: tokenizer model '" STR_FMT "' is not supported (gpt2, llama, bert, t5)",
                       gguf_path(g), (int)(model.n < 64 ? model.n : 64), model.p);
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(why, ERR_NOMEM, "%s: out of memory", gguf_path(g));
    enum err e = open_kind(t, g, row, why);
    if (e) {
        tokenizer_close(t);
        return e;
    }
    *out = t;
    return ERR_OK;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    bpe_close(t->bpe);
    spm_close(t->spm);
    wordpiece_close(t->wordpiece);
    unigram_close(t->unigram);
    pretokenizer_close(t->pre);
    vocab_close(&t->vocab);
    free(t);
}

/* ------------------------------------------------------------------ encode */

/* A text that starts after a special token or at the very start: SentencePiece's space prefix goes
 * before each. */
static enum err encode_plain(const struct tokenizer *t, const char *text, size_t n,
                             struct token_list *out, struct errmsg *why)
{
    const struct vocab *v = &t->vocab;
    switch (v->kind) {
    case VOCAB_BPE: {
        struct cuts cuts = {0};
        enum err e = pretokenizer_split(t->pre, text, n, &cuts, why);
        if (!e)
            e = bpe_encode(t->bpe, v, text, cuts.ends, cuts.n, out, why);
        cuts_fini(&cuts);
        return e;
    }
    case VOCAB_SPM:
        return spm_encode(t->spm, v, text, n, v->add_space_prefix, out, why);
    case VOCAB_WORDPIECE:
        return wordpiece_encode(t->wordpiece, v, text, n, out, why);
    case VOCAB_UNIGRAM:
        return unigram_encode(t->unigram, v, text, n, out, why);
    }
    return ERR_INTERNAL;
}

static bool is_ascii_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Special tokens are found from left to right, the longest at each place; what lies between them is
 * plain. */
static enum err encode_all(const struct tokenizer *t, const char *text, size_t n,
                           bool parse_special, struct token_list *out, struct errmsg *why)
{
    const struct vocab *v = &t->vocab;
    const struct trie *specials = parse_special ? &v->special : &v->user_defined;
    size_t begin = 0; /* of the plain text that is not encoded yet */
    for (size_t i = 0; i < n && specials->nodes;) {
        size_t len = 0;
        int32_t id = trie_longest(specials, text + i, n - i, &len);
        if (id < 0) {
            i++;
            continue;
        }
        size_t end = i;
        while (v->attrs[id] & TOKEN_LSTRIP && end > begin && is_ascii_space(text[end - 1]))
            end--;
        enum err e = end > begin ? encode_plain(t, text + begin, end - begin, out, why) : ERR_OK;
        if (e)
            return e;
        if (!token_list_put(out, id))
            return err_set(why, ERR_NOMEM, "out of memory for tokens");
        i += len;
        while (v->attrs[id] & TOKEN_RSTRIP && i < n && is_ascii_space(text[i]))
            i++;
        begin = i;
    }
    return n > begin ? encode_plain(t, text + begin, n - begin, out, why) : ERR_OK;
}

enum err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                          struct token_list *out, struct errmsg *why)
{
    const struct vocab *v = &t->vocab;
    bool special = flags & TOK_ADD_SPECIAL, room = true;
    size_t before = out->n;
    if (n >= (size_t)1 << 30)
        return err_set(why, ERR_RANGE, "a text of %zu bytes: the limit is 1 GiB", n);
    if (special && v->add_bos)
        room = token_list_put(out, v->bos);
    enum err e = room ? encode_all(t, text, n, flags & TOK_PARSE_SPECIAL, out, why) : ERR_NOMEM;
    if (!e && special && v->add_eos)
        room = token_list_put(out, v->eos);
    if (!e && special && v->add_sep)
        room = token_list_put(out, v->sep);
    if (!room)
        e = err_set(why, ERR_NOMEM, "out of memory for tokens");
    if (e)
        out->n = before;
    return e;
}

/* ------------------------------------------------------------------ decode */

static bool in_range(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab.n;
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return t->vocab.n;
}

bool tokenizer_is_control(const struct tokenizer *t, int32_t id)
{
    if (!in_range(t, id))
        return false;
    uint8_t type = t->vocab.types[id];
    return type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_UNUSED ||
           type == TOKEN_UNDEFINED;
}

struct str tokenizer_piece(const struct tokenizer *t, int32_t id, bool special)
{
    if (!in_range(t, id) || (!special && tokenizer_is_control(t, id)))
        return (struct str){"", 0};
    return vocab_piece(&t->vocab, (uint32_t)id);
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) && t->vocab.attrs[id] & TOKEN_EOG;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->vocab.bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->vocab.eos;
}

bool tokenizer_add_bos(const struct tokenizer *t)
{
    return t->vocab.add_bos;
}

bool tokenizer_add_eos(const struct tokenizer *t)
{
    return t->vocab.add_eos || t->vocab.add_sep;
}

int32_t tokenizer_find(const struct tokenizer *t, struct str text)
{
    return strtab_find(&t->vocab.by_text, text);
}

const char *tokenizer_kind(const struct tokenizer *t)
{
    return t->kind;
}

enum err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool special,
                          bool strip_space, struct buf *out)
{
    bool first = strip_space && t->vocab.add_space_prefix;
    for (size_t i = 0; i < n; i++) {
        struct str piece = tokenizer_piece(t, ids[i], special);
        if (first && piece.n && !tokenizer_is_control(t, ids[i])) {
            first = false;
            if (piece.p[0] == ' ')
                piece = (struct str){piece.p + 1, piece.n - 1};
        }
        buf_put(out, piece.p, piece.n);
    }
    return out->failed ? ERR_NOMEM : ERR_OK;
}
