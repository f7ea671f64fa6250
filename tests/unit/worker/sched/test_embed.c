/* Embedding jobs: order, turns, budgets, and numbers that depend on the input alone. */
#include "tests/unit/worker/sched/harness.h"

#include <stdio.h>

static int32_t letters[2000];

static struct spec embed_spec(void)
{
    struct spec sp = spec_of(NULL, 0);
    sp.head.kind = JOB_EMBEDDING;
    sp.head.max_tokens = 0;
    return sp;
}

static void add_input(struct spec *sp, const int32_t *ids, size_t n)
{
    int i = 0;
    while (sp->inputs[i])
        i++;
    sp->inputs[i] = ids;
    sp->n_input[i] = n;
}

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        letters[i] = (int32_t)(i * 7 % 26);
    return 0;
}

static void a_job_gives_one_unit_vector_per_input_in_order_and_exact_counts(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.pooling = POOL_LAST});
    struct spec sp = embed_spec();
    add_input(&sp, letters, 7);
    add_input(&sp, letters + 3, 1);
    add_input(&sp, letters, 7);
    struct seen *e = submit(h, 1, &sp);
    run_all(h);
    assert_int_equal(e->n_embeddings, 3);
    assert_int_equal(e->n_dims, FAKE_EMBD);
    assert_int_equal(e->admission.prompt_tokens, 15);
    assert_int_equal(e->finished.prompt_tokens, 15);
    assert_int_equal(e->finished.computed_tokens, 15);
    assert_int_equal(e->finished.completion_tokens, 0);
    assert_memory_equal(e->vectors[0], e->vectors[2], sizeof e->vectors[0]);
    assert_true(memcmp(e->vectors[0], e->vectors[1], sizeof e->vectors[0]) != 0);
    double length = 0;
    for (int i = 0; i < FAKE_EMBD; i++)
        length += (double)e->vectors[1][i] * (double)e->vectors[1][i];
    assert_true(fabs(length - 1) < 1e-6);
    assert_int_equal(h->fake.n_steps, 1);
    assert_quiet(h);
    harness_close(h);
}

static void inputs_share_a_step_up_to_its_budget(void **state)
{
    (void)state;
    for (int encoder = 0; encoder < 2; encoder++) {
        struct harness *h = harness_open((struct room){
            .step_tokens = 64, .context = 64, .pooling = POOL_MEAN, .encoder = encoder});
        struct spec sp = embed_spec();
        for (int i = 0; i < 8; i++)
            add_input(&sp, letters + i, 24); /* 192 tokens: 3 steps of 64, or 4 of two inputs */
        submit(h, 1, &sp);
        run_all(h);
        assert_int_equal(h->fake.n_steps, encoder ? 4 : 3);
        assert_int_equal(h->fake.n_positions, 192);
        assert_quiet(h);
        harness_close(h);
    }
}

/* The input alone, in a roomy engine. */
static void solo(enum pooling pooling, bool encoder, const int32_t *ids, size_t n, float *out)
{
    struct harness *h = harness_open(
        (struct room){.step_tokens = 1000, .context = 500, .pooling = pooling, .encoder = encoder});
    struct spec sp = embed_spec();
    add_input(&sp, ids, n);
    struct seen *e = submit(h, 1, &sp);
    run_all(h);
    assert_int_equal(e->n_embeddings, 1);
    memcpy(out, e->vectors[0], sizeof e->vectors[0]);
    harness_close(h);
}

