/* bpe.c - byte-level BPE: the merges of one word at a time, lowest rank first.
 *
 * A symbol is a token id, or a number from n_vocab on for a text that merges build but that is no
 * token itself. A merge is an entry (left symbol, right symbol) -> (rank, merged symbol), so that
 * nothing is hashed by text while encoding.
 *
 * Short words (nearly all): the candidate ranks lie in an array, the least is searched. Long ones
 * (a megabyte of one letter is one word): linked symbols and a heap, n log n. Both merge in the
 * same order. */
#include "shared/base/checked.h"
#include "shared/base/utf8.h"
#include "worker/text/kinds.h"
#include "worker/text/merge_heap.h"

enum { SHORT_WORD = 48 }; /* bytes; the search costs n * n, the heap n log n and its upkeep */

#define NO_RANK UINT32_MAX

struct pair {
    uint64_t key; /* left << 32 | right; EMPTY: free slot */
    uint32_t rank;
    int32_t merged;
};

#define EMPTY UINT64_MAX /* symbols are below 2^31 */

struct bpe {
    struct pair *pairs; /* owned; open addressing */
    size_t mask;
    int32_t byte_symbol[256];
    bool ignore_merges;
    struct spans extra; /* bytes of the symbols from n_vocab on */
    uint32_t n_vocab;
    struct strtab
        words; /* ignore_merges: bytes of a normal token -> id; keys lie in the vocabulary */
};

static size_t pair_slot(const struct bpe *m, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    return (size_t)(h ^ h >> 32) & m->mask;
}

static const struct pair *pair_find(const struct bpe *m, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = pair_slot(m, key);
    while (m->pairs[i].key != key) {
        if (m->pairs[i].key == EMPTY)
            return NULL;
        i = (i + 1) & m->mask;
    }
    return &m->pairs[i];
}

/* The first line that merges a pair is its rank. */
static void pair_put(struct bpe *m, int32_t left, int32_t right, uint32_t rank, int32_t merged)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = pair_slot(m, key);
    while (m->pairs[i].key != EMPTY) {
        if (m->pairs[i].key == key)
            return;
        i = (i + 1) & m->mask;
    }
    m->pairs[i] = (struct pair){key, rank, merged};
}

/* ------------------------------------------------------------------ open */

/* While the merges are read: texts of symbols that are no tokens. */
struct extras {
    struct strtab by_text;
    struct buf bytes;  /* their texts, as byte-level characters; never moves: reserved beforehand */
    struct str *texts; /* [n] */
    size_t n, cap;
};

static int32_t symbol_of(const struct vocab *v, const struct extras *x, struct str text)
{
    int32_t id = vocab_byte_level(v, text);
    return id >= 0 ? id : strtab_find(&x->by_text, text);
}

/* The symbol of `text`, a new one if need be. The text is copied. */
static enum err intern(const struct vocab *v, struct extras *x, struct str text, int32_t *out)
{
    *out = symbol_of(v, x, text);
    if (*out >= 0)
        return ERR_OK;
    if (x->n == x->cap || v->n + x->n >= INT32_MAX)
        return ERR_RANGE;
    struct str copy = {x->bytes.p + x->bytes.n, text.n};
    buf_put(&x->bytes, text.p, text.n);
    if (x->bytes.failed)
        return ERR_NOMEM;
    x->texts[x->n] = copy;
    *out = (int32_t)(v->n + x->n);
    x->n++;
    return strtab_put(&x->by_text, copy, *out);
}

/* "left right" in one string; the left part may itself start with a space. */
static bool cut_merge(struct str line, struct str *left, struct str *right)
{
    if (line.n < 3)
        return false;
    const char *space = memchr(line.p + 1, ' ', line.n - 1);
    if (!space || space + 1 == line.p + line.n)
        return false;
    *left = (struct str){line.p, (size_t)(space - line.p)};
    *right = (struct str){space + 1, line.n - left->n - 1};
    return true;
}

