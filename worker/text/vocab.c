/* vocab.c - reads the tokens out of a GGUF file; see vocab.h. */
#include "worker/text/vocab.h"
#include "shared/base/checked.h"
#include "shared/base/utf8.h"
#include "worker/text/specials.h"

#include <math.h>
#include <stdlib.h>

/* GPT-2 (openai/gpt-2, encoder.py): printable Latin-1 bytes stand for themselves, the other 68 get
 * the code points from 256 on, in order. */
static bool stands_for_itself(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

uint32_t byte_to_char(uint8_t b)
{
    if (stands_for_itself(b))
        return b;
    if (b <= 0x20)
        return 256u + b;
    if (b <= 0xa0)
        return 256u + 33 + (b - 0x7fu);
    return 256u + 67; /* 0xad, the soft hyphen */
}

int char_to_byte(uint32_t cp)
{
    if (cp < 256)
        return stands_for_itself(cp) ? (int)cp : -1;
    cp -= 256;
    if (cp <= 0x20)
        return (int)cp;
    if (cp < 67)
        return (int)(cp - 33 + 0x7f);
    return cp == 67 ? 0xad : -1;
}

/* ------------------------------------------------------------------ arrays of the file */

static const struct gguf_kv *array_of(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv = gguf_kv(g, key);
    return kv && kv->type == GGUF_ARRAY ? kv : NULL;
}

static enum err read_texts(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    const struct gguf_kv *kv = array_of(g, "tokenizer.ggml.tokens");
    if (!kv || kv->elem != GGUF_STRING)
        return err_set(
            why, ERR_INVALID,
            "%s: no tokenizer.ggml.tokens (an array of strings): the file has no vocabulary",
            gguf_path(g));
    if (kv->count == 0 || kv->count > INT32_MAX - 1)
        return err_set(why, ERR_INVALID, "%s: tokenizer.ggml.tokens has %llu entries", gguf_path(g),
                       (unsigned long long)kv->count);
    v->n = (uint32_t)kv->count;
    uint64_t total = 0;
    for (uint32_t i = 0; i < v->n; i++)
        total += kv->strings[i].n; /* all lie in one file: no overflow */
    if (total > UINT32_MAX)
        return err_set(why, ERR_INVALID, "%s: token texts take %llu bytes, more than 4 GiB",
                       gguf_path(g), (unsigned long long)total);
    v->texts.bytes = malloc(total ? total : 1);
    v->texts.at = malloc(((size_t)v->n + 1) * sizeof *v->texts.at);
    if (!v->texts.bytes || !v->texts.at)
        return err_set(why, ERR_NOMEM, "%s: out of memory for %u tokens", gguf_path(g), v->n);
    uint32_t at = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        struct str s = kv->strings[i];
        v->texts.at[i] = at;
        if (s.n)
            memcpy(v->texts.bytes + at, s.p, s.n);
        at += (uint32_t)s.n;
        if (s.n > v->max_text)
            v->max_text = s.n;
    }
    v->texts.at[v->n] = at;
    return ERR_OK;
}

static enum err check_count(const struct vocab *v, const struct gguf *g, const struct gguf_kv *kv,
                            const char *what, struct errmsg *why)
{
    if (kv->count == v->n)
        return ERR_OK;
    return err_set(why, ERR_INVALID, "%s: %s has %llu entries for %u tokens", gguf_path(g), what,
                   (unsigned long long)kv->count, v->n);
}

static enum err read_types(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    static const char key[] = "tokenizer.ggml.token_type";
    v->types = malloc(v->n);
    v->attrs = calloc(v->n, 1);
    v->scores = calloc(v->n, sizeof *v->scores);
    if (!v->types || !v->attrs || !v->scores)
        return err_set(why, ERR_NOMEM, "%s: out of memory for %u tokens", gguf_path(g), v->n);
    memset(v->types, TOKEN_NORMAL, v->n);
    const struct gguf_kv *kv = gguf_kv(g, key);
    if (!kv)
        return ERR_OK;
    enum err e = check_count(v, g, kv, key, why);
    if (e)
        return e;
    for (uint32_t i = 0; i < v->n; i++) {
        int64_t type = -1;
        if (!gguf_elem_i64(kv, i, &type) || type < 0 || type >= TOKEN_TYPE_COUNT_)
            return err_set(why, ERR_INVALID, "%s: %s[%u] is not a token type (0 to %d)",
                           gguf_path(g), key, i, TOKEN_TYPE_COUNT_ - 1);
        v->types[i] = (uint8_t)type;
    }
    return ERR_OK;
}

static enum err read_scores(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    static const char key[] = "tokenizer.ggml.scores";
    const struct gguf_kv *kv = gguf_kv(g, key);
    if (!kv) {
        if (v->kind == VOCAB_SPM || v->kind == VOCAB_UNIGRAM)
            return err_set(why, ERR_INVALID, "%s: no %s, which this kind of tokenizer merges by",
                           gguf_path(g), key);
        return ERR_OK;
    }
    enum err e = check_count(v, g, kv, key, why);
    if (e)
        return e;
    for (uint32_t i = 0; i < v->n; i++)
        if (!gguf_elem_f32(kv, i, &v->scores[i]) || !isfinite(v->scores[i]))
            return err_set(why, ERR_INVALID, "%s: %s[%u] is not a finite number", gguf_path(g), key,
                           i);
    return ERR_OK;
}

/* ------------------------------------------------------------------ pieces: what a token prints */

/* Appends the bytes that byte-level characters stand for; others stay what they are. */
static uint32_t put_byte_level(char *out, struct str text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        int len = utf8_decode(text.p + i, text.n - i, &cp);
        int b = len ? char_to_byte(cp) : -1;
        if (b >= 0) {
            out[n++] = (char)b;
            i += (size_t)len;
        } else {
            out[n++] = text.p[i++];
        }
    }
    return n;
}

