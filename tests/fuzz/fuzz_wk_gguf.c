/* fuzz_wk_gguf.c - any bytes as a model file: refused with a message, or every value and block can
 * be read. */
#include "worker/model/gguf_parts.h"

#include <stdlib.h>

static void read_value(const struct gguf_kv *kv)
{
    /* The first, the last and one beyond. */
    const uint64_t at[] = {0, kv->count - 1, kv->count};
    for (int i = 0; i < 3; i++) {
        uint64_t u;
        int64_t s;
        float f;
        struct str text;
        int n = gguf_elem_u64(kv, at[i], &u);
        n += gguf_elem_i64(kv, at[i], &s);
        n += gguf_elem_f32(kv, at[i], &f);
        if (gguf_elem_str(kv, at[i], &text) && (n > 0 || str_hash(text) == 1))
            abort();
    }
}

static void read_tensor(const struct gguf_tensor *t)
{
    const struct qtype_info *q = qtype_info((uint32_t)t->type);
    float x[256];
    if (!q->dequantize)
        return;
    size_t elems = q->block_elems;
    q->dequantize(x, t->data, elems);
    q->dequantize(x, (const char *)t->data + t->bytes - q->block_bytes, elems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gguf *g = NULL;
    struct errmsg why = {{0}};
    if (gguf_open_memory(&g, data, n, &why)) {
        if (why.text[0] == '\0')
            abort();
        return 0;
    }
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        read_value(kv);
        /* The index finds what the list has (names that hold no NUL, which is all of them). */
        char *key = strndup(kv->key.p, kv->key.n);
        if (key && gguf_kv(g, key) != kv)
            abort();
        free(key);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        read_tensor(gguf_tensor_at(g, i));
    gguf_close(g);
    return 0;
}
