/* test_synth.c - synthetic models: every architecture and quantization loads, computes, and has a
 * tokenizer that gives texts back. */
#include "tests/unit/worker/synth_model.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"
#include "worker/synth/mix.h"
#include "worker/text/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/millrace-synth-XXXXXX", path[64], other_path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/a.gguf", dir);
    snprintf(other_path, sizeof other_path, "%s/b.gguf", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    unlink(path);
    unlink(other_path);
    return rmdir(dir);
}

static struct synth_result make(const char *to, const char *arch, const char *quant,
                                const char *params)
{
    return synth_model(to, arch, quant, params, 1);
}

static struct gguf *open_ok(const char *name)
{
    struct gguf *g = NULL;
    struct errmsg why;
    if (gguf_open(&g, name, &why))
        fail_msg("%s", why.text);
    return g;
}

/* Eight positions: finite, spread out, and not always the same winner. */
static void check_logits(const char *what)
{
    struct model *m;
    struct errmsg why = {{0}};
    const struct model_opts opts = {.device = "cpu",
                                    .n_threads = 1,
                                    .context = 64,
                                    .max_seqs = 1,
                                    .max_step_tokens = 8,
                                    .kv_type = QTYPE_F16};
    if (model_open(&m, path, &opts, &why))
        fail_msg("%s: %s", what, why.text);
    const uint32_t n_vocab = model_desc(m)->n_vocab;
    const int32_t tokens[8] = {1, 70, 300, 5, 260, 9, 31, 280};
    const uint32_t blocks[2] = {0, 1};
    float *logits = calloc(8 * (size_t)n_vocab, sizeof *logits);
    assert_non_null(logits);
    const struct step_seq seq = {.tokens = tokens,
                                 .n_tok = 8,
                                 .blocks = blocks,
                                 .n_blocks = 2,
                                 .n_logits = 8,
                                 .logits = logits};
    if (model_step(m, &seq, 1, NULL, &why))
        fail_msg("%s: %s", what, why.text);
    uint32_t winner[8];
    int distinct = 0;
    for (int t = 0; t < 8; t++) {
        const float *row = logits + (size_t)t * n_vocab;
        double sum = 0, squares = 0;
        winner[t] = 0;
        for (uint32_t i = 0; i < n_vocab; i++) {
            assert_true(isfinite(row[i]));
            sum += (double)row[i];
            squares += (double)row[i] * (double)row[i];
            winner[t] = row[i] > row[winner[t]] ? i : winner[t];
        }
        double std = sqrt(squares / n_vocab - sum / n_vocab * sum / n_vocab);
        if (std < 0.3 || std > 30)
            fail_msg("%s: the logits of position %d have the deviation %g", what, t, std);
        int seen = 0;
        for (int k = 0; k < t; k++)
            seen |= winner[k] == winner[t];
        distinct += !seen;
    }
    if (distinct < 3)
        fail_msg("%s: only %d different winners", what, distinct);
    free(logits);
    model_close(m);
}

#define SMALL "layers=4,embd=256,ff=512,heads=8,kv-heads=2,vocab=600,context=128"

static void every_quantization_computes_finite_and_varied_logits(void **state)
{
    (void)state;
    static const char *const quants[] = {
        "F32",    "F16",    "BF16",   "Q8_0",    "Q4_0",   "Q4_1",   "Q5_0",    "Q5_1",
        "Q2_K",   "Q3_K",   "Q4_K",   "Q5_K",    "Q6_K",   "Q3_K_M", "Q4_K_S",  "Q4_K_M",
        "Q5_K_M", "IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ2_XS", "IQ2_S",  "IQ3_XXS", "IQ3_S",
        "IQ1_S",  "IQ1_M",  "TQ1_0",  "TQ2_0",   "MXFP4"};
    for (size_t i = 0; i < sizeof quants / sizeof *quants; i++) {
        (void)make(path, i % 2 ? "qwen2" : "llama", quants[i], SMALL);
        check_logits(quants[i]);
    }
}