static enum err read_merges(struct bpe *m, const struct vocab *v, struct extras *x,
                            const struct gguf_kv *kv, const char *path, struct errmsg *why)
{
    struct buf joined;
    enum err e = ERR_OK;
    buf_init(&joined);
    for (uint64_t i = 0; i < kv->count && !e; i++) {
        struct str line = kv->strings[i], left, right;
        int32_t l, r, merged;
        if (!cut_merge(line, &left, &right)) {
            e = err_set(why, ERR_INVALID, "%s: tokenizer.ggml.merges[%llu] '%.*s' is not two parts",
                        path, (unsigned long long)i, (int)(line.n < 64 ? line.n : 64), line.p);
            break;
        }
        buf_clear(&joined);
        buf_put(&joined, left.p, left.n);
        buf_put(&joined, right.p, right.n);
        if (joined.failed || (e = intern(v, x, left, &l)) || (e = intern(v, x, right, &r)) ||
            (e = intern(v, x, (struct str){joined.p, joined.n}, &merged)))
            e = e ? e : ERR_NOMEM;
        else
            pair_put(m, l, r, (uint32_t)i, merged);
    }
    buf_fini(&joined);
    return e;
}

/* Room for everything the merges can add: two parts and their sum, each at most once. */
static enum err make_room(struct bpe *m, struct extras *x, const struct gguf_kv *kv)
{
    size_t bytes = 0, slots = 16;
    for (uint64_t i = 0; i < kv->count; i++)
        if (!add_size(&bytes, bytes, kv->strings[i].n * 2))
            return ERR_NOMEM;
    if (kv->count > INT32_MAX / 3)
        return ERR_RANGE;
    while (slots * 2 / 3 <= kv->count)
        slots *= 2;
    x->cap = (size_t)kv->count * 3 + 256;
    x->texts = malloc(x->cap * sizeof *x->texts);
    m->pairs = malloc(slots * sizeof *m->pairs);
    m->mask = slots - 1;
    if (!x->texts || !m->pairs || !buf_reserve(&x->bytes, bytes + 1024))
        return ERR_NOMEM;
    memset(m->pairs, 0xff, slots * sizeof *m->pairs); /* EMPTY */
    return strtab_init(&x->by_text, 64);
}

/* Keeps the bytes of the extra symbols: a word may end up with one. */
static enum err keep_extras(struct bpe *m, const struct extras *x)
{
    m->extra.at = malloc((x->n + 1) * sizeof *m->extra.at);
    m->extra.bytes = malloc(x->bytes.n + 1);
    if (!m->extra.at || !m->extra.bytes)
        return ERR_NOMEM;
    if (x->bytes.n > UINT32_MAX)
        return ERR_RANGE;
    uint32_t at = 0;
    for (size_t i = 0; i < x->n; i++) {
        m->extra.at[i] = at;
        for (size_t k = 0; k < x->texts[i].n;) {
            uint32_t cp;
            int len = utf8_decode(x->texts[i].p + k, x->texts[i].n - k, &cp);
            int b = len ? char_to_byte(cp) : -1;
            if (b >= 0) /* others can't have come out of bytes: no word reaches such a symbol */
                m->extra.bytes[at++] = (char)b;
            k += len ? (size_t)len : 1;
        }
    }
    m->extra.at[x->n] = at;
    return ERR_OK;
}

static enum err index_words(struct bpe *m, const struct vocab *v)
{
    enum err e = strtab_init(&m->words, v->n);
    for (uint32_t i = 0; i < v->n && !e; i++)
        if (v->types[i] == TOKEN_NORMAL && vocab_text(v, i).n > 0)
            e = strtab_put(&m->words, vocab_piece(v, i), (int32_t)i);
    return e;
}