static uint32_t put_unmarked(char *out, struct str text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.n;) {
        if (str_starts((struct str){text.p + i, text.n - i}, STR(SPACE_MARK))) {
            out[n++] = ' ';
            i += sizeof SPACE_MARK - 1;
        } else {
            out[n++] = text.p[i++];
        }
    }
    return n;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" -> 10; -1: not a byte token's text. */
static int byte_of(struct str t)
{
    if (t.n != 6 || memcmp(t.p, "<0x", 3) != 0 || t.p[5] != '>')
        return -1;
    int hi = hex_digit(t.p[3]), lo = hex_digit(t.p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static enum err make_pieces(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    uint32_t total = v->texts.at[v->n]; /* no piece is longer than its text */
    v->pieces.bytes = malloc(total ? total : 1);
    v->pieces.at = malloc(((size_t)v->n + 1) * sizeof *v->pieces.at);
    if (!v->pieces.bytes || !v->pieces.at)
        return err_set(why, ERR_NOMEM, "%s: out of memory for %u tokens", gguf_path(g), v->n);
    uint32_t at = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        struct str text = vocab_text(v, i);
        char *out = v->pieces.bytes + at;
        v->pieces.at[i] = at;
        switch ((enum token_type)v->types[i]) {
        case TOKEN_UNKNOWN:
        case TOKEN_CONTROL:
        case TOKEN_USER_DEFINED: /* written as they are, in every kind */
            if (text.n)
                memcpy(out, text.p, text.n);
            at += (uint32_t)text.n;
            break;
        case TOKEN_NORMAL:
            at += v->kind == VOCAB_BPE ? put_byte_level(out, text) : put_unmarked(out, text);
            break;
        case TOKEN_BYTE: {
            int b = byte_of(text);
            if (b < 0)
                return err_set(why, ERR_INVALID,
                               "%s: token %u '%.*s' is typed as a byte but not written <0xXX>",
                               gguf_path(g), i, (int)(text.n < 32 ? text.n : 32), text.p);
            *out = (char)b;
            at++;
            break;
        }
        case TOKEN_UNDEFINED:
        case TOKEN_UNUSED:
        case TOKEN_TYPE_COUNT_:
            break; /* never printed */
        }
    }
    v->pieces.at[v->n] = at;
    return ERR_OK;
}

static enum err index_texts(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    enum err e = strtab_init(&v->by_text, v->n);
    for (uint32_t i = 0; i < v->n && !e; i++) {
        struct str text = vocab_text(v, i);
        if (text.n) /* a token without text can't be in any text */
            e = strtab_put(&v->by_text, text, (int32_t)i);
    }
    if (e)
        return err_set(why, e, "%s: out of memory for %u tokens", gguf_path(g), v->n);
    for (int b = 0; b < 256; b++) {
        char name[8] = {'<', '0', 'x', "0123456789ABCDEF"[b >> 4], "0123456789ABCDEF"[b & 15],
                        '>', 0};
        char raw[4] = {(char)b};
        size_t n = 1;
        if (v->kind == VOCAB_BPE) {
            n = (size_t)utf8_encode(byte_to_char((uint8_t)b), raw);
            v->byte_id[b] = vocab_byte_level(v, (struct str){raw, n});
            continue;
        }
        v->byte_id[b] = strtab_find(&v->by_text, str_of(name));
        if (v->byte_id[b] < 0)
            v->byte_id[b] = strtab_find(&v->by_text, (struct str){raw, n});
    }
    return ERR_OK;
}

static enum err build_tries(struct vocab *v, const struct gguf *g, struct errmsg *why)
{
    size_t n_special = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        n_special += v->types[i] == TOKEN_USER_DEFINED || v->types[i] == TOKEN_CONTROL ||
                     v->types[i] == TOKEN_UNKNOWN;
    }
    struct trie_key *keys = malloc((n_special + 1) * sizeof *keys);
    enum err e = keys ? ERR_OK : ERR_NOMEM;
    for (int all = 0; all < 2 && !e; all++) {
        size_t n = 0;
        for (uint32_t i = 0; i < v->n; i++) {
            bool control = v->types[i] == TOKEN_CONTROL || v->types[i] == TOKEN_UNKNOWN;
            if (v->types[i] == TOKEN_USER_DEFINED || (all && control))
                keys[n++] = (struct trie_key){vocab_text(v, i), (int32_t)i};
        }
        e = trie_build(all ? &v->special : &v->user_defined, keys, n);
    }
    free(keys);
    return e ? err_set(why, e, "%s: out of memory for %zu special tokens", gguf_path(g), n_special)
             : ERR_OK;
}

enum err vocab_open(struct vocab *v, const struct gguf *g, enum vocab_kind kind, bool pre_add_bos,
                    struct errmsg *why)
{
    *v = (struct vocab){.kind = kind};
    enum err e;
    if ((e = read_texts(v, g, why)) || (e = read_types(v, g, why)) ||
        (e = read_scores(v, g, why)) || (e = index_texts(v, g, why)) ||
        (e = specials_read(v, g, pre_add_bos, why)) || (e = make_pieces(v, g, why)) ||
        (e = build_tries(v, g, why))) {
        vocab_close(v);
        return e;
    }
    return ERR_OK;
}

void vocab_close(struct vocab *v)
{
    free(v->texts.bytes);
    free(v->texts.at);
    free(v->pieces.bytes);
    free(v->pieces.at);
    free(v->types);
    free(v->attrs);
    free(v->scores);
    strtab_fini(&v->by_text);
    trie_fini(&v->user_defined);
    trie_fini(&v->special);
    *v = (struct vocab){0};
}
