/* spm.c - SentencePiece BPE: of all neighbours whose join is a token, the one with the best score
 * merges first.
 *
 * There are no words: merging runs over the whole text. But two characters that stand side by side
 * in no token can never end up in one, so the text is cut there first (in practice before nearly
 * every space mark), and each part merges by itself in a small heap: same result, and the heap
 * stays in the cache. The neighbours that do occur are a bit set of hashes: a false hit costs a
 * longer part, never another result. */
#include "shared/base/utf8.h"
#include "worker/text/kinds.h"
#include "worker/text/merge_heap.h"

enum { JOIN_BITS = 20 }; /* 128 KiB; Gemma's 256k tokens have about 150k different neighbours */

struct spm {
    uint64_t joins[(1u << JOIN_BITS) / 64];
    struct strtab mergeable; /* texts of normal and user-defined tokens: merging never makes a
                                control token */
};

/* One character, or one byte that is not UTF-8. */
static size_t unit(const char *p, size_t n, uint32_t *cp)
{
    int len = utf8_decode(p, n, cp);
    if (len > 0)
        return (size_t)len;
    *cp = 0x110000u + (uint8_t)*p;
    return 1;
}

static uint32_t join_hash(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> (64 - JOIN_BITS));
}

static void note_joins(struct spm *m, struct str text)
{
    uint32_t before = 0, cp;
    for (size_t i = 0; i < text.n;) {
        size_t len = unit(text.p + i, text.n - i, &cp);
        if (i > 0) {
            uint32_t h = join_hash(before, cp);
            m->joins[h / 64] |= (uint64_t)1 << h % 64;
        }
        before = cp;
        i += len;
    }
}

enum err spm_open(struct spm **out, const struct vocab *v, struct errmsg *why)
{
    struct spm *m = calloc(1, sizeof *m);
    enum err e = m ? strtab_init(&m->mergeable, v->n) : ERR_NOMEM;
    for (uint32_t i = 0; i < v->n && !e; i++) {
        struct str text = vocab_text(v, i);
        if (text.n == 0 || (v->types[i] != TOKEN_NORMAL && v->types[i] != TOKEN_USER_DEFINED))
            continue;
        note_joins(m, text);
        e = strtab_put(&m->mergeable, text, (int32_t)i);
    }
    if (e) {
        spm_close(m);
        return err_set(why, e, "out of memory for %u tokens", v->n);
    }
    *out = m;
    return ERR_OK;
}

void spm_close(struct spm *m)
{
    if (!m)
        return;
    strtab_fini(&m->mergeable);
    free(m);
}

/* A piece of the text that is one token or one character; linked to its neighbours. */
struct symbol {
    uint32_t at, n;     /* in the marked text; n == 0: merged into the one before */
    int32_t prev, next; /* -1: none */
    int32_t join;  /* the token that this and the next make; -1: none. A queue entry for another is
                      void */
    int32_t token; /* what merging has made of it; -1: still one character */
};

struct scratch {
    struct buf text; /* the fragment with space marks */
    struct symbol *symbols;
    size_t n, cap;
    struct merge_heap heap;
};

static struct symbol *symbol_put(struct scratch *s)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 256;
        struct symbol *p = realloc(s->symbols, cap * sizeof *p);
        if (!p)
            return NULL;
        s->symbols = p;
        s->cap = cap;
    }
    return &s->symbols[s->n++];
}

/* Finite floats in ascending order of their score, as integers in descending order. */
static uint32_t score_key(float score)
{
    uint32_t u;
    score += 0.0f; /* -0 and 0 are one score */
    memcpy(&u, &score, sizeof u);
    u = u >> 31 ? ~u : u | 0x80000000u; /* ascending */
    return ~u;
}

static bool try_join(const struct spm *m, const struct vocab *v, struct scratch *s, int32_t left)
{
    if (left < 0)
        return true;
    struct symbol *l = &s->symbols[left];
    l->join = -1;
    if (l->next < 0)
        return true;
    size_t n = (size_t)l->n + s->symbols[l->next].n;
    if (n > v->max_text)
        return true;
    l->join = strtab_find(&m->mergeable, (struct str){s->text.p + l->at, n});
    if (l->join < 0)
        return true;
    uint64_t key = (uint64_t)score_key(v->scores[l->join]) << 32 | (uint32_t)left;
    return merge_heap_put(&s->heap, (struct merge){key, l->join});
}