static void every_architecture_of_the_table_can_be_made_and_is_complete(void **state)
{
    (void)state;
    for (int i = 0; arch_at(i); i++) {
        const struct arch *a = arch_at(i);
        char params[256];
        snprintf(params, sizeof params, SMALL "%s", arch_extras(a));
        (void)make(path, a->name, "Q4_0", params);
        struct gguf *g = open_ok(path);
        struct hparams h;
        struct weights w;
        struct arena mem;
        struct errmsg why = {{0}};
        arena_init(&mem, 0);
        if (hparams_read(&h, a, g, &why) || weights_find(&w, &mem, a, &h, g, &why))
            fail_msg("%s: %s", a->name, why.text);
        arena_fini(&mem);
        gguf_close(g);
        if (!a->encoder &&
            a->ffn != FFN_PLAIN) /* (a plain feed-forward of GELUs has one favourite) */
            check_logits(a->name);
    }
}

static void the_same_seed_gives_the_same_file(void **state)
{
    (void)state;
    (void)make(path, "llama", "Q4_K_M", SMALL);
    (void)make(other_path, "llama", "Q4_K_M", SMALL);
    char command[192];
    snprintf(command, sizeof command, "cmp -s %s %s", path, other_path);
    assert_int_equal(system(command), 0);
    struct synth_params p;
    struct synth_result r;
    struct errmsg why;
    synth_params_init(&p);
    p.seed = 2;
    assert_int_equal(synth_set_list(&p, SMALL, &why), ERR_OK);
    assert_int_equal(synth_params_finish(&p, &why), ERR_OK);
    snprintf(p.quant, sizeof p.quant, "Q4_K_M");
    assert_int_equal(synth_write(other_path, &p, &r, &why), ERR_OK);
    assert_int_not_equal(system(command), 0);
}

static void the_vocabulary_has_the_size_asked_for_and_gives_texts_back(void **state)
{
    (void)state;
    static const char *const sizes[] = {"259", "600", "32000", "151936"};
    static const char text[] =
        "The people of the world, über 你好 \xf0\x9f\x98\x80\n\tx = 42;  end";
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char params[160];
        snprintf(params, sizeof params, "layers=1,embd=32,ff=32,heads=2,context=64,vocab=%s",
                 sizes[i]);
        (void)make(path, "qwen2", "Q8_0", params);
        struct gguf *g = open_ok(path);
        struct tokenizer *t;
        struct errmsg why = {{0}};
        if (tokenizer_open(&t, g, &why))
            fail_msg("%s", why.text);
        gguf_close(g);
        assert_int_equal(tokenizer_n_vocab(t), atoi(sizes[i]));
        struct token_list ids = {0};
        struct buf back;
        buf_init(&back);
        assert_int_equal(tokenizer_encode(t, text, sizeof text - 1, 0, &ids, &why), ERR_OK);
        assert_int_equal(tokenizer_decode(t, ids.ids, ids.n, false, false, &back), ERR_OK);
        assert_string_equal(back.p, text);
        /* Words are tokens where there is room for them. */
        assert_true(i == 0 ? ids.n == sizeof text - 1 : ids.n < sizeof text - 1 - 8);
        int32_t end = tokenizer_find(t, STR("<|im_end|>"));
        assert_true(end >= 0 && tokenizer_is_eog(t, end) && tokenizer_is_control(t, end));
        buf_fini(&back);
        token_list_fini(&ids);
        tokenizer_close(t);
    }
}

static uint32_t count_types(const struct gguf *g, enum qtype type)
{
    uint32_t n = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        n += gguf_tensor_at(g, i)->type == type;
    return n;
}

/* The counts are those of published Q4_K_M files of models with as many layers. */
static void q4_k_m_has_the_mix_of_published_files(void **state)
{
    (void)state;
    (void)make(path, "llama", "Q4_K_M", "8B,embd=256,ff=512,heads=8,kv-heads=2,vocab=600");
    struct gguf *g = open_ok(path);
    assert_int_equal(gguf_n_tensors(g), 292);
    assert_int_equal(count_types(g, QTYPE_F32), 66);
    assert_int_equal(count_types(g, QTYPE_Q4_K), 193);
    assert_int_equal(count_types(g, QTYPE_Q6_K), 33);
    uint32_t file_type = 0;
    assert_true(gguf_get_u32(g, "general.file_type", &file_type) && file_type == 15);
    gguf_close(g);
    /* Rows of 896 are no whole K-blocks: the mix falls back, as published 0.5B files do. */
    (void)make(path, "qwen2", "Q4_K_M", "0.5B,layers=2,vocab=600");
    g = open_ok(path);
    assert_int_equal(gguf_tensor(g, "token_embd.weight")->type, QTYPE_Q8_0);
    assert_int_equal(gguf_tensor(g, "blk.0.attn_q.weight")->type, QTYPE_Q5_0);
    assert_int_equal(gguf_tensor(g, "blk.0.ffn_gate.weight")->type, QTYPE_Q5_0);
    assert_null(gguf_tensor(g, "output.weight")); /* tied */
    gguf_close(g);
}

