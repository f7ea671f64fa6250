/* What a job gets never depends on others, on chunks, on preemption, or on which worker began it.
 */
#include "tests/unit/worker/sched/harness.h"

static struct harness *solo_run(unsigned seed)
{
    struct random_job r;
    random_job(&r, seed);
    struct harness *h = harness_open((struct room){0});
    submit(h, seed, &r.spec);
    run_all(h);
    return h;
}

/* Everybody at once in a narrow room, arriving over time, equals everybody alone in a roomy one. */
static void crowd(struct room room, unsigned first, unsigned n, bool must_preempt)
{
    struct harness *h = harness_open(room);
    for (unsigned i = 0; i < n; i++) {
        struct random_job r;
        random_job(&r, first + i);
        submit(h, first + i, &r.spec);
        for (unsigned k = (first + i) % 4; k > 0; k--)
            sched_step(h->s);
        audit(h);
    }
    run_all(h);
    assert_quiet(h);
    struct sched_stats st;
    sched_stats(h->s, &st);
    if (must_preempt)
        assert_true(st.preemptions > 10);
    for (unsigned i = 0; i < n; i++) {
        struct random_job r;
        random_job(&r, first + i);
        struct harness *alone = solo_run(first + i);
        assert_same_answer(&alone->seen[0], seen_of(h, first + i), r.spec.head.n);
        harness_close(alone);
    }
    harness_close(h);
}

static void answers_under_load_equal_answers_alone(void **state)
{
    (void)state;
    crowd((struct room){.slots = 32, .step_tokens = 200}, 1000, 60, false);
    crowd((struct room){.slots = 8, .step_tokens = 12}, 2000, 60, false);
    crowd((struct room){.slots = 3, .step_tokens = 7}, 3000, 40, false);
}

static void answers_after_preemption_equal_answers_alone(void **state)
{
    (void)state;
    crowd((struct room){.slots = 16, .step_tokens = 40, .blocks = 40}, 4000, 60, true);
    crowd((struct room){.slots = 8, .step_tokens = 12, .blocks = 33}, 5000, 60, true);
}

/* A ring of 6 + 7 tokens is 6 blocks; 8 rings for 8 slots would be 48. */
static void windows_give_what_keeping_everything_gives(void **state)
{
    (void)state;
    crowd((struct room){.slots = 32, .step_tokens = 64, .window = 6}, 1000, 60, false);
    crowd((struct room){.slots = 8, .step_tokens = 12, .window = 13, .window_blocks = 40}, 2000, 60,
          false);
    crowd((struct room){.slots = 3, .step_tokens = 7, .window = 1}, 3000, 40, false);
    crowd((struct room){.slots = 6, .step_tokens = 10, .window = 8, .chunked = true}, 2000, 60,
          false);
    crowd((struct room){.slots = 8, .step_tokens = 12, .blocks = 33, .window = 9}, 5000, 60, true);
    crowd((struct room){.slots = 8, .step_tokens = 12, .window = 5, .window_blocks = 9}, 5000, 60,
          true);
}

static void a_replay_cut_at_any_token_continues_without_a_seam(void **state)
{
    (void)state;
    unsigned ended_in_replay = 0, cuts = 0;
    for (unsigned seed = 7000; seed < 7060; seed++) {
        struct random_job r;
        random_job(&r, seed);
        struct harness *full = solo_run(seed);
        const struct seen *want = &full->seen[0];
        uint32_t n = r.spec.head.n, longest = 0;
        for (uint32_t c = 0; c < n; c++)
            longest = want->choice[c].n_tokens > longest ? want->choice[c].n_tokens : longest;
        for (uint32_t cut = 0; cut <= longest; cut++, cuts++) {
            /* A first worker that dies after `cut` tokens of each choice (or its end) ... */
            struct harness *first = harness_open((struct room){0});
            struct random_job part = r;
            part.spec.prompt = part.prompt;
            part.spec.bias = &part.bias;
            for (uint32_t c = 0; c < n; c++) {
                part.spec.replay[c].tokens = want->choice[c].tokens;
                part.spec.replay[c].text_bytes = UINT32_MAX; /* all of it arrived */
                part.spec.replay[c].n =
                    cut < want->choice[c].n_tokens ? cut : want->choice[c].n_tokens;
            }
            /* ... and a second that gets them back. What it says must be the rest. */
            struct seen *got = submit(first, seed, &part.spec);
            run_all(first);
            assert_quiet(first);
            assert_false(got->failed);
            for (uint32_t c = 0; c < n; c++) {
                const struct seen_choice *w = &want->choice[c], *g = &got->choice[c];
                uint32_t had = (uint32_t)part.spec.replay[c].n;
                assert_int_equal(g->n_tokens, w->n_tokens - had);
                assert_memory_equal(g->tokens, w->tokens + had, g->n_tokens * sizeof(int32_t));
                assert_memory_equal(&g->end, &w->end, sizeof g->end);
                ended_in_replay += had == w->n_tokens;
            }
            assert_int_equal(got->finished.completion_tokens, want->finished.completion_tokens);
            assert_int_equal(got->finished.reasoning_tokens, want->finished.reasoning_tokens);
            assert_int_equal(got->finished.reason, want->finished.reason);
            harness_close(first);
        }
        harness_close(full);
    }
    assert_true(cuts > 500 && ended_in_replay > 50);
}

