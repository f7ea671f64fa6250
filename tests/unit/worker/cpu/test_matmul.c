/* What worker/cpu/matmul.h promises, for every type, instruction set, shape and thread count. */
#include "worker/cpu/matmul.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/cpu/isa.h"
#include "worker/cpu/kernels.h"
#include "worker/quant/blocks.h"

enum { MAX_TOK = 70, N_OUT = 37 };

static uint64_t seed = 88172645463325252u;

static uint32_t random_u32(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

static float random_float(void)
{
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

/* ---- weights: random bytes, with sane numbers where the block has a float
 * ------------------------------ */

#define AT(b, field) (int)offsetof(struct block_##b, field)
/* Where the halves of a block are; -1 ends. */
static const struct {
    enum qtype type;
    int halves[3];
} floats[] = {
    // clang-format off
    { QTYPE_Q4_0,    { AT(q4_0, d), -1 } },
    { QTYPE_Q4_1,    { AT(q4_1, d), AT(q4_1, m), -1 } },
    { QTYPE_Q5_0,    { AT(q5_0, d), -1 } },
    { QTYPE_Q5_1,    { AT(q5_1, d), AT(q5_1, m), -1 } },
    { QTYPE_Q8_0,    { AT(q8_0, d), -1 } },
    { QTYPE_Q2_K,    { AT(q2_K, d), AT(q2_K, dmin), -1 } },
    { QTYPE_Q3_K,    { AT(q3_K, d), -1 } },
    { QTYPE_Q4_K,    { AT(q4_K, d), AT(q4_K, dmin), -1 } },
    { QTYPE_Q5_K,    { AT(q5_K, d), AT(q5_K, dmin), -1 } },
    { QTYPE_Q6_K,    { AT(q6_K, d), -1 } },
    { QTYPE_IQ4_NL,  { AT(iq4_nl, d), -1 } },
    { QTYPE_IQ4_XS,  { AT(iq4_xs, d), -1 } },
    { QTYPE_TQ1_0,   { AT(tq1_0, d), -1 } },
    { QTYPE_TQ2_0,   { AT(tq2_0, d), -1 } },
    { QTYPE_IQ2_XXS, { AT(iq2_xxs, d), -1 } },
    { QTYPE_IQ2_XS,  { AT(iq2_xs, d), -1 } },
    { QTYPE_IQ2_S,   { AT(iq2_s, d), -1 } },
    { QTYPE_IQ3_XXS, { AT(iq3_xxs, d), -1 } },
    { QTYPE_IQ3_S,   { AT(iq3_s, d), -1 } },
    { QTYPE_IQ1_S,   { AT(iq1_s, d), -1 } },
    // clang-format on
};

/* extreme: payload bytes at the ends of their ranges, to provoke saturation and sign mistakes. */
static void fill_weights(uint8_t *data, enum qtype type, size_t n_elems, int extreme)
{
    static const uint8_t ends[] = {0x00, 0x7f, 0x80, 0xff, 0xff, 0xff, 0x80, 0x0f};
    const struct qtype_info *info = qtype_info(type);
    size_t n_blocks = n_elems / info->block_elems;
    for (size_t i = 0; i < n_blocks; i++) {
        uint8_t *b = data + i * info->block_bytes;
        if (info->block_elems == 1) {
            float f = random_float() * 0.05f;
            uint16_t h = type == QTYPE_BF16 ? f32_to_bf16(f) : f32_to_f16(f);
            if (type == QTYPE_F32)
                memcpy(b, &f, 4);
            else
                memcpy(b, &h, 2);
            continue;
        }
        for (uint32_t j = 0; j < info->block_bytes; j++)
            b[j] = extreme ? ends[random_u32() % sizeof ends] : (uint8_t)random_u32();
        for (size_t f = 0; f < sizeof floats / sizeof *floats; f++)
            for (int j = 0; floats[f].type == type && floats[f].halves[j] >= 0; j++) {
                uint16_t h = f32_to_f16(random_float() * 0.01f);
                memcpy(b + floats[f].halves[j], &h, 2);
            }
        if (type == QTYPE_MXFP4)
            b[0] = (uint8_t)(i % 8 ? 118 + random_u32() % 8 : random_u32() % 4); /* subnormal */
        if (type == QTYPE_IQ1_M) /* the top nibbles of four words are d, from the lowest: 0x2111 */
            for (int j = 0; j < 4; j++) {
                uint8_t *top = b + AT(iq1_m, scales) + 2 * j + 1;
                *top = (uint8_t)((*top & 15) | (j == 3 ? 0x20 : 0x10));
            }
    }
}

struct fixture {
    struct weight w;
    uint8_t *data;
    float *x, *want; /* [MAX_TOK, n_in], [MAX_TOK, N_OUT] */
};

static int columns_of(enum qtype type)
{
    /* More than one chunk of every kind, and a last chunk that is not full. */
    uint32_t elems = qtype_info(type)->block_elems;
    return elems == 1 ? 1031 : elems == 32 ? 1024 + 512 + 96 : 1024 + 768;
}

static struct matmul_ws *open_ws(int max_tok, int max_in, int threads, enum cpu_isa isa)
{
    struct matmul_ws *ws = NULL;
    struct errmsg why = {0};
    if (matmul_ws_open(&ws, max_tok, max_in, threads, isa, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return ws;
}

static struct pool *open_pool(int threads)
{
    struct pool *pool = NULL;
    assert_int_equal(pool_open(&pool, threads, NULL), ERR_OK);
    return pool;
}

static void fixture_of(struct fixture *f, enum qtype type, int extreme, int n_in)
{
    const struct qtype_info *info = qtype_info(type);
    f->w = (struct weight){.type = type,
                           .n_in = n_in,
                           .n_out = N_OUT,
                           .row_bytes = (size_t)n_in / info->block_elems * info->block_bytes};
    /* Exactly as long as the matrix, so that the sanitizer sees any read past it. */
    f->w.data = f->data = malloc(f->w.row_bytes * N_OUT);
    fill_weights(f->data, type, (size_t)n_in * N_OUT, extreme);
    f->x = malloc(sizeof(float) * (size_t)n_in * MAX_TOK);
    f->want = malloc(sizeof(float) * N_OUT * MAX_TOK);
    for (int i = 0; i < n_in * MAX_TOK; i++)
        f->x[i] = extreme ? (random_u32() & 3 ? 1.0f : -1.0f) : random_float();
    /* The specification: portable C, one thread, one token at a time. */
    struct pool *pool = open_pool(1);
    struct matmul_ws *ws = open_ws(1, n_in, 1, CPU_ISA_C);
    for (int t = 0; t < MAX_TOK; t++) {
        struct matmul_out out = {&f->w, f->want + (size_t)t * N_OUT, N_OUT};
        matmul(pool, ws, &out, 1, f->x + (size_t)t * n_in, n_in, 1);
    }
    matmul_ws_close(ws);
    pool_close(pool);
}

static void fixture_init(struct fixture *f, enum qtype type, int extreme)
{
    fixture_of(f, type, extreme, columns_of(type));
}

static void fixture_fini(struct fixture *f)
{
    free(f->data);
    free(f->x);
    free(f->want);
}

/* ---- the promises
 * ------------------------------------------------------------------------------------- */

static void results_are_near_the_float_product_of_what_was_quantized(void **state)
{
    (void)state;
    for (int type = 0; type < QTYPE_COUNT_; type++) {
        if (!matmul_supports(type))
            continue;
        struct fixture f;
        fixture_init(&f, type, 0);
        int n_in = f.w.n_in;
        float *w = malloc(sizeof(float) * (size_t)n_in), *x = malloc(sizeof(float) * (size_t)n_in);
        int8_t q[GROUP];
        int16_t sum16[2];
        for (int t = 0; t < 5; t++) {
            memcpy(x, f.x + (size_t)t * n_in, sizeof(float) * (size_t)n_in);
            for (int g = 0; pack_table[type].group && g < n_in / GROUP; g++) {
                float d;
                kernels_c.quantize(x + GROUP * g, 1, q, &d, sum16, 1);
                for (int k = 0; k < GROUP; k++) {
                    /* half a step of the 8-bit scale, plus the rounding of the scale itself */
                    assert_true(fabsf(d * q[k] - x[GROUP * g + k]) <= 0.5001f * d);
                    x[GROUP * g + k] = d * q[k];
                }
            }
            for (int o = 0; o < N_OUT; o++) {
                qtype_info((uint32_t)type)
                    ->dequantize(w, f.data + (size_t)o * f.w.row_bytes, (size_t)n_in);
                double want = 0, size = 0;
                for (int k = 0; k < n_in; k++) {
                    want += (double)w[k] * x[k];
                    size += fabs((double)w[k] * x[k]);
                }
                /* 50 to 1000 roundings of 6e-8 relative, of partial sums far below `size` */
                double off = fabs(f.want[t * N_OUT + o] - want);
                if (!(off <= 2e-6 * size))
                    fail_msg("%s: row %d token %d: %g instead of %g",
                             qtype_info((uint32_t)type)->name, o, t, (double)f.want[t * N_OUT + o],
                             want);
            }
        }
        free(w);
        free(x);
        fixture_fini(&f);
    }
}

static void check_all_paths(enum qtype type, int extreme, int n_in)
{
    static const int n_toks[] = {1, 2, 3, 4, 7, 8, 9, 13, 16, 17, 31, 48, MAX_TOK};
    struct fixture f;
    fixture_of(&f, type, extreme, n_in);
    float *y = malloc(sizeof(float) * (N_OUT + 3) * MAX_TOK);
    for (int isa = CPU_ISA_C; isa <= (int)cpu_isa_hardware(); isa++)
        for (int threads = 1; threads <= 3; threads += 2) {
            struct pool *pool = open_pool(threads);
            struct matmul_ws *ws = open_ws(MAX_TOK, f.w.n_in, threads, isa);
            for (size_t i = 0; i < sizeof n_toks / sizeof *n_toks; i++) {
                if (isa == CPU_ISA_C && (threads > 1) != (n_toks[i] == 17))
                    continue; /* the slow path: enough once */
                int ldy = N_OUT + 3, n_tok = n_toks[i], at = MAX_TOK - n_tok;
                for (int j = 0; j < ldy * n_tok; j++)
                    y[j] = -7.5f;
                struct matmul_out out = {&f.w, y, ldy};
                matmul(pool, ws, &out, 1, f.x + (size_t)at * f.w.n_in, f.w.n_in, n_tok);
                for (int t = 0; t < n_tok; t++) {
                    const float *want = f.want + (size_t)(at + t) * N_OUT;
                    const float *got = y + (size_t)t * ldy;
                    if (memcmp(got, want, sizeof(float) * N_OUT) != 0)
                        fail_msg("%s, %s, %d threads: token %d of %d differs",
                                 qtype_info(type)->name, cpu_isa_name(isa), threads, t, n_tok);
                    assert_true(got[N_OUT] == -7.5f && got[N_OUT + 2] == -7.5f);
                }
            }
            matmul_ws_close(ws);
            pool_close(pool);
        }
    free(y);
    fixture_fini(&f);
}

static void results_do_not_depend_on_batch_threads_or_instruction_set(void **state)
{
    (void)state;
    for (int type = 0; type < QTYPE_COUNT_; type++)
        if (matmul_supports(type))
            check_all_paths(type, 0, columns_of(type));
}

static void extreme_values_neither_saturate_nor_differ(void **state)
{
    (void)state;
    for (int type = 0; type < QTYPE_COUNT_; type++)
        if (matmul_supports(type) && pack_table[type].group)
            check_all_paths(type, 1, columns_of(type));
}

static void float_rows_of_whole_groups_give_the_same_results(void **state)
{
    (void)state;
    for (int type = 0; type < QTYPE_COUNT_; type++)
        if (matmul_supports(type) && qtype_info((uint32_t)type)->block_elems == 1) {
            check_all_paths(type, 0, 2 * FLOAT_BLOCK + 3 * GROUP); /* read as they lie */
            check_all_paths(type, 0, GROUP);
        }
}

static void every_unpacker_fills_the_panel_of_the_portable_one(void **state)
{
    (void)state;
    const struct kernels *sets[] = {
        &kernels_c,
#if defined(__x86_64__)
        &kernels_avx2,
        &kernels_avx512
#endif
    };
    enum { KC = 512, BYTES = PANEL_ROWS * KC * 4 };
    for (int isa = CPU_ISA_AVX2; isa <= (int)cpu_isa_hardware(); isa++)
        for (int type = 0; type < QTYPE_COUNT_; type++) {
            if (!sets[isa]->unpack[type])
                continue;
            const struct qtype_info *info = qtype_info((uint32_t)type);
            size_t row_bytes = KC / info->block_elems * info->block_bytes;
            uint8_t *data = malloc(row_bytes * PANEL_ROWS);
            fill_weights(data, type, KC * PANEL_ROWS, 0);
            uint8_t *mem[2];
            for (int i = 0; i < 2; i++) {
                mem[i] = aligned_alloc(64, 2 * BYTES);
                memset(mem[i], 0, 2 * BYTES);
                /* u, then s and m at their largest (groups of 16); floats start at u */
                struct panel p = {.u = mem[i], .w = (float *)(void *)mem[i]};
                p.s = (float *)(void *)(mem[i] + PANEL_ROWS * KC);
                p.m = p.s + PANEL_ROWS * KC / 16;
                if (i == 0)
                    unpack_any(type, &p, data, row_bytes, KC);
                else
                    sets[isa]->unpack[type](&p, data, row_bytes, KC, data);
            }
            if (memcmp(mem[0], mem[1], 2 * BYTES) != 0)
                fail_msg("%s of %s", info->name, cpu_isa_name(isa));
            free(mem[0]);
            free(mem[1]);
            free(data);
        }
}

static void several_outputs_share_one_input(void **state)
{
    (void)state;
    struct fixture a, b, c;
    fixture_init(&a, QTYPE_Q4_K, 0);
    fixture_init(&b, QTYPE_Q6_K, 0);
    fixture_init(&c, QTYPE_Q4_K, 0);
    b.w.n_out = 5;
    struct pool *pool = open_pool(2);
    struct matmul_ws *ws = open_ws(MAX_TOK, a.w.n_in, 2, cpu_isa_best());
    enum { Y = N_OUT * MAX_TOK };
    float *y = malloc(sizeof(float) * 3 * Y), *one = malloc(sizeof(float) * Y);
    struct matmul_out out[3] = {{&a.w, y, N_OUT}, {&b.w, y + Y, N_OUT}, {&c.w, y + 2 * Y, N_OUT}};
    matmul(pool, ws, out, 3, a.x, a.w.n_in, MAX_TOK);
    for (int i = 0; i < 3; i++) {
        struct matmul_out single = {out[i].w, one, N_OUT};
        matmul(pool, ws, &single, 1, a.x, a.w.n_in, MAX_TOK);
        for (int t = 0; t < MAX_TOK; t++)
            assert_memory_equal(out[i].y + t * N_OUT, one + t * N_OUT,
                                sizeof(float) * (size_t)out[i].w->n_out);
    }
    free(y);
    free(one);
    matmul_ws_close(ws);
    pool_close(pool);
    fixture_fini(&a);
    fixture_fini(&b);
    fixture_fini(&c);
}

static void check_experts(enum qtype type, int n_expert, int n_used, int n_tok, int x_per_use,
                          int max_tok)
{
    const struct qtype_info *info = qtype_info(type);
    int n_in = 512;
    struct weight w = {.type = type, .n_in = n_in, .n_out = N_OUT};
    w.row_bytes = (size_t)n_in / info->block_elems * info->block_bytes;
    size_t expert_bytes = w.row_bytes * N_OUT + 64;
    uint8_t *data = calloc((size_t)n_expert, expert_bytes);
    for (int e = 0; e < n_expert; e++)
        fill_weights(data + (size_t)e * expert_bytes, type, (size_t)n_in * N_OUT, 0);
    w.data = data;
    int n = n_tok * n_used, n_x = x_per_use ? n : n_tok;
    float *x = malloc(sizeof(float) * (size_t)(n_x * n_in));
    float *y = malloc(sizeof(float) * (size_t)(n * N_OUT));
    int32_t *ids = malloc(sizeof *ids * (size_t)n);
    for (int i = 0; i < n_x * n_in; i++)
        x[i] = random_float();
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)(random_u32() % (uint32_t)n_expert);
    struct pool *pool = open_pool(2);
    struct matmul_ws *ws = open_ws(max_tok, n_in, 2, cpu_isa_best());
    matmul_experts(pool, ws, &w, expert_bytes, n_expert, ids, n_used, n_tok, x, n_in, x_per_use, y,
                   N_OUT);
    for (int i = 0; i < n; i++) {
        float want[N_OUT];
        struct weight one = w;
        one.data = data + (size_t)ids[i] * expert_bytes;
        struct matmul_out out = {&one, want, N_OUT};
        matmul(pool, ws, &out, 1, x + (size_t)(x_per_use ? i : i / n_used) * n_in, n_in, 1);
        assert_memory_equal(y + (size_t)i * N_OUT, want, sizeof want);
    }
    matmul_ws_close(ws);
    pool_close(pool);
    free(ids);
    free(x);
    free(y);
    free(data);
}

static void experts_give_the_numbers_of_their_own_matrix(void **state)
{
    (void)state;
    check_experts(QTYPE_Q4_K, 8, 2, 33, 0, 64);
    check_experts(QTYPE_Q4_K, 8, 2, 33, 1, 64);
    check_experts(QTYPE_Q4_0, 128, 8, 1, 0, 1);
    check_experts(QTYPE_F32, 5, 3, 20, 0, 32);
    check_experts(QTYPE_Q8_0, 1, 1, 40, 1, 64);
}

static void more_expert_rows_than_the_workspace_holds_go_in_batches(void **state)
{
    (void)state;
    check_experts(QTYPE_Q8_0, 4, 8, 70, 0, 70);
    check_experts(QTYPE_F16, 4, 64, 40, 1, 1);
}

static void nan_and_infinity_reach_the_output(void **state)
{
    (void)state;
    static const enum qtype types[] = {QTYPE_Q4_0, QTYPE_Q6_K, QTYPE_F16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct fixture f;
        fixture_init(&f, types[i], 0);
        for (int isa = CPU_ISA_C; isa <= (int)cpu_isa_hardware(); isa++) {
            struct pool *pool = open_pool(1);
            struct matmul_ws *ws = open_ws(3, f.w.n_in, 1, isa);
            float y[3 * N_OUT];
            f.x[70] = NAN;
            f.x[2 * f.w.n_in + 500] = -INFINITY;
            struct matmul_out out = {&f.w, y, N_OUT};
            matmul(pool, ws, &out, 1, f.x, f.w.n_in, 3);
            for (int o = 0; o < N_OUT; o++) {
                assert_true(isnan(y[o]));
                assert_memory_equal(&y[N_OUT + o], &f.want[N_OUT + o], sizeof(float));
                assert_false(isfinite(y[2 * N_OUT + o]));
            }
            matmul_ws_close(ws);
            pool_close(pool);
        }
        fixture_fini(&f);
    }
}

static void zero_and_tiny_activations_give_zero(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, QTYPE_Q4_K, 0);
    for (int isa = CPU_ISA_C; isa <= (int)cpu_isa_hardware(); isa++) {
        struct pool *pool = open_pool(1);
        struct matmul_ws *ws = open_ws(2, f.w.n_in, 1, isa);
        for (int k = 0; k < f.w.n_in; k++) {
            f.x[k] = 0.0f;
            f.x[f.w.n_in + k] = 1e-39f;
        }
        float y[2 * N_OUT];
        struct matmul_out out = {&f.w, y, N_OUT};
        matmul(pool, ws, &out, 1, f.x, f.w.n_in, 2);
        for (int o = 0; o < 2 * N_OUT; o++)
            assert_true(y[o] == 0.0f);
        matmul_ws_close(ws);
        pool_close(pool);
    }
    fixture_fini(&f);
}

static void unusable_workspaces_are_refused_with_a_reason(void **state)
{
    (void)state;
    struct matmul_ws *ws = NULL;
    struct errmsg why = {0};
    assert_int_equal(matmul_ws_open(&ws, 0, 32, 1, CPU_ISA_C, &why), ERR_RANGE);
    assert_int_equal(matmul_ws_open(&ws, INT32_MAX, INT32_MAX, 1, CPU_ISA_C, &why), ERR_RANGE);
    setenv("MILLRACE_CPU_ISA", "sse9", 1);
    assert_int_equal(matmul_ws_open(&ws, 1, 32, 1, CPU_ISA_C, &why), ERR_INVALID);
    assert_string_equal(why.text, "MILLRACE_CPU_ISA=sse9: use c, avx2 or avx512");
    setenv("MILLRACE_CPU_ISA", "c", 1);
    assert_int_equal(cpu_isa_best(), CPU_ISA_C);
    unsetenv("MILLRACE_CPU_ISA");
    assert_int_equal(cpu_isa_best(), cpu_isa_hardware());
    assert_null(ws);
    matmul_ws_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_near_the_float_product_of_what_was_quantized),
        cmocka_unit_test(results_do_not_depend_on_batch_threads_or_instruction_set),
        cmocka_unit_test(extreme_values_neither_saturate_nor_differ),
        cmocka_unit_test(float_rows_of_whole_groups_give_the_same_results),
        cmocka_unit_test(every_unpacker_fills_the_panel_of_the_portable_one),
        cmocka_unit_test(several_outputs_share_one_input),
        cmocka_unit_test(experts_give_the_numbers_of_their_own_matrix),
        cmocka_unit_test(more_expert_rows_than_the_workspace_holds_go_in_batches),
        cmocka_unit_test(nan_and_infinity_reach_the_output),
        cmocka_unit_test(zero_and_tiny_activations_give_zero),
        cmocka_unit_test(unusable_workspaces_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
