/* The sampler against a slow one that sorts everything and works in double. */
#include "worker/sample/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { V = 300 };

static const struct sample_params neutral = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .seed = 11};

static struct sampler *open_sampler(uint32_t n_vocab)
{
    struct sampler *s = NULL;
    struct errmsg why;
    assert_int_equal(sampler_open(&s, n_vocab, &why), ERR_OK);
    return s;
}

static int32_t draw_at(struct sampler *s, const struct sample_params *p, const float *logits,
                       uint32_t position)
{
    struct sample_in in = {.logits = logits, .position = position, .n_top = -1};
    struct sample_out out;
    struct errmsg why = {""};
    assert_int_equal(sampler_draw(s, p, &in, &out, &why), ERR_OK);
    return out.token;
}

static void random_logits(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = 12 * ((float)rand() / (float)RAND_MAX) - 6;
}

/* --- the slow one
 * ------------------------------------------------------------------------------------ */

struct cand {
    double z, p;
    int id;
};

static int by_z(const void *a, const void *b)
{
    const struct cand *x = a, *y = b;
    if (x->z != y->z)
        return x->z > y->z ? -1 : 1;
    return x->id - y->id;
}

static void normalize(struct cand *c, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += c[i].p = exp(c[i].z - c[0].z);
    for (int i = 0; i < n; i++)
        c[i].p /= sum;
}

/* prob[V] after temperature, top_k, top_p, min_p */
static void slow_distribution(const struct sample_params *p, const float *logits, double *prob)
{
    struct cand c[V];
    int n = V;
    for (int i = 0; i < V; i++)
        c[i] = (struct cand){(double)logits[i] / (double)p->temperature, 0, i};
    qsort(c, V, sizeof c[0], by_z);
    if (p->top_k > 0 && p->top_k < n)
        n = p->top_k;
    normalize(c, n);
    if (p->top_p < 1) {
        double sum = 0;
        int m = 0;
        do
            sum += c[m++].p;
        while (m < n && sum < (double)p->top_p);
        n = m;
    }
    while (n > 1 && c[n - 1].p < (double)p->min_p * c[0].p)
        n--;
    normalize(c, n);
    for (int i = 0; i < V; i++)
        prob[i] = 0;
    for (int i = 0; i < n; i++)
        prob[c[i].id] = c[i].p;
}

static void draws_follow_the_distribution_that_temperature_and_filters_define(void **state)
{
    (void)state;
    static const struct {
        float temperature, top_p, min_p;
        int top_k;
    } rows[] = {
        {1, 1, 0, 0},           {0.7f, 1, 0, 0},    {2, 1, 0, 0},       {1, 0.9f, 0, 0},
        {1, 0.5f, 0, 0},        {1, 1, 0.1f, 0},    {1, 1, 0, 40},      {1.3f, 0.8f, 0, 40},
        {1, 0.95f, 0.05f, 100}, {0.01f, 1, 0, 0},   {1, 0, 0, 0},       {1, 1, 1, 0},
        {1, 1, 0, 1},           {5, 0.7f, 0.3f, 0}, {1, 0.9f, 0, 1000},
    };
    enum { DRAWS = 20000 };
    struct sampler *s = open_sampler(V);
    float logits[V];
    srand(5);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        random_logits(logits, V);
        logits[7] = logits[9]; /* a tie */
        struct sample_params p = neutral;
        p.temperature = rows[r].temperature, p.top_p = rows[r].top_p;
        p.min_p = rows[r].min_p, p.top_k = rows[r].top_k;
        double prob[V];
        slow_distribution(&p, logits, prob);
        int counts[V] = {0};
        for (uint32_t i = 0; i < DRAWS; i++)
            counts[draw_at(s, &p, logits, i)]++;
        double chi2 = 0;
        int cells = 0;
        for (int i = 0; i < V; i++) {
            if (prob[i] == 0)
                assert_int_equal(counts[i], 0); /* outside of the filters: never */
            double want = prob[i] * DRAWS;
            if (want < 5)
                continue;
            chi2 += ((double)counts[i] - want) * ((double)counts[i] - want) / want;
            cells++;
        }
        /* Mean `cells`, variance 2 * cells: five sigmas. */
        if (chi2 > cells + 5 * sqrt(2.0 * cells) + 1e-9)
            fail_msg("row %zu: chi2 %f over %d cells", r, chi2, cells);
    }
    sampler_close(s);
}

