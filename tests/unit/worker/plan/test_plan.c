/* test_plan.c - shapes have the published sizes, the arithmetic adds up, and the rule of thumb is
 * the one that was handed down. */
#include "tests/support/test.h"
#include "tests/unit/worker/synth_model.h"
#include "worker/plan/estimate.h"
#include "worker/plan/gpus.h"
#include "worker/plan/report.h"
#include "worker/plan/shapes.h"
#include "worker/plan/thumb.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct subject shape(const char *text, const char *quant)
{
    struct subject s;
    struct errmsg why = {{0}};
    if (subject_open_shape(&s, text, quant, &why))
        fail_msg("%s: %s", text, why.text);
    return s;
}

static struct machine gpus(const char *name, uint32_t count)
{
    const struct gpu_model *g;
    struct errmsg why = {{0}};
    if (gpu_find(&g, name, &why))
        fail_msg("%s", why.text);
    return (struct machine){
        .gpus = true, .n_gpus = count, .gpu_bytes = (uint64_t)g->mib << 20, .gpu_gb_s = g->gb_s};
}

static struct machine processor(uint64_t free_bytes)
{
    return (struct machine){
        .cores = 4, .ram_bytes = free_bytes, .ram_free_bytes = free_bytes, .ram_gb_s = 50};
}

static struct plan made(const struct subject *s, const struct machine *m, struct load load)
{
    struct plan p;
    struct errmsg why = {{0}};
    if (!load.kv_type)
        load.kv_type = QTYPE_F16;
    if (plan_make(&p, s, m, &load, &why))
        fail_msg("%s", why.text);
    return p;
}

/* --- shapes ---------------------------------------------------------------------------------- */

static void every_shape_has_the_published_number_of_parameters(void **state)
{
    UNUSED(state);
    for (int i = 0; shape_at(i); i++) {
        struct subject s = shape(shape_at(i)->name, NULL);
        const double off = (double)s.n_params / shape_at(i)->params - 1;
        if (fabs(off) > 0.015)
            fail_msg("%s: %.4g billion, published %.4g (%.1f %%)", shape_at(i)->name,
                     (double)s.n_params / 1e9, shape_at(i)->params / 1e9, 100 * off);
        subject_fini(&s);
    }
}

static void a_shape_needs_what_a_file_of_that_shape_needs(void **state)
{
    UNUSED(state);
    char path[] = "/tmp/millrace-plan-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    static const struct shape small = {.name = "small",
                                       .arch = "qwen2",
                                       .layers = 3,
                                       .embd = 256,
                                       .ff = 512,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .head_dim = 64,
                                       .vocab = 1000,
                                       .context = 512};
    struct synth_params p;
    struct synth_result r;
    struct errmsg why = {{0}};
    shape_params(&p, &small, false);
    snprintf(p.quant, sizeof p.quant, "Q4_K_M");
    assert_int_equal(synth_params_finish(&p, &why), ERR_OK);
    unlink(path);
    assert_int_equal(synth_write(path, &p, &r, &why), ERR_OK);
    struct subject file;
    assert_int_equal(subject_open_file(&file, path, &why), ERR_OK);
    unlink(path);
    assert_int_equal(file.n_params, r.n_params);
    assert_string_equal(file.quant, "Q4_K_M");
    assert_true(file.weight_bytes < r.file_bytes && file.weight_bytes > r.file_bytes / 2);
    uint64_t parts = file.first_bytes + file.last_bytes - file.tied_bytes;
    for (uint32_t il = 0; il < file.h.n_layer; il++)
        parts += file.layer_bytes[il];
    assert_int_equal(parts, file.weight_bytes);
    subject_fini(&file);
}

