/* vocab.c - see vocab.h. Every token beyond the bytes is one merge of two earlier tokens, and no
 * text is made twice: that is all a byte-level BPE asks for. */
#include "worker/synth/vocab.h"
#include "shared/base/utf8.h"

#include <string.h>

struct maker {
    struct synth_vocab *v;
    struct arena *mem;
    size_t room;     /* tokens that may be made before the control tokens */
    uint32_t *table; /* open addressing over the tokens' texts: id + 1, 0 is free */
    size_t mask;
    bool failed;
};

/* GPT-2's printable alphabet: visible Latin-1 characters stand for themselves, the other bytes for
 * U+0100 up. */
static uint32_t printable(unsigned byte)
{
    unsigned moved = 0;
    for (unsigned b = 0; b < 256; b++) {
        bool visible = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            return visible ? b : 256 + moved;
        moved += !visible;
    }
    return 0;
}

static uint32_t *slot_of(const struct maker *m, struct str text)
{
    for (size_t i = (size_t)str_hash(text) & m->mask;; i = (i + 1) & m->mask)
        if (m->table[i] == 0 || str_eq(m->v->tokens[m->table[i] - 1], text))
            return &m->table[i];
}

static bool full(const struct maker *m)
{
    return m->failed || m->v->n >= m->room;
}

static int32_t add_token(struct maker *m, struct str text, int32_t type)
{
    struct synth_vocab *v = m->v;
    uint32_t *slot = slot_of(m, text);
    if (*slot)
        return (int32_t)*slot - 1;
    v->tokens[v->n] = text;
    v->types[v->n] = type;
    *slot = (uint32_t)++v->n;
    return (int32_t)v->n - 1;
}

/* The token left+right; made, with its merge, if there is none yet and room for it. -1: no room. */
static int32_t merge(struct maker *m, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return -1;
    struct str a = m->v->tokens[left], b = m->v->tokens[right];
    char *p = arena_alloc(m->mem, 2 * (a.n + b.n) + 1);
    if (!p) {
        m->failed = true;
        return -1;
    }
    memcpy(p, a.p, a.n);
    memcpy(p + a.n, b.p, b.n);
    struct str whole = {p, a.n + b.n};
    uint32_t *slot = slot_of(m, whole);
    if (*slot)
        return (int32_t)*slot - 1;
    if (full(m))
        return -1;
    char *q = p + whole.n;
    memcpy(q, a.p, a.n);
    q[a.n] = ' ';
    memcpy(q + a.n + 1, b.p, b.n);
    m->v->merges[m->v->n_merges++] = (struct str){q, whole.n + 1};
    return add_token(m, whole, 1);
}

static int32_t byte_token(unsigned char c)
{
    return c; /* the bytes come first */
}

/* A word from its letters, left to right, and the same after a space. */
static void add_word(struct maker *m, const char *word)
{
    int32_t plain = byte_token((unsigned char)word[0]), spaced = merge(m, byte_token(' '), plain);
    for (const char *p = word + 1; *p; p++) {
        plain = merge(m, plain, byte_token((unsigned char)*p));
        spaced = merge(m, spaced, byte_token((unsigned char)*p));
    }
}

static const char *const words[] = {
    "the",   "of",     "and",       "to",     "in",       "is",     "you",   "that",  "it",
    "he",    "was",    "for",       "on",     "are",      "as",     "with",  "his",   "they",
    "at",    "be",     "this",      "have",   "from",     "or",     "one",   "had",   "by",
    "word",  "but",    "not",       "what",   "all",      "were",   "we",    "when",  "your",
    "can",   "said",   "there",     "use",    "an",       "each",   "which", "she",   "do",
    "how",   "their",  "if",        "will",   "up",       "other",  "about", "out",   "many",
    "then",  "them",   "these",     "so",     "some",     "her",    "would", "make",  "like",
    "him",   "into",   "time",      "has",    "look",     "two",    "more",  "write", "go",
    "see",   "number", "no",        "way",    "could",    "people", "my",    "than",  "first",
    "water", "been",   "call",      "who",    "its",      "now",    "find",  "long",  "down",
    "day",   "did",    "get",       "come",   "made",     "may",    "part",  "over",  "new",
    "sound", "take",   "only",      "little", "work",     "know",   "place", "year",  "live",
    "me",    "back",   "give",      "most",   "very",     "after",  "thing", "our",   "just",
    "name",  "good",   "man",       "think",  "say",      "great",  "where", "help",  "through",
    "much",  "before", "line",      "right",  "too",      "mean",   "old",   "any",   "same",
    "tell",  "user",   "assistant", "system", "question", "answer", "model"};

/* Syllables (consonant, vowel), then pairs and triples of what there is, until the vocabulary is
 * full. */
