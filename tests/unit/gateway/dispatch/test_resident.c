/* Which models are in memory: loaded on first use, in turns, never more than fit, nobody starved.
 * Shown with scripted worker processes. */
#include "gateway/dispatch/dispatch.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/ipc/body.h"
#include "tests/support/test.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIMIT_MS = 15000, MAX_MODELS = 4 };

struct client {
    struct buf text;
    uint32_t ends, failovers;
    enum err failed;
    char message[400];
    uint64_t queue_ns, began_ns, ended_ns;
    struct job *job;
    int model;
};

struct house {
    uv_loop_t loop;
    struct usage *usage;
    struct dispatch *d;
    struct model_config models[MAX_MODELS];
    struct usage_row rows[256];
    int n_models, n_rows, n_ready;
    uint32_t max_held; /* the most models that were ever seen loading or loaded */
    char dir[64], script[MAX_MODELS][128];
    bool closed;
};

static void submit(struct house *h, struct client *c, int model);

static void on_admitted(void *user, uint32_t prompt, uint32_t cached)
{
    UNUSED(prompt);
    UNUSED(cached);
    ((struct client *)user)->began_ns = clock_mono_ns();
}

static void on_delta(void *user, const struct job_delta *d)
{
    struct client *c = user;
    buf_put(&c->text, d->text.p, d->text.n);
}

static void on_finished(void *user, const struct job_usage *u)
{
    struct client *c = user;
    c->ends++;
    c->queue_ns = u->queue_ns;
    c->failovers = u->failovers;
    c->ended_ns = clock_mono_ns();
}

static void on_failed(void *user, enum err e, enum job_param param, const char *message,
                      const struct job_usage *u)
{
    struct client *c = user;
    UNUSED(param);
    UNUSED(u);
    c->ends++;
    c->failed = e;
    snprintf(c->message, sizeof(c->message), "%s", message);
}

static void on_job_end(void *app, const struct usage_row *row)
{
    struct house *h = app;
    if (h->n_rows < (int)COUNT(h->rows))
        h->rows[h->n_rows++] = *row;
}

static void on_model_state(void *app, const struct model_config *m, const char *error)
{
    struct house *h = app;
    UNUSED(m);
    assert_null(error);
    h->n_ready++;
}

static const char *fakeworker(void)
{
    static char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    assert_true(n > 0);
    program[n] = 0;
    char *unit = strstr(program, "/test/unit/");
    assert_non_null(unit);
    snprintf(unit, sizeof(program) - (size_t)(unit - program), "/test/fakeworker");
    return program;
}

static void write_script(struct house *h, int i, const char *text)
{
    FILE *f = fopen(h->script[i], "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void house_open(struct house *h, struct dispatch_options o, int n,
                       const char *const *scripts)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    uint32_t recovered;
    struct errmsg why = {0};
    *h = (struct house){.n_models = n};
    log_setup(LOG_ERROR + 1, LOG_PLAIN, 2);
    snprintf(h->dir, sizeof(h->dir), "/tmp/millrace-test-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    for (int i = 0; i < n; i++) {
        snprintf(h->script[i], sizeof(h->script[i]), "%s/%s.json", h->dir, names[i]);
        write_script(h, i, scripts[i]);
        h->models[i] = (struct model_config){.name = str_of(names[i]),
                                             .path = h->script[i],
                                             .device = "cpu",
                                             .replicas = 1,
                                             .slots = 2};
    }
    uv_loop_init(&h->loop);
    const struct usage_options uo = {.data_dir = h->dir, .max_jobs = 256};
    assert_int_equal(usage_open(&h->usage, &uo, &recovered, &why), ERR_OK);
    o.loop = &h->loop;
    o.models = h->models;
    o.n_models = (size_t)n;
    o.worker_path = fakeworker();
    o.usage = h->usage;
    o.on_job_end = on_job_end;
    o.on_model_state = on_model_state;
    o.app = h;
    assert_int_equal(dispatch_open(&h->d, &o, &why), ERR_OK);
}

static void on_house_closed(void *user)
{
    ((struct house *)user)->closed = true;
}