static void what_an_input_becomes_depends_neither_on_company_nor_on_cuts(void **state)
{
    (void)state;
    const enum pooling kinds[] = {POOL_MEAN, POOL_CLS, POOL_LAST};
    for (unsigned round = 0; round < 24; round++) {
        srand(round);
        const enum pooling kind = kinds[round % 3];
        const bool encoder = round % 2;
        struct room room = {.slots = 1 + (uint32_t)rand() % 9,
                            .step_tokens = encoder ? 100 : 5 + (uint32_t)rand() % 60,
                            .context = 100,
                            .blocks = 25 + (uint32_t)rand() % 60,
                            .pooling = kind,
                            .encoder = encoder};
        struct harness *h = harness_open(room);
        struct spec specs[6];
        struct seen *jobs[6];
        for (int j = 0; j < 6; j++) {
            specs[j] = embed_spec();
            specs[j].head.priority = rand() % 3 == 0 ? rand() % 3 : 0;
            for (int i = 1 + rand() % 12; i > 0; i--)
                add_input(&specs[j], letters + rand() % 900, 1 + (size_t)rand() % 100);
            jobs[j] = submit(h, 1 + (uint64_t)j, &specs[j]);
            sched_step(h->s);
            audit(h);
            if (rand() % 4 == 0)
                h->fake.fail_steps = 1;
        }
        run_all(h);
        for (int j = 0; j < 6; j++)
            for (uint32_t i = 0; specs[j].inputs[i]; i++) {
                float alone[FAKE_EMBD];
                assert_true(i < jobs[j]->n_embeddings);
                solo(kind, encoder, specs[j].inputs[i], specs[j].n_input[i], alone);
                assert_memory_equal(alone, jobs[j]->vectors[i], sizeof alone);
            }
        assert_quiet(h);
        harness_close(h);
    }
}

static void a_job_of_many_inputs_does_not_hold_up_a_small_one(void **state)
{
    (void)state;
    for (int encoder = 0; encoder < 2; encoder++) {
        struct harness *h = harness_open((struct room){
            .step_tokens = 64, .context = 64, .pooling = POOL_MEAN, .encoder = encoder});
        struct spec big = embed_spec(), small = embed_spec();
        for (int i = 0; i < 40; i++)
            add_input(&big, letters + i, 60);
        add_input(&small, letters, 50);
        struct seen *b = submit(h, 1, &big);
        for (int i = 0; i < 4; i++)
            sched_step(h->s);
        struct seen *s = submit(h, 2, &small);
        for (int i = 0; i < 3; i++)
            sched_step(h->s);
        assert_true(s->over);
        assert_false(b->over);
        run_all(h);
        assert_quiet(h);
        harness_close(h);
    }
}

static void the_longest_input_has_its_turn_among_short_ones(void **state)
{
    (void)state;
    struct harness *h = harness_open(
        (struct room){.step_tokens = 64, .context = 64, .pooling = POOL_MEAN, .encoder = true});
    struct spec shorts = embed_spec(), whole = embed_spec();
    for (int i = 0; i < 40; i++)
        add_input(&shorts, letters + i, 30);
    add_input(&whole, letters, 64); /* fits an empty step only */
    submit(h, 1, &shorts);
    submit(h, 2, &shorts);
    struct seen *w = submit(h, 3, &whole);
    for (int i = 0; i < 6; i++)
        sched_step(h->s);
    assert_true(w->over);
    run_all(h);
    assert_quiet(h);
    harness_close(h);
}

static void higher_priority_goes_first(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.step_tokens = 32, .pooling = POOL_MEAN});
    struct spec low = embed_spec(), high = embed_spec();
    high.head.priority = 1;
    for (int i = 0; i < 4; i++) {
        add_input(&low, letters + i, 32);
        add_input(&high, letters + i, 32);
    }
    struct seen *a = submit(h, 1, &low), *b = submit(h, 2, &high);
    run_all(h);
    assert_int_equal(b->at_step[3], 4);
    assert_int_equal(a->at_step[0], 5);
    assert_quiet(h);
    harness_close(h);
}

static void a_cancel_in_the_middle_of_an_input_frees_everything(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.step_tokens = 32, .pooling = POOL_MEAN});
    struct spec sp = embed_spec();
    add_input(&sp, letters, 20);
    add_input(&sp, letters, 100);
    struct seen *a = submit(h, 1, &sp), *b = submit(h, 2, &sp);
    for (int i = 0; i < 3; i++)
        sched_step(h->s);
    struct sched_stats st;
    sched_stats(h->s, &st);
    assert_int_equal(st.running, 2);
    assert_true(st.kv_blocks_used > 0);
    assert_int_equal(a->n_embeddings, 1);
    sched_cancel(h->s, 1);
    assert_int_equal(a->finished.reason, FINISH_CANCELLED);
    assert_true(a->finished.computed_tokens > 20 && a->finished.computed_tokens < 120);
    sched_cancel(h->s, 2);
    assert_true(b->over);
    assert_false(sched_step(h->s));
    assert_quiet(h);
    harness_close(h);
}

