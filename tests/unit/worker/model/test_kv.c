/* test_kv.c - what the KV cache keeps, in which types, and how much memory it takes: for every
 * decoder of the table, over small random models. */
#include "tests/unit/worker/arch_case.h"
#include "tests/unit/worker/synth_model.h"
#include "worker/model/measure.h"

#include <unistd.h>

#define SHAPE "layers=4,embd=64,ff=128,heads=4,kv-heads=2,vocab=300,context=256"
enum { LENGTH = 230, WINDOW = 20, BLOCKS = 8 };

static char path[] = "/tmp/millrace-kv-XXXXXX";

static int make_path(void **state)
{
    UNUSED(state);
    const int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int drop_path(void **state)
{
    UNUSED(state);
    return unlink(path);
}

static struct model *open_model(enum qtype kv, uint32_t step)
{
    struct model *m = NULL;
    struct errmsg why = {0};
    if (model_open(&m, path,
                   &(struct model_opts){.n_threads = 2, .max_step_tokens = step, .kv_type = kv},
                   &why))
        fail_msg("%s", why.text);
    return m;
}

/* LENGTH tokens, `chunk` at a time; the logits of all. */
static float *run(struct model *m, uint32_t chunk)
{
    const struct model_desc *d = model_desc(m);
    struct errmsg why = {0};
    int32_t tokens[LENGTH];
    uint32_t blocks[BLOCKS], ring[BLOCKS];
    float *out = calloc((size_t)LENGTH * d->n_vocab, sizeof *out);
    assert_non_null(out);
    for (uint32_t i = 0; i < LENGTH; i++)
        tokens[i] = (int32_t)((i * 7919 + i * i * 31) % d->n_vocab);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i] = BLOCKS - 1 - i;
        ring[i] = d->kv_ring_blocks ? (i + 1) % d->kv_ring_blocks : UINT32_MAX;
    }
    for (uint32_t at = 0; at < LENGTH; at += chunk) {
        const uint32_t n = LENGTH - at < chunk ? LENGTH - at : chunk;
        const struct step_seq s = {.tokens = tokens + at,
                                   .n_tok = n,
                                   .pos = at,
                                   .blocks = blocks,
                                   .n_blocks = BLOCKS,
                                   .window_blocks = ring,
                                   .n_logits = n,
                                   .logits = out + (size_t)at * d->n_vocab};
        if (model_step(m, &s, 1, NULL, &why))
            fail_msg("%s", why.text);
    }
    return out;
}

/* All experts are used: a rounding that changes which were chosen would tell nothing of the cache.
 */
static void make(const struct arch *a, uint32_t window)
{
    char params[320];
    snprintf(params, sizeof params, SHAPE "%s,window=%u%s", arch_extras(a), window,
             arch_has(a, MOE_GATE) ? ",experts=4,experts-used=4" : "");
    (void)synth_model(path, a->name, "F32", params, 1);
}

static void windows_kept_alone_give_the_bits_of_keeping_everything(void **state)
{
    UNUSED(state);
    int n = 0;
    for (int i = 0; arch_at(i); i++) {
        const struct arch *a = arch_at(i);
        if (a->window == WINDOW_NONE)
            continue;
        make(a, WINDOW);
        struct model *whole = open_model(QTYPE_F16, 256), *ring = open_model(QTYPE_F16, 16);
        assert_int_equal(model_desc(whole)->kv_ring_blocks, 0); /* a step is as long as the rest */
        assert_in_range(model_desc(ring)->kv_ring_blocks, 2, BLOCKS - 1);
        float *want = run(whole, LENGTH);
        for (uint32_t chunk = 16; chunk > 0; chunk /= 3) {
            float *got = run(ring, chunk);
            if (memcmp(got, want, sizeof *got * LENGTH * model_desc(ring)->n_vocab) != 0)
                fail_msg("%s: chunks of %u give other numbers", a->name, chunk);
            free(got);
        }
        free(want);
        model_close(whole);
        model_close(ring);
        n++;
    }
    assert_true(n >= 3);
}