static bool merge_part(const struct spm *m, const struct vocab *v, struct scratch *s)
{
    s->heap.n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (!try_join(m, v, s, (int32_t)i))
            return false;
    while (s->heap.n > 0) {
        struct merge top = merge_heap_pop(&s->heap);
        int32_t i = (int32_t)(uint32_t)top.key;
        struct symbol *l = &s->symbols[i];
        if (l->n == 0 || l->join != top.token)
            continue;
        struct symbol *r = &s->symbols[l->next];
        l->token = top.token;
        l->n += r->n;
        r->n = 0;
        l->next = r->next;
        if (l->next >= 0)
            s->symbols[l->next].prev = i;
        if (!try_join(m, v, s, l->prev) || !try_join(m, v, s, i))
            return false;
    }
    return true;
}

static enum err emit_part(const struct spm *m, const struct vocab *v, const struct scratch *s,
                          struct token_list *out, struct errmsg *why)
{
    for (int32_t i = s->n ? 0 : -1; i >= 0; i = s->symbols[i].next) {
        struct str text = {s->text.p + s->symbols[i].at, s->symbols[i].n};
        int32_t id = s->symbols[i].token;
        if (id < 0)
            id = strtab_find(&m->mergeable, text);
        if (id >= 0) {
            if (!token_list_put(out, id))
                return err_set(why, ERR_NOMEM, "out of memory for tokens");
            continue;
        }
        for (size_t k = 0; k < text.n; k++) {
            enum err e = put_byte(v, (uint8_t)text.p[k], out, why);
            if (e)
                return e;
        }
    }
    return ERR_OK;
}

static void mark_spaces(struct buf *b, const char *text, size_t n, bool prefix)
{
    if (prefix)
        buf_puts(b, SPACE_MARK);
    for (size_t i = 0; i < n;) {
        const char *space = memchr(text + i, ' ', n - i);
        size_t end = space ? (size_t)(space - text) : n;
        buf_put(b, text + i, end - i);
        if (space)
            buf_puts(b, SPACE_MARK);
        i = end + (space ? 1 : 0);
    }
}

enum err spm_encode(const struct spm *m, const struct vocab *v, const char *text, size_t n,
                    bool prefix, struct token_list *out, struct errmsg *why)
{
    struct scratch s = {0};
    enum err e = ERR_OK;
    buf_init(&s.text);
    mark_spaces(&s.text, text, n, prefix);
    if (s.text.failed || s.text.n > INT32_MAX)
        e = err_set(why, ERR_NOMEM, "out of memory for a text of %zu bytes", n);
    uint32_t before = 0, cp;
    for (size_t i = 0; !e && i < s.text.n;) {
        size_t len = unit(s.text.p + i, s.text.n - i, &cp);
        uint32_t h = join_hash(before, cp);
        if (s.n > 0 && !(m->joins[h / 64] >> h % 64 & 1)) {
            s.symbols[s.n - 1].next = -1;
            e = merge_part(m, v, &s) ? emit_part(m, v, &s, out, why)
                                     : err_set(why, ERR_NOMEM, "out of memory");
            s.n = 0;
        }
        int32_t index = (int32_t)s.n;
        struct symbol *sym = symbol_put(&s);
        if (!sym) {
            e = err_set(why, ERR_NOMEM, "out of memory for a text of %zu bytes", n);
            break;
        }
        *sym = (struct symbol){(uint32_t)i, (uint32_t)len, index - 1, index + 1, -1, -1};
        before = cp;
        i += len;
    }
    if (!e && s.n > 0) {
        s.symbols[s.n - 1].next = -1;
        e = merge_part(m, v, &s) ? emit_part(m, v, &s, out, why)
                                 : err_set(why, ERR_NOMEM, "out of memory");
    }
    buf_fini(&s.text);
    free(s.symbols);
    merge_heap_fini(&s.heap);
    return e;
}