static void add_syllables(struct maker *m)
{
    static const char consonants[] = "tnsrlcdmphgbfvwkyzjxq", vowels[] = "eaiou";
    enum { SYLLABLES = (sizeof consonants - 1) * (sizeof vowels - 1) };
    int32_t syllable[SYLLABLES], spaced[SYLLABLES];
    int n = 0;
    for (const char *v = vowels; *v; v++)
        for (const char *c = consonants; *c; c++, n++) {
            syllable[n] = merge(m, byte_token((unsigned char)*c), byte_token((unsigned char)*v));
            spaced[n] = merge(m, byte_token(' '), syllable[n]);
        }
    for (int i = 0; i < n && !full(m); i++)
        for (int k = 0; k < n; k++) {
            (void)merge(m, syllable[i], syllable[k]);
            (void)merge(m, spaced[i], syllable[k]);
        }
    for (int i = 0; i < n && !full(m); i++)
        for (int k = 0; k < n && !full(m); k++) {
            int32_t pair = merge(m, syllable[i], syllable[k]);
            int32_t spaced_pair = merge(m, spaced[i], syllable[k]);
            for (int l = 0; l < n; l++) {
                (void)merge(m, pair, syllable[l]);
                (void)merge(m, spaced_pair, syllable[l]);
            }
        }
}

static enum err open_maker(struct maker *m, struct synth_vocab *v, struct arena *mem, size_t n,
                           size_t n_control, struct errmsg *why)
{
    if (n < SYNTH_VOCAB_MIN || n > SYNTH_VOCAB_MAX)
        return err_set(why, ERR_RANGE, "a vocabulary of %zu tokens; %d to %d can be made", n,
                       SYNTH_VOCAB_MIN, SYNTH_VOCAB_MAX);
    *v = (struct synth_vocab){0};
    *m = (struct maker){.v = v, .mem = mem, .room = n - n_control, .mask = 1};
    while (m->mask < 2 * n)
        m->mask *= 2;
    m->table = arena_array(mem, m->mask, sizeof *m->table);
    m->mask--;
    v->tokens = arena_array(mem, n, sizeof *v->tokens);
    v->merges = arena_array(mem, n, sizeof *v->merges);
    v->types = arena_array(mem, n, sizeof *v->types);
    if (!m->table || !v->tokens || !v->merges || !v->types)
        return err_set(why, ERR_NOMEM, "out of memory for %zu tokens", n);
    return ERR_OK;
}

enum err synth_vocab_make(struct synth_vocab *v, struct arena *mem, size_t n, struct errmsg *why)
{
    struct maker m;
    enum err e = open_maker(&m, v, mem, n, SYNTH_CONTROL_TOKENS, why);
    if (e)
        return e;
    for (unsigned b = 0; b < 256; b++) {
        char text[4];
        int len = utf8_encode(printable(b), text);
        char *copy = arena_strndup(mem, text, (size_t)len);
        if (!copy)
            return err_set(why, ERR_NOMEM, "out of memory for %zu tokens", n);
        (void)add_token(&m, (struct str){copy, (size_t)len}, 1);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        add_word(&m, words[i]);
    add_syllables(&m);
    if (m.failed || v->n < m.room)
        return err_set(why, ERR_NOMEM, "out of memory for %zu tokens", n);
    v->end_of_text = (uint32_t)add_token(&m, STR("<|endoftext|>"), 3);
    v->im_start = (uint32_t)add_token(&m, STR("<|im_start|>"), 3);
    v->im_end = (uint32_t)add_token(&m, STR("<|im_end|>"), 3);
    return ERR_OK;
}

/* --- WordPiece: every piece at the start of a word (marked) and inside one -------------------- */

static void add_piece(struct maker *m, const char *text, size_t n)
{
    for (int inside = 0; inside < 2 && !full(m); inside++) {
        char marked[64];
        const size_t mark = inside ? 0 : 3;
        memcpy(marked, "\xe2\x96\x81", 3); /* U+2581 */
        memcpy(marked + mark, text, n);
        char *copy = arena_strndup(m->mem, marked, mark + n);
        if (copy)
            (void)add_token(m, (struct str){copy, mark + n}, 1);
        else
            m->failed = true;
    }
}

/* All texts of `left` syllables after what stands in text. */
static void add_syllable_pieces(struct maker *m, char *text, size_t n, int left)
{
    static const char consonants[] = "tnsrlcdmphgbfvwkyzjxq", vowels[] = "eaiou";
    if (left == 0) {
        add_piece(m, text, n);
        return;
    }
    for (const char *v = vowels; *v && !full(m); v++)
        for (const char *c = consonants; *c && !full(m); c++) {
            text[n] = *c;
            text[n + 1] = *v;
            add_syllable_pieces(m, text, n + 2, left - 1);
        }
}

enum err synth_wordpiece_make(struct synth_vocab *v, struct arena *mem, size_t n,
                              struct errmsg *why)
{
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    struct maker m;
    char text[32];
    enum err e = open_maker(&m, v, mem, n, 0, why);
    if (e)
        return e;
    for (int i = 0; i < 5; i++)
        (void)add_token(&m, str_of(specials[i]), i == SYNTH_UNK ? 2 : 3);
    for (text[0] = '!'; text[0] <= '~'; text[0]++)
        if (text[0] < 'A' || text[0] > 'Z') /* texts are made lower case first */
            add_piece(&m, text, 1);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        add_piece(&m, words[i], strlen(words[i]));
    for (int syllables = 1; syllables <= 4 && !full(&m); syllables++)
        add_syllable_pieces(&m, text, 0, syllables);
    if (m.failed || v->n < n)
        return err_set(why, ERR_NOMEM, "out of memory for %zu tokens", n);
    return ERR_OK;
}