static void every_decoder_computes_with_every_kv_type(void **state)
{
    UNUSED(state);
    const struct {
        enum qtype type;
        double cosine;
    } types[] = {{QTYPE_F16, 0.9999}, {QTYPE_BF16, 0.99}, {QTYPE_Q8_0, 0.99}};
    for (int i = 0; arch_at(i); i++) {
        const struct arch *a = arch_at(i);
        if (a->encoder)
            continue;
        make(a, WINDOW);
        struct model *exact = open_model(QTYPE_F32, 64);
        const uint32_t n_vocab = model_desc(exact)->n_vocab;
        float *want = run(exact, 64);
        for (size_t t = 0; t < COUNT(types); t++) {
            struct model *m = open_model(types[t].type, 64);
            float *got = run(m, 64), *cut = run(m, 23);
            const double near = case_cosine(got, want, (size_t)LENGTH * n_vocab);
            if (!(near >= types[t].cosine) || near == 1)
                fail_msg("%s with a KV cache of %s: cosine %.6f to float32", a->name,
                         qtype_info(types[t].type)->name, near);
            assert_memory_equal(cut, got, sizeof *got * LENGTH * n_vocab);
            free(got);
            free(cut);
            model_close(m);
        }
        free(want);
        model_close(exact);
    }
}

static struct kv_need need_of(uint32_t context, uint32_t slots, enum qtype type)
{
    struct gguf *g = NULL;
    struct errmsg why = {0};
    struct hparams h;
    struct kv_need n;
    struct str name;
    assert_int_equal(gguf_open(&g, path, &why), ERR_OK);
    assert_true(gguf_get_str(g, "general.architecture", &name));
    const struct arch *a = arch_find(name);
    assert_int_equal(hparams_read(&h, a, g, &why), ERR_OK);
    assert_int_equal(
        model_kv_need(&n, &h, a, &cpu_backend,
                      &(struct kv_ask){.context = context, .slots = slots, .type = type}, &why),
        ERR_OK);
    gguf_close(g);
    return n;
}

static void a_latent_is_stored_once_in_every_type(void **state)
{
    UNUSED(state);
    (void)synth_model(path, "deepseek2", "Q8_0",
                      "layers=3,embd=64,ff=64,heads=4,vocab=300,context=4096,kv-lora=512,rot=64,"
                      "head-dim=96,value-dim=64",
                      1);
    assert_int_equal(need_of(4096, 1, QTYPE_F32).token_bytes, 3 * 576 * 4);
    assert_int_equal(need_of(4096, 1, QTYPE_F16).token_bytes, 3 * 576 * 2);
    assert_int_equal(need_of(4096, 1, QTYPE_BF16).token_bytes, 3 * 576 * 2);
    assert_int_equal(need_of(4096, 1, QTYPE_Q8_0).token_bytes, 3 * (576 + 576 / 32 * 2));
}

static void windows_make_a_long_context_cheap(void **state)
{
    UNUSED(state);
    /* Five of six layers see 1024 tokens: with steps of 512 they keep 50 blocks of 32. */
    (void)synth_model(path, "gemma3", "Q8_0",
                      "layers=6,embd=64,ff=64,heads=4,kv-heads=1,head-dim=64,vocab=300,"
                      "context=131072,window=1024",
                      1);
    const uint64_t layer = 2 * 64 * 2; /* K and V of one head, f16 */
    const struct kv_need n = need_of(131072, 1, QTYPE_F16), two = need_of(131072, 2, QTYPE_F16);
    assert_int_equal(n.shape.n_layer[KV_WHOLE], 1);
    assert_int_equal(n.shape.n_layer[KV_WINDOW], 5);
    assert_int_equal(n.token_bytes, layer);
    assert_int_equal(n.ring_blocks, 50);
    assert_int_equal(n.bytes, 131072 * layer + 2 * 50 * 32 * 5 * layer);
    assert_int_equal(two.bytes - n.bytes, n.slot_bytes);
    /* A context that the ring would not save anything of is kept whole. */
    const struct kv_need little = need_of(1024, 1, QTYPE_F16);
    assert_int_equal(little.ring_blocks, 0);
    assert_int_equal(little.bytes, 1024 * 6 * layer);
}

static enum err fit(struct kv_need *n, uint32_t slots, uint64_t budget, struct errmsg *why)
{
    struct gguf *g = NULL;
    struct hparams h;
    const struct arch *a = arch_find(STR("gemma3"));
    assert_int_equal(gguf_open(&g, path, why), ERR_OK);
    assert_int_equal(hparams_read(&h, a, g, why), ERR_OK);
    const enum err e = model_kv_fit(
        n, &h, a, &cpu_backend,
        &(struct kv_ask){.context = 8192, .slots = slots, .type = QTYPE_F16}, budget, why);
    gguf_close(g);
    return e;
}

