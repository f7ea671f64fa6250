/* fuzz_wk_hparams.c - any numbers in a model's metadata, for every row of the architecture table:
 * refused with a message, or every size that is computed from them is sound.
 *
 * Input: a byte that picks the row, then six bytes per key: which, of what type, its value. Keys
 * that a file must have stand there already, with the numbers of a small model. */
#include "shared/base/buf.h"
#include "worker/model/gguf_parts.h"
#include "worker/model/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 80, LAYERS_SEEN = 8 };

struct value {
    bool set;
    uint8_t type; /* what follows selects from: u32, f32, bool, a list of two u32, i32 */
    uint8_t bytes[4];
};

static void put(struct buf *b, const void *p, size_t n)
{
    buf_put(b, p, n);
}

static void put_u32(struct buf *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void put_u64(struct buf *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static void put_text(struct buf *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static void put_value(struct buf *b, const char *arch, const char *key, const struct value *v)
{
    char full[128];
    uint32_t u;
    memcpy(&u, v->bytes, sizeof u);
    snprintf(full, sizeof full, "%s.%s", arch, key);
    put_text(b, full);
    switch (v->type % 5) {
    case 1:
        put_u32(b, GGUF_F32);
        put_u32(b, u);
        break;
    case 2:
        put_u32(b, GGUF_BOOL);
        put(b, &(uint8_t){u & 1}, 1);
        break;
    case 3:
        put_u32(b, GGUF_ARRAY);
        put_u32(b, GGUF_U32);
        put_u64(b, 2);
        put_u32(b, u);
        put_u32(b, v->bytes[3] & 1 ? u : 0);
        break;
    default:
        put_u32(b, v->type % 5 ? GGUF_I32 : GGUF_U32);
        put_u32(b, u);
    }
}

static void use(const struct hparams *h, const struct arch *a)
{
    struct errmsg why = {{0}};
    struct kv_need n;
    for (int d = 0; d < D_COUNT_; d++)
        (void)hparams_dim(h, a, (enum dim)d);
    for (uint32_t il = 0; il < h->n_layer && il < LAYERS_SEEN; il++)
        if (layer_number(h, a, il) > il || (layer_has_experts(h, il) && !h->n_expert))
            abort();
    const struct kv_ask ask = {.slots = 3, .type = QTYPE_F16};
    if (model_kv_need(&n, h, a, &cpu_backend, &ask, &why) == ERR_OK &&
        (n.shape.n_layer[KV_WHOLE] < 0 || (n.ring_blocks && n.ring_blocks >= n.seq_blocks)))
        abort();
    if (a->rope == ROPE_NONE)
        return;
    double *freq = malloc((h->n_rot / 2) * sizeof *freq);
    float mscale;
    for (int local = 0; freq && local < 2; local++)
        rope_frequencies(h, a, NULL, local, freq, &mscale);
    free(freq);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct {
        const char *key;
        uint32_t value;
    } usual[] = {{"block_count", 4},
                 {"context_length", 128},
                 {"embedding_length", 64},
                 {"feed_forward_length", 96},
                 {"attention.head_count", 4},
                 {"attention.layer_norm_rms_epsilon", 0x3727c5ac},
                 {"attention.kv_lora_rank", 16},
                 {"attention.key_length", 24},
                 {"rope.dimension_count", 8},
                 {"attention.sliding_window", 16},
                 {"attention.layer_norm_epsilon", 0x3727c5ac},
                 {"logit_scale", 2}};
    struct value values[KEYS_MAX] = {0};
    int n_keys = 0, rows = 0;
    while (arch_at(rows))
        rows++;
    if (n < 1)
        return 0;
    const struct arch *a = arch_at(data[0] % rows);
    for (; hparams_key(n_keys); n_keys++)
        for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
            if (strcmp(usual[i].key, hparams_key(n_keys)) == 0) {
                values[n_keys] =
                    (struct value){.set = true, .type = strstr(usual[i].key, "epsilon") != NULL};
                memcpy(values[n_keys].bytes, &usual[i].value, 4);
            }
    for (size_t at = 1; at + 6 <= n; at += 6) {
        struct value *v = &values[data[at] % n_keys];
        v->set = data[at + 1] < 250; /* else: the key goes away */
        v->type = data[at + 1];
        memcpy(v->bytes, data + at + 2, 4);
    }
    struct buf b;
    buf_init(&b);
    uint64_t n_kv = 1;
    for (int i = 0; i < n_keys; i++)
        n_kv += values[i].set;
    put(&b, "GGUF", 4);
    put_u32(&b, 3);
    put_u64(&b, 0);
    put_u64(&b, n_kv);
    put_value(&b, a->name, "vocab_size", &(struct value){.bytes = {200}});
    for (int i = 0; i < n_keys; i++)
        if (values[i].set)
            put_value(&b, a->name, hparams_key(i), &values[i]);
    struct gguf *g = NULL;
    struct errmsg why = {{0}};
    struct hparams h;
    if (gguf_open_memory(&g, b.p, b.n, &why))
        abort();
    if (hparams_read(&h, a, g, &why) == ERR_OK)
        use(&h, a);
    else if (!why.text[0])
        abort();
    gguf_close(g);
    buf_fini(&b);
    return 0;
}