static void a_distilled_model_is_called_one(void **state)
{
    UNUSED(state);
    static const struct {
        const char *name, *pupil;
    } distills[] = {
        {"deepseek-r1:1.5b", "Qwen2.5-Math-1.5B"},    {"deepseek-r1:7b", "Qwen2.5-Math-7B"},
        {"deepseek-r1:8b", "Llama-3.1-8B"},           {"deepseek-r1:8b-0528", "Qwen3-8B"},
        {"deepseek-r1:14b", "Qwen2.5-14B"},           {"deepseek-r1:32b", "Qwen2.5-32B"},
        {"DeepSeek-R1:70B", "Llama-3.3-70B-Instruct"}};
    for (size_t i = 0; i < COUNT(distills); i++) {
        struct subject s = shape(distills[i].name, NULL);
        assert_true(s.distilled);
        assert_non_null(strstr(s.what, distills[i].pupil));
        assert_non_null(strstr(s.what, "not R1"));
        subject_fini(&s);
    }
    struct subject r1 = shape("deepseek-r1:671b", NULL);
    assert_false(r1.distilled);
    assert_string_equal(r1.arch->name, "deepseek2");
    subject_fini(&r1);
}

static void a_size_takes_the_nearest_usual_shape_and_says_so(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *family;
    } sizes[] = {{"70B", "Llama 3.1 70B"}, {"7b", "Qwen2.5 7B"},   {"8B", "Llama 3.1 8B"},
                 {"34B", "CodeLlama 34B"}, {"600M", "Qwen3 0.6B"}, {"671B", "DeepSeek-R1 671B"}};
    struct shape_choice c;
    struct errmsg why;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        assert_int_equal(shape_choose(&c, sizes[i].text, &why), ERR_OK);
        assert_string_equal(c.shape->family, sizes[i].family);
        assert_non_null(strstr(c.what, "without a name"));
    }
    assert_int_equal(shape_choose(&c, "60B", &why), ERR_OK);
    assert_non_null(strstr(c.what, "larger than asked for"));
}

static void a_name_may_carry_its_quantization(void **state)
{
    UNUSED(state);
    struct subject s = shape("llama3.1:8b-instruct-q8_0", NULL);
    assert_string_equal(s.quant, "Q8_0");
    assert_false(s.quant_assumed);
    subject_fini(&s);
    s = shape("qwen2.5:7b-instruct-fp16", NULL);
    assert_string_equal(s.quant, "F16");
    subject_fini(&s);
    s = shape("qwen2.5:7b", NULL);
    assert_string_equal(s.quant, "Q4_K_M");
    assert_true(s.quant_assumed);
    subject_fini(&s);
}

static void what_is_no_model_is_refused_in_one_line(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *quant, *says;
    } cases[] = {{"0B", NULL, "about that size"},
                 {"1e9B", NULL, "about that size"},
                 {"nanB", NULL, "is no file"},
                 {"-7B", NULL, "is no file"},
                 {"", NULL, "is no file"},
                 {"70", NULL, "is no file"},
                 {"7BB", NULL, "is no file"},
                 {"deepseek-r1:9b", NULL, "deepseek-r1:8b"},
                 {"lama3.1:8b", NULL, "llama3.1:8b"},
                 {"7B", "Q4_KM", "no quantization 'Q4_KM'"},
                 {"7B", "", "no quantization"},
                 {"7B", "Q4_K_M_but_much_longer_than_a_name", "no quantization"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct subject s;
        struct errmsg why = {{0}};
        assert_int_not_equal(subject_open_shape(&s, cases[i].text, cases[i].quant, &why), ERR_OK);
        if (!strstr(why.text, cases[i].says) || strchr(why.text, '\n'))
            fail_msg("'%s': %s", cases[i].text, why.text);
    }
}

/* --- GPUs ------------------------------------------------------------------------------------ */