/* Letters only: the kind marks depend on what the harness saw before. */
static size_t letters(const struct seen_choice *c, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_text; i++)
        if (c->text[i] != '|')
            out[n++] = c->text[i];
    return n;
}

static void text_before_and_after_a_cut_is_the_whole_text(void **state)
{
    (void)state;
    for (unsigned seed = 8000; seed < 8100; seed++) {
        struct random_job r;
        random_job(&r, seed);
        r.spec.head.n = 1;
        r.spec.stops[0] = "ab", r.spec.stops[1] = "bcd",
        r.spec.stops[2] = "xyz"; /* held back often */
        struct harness *h = harness_open((struct room){0});
        struct seen *want = submit(h, 1, &r.spec), *died = submit(h, 2, &r.spec);
        while (!want->over) {
            sched_step(h->s);
            if (died->choice[0].n_tokens == seed % 17)
                break;
        }
        int32_t delivered[SEEN_TOKENS];
        uint32_t n = died->choice[0].n_tokens;
        memcpy(delivered, died->choice[0].tokens, n * sizeof delivered[0]);
        sched_cancel(h->s, 2);
        struct spec again = r.spec;
        again.replay[0].tokens = delivered;
        again.replay[0].n = n;
        char had[SEEN_TEXT];
        again.replay[0].text_bytes = (uint32_t)letters(&died->choice[0], had);
        struct seen *got = submit(h, 3, &again);
        run_all(h);
        char whole[SEEN_TEXT], pieces[2 * SEEN_TEXT];
        size_t n_whole = letters(&want->choice[0], whole),
               n_pieces = letters(&died->choice[0], pieces);
        n_pieces += letters(&got->choice[0], pieces + n_pieces);
        assert_int_equal(n_pieces, n_whole);
        assert_memory_equal(pieces, whole, n_whole);
        harness_close(h);
    }
}

static void a_replay_tells_the_text_that_had_not_arrived_from_any_byte(void **state)
{
    (void)state;
    unsigned ended = 0, calls = 0;
    for (unsigned seed = 9000; seed < 9040; seed++) {
        struct random_job r;
        random_job(&r, seed);
        r.spec.head.n = 1;
        r.spec.stops[0] = "ab", r.spec.stops[1] = "bcd", r.spec.stops[2] = "xyz";
        struct harness *h = harness_open((struct room){0});
        struct seen *want = submit(h, 1, &r.spec);
        run_all(h);
        char whole[SEEN_TEXT], rest[SEEN_TEXT];
        size_t n_whole = letters(&want->choice[0], whole);
        calls += memchr(whole, 'N', n_whole) != NULL;
        for (size_t arrived = 0; arrived <= n_whole; arrived++, ended++) {
            struct harness *second = harness_open((struct room){0});
            struct spec again = r.spec;
            again.replay[0].tokens = want->choice[0].tokens;
            again.replay[0].n = want->choice[0].n_tokens;
            again.replay[0].text_bytes = (uint32_t)arrived;
            struct seen *got = submit(second, 2, &again);
            run_all(second);
            assert_true(got->over && !got->failed);
            assert_int_equal(letters(&got->choice[0], rest), n_whole - arrived);
            assert_memory_equal(rest, whole + arrived, n_whole - arrived);
            assert_int_equal(got->choice[0].n_tokens, 0);
            harness_close(second);
        }
        harness_close(h);
    }
    assert_true(ended > 100 && calls > 4);
}

