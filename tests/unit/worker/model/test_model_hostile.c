/* Files that are good GGUF but no good model: each is refused with one line that names what is
 * wrong. */
#include "tests/unit/worker/synth_model.h"
#include "worker/model/gguf_write.h"
#include "worker/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A llama of one layer: 8 wide, 2 heads, 16 tokens. A case changes one thing. */
enum { EMBD = 8, VOCAB = 16, FF = 12 };

struct spec {
    const char *arch;
    uint32_t embd, heads, heads_kv, layers, ff, context, rot, vocab,
        tokens; /* 0: without the key */
    float eps, base, scale;
    const char *scaling;
    const char *leave_out, *odd_shape, *extra, *odd_type; /* tensor names */
    float freq, norm; /* first value of rope_freqs and of norms */
    const char *key;  /* one more, u32 */
    uint32_t value;
    const int32_t *per_layer; /* attention.head_count as a list of two */
};

static const struct spec good = {.arch = "llama",
                                 .embd = EMBD,
                                 .heads = 2,
                                 .heads_kv = 1,
                                 .layers = 1,
                                 .ff = FF,
                                 .context = 64,
                                 .rot = 4,
                                 .vocab = VOCAB,
                                 .eps = 1e-5F,
                                 .base = 10000,
                                 .freq = 1,
                                 .norm = 1};

struct tensor_spec {
    const char *name;
    uint64_t in, out; /* out 0: a vector */
};
static const struct tensor_spec tensors[] = {
    {"token_embd.weight", EMBD, VOCAB},       {"output_norm.weight", EMBD, 0},
    {"output.weight", EMBD, VOCAB},           {"rope_freqs.weight", 2, 0},
    {"blk.0.attn_norm.weight", EMBD, 0},      {"blk.0.attn_q.weight", EMBD, EMBD},
    {"blk.0.attn_k.weight", EMBD, 4},         {"blk.0.attn_v.weight", EMBD, 4},
    {"blk.0.attn_output.weight", EMBD, EMBD}, {"blk.0.ffn_norm.weight", EMBD, 0},
    {"blk.0.ffn_gate.weight", EMBD, FF},      {"blk.0.ffn_up.weight", EMBD, FF},
    {"blk.0.ffn_down.weight", FF, EMBD},
};

static bool is(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

static void put_u32(struct gguf_writer *w, const char *arch, const char *key, uint32_t v)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", arch, key);
    if (v)
        gguf_put_u32(w, full, v);
}

static void put_f32(struct gguf_writer *w, const char *arch, const char *key, float v)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", arch, key);
    if (v != 0)
        gguf_put_f32(w, full, v);
}

static void write_model(const char *path, const struct spec *s)
{
    struct errmsg why = {0};
    struct gguf_writer *w = NULL;
    assert_int_equal(gguf_writer_open(&w, path, &why), ERR_OK);
    if (s->arch)
        gguf_put_str(w, "general.architecture", str_of(s->arch));
    const char *a = s->arch ? s->arch : "llama";
    put_u32(w, a, "embedding_length", s->embd);
    put_u32(w, a, "block_count", s->layers);
    put_u32(w, a, "attention.head_count", s->heads);
    put_u32(w, a, "attention.head_count_kv", s->heads_kv);
    put_u32(w, a, "feed_forward_length", s->ff);
    put_u32(w, a, "context_length", s->context);
    put_u32(w, a, "rope.dimension_count", s->rot);
    put_u32(w, a, "vocab_size", s->vocab);
    put_f32(w, a, "attention.layer_norm_rms_epsilon", s->eps);
    put_f32(w, a, "rope.freq_base", s->base);
    put_f32(w, a, "rope.scaling.factor", s->scale);
    if (s->scaling)
        gguf_put_str(w, "llama.rope.scaling.type", str_of(s->scaling));
    if (s->key)
        gguf_put_u32(w, s->key, s->value);
    if (s->per_layer)
        gguf_put_i32_array(w, "llama.attention.head_count", s->per_layer, 2);
    if (s->tokens) {
        struct str list[64] = {{0}};
        for (uint32_t i = 0; i < s->tokens; i++)
            list[i] = STR("x");
        gguf_put_str_array(w, "tokenizer.ggml.tokens", list, s->tokens);
    }
    uint64_t values[COUNT(tensors) + 1];
    size_t n = 0;
    for (size_t i = 0; i < COUNT(tensors); i++) {
        const struct tensor_spec *t = &tensors[i];
        if (is(s->leave_out, t->name))
            continue;
        const uint64_t ne[2] = {is(s->odd_shape, t->name) ? t->in + 2 : t->in, t->out};
        const enum qtype type = is(s->odd_type, t->name) ? QTYPE_I32 : QTYPE_F32;
        gguf_add_tensor(w, t->name, type, t->out ? 2 : 1, ne);
        values[n++] = ne[0] * (t->out ? t->out : 1);
    }
    if (s->extra) {
        gguf_add_tensor(w, s->extra, QTYPE_F32, 1, &(uint64_t){4});
        values[n++] = 4;
    }
    size_t at = 0;
    for (size_t i = 0; i < COUNT(tensors) + 1 && at < n; i++) {
        if (i < COUNT(tensors) && is(s->leave_out, tensors[i].name))
            continue;
        float data[512] = {0};
        for (uint64_t k = 0; k < values[at]; k++)
            data[k] = 0.01F * (float)(k % 7);
        if (i < COUNT(tensors) && strstr(tensors[i].name, "norm"))
            data[0] = s->norm;
        if (i < COUNT(tensors) && is("rope_freqs.weight", tensors[i].name)) {
            data[0] = s->freq;
            data[1] = 1;
        }
        assert_int_equal(gguf_write_data(w, data, values[at] * sizeof *data, &why), ERR_OK);
        at++;
    }
    assert_int_equal(gguf_writer_finish(w, &why), ERR_OK);
}