static void gpus_are_found_by_name_and_by_the_drivers_words(void **state)
{
    UNUSED(state);
    const struct gpu_model *g;
    struct errmsg why;
    static const char *const names[][2] = {{"h100-80gb", "H100-80GB"},
                                           {"H100", "H100-80GB"},
                                           {"L4", "L4-24GB"},
                                           {"rtx 4090", "RTX4090-24GB"},
                                           {"A100 40GB", "A100-40GB"}};
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_int_equal(gpu_find(&g, names[i][0], &why), ERR_OK);
        assert_string_equal(g->name, names[i][1]);
    }
    assert_int_equal(gpu_find(&g, "A100", &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "A100-80GB A100-40GB"));
    assert_int_equal(gpu_find(&g, "H110-80GB", &why), ERR_NOT_FOUND);
    assert_non_null(strstr(why.text, "H100-80GB"));
    assert_int_equal(gpu_find(&g, "", &why), ERR_NOT_FOUND);
    static const struct {
        const char *words;
        uint64_t mib;
        const char *name;
    } driver[] = {{"NVIDIA H100 80GB HBM3", 81559, "H100-80GB"},
                  {"NVIDIA H100 PCIe", 81559, "H100-PCIe-80GB"},
                  {"NVIDIA A100-SXM4-40GB", 40960, "A100-40GB"},
                  {"NVIDIA A100-SXM4-80GB", 81920, "A100-80GB"},
                  {"NVIDIA L40S", 46068, "L40S-48GB"},
                  {"NVIDIA GeForce RTX 4090", 24564, "RTX4090-24GB"},
                  {"Tesla T4", 15360, "T4-16GB"}};
    for (size_t i = 0; i < COUNT(driver); i++) {
        g = gpu_recognise(driver[i].words, driver[i].mib);
        assert_non_null(g);
        assert_string_equal(g->name, driver[i].name);
    }
    assert_null(gpu_recognise("NVIDIA A100 something", 20000)); /* a slice of one */
    assert_null(gpu_recognise("Radeon", 24576));
}