static void few_and_many_kept_ways_agree_on_every_token(void **state)
{
    (void)state;
    /* top_k 128 goes by a scan, 129 by bins: with one token more in the vocabulary that can never
     * be drawn, both keep the same 128. */
    struct sampler *s = open_sampler(V);
    float logits[V];
    srand(12);
    for (uint32_t pos = 0; pos < 500; pos++) {
        random_logits(logits, V);
        int32_t ids[V];
        struct sample_params few = neutral, many = neutral;
        few.top_k = 128, many.top_k = 129;
        few.top_p = many.top_p = pos % 2 ? 1 : 0.9f;
        /* ban all but 128 */
        size_t n_banned = 0;
        for (int32_t i = 128; i < V; i++)
            ids[n_banned++] = i;
        struct sample_in in = {
            .logits = logits, .position = pos, .banned = ids, .n_banned = n_banned, .n_top = -1};
        struct sample_out a, b;
        assert_int_equal(sampler_draw(s, &few, &in, &a, NULL), ERR_OK);
        assert_int_equal(sampler_draw(s, &many, &in, &b, NULL), ERR_OK);
        assert_int_equal(a.token, b.token);
    }
    sampler_close(s);
}

static void temperature_zero_takes_the_greatest_and_the_lowest_id_among_equals(void **state)
{
    (void)state;
    struct sampler *s = open_sampler(5);
    struct sample_params p = neutral;
    p.temperature = 0;
    assert_int_equal(draw_at(s, &p, (float[]){1, 3, 2, 3, 0}, 0), 1);
    assert_int_equal(draw_at(s, &p, (float[]){-5, -5, -5, -5, -5}, 3), 0);
    p.temperature = 1e-40f; /* denormal: as good as greedy, and no overflow */
    assert_int_equal(draw_at(s, &p, (float[]){1, 2, 4, 3, 0}, 0), 2);
    sampler_close(s);
}

static void same_seed_choice_and_position_give_the_same_token_whatever_came_before(void **state)
{
    (void)state;
    struct sampler *a = open_sampler(V), *b = open_sampler(V);
    float logits[V], other[V];
    srand(6);
    int differs = 0;
    for (uint32_t pos = 0; pos < 200; pos++) {
        random_logits(logits, V);
        random_logits(other, V);
        draw_at(b, &neutral, other, pos + 1000);
        int32_t first = draw_at(a, &neutral, logits, pos);
        assert_int_equal(first, draw_at(b, &neutral, logits, pos));
        differs += first != draw_at(b, &neutral, logits, pos + 1);
    }
    assert_true(differs > 100);
    sampler_close(a);
    sampler_close(b);
}

static float biased(const struct sample_params *p, const struct sample_in *in, int32_t id)
{
    /* Greedy on two tokens finds where `id` overtakes a token of known logit: bisection by bias. */
    struct sampler *s = open_sampler(4);
    float lo = -50, hi = 50;
    for (int i = 0; i < 60; i++) {
        struct sample_params q = *p;
        float mid = (lo + hi) / 2;
        struct logit_bias bias = {3, mid}; /* token 3 has logit 0 and stands in no history */
        q.temperature = 0, q.bias = &bias, q.n_bias = 1;
        struct sample_out out;
        struct sample_in only = *in;
        int32_t banned[3];
        only.n_banned = 0;
        for (int32_t t = 0; t < 3; t++)
            if (t != id)
                banned[only.n_banned++] = t;
        only.banned = banned;
        assert_int_equal(sampler_draw(s, &q, &only, &out, NULL), ERR_OK);
        *(out.token == 3 ? &hi : &lo) = mid;
    }
    sampler_close(s);
    return hi;
}

static void penalties_count_what_the_header_says(void **state)
{
    (void)state;
    float logits[4] = {2, -2, 1, 0};
    /* prompt 0 1, completion 0 2 2 */
    int32_t history[] = {0, 1, 0, 2, 2};
    struct sample_in in = {
        .logits = logits, .history = history, .n_prompt = 2, .n_history = 5, .n_top = -1};
    struct sample_params p = neutral;

    p.repetition_penalty = 2;
    assert_float_equal(biased(&p, &in, 0), 1, 1e-4);
    assert_float_equal(biased(&p, &in, 1), -4, 1e-4);
    assert_float_equal(biased(&p, &in, 2), 0.5, 1e-4);

    p = neutral;
    p.frequency_penalty = 0.25f, p.presence_penalty = 0.5f;
    assert_float_equal(biased(&p, &in, 0), 2 - 0.25 - 0.5, 1e-4);
    assert_float_equal(biased(&p, &in, 1), -2, 1e-4); /* in the prompt only */
    assert_float_equal(biased(&p, &in, 2), 1 - 2 * 0.25 - 0.5, 1e-4);

    p.penalty_last_n = 1; /* the window holds one 2 */
    assert_float_equal(biased(&p, &in, 0), 2, 1e-4);
    assert_float_equal(biased(&p, &in, 2), 1 - 0.25 - 0.5, 1e-4);
    p.penalty_last_n = 0;
    assert_float_equal(biased(&p, &in, 2), 1, 1e-4);
}

