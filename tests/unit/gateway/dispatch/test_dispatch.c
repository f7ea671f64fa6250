/* What the dispatcher promises, shown with scripted worker processes: exactly one end per job, no
 * byte lost or repeated when a worker dies, a row for every job. */
#include "gateway/dispatch/dispatch.h"
#include "shared/base/clock.h"
#include "shared/ipc/body.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { LIMIT_MS = 10000 };

struct client { /* what one caller saw */
    struct buf text;
    uint32_t tokens, ends, prompt_tokens, choices_done;
    enum err failed;
    char message[256];
    struct job_usage usage;
    struct job *job;
    bool cancel_at_first_delta;
    uint32_t n_vectors;
    float first[16]; /* the first value of each */
};

struct house {
    uv_loop_t loop;
    struct usage *usage;
    struct dispatch *d;
    struct model_config model;
    struct usage_row rows[64];
    int n_rows;
    char dir[64], script[128];
    char model_error[256];
    bool closed;
};

static void on_admitted(void *user, uint32_t prompt, uint32_t cached)
{
    (void)cached;
    ((struct client *)user)->prompt_tokens = prompt;
}

static void on_delta(void *user, const struct job_delta *d)
{
    struct client *c = user;
    assert_int_equal(c->ends, 0);
    buf_put(&c->text, d->text.p, d->text.n);
    c->tokens += d->n_tokens;
    job_delivered(c->job, d->n_tokens);
    if (c->cancel_at_first_delta) {
        job_cancel(c->job, "client_gone");
        c->ends++;
    }
}

static void on_embedding(void *user, uint32_t index, const float *v, uint32_t n_dims,
                         uint32_t n_tokens)
{
    struct client *c = user;
    assert_int_equal(index, c->n_vectors); /* each once, in order */
    assert_int_equal(n_dims, 4);
    assert_int_equal(n_tokens, 2);
    memcpy(&c->first[c->n_vectors++], v, sizeof(float));
}

static void on_choice_done(void *user, uint32_t choice, enum finish_reason reason)
{
    (void)choice, (void)reason;
    ((struct client *)user)->choices_done++;
}

static void on_finished(void *user, const struct job_usage *u)
{
    struct client *c = user;
    c->ends++;
    c->usage = *u;
}

static void on_failed(void *user, enum err e, enum job_param param, const char *message,
                      const struct job_usage *u)
{
    (void)param;
    struct client *c = user;
    c->ends++;
    c->failed = e;
    c->usage = *u;
    snprintf(c->message, sizeof(c->message), "%s", message);
}

static void on_job_end(void *app, const struct usage_row *row)
{
    struct house *h = app;
    h->rows[h->n_rows++] = *row;
}

static void on_model_state(void *app, const struct model_config *m, const char *error)
{
    (void)m;
    struct house *h = app;
    snprintf(h->model_error, sizeof(h->model_error), "%s", error ? error : "");
}

