/* What one job gets: counts, ends, errors, limits, order. */
#include "tests/unit/worker/sched/harness.h"

static const int32_t abc[40] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 0,  1,
                                2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13};

static void a_job_is_admitted_streamed_and_finished_with_exact_counts(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 10);
    sp.head.flags = JOB_IGNORE_EOS;
    struct seen *j = submit(h, 1, &sp);
    assert_int_equal(j->n_events, 0);
    run_all(h);

    assert_true(j->admitted);
    assert_int_equal(j->admission.prompt_tokens, 10);
    assert_int_equal(j->admission.cached_tokens, 0);
    assert_int_equal(j->admission.context, 128);
    assert_int_equal(j->choice[0].n_tokens, 24);
    assert_int_equal(j->choice[0].end.reason, FINISH_LENGTH);
    assert_int_equal(j->choice[0].end.completion_tokens, 24);
    assert_int_equal(j->finished.reason, FINISH_LENGTH);
    assert_int_equal(j->finished.prompt_tokens, 10);
    assert_int_equal(j->finished.completion_tokens, 24);
    assert_int_equal(j->finished.computed_tokens, 10 + 23); /* the last token is never computed */
    struct sched_stats st;
    sched_stats(h->s, &st);
    assert_int_equal(st.prompt_tokens, 10);
    assert_int_equal(st.generated_tokens, 24);
    assert_quiet(h);
    harness_close(h);
}

static void the_end_token_ends_a_choice_and_is_counted(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    h->fake.end_bias = 100;
    struct spec sp = spec_of(abc, 3);
    struct seen *j = submit(h, 1, &sp);
    run_all(h);
    assert_int_equal(j->choice[0].n_tokens, 1);
    assert_int_equal(j->choice[0].tokens[0], FAKE_END);
    assert_int_equal(j->choice[0].n_text, 0);
    assert_int_equal(j->choice[0].end.reason, FINISH_STOP);
    assert_int_equal(j->choice[0].end.stop_index, -1);
    assert_int_equal(j->finished.completion_tokens, 1);

    sp.head.min_tokens = 5; /* not before the sixth */
    j = submit(h, 2, &sp);
    run_all(h);
    assert_int_equal(j->choice[0].n_tokens, 6);
    assert_int_equal(j->choice[0].end.reason, FINISH_STOP);
    assert_quiet(h);
    harness_close(h);
}

static void a_stop_string_ends_a_choice_and_is_not_part_of_its_text(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 5);
    sp.head.flags = JOB_IGNORE_EOS;
    sp.head.max_tokens = 40;
    struct seen *free_run = submit(h, 1, &sp);
    run_all(h);
    /* A stop string out of the middle of what it says anyway, with a decoy that only begins like
     * it. */
    char stop[4] = {0}, decoy[5] = {0};
    memcpy(stop, free_run->choice[0].text + 10, 3);
    memcpy(decoy, free_run->choice[0].text + 4, 3);
    decoy[3] = '#';
    sp.stops[0] = decoy, sp.stops[1] = stop;
    struct seen *j = submit(h, 2, &sp);
    run_all(h);
    assert_int_equal(j->choice[0].end.reason, FINISH_STOP);
    assert_int_equal(j->choice[0].end.stop_index, 1);
    assert_int_equal(j->choice[0].n_text, 10);
    assert_memory_equal(j->choice[0].text, free_run->choice[0].text, 10);
    assert_in_range(j->choice[0].n_tokens, 13, 20); /* reasoning marks have no letters */

    sp.head.max_tokens = 12; /* ends while "stop" is half there: what was held back comes out */
    sp.stops[0] = NULL;
    j = submit(h, 3, &sp);
    run_all(h);
    assert_int_equal(j->choice[0].end.reason, FINISH_LENGTH);
    assert_memory_equal(j->choice[0].text, free_run->choice[0].text, j->choice[0].n_text);
    assert_int_equal(j->choice[0].n_tokens, 12);
    harness_close(h);
}

