/* test_frozen.c - the families that the reference set lacks give the logits that llama.cpp gave.
 *
 * tests/data/synthetic/logits.json holds rows of what llama.cpp computed from synthetic files
 * (tests/compare/llama-cpp.js --freeze); the same files are made here again, from the same seed.
 * Whoever changes what `synthesize` writes has to freeze again, with a llama.cpp library at hand.
 */
#include "tests/unit/worker/arch_case.h"
#include "tests/unit/worker/synth_model.h"

#include <unistd.h>

#define TOLERANCE 1e-4 /* of the deviation of the logits; measured: at most 3e-5 */

static struct arena mem;
static char path[] = "/tmp/millrace-frozen-XXXXXX";

static float *all_logits(const struct json *c, uint32_t *n_vocab)
{
    struct model *m = NULL;
    struct errmsg why = {0};
    uint32_t n, blocks[16];
    int32_t *tokens = case_ids(&mem, json_get(c, "tokens"), &n);
    for (uint32_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = i;
    if (model_open(
            &m, path,
            &(struct model_opts){
                .context = 256, .max_step_tokens = 256, .n_threads = 2, .kv_type = QTYPE_F32},
            &why))
        fail_msg("%s", why.text);
    *n_vocab = model_desc(m)->n_vocab;
    float *out = arena_array(&mem, (size_t)n * *n_vocab, sizeof *out);
    assert_non_null(out);
    if (model_step(m,
                   &(struct step_seq){.tokens = tokens,
                                      .n_tok = n,
                                      .blocks = blocks,
                                      .n_blocks = COUNT(blocks),
                                      .n_logits = n,
                                      .logits = out},
                   1, NULL, &why))
        fail_msg("%s", why.text);
    model_close(m);
    return out;
}

static void gives_what_llama_cpp_gave(void **state)
{
    const struct json *c = *state;
    char arch[32], quant[16], params[320];
    uint32_t n_vocab;
    double most = 0;
    case_text(arch, sizeof arch, json_get(c, "arch"));
    case_text(quant, sizeof quant, json_get(c, "quant"));
    case_text(params, sizeof params, json_get(c, "params"));
    (void)synth_model(path, arch, quant, params, 1);
    const float *got = all_logits(c, &n_vocab);
    for (const struct json *r = json_get(c, "rows")->list.first; r; r = r->next) {
        const float *row = got + (size_t)json_get(r, "at")->i * n_vocab;
        for (const struct json *v = json_get(r, "logits")->list.first; v; v = v->next) {
            const double d = fabs((double)*row++ - json_f64(v));
            most = d <= most ? most : d;
        }
    }
    most /= json_f64(json_get(c, "deviation"));
    printf("%-22s max diff/std %.1e\n", arch, most);
    assert_true(most <= TOLERANCE);
}

int main(void)
{
    static struct CMUnitTest tests[32];
    static char names[32][40];
    int n = 0;
    arena_init(&mem, 0);
    const int fd = mkstemp(path);
    if (fd < 0 || close(fd))
        return 1;
    const struct json *list = case_json(&mem, "tests/data/synthetic", "logits.json");
    for (const struct json *c = list->list.first; c && n < 32; c = c->next, n++) {
        case_text(names[n], sizeof names[n], json_get(c, "name"));
        tests[n] = (struct CMUnitTest){.name = names[n],
                                       .test_func = gives_what_llama_cpp_gave,
                                       .initial_state = (void *)(uintptr_t)c};
    }
    const int failed = _cmocka_run_group_tests("frozen", tests, (size_t)n, NULL, NULL);
    unlink(path);
    arena_fini(&mem);
    return failed;
}