static void house_open(struct house *h, const char *script, uint32_t queue_limit, int replicas,
                       uint32_t stall_ms)
{
    *h = (struct house){0};
    snprintf(h->dir, sizeof(h->dir), "/tmp/millrace-test-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    snprintf(h->script, sizeof(h->script), "%s/script.json", h->dir);
    FILE *f = fopen(h->script, "w");
    assert_non_null(f);
    fputs(script, f);
    fclose(f);
    uv_loop_init(&h->loop);
    uint32_t recovered;
    struct errmsg why = {0};
    struct usage_options uo = {.data_dir = h->dir, .max_jobs = 256};
    assert_int_equal(usage_open(&h->usage, &uo, &recovered, &why), ERR_OK);
    h->model = (struct model_config){.name = STR("fake"),
                                     .path = h->script,
                                     .replicas = replicas,
                                     .queue_limit = queue_limit,
                                     .slots = 4};
    static char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    assert_true(n > 0);
    program[n] = 0;
    char *unit = strstr(program, "/test/unit/");
    assert_non_null(unit);
    snprintf(unit, sizeof(program) - (size_t)(unit - program),
             "/test/fakeworker"); /* same flavour as this test */
    struct dispatch_options o = {.loop = &h->loop,
                                 .models = &h->model,
                                 .n_models = 1,
                                 .worker_path = program,
                                 .usage = h->usage,
                                 .stall_ms = stall_ms,
                                 .on_job_end = on_job_end,
                                 .on_model_state = on_model_state,
                                 .app = h};
    assert_int_equal(dispatch_open(&h->d, &o, &why), ERR_OK);
}

static void on_house_closed(void *user)
{
    ((struct house *)user)->closed = true;
}

static void house_close(struct house *h)
{
    dispatch_close(h->d, on_house_closed, h);
    while (!h->closed)
        uv_run(&h->loop, UV_RUN_ONCE);
    assert_int_equal(uv_loop_close(&h->loop), 0); /* no handle is left behind */
    usage_close(h->usage);
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", h->dir);
    assert_int_equal(system(cmd), 0);
}

static void on_tick(uv_timer_t *t)
{
    (void)t;
}

#define RUN_UNTIL(h, condition)                                                                    \
    do {                                                                                           \
        uv_timer_t tick_;                                                                          \
        uv_timer_init(&(h)->loop, &tick_);                                                         \
        uv_timer_start(&tick_, on_tick, 5, 5);                                                     \
        uint64_t end_ = clock_mono_ms() + LIMIT_MS;                                                \
        while (!(condition) && clock_mono_ms() < end_)                                             \
            uv_run(&(h)->loop, UV_RUN_ONCE);                                                       \
        uv_close((uv_handle_t *)&tick_, NULL);                                                     \
        uv_run(&(h)->loop, UV_RUN_NOWAIT);                                                         \
        assert_true(condition);                                                                    \
    } while (0)

static const struct job_sink sink = {.on_admitted = on_admitted,
                                     .on_delta = on_delta,
                                     .on_choice_done = on_choice_done,
                                     .on_embedding = on_embedding,
                                     .on_finished = on_finished,
                                     .on_failed = on_failed};

static enum err try_submit(struct house *h, struct client *c)
{
    *c = (struct client){0};
    buf_init(&c->text);
    struct job_head head = {.n = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1};
    struct job_spec spec = {
        .model = STR("fake"), .dialect = STR("chat"), .request_id = STR("req_1")};
    buf_init(&spec.body);
    body_begin(&spec.body, &head);
    body_section(&spec.body, SECTION_PROMPT_TEXT, "hi", 2);
    struct job_sink s = sink;
    s.user = c;
    uint32_t retry;
    return job_submit(h->d, &spec, &s, &c->job, &retry);
}

static void submit(struct house *h, struct client *c)
{
    assert_int_equal(try_submit(h, c), ERR_OK);
}

static struct model_status status(struct house *h)
{
    struct model_status s;
    dispatch_model_status(h->d, 0, &s);
    return s;
}

#define PIECES "\"pieces\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]"

static void job_should_stream_and_finish_once_with_exact_usage(void **state)
{
    (void)state;
    struct house h;
    struct client c;
    house_open(&h, "{" PIECES ",\"prompt_tokens\":5}", 0, 1, 0);
    submit(&h, &c);
    RUN_UNTIL(&h, c.ends);
    assert_string_equal(c.text.p, "abcdefgh");
    assert_int_equal(c.usage.prompt_tokens, 5);
    assert_int_equal(c.usage.completion_tokens, 8);
    assert_int_equal(c.choices_done, 1);
    assert_int_equal(h.n_rows, 1);
    assert_int_equal(h.rows[0].outcome, USAGE_FINISHED);
    assert_int_equal(h.rows[0].delivered_tokens, 8);
    assert_string_equal(h.rows[0].finish, "stop");
    char time[13];
    snprintf(time, sizeof(time), "%.12s", h.rows[0].id); /* rows are appended, not strewn */
    assert_int_equal(strtoll(time, NULL, 16), h.rows[0].created_ms);
    usage_flush(h.usage, 5000);
    assert_int_equal(usage_written(h.usage), 1);
    buf_fini(&c.text);
    house_close(&h);
}

static void worker_death_should_not_show_in_the_stream(void **state)
{
    (void)state;
    struct house h;
    struct client c[6];
    house_open(&h, "{" PIECES ",\"die_at\":5,\"token_us\":2000}", 0, 1, 0);
    for (int i = 0; i < 6; i++) /* more than the slots: queued ones must survive as well */
        submit(&h, &c[i]);
    RUN_UNTIL(&h, h.n_rows == 6);
    uint32_t failovers = 0;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(c[i].ends, 1);
        assert_int_equal(c[i].failed, ERR_OK);
        assert_string_equal(c[i].text.p, "abcdefgh");
        assert_int_equal(c[i].tokens, 8);
        assert_int_equal(c[i].usage.completion_tokens, 8);
        failovers += c[i].usage.failovers;
        buf_fini(&c[i].text);
    }
    assert_true(failovers >= 1);
    assert_int_equal(status(&h).restarts, 1);
    house_close(&h);
}