static void a_prompt_that_does_not_fit_the_context_is_refused_with_numbers(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.context = 32});
    struct spec sp = spec_of(abc, 32);
    struct seen *j = submit(h, 1, &sp);
    assert_true(j->failed);
    assert_int_equal(j->failure.err, ERR_CONTEXT_LENGTH);
    assert_int_equal(j->failure.param, PARAM_PROMPT);
    assert_int_equal(j->failure.prompt_tokens, 32);
    assert_int_equal(j->failure.context, 32);
    assert_non_null(strstr(j->message, "maximum context length is 32 tokens"));

    sp = spec_of(abc, 20);
    sp.head.max_tokens = 13;
    j = submit(h, 2, &sp);
    assert_int_equal(j->failure.err, ERR_CONTEXT_LENGTH);
    assert_int_equal(j->failure.param, PARAM_MAX_TOKENS);
    assert_non_null(strstr(j->message, "33"));

    sp.head.max_tokens = 12; /* exactly full */
    sp.head.flags = JOB_IGNORE_EOS;
    j = submit(h, 3, &sp);
    run_all(h);
    assert_int_equal(j->finished.completion_tokens, 12);
    sp.head.max_tokens = 0; /* what the context leaves */
    j = submit(h, 4, &sp);
    run_all(h);
    assert_int_equal(j->finished.completion_tokens, 12);
    assert_int_equal(j->choice[0].end.reason, FINISH_LENGTH);
    sp = spec_of(abc, 31);
    sp.head.max_tokens = 0;
    j = submit(h, 5, &sp);
    run_all(h);
    assert_int_equal(j->finished.completion_tokens, 1);
    sp = spec_of(abc, 0);
    j = submit(h, 6, &sp);
    assert_int_equal(j->failure.err, ERR_INVALID);
    assert_quiet(h);
    harness_close(h);
}

static void choices_of_a_job_compute_their_prompt_once_and_differ(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 33);
    sp.head.n = 4;
    sp.head.max_tokens = 8;
    sp.head.flags = JOB_IGNORE_EOS;
    struct seen *j = submit(h, 1, &sp);
    run_all(h);
    assert_int_equal(j->finished.completion_tokens, 32);
    /* 33 once, then one token each beyond the eight blocks of four; 7 decoded positions each */
    assert_int_equal(j->finished.computed_tokens, 33 + 3 * 1 + 4 * 7);
    assert_int_equal(j->finished.prompt_tokens, 33);
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < a; b++)
            assert_memory_not_equal(j->choice[a].tokens, j->choice[b].tokens, 8 * sizeof(int32_t));
    assert_quiet(h);
    harness_close(h);
}

static void equal_prompts_that_arrive_together_are_computed_once(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 37);
    sp.head.max_tokens = 1;
    struct seen *j[6];
    for (int i = 0; i < 6; i++)
        j[i] = submit(h, (uint64_t)i + 1, &sp);
    run_all(h);
    assert_int_equal(h->fake.n_positions, 37 + 5);
    for (int i = 1; i < 6; i++) {
        assert_int_equal(j[i]->admission.cached_tokens, 36);
        assert_int_equal(j[i]->finished.cached_tokens, 36);
        assert_int_equal(j[i]->finished.computed_tokens, 1);
        assert_same_answer(j[0], j[i], 1);
    }
    sp.head.flags = JOB_NO_PREFIX_CACHE;
    struct seen *own = submit(h, 10, &sp);
    run_all(h);
    assert_int_equal(own->admission.cached_tokens, 0);
    assert_int_equal(own->finished.computed_tokens, 37);
    assert_same_answer(j[0], own, 1);
    sp.head.flags = 0;
    sp.head.cache_salt = 1; /* another tenant */
    own = submit(h, 11, &sp);
    run_all(h);
    assert_int_equal(own->admission.cached_tokens, 0);
    harness_close(h);
}

static bool has_duplicate(const struct seen_choice *c)
{
    for (uint32_t i = 0; i < c->n_tokens; i++)
        for (uint32_t k = 0; k < i; k++)
            if (c->tokens[i] == c->tokens[k])
                return true;
    return false;
}