static void impossible_parameters_are_refused_by_name(void **state)
{
    (void)state;
    // clang-format off
    static const struct { const char *arch, *quant, *params, *says; } cases[] = {
        {"llama", "Q8_0", "layers=2", "--embd is missing"},
        {"llama", "Q8_0", "13B", "'13B' is neither NAME=VALUE nor one of tiny 0.5B"},
        {"llama", "Q8_0", "tiny,colour=3", "no parameter 'colour'; there are vocab layers"},
        {"llama", "Q8_0", "tiny,layers=two", "layers: 'two' is no whole number"},
        {"llama", "Q8_0", "tiny,embd=100,heads=3", "no multiple of --heads"},
        {"llama", "Q8_0", "tiny,kv-heads=3", "head_count 8 is no multiple of head_count_kv 3"},
        {"llama", "Q8_0", "tiny,vocab=100", "a vocabulary of 100 tokens; 259 to"},
        {"llama", "Q8_0", "tiny,layers=100000", "llama.block_count is 100000"},
        {"llama", "Q9_0", "tiny", "no quantization 'Q9_0'; there are F32"},
        {"lama", "Q8_0", "tiny", "no architecture 'lama'; there are llama"},
    };
    // clang-format on
    unlink(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct synth_params p;
        struct synth_result r;
        struct errmsg why = {{0}};
        synth_params_init(&p);
        snprintf(p.arch, sizeof p.arch, "%s", cases[i].arch);
        snprintf(p.quant, sizeof p.quant, "%s", cases[i].quant);
        enum err e = synth_set_list(&p, cases[i].params, &why);
        if (!e)
            e = synth_params_finish(&p, &why);
        if (!e)
            e = synth_write(path, &p, &r, &why);
        if (!e || !strstr(why.text, cases[i].says))
            fail_msg("%s: \"%s\", want \"%s\"", cases[i].params, why.text, cases[i].says);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void encoders_have_a_wordpiece_vocabulary_that_covers_ascii(void **state)
{
    (void)state;
    (void)make(path, "bert", "Q8_0", "layers=1,embd=32,ff=32,heads=2,context=64,vocab=1000");
    struct gguf *g = open_ok(path);
    struct tokenizer *t;
    struct errmsg why = {{0}};
    if (tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    uint32_t pooling = 0;
    assert_true(gguf_get_u32(g, "bert.pooling_type", &pooling));
    assert_int_equal(pooling, 1);
    gguf_close(g);
    assert_string_equal(tokenizer_kind(t), "wordpiece");
    assert_int_equal(tokenizer_n_vocab(t), 1000);
    static const char text[] = "The Water, and xylophones: 42% of ~them! \xc3\xb8";
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(t, text, sizeof text - 1, TOK_ADD_SPECIAL, &ids, &why), 0);
    assert_int_equal(ids.ids[0], tokenizer_find(t, STR("[CLS]")));
    assert_int_equal(ids.ids[1], tokenizer_find(t, STR("\xe2\x96\x81the")));
    assert_int_equal(ids.ids[2], tokenizer_find(t, STR("\xe2\x96\x81water")));
    assert_int_equal(ids.ids[ids.n - 1], tokenizer_find(t, STR("[SEP]")));
    const int32_t unknown = tokenizer_find(t, STR("[UNK]"));
    assert_int_equal(ids.ids[ids.n - 2], unknown); /* the last word, and no other */
    for (size_t i = 0; i + 2 < ids.n; i++)
        assert_int_not_equal(ids.ids[i], unknown);
    token_list_fini(&ids);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_quantization_computes_finite_and_varied_logits),
        cmocka_unit_test(every_architecture_of_the_table_can_be_made_and_is_complete),
        cmocka_unit_test(the_same_seed_gives_the_same_file),
        cmocka_unit_test(encoders_have_a_wordpiece_vocabulary_that_covers_ascii),
        cmocka_unit_test(the_vocabulary_has_the_size_asked_for_and_gives_texts_back),
        cmocka_unit_test(q4_k_m_has_the_mix_of_published_files),
        cmocka_unit_test(impossible_parameters_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("synth", tests, make_dir, drop_dir);
}