static void a_paused_job_holds_nothing_that_others_need_and_goes_on(void **state)
{
    (void)state;
    struct harness *h = harness_open(
        (struct room){.step_tokens = 32, .context = 100, .blocks = 25, .pooling = POOL_LAST});
    struct spec sp = embed_spec();
    add_input(&sp, letters, 100); /* all the blocks there are */
    struct seen *a = submit(h, 1, &sp);
    sched_step(h->s);
    sched_pause(h->s, 1);
    struct seen *b = submit(h, 2, &sp);
    run_all(h);
    assert_true(b->over && !a->over);
    sched_resume(h->s, 1);
    run_all(h);
    assert_memory_equal(a->vectors[0], b->vectors[0], sizeof a->vectors[0]);
    assert_quiet(h);
    harness_close(h);
}

static void vectors_are_cut_and_normed_again_where_the_model_allows(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.pooling = POOL_MEAN});
    struct spec sp = embed_spec();
    add_input(&sp, letters, 9);
    struct seen *whole = submit(h, 1, &sp);
    sp.head.dimensions = 2;
    struct seen *cut = submit(h, 2, &sp);
    run_all(h);
    assert_int_equal(cut->n_dims, 2);
    const double x = (double)whole->vectors[0][0], y = (double)whole->vectors[0][1];
    assert_true(fabs((double)cut->vectors[0][0] - x / sqrt(x * x + y * y)) < 1e-6);
    assert_true(fabs((double)cut->vectors[0][1] - y / sqrt(x * x + y * y)) < 1e-6);

    const struct {
        uint32_t dimensions, min;
        enum err err;
        const char *says;
    } refused[] = {{1, 2, ERR_INVALID, "shortened to 2 dimensions at least"},
                   {FAKE_EMBD + 1, 2, ERR_INVALID, "have 3 dimensions; 'dimensions' asks for 4"},
                   {2, 0, ERR_UNSUPPORTED, "not made to be shortened"}};
    for (uint64_t i = 0; i < 3; i++) {
        sp.head.dimensions = refused[i].dimensions;
        h->fake.engine.min_dims = refused[i].min;
        struct seen *j = submit(h, 10 + i, &sp);
        assert_true(j->failed);
        assert_int_equal(j->failure.err, refused[i].err);
        assert_int_equal(j->failure.param, PARAM_DIMENSIONS);
        assert_non_null(strstr(j->message, refused[i].says));
    }
    sp.head.dimensions = FAKE_EMBD; /* what it has anyway needs no leave */
    struct seen *same = submit(h, 20, &sp);
    run_all(h);
    assert_memory_equal(same->vectors[0], whole->vectors[0], sizeof same->vectors[0]);
    assert_quiet(h);
    harness_close(h);
}

static void what_does_not_fit_is_refused_by_name_never_cut(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.context = 32, .pooling = POOL_MEAN});
    struct spec sp = embed_spec();
    add_input(&sp, letters, 3);
    add_input(&sp, letters, 33);
    struct seen *e = submit(h, 1, &sp);
    assert_int_equal(e->failure.err, ERR_CONTEXT_LENGTH);
    assert_int_equal(e->failure.param, PARAM_INPUT);
    assert_int_equal(e->failure.prompt_tokens, 33);
    assert_non_null(strstr(e->message, "32 tokens; input 1 has 33"));
    assert_quiet(h);
    harness_close(h);

    h = harness_open((struct room){
        .context = 160000, .step_tokens = 160000, .blocks = 40000, .pooling = POOL_MEAN});
    int32_t *many = calloc(150001, sizeof *many);
    sp = embed_spec();
    add_input(&sp, many, 150000);
    add_input(&sp, many, 150001);
    e = submit(h, 1, &sp);
    assert_int_equal(e->failure.err, ERR_INVALID);
    assert_int_equal(e->failure.param, PARAM_INPUT);
    assert_non_null(strstr(e->message, "300001 tokens together; a request may have 300000"));
    free(many);
    assert_quiet(h);
    harness_close(h);
}

