/* What worker/cpu/ops.h promises: close to the papers' loops, the same bits on every instruction
 * set. And attention through the cache, for every KV type, against the plain loops. */
#include "tests/support/test.h"
#include "worker/cpu/isa.h"
#include "worker/cpu/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_MAX = 700 };

static uint64_t seed = 88172645463325252u;

static float random_float(void) /* -1 .. 1 */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

static void fill(float *x, int n, float scale)
{
    for (int i = 0; i < n; i++)
        x[i] = random_float() * scale;
}

static void assert_close(const float *got, const float *want, int n, double tolerance)
{
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * (1 + fabs((double)want[i]))))
            fail_msg("element %d is %.9g, not %.9g", i, (double)got[i], (double)want[i]);
}

static const int sizes[] = {1, 15, 16, 17, 24, 96, 257, N_MAX};

static void norms_match_the_papers(void **state)
{
    UNUSED(state);
    float x[N_MAX], w[N_MAX], b[N_MAX], got[N_MAX], want[N_MAX], c[N_MAX];
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++)
            for (int bias = 0; bias < 2; bias++) {
                const int n = sizes[s];
                fill(x, n, 3);
                fill(w, n, 1);
                fill(b, n, 1);
                const struct norm norm = {(enum norm_kind)kind, 1e-5F, w, bias ? b : NULL};
                if (kind == NORM_LAYER) {
                    layer_norm_ref(want, x, w, norm.b, n, norm.eps);
                } else {
                    rms_norm_ref(want, x, w, n, norm.eps);
                    for (int i = 0; bias && i < n; i++)
                        want[i] += b[i];
                }
                cpu_ops_c.norm(c, x, &norm, n);
                assert_close(c, want, n,
                             n == 1 ? 1e-3
                                    : 2e-6); /* one value less its mean is all cancellation */
                for (int isa = CPU_ISA_AVX2; isa <= (int)cpu_isa_hardware(); isa++) {
                    cpu_ops_for((enum cpu_isa)isa)->norm(got, x, &norm, n);
                    assert_memory_equal(got, c, (size_t)n * sizeof *c);
                }
            }
}

static void activations_match_the_papers_over_all_magnitudes(void **state)
{
    UNUSED(state);
    float x[N_MAX], up[N_MAX], got[N_MAX], want[N_MAX], c[N_MAX];
    const float scales[] = {1e-6F, 1, 20, 200};
    for (size_t s = 0; s < COUNT(scales); s++)
        for (int kind = ACT_SILU; kind <= ACT_RELU2; kind++) {
            fill(x, N_MAX, scales[s]);
            fill(up, N_MAX, 1);
            for (int i = 0; i < N_MAX; i++)
                want[i] = activate_ref(x[i], (enum act_kind)kind) * up[i];
            cpu_ops_c.activate(c, x, up, NULL, NULL, (enum act_kind)kind, N_MAX);
            assert_close(c, want, N_MAX, 3e-6);
            for (int isa = CPU_ISA_AVX2; isa <= (int)cpu_isa_hardware(); isa++) {
                cpu_ops_for((enum cpu_isa)isa)
                    ->activate(got, x, up, NULL, NULL, (enum act_kind)kind, N_MAX);
                assert_memory_equal(got, c, sizeof c);
            }
        }
}