static void house_close(struct house *h)
{
    char cmd[128];
    dispatch_close(h->d, on_house_closed, h);
    while (!h->closed)
        uv_run(&h->loop, UV_RUN_ONCE);
    assert_int_equal(uv_loop_close(&h->loop), 0); /* no handle is left behind */
    usage_close(h->usage);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", h->dir);
    assert_int_equal(system(cmd), 0);
}

static void on_tick(uv_timer_t *t)
{
    UNUSED(t);
}

static struct model_status status(const struct house *h, int i)
{
    struct model_status s;
    dispatch_model_status(h->d, (size_t)i, &s);
    return s;
}

static enum model_state state(const struct house *h, int i)
{
    return status(h, i).state;
}

static void turn(struct house *h)
{
    uint32_t held = 0;
    uv_run(&h->loop, UV_RUN_ONCE);
    for (int i = 0; i < h->n_models; i++) {
        enum model_state s = state(h, i);
        held += s == MODEL_STATE_LOADED || s == MODEL_STATE_LOADING;
    }
    h->max_held = held > h->max_held ? held : h->max_held;
}

#define RUN_UNTIL(h, condition)                                                                    \
    do {                                                                                           \
        uv_timer_t tick_;                                                                          \
        uv_timer_init(&(h)->loop, &tick_);                                                         \
        uv_timer_start(&tick_, on_tick, 2, 2);                                                     \
        uint64_t end_ = clock_mono_ms() + LIMIT_MS;                                                \
        while (!(condition) && clock_mono_ms() < end_)                                             \
            turn(h);                                                                               \
        uv_close((uv_handle_t *)&tick_, NULL);                                                     \
        uv_run(&(h)->loop, UV_RUN_NOWAIT);                                                         \
        assert_true(condition);                                                                    \
    } while (0)

static void run_for(struct house *h, uint64_t ms)
{
    uint64_t end = clock_mono_ms() + ms;
    RUN_UNTIL(h, clock_mono_ms() >= end);
}

static enum err try_submit(struct house *h, struct client *c, int model, uint32_t *retry_s)
{
    *c = (struct client){.model = model};
    struct job_head head = {.n = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1};
    struct job_spec spec = {
        .model = h->models[model].name, .dialect = STR("chat"), .request_id = STR("req_1")};
    const struct job_sink sink = {.user = c,
                                  .on_admitted = on_admitted,
                                  .on_delta = on_delta,
                                  .on_finished = on_finished,
                                  .on_failed = on_failed};
    body_begin(&spec.body, &head);
    body_section(&spec.body, SECTION_PROMPT_TEXT, "hi", 2);
    return job_submit(h->d, &spec, &sink, &c->job, retry_s);
}

static void submit(struct house *h, struct client *c, int model)
{
    uint32_t retry_s;
    assert_int_equal(try_submit(h, c, model, &retry_s), ERR_OK);
}

/* Asks and waits for the answer. */
static void ask(struct house *h, int model, const char *text)
{
    struct client c;
    submit(h, &c, model);
    RUN_UNTIL(h, c.ends);
    if (c.failed)
        fail_msg("%s", c.message);
    assert_string_equal(c.text.p, text);
    buf_fini(&c.text);
}

#define SCRIPT(text, rest) "{\"pieces\":[\"" text "1 \",\"" text "2 \",\"" text "3\"]" rest "}"
#define A(rest)            SCRIPT("a", rest)
#define B(rest)            SCRIPT("b", rest)
#define C(rest)            SCRIPT("c", rest)
static const char a_text[] = "a1 a2 a3", b_text[] = "b1 b2 b3", c_text[] = "c1 c2 c3";

