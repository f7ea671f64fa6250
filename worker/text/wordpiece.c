/* wordpiece.c - BERT: clean, split, and match the longest pieces.
 *
 * Control characters go, CJK characters and punctuation stand alone, precomposed letters lose their
 * accents, letters become lower case. GGUF writes "word" as U+2581 "word" and "##piece" as "piece".
 *
 * Three steps follow llama.cpp, not BERT's own code, because the ids in everybody's stored
 * embeddings of GGUF models come from there, and the reference data holds them:
 *   - of a canonical decomposition only the first character is kept (BERT drops the combining
 * marks: the same for Latin, Greek and Cyrillic; a Hangul syllable keeps its first jamo only);
 *   - combining marks that the text spells out stay (BERT drops them);
 *   - a word may have any length (BERT makes one of more than 100 characters unknown). */
#include "shared/base/utf8.h"
#include "worker/text/kinds.h"

#include <utf8proc.h>

struct wordpiece {
    struct trie pieces; /* continuations and, with the space mark, beginnings of words */
};

enum err wordpiece_open(struct wordpiece **out, const struct vocab *v, struct errmsg *why)
{
    bool marked = false;
    struct wordpiece *m = calloc(1, sizeof *m);
    struct trie_key *keys = malloc(v->n * sizeof *keys);
    enum err e = m && keys ? ERR_OK : ERR_NOMEM;
    size_t n = 0;
    for (uint32_t i = 0; i < v->n && !e; i++) {
        struct str text = vocab_text(v, i);
        if (v->types[i] == TOKEN_CONTROL || v->types[i] == TOKEN_UNKNOWN ||
            v->types[i] == TOKEN_UNUSED)
            continue;
        marked |= str_starts(text, STR(SPACE_MARK));
        keys[n++] = (struct trie_key){text, (int32_t)i};
    }
    if (!e)
        e = trie_build(&m->pieces, keys, n);
    free(keys);
    if (e)
        err_set(why, e, "out of memory for %u tokens", v->n);
    else if (!marked)
        e = err_set(why, ERR_UNSUPPORTED,
                    "a WordPiece vocabulary whose words don't start with U+2581: convert the "
                    "model again");
    if (e) {
        wordpiece_close(m);
        return e;
    }
    *out = m;
    return ERR_OK;
}

void wordpiece_close(struct wordpiece *m)
{
    if (!m)
        return;
    trie_fini(&m->pieces);
    free(m);
}

static bool is_cjk(
    uint32_t c) /* the blocks that BERT's code lists as CJK; kana and Hangul are not among them */
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_space(uint32_t c)
{
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);
    return (c >= 0x09 && c <= 0x0d) || c == 0x85 || cat == UTF8PROC_CATEGORY_ZS ||
           cat == UTF8PROC_CATEGORY_ZL || cat == UTF8PROC_CATEGORY_ZP;
}

static bool is_control(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
        return true;
    default:
        return c == 0 || c == 0xfffd;
    }
}

static bool is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);
    return cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO;
}

/* Appends to the word, which begins with the space mark. */
static void word_put(struct buf *w, uint32_t c)
{
    char utf8[4];
    if (w->n == 0)
        buf_puts(w, SPACE_MARK);
    buf_put(w, utf8, (size_t)utf8_encode(c, utf8));
}

/* Ends the word, if there is one: its pieces, or one unknown token where they don't cover it. */
static enum err word_end(const struct wordpiece *m, const struct vocab *v, struct buf *w,
                         struct token_list *out, struct errmsg *why)
{
    size_t before = out->n;
    bool known = true, room = !w->failed;
    for (size_t i = 0; i < w->n && known && room;) {
        size_t len = 0;
        int32_t id = trie_longest(&m->pieces, w->p + i, w->n - i, &len);
        known = id >= 0;
        room = !known || token_list_put(out, id);
        i += len;
    }
    if (room && !known) {
        out->n = before;
        room = token_list_put(out, v->unk);
    }
    buf_clear(w);
    return room ? ERR_OK : err_set(why, ERR_NOMEM, "out of memory for tokens");
}

/* First character of the canonical decomposition. */
static uint32_t base_of(uint32_t c)
{
    utf8proc_int32_t parts[32]; /* the longest has 4 */
    int boundary = UTF8PROC_BOUNDCLASS_START;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, parts, 32, UTF8PROC_DECOMPOSE, &boundary);
    return n > 0 && n <= 32 ? (uint32_t)parts[0] : c;
}

/* One character of the text: into the word, or between words. */
static enum err take(const struct wordpiece *m, const struct vocab *v, struct buf *w, uint32_t c,
                     struct token_list *out, struct errmsg *why)
{
    enum err e = ERR_OK;
    c = base_of(c);
    if (is_space(c))
        return word_end(m, v, w, out, why);
    if (is_control(c))
        return ERR_OK;
    c = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    bool alone = is_punctuation(c) || is_cjk(c);
    if (alone)
        e = word_end(m, v, w, out, why);
    word_put(w, c);
    if (alone && !e)
        e = word_end(m, v, w, out, why);
    return e;
}

enum err wordpiece_encode(const struct wordpiece *m, const struct vocab *v, const char *text,
                          size_t n, struct token_list *out, struct errmsg *why)
{
    struct buf w;
    enum err e = ERR_OK;
    buf_init(&w);
    for (size_t i = 0; i < n && !e;) {
        uint32_t c;
        int len = utf8_decode(text + i, n - i, &c);
        if (len > 0)
            e = take(m, v, &w, c, out, why);
        i += len > 0
                 ? (size_t)len
                 : 1; /* what is not UTF-8 counts as U+FFFD, which goes like a control character */
    }
    if (!e)
        e = word_end(m, v, &w, out, why);
    buf_fini(&w);
    return e;
}