static void lines_of_nvidia_smi_are_read_or_left(void **state)
{
    UNUSED(state);
    char name[64];
    uint64_t mib;
    assert_true(machine_read_smi_line("NVIDIA H100 80GB HBM3, 81559", name, &mib));
    assert_string_equal(name, "NVIDIA H100 80GB HBM3");
    assert_int_equal(mib, 81559);
    assert_true(machine_read_smi_line("a, b\x1b[31m, 12 MiB", name, &mib));
    assert_string_equal(name, "a, b?[31m");
    static const char *const bad[] = {
        "", ",", ", 5", "No devices were found", "x, [N/A]", "x, 0", "x, 99999999999999999999"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(machine_read_smi_line(bad[i], name, &mib));
}

static void the_number_of_gpus_is_the_least_that_holds_every_layer(void **state)
{
    UNUSED(state);
    struct subject s = shape("70B", "F16");
    struct load l = {.context = 4096, .slots = 1, .kv_type = QTYPE_F16};
    struct gpu_memory g;
    struct errmsg why;
    uint32_t last = 0;
    for (uint64_t gib = 512; gib >= 4; gib /= 2) { /* smaller ones, more of them */
        assert_int_equal(memory_of_gpus(&g, &s, &l, gib << 30, &why), ERR_OK);
        if (!g.gpus)
            break;
        assert_true(g.gpus >= last);
        assert_true(g.fullest <= (gib << 30) - (gib << 30) / GPU_RESERVE);
        assert_true(g.total >= s.weight_bytes);
        /* What two neighbours hold would not go into one. */
        const uint64_t usable = (gib << 30) - (gib << 30) / GPU_RESERVE,
                       room = usable - CUDA_BYTES - g.step;
        assert_true(g.gpus == 1 || 2 * (s.weight_bytes + g.need.bytes) > (g.gpus - 1) * room);
        last = g.gpus;
    }
    assert_true(last >= 16);
    assert_int_equal(memory_of_gpus(&g, &s, &l, 1 << 30, &why), ERR_OK);
    assert_int_equal(g.gpus, 0); /* not one layer fits: no number of them will do */
    subject_fini(&s);
}

/* --- memory, room, speed --------------------------------------------------------------------- */

static void the_parts_of_the_memory_add_up_and_grow_with_what_is_asked(void **state)
{
    UNUSED(state);
    struct subject s = shape("8B", "Q4_K_M");
    struct load l = {.context = 8192, .slots = 2, .kv_type = QTYPE_F16, .threads = 8};
    struct memory m, more;
    struct errmsg why;
    assert_int_equal(memory_of_worker(&m, &s, &l, &why), ERR_OK);
    assert_int_equal(m.total,
                     m.weights + m.copies + m.kv + m.step + m.sampling + m.tokenizer + m.process);
    /* 32 layers, 8 KV heads of 128, two bytes, K and V: 128 KiB a token */
    assert_int_equal(m.need.token_bytes, 131072);
    assert_int_equal(m.need.bytes, 131072ull * 8192 * 2);
    l.slots = 4;
    assert_int_equal(memory_of_worker(&more, &s, &l, &why), ERR_OK);
    assert_int_equal(more.need.bytes, 2 * m.need.bytes);
    l.kv_type = QTYPE_Q8_0;
    assert_int_equal(memory_of_worker(&m, &s, &l, &why), ERR_OK);
    assert_true(m.need.bytes < more.need.bytes * 6 / 10);
    subject_fini(&s);
}

static void the_room_that_is_promised_fits_and_one_request_more_does_not(void **state)
{
    UNUSED(state);
    struct subject s = shape("qwen2.5:7b", "Q4_K_M");
    const struct machine cpu = processor(16ull << 30), one = gpus("RTX4090", 1);
    const struct machine *machines[] = {&cpu, &one};
    for (size_t i = 0; i < COUNT(machines); i++) {
        const struct plan p = made(&s, machines[i], (struct load){.context = 8192});
        assert_true(p.fits);
        bool seen = false;
        for (int k = 0; k < p.n_rows; k++) {
            const struct room *r = &p.rows[k];
            if (k)
                assert_true(r->context > p.rows[k - 1].context && r->slots <= p.rows[k - 1].slots);
            if (r->context != 8192)
                continue;
            seen = true;
            assert_true(r->slots > 1);
            assert_true(
                made(&s, machines[i], (struct load){.context = 8192, .slots = r->slots}).fits);
            assert_false(
                made(&s, machines[i], (struct load){.context = 8192, .slots = r->slots + 1}).fits);
        }
        assert_true(seen);
        assert_int_equal(p.rows[p.n_rows - 1].context, s.h.n_ctx_train);
    }
    subject_fini(&s);
}

static void what_does_not_fit_is_said_to_need_more(void **state)
{
    UNUSED(state);
    struct subject s = shape("deepseek-r1:671b", "Q8_0");
    struct machine m = gpus("H100-80GB", 8);
    struct plan p = made(&s, &m, (struct load){0});
    assert_false(p.fits);
    assert_true(p.gpu.gpus > 8 && p.gpu.gpus < 16);
    for (int i = 0; i < p.n_rows; i++)
        assert_int_equal(p.rows[i].slots, 0);
    m.n_gpus = p.gpu.gpus;
    assert_true(made(&s, &m, (struct load){0}).fits);
    m = processor(1ull << 30);
    assert_false(made(&s, &m, (struct load){0}).fits);
    subject_fini(&s);
}

static void a_context_beyond_the_models_is_refused(void **state)
{
    UNUSED(state);
    struct subject s = shape("llama2:7b", NULL);
    const struct machine m = gpus("H100", 1);
    struct plan p;
    struct errmsg why;
    const struct load l = {.context = 4097, .kv_type = QTYPE_F16};
    assert_int_equal(plan_make(&p, &s, &m, &l, &why), ERR_RANGE);
    assert_non_null(strstr(why.text, "4096"));
    assert_int_equal(made(&s, &m, (struct load){0}).load.context, 4096); /* its own, below 8192 */
    subject_fini(&s);
}

static void speed_counts_active_weights_and_half_a_context(void **state)
{
    UNUSED(state);
    struct subject s = shape("mixtral:8x7b", "F16");
    const struct machine m = gpus("H100", 2);
    const struct plan p = made(&s, &m, (struct load){.context = 4096, .slots = 8});
    const uint64_t kv = p.gpu.need.token_bytes * 2048;
    /* 12.9 of 46.7 billion parameters for a token; all experts are in memory */
    assert_true(s.n_active > 12.5e9 && s.n_active < 13.2e9);
    assert_int_equal(p.one.bytes, s.read_bytes + s.expert_bytes / 4 + kv);
    assert_true(fabs(p.one.tokens_s - GPU_SHARE * 3350e9 / (double)p.one.bytes) <
                1e-6 * p.one.tokens_s);
    /* eight tokens choose 1 - (3/4)^8 of the experts between them */
    const double all =
        (double)s.read_bytes + (double)s.expert_bytes * (1 - pow(0.75, 8)) + 8.0 * (double)kv;
    assert_true(fabs((double)p.many.bytes / all - 1) < 1e-6);
    subject_fini(&s);
}

static void without_a_bandwidth_there_is_no_estimate(void **state)
{
    UNUSED(state);
    struct subject s = shape("7B", NULL);
    struct machine m = gpus("H100", 1);
    m.gpu_gb_s = 0;
    const struct plan p = made(&s, &m, (struct load){0});
    struct buf out;
    buf_init(&out);
    plan_text(&p, &out);
    buf_putc(&out, '\0');
    assert_non_null(strstr(out.p, "no estimate"));
    assert_null(strstr(out.p, "tokens/s"));
    buf_fini(&out);
    assert_true(p.one.tokens_s == 0);
    subject_fini(&s);
}

/* --- the rule of thumb ----------------------------------------------------------------------- */

static void the_rule_of_thumb_is_the_one_handed_down(void **state)
{
    UNUSED(state);
    static const char *const rule[][3] = {{"1.5B", "8-12 GB", "1"},
                                          {"7B", "24-32 GB", "1 (A100-40GB)"},
                                          {"8B", "32-40 GB", "1 (A100-80GB)"},
                                          {"14B", "56-72 GB", "2 (A100-40GB)"},
                                          {"32B", "128-160 GB", "4 (A100-40GB)"},
                                          {"70B", "280-350 GB", "8 (A100-80GB)"},
                                          {"671B", "1.3-1.6 TB", "32 (H100-80GB)"}};
    for (size_t i = 0; i < COUNT(rule); i++) {
        const struct thumb *t = thumb_at((int)i);
        assert_non_null(t);
        assert_string_equal(t->size, rule[i][0]);
        assert_string_equal(t->memory, rule[i][1]);
        assert_string_equal(t->gpus, rule[i][2]);
    }
    assert_null(thumb_at((int)COUNT(rule)));
}

static void inference_computed_needs_less_than_the_rule(void **state)
{
    UNUSED(state);
    const struct load l = {.kv_type = QTYPE_F16};
    for (int i = 0; thumb_at(i); i++) {
        const struct thumb *t = thumb_at(i);
        struct gpu_memory g, less;
        struct errmsg why = {{0}};
        char family[64];
        const double unit = strstr(t->memory, "TB") ? 1e12 : 1e9,
                     most = atof(strchr(t->memory, '-') + 1);
        assert_int_equal(thumb_need(&g, family, t, "F16", &l, &why), ERR_OK);
        assert_true(g.gpus >= 1 && (int)g.gpus <= atoi(t->gpus));
        assert_true((double)g.total < most * unit);
        assert_int_equal(thumb_need(&less, family, t, "Q4_K_M", &l, &why), ERR_OK);
        assert_true(less.total < g.total / 2 + CUDA_BYTES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_has_the_published_number_of_parameters),
        cmocka_unit_test(a_shape_needs_what_a_file_of_that_shape_needs),
        cmocka_unit_test(a_distilled_model_is_called_one),
        cmocka_unit_test(a_size_takes_the_nearest_usual_shape_and_says_so),
        cmocka_unit_test(a_name_may_carry_its_quantization),
        cmocka_unit_test(what_is_no_model_is_refused_in_one_line),
        cmocka_unit_test(gpus_are_found_by_name_and_by_the_drivers_words),
        cmocka_unit_test(lines_of_nvidia_smi_are_read_or_left),
        cmocka_unit_test(the_number_of_gpus_is_the_least_that_holds_every_layer),
        cmocka_unit_test(the_parts_of_the_memory_add_up_and_grow_with_what_is_asked),
        cmocka_unit_test(the_room_that_is_promised_fits_and_one_request_more_does_not),
        cmocka_unit_test(what_does_not_fit_is_said_to_need_more),
        cmocka_unit_test(a_context_beyond_the_models_is_refused),
        cmocka_unit_test(speed_counts_active_weights_and_half_a_context),
        cmocka_unit_test(without_a_bandwidth_there_is_no_estimate),
        cmocka_unit_test(the_rule_of_thumb_is_the_one_handed_down),
        cmocka_unit_test(inference_computed_needs_less_than_the_rule),
    };
    return RUN_TESTS(tests);
}
