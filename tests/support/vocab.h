/* vocab.h - small vocabularies as GGUF files in memory, for tests of tokenizers.
 *
 *     struct vocab_file f;
 *     vocab_begin(&f, "gpt2");
 *     vocab_str(&f, "tokenizer.ggml.pre", "qwen2");
 *     vocab_strings(&f, "tokenizer.ggml.tokens", texts, n);
 *     struct gguf *g = vocab_open_gguf(&f);  ...  gguf_close(g); vocab_free(&f);
 *
 * Only what the tokenizers read, and nothing is checked: tests write broken files with it. */
#ifndef MILLRACE_TESTS_VOCAB_H
#define MILLRACE_TESTS_VOCAB_H

#include "shared/base/buf.h"
#include "shared/base/str.h"
#include "worker/model/gguf_parts.h"

#include <stdlib.h>

struct vocab_file {
    struct buf bytes;
    uint64_t n_kv;
};

static inline void vocab_put(struct vocab_file *f, uint64_t v, size_t bytes)
{
    buf_put(&f->bytes, &v, bytes); /* little-endian machines only, as the product */
}

static inline void vocab_put_str(struct vocab_file *f, struct str s)
{
    vocab_put(f, s.n, 8);
    buf_put(&f->bytes, s.p, s.n);
}

static inline void vocab_key(struct vocab_file *f, const char *key, enum gguf_type type)
{
    vocab_put_str(f, str_of(key));
    vocab_put(f, type, 4);
    f->n_kv++;
}

static inline void vocab_str(struct vocab_file *f, const char *key, const char *v)
{
    vocab_key(f, key, GGUF_STRING);
    vocab_put_str(f, str_of(v));
}

static inline void vocab_u32(struct vocab_file *f, const char *key, uint32_t v)
{
    vocab_key(f, key, GGUF_U32);
    vocab_put(f, v, 4);
}

static inline void vocab_bool(struct vocab_file *f, const char *key, bool v)
{
    vocab_key(f, key, GGUF_BOOL);
    vocab_put(f, v, 1);
}

static inline void vocab_array(struct vocab_file *f, const char *key, enum gguf_type elem,
                               uint64_t n)
{
    vocab_key(f, key, GGUF_ARRAY);
    vocab_put(f, elem, 4);
    vocab_put(f, n, 8);
}

static inline void vocab_strings(struct vocab_file *f, const char *key, const struct str *v,
                                 size_t n)
{
    vocab_array(f, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        vocab_put_str(f, v[i]);
}

static inline void vocab_i32s(struct vocab_file *f, const char *key, const int32_t *v, size_t n)
{
    vocab_array(f, key, GGUF_I32, n);
    buf_put(&f->bytes, v, n * sizeof *v);
}

static inline void vocab_f32s(struct vocab_file *f, const char *key, const float *v, size_t n)
{
    vocab_array(f, key, GGUF_F32, n);
    buf_put(&f->bytes, v, n * sizeof *v);
}

static inline void vocab_bytes(struct vocab_file *f, const char *key, const void *p, size_t n)
{
    vocab_array(f, key, GGUF_U8, n);
    buf_put(&f->bytes, p, n);
}

static inline void vocab_begin(struct vocab_file *f, const char *model)
{
    *f = (struct vocab_file){0};
    buf_init(&f->bytes);
    buf_put(&f->bytes, "GGUF", 4);
    vocab_put(f, 3, 4);
    vocab_put(f, 0, 8); /* tensors */
    vocab_put(f, 0, 8); /* keys: set on opening */
    if (model)
        vocab_str(f, "tokenizer.ggml.model", model);
}

/* Lives as long as the file's bytes. Aborts when even the container is refused. */
static inline struct gguf *vocab_open_gguf(struct vocab_file *f)
{
    struct gguf *g = NULL;
    struct errmsg why = {{0}};
    while (f->bytes.n % 32)
        vocab_put(f, 0, 1);
    memcpy(f->bytes.p + 16, &f->n_kv, 8);
    if (f->bytes.failed || gguf_open_memory(&g, f->bytes.p, f->bytes.n, &why))
        abort();
    return g;
}

static inline void vocab_free(struct vocab_file *f)
{
    buf_fini(&f->bytes);
}

/* The character that stands for byte b in byte-level BPE, into out[3]: GPT-2's table, counted out.
 */
static inline void vocab_byte_char(int b, char out[3])
{
    int cp = b, shifted = 256;
    for (int i = 0; i <= b; i++) {
        bool itself = (i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xac) || i >= 0xae;
        cp = itself ? i : shifted;
        shifted += !itself;
    }
    memset(out, 0, 3);
    if (cp < 0x80) {
        out[0] = (char)cp;
    } else {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 63));
    }
}

#endif