static void models_load_on_first_use_and_the_least_recently_used_leaves(void **unused)
{
    struct house h;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 2}, 3,
               (const char *const[]){A(), B(), C()});
    RUN_UNTIL(&h, h.n_ready == 3); /* inspected: ready, though nothing is loaded */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(state(&h, i), MODEL_STATE_UNLOADED);
        assert_true(status(&h, i).available);
        assert_true(status(&h, i).inspect_json.n > 0);
    }
    ask(&h, 0, a_text);
    ask(&h, 1, b_text);
    ask(&h, 0, a_text); /* b is now the one that was not used for longest */
    ask(&h, 2, c_text);
    assert_int_equal(state(&h, 0), MODEL_STATE_LOADED);
    assert_int_equal(state(&h, 1), MODEL_STATE_UNLOADED);
    assert_int_equal(state(&h, 2), MODEL_STATE_LOADED);
    assert_true(status(&h, 1).available);
    assert_int_equal(status(&h, 0).loads, 1);
    assert_int_equal(status(&h, 1).unloads, 1);
    assert_int_equal(status(&h, 1).restarts, 0);
    ask(&h, 1, b_text);
    assert_int_equal(state(&h, 0), MODEL_STATE_UNLOADED);
    assert_int_equal(status(&h, 1).loads, 2);
    assert_int_equal(h.max_held, 2);
    house_close(&h);
}

static void without_a_limit_all_load_at_the_start_and_stay(void **unused)
{
    struct house h;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){0}, 3, (const char *const[]){A(), B(), C()});
    assert_int_equal(state(&h, 0), MODEL_STATE_LOADING);
    RUN_UNTIL(&h, h.n_ready == 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(state(&h, i), MODEL_STATE_LOADED);
    ask(&h, 2, c_text);
    house_close(&h);
}

static void twenty_jobs_over_three_models_in_one_place_are_all_answered(void **unused)
{
    struct house h;
    struct client c[20];
    static const char *const texts[] = {a_text, b_text, c_text};
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1}, 3,
               (const char *const[]){A(",\"load_ms\":30,\"token_us\":3000"),
                                     B(",\"load_ms\":30,\"token_us\":3000"),
                                     C(",\"load_ms\":30,\"token_us\":3000")});
    for (int i = 0; i < 20; i++)
        submit(&h, &c[i], i % 3);
    RUN_UNTIL(&h, h.n_rows == 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(c[i].failed, ERR_OK);
        assert_string_equal(c[i].text.p, texts[i % 3]);
        assert_true(c[i].queue_ns >= 30000000); /* the load counts as waiting */
        buf_fini(&c[i].text);
    }
    assert_int_equal(h.max_held, 1);
    for (int i = 0; i < 3; i++) /* nobody was busy for a whole turn: each came once */
        assert_int_equal(status(&h, i).loads, 1);
    house_close(&h);
}

/* Keeps `n` clients on a model; whoever is done asks again. */
static void keep_busy(struct house *h, struct client *c, int n, int model)
{
    for (int i = 0; i < n; i++)
        if (!c[i].job || c[i].ends) {
            assert_int_equal(c[i].failed, ERR_OK);
            buf_fini(&c[i].text);
            submit(h, &c[i], model);
        }
}

static void busy_model_gives_way_after_its_turn_and_gets_its_next_one(void **unused)
{
    struct house h;
    struct client crowd[6] = {0}, other;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .turn_ms = 300}, 2,
               (const char *const[]){A(",\"token_us\":5000"), B()});
    keep_busy(&h, crowd, 6, 0);
    RUN_UNTIL(&h, state(&h, 0) == MODEL_STATE_LOADED);
    uint64_t asked = clock_mono_ms();
    submit(&h, &other, 1);
    RUN_UNTIL(&h, (keep_busy(&h, crowd, 6, 0), other.ends));
    uint64_t waited = clock_mono_ms() - asked;
    assert_int_equal(other.failed, ERR_OK);
    assert_true(waited >= 250);
    assert_true(waited < 5000);
    RUN_UNTIL(&h, (keep_busy(&h, crowd, 6, 0), status(&h, 0).loads == 2)); /* and back */
    int rows = h.n_rows;
    RUN_UNTIL(&h, (keep_busy(&h, crowd, 6, 0), h.n_rows > rows + 6));
    assert_int_equal(h.max_held, 1);
    for (int i = 0; i < 6; i++)
        buf_fini(&crowd[i].text);
    buf_fini(&other.text);
    house_close(&h);
}

