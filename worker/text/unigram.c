/* unigram.c - SentencePiece Unigram: normalize by the file's character map, then the best path of
 * Viterbi.
 *
 * Path: best[i] is the best way to cover the first i bytes. From each character all pieces that
 * start there are found in one walk of the trie, so the time is bytes times the longest piece.
 *
 * Character map ("precompiled_charsmap", SentencePiece normalizer.cc): u32 size of a double array
 * (darts-clone), the array, then replacement texts, each ended by NUL. Unit of the array: bit 31
 * set: a value, in bits 0-30    bits 0-7 label    bit 8 has a value child bits 10-30 offset,
 * shifted left by 8 more when bit 9 is set Child of node i by byte c: at i ^ offset(i) ^ c, if its
 * label is c; the value of node i: at i ^ offset(i). */
#include "shared/base/utf8.h"
#include "worker/text/kinds.h"

#include <float.h>

enum {
    MAX_PIECE_WALK =
        1024, /* bytes of the longest piece looked for; published vocabularies stay below 64 */
    MAX_MAP_KEY = 256, /* bytes of the longest sequence that the character map replaces; published:
                          below 32 */
};

static const float unknown_penalty =
    10.0f; /* below the worst piece: kUnkPenalty of SentencePiece */

struct unigram {
    struct trie pieces;
    float unknown_score, max_score;
    uint32_t *units; /* owned; the double array */
    size_t n_units;
    char *replacements; /* owned; n_replacements bytes, the last is NUL */
    size_t n_replacements;
};

/* ------------------------------------------------------------------ open */

static enum err read_charsmap(struct unigram *m, const struct gguf *g, struct errmsg *why)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    const struct gguf_kv *kv = gguf_kv(g, key);
    if (!kv || kv->count == 0)
        return ERR_OK; /* a tokenizer without normalization */
    if (kv->type != GGUF_ARRAY || (kv->elem != GGUF_U8 && kv->elem != GGUF_I8))
        return err_set(why, ERR_INVALID, "%s: %s is not an array of bytes", gguf_path(g), key);
    const unsigned char *p = kv->data;
    if (kv->count < 4)
        return err_set(why, ERR_INVALID, "%s: %s has %llu bytes", gguf_path(g), key,
                       (unsigned long long)kv->count);
    uint64_t bytes = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    if (bytes % 4 || bytes == 0 || bytes + 4 >= kv->count || p[kv->count - 1] != 0)
        return err_set(why, ERR_INVALID, "%s: %s is damaged: an array of %llu bytes in %llu",
                       gguf_path(g), key, (unsigned long long)bytes, (unsigned long long)kv->count);
    m->n_units = bytes / 4;
    m->n_replacements = kv->count - 4 - bytes;
    m->units = malloc(bytes);
    m->replacements = malloc(m->n_replacements);
    if (!m->units || !m->replacements)
        return err_set(why, ERR_NOMEM, "%s: out of memory for %s", gguf_path(g), key);
    for (size_t i = 0; i < m->n_units; i++) {
        const unsigned char *u = p + 4 + 4 * i;
        m->units[i] = u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    }
    memcpy(m->replacements, p + 4 + bytes, m->n_replacements);
    return ERR_OK;
}

static enum err index_pieces(struct unigram *m, const struct vocab *v)
{
    struct trie_key *keys = malloc(v->n * sizeof *keys);
    float min = FLT_MAX, max = -FLT_MAX;
    size_t n = 0;
    if (!keys)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->types[i] == TOKEN_NORMAL) {
            min = v->scores[i] < min ? v->scores[i] : min;
            max = v->scores[i] > max ? v->scores[i] : max;
        }
        if (v->types[i] == TOKEN_NORMAL || v->types[i] == TOKEN_USER_DEFINED)
            keys[n++] = (struct trie_key){vocab_text(v, i), (int32_t)i};
    }
    m->unknown_score = (min == FLT_MAX ? 0 : min) - unknown_penalty;
    m->max_score = max == -FLT_MAX ? 0 : max;
    enum err e = trie_build(&m->pieces, keys, n);
    free(keys);
    return e;
}

enum err unigram_open(struct unigram **out, const struct vocab *v, const struct gguf *g,
                      struct errmsg *why)
{
    struct unigram *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(why, ERR_NOMEM, "%s: out of memory", gguf_path(g));
    enum err e = read_charsmap(m, g, why);
    if (!e && (e = index_pieces(m, v)) != ERR_OK)
        err_set(why, e, "%s: out of memory for %u tokens", gguf_path(g), v->n);
    if (e) {
        unigram_close(m);
        return e;
    }
    *out = m;
    return ERR_OK;
}

void unigram_close(struct unigram *m)
{
    if (!m)
        return;
    trie_fini(&m->pieces);
    free(m->units);
    free(m->replacements);
    free(m);
}

/* ------------------------------------------------------------------ normalize */

static uint32_t unit_offset(uint32_t u)
{
    return (u >> 10) << ((u & 1u << 9) >> 6);
}

/* The longest sequence at p that the map replaces: bytes taken (0: none), the replacement in *with.
 * A damaged array leads outside of itself at worst, which ends the walk. */