static void sampling_parameters_reach_the_sampler(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 26);
    sp.head.flags = JOB_IGNORE_EOS;
    sp.head.max_tokens = 20;
    struct seen *a = submit(h, 1, &sp), *b = submit(h, 2, &sp);
    sp.head.seed++;
    struct seen *c = submit(h, 3, &sp);
    sp.head.temperature = 0;
    struct seen *greedy = submit(h, 4, &sp);
    sp.head.presence_penalty =
        100; /* of the completion: the prompt has all letters, and doesn't count */
    struct seen *once = submit(h, 5, &sp);
    struct logit_bias bias = {9, 100};
    sp.bias = &bias, sp.n_bias = 1;
    sp.head.presence_penalty = 0;
    sp.head.flags |= JOB_LOGPROBS;
    struct seen *only = submit(h, 6, &sp);
    run_all(h);
    assert_same_answer(a, b, 1);
    assert_memory_not_equal(a->choice[0].tokens, c->choice[0].tokens, 20 * sizeof(int32_t));
    assert_true(has_duplicate(&greedy->choice[0]));
    assert_false(has_duplicate(&once->choice[0]));
    assert_int_equal(once->choice[0].tokens[0], greedy->choice[0].tokens[0]);
    for (int i = 0; i < 20; i++)
        assert_int_equal(only->choice[0].tokens[i], 9);
    assert_true(only->choice[0].logprob_sum < -20);  /* the model's own opinion of it */
    assert_true(greedy->choice[0].logprob_sum == 0); /* not asked for */
    harness_close(h);
}

static void a_long_prompt_never_stalls_other_streams(void **state)
{
    (void)state;
    struct harness *h =
        harness_open((struct room){.step_tokens = 24, .context = 600, .blocks = 400});
    int32_t longer[500];
    for (int i = 0; i < 500; i++)
        longer[i] = i * 7 % 26;
    struct spec chat = spec_of(abc, 5), big = spec_of(longer, 500);
    chat.head.flags = JOB_IGNORE_EOS;
    chat.head.max_tokens = 100;
    struct seen *a = submit(h, 1, &chat);
    sched_step(h->s);
    struct seen *b = submit(h, 2, &big);
    uint32_t steps = 0;
    while (b->choice[0].n_tokens == 0) {
        uint32_t before = a->choice[0].n_tokens;
        assert_true(sched_step(h->s));
        assert_int_equal(a->choice[0].n_tokens, before + 1); /* every step brings its token */
        steps++;
    }
    assert_in_range(steps, 500 / 24, 500 / 16);
    run_all(h);
    assert_quiet(h);
    harness_close(h);
}

static void prefill_is_cut_so_that_a_step_takes_the_time_it_should(void **state)
{
    (void)state;
    int32_t longer[500];
    for (int i = 0; i < 500; i++)
        longer[i] = i * 7 % 26;
    struct harness *h = harness_open(
        (struct room){.step_tokens = 400, .context = 600, .blocks = 400, .target_ns = 40000});
    h->fake.ns_per_token = 1000; /* 40 positions in a target's time */
    struct spec chat = spec_of(abc, 5), big = spec_of(longer, 500);
    chat.head.flags = JOB_IGNORE_EOS;
    chat.head.max_tokens = 100;
    submit(h, 1, &chat);
    sched_step(h->s);
    struct seen *b = submit(h, 2, &big);
    while (b->choice[0].n_tokens == 0) {
        uint64_t before = h->fake.now_ns;
        sched_step(h->s);
        assert_in_range(h->fake.now_ns - before, 1, 48000);
    }
    run_all(h);
    assert_in_range(h->fake.max_chunk, 24, 44);
    sched_cancel(h->s, 1);
    h->fake.max_chunk = 0;
    longer[0] = 25;
    b = submit(h, 3, &big); /* nobody waits for a token now: larger bites */
    run_all(h);
    assert_in_range(h->fake.max_chunk, 120, 164);
    harness_close(h);
}