static void after_its_turn_a_model_queues_behind_the_others_with_its_older_requests(void **unused)
{
    struct house h;
    struct client old[40], other;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .turn_ms = 150}, 2,
               (const char *const[]){A(",\"token_us\":15000"), B()});
    for (int i = 0; i < 40; i++) /* more than a turn of work, all asked for before the other */
        submit(&h, &old[i], 0);
    submit(&h, &other, 1);
    RUN_UNTIL(&h, h.n_rows == 41);
    assert_true(other.began_ns < old[39].began_ns);
    assert_int_equal(status(&h, 1).loads, 1);
    assert_int_equal(status(&h, 0).loads, 2);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(old[i].failed, ERR_OK);
        buf_fini(&old[i].text);
    }
    buf_fini(&other.text);
    house_close(&h);
}

static void running_job_is_never_cut_off_for_another_model(void **unused)
{
    struct house h;
    struct client slow, other;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .turn_ms = 50}, 2,
               (const char *const[]){A(",\"token_us\":200000"), B()});
    submit(&h, &slow, 0);
    RUN_UNTIL(&h, slow.began_ns);
    submit(&h, &other, 1);
    RUN_UNTIL(&h, other.ends);
    assert_int_equal(slow.ends, 1);
    assert_string_equal(slow.text.p, a_text);
    assert_true(other.began_ns > slow.ended_ns);
    buf_fini(&slow.text);
    buf_fini(&other.text);
    house_close(&h);
}

static void job_that_lost_its_worker_is_finished_before_its_model_leaves(void **unused)
{
    struct house h;
    struct client slow, other;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .turn_ms = 50}, 2,
               (const char *const[]){A(",\"token_us\":100000,\"die_at\":2,\"load_ms\":20"), B()});
    submit(&h, &slow, 0);
    RUN_UNTIL(&h, slow.began_ns);
    submit(&h, &other, 1);
    RUN_UNTIL(&h, other.ends);
    assert_int_equal(slow.failovers, 1);
    assert_string_equal(slow.text.p, a_text);
    assert_true(other.began_ns > slow.ended_ns);
    assert_int_equal(status(&h, 0).loads, 1);
    buf_fini(&slow.text);
    buf_fini(&other.text);
    house_close(&h);
}

static void model_stays_when_nobody_waits_for_its_place_any_more(void **unused)
{
    struct house h;
    struct client slow, gone, next;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .turn_ms = 20}, 2,
               (const char *const[]){A(",\"token_us\":150000"), B()});
    submit(&h, &slow, 0);
    RUN_UNTIL(&h, slow.began_ns);
    submit(&h, &gone, 1);
    run_for(&h, 150);
    submit(&h, &next, 0); /* must wait: its model is to leave */
    run_for(&h, 50);
    assert_int_equal(status(&h, 0).running, 1);
    job_cancel(gone.job, "client_gone");
    RUN_UNTIL(&h, next.ends && slow.ends);
    assert_int_equal(status(&h, 0).loads, 1);
    assert_int_equal(status(&h, 0).unloads, 0);
    buf_fini(&slow.text);
    buf_fini(&next.text);
    house_close(&h);
}

static void refused_model_fails_alone_with_its_own_line_and_without_paths(void **unused)
{
    struct house h;
    struct client c, good;
    uint32_t retry_s = 0;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1}, 2, (const char *const[]){A(), B()});
    char script[400];
    snprintf(
        script, sizeof(script),
        A(",\"load_ms\":50,\"refuse\":\"%s: '/opt/x y.gguf': %s/a-2.gguf: tensor q is short\""),
        h.script[0], h.dir);
    write_script(&h, 0, script);
    RUN_UNTIL(&h, h.n_ready == 2);
    submit(&h, &c, 0);
    submit(&h, &good, 1);
    RUN_UNTIL(&h, c.ends && good.ends);
    assert_int_equal(c.failed, ERR_AGAIN);
    assert_string_equal(c.message, "The model can't be loaded: the model file: 'the model file "
                                   "y.gguf': the model file: tensor q is short");
    assert_string_equal(good.text.p, b_text);
    assert_int_equal(state(&h, 0), MODEL_STATE_FAILED);
    assert_false(status(&h, 0).available);
    assert_true(status(&h, 1).available);
    assert_true(status(&h, 0).failure.n > 0);
    assert_int_equal(try_submit(&h, &c, 0, &retry_s), ERR_AGAIN);
    assert_in_range(retry_s, 1, 2);
    assert_string_equal(h.rows[0].cause, "model_unavailable");
    write_script(&h, 0, A()); /* mended: found fit again after a second, and served */
    RUN_UNTIL(&h, state(&h, 0) == MODEL_STATE_UNLOADED);
    ask(&h, 0, a_text);
    assert_int_equal(status(&h, 0).load_failures, 1);
    buf_fini(&good.text);
    house_close(&h);
}