static void what_is_wrong_with_one_input_fails_its_job_alone(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.pooling = POOL_MEAN});
    const int32_t nan[] = {1, FAKE_NAN, 2}, bad[] = {1, FAKE_BAD};
    struct spec good = embed_spec(), with_nan = good, with_bad = good;
    for (int i = 0; i < 3; i++) {
        add_input(&good, letters + i, 9);
        add_input(&with_nan, i == 1 ? nan : letters, 3);
        add_input(&with_bad, i == 1 ? bad : letters, 2);
    }
    struct seen *a = submit(h, 1, &good), *b = submit(h, 2, &with_nan);
    struct seen *c = submit(h, 3, &with_bad), *d = submit(h, 4, &good);
    run_all(h);
    assert_true(!a->failed && !d->failed && b->failed && c->failed);
    assert_int_equal(a->n_embeddings, 3);
    assert_memory_equal(a->vectors, d->vectors, sizeof a->vectors);
    assert_non_null(strstr(b->message, "no number for input 1"));
    assert_non_null(strstr(c->message, "a bad token"));
    assert_quiet(h);
    harness_close(h);
}

static void a_model_that_embeds_writes_no_text_and_the_other_way_round(void **state)
{
    (void)state;
    struct spec embed = embed_spec(), text = spec_of(letters, 5);
    add_input(&embed, letters, 5);
    for (int embeds = 0; embeds < 2; embeds++) {
        struct harness *h = harness_open((struct room){.pooling = embeds ? POOL_MEAN : POOL_NONE});
        struct seen *j = submit(h, 1, embeds ? &text : &embed);
        assert_int_equal(j->failure.err, ERR_UNSUPPORTED);
        assert_int_equal(j->failure.param, PARAM_MODEL);
        assert_non_null(strstr(j->message, embeds ? "writes no text" : "gives no embeddings"));
        assert_quiet(h);
        harness_close(h);
    }
}

static void a_step_is_made_so_short_that_it_takes_the_time_it_should(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.step_tokens = 1000,
                                                   .context = 900,
                                                   .slots = 40,
                                                   .target_ns = 100 * 1000,
                                                   .pooling = POOL_MEAN});
    struct spec sp = embed_spec();
    for (int i = 0; i < 40; i++)
        add_input(&sp, letters, 50);
    submit(h, 1, &sp);
    uint64_t longest = 0;
    for (uint64_t before = h->fake.now_ns; sched_step(h->s); before = h->fake.now_ns)
        longest = h->fake.now_ns - before > longest ? h->fake.now_ns - before : longest;
    assert_in_range(longest, 200 * 1000, 400 * 1000); /* four targets, a microsecond per token */
    assert_quiet(h);
    harness_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_gives_one_unit_vector_per_input_in_order_and_exact_counts),
        cmocka_unit_test(inputs_share_a_step_up_to_its_budget),
        cmocka_unit_test(what_an_input_becomes_depends_neither_on_company_nor_on_cuts),
        cmocka_unit_test(a_job_of_many_inputs_does_not_hold_up_a_small_one),
        cmocka_unit_test(the_longest_input_has_its_turn_among_short_ones),
        cmocka_unit_test(higher_priority_goes_first),
        cmocka_unit_test(a_cancel_in_the_middle_of_an_input_frees_everything),
        cmocka_unit_test(a_paused_job_holds_nothing_that_others_need_and_goes_on),
        cmocka_unit_test(vectors_are_cut_and_normed_again_where_the_model_allows),
        cmocka_unit_test(what_does_not_fit_is_refused_by_name_never_cut),
        cmocka_unit_test(what_is_wrong_with_one_input_fails_its_job_alone),
        cmocka_unit_test(a_model_that_embeds_writes_no_text_and_the_other_way_round),
        cmocka_unit_test(a_step_is_made_so_short_that_it_takes_the_time_it_should),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