static void job_that_kills_two_workers_should_fail_alone(void **state)
{
    (void)state;
    struct house h;
    struct client c, next;
    house_open(&h, "{" PIECES ",\"die_at\":3,\"die_times\":2}", 0, 1, 0);
    submit(&h, &c);
    RUN_UNTIL(&h, c.ends);
    assert_int_equal(c.failed, ERR_INTERNAL);
    assert_string_equal(c.text.p, "abc");
    assert_int_equal(h.rows[0].outcome, USAGE_FAILED);
    assert_string_equal(h.rows[0].cause, "worker_lost");
    assert_int_equal(h.rows[0].completion_tokens, 3);
    submit(&h, &next);
    RUN_UNTIL(&h, next.ends);
    assert_string_equal(next.text.p, "abcdefgh");
    buf_fini(&c.text);
    buf_fini(&next.text);
    house_close(&h);
}

static void stalled_worker_should_be_killed_and_its_jobs_continue(void **state)
{
    (void)state;
    struct house h;
    struct client c;
    house_open(&h, "{" PIECES ",\"stall_at\":4}", 0, 1, 500);
    submit(&h, &c);
    RUN_UNTIL(&h, c.ends);
    assert_string_equal(c.text.p, "abcdefgh");
    assert_int_equal(c.usage.failovers, 1);
    buf_fini(&c.text);
    house_close(&h);
}

static void cancel_should_end_silently_in_every_phase_and_leave_a_row(void **state)
{
    (void)state;
    struct house h;
    struct client early, running, other;
    house_open(&h, "{" PIECES ",\"token_us\":5000,\"load_ms\":50}", 0, 1, 0);
    submit(&h, &early); /* queued: the worker is still loading */
    job_cancel(early.job, "client_gone");
    submit(&h, &running);
    running.cancel_at_first_delta = true;
    submit(&h, &other);
    RUN_UNTIL(&h, other.ends && status(&h).running == 0);
    assert_int_equal(early.ends, 0);
    assert_int_equal(running.tokens, 1);
    assert_string_equal(other.text.p, "abcdefgh");
    assert_int_equal(h.n_rows, 3);
    assert_int_equal(h.rows[0].outcome, USAGE_CANCELLED);
    assert_int_equal(h.rows[1].outcome, USAGE_CANCELLED);
    assert_string_equal(h.rows[1].cause, "client_gone");
    assert_int_equal(h.rows[1].completion_tokens, 1);
    buf_fini(&running.text);
    buf_fini(&other.text);
    house_close(&h);
}

static void paused_job_should_wait_and_not_hold_up_others(void **state)
{
    (void)state;
    struct house h;
    struct client slow, fast;
    house_open(&h, "{" PIECES ",\"token_us\":1000}", 0, 1, 0);
    submit(&h, &slow);
    RUN_UNTIL(&h, slow.tokens >= 1);
    job_pause(slow.job);
    submit(&h, &fast);
    RUN_UNTIL(&h, fast.ends);
    assert_int_equal(slow.ends, 0);
    job_resume(slow.job);
    RUN_UNTIL(&h, slow.ends);
    assert_string_equal(slow.text.p, "abcdefgh");
    buf_fini(&slow.text);
    buf_fini(&fast.text);
    house_close(&h);
}

static void full_queue_should_refuse_at_once_and_write_no_row(void **state)
{
    (void)state;
    struct house h;
    struct client c[3], more;
    house_open(&h, "{" PIECES ",\"load_ms\":200}", 3, 1, 0);
    for (int i = 0; i < 3; i++)
        submit(&h, &c[i]);
    assert_int_equal(try_submit(&h, &more), ERR_FULL);
    RUN_UNTIL(&h, h.n_rows == 3);
    for (int i = 0; i < 3; i++)
        buf_fini(&c[i].text);
    house_close(&h);
}

static void job_that_no_worker_can_hold_should_fail_alone_and_after_its_submission(void **state)
{
    (void)state;
    struct house h;
    struct client big = {0}, next;
    house_open(&h, "{" PIECES "}", 0, 1, 0);
    RUN_UNTIL(&h, status(&h).ready == 1);
    buf_init(&big.text);
    struct job_head head = {.n = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1};
    struct job_spec spec = {
        .model = STR("fake"), .dialect = STR("chat"), .request_id = STR("req_big")};
    buf_init(&spec.body);
    body_begin(&spec.body, &head);
    char *prompt = calloc(1, PROTO_MAX_JOB_BYTES);
    assert_non_null(prompt);
    body_section(&spec.body, SECTION_PROMPT_TEXT, prompt, PROTO_MAX_JOB_BYTES);
    free(prompt);
    struct job_sink s = sink;
    s.user = &big;
    uint32_t retry;
    assert_int_equal(job_submit(h.d, &spec, &s, &big.job, &retry), ERR_OK);
    assert_int_equal(big.ends, 0); /* nothing is called from inside job_submit() */
    submit(&h, &next);
    RUN_UNTIL(&h, h.n_rows == 2);
    assert_int_equal(big.ends, 1);
    assert_int_equal(big.failed, ERR_RANGE);
    assert_string_equal(h.rows[0].cause, "too_large");
    assert_string_equal(next.text.p, "abcdefgh");
    buf_fini(&big.text);
    buf_fini(&next.text);
    house_close(&h);
}