static void a_cancel_is_obeyed_at_once_in_every_phase_and_frees_everything(void **state)
{
    (void)state;
    for (int phase = 0; phase < 6; phase++) {
        struct harness *h = harness_open((struct room){.slots = 2, .step_tokens = 8});
        struct spec other = spec_of(abc + 3, 9), sp = spec_of(abc, 40);
        sp.head.flags = other.head.flags = JOB_IGNORE_EOS;
        sp.head.n = 2;
        struct seen *o = submit(h, 1, &other), *p = NULL;
        if (phase == 2)
            p = submit(h, 3, &other); /* takes the second slot: our job waits */
        sched_step(h->s);
        struct seen *j = announce(h, 2);
        if (phase > 0)
            sched_ready(h->s, 2, make_req(&sp));
        int steps = phase == 2 ? 1 : phase == 3 ? 2 : phase >= 4 ? 12 : 0;
        for (int i = 0; i < steps; i++)
            sched_step(h->s);
        if (phase == 5)
            sched_pause(h->s, 2);
        assert_int_equal(j->admitted, phase >= 3);
        assert_int_equal(j->choice[0].n_tokens > 0, phase >= 4);
        uint32_t tokens = j->choice[0].n_tokens + j->choice[1].n_tokens;

        sched_cancel(h->s, 2);

        assert_true(j->over && !j->failed);
        assert_int_equal(j->finished.reason, FINISH_CANCELLED);
        assert_int_equal(j->finished.completion_tokens, tokens);
        sched_cancel(h->s, 2); /* crossed: no harm */
        sched_pause(h->s, 2);
        if (phase == 0)
            sched_ready(h->s, 2, make_req(&sp)); /* the prompt comes too late */
        run_all(h);
        assert_int_equal(o->finished.completion_tokens, 24);
        if (p)
            assert_int_equal(p->finished.completion_tokens, 24);
        assert_quiet(h);
        harness_close(h);
    }
}

static void a_paused_job_is_not_stepped_and_others_are(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 9);
    sp.head.flags = JOB_IGNORE_EOS;
    struct seen *alone = submit(h, 1, &sp);
    run_all(h);
    struct seen *a = submit(h, 2, &sp), *b = submit(h, 3, &sp);
    for (int i = 0; i < 5; i++)
        sched_step(h->s);
    uint32_t had = a->choice[0].n_tokens, positions = (uint32_t)h->fake.n_positions;
    assert_true(had > 0);
    sched_pause(h->s, 2);
    run_all(h);
    assert_true(b->over);
    assert_int_equal(a->choice[0].n_tokens, had);
    assert_false(sched_step(h->s));
    assert_false(sched_idle(h->s));
    struct sched_stats st;
    sched_stats(h->s, &st);
    assert_int_equal(st.running, 0);
    assert_true(st.kv_blocks_used > 0);
    sched_resume(h->s, 2);
    positions = (uint32_t)h->fake.n_positions;
    run_all(h);
    assert_int_equal(h->fake.n_positions - positions, 24 - had); /* it kept its blocks */
    assert_same_answer(alone, a, 1);
    assert_quiet(h);
    harness_close(h);
}

static void a_paused_job_gives_its_blocks_to_others_and_goes_on_exactly(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.blocks = 16, .context = 64});
    struct spec sp = spec_of(abc, 20), other = spec_of(abc + 7, 30);
    sp.head.flags = JOB_IGNORE_EOS;
    other.head.flags = JOB_IGNORE_EOS;
    other.head.max_tokens = 30;
    struct seen *alone = submit(h, 1, &sp);
    run_all(h);
    struct seen *a = submit(h, 2, &sp);
    for (int i = 0; i < 6; i++)
        sched_step(h->s);
    sched_pause(h->s, 2);
    struct seen *b = submit(h, 3, &other);
    run_all(h);
    assert_true(b->over && !b->failed);
    struct sched_stats st;
    sched_stats(h->s, &st);
    assert_true(st.preemptions > 0);
    sched_resume(h->s, 2);
    run_all(h);
    assert_same_answer(alone, a, 1);
    assert_quiet(h);
    harness_close(h);
}