static char dir[] = "/tmp/millrace-hostile-XXXXXX";

/* Opens a model made from `s`; returns the error and fills `why`. */
static enum err open_spec(const struct spec *s, const struct model_opts *o, struct errmsg *why)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    write_model(path, s);
    struct model *m = NULL;
    const enum err e = model_open(&m, path, o, why);
    model_close(m);
    unlink(path);
    return e;
}

static void the_model_that_the_cases_change_is_good(void **state)
{
    UNUSED(state);
    struct errmsg why = {0};
    if (open_spec(&good, &(struct model_opts){.context = 32}, &why) != ERR_OK)
        fail_msg("%s", why.text);
    struct spec tied = good;
    tied.leave_out = "output.weight";
    assert_int_equal(open_spec(&tied, &(struct model_opts){.context = 32}, &why), ERR_OK);
}

static void unsound_files_are_refused_by_name(void **state)
{
    UNUSED(state);
    struct {
        struct spec s;
        const char *says;
    } cases[40];
    size_t n = 0;
#define CASE(field, value, text)                                                                   \
    cases[n].s = good, cases[n].s.field = (value), cases[n++].says = (text)
    CASE(arch, NULL, "general.architecture");
    CASE(arch, "gpt5", "'gpt5' is not supported");
    CASE(embd, 0, "llama.embedding_length is missing");
    CASE(embd, 1u << 30, "llama.embedding_length is");
    CASE(embd, 9, "is no multiple of attention.head_count");
    CASE(embd, 16, "has the shape [8");
    CASE(heads, 0, "attention.head_count is missing");
    CASE(heads, 3, "is no multiple");
    CASE(heads, 1u << 31, "attention.head_count is");
    CASE(heads_kv, 3, "is no multiple of head_count_kv 3");
    CASE(heads_kv, 2,
         "blk.0.attn_k.weight has the shape [8, 4], but the file's metadata asks for [8, 8]");
    CASE(layers, 0, "block_count is missing");
    CASE(layers, 2, "blk.1.attn_norm.weight is missing");
    CASE(layers, 4000000000u, "block_count is");
    CASE(ff, 0, "feed_forward_length is missing");
    CASE(ff, 11, "blk.0.ffn_gate.weight has the shape");
    CASE(context, 0, "context_length is missing");
    CASE(rot, 3, "rope.dimension_count 3");
    CASE(rot, 6, "rope.dimension_count 6");
    CASE(vocab, 0, "how many tokens");
    CASE(vocab, 17,
         "token_embd.weight has the shape [8, 16], but the file's metadata asks for [8, 17]");
    CASE(tokens, 15,
         "token_embd.weight has the shape [8, 16], but the file's metadata asks for [8, 15]");
    CASE(eps, 0, "layer_norm_rms_epsilon is missing");
    CASE(eps, -1, "layer_norm_rms_epsilon is -1");
    CASE(eps, NAN, "layer_norm_rms_epsilon is nan");
    CASE(base, NAN, "rope.freq_base is nan");
    CASE(base, 1, "rope.freq_base is 1");
    CASE(base, INFINITY, "rope.freq_base is inf");
    CASE(scale, -2, "rope.scaling.factor is -2");
    CASE(scaling, "cubic", "'cubic'; none, linear, yarn and longrope are known");
    CASE(leave_out, "blk.0.ffn_up.weight", "blk.0.ffn_up.weight is missing");
    CASE(leave_out, "token_embd.weight", "token_embd.weight is missing");
    CASE(odd_shape, "blk.0.attn_output.weight", "blk.0.attn_output.weight has the shape [10, 8]");
    CASE(odd_type, "blk.0.ffn_up.weight", "blk.0.ffn_up.weight has the type I32");
    CASE(extra, "blk.0.attn_sub_norm.weight",
         "blk.0.attn_sub_norm.weight is no part of a llama model");
    CASE(extra, "blk.1.attn_norm.weight",
         "blk.1.attn_norm.weight is no part of a llama model with 1 layers");
    CASE(freq, NAN, "rope_freqs.weight is not finite at 0");
    CASE(freq, 0, "rope_freqs.weight is not positive at 0");
    CASE(norm, INFINITY, "norm.weight is not finite at 0");
#undef CASE
    for (size_t i = 0; i < n; i++) {
        struct errmsg why = {0};
        const enum err e = open_spec(&cases[i].s, &(struct model_opts){.context = 32}, &why);
        if (e == ERR_OK || !strstr(why.text, cases[i].says))
            fail_msg("case %zu: %s '%s', not '%s'", i, err_name(e), why.text, cases[i].says);
    }
}