static void logprobs_are_those_of_the_model_itself(void **state)
{
    (void)state;
    struct sampler *s = open_sampler(V);
    float logits[V];
    srand(8);
    random_logits(logits, V);
    logits[20] = logits[30] = 9; /* the best two are equal */
    double sum = 0;
    for (int i = 0; i < V; i++)
        sum += exp((double)logits[i]);
    struct logit_bias bias = {100, 100};
    struct sample_params p = neutral;
    p.temperature = 0.5f, p.top_k = 3, p.bias = &bias, p.n_bias = 1;
    struct sample_in in = {.logits = logits, .n_top = 5};
    struct sample_out out;
    assert_int_equal(sampler_draw(s, &p, &in, &out, NULL), ERR_OK);
    assert_int_equal(out.token, 100);
    assert_float_equal(out.logprob, (double)logits[100] - log(sum), 1e-4);
    assert_int_equal(out.n_top, 5);
    assert_int_equal(out.top[0].token, 20);
    assert_int_equal(out.top[1].token, 30);
    for (int i = 0; i < 5; i++)
        assert_float_equal(out.top[i].logprob, (double)logits[out.top[i].token] - log(sum), 1e-4);
    assert_true(out.top[3].logprob >= out.top[4].logprob);
    in.n_top = 0;
    assert_int_equal(sampler_draw(s, &p, &in, &out, NULL), ERR_OK);
    assert_int_equal(out.n_top, 0);
    assert_float_equal(out.logprob, (double)logits[100] - log(sum), 1e-4);
    sampler_close(s);
}

static void a_banned_token_never_comes(void **state)
{
    (void)state;
    struct sampler *s = open_sampler(3);
    float logits[] = {50, 1, 0};
    int32_t banned[] = {0, 2};
    struct sample_in in = {.logits = logits, .banned = banned, .n_banned = 2, .n_top = -1};
    struct sample_out out;
    struct sample_params kinds[3] = {neutral, neutral, neutral};
    kinds[1].top_p = 0.9f;
    kinds[2].top_k = 2;
    for (int k = 0; k < 3; k++)
        for (in.position = 0; in.position < 100; in.position++) {
            assert_int_equal(sampler_draw(s, &kinds[k], &in, &out, NULL), ERR_OK);
            assert_int_equal(out.token, 1);
        }
    int32_t all[] = {0, 1, 2};
    in.banned = all, in.n_banned = 3;
    struct errmsg why = {""};
    assert_int_equal(sampler_draw(s, &neutral, &in, &out, &why), ERR_INTERNAL);
    assert_non_null(strstr(why.text, "all are banned"));
    sampler_close(s);
}

static void logits_that_are_no_numbers_are_an_error_and_leave_the_sampler_usable(void **state)
{
    (void)state;
    struct sampler *s = open_sampler(40);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int b = 0; b < 3; b++) {
        float logits[40] = {0};
        logits[33] = bad[b];
        struct sample_in in = {.logits = logits, .n_top = 2};
        struct sample_out out;
        struct errmsg why = {""};
        assert_int_equal(sampler_draw(s, &neutral, &in, &out, &why), ERR_INTERNAL);
        assert_non_null(strstr(why.text, "token 33"));
        logits[33] = 1000;
        assert_int_equal(draw_at(s, &neutral, logits, 0), 33);
    }
    sampler_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_distribution_that_temperature_and_filters_define),
        cmocka_unit_test(few_and_many_kept_ways_agree_on_every_token),
        cmocka_unit_test(temperature_zero_takes_the_greatest_and_the_lowest_id_among_equals),
        cmocka_unit_test(same_seed_choice_and_position_give_the_same_token_whatever_came_before),
        cmocka_unit_test(penalties_count_what_the_header_says),
        cmocka_unit_test(logprobs_are_those_of_the_model_itself),
        cmocka_unit_test(a_banned_token_never_comes),
        cmocka_unit_test(logits_that_are_no_numbers_are_an_error_and_leave_the_sampler_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