static void a_replay_that_goes_on_after_its_end_is_refused(void **state)
{
    (void)state;
    struct harness *h = harness_open((struct room){0});
    const int32_t prompt[] = {1, 2, 3}, replay[] = {4, FAKE_END, 5};
    struct spec sp = spec_of(prompt, 3);
    sp.replay[0].tokens = replay;
    sp.replay[0].text_bytes = UINT32_MAX;
    sp.replay[0].n = 3;
    struct seen *j = submit(h, 1, &sp);
    assert_true(j->failed);
    assert_int_equal(j->failure.err, ERR_INVALID);
    sp.replay[0].n = 2;
    j = submit(h, 2, &sp); /* all said: only the end is told */
    assert_true(j->over && !j->failed && j->admitted);
    assert_int_equal(j->choice[0].end.reason, FINISH_STOP);
    assert_int_equal(j->finished.completion_tokens, 2);
    assert_int_equal(j->finished.computed_tokens, 0);
    assert_quiet(h);
    harness_close(h);
}

/* Anything may happen at any time; in the end every job has had exactly one terminal event (the
 * harness refuses a second), nothing is held, and who was left alone got what it gets alone. */
static void any_schedule_ends_every_job_exactly_once(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 25; seed++) {
        struct room room = {.slots = 2 + seed % 7,
                            .step_tokens = 12 + seed % 40,
                            .blocks = 33 + seed * 3,
                            .target_ns = seed % 3 ? 9000 : 0};
        if (seed % 2) {
            room.window = 1 + seed % 11;
            room.chunked = seed % 4 == 3;
        }
        struct harness *h = harness_open(room);
        bool touched[300] = {false};
        unsigned n = 0, dice = seed * 7919 + 1;
        for (int turn = 0; turn < 900; turn++) {
            dice = dice * 1103515245 + 12345;
            unsigned what = (dice >> 16) % 16, who = n ? (dice >> 8) % n : 0;
            uint64_t id = who + 1;
            if (what < 4 && n < 300) {
                struct random_job r;
                random_job(&r, seed * 1000 + n);
                if ((dice >> 20) % 16 == 0) {
                    r.prompt[0] = (dice >> 25) % 2 ? FAKE_NAN : FAKE_BAD;
                    touched[n] = true;
                }
                if ((dice >> 20) % 16 == 1) {
                    r.spec.head.deadline_ns = h->fake.now_ns + (dice >> 12) % 200000;
                    touched[n] = true;
                }
                submit(h, ++n, &r.spec);
            } else if (what == 4 && n) {
                sched_cancel(h->s, id);
                touched[who] = true;
            } else if (what == 5 && n) {
                sched_pause(h->s, id);
            } else if (what == 6 && n) {
                sched_resume(h->s, id);
            } else if (what == 7) {
                h->fake.fail_steps = 1;
            } else {
                sched_step(h->s);
            }
            audit(h);
        }
        for (unsigned i = 0; i < n; i++)
            sched_resume(h->s, i + 1);
        run_all(h);
        assert_quiet(h);
        for (unsigned i = 0; i < n; i++) {
            if (touched[i])
                continue;
            struct random_job r;
            random_job(&r, seed * 1000 + i);
            struct harness *alone = solo_run(seed * 1000 + i);
            assert_same_answer(&alone->seen[0], seen_of(h, i + 1), r.spec.head.n);
            harness_close(alone);
        }
        harness_close(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_under_load_equal_answers_alone),
        cmocka_unit_test(answers_after_preemption_equal_answers_alone),
        cmocka_unit_test(windows_give_what_keeping_everything_gives),
        cmocka_unit_test(a_replay_cut_at_any_token_continues_without_a_seam),
        cmocka_unit_test(text_before_and_after_a_cut_is_the_whole_text),
        cmocka_unit_test(a_replay_tells_the_text_that_had_not_arrived_from_any_byte),
        cmocka_unit_test(a_replay_that_goes_on_after_its_end_is_refused),
        cmocka_unit_test(any_schedule_ends_every_job_exactly_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