static size_t map_longest(const struct unigram *m, const char *p, size_t n, struct str *with)
{
    size_t taken = 0;
    if (m->n_units == 0)
        return 0;
    uint32_t at = unit_offset(m->units[0]);
    for (size_t i = 0; i < n && i < MAX_MAP_KEY && p[i]; i++) {
        uint8_t c = (uint8_t)p[i];
        at ^= c;
        if (at >= m->n_units || (m->units[at] & (1u << 31 | 0xff)) != c)
            break;
        bool has_value = m->units[at] >> 8 & 1;
        at ^= unit_offset(m->units[at]);
        if (!has_value)
            continue;
        uint32_t value = at < m->n_units ? m->units[at] & ~(1u << 31) : UINT32_MAX;
        if (value >= m->n_replacements)
            break;
        *with = str_of(m->replacements + value); /* NUL-terminated: the last byte of all is NUL */
        taken = i + 1;
    }
    return taken;
}

/* Where the normalizer stands between the words. */
struct spacing {
    bool prefix, merge; /* as the vocabulary asks for */
    bool in_word, any;  /* now; ever */
};

static void put_normalized(struct buf *b, struct spacing *s, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == ' ') {
            s->in_word = false;
            if (!s->merge)
                buf_puts(b, SPACE_MARK);
            continue;
        }
        if (!s->in_word && (s->any ? s->merge : s->prefix))
            buf_puts(b, SPACE_MARK);
        s->in_word = s->any = true;
        buf_putc(b, text.p[i]);
    }
}

static void normalize(const struct unigram *m, const struct vocab *v, const char *text, size_t n,
                      struct buf *out)
{
    struct spacing s = {.prefix = v->add_space_prefix, .merge = v->remove_extra_whitespaces};
    for (size_t i = 0; i < n;) {
        struct str with;
        uint32_t cp;
        size_t taken = map_longest(m, text + i, n - i, &with);
        if (taken == 0) {
            taken = (size_t)utf8_decode(text + i, n - i, &cp);
            with = taken ? (struct str){text + i, taken} : STR("\xef\xbf\xbd");
            taken += taken == 0;
        }
        put_normalized(out, &s, with);
        i += taken;
    }
}

/* ------------------------------------------------------------------ segment */

struct best {
    float score;
    int32_t token;
    uint32_t from; /* where the token starts */
};

static void offer(struct best *b, double score, int32_t token, size_t from)
{
    /* Compared in double, kept in float, as SentencePiece's EncodeOptimized does: ties fall the
     * same way. */
    if (score > (double)b->score)
        *b = (struct best){(float)score, token, (uint32_t)from};
}

static void find_path(const struct unigram *m, const struct vocab *v, const char *p, size_t n,
                      struct best *best)
{
    for (size_t i = 0; i <= n; i++)
        best[i] = (struct best){-FLT_MAX, v->unk, 0};
    best[0].score = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp, at = 0;
        size_t len = (size_t)utf8_decode(p + i, n - i, &cp);
        bool covered = false;
        len += len == 0;
        size_t limit = n - i < MAX_PIECE_WALK ? n - i : MAX_PIECE_WALK;
        for (size_t k = 0;
             k < limit && m->pieces.nodes && (at = trie_step(&m->pieces, at, (uint8_t)p[i + k]));
             k++) {
            int32_t id = m->pieces.nodes[at].value;
            if (id < 0)
                continue;
            double score = v->types[id] == TOKEN_USER_DEFINED ? (double)(k + 1) * m->max_score - 0.1
                                                              : v->scores[id];
            offer(&best[i + k + 1], best[i].score + score, id, i);
            covered |= k + 1 == len;
        }
        if (!covered)
            offer(&best[i + len], (double)best[i].score + m->unknown_score, v->unk, i);
        i += len;
    }
}

/* Reads the path backwards into `out`; neighbouring unknowns are one. */
static bool put_path(const struct vocab *v, const struct best *best, size_t n,
                     struct token_list *out)
{
    size_t first = out->n;
    for (size_t i = n; i > 0; i = best[i].from) {
        int32_t id = best[i].token;
        if (id == v->unk && out->n > first && out->ids[out->n - 1] == v->unk)
            continue;
        if (!token_list_put(out, id))
            return false;
    }
    for (size_t a = first, b = out->n; a + 1 < b; a++, b--) {
        int32_t swap = out->ids[a];
        out->ids[a] = out->ids[b - 1];
        out->ids[b - 1] = swap;
    }
    return true;
}

enum err unigram_encode(const struct unigram *m, const struct vocab *v, const char *text, size_t n,
                        struct token_list *out, struct errmsg *why)
{
    struct buf b;
    struct best *best = NULL;
    enum err e = ERR_OK;
    buf_init(&b);
    b.limit = UINT32_MAX - 1; /* a map may make a text longer */
    normalize(m, v, text, n, &b);
    if (!b.failed)
        best = malloc((b.n + 1) * sizeof *best);
    if (!best) {
        e = err_set(why, ERR_NOMEM, "out of memory for a text of %zu bytes", n);
    } else if (b.n) {
        find_path(m, v, b.p, b.n, best);
        if (!put_path(v, best, b.n, out))
            e = err_set(why, ERR_NOMEM, "out of memory for tokens");
    }
    free(best);
    buf_fini(&b);
    return e;
}