static void mad_worker_should_be_replaced_and_hurt_nobody(void **state)
{
    (void)state;
    static const char *const lies[] = {"job", "delta", "taken", "garbage"};
    for (int i = 0; i < 4; i++) {
        struct house h;
        struct client c;
        char script[200];
        snprintf(script, sizeof(script), "{" PIECES ",\"lie\":\"%s\"}", lies[i]);
        house_open(&h, script, 0, 1, 0);
        submit(&h, &c);
        RUN_UNTIL(&h, c.ends); /* it lies to the second attempt, too */
        assert_int_equal(c.failed, ERR_INTERNAL);
        assert_true(status(&h).restarts >= 2);
        buf_fini(&c.text);
        house_close(&h);
    }
}

static void model_that_cannot_load_should_say_why_and_fail_its_queue(void **state)
{
    (void)state;
    struct house h;
    struct client c;
    house_open(&h, "{" PIECES ",\"refuse\":\"model.gguf: not a GGUF file\"}", 0, 1, 0);
    submit(&h, &c);
    RUN_UNTIL(&h, c.ends);
    assert_int_equal(c.failed, ERR_AGAIN);
    assert_string_equal(h.model_error, "model.gguf: not a GGUF file");
    struct client later;
    assert_int_equal(try_submit(&h, &later), ERR_AGAIN);
    buf_fini(&c.text);
    house_close(&h);
}

static void submit_embeddings(struct house *h, struct client *c, int n_inputs)
{
    *c = (struct client){0};
    struct job_head head = {.kind = JOB_EMBEDDING, .n = 1, .top_p = 1, .repetition_penalty = 1};
    struct job_spec spec = {.model = STR("fake"), .dialect = STR("embeddings")};
    struct job_sink to = sink;
    uint32_t retry = 0;
    to.user = c;
    body_begin(&spec.body, &head);
    for (int i = 0; i < n_inputs; i++)
        body_section(&spec.body, SECTION_INPUT_TEXT, "text", 4);
    assert_int_equal(body_end(&spec.body), ERR_OK);
    assert_int_equal(job_submit(h->d, &spec, &to, &c->job, &retry), ERR_OK);
}

static void embedding_job_should_give_each_input_once_whatever_happens_to_its_workers(void **state)
{
    (void)state;
    /* One death costs nothing; who gets on between two deaths is not to blame for the third. */
    static const char *const scripts[] = {"{\"pieces\":[]}",
                                          "{\"pieces\":[],\"die_at\":7,\"token_us\":1000}",
                                          "{\"pieces\":[],\"die_at\":0,\"token_us\":1000}"};
    for (int i = 0; i < 3; i++) {
        struct house h;
        struct client c;
        house_open(&h, scripts[i], 0, 1, 0);
        submit_embeddings(&h, &c, 12);
        RUN_UNTIL(&h, c.ends);
        assert_int_equal(c.failed, ERR_OK);
        assert_int_equal(c.n_vectors, 12);
        for (int k = 0; k < 12; k++)
            assert_true(c.first[k] == (float)k);
        assert_int_equal(h.n_rows, 1);
        const struct usage_row *row = &h.rows[0];
        assert_string_equal(row->dialect, "embeddings");
        assert_string_equal(row->finish, "");
        assert_int_equal(row->prompt_tokens, 24);
        assert_int_equal(row->completion_tokens, 0);
        assert_int_equal(row->failovers, i > 0);
        assert_int_equal(row->computed_tokens, i == 1 ? 24 + 14 : 24);
        assert_int_equal(c.usage.prompt_tokens, 24);
        house_close(&h);
    }
}

