/* test_inspect.c - the report agrees with what loading finds, and says why a file would not run. */
#include "shared/base/json.h"
#include "worker/inspect.h"
#include "worker/model/gguf_write.h"
#include "worker/model/model.h"
#include "worker/synth/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/millrace-inspect-XXXXXX", path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void make(const char *arch, const char *params)
{
    struct synth_params p;
    struct synth_result made;
    struct errmsg why = {{0}};
    synth_params_init(&p);
    snprintf(p.arch, sizeof p.arch, "%s", arch);
    snprintf(p.quant, sizeof p.quant, "Q4_K_M");
    if (synth_set_list(&p, params, &why) || synth_params_finish(&p, &why) ||
        synth_write(path, &p, &made, &why))
        fail_msg("%s", why.text);
}

static struct inspect look(const struct inspect_opts *o)
{
    struct inspect r;
    struct errmsg why = {{0}};
    if (inspect_open(&r, path, o, &why))
        fail_msg("%s", why.text);
    return r;
}

static void the_report_agrees_with_the_loaded_model(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"llama", "tiny"},
        {"qwen2", "tiny"},
        {"qwen3moe", "tiny,experts=8,experts-used=2,expert-ff=256"}};
    static const enum qtype kv_types[] = {QTYPE_F16, QTYPE_F32, QTYPE_BF16, QTYPE_Q8_0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make(cases[i][0], cases[i][1]);
        for (size_t k = 0; k < 4; k++) {
            const struct inspect_opts o = {.context = 100, .slots = 3, .kv_type = kv_types[k]};
            struct inspect r = look(&o);
            assert_true(r.runs);
            struct model *m;
            struct errmsg why = {{0}};
            const struct model_opts mo = {.context = 100,
                                          .max_seqs = 3,
                                          .n_threads = 1,
                                          .max_step_tokens = 8,
                                          .kv_type = kv_types[k]};
            if (model_open(&m, path, &mo, &why))
                fail_msg("%s", why.text);
            const struct model_desc *d = model_desc(m);
            assert_int_equal(r.n_params, d->n_params);
            assert_int_equal(r.weight_bytes, d->weight_bytes);
            assert_int_equal(r.kv_bytes_per_token, d->kv_bytes_per_token);
            assert_int_equal(r.kv_bytes, d->kv_bytes);
            assert_string_equal(r.mix, d->quant);
            assert_int_equal(r.vocab, d->n_vocab);
            assert_true(r.has_template && r.template_works && !r.tools && !r.reasoning);
            if (i == 2) /* six of eight experts rest */
                assert_int_equal(r.n_params - r.n_active, 4ull * 3 * 256 * 256 * 6);
            else
                assert_int_equal(r.n_params, r.n_active);
            model_close(m);
            inspect_close(&r);
        }
    }
}

static void the_json_form_is_json_with_the_same_numbers(void **state)
{
    (void)state;
    make("qwen2", "tiny");
    const struct inspect_opts o = {.slots = 2, .kv_type = QTYPE_F16, .list_tensors = true};
    struct inspect r = look(&o);
    struct buf out;
    struct arena mem;
    struct json *v;
    struct errmsg why = {{0}};
    buf_init(&out);
    arena_init(&mem, 0);
    inspect_json(&r, &o, &out);
    assert_false(out.failed);
    if (json_parse(&v, &mem, out.p, out.n, NULL, &why))
        fail_msg("%s", why.text);
    assert_true(json_get(v, "runs")->b);
    assert_int_equal(json_get(v, "parameters")->i, r.n_params);
    assert_int_equal(json_get(v, "kv_bytes")->i, r.kv_bytes);
    assert_int_equal(json_get(v, "tensors")->list.count, gguf_n_tensors(r.g));
    arena_fini(&mem);
    buf_fini(&out);
    inspect_close(&r);
}

/* A file with an architecture of this name (NULL: without the key) and nothing else. */
static void make_bare(const char *arch)
{
    struct gguf_writer *w;
    struct errmsg why;
    assert_int_equal(gguf_writer_open(&w, path, &why), ERR_OK);
    if (arch)
        gguf_put_str(w, "general.architecture", str_of(arch));
    gguf_put_str(w, "general.name", STR("evil\n\x1b[2Jname"));
    assert_int_equal(gguf_writer_finish(w, &why), ERR_OK);
}

static void a_file_that_would_not_run_is_reported_with_the_reason(void **state)
{
    (void)state;
    // clang-format off
    static const struct { const char *arch, *says; } cases[] = {
        {"mamba", "the architecture 'mamba' is not supported; known: llama qwen2"},
        {NULL, "general.architecture is missing"},
        {"llama", "llama.block_count is missing"},
    };
    // clang-format on
    const struct inspect_opts o = {.slots = 1, .kv_type = QTYPE_F16};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_bare(cases[i].arch);
        struct inspect r = look(&o);
        struct buf out;
        buf_init(&out);
        inspect_text(&r, &o, &out);
        assert_false(r.runs);
        if (!strstr(out.p, cases[i].says) || !strstr(out.p, "would run     no: "))
            fail_msg("%s lacks \"%s\"", out.p, cases[i].says);
        assert_non_null(
            strstr(out.p, "evil??[2Jname")); /* no control characters reach the terminal */
        buf_fini(&out);
        inspect_close(&r);
    }
}

static void too_long_a_context_and_too_large_a_cache_are_refused(void **state)
{
    (void)state;
    make("llama", "tiny");
    struct inspect_opts o = {.context = 4096, .slots = 1, .kv_type = QTYPE_F16};
    struct inspect r = look(&o);
    assert_false(r.runs);
    assert_non_null(strstr(r.refusal.text, "context 4096 is longer than the 2048 tokens"));
    inspect_close(&r);
    o = (struct inspect_opts){.context = UINT32_MAX, .slots = UINT32_MAX, .kv_type = QTYPE_F32};
    r = look(&o);
    assert_false(r.runs);
    assert_non_null(strstr(r.refusal.text, "larger than any memory"));
    inspect_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_report_agrees_with_the_loaded_model),
        cmocka_unit_test(the_json_form_is_json_with_the_same_numbers),
        cmocka_unit_test(a_file_that_would_not_run_is_reported_with_the_reason),
        cmocka_unit_test(too_long_a_context_and_too_large_a_cache_are_refused),
    };
    return cmocka_run_group_tests_name("inspect", tests, make_dir, drop_dir);
}