enum err bpe_open(struct bpe **out, const struct vocab *v, const struct gguf *g, bool ignore_merges,
                  struct errmsg *why)
{
    const char *path = gguf_path(g);
    const struct gguf_kv *kv = gguf_kv(g, "tokenizer.ggml.merges");
    if (!kv || kv->type != GGUF_ARRAY || kv->elem != GGUF_STRING)
        return err_set(why, ERR_INVALID,
                       "%s: no tokenizer.ggml.merges (an array of strings), which BPE needs", path);
    struct bpe *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(why, ERR_NOMEM, "%s: out of memory", path);
    struct extras x = {0};
    buf_init(&x.bytes);
    m->n_vocab = v->n;
    m->ignore_merges = ignore_merges;
    enum err e = make_room(m, &x, kv);
    if (!e)
        e = read_merges(m, v, &x, kv, path, why);
    for (int b = 0; b < 256 && !e; b++) {
        char c[4];
        int n = utf8_encode(byte_to_char((uint8_t)b), c);
        e = intern(v, &x, (struct str){c, (size_t)n}, &m->byte_symbol[b]);
    }
    if (!e)
        e = keep_extras(m, &x);
    if (!e && ignore_merges)
        e = index_words(m, v);
    if (e && e != ERR_INVALID) /* which read_merges() has explained */
        err_set(why, e, "%s: out of memory for %llu merges", path, (unsigned long long)kv->count);
    buf_fini(&x.bytes);
    strtab_fini(&x.by_text);
    free(x.texts);
    if (e) {
        bpe_close(m);
        return e;
    }
    *out = m;
    return ERR_OK;
}

void bpe_close(struct bpe *m)
{
    if (!m)
        return;
    free(m->pairs);
    free(m->extra.at);
    free(m->extra.bytes);
    strtab_fini(&m->words);
    free(m);
}

/* ------------------------------------------------------------------ encode */