static void too_many_slots_for_the_memory_share_what_there_is(void **state)
{
    UNUSED(state);
    struct errmsg why = {0};
    struct kv_need n;
    (void)synth_model(path, "gemma3", "Q8_0",
                      "layers=6,embd=64,ff=64,heads=4,kv-heads=1,head-dim=64,vocab=300,"
                      "context=8192,window=128",
                      1);
    /* A context is 2 MiB; a ring of 22 blocks in five layers 0.86 MiB. */
    assert_int_equal(fit(&n, 4, 64 << 20, &why), ERR_OK);
    assert_int_equal(n.shape.n_blocks[KV_WHOLE], 4 * 256);
    assert_int_equal(n.shape.n_blocks[KV_WINDOW], 5 * 22);
    assert_int_equal(fit(&n, 64, 16 << 20, &why), ERR_OK);
    assert_true(n.bytes <= 16 << 20 && n.bytes > 15 << 20);
    assert_int_equal(n.shape.n_blocks[KV_WINDOW], 4 * 22);
    assert_true(n.shape.n_blocks[KV_WHOLE] > 6 * 256);
    assert_int_equal(fit(&n, 64, 3 << 20, &why), ERR_OK); /* one ring, one context */
    assert_int_equal(n.shape.n_blocks[KV_WINDOW], 22);
    assert_int_equal(fit(&n, 64, 2 << 20, &why), ERR_NOMEM);
    assert_non_null(strstr(why.text, "less than one context of 8192"));
    assert_int_equal(fit(&n, 1, 1000, &why), ERR_NOMEM);
}

static void what_was_said_is_what_is_opened(void **state)
{
    UNUSED(state);
    for (int i = 0; arch_at(i); i++) {
        make(arch_at(i), WINDOW);
        const struct kv_need n = need_of(256, 1, QTYPE_Q8_0);
        struct model *m = NULL;
        struct errmsg why = {0};
        if (model_open(
                &m, path,
                &(struct model_opts){.max_step_tokens = KV_STEP_DEFAULT, .kv_type = QTYPE_Q8_0},
                &why))
            fail_msg("%s", why.text);
        assert_int_equal(model_desc(m)->kv_bytes, n.bytes);
        assert_int_equal(model_desc(m)->kv_bytes_per_token, n.token_bytes);
        model_close(m);
    }
}

static void a_step_without_the_windows_blocks_is_refused(void **state)
{
    UNUSED(state);
    make(arch_find(STR("gemma2")), WINDOW);
    struct model *m = open_model(QTYPE_F16, 16);
    struct errmsg why = {0};
    const int32_t token = 1;
    const uint32_t blocks[BLOCKS] = {0}, beyond[BLOCKS] = {1u << 20};
    float logits[300];
    struct step_seq s = {.tokens = &token,
                         .n_tok = 1,
                         .blocks = blocks,
                         .n_blocks = BLOCKS,
                         .n_logits = 1,
                         .logits = logits};
    assert_int_equal(model_step(m, &s, 1, NULL, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "no window blocks"));
    s.window_blocks = beyond;
    assert_int_equal(model_step(m, &s, 1, NULL, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "KV window block 1048576"));
    model_close(m);
}

static void a_decoder_with_windows_embeds_as_with_everything_kept(void **state)
{
    UNUSED(state);
    struct errmsg why = {0};
    make(arch_find(STR("gemma3")), WINDOW);
    struct model *whole = open_model(QTYPE_F16, 256), *ring = open_model(QTYPE_F16, 16);
    int32_t tokens[LENGTH];
    for (uint32_t i = 0; i < LENGTH; i++)
        tokens[i] = (int32_t)(i * 13 % 300);
    float a[64], b[64];
    assert_int_equal(model_embed(whole, tokens, LENGTH, POOL_LAST, true, a, &why), ERR_OK);
    assert_int_equal(model_embed(ring, tokens, LENGTH, POOL_LAST, true, b, &why), ERR_OK);
    assert_memory_equal(a, b, sizeof a);
    model_close(whole);
    model_close(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_kept_alone_give_the_bits_of_keeping_everything),
        cmocka_unit_test(every_decoder_computes_with_every_kv_type),
        cmocka_unit_test(a_latent_is_stored_once_in_every_type),
        cmocka_unit_test(windows_make_a_long_context_cheap),
        cmocka_unit_test(too_many_slots_for_the_memory_share_what_there_is),
        cmocka_unit_test(what_was_said_is_what_is_opened),
        cmocka_unit_test(a_step_without_the_windows_blocks_is_refused),
        cmocka_unit_test(a_decoder_with_windows_embeds_as_with_everything_kept),
    };
    return cmocka_run_group_tests_name("kv", tests, make_path, drop_path);
}