static void file_that_inspection_refuses_is_failed_from_the_start(void **unused)
{
    struct house h;
    struct client c;
    uint32_t retry_s = 0;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1}, 2,
               (const char *const[]){A(",\"inspect_fail\":\"not a GGUF file\""), B()});
    RUN_UNTIL(&h, h.n_ready == 1 && state(&h, 0) == MODEL_STATE_FAILED);
    assert_true(str_is(status(&h, 0).failure, "not a GGUF file"));
    assert_int_equal(try_submit(&h, &c, 0, &retry_s), ERR_AGAIN);
    assert_false(status(&h, 0).available);
    ask(&h, 1, b_text);
    house_close(&h);
}

static void worker_that_dies_while_it_loads_is_tried_again(void **unused)
{
    struct house h;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1}, 2,
               (const char *const[]){A(",\"load_ms\":20,\"load_die\":1,\"die_times\":2"), B()});
    ask(&h, 0, a_text);
    assert_int_equal(status(&h, 0).restarts, 2);
    assert_int_equal(status(&h, 0).load_failures, 2);
    ask(&h, 1, b_text);
    house_close(&h);
}

static void worker_that_always_dies_while_it_loads_fails_its_jobs(void **unused)
{
    struct house h;
    struct client c;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1}, 2,
               (const char *const[]){A(",\"load_die\":1,\"die_times\":1000"), B()});
    submit(&h, &c, 0);
    RUN_UNTIL(&h, c.ends);
    assert_int_equal(c.failed, ERR_AGAIN);
    assert_non_null(strstr(c.message, "killed by signal 9"));
    ask(&h, 1, b_text); /* its place is free */
    house_close(&h);
}

#define NEEDS(weights, kv) ",\"weight_bytes\":" #weights ",\"kv_bytes\":" #kv

static void budget_holds_what_fits_and_small_models_do_not_starve_a_large_one(void **unused)
{
    struct house h;
    struct client c;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.memory_budget_bytes = 5000000}, 3,
               (const char *const[]){A(NEEDS(1500000, 500000)), B(NEEDS(1500000, 500000)),
                                     C(NEEDS(3500000, 500000))});
    ask(&h, 0, a_text);
    ask(&h, 1, b_text);
    assert_int_equal(state(&h, 0), MODEL_STATE_LOADED); /* both fit */
    assert_int_equal(status(&h, 0).memory_bytes, 2000000);
    submit(&h, &c, 2);
    RUN_UNTIL(&h, c.ends);
    assert_string_equal(c.text.p, c_text);
    assert_int_equal(state(&h, 0), MODEL_STATE_UNLOADED);
    assert_int_equal(state(&h, 1), MODEL_STATE_UNLOADED);
    buf_fini(&c.text);
    ask(&h, 0, a_text);
    assert_int_equal(state(&h, 2), MODEL_STATE_UNLOADED);
    house_close(&h);
}

static void kv_cache_is_cut_to_the_budget_but_not_below_one_context(void **unused)
{
    struct house h;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.memory_budget_bytes = 5000000}, 2,
               (const char *const[]){A(NEEDS(1500000, 900000000)), B(NEEDS(4999000, 10000))});
    RUN_UNTIL(&h, h.n_ready == 1 && state(&h, 1) == MODEL_STATE_FAILED);
    assert_int_equal(status(&h, 0).memory_bytes, 5000000);
    assert_non_null(strstr(status(&h, 1).last_error.p, "one context of 4096 tokens"));
    ask(&h, 0, a_text);
    house_close(&h);
}

static void idle_model_leaves_after_its_time_and_comes_back(void **unused)
{
    struct house h;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.idle_unload_ms = 200}, 2,
               (const char *const[]){A(), B()});
    ask(&h, 0, a_text);
    run_for(&h, 100);
    assert_int_equal(state(&h, 0), MODEL_STATE_LOADED);
    RUN_UNTIL(&h, state(&h, 0) == MODEL_STATE_UNLOADED);
    ask(&h, 0, a_text);
    assert_int_equal(status(&h, 0).loads, 2);
    house_close(&h);
}