static void higher_priority_goes_first_then_first_come(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){.slots = 1, .step_tokens = 64});
    struct seen *j[4];
    for (int i = 0; i < 4; i++) {
        struct spec sp = spec_of(abc + i, 6);
        sp.head.flags = JOB_IGNORE_EOS;
        sp.head.priority = i == 3 ? 5 : 0;
        if (i == 3) /* the others are there already */
            for (int k = 0; k < 3; k++)
                sched_step(h->s);
        j[i] = submit(h, (uint64_t)i + 1, &sp);
    }
    assert_true(j[0]->choice[0].n_tokens > 0);
    sched_step(h->s);
    assert_int_equal(j[3]->choice[0].n_tokens, 1); /* the slot was taken from the first */
    int order[4], n = 0;
    while (sched_step(h->s))
        for (int i = 0; i < 4; i++)
            if (j[i]->over && j[i]->n_events) {
                order[n++] = i;
                j[i]->n_events = 0;
            }
    for (int i = 0; i < 4; i++)
        if (j[i]->over && j[i]->n_events)
            order[n++] = i;
    assert_int_equal(n, 4);
    assert_memory_equal(order, ((int[]){3, 0, 1, 2}), sizeof order);
    assert_quiet(h);
    harness_close(h);
}

static void a_job_past_its_deadline_fails_and_others_go_on(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec sp = spec_of(abc, 9), late = spec_of(abc + 2, 9);
    sp.head.flags = late.head.flags = JOB_IGNORE_EOS;
    late.head.deadline_ns = h->fake.now_ns + 15000;
    struct seen *a = submit(h, 1, &sp), *b = submit(h, 2, &late);
    assert_int_equal(sched_next_deadline_ns(h->s), late.head.deadline_ns);
    run_all(h);
    assert_true(b->failed);
    assert_int_equal(b->failure.err, ERR_TIMEOUT);
    assert_in_range(b->choice[0].n_tokens, 0, 20);
    assert_int_equal(a->finished.completion_tokens, 24);
    assert_int_equal(sched_next_deadline_ns(h->s), 0);
    assert_quiet(h);
    harness_close(h);
}

static void what_is_wrong_with_one_job_never_hurts_another(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct spec good = spec_of(abc, 9);
    good.head.flags = JOB_IGNORE_EOS;
    struct seen *alone = submit(h, 1, &good);
    run_all(h);
    const int32_t nan_prompt[] = {1, FAKE_NAN, 2}, bad_prompt[] = {1, 2, FAKE_BAD};
    struct spec nan = spec_of(nan_prompt, 3), bad = spec_of(bad_prompt, 3);
    nan.head.n = 3;
    struct seen *a = submit(h, 2, &good), *b = submit(h, 3, &nan), *c = submit(h, 4, &bad);
    struct seen *d = submit(h, 5, &good);
    h->fake.fail_steps = 2; /* and two steps fail for no job's fault */
    run_all(h);
    assert_same_answer(alone, a, 1);
    assert_same_answer(alone, d, 1);
    assert_true(b->failed && c->failed);
    assert_int_equal(b->failure.err, ERR_INTERNAL);
    assert_non_null(strstr(b->message, "not a number"));
    assert_non_null(strstr(c->message, "a bad token"));
    assert_quiet(h);
    harness_close(h);
}

static void what_could_not_be_prepared_fails_once(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    struct seen *j = announce(h, 1);
    assert_int_equal(sched_announce(h->s, 1), ERR_EXISTS);
    struct job_fault fault;
    job_fault_set(&fault, ERR_TEMPLATE, PARAM_MESSAGES, "roles must alternate");
    sched_refuse(h->s, 1, &fault);
    assert_int_equal(j->failure.err, ERR_TEMPLATE);
    assert_int_equal(j->failure.param, PARAM_MESSAGES);
    assert_string_equal(j->message, "roles must alternate");
    sched_refuse(h->s, 1, &fault);
    assert_quiet(h);
    harness_close(h);
}