static enum err put_symbol(const struct bpe *m, const struct vocab *v, int32_t symbol,
                           struct token_list *out, struct errmsg *why)
{
    if ((uint32_t)symbol < m->n_vocab)
        return token_list_put(out, symbol) ? ERR_OK
                                           : err_set(why, ERR_NOMEM, "out of memory for tokens");
    uint32_t i = (uint32_t)symbol - m->n_vocab;
    for (uint32_t k = m->extra.at[i]; k < m->extra.at[i + 1]; k++) {
        enum err e = put_byte(v, (uint8_t)m->extra.bytes[k], out, why);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err short_word(const struct bpe *m, const struct vocab *v, const char *p, size_t n,
                           struct token_list *out, struct errmsg *why)
{
    int32_t sym[SHORT_WORD], merged[SHORT_WORD];
    uint32_t rank[SHORT_WORD]; /* of the pair (i, i + 1) */
    for (size_t i = 0; i < n; i++)
        sym[i] = m->byte_symbol[(uint8_t)p[i]];
#define RANK_PAIR(i)                                                                               \
    do {                                                                                           \
        const struct pair *found = pair_find(m, sym[i], sym[(i) + 1]);                             \
        rank[i] = found ? found->rank : NO_RANK;                                                   \
        merged[i] = found ? found->merged : -1;                                                    \
    } while (0)
    for (size_t i = 0; i + 1 < n; i++)
        RANK_PAIR(i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        sym[best] = merged[best];
        n--;
        memmove(sym + best + 1, sym + best + 2, (n - best - 1) * sizeof *sym);
        if (best + 1 < n) { /* the pair (best + 1, best + 2) went; those after it move down */
            memmove(rank + best + 1, rank + best + 2, (n - best - 2) * sizeof *rank);
            memmove(merged + best + 1, merged + best + 2, (n - best - 2) * sizeof *merged);
            RANK_PAIR(best);
        }
        if (best > 0)
            RANK_PAIR(best - 1);
    }
#undef RANK_PAIR
    for (size_t i = 0; i < n; i++) {
        enum err e = put_symbol(m, v, sym[i], out, why);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* Symbol i of a long word starts at byte i and is alive while sym[i] >= 0. */
struct long_word {
    int32_t *sym;
    uint32_t *prev, *next; /* next == n: none; prev == n: none */
    uint32_t *rank;        /* of (i, next[i]): a queue entry with another rank is void */
    size_t n, cap;
    struct merge_heap heap;
};

static void long_word_fini(struct long_word *w)
{
    free(w->sym);
    merge_heap_fini(&w->heap);
    *w = (struct long_word){0};
}

static bool long_word_reserve(struct long_word *w, size_t n)
{
    w->n = n;
    if (n <= w->cap)
        return true;
    free(w->sym);
    w->cap = 0;
    w->sym = malloc(n * 4 * sizeof *w->sym);
    if (!w->sym)
        return false;
    w->prev = (uint32_t *)w->sym + n;
    w->next = w->prev + n;
    w->rank = w->next + n;
    w->cap = n;
    return true;
}

static bool push_pair(const struct bpe *m, struct long_word *w, uint32_t i)
{
    const struct pair *found =
        w->next[i] < w->n ? pair_find(m, w->sym[i], w->sym[w->next[i]]) : NULL;
    w->rank[i] = found ? found->rank : NO_RANK;
    return !found ||
           merge_heap_put(&w->heap, (struct merge){(uint64_t)found->rank << 32 | i, found->merged});
}

static bool merge_long(const struct bpe *m, struct long_word *w, const char *p)
{
    uint32_t n = (uint32_t)w->n;
    for (uint32_t i = 0; i < n; i++) {
        w->sym[i] = m->byte_symbol[(uint8_t)p[i]];
        w->prev[i] = i ? i - 1 : n;
        w->next[i] = i + 1;
    }
    w->heap.n = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!push_pair(m, w, i))
            return false;
    while (w->heap.n > 0) {
        struct merge top = merge_heap_pop(&w->heap);
        uint32_t i = (uint32_t)top.key;
        if (w->sym[i] < 0 || w->rank[i] != (uint32_t)(top.key >> 32))
            continue;
        uint32_t gone = w->next[i];
        w->sym[i] = top.token;
        w->sym[gone] = -1;
        w->next[i] = w->next[gone];
        if (w->next[i] < n)
            w->prev[w->next[i]] = i;
        if (!push_pair(m, w, i) || (w->prev[i] < n && !push_pair(m, w, w->prev[i])))
            return false;
    }
    return true;
}

static enum err long_word(const struct bpe *m, const struct vocab *v, struct long_word *w,
                          const char *p, size_t n, struct token_list *out, struct errmsg *why)
{
    if (!long_word_reserve(w, n) || !merge_long(m, w, p))
        return err_set(why, ERR_NOMEM, "out of memory for a word of %zu bytes", n);
    for (uint32_t i = 0; i < n; i = w->next[i]) {
        enum err e = put_symbol(m, v, w->sym[i], out, why);
        if (e)
            return e;
    }
    return ERR_OK;
}

enum err bpe_encode(const struct bpe *m, const struct vocab *v, const char *text,
                    const uint32_t *ends, size_t n_ends, struct token_list *out, struct errmsg *why)
{
    struct long_word scratch = {0};
    enum err e = ERR_OK;
    uint32_t begin = 0;
    for (size_t k = 0; k < n_ends && !e; k++) {
        const char *p = text + begin;
        size_t n = ends[k] - begin;
        int32_t whole = m->ignore_merges ? strtab_find(&m->words, (struct str){p, n}) : -1;
        if (whole >= 0)
            e = token_list_put(out, whole) ? ERR_OK
                                           : err_set(why, ERR_NOMEM, "out of memory for tokens");
        else if (n <= SHORT_WORD)
            e = short_word(m, v, p, n, out, why);
        else
            e = long_word(m, v, &scratch, p, n, out, why);
        begin = ends[k];
    }
    long_word_fini(&scratch);
    return e;
}