static void not_a_number_stays_visible(void **state)
{
    UNUSED(state);
    float x[16], y[16];
    for (int isa = CPU_ISA_C; isa <= (int)cpu_isa_hardware(); isa++) {
        const struct cpu_ops *o = cpu_ops_for((enum cpu_isa)isa);
        fill(x, 16, 1);
        x[5] = NAN;
        o->exp(y, x, 16);
        assert_true(isnan(y[5]) && !isnan(y[4]));
        o->activate(y, x, x, NULL, NULL, ACT_SILU, 16);
        assert_true(isnan(y[5]));
        memcpy(y, x, sizeof y);
        o->softcap(y, 30, 16);
        assert_true(isnan(y[5]));
        const float one[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        o->norm(y, x, &(struct norm){NORM_RMS, 1e-5F, one, NULL}, 16);
        assert_true(isnan(y[0]) && isnan(y[15]));
    }
}

static void exp_is_exact_to_float_rounding_and_zero_when_tiny(void **state)
{
    UNUSED(state);
    float x[N_MAX], y[N_MAX];
    fill(x, N_MAX, 87);
    x[0] = 0;
    x[1] = -INFINITY;
    x[2] = -88;
    x[3] = 88;
    for (int isa = CPU_ISA_C; isa <= (int)cpu_isa_hardware(); isa++) {
        cpu_ops_for((enum cpu_isa)isa)->exp(y, x, N_MAX);
        assert_true(y[0] == 1 && y[1] == 0 && y[2] == 0);
        for (int i = 3; i < N_MAX; i++)
            assert_true(fabs(y[i] - exp((double)x[i])) <= 3e-7 * exp((double)x[i]));
    }
}

static void rotation_turns_both_kinds_of_pairs(void **state)
{
    UNUSED(state);
    const int rotated[] = {2, 8, 24, 64, 128};
    for (size_t s = 0; s < COUNT(rotated); s++)
        for (int kind = ROPE_NORM; kind <= ROPE_NEOX; kind++) {
            const int n = rotated[s], half = n / 2, pos = 12345;
            float x[128], want[128], got[128], cs[64], sn[64];
            double freq[64];
            fill(x, n, 1);
            for (int i = 0; i < half; i++) {
                freq[i] = pow(10000, -2.0 * i / n);
                cs[i] = (float)(cos(pos * freq[i]) * 1.25);
                sn[i] = (float)(sin(pos * freq[i]) * 1.25);
            }
            memcpy(want, x, sizeof x);
            rotate_ref(want, freq, pos, 1.25F, n, (enum rope_kind)kind);
            for (int isa = CPU_ISA_C; isa <= (int)cpu_isa_hardware(); isa++) {
                memcpy(got, x, sizeof x);
                cpu_ops_for((enum cpu_isa)isa)->rotate(got, cs, sn, n, (enum rope_kind)kind);
                assert_close(got, want, n, 1e-6);
            }
        }
}

/* --- attention: a small backend with random keys and values, then queries at chosen positions  */

struct attention_case {
    int n_head, n_head_kv, head_k, head_v, window;
    float softcap;
    bool causal, sinks;
    enum { NEITHER, CHUNKED, V_IN_K } also;
    enum qtype kv;
    double tolerance;
};

// clang-format off
static const struct attention_case attentions[] = {
    /* heads kv  k    v    window softcap causal sinks also   type        tolerance */
    { 4,  4,  64,  64,  0,     0,  true,  false, NEITHER, QTYPE_F32,  2e-6 },
    { 8,  2,  64,  64,  0,     0,  true,  false, NEITHER, QTYPE_F16,  4e-3 },
    { 6,  3,  24,  24,  0,     0,  true,  false, NEITHER, QTYPE_F32,  2e-6 },
    { 5,  1,  80,  80,  0,     0,  true,  false, NEITHER, QTYPE_BF16, 4e-2 },
    { 4,  2,  128, 128, 0,     0,  true,  false, NEITHER, QTYPE_Q8_0, 6e-2 },
    { 4,  1,  40,  24,  9,     0,  true,  false, NEITHER, QTYPE_F32,  2e-6 },
    { 4,  2,  64,  64,  33,    0,  true,  false, CHUNKED, QTYPE_F32,  3e-6 },
    { 4,  1,  40,  24,  7,     0,  true,  false, CHUNKED, QTYPE_F16,  4e-3 },
    { 8,  1,  72,  56,  0,     0,  true,  false, V_IN_K,  QTYPE_F32,  3e-6 },
    { 8,  1,  72,  56,  0,     0,  true,  false, V_IN_K,  QTYPE_F16,  4e-3 },
    { 8,  1,  72,  56,  0,     0,  true,  false, V_IN_K,  QTYPE_BF16, 4e-2 },
    { 8,  1,  96,  64,  0,     0,  true,  false, V_IN_K,  QTYPE_Q8_0, 6e-2 },
    { 4,  2,  64,  64,  33,    0,  true,  false, NEITHER, QTYPE_F16,  4e-3 },
    { 4,  2,  32,  32,  0,     5,  true,  false, NEITHER, QTYPE_F32,  3e-6 },
    { 4,  2,  32,  32,  0,     0,  true,  true,  NEITHER, QTYPE_F32,  2e-6 },
    { 4,  4,  16,  16,  0,     0,  false, false, NEITHER, QTYPE_F32,  2e-6 },
    { 48, 1,  72,  56,  0,     0,  true,  false, NEITHER, QTYPE_F32,  4e-6 }, /* more query heads than a task takes */
};
// clang-format on

enum { POSITIONS = 150, HEADS_MAX = 48, HEAD_MAX_ = 128 };

/* Everything of one case: inputs in, out [POSITIONS][n_head*head_v] by steps of `chunk`. */
static void attend_case(const struct attention_case *c, const float *q, const float *k,
                        const float *v, const float *sinks, int chunk, int n_threads, float *out)
{
    struct errmsg why = {0};
    struct backend *b = NULL;
    const struct backend_ops *o = &cpu_backend;
    const int nq = c->n_head * c->head_k, nk = c->n_head_kv * c->head_k,
              nv = c->n_head_kv * c->head_v, no = c->n_head * c->head_v;
    assert_int_equal(o->open(&b,
                             &(struct backend_opts){.n_threads = n_threads,
                                                    .max_tok = POSITIONS,
                                                    .max_seqs = 1,
                                                    .max_in = 64,
                                                    .max_rows = POSITIONS},
                             &why),
                     ERR_OK);
    assert_int_equal(o->kv_open(b,
                                &(struct kv_pool_shape){.n_layer = {2},
                                                        .n_blocks = {7},
                                                        .n_head_kv = c->n_head_kv,
                                                        .head_k = c->head_k,
                                                        .head_v = c->head_v,
                                                        .v_in_k = c->also == V_IN_K,
                                                        .type = c->kv},
                                &why),
                     ERR_OK);
    const uint32_t blocks[] = {3, 0, 6, 2, 5};
    float *dq = o->alloc(b, (size_t)(POSITIONS * nq)), *dk = o->alloc(b, (size_t)(POSITIONS * nk)),
          *dv = o->alloc(b, (size_t)(POSITIONS * nv)),
          *dout = o->alloc(b, (size_t)(POSITIONS * no)), *ds = o->alloc(b, HEADS_MAX);
    assert_true(dq && dk && dv && dout && ds);
    o->upload(b, ds, sinks, HEADS_MAX);
    if (!c->causal) /* all see all: one step */
        chunk = POSITIONS;
    for (int at = 0; at < POSITIONS; at += chunk) {
        const int n = POSITIONS - at < chunk ? POSITIONS - at : chunk;
        int32_t pos[POSITIONS];
        for (int i = 0; i < n; i++)
            pos[i] = at + i;
        const struct batch_seq seq = {0, n, at, blocks, NULL};
        const struct batch batch = {n, 1, pos, pos, &seq};
        o->upload(b, dq, q + at * nq, (size_t)(n * nq));
        o->upload(b, dk, k + at * nk, (size_t)(n * nk));
        o->upload(b, dv, v + at * nv, (size_t)(n * nv));
        o->begin(b, &batch);
        o->qkv(b, &(struct qkv){.layer = 1,
                                .n_head = c->n_head,
                                .n_head_kv = c->n_head_kv,
                                .head_k = c->head_k,
                                .head_v = c->head_v,
                                .q = dq,
                                .k = dk,
                                .v = c->also == V_IN_K ? NULL : dv,
                                .ldq = nq,
                                .ldk = nk,
                                .ldv = nv,
                                .norm_n = c->head_k,
                                .rope = -1});
        o->attention(b, &(struct attention){.layer = 1,
                                            .n_head = c->n_head,
                                            .q = dq,
                                            .out = dout,
                                            .ldq = nq,
                                            .ldo = no,
                                            .scale = 0.3F,
                                            .softcap = c->softcap,
                                            .window = c->window,
                                            .chunked = c->also == CHUNKED,
                                            .causal = c->causal,
                                            .sinks = c->sinks ? ds : NULL});
        o->end(b);
        o->download(b, out + at * no, dout, (size_t)(n * no));
    }
    o->close(b);
}

static void attention_matches_the_paper_and_never_depends_on_the_cut(void **state)
{
    UNUSED(state);
    float *q = malloc(sizeof *q * POSITIONS * HEADS_MAX * HEAD_MAX_),
          *k = malloc(sizeof *k * POSITIONS * HEADS_MAX * HEAD_MAX_),
          *v = malloc(sizeof *v * POSITIONS * HEADS_MAX * HEAD_MAX_),
          *first = malloc(sizeof *first * POSITIONS * HEADS_MAX * HEAD_MAX_),
          *other = malloc(sizeof *other * POSITIONS * HEADS_MAX * HEAD_MAX_);
    float *hk = malloc(sizeof *hk * POSITIONS * HEAD_MAX_),
          *hv = malloc(sizeof *hv * POSITIONS * HEAD_MAX_);
    float sinks[HEADS_MAX];
    assert_true(q && k && v && first && other && hk && hv);
    const char *env = getenv("MILLRACE_CPU_ISA");
    char *kept = env ? strdup(env) : NULL;
    for (size_t i = 0; i < COUNT(attentions); i++) {
        const struct attention_case *c = &attentions[i];
        const int nq = c->n_head * c->head_k, nk = c->n_head_kv * c->head_k,
                  nv = c->n_head_kv * c->head_v, no = c->n_head * c->head_v;
        fill(q, POSITIONS * nq, 2);
        fill(k, POSITIONS * nk, 2);
        fill(v, POSITIONS * nv, 2);
        fill(sinks, HEADS_MAX, 2);
        attend_case(c, q, k, v, sinks, POSITIONS, 1, first);
        for (int t = 0; t < POSITIONS; t++)
            for (int h = 0; h < c->n_head; h++) {
                const int g = h / (c->n_head / c->n_head_kv);
                float want[HEAD_MAX_];
                for (int j = 0; j < POSITIONS; j++) {
                    memcpy(hk + j * c->head_k, k + j * nk + g * c->head_k,
                           (size_t)c->head_k * sizeof *hk);
                    memcpy(hv + j * c->head_v,
                           c->also == V_IN_K ? hk + j * c->head_k : v + j * nv + g * c->head_v,
                           (size_t)c->head_v * sizeof *hv);
                }
                attend_ref(want, q + t * nq + h * c->head_k, hk, hv, c->head_k, c->head_v,
                           (int)kv_first_seen((uint32_t)c->window, c->also == CHUNKED, (uint32_t)t),
                           c->causal ? t + 1 : POSITIONS, 0.3F, c->softcap,
                           c->sinks ? &sinks[h] : NULL);
                for (int d = 0; d < c->head_v; d++)
                    if (!(fabs((double)want[d] - (double)first[t * no + h * c->head_v + d]) <=
                          c->tolerance * 2))
                        fail_msg("case %zu, position %d, head %d: %g, not %g", i, t, h,
                                 (double)first[t * no + h * c->head_v + d], (double)want[d]);
            }
        const struct {
            const char *isa;
            int chunk, threads;
        } ways[] = {{NULL, 1, 2}, {NULL, 37, 3}, {"c", 64, 2}, {"avx2", 50, 1}};
        for (size_t w = 0; w < COUNT(ways); w++) {
            if (ways[w].isa && strcmp(ways[w].isa, "avx2") == 0 &&
                cpu_isa_hardware() < CPU_ISA_AVX2)
                continue;
            if (ways[w].isa)
                setenv("MILLRACE_CPU_ISA", ways[w].isa, 1);
            attend_case(c, q, k, v, sinks, ways[w].chunk, ways[w].threads, other);
            assert_memory_equal(other, first, (size_t)(POSITIONS * no) * sizeof *first);
            if (kept)
                setenv("MILLRACE_CPU_ISA", kept, 1);
            else
                unsetenv("MILLRACE_CPU_ISA");
        }
    }
    free(kept);
    free(hv);
    free(hk);
    free(other);
    free(first);
    free(v);
    free(k);
    free(q);
}

/* --- experts
 * -------------------------------------------------------------------------------------------------------------
 */

static void route_one(const float *logits, const float *bias, int n, struct route r, int32_t *ids,
                      float *weights)
{
    struct errmsg why = {0};
    struct backend *b = NULL;
    const struct backend_ops *o = &cpu_backend;
    assert_int_equal(
        o->open(&b,
                &(struct backend_opts){
                    .n_threads = 1, .max_tok = 1, .max_seqs = 1, .max_in = 64, .max_rows = 1},
                &why),
        ERR_OK);
    r.logits = logits;
    r.bias = bias;
    r.n_expert = n;
    r.ids = ids;
    r.weights = weights;
    r.rows = 1;
    o->route(b, &r);
    o->close(b);
}

static void routing_takes_the_best_and_weighs_them(void **state)
{
    UNUSED(state);
    const float logits[8] = {0, 2, 1, 2, -1, 3, 0, 1};
    int32_t ids[4];
    float w[4];
    double sum = 0;
    for (int i = 0; i < 8; i++)
        sum += exp((double)logits[i]);

    route_one(logits, NULL, 8, (struct route){.n_used = 3, .gating = GATE_SOFTMAX, .scale = 1}, ids,
              w);
    assert_true(ids[0] == 5 && ids[1] == 1 && ids[2] == 3); /* of equals the first */
    assert_true(fabs((double)w[0] - exp(3) / sum) < 1e-6 &&
                fabs((double)w[2] - exp(2) / sum) < 1e-6);

    route_one(logits, NULL, 8,
              (struct route){.n_used = 3, .gating = GATE_SOFTMAX, .renorm = true, .scale = 2}, ids,
              w);
    assert_true(fabs((double)(w[0] + w[1] + w[2]) - 2) < 1e-6);

    const float bias[8] = {0, 0, 0, 0, 5, 0, 0, 0}; /* chooses, but does not weigh */
    route_one(logits, bias, 8, (struct route){.n_used = 2, .gating = GATE_SIGMOID, .scale = 1}, ids,
              w);
    assert_true(ids[0] == 4 && ids[1] == 5);
    assert_true(fabs((double)w[0] - 1 / (1 + exp(1))) < 1e-6);

    /* Groups of two: {0,2} {1,2} {-1,3} {0,1}; sums of sigmoids put groups 1 and 0 ahead of 2 */
    route_one(logits, NULL, 8,
              (struct route){
                  .n_used = 2, .n_group = 4, .n_group_used = 1, .gating = GATE_SIGMOID, .scale = 1},
              ids, w);
    assert_true(ids[0] == 3 && ids[1] == 2);

    route_one(logits, NULL, 8,
              (struct route){.n_used = 2, .gating = GATE_SOFTMAX_CHOSEN, .scale = 1}, ids, w);
    assert_true(fabs((double)w[0] - exp(3) / (exp(3) + exp(2))) < 1e-6 &&
                fabs((double)(w[0] + w[1]) - 1) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_match_the_papers),
        cmocka_unit_test(activations_match_the_papers_over_all_magnitudes),
        cmocka_unit_test(not_a_number_stays_visible),
        cmocka_unit_test(exp_is_exact_to_float_rounding_and_zero_when_tiny),
        cmocka_unit_test(rotation_turns_both_kinds_of_pairs),
        cmocka_unit_test(attention_matches_the_paper_and_never_depends_on_the_cut),
        cmocka_unit_test(routing_takes_the_best_and_weighs_them),
    };
    return RUN_TESTS(tests);
}