static void a_budget_too_small_for_the_slots_is_refused(void **state)
{
    (void)state;
    struct fake f;
    fake_open(&f, 16, 19, 64, 64);
    struct sched *s = NULL;
    struct sched_opts o = {0};
    struct errmsg why = {""};
    assert_int_equal(sched_open(&s, &f.engine, &o, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "too small for 16 slots"));
    f.engine.max_step_tokens = 20;
    f.engine.kv_blocks = 15; /* less than one context */
    assert_int_equal(sched_open(&s, &f.engine, &o, &why), ERR_INVALID);
    fake_close(&f);
}

/* --- more text than a record should have
 * ------------------------------------------------------------------------------------------ */

struct lengths {
    size_t text, records, longest, tokens;
    bool whole; /* each record has whole code points */
};

static void take_lengths(void *user, const struct msg *m)
{
    struct lengths *l = user;
    if (m->type != REC_DELTA)
        return;
    l->records++;
    l->tokens += m->delta.n_tokens;
    l->text += m->delta.text.n;
    l->longest = m->delta.text.n > l->longest ? m->delta.text.n : l->longest;
    l->whole &= m->delta.text.n % 3 == 0;
}

static uint64_t no_time(void *user)
{
    (void)user;
    return 1;
}

static enum err much_at_the_end(struct text_pipe *p, struct text_out *out)
{
    (void)p;
    for (int i = 0; i < 700000; i++)
        buf_puts(&out->text, "\xe2\x82\xac");
    return ERR_OK;
}

static void text_longer_than_the_ring_is_told_in_several_records(void **state)
{
    (void)state;
    struct fake fake;
    struct lengths l = {.whole = true};
    struct sched *s;
    struct errmsg why = {""};
    const struct sched_opts o = {.now_ns = no_time, .emit = take_lengths, .user = &l};
    fake_open(&fake, 4, 64, 64, 128);
    fake.end_bias = 100;
    fake.engine.text_end = much_at_the_end;
    assert_int_equal(sched_open(&s, &fake.engine, &o, &why), ERR_OK);
    struct spec sp = spec_of(abc, 3);
    assert_int_equal(sched_announce(s, 1), ERR_OK);
    sched_ready(s, 1, make_req(&sp));
    while (sched_step(s))
        ;
    assert_int_equal(l.text, 2100000);
    assert_int_equal(l.tokens, 1); /* the end token, once */
    assert_true(l.longest <= SCHED_DELTA_BYTES && l.whole);
    sched_close(s);
    fake_close(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_longer_than_the_ring_is_told_in_several_records),
        cmocka_unit_test(a_job_is_admitted_streamed_and_finished_with_exact_counts),
        cmocka_unit_test(the_end_token_ends_a_choice_and_is_counted),
        cmocka_unit_test(a_stop_string_ends_a_choice_and_is_not_part_of_its_text),
        cmocka_unit_test(a_prompt_that_does_not_fit_the_context_is_refused_with_numbers),
        cmocka_unit_test(choices_of_a_job_compute_their_prompt_once_and_differ),
        cmocka_unit_test(equal_prompts_that_arrive_together_are_computed_once),
        cmocka_unit_test(sampling_parameters_reach_the_sampler),
        cmocka_unit_test(a_long_prompt_never_stalls_other_streams),
        cmocka_unit_test(prefill_is_cut_so_that_a_step_takes_the_time_it_should),
        cmocka_unit_test(a_cancel_is_obeyed_at_once_in_every_phase_and_frees_everything),
        cmocka_unit_test(a_paused_job_is_not_stepped_and_others_are),
        cmocka_unit_test(a_paused_job_gives_its_blocks_to_others_and_goes_on_exactly),
        cmocka_unit_test(higher_priority_goes_first_then_first_come),
        cmocka_unit_test(a_job_past_its_deadline_fails_and_others_go_on),
        cmocka_unit_test(what_is_wrong_with_one_job_never_hurts_another),
        cmocka_unit_test(what_could_not_be_prepared_fails_once),
        cmocka_unit_test(a_budget_too_small_for_the_slots_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