static void embedding_input_that_kills_workers_should_fail_its_job(void **state)
{
    (void)state;
    struct house h;
    struct client c;
    house_open(&h, "{\"pieces\":[],\"die_at\":10,\"die_times\":99}", 0, 1, 0);
    submit_embeddings(&h, &c, 12);
    RUN_UNTIL(&h, c.ends);
    assert_int_equal(c.failed, ERR_INTERNAL);
    assert_int_equal(c.n_vectors, 10);
    assert_int_equal(h.n_rows, 1);
    assert_string_equal(h.rows[0].cause, "worker_lost");
    house_close(&h);
}

static void worker_that_lies_about_embeddings_should_be_replaced(void **state)
{
    (void)state;
    static const char *const lies[] = {"order", "dims", "short"};
    for (int i = 0; i < 3; i++) {
        struct house h;
        struct client c;
        char script[100];
        snprintf(script, sizeof(script), "{\"pieces\":[],\"lie\":\"%s\"}", lies[i]);
        house_open(&h, script, 0, 1, 0);
        submit_embeddings(&h, &c, 3);
        RUN_UNTIL(&h, c.ends);
        assert_int_equal(c.failed, ERR_INTERNAL);
        assert_int_equal(c.n_vectors, 1);
        assert_true(status(&h).restarts >= 2);
        house_close(&h);
    }
}

static void failed_job_should_carry_the_workers_message(void **state)
{
    (void)state;
    struct house h;
    struct client c;
    house_open(&h, "{" PIECES ",\"fail\":\"roles must alternate\"}", 0, 1, 0);
    submit(&h, &c);
    RUN_UNTIL(&h, c.ends);
    assert_int_equal(c.failed, ERR_TEMPLATE);
    assert_string_equal(c.message, "roles must alternate");
    assert_string_equal(h.rows[0].cause, "template");
    buf_fini(&c.text);
    house_close(&h);
}

static void drain_should_fail_the_queue_and_let_running_jobs_end(void **state)
{
    (void)state;
    struct house h;
    struct client c[8];
    house_open(&h, "{" PIECES ",\"token_us\":3000}", 0, 1, 0);
    for (int i = 0; i < 8; i++)
        submit(&h, &c[i]);
    RUN_UNTIL(&h, status(&h).running == 6); /* slots and those sent ahead */
    dispatch_drain(h.d);
    struct client late;
    assert_int_equal(try_submit(&h, &late), ERR_CLOSED);
    RUN_UNTIL(&h, dispatch_idle(h.d));
    int finished = 0, refused = 0;
    for (int i = 0; i < 8; i++) {
        finished += c[i].failed == ERR_OK;
        refused += c[i].failed == ERR_CLOSED;
        buf_fini(&c[i].text);
    }
    assert_int_equal(finished, 6);
    assert_int_equal(refused, 2);
    house_close(&h);
}

static void two_workers_should_share_the_load(void **state)
{
    (void)state;
    struct house h;
    struct client c[8];
    house_open(&h, "{" PIECES ",\"token_us\":2000}", 0, 2, 0);
    RUN_UNTIL(&h, status(&h).ready == 2);
    for (int i = 0; i < 8; i++)
        submit(&h, &c[i]);
    RUN_UNTIL(&h, status(&h).running == 8); /* four each: nobody waits */
    assert_int_equal(h.n_rows, 0);
    RUN_UNTIL(&h, h.n_rows == 8);
    for (int i = 0; i < 8; i++)
        buf_fini(&c[i].text);
    house_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(job_should_stream_and_finish_once_with_exact_usage),
        cmocka_unit_test(worker_death_should_not_show_in_the_stream),
        cmocka_unit_test(job_that_kills_two_workers_should_fail_alone),
        cmocka_unit_test(stalled_worker_should_be_killed_and_its_jobs_continue),
        cmocka_unit_test(cancel_should_end_silently_in_every_phase_and_leave_a_row),
        cmocka_unit_test(paused_job_should_wait_and_not_hold_up_others),
        cmocka_unit_test(full_queue_should_refuse_at_once_and_write_no_row),
        cmocka_unit_test(job_that_no_worker_can_hold_should_fail_alone_and_after_its_submission),
        cmocka_unit_test(mad_worker_should_be_replaced_and_hurt_nobody),
        cmocka_unit_test(model_that_cannot_load_should_say_why_and_fail_its_queue),
        cmocka_unit_test(embedding_job_should_give_each_input_once_whatever_happens_to_its_workers),
        cmocka_unit_test(embedding_input_that_kills_workers_should_fail_its_job),
        cmocka_unit_test(worker_that_lies_about_embeddings_should_be_replaced),
        cmocka_unit_test(failed_job_should_carry_the_workers_message),
        cmocka_unit_test(drain_should_fail_the_queue_and_let_running_jobs_end),
        cmocka_unit_test(two_workers_should_share_the_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