static void worker_that_does_not_end_when_asked_is_killed(void **unused)
{
    struct house h;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .stall_ms = 300}, 2,
               (const char *const[]){A(",\"ignore_drain\":1"), B()});
    ask(&h, 0, a_text);
    uint64_t asked = clock_mono_ms();
    ask(&h, 1, b_text);
    assert_true(clock_mono_ms() - asked >= 280);
    assert_int_equal(h.max_held, 1);
    house_close(&h);
}

static void job_that_waits_too_long_is_told_so(void **unused)
{
    struct house h;
    struct client slow, late;
    UNUSED(unused);
    house_open(&h, (struct dispatch_options){.max_loaded = 1, .queue_ms = 300}, 2,
               (const char *const[]){A(",\"token_us\":400000"), B()});
    submit(&h, &slow, 0);
    RUN_UNTIL(&h, slow.began_ns);
    submit(&h, &late, 1);
    RUN_UNTIL(&h, late.ends);
    assert_int_equal(late.failed, ERR_TIMEOUT);
    assert_string_equal(h.rows[0].cause, "queue_timeout");
    RUN_UNTIL(&h, slow.ends); /* begun in time: it runs as long as it runs */
    assert_int_equal(slow.failed, ERR_OK);
    buf_fini(&slow.text);
    house_close(&h);
}

static void closing_in_any_phase_leaves_nothing_behind(void **unused)
{
    UNUSED(unused);
    for (int phase = 0; phase < 4; phase++) {
        struct house h;
        struct client c, other;
        house_open(&h, (struct dispatch_options){.max_loaded = 1, .stall_ms = 5000}, 2,
                   (const char *const[]){A(",\"load_ms\":200,\"ignore_drain\":1"), B()});
        if (phase >= 1) { /* 0: inspecting */
            submit(&h, &c, 0);
            RUN_UNTIL(&h, state(&h, 0) == MODEL_STATE_LOADING);
        }
        if (phase >= 2)
            RUN_UNTIL(&h, c.ends);
        if (phase == 3) { /* asked to leave, and it does not */
            submit(&h, &other, 1);
            run_for(&h, 50);
            assert_int_equal(state(&h, 0), MODEL_STATE_LOADED);
        }
        house_close(&h);
        if (phase >= 1)
            buf_fini(&c.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_load_on_first_use_and_the_least_recently_used_leaves),
        cmocka_unit_test(without_a_limit_all_load_at_the_start_and_stay),
        cmocka_unit_test(twenty_jobs_over_three_models_in_one_place_are_all_answered),
        cmocka_unit_test(busy_model_gives_way_after_its_turn_and_gets_its_next_one),
        cmocka_unit_test(after_its_turn_a_model_queues_behind_the_others_with_its_older_requests),
        cmocka_unit_test(running_job_is_never_cut_off_for_another_model),
        cmocka_unit_test(job_that_lost_its_worker_is_finished_before_its_model_leaves),
        cmocka_unit_test(model_stays_when_nobody_waits_for_its_place_any_more),
        cmocka_unit_test(refused_model_fails_alone_with_its_own_line_and_without_paths),
        cmocka_unit_test(file_that_inspection_refuses_is_failed_from_the_start),
        cmocka_unit_test(worker_that_dies_while_it_loads_is_tried_again),
        cmocka_unit_test(worker_that_always_dies_while_it_loads_fails_its_jobs),
        cmocka_unit_test(budget_holds_what_fits_and_small_models_do_not_starve_a_large_one),
        cmocka_unit_test(kv_cache_is_cut_to_the_budget_but_not_below_one_context),
        cmocka_unit_test(idle_model_leaves_after_its_time_and_comes_back),
        cmocka_unit_test(worker_that_does_not_end_when_asked_is_killed),
        cmocka_unit_test(job_that_waits_too_long_is_told_so),
        cmocka_unit_test(closing_in_any_phase_leaves_nothing_behind),
    };
    return RUN_TESTS(tests);
}