/* Of whole files: what the table's other rows ask of theirs. */
static void unsound_numbers_of_other_families_are_refused_by_name(void **state)
{
    UNUSED(state);
    struct spec lists = good, experts = good, few = good, nextn = good;
    const int32_t uneven[2] = {2, 4}, negative[2] = {-2, -2};
    lists.heads = 0;
    lists.layers = 2;
    lists.per_layer = uneven;
    struct spec minus = lists;
    minus.per_layer = negative;
    experts.key = few.key = "llama.expert_count";
    experts.value = 1u << 20;
    few.value = 4; /* and no expert_used_count */
    nextn.key = "llama.nextn_predict_layers";
    nextn.value = 1;
    const struct {
        const struct spec *s;
        const char *says;
    } cases[] = {
        {&lists, "llama.attention.head_count differs between layers"},
        {&minus, "llama.attention.head_count is no count"},
        {&experts, "llama.expert_count is 1.04858e+06"},
        {&few, "llama.expert_used_count 0: not within 1 to the 4 experts"},
        {&nextn, "llama.nextn_predict_layers 1: there are 1 layers"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct errmsg why = {0};
        const enum err e = open_spec(cases[i].s, &(struct model_opts){.context = 32}, &why);
        if (e == ERR_OK || !strstr(why.text, cases[i].says))
            fail_msg("case %zu: %s '%s', not '%s'", i, err_name(e), why.text, cases[i].says);
    }
    static const struct {
        const char *arch, *params, *says;
    } synthetic[] = {
        {"gpt-oss", "window=0", "gpt-oss.attention.sliding_window is missing or 0"},
        {"gemma3", "window=0", "gemma3.attention.sliding_window is missing or 0"},
        {"llama4", "window=0", "llama4.attention.sliding_window is missing or 0"},
        {"granite", "logit-scale=0", "granite.logit_scale is 0, and divides"},
        {"deepseek2", "experts-used=9", "expert_used_count 9: not within 1 to the 4 experts"},
        {"deepseek2", "expert-groups=3,expert-groups-used=1", "can't be chosen from 1 of 3 groups"},
    };
    for (size_t i = 0; i < COUNT(synthetic); i++) {
        struct synth_params p;
        struct synth_result r;
        struct errmsg why = {{0}};
        char params[320], path[128];
        const struct arch *a = arch_find(str_of(synthetic[i].arch));
        snprintf(params, sizeof params, "layers=2,embd=32,ff=32,heads=2,vocab=300,context=64%s,%s",
                 arch_extras(a), synthetic[i].params);
        snprintf(path, sizeof path, "%s/model.gguf", dir);
        synth_params_init(&p);
        snprintf(p.arch, sizeof p.arch, "%s", a->name);
        assert_int_equal(synth_set_list(&p, params, &why), ERR_OK);
        assert_int_equal(synth_params_finish(&p, &why), ERR_OK);
        /* written by the loader's own reading of its numbers */
        const enum err e = synth_write(path, &p, &r, &why);
        if (e == ERR_OK || !strstr(why.text, synthetic[i].says))
            fail_msg("%s: %s '%s', not '%s'", a->name, err_name(e), why.text, synthetic[i].says);
    }
}

/* Puts a NaN into the first block of a tensor, found in the file by its bytes. */
static void damage(const char *path, const char *name)
{
    static char bytes[1 << 21];
    struct gguf *g = NULL;
    struct errmsg why = {0};
    assert_int_equal(gguf_open(&g, path, &why), ERR_OK);
    const struct gguf_tensor *t = gguf_tensor(g, name);
    assert_non_null(t);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    const char *at = memmem(bytes, n, t->data, 64);
    assert_non_null(at);
    const uint32_t nan32 = 0x7fc00000;
    const uint16_t nan16 = 0x7e00;
    assert_int_equal(fseek(f, at - bytes, SEEK_SET), 0);
    if (t->type == QTYPE_F32)
        assert_int_equal(fwrite(&nan32, sizeof nan32, 1, f), 1);
    else /* a type whose blocks begin with their scale */
        assert_int_equal(fwrite(&nan16, sizeof nan16, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    gguf_close(g);
}

/* A matrix is not looked through when it is loaded (that would read all of a file of 400 GB): but
 * no kernel may lose a NaN on its way to the logits, where every answer is checked. */
static void a_nan_in_a_matrix_reaches_every_logit(void **state)
{
    UNUSED(state);
    static const char *const quants[] = {"F32", "F16", "Q8_0", "Q4_0", "IQ4_NL", "Q5_0"};
    static const char *const names[] = {"blk.0.attn_v.weight", "blk.1.ffn_up.weight",
                                        "blk.1.ffn_down.weight"};
    char path[128];
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    for (size_t i = 0; i < COUNT(quants); i++)
        for (size_t k = 0; k < COUNT(names); k++) {
            struct model *m = NULL;
            struct errmsg why = {0};
            (void)synth_model(path, "qwen2", quants[i],
                              "layers=2,embd=64,ff=64,heads=2,vocab=300,context=64", 1);
            damage(path, names[k]);
            assert_int_equal(model_open(&m, path, &(struct model_opts){.kv_type = QTYPE_F16}, &why),
                             ERR_OK);
            float logits[300] = {0};
            const int32_t tokens[3] = {5, 6, 7};
            const uint32_t blocks[2] = {0, 1};
            assert_int_equal(model_step(m,
                                        &(struct step_seq){.tokens = tokens,
                                                           .n_tok = 3,
                                                           .blocks = blocks,
                                                           .n_blocks = 2,
                                                           .n_logits = 1,
                                                           .logits = logits},
                                        1, NULL, &why),
                             ERR_OK);
            for (size_t v = 0; v < COUNT(logits); v++)
                if (!isnan(logits[v]))
                    fail_msg("%s, %s: logit %zu is %g", quants[i], names[k], v, (double)logits[v]);
            model_close(m);
        }
    unlink(path);
}

static void options_that_cannot_be_met_are_refused(void **state)
{
    UNUSED(state);
    const struct {
        struct model_opts o;
        const char *says;
    } cases[] = {
        {{.device = "cuda:7"}, "device 'cuda:7'"},
        {{.context = 65}, "context 65 is longer than the 64 tokens"},
        {{.kv_type = QTYPE_Q4_0}, "KV cache type"},
        {{.n_threads = 100000}, "100000"},
        {{.max_seqs = 1u << 30}, "sequences"},
        {{.max_step_tokens = 1u << 30, .max_seqs = 4000}, "tokens per step"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct errmsg why = {0};
        const enum err e = open_spec(&good, &cases[i].o, &why);
        if (e == ERR_OK || !strstr(why.text, cases[i].says))
            fail_msg("case %zu: %s '%s', not '%s'", i, err_name(e), why.text, cases[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_that_the_cases_change_is_good),
        cmocka_unit_test(unsound_files_are_refused_by_name),
        cmocka_unit_test(unsound_numbers_of_other_families_are_refused_by_name),
        cmocka_unit_test(a_nan_in_a_matrix_reaches_every_logit),
        cmocka_unit_test(options_that_cannot_be_met_are_refused),
    };
    if (!mkdtemp(dir))
        return 1;
    const int failed = RUN_TESTS(tests);
    rmdir(dir);
    return failed;
}
