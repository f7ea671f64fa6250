/* The whole gateway in one process but for the workers, which are scripted: what a client reads
 * from its socket, and what the usage row says about it. */
#include "gateway/api/api.h"
#include "gateway/api/errors.h"
#include "shared/base/clock.h"
#include "tests/support/test.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LIMIT_MS = 15000 };

struct house {
    uv_loop_t loop;
    struct usage *usage;
    struct dispatch *dispatch;
    struct http_server *http;
    struct metrics *metrics;
    struct api api;
    struct model_config model;
    struct usage_row row; /* the last one */
    int n_rows, closed;
    char dir[64], script[128], cause[32];
};

struct client {
    int fd;
    struct buf in;
    bool eof;
};

static void on_job_end(void *app, const struct usage_row *row)
{
    struct house *h = app;
    h->row = *row;
    h->n_rows++;
}

static void on_end(const struct http_request *r, int status, uint64_t bytes, const char *cause,
                   void *app)
{
    struct house *h = (struct house *)(void *)((char *)app - offsetof(struct house, api));
    UNUSED(r);
    UNUSED(status);
    UNUSED(bytes);
    snprintf(h->cause, sizeof(h->cause), "%s", cause);
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

static void house_open(struct house *h, const char *script, uint32_t queue_limit, uint32_t ping_ms)
{
    struct errmsg why = {0};
    uint32_t recovered;
    *h = (struct house){0};
    snprintf(h->dir, sizeof(h->dir), "/tmp/millrace-test-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    snprintf(h->script, sizeof(h->script), "%s/script.json", h->dir);
    FILE *f = fopen(h->script, "w");
    assert_non_null(f);
    fputs(script, f);
    fclose(f);
    log_setup(LOG_ERROR, LOG_PLAIN, 2);
    uv_loop_init(&h->loop);
    const struct usage_options u = {.data_dir = h->dir, .max_jobs = 64};
    assert_int_equal(usage_open(&h->usage, &u, &recovered, &why), ERR_OK);
    h->model = (struct model_config){.name = STR("org/fake"),
                                     .path = h->script,
                                     .replicas = 1,
                                     .queue_limit = queue_limit,
                                     .slots = 2};
    const struct dispatch_options d = {.loop = &h->loop,
                                       .models = &h->model,
                                       .n_models = 1,
                                       .worker_path = fakeworker(),
                                       .usage = h->usage,
                                       .on_job_end = on_job_end,
                                       .app = h};
    assert_int_equal(dispatch_open(&h->dispatch, &d, &why), ERR_OK);
    assert_int_equal(metrics_open(&h->metrics, NULL, 0, &h->model.name, 1), ERR_OK);
    const struct http_options o = {.host = "127.0.0.1",
                                   .routes = api_routes,
                                   .n_routes = api_n_routes,
                                   .app = &h->api,
                                   .before = api_before,
                                   .error = api_http_error,
                                   .on_end = on_end};
    assert_int_equal(http_server_open(&h->http, &h->loop, &o, &why), ERR_OK);
    h->api = (struct api){.dispatch = h->dispatch,
                          .metrics = h->metrics,
                          .http = h->http,
                          .usage = h->usage,
                          .version = "test",
                          .ping_ms = ping_ms,
                          .check_host = true};
}

static void on_closed(void *user)
{
    ((struct house *)user)->closed++;
}

static void house_close(struct house *h)
{
    dispatch_close(h->dispatch, on_closed, h);
    http_server_close(h->http, on_closed, h);
    while (h->closed < 2)
        uv_run(&h->loop, UV_RUN_ONCE);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&h->loop), 0); /* no handle is left behind */
    usage_close(h->usage);
    metrics_close(h->metrics);
    buf_fini(&h->api.scratch);
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", h->dir);
    assert_int_equal(system(cmd), 0);
}

static void connect_to(struct house *h, struct client *c, int receive_buffer)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)http_server_port(h->http))};
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    if (receive_buffer)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

static void hang_up(struct client *c)
{
    close(c->fd);
    buf_fini(&c->in);
}

static void on_tick(uv_timer_t *t)
{
    UNUSED(t);
}

/* Turns the loop and reads what has come, for `ms` or until `what` was read or the end came. */
static bool pump(struct house *h, struct client *c, const char *what, uint64_t ms)
{
    uv_timer_t tick;
    uv_timer_init(&h->loop, &tick);
    uv_timer_start(&tick, on_tick, 2, 2);
    bool found = false;
    for (uint64_t end = clock_mono_ms() + ms; !found && clock_mono_ms() < end;) {
        uv_run(&h->loop, UV_RUN_ONCE);
        char block[65536];
        ssize_t n = c ? recv(c->fd, block, sizeof(block), MSG_DONTWAIT) : -1;
        if (n > 0)
            buf_put(&c->in, block, (size_t)n);
        if (c && (n == 0 || (n < 0 && errno == ECONNRESET)))
            c->eof = true;
        found = what && c && c->in.p && strstr(c->in.p, what);
    }
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&h->loop, UV_RUN_NOWAIT);
    return found;
}

static void post(struct client *c, const char *path, const char *headers, const char *body)
{
    char text[65536];
    int n = snprintf(text, sizeof(text),
                     "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s", path,
                     headers, strlen(body), body);
    assert_int_equal(send(c->fd, text, (size_t)n, MSG_NOSIGNAL), n);
}

static void expect(struct house *h, struct client *c, const char *what)
{
    if (!pump(h, c, what, LIMIT_MS))
        fail_msg("expected %s in: %s", what, c->in.p ? c->in.p : "(nothing)");
}

static void wait_ready(struct house *h)
{
    struct client c;
    for (int i = 0; i < 500; i++) {
        connect_to(h, &c, 0);
        assert_int_equal(send(c.fd, "GET /readyz HTTP/1.0\r\n\r\n", 24, 0), 24);
        expect(h, &c, "\"status\"");
        bool ready = strstr(c.in.p, "200 OK") != NULL;
        hang_up(&c);
        if (ready)
            return;
        pump(h, NULL, NULL, 10);
    }
    fail_msg("never ready");
}

static void wait_rows(struct house *h, int n)
{
    for (int i = 0; i < 500 && h->n_rows < n; i++)
        pump(h, NULL, NULL, 10);
    assert_int_equal(h->n_rows, n);
}

#define STREAM                                                                                     \
    "{\"model\":\"org/"                                                                            \
    "fake\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define WHOLE "{\"model\":\"org/fake\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define CHAT  "/v1/chat/completions"

static void streamed_and_whole_answers_arrive_and_are_counted(void **state)
{
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, "{\"pieces\":[\"Hel\",\"lo\",\"!\"],\"prompt_tokens\":7}", 0, 10000);
    wait_ready(&h);
    connect_to(&h, &c, 0);
    post(&c, CHAT, "", STREAM);
    expect(&h, &c, "data: [DONE]\n\n\r\n0\r\n\r\n");
    assert_non_null(strstr(c.in.p, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(c.in.p, "\"delta\":{\"content\":\"Hel\"}"));
    assert_null(strstr(c.in.p, "\"usage\"")); /* unasked */
    wait_rows(&h, 1);
    assert_int_equal(h.row.outcome, USAGE_FINISHED);
    assert_int_equal(h.row.prompt_tokens, 7);
    assert_int_equal(h.row.completion_tokens, 3);
    assert_int_equal(h.row.delivered_tokens, 3);
    buf_clear(&c.in);
    post(&c, CHAT, "", WHOLE); /* on the same connection */
    expect(&h, &c, "\"content\":\"Hello!\"");
    expect(&h, &c, "\"total_tokens\":10");
    wait_rows(&h, 2);
    assert_int_equal(h.row.delivered_tokens, 3);
    hang_up(&c);
    house_close(&h);
}

static void error_before_the_first_token_has_its_status(void **state)
{
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, "{\"pieces\":[\"x\"],\"fail\":\"the template says no\"}", 0, 10000);
    wait_ready(&h);
    connect_to(&h, &c, 0);
    post(&c, CHAT, "", STREAM);
    expect(&h, &c, "\"code\":\"chat_template_failed\"}}");
    assert_non_null(strstr(c.in.p, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr(c.in.p, "the template says no"));
    assert_null(strstr(c.in.p, "data:"));
    wait_rows(&h, 1);
    assert_int_equal(h.row.outcome, USAGE_FAILED);
    hang_up(&c);
    house_close(&h);
}

static void pings_come_before_the_first_token(void **state)
{
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, "{\"pieces\":[\"x\"],\"load_ms\":1500}", 0, 200);
    connect_to(&h, &c, 0);
    post(&c, CHAT, "", STREAM);
    expect(&h, &c, ": ping\n\n");
    assert_non_null(strstr(c.in.p, "HTTP/1.1 200 OK\r\n"));
    assert_null(strstr(c.in.p, "data:"));
    expect(&h, &c, "data: [DONE]");
    int pings = 0;
    for (const char *p = c.in.p; (p = strstr(p, ": ping\n\n")); p++)
        pings++;
    assert_in_range(pings, 3, 8);
    hang_up(&c);
    house_close(&h);
}

static void error_in_a_stream_ends_it_without_a_false_stop(void **state)
{
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, "{\"pieces\":[\"x\"],\"load_ms\":600,\"fail\":\"no\"}", 0, 200);
    connect_to(&h, &c, 0);
    post(&c, CHAT, "", STREAM);
    expect(&h, &c, "\r\n0\r\n\r\n");
    assert_non_null(strstr(c.in.p, "data: {\"error\":{\"message\":\"no\""));
    assert_null(strstr(c.in.p, "[DONE]"));
    assert_null(strstr(c.in.p, "finish_reason"));
    hang_up(&c);
    house_close(&h);
}

#define MANY                                                                                       \
    "{\"pieces\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"],"

static void client_that_leaves_cancels_its_job(void **state)
{
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, MANY "\"token_us\":300000}", 0, 10000);
    wait_ready(&h);
    connect_to(&h, &c, 0);
    post(&c, CHAT, "", STREAM);
    expect(&h, &c, "\"content\":\"a\"");
    hang_up(&c);
    uint64_t before = clock_mono_ms();
    wait_rows(&h, 1);
    assert_true(clock_mono_ms() - before < 250);
    assert_int_equal(h.row.outcome, USAGE_CANCELLED);
    assert_string_equal(h.row.cause, "client_gone");
    assert_string_equal(h.cause, "client_gone");
    connect_to(&h, &c, 0); /* a whole answer, left while it is made */
    post(&c, CHAT, "", WHOLE);
    pump(&h, &c, NULL, 100);
    hang_up(&c);
    wait_rows(&h, 2);
    assert_int_equal(h.row.outcome, USAGE_CANCELLED);
    assert_int_equal(h.row.delivered_tokens, 0);
    house_close(&h);
}

static void full_queue_is_429_with_a_time_to_come_back(void **state)
{
    struct house h;
    struct client c[8];
    int refused = 0;
    UNUSED(state);
    house_open(&h, MANY "\"token_us\":1000000}", 1, 10000);
    wait_ready(&h);
    for (int i = 0; i < 8; i++) {
        connect_to(&h, &c[i], 0);
        post(&c[i], CHAT, "", STREAM);
        pump(&h, &c[i], NULL, 20);
        if (!c[i].in.p || !strstr(c[i].in.p, "HTTP/1.1 429 Too Many Requests"))
            continue;
        refused++;
        assert_non_null(strstr(c[i].in.p, "\r\nRetry-After: "));
        assert_non_null(strstr(c[i].in.p, "\r\nretry-after-ms: "));
        assert_non_null(strstr(c[i].in.p, "\"code\":\"rate_limit_exceeded\""));
    }
    assert_in_range(refused, 1, 7);
    for (int i = 0; i < 8; i++)
        hang_up(&c[i]);
    wait_rows(&h, 8 - refused); /* none for what was refused */
    house_close(&h);
}

static void client_that_does_not_read_pauses_only_itself(void **state)
{
    struct house h;
    struct client slow, quick;
    struct buf script = {0};
    char piece[2001];
    UNUSED(state);
    memset(piece, 'y', 2000);
    piece[2000] = 0;
    buf_puts(&script, "{\"pieces\":[\"start\"");
    for (int i = 0; i < 250; i++)
        buf_printf(&script, ",\"%s\"", piece);
    buf_puts(&script, ",\"end\"],\"token_us\":200}");
    house_open(&h, script.p, 0, 10000);
    wait_ready(&h);
    connect_to(&h, &slow, 4096);
    for (int i = 0; i < 12; i++) /* pipelined: more than the kernel's buffers hold */
        post(&slow, CHAT, "", STREAM);
    pump(&h, NULL, NULL, 1500);
    connect_to(&h, &quick, 0);
    post(&quick, CHAT, "", STREAM);
    expect(&h, &quick, "\"content\":\"end\"");
    expect(&h, &quick, "[DONE]"); /* its row is written right after that */
    pump(&h, NULL, NULL, 50);
    int rows = h.n_rows;
    assert_true(rows < 12);
    pump(&h, NULL, NULL, 500);
    assert_int_equal(h.n_rows, rows); /* the slow one stands still */
    uint64_t end = clock_mono_ms() + LIMIT_MS;
    int done = 0;
    while (done < 12 && clock_mono_ms() < end) {
        pump(&h, &slow, NULL, 50);
        done = 0;
        for (const char *p = slow.in.p; p && (p = strstr(p, "[DONE]")); p++)
            done++;
    }
    assert_int_equal(done, 12);
    size_t ys = 0;
    for (size_t i = 0; i < slow.in.n; i++)
        ys += slow.in.p[i] == 'y';
    assert_true(ys >= 12u * 250 * 2000); /* not a byte is missing */
    wait_rows(&h, 13);
    hang_up(&slow);
    hang_up(&quick);
    buf_fini(&script);
    house_close(&h);
}

static void bad_requests_are_told_why(void **state)
{
    // clang-format off
    static const struct { const char *path, *headers, *body, *status, *part; } rows[] = {
        {CHAT, "", "{\"model\":\"nope\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "404", "\"code\":\"model_not_found\""},
        {CHAT, "", "{\"model\":", "400", "We could not parse the JSON body of your request: invalid JSON"},
        {CHAT, "", "", "400", "it is empty"},
        {CHAT, "", "{\"model\":\"org/fake\",\"model\":\"org/fake\"}", "400", "duplicate key"},
        {CHAT, "", "{\"model\":\"org/fake\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", "400", "invalid UTF-8"},
        {CHAT, "Content-Type: text/plain\r\n", WHOLE, "415", "unsupported_media_type"},
        {CHAT, "", "{\"model\":\"org/fake\",\"messages\":[]}", "400", "\"param\":\"messages\",\"code\":\"empty_array\""},
        {"/v1/nope", "", "{}", "404", "\"code\":\"unknown_url\""},
        {"/v1/models", "", "{}", "405", "\"code\":\"method_not_allowed\""},
    };
    // clang-format on
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, "{\"pieces\":[\"x\"]}", 0, 10000);
    for (size_t i = 0; i < COUNT(rows); i++) {
        connect_to(&h, &c, 0);
        post(&c, rows[i].path, rows[i].headers, rows[i].body);
        expect(&h, &c, "}}\n");
        if (strncmp(c.in.p + 9, rows[i].status, 3) != 0 || !strstr(c.in.p, rows[i].part))
            fail_msg("%s: %s", rows[i].body, c.in.p);
        hang_up(&c);
    }
    connect_to(&h, &c, 0);
    static const char rebound[] = "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_int_equal(send(c.fd, rebound, sizeof(rebound) - 1, 0), sizeof(rebound) - 1);
    expect(&h, &c, "\"code\":\"host_not_allowed\"");
    hang_up(&c);
    pump(&h, NULL, NULL, 20);
    assert_int_equal(h.n_rows, 0);
    house_close(&h);
}

static void models_are_listed_and_found_with_slashes(void **state)
{
    struct house h;
    struct client c;
    UNUSED(state);
    house_open(&h, "{\"pieces\":[\"x\"]}", 0, 10000);
    wait_ready(&h);
    connect_to(&h, &c, 0);
    static const char get[] = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
                              "GET /v1/models/org%2Ffake HTTP/1.1\r\nHost: localhost\r\n\r\n"
                              "GET /v1/models/org/fake HTTP/1.1\r\nHost: localhost\r\n\r\n"
                              "GET /v1/models/org HTTP/1.1\r\nHost: localhost\r\n\r\n"
                              "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_int_equal(send(c.fd, get, sizeof(get) - 1, 0), sizeof(get) - 1);
    expect(&h, &c, "process_cpu_seconds_total ");
    int found = 0;
    for (const char *p = c.in.p; (p = strstr(p, "\"id\":\"org/fake\",\"object\":\"model\"")); p++)
        found++;
    assert_int_equal(found, 3);
    assert_non_null(strstr(c.in.p, "\"context_length\":4096"));
    assert_non_null(strstr(c.in.p, "The model 'org' does not exist."));
    assert_non_null(strstr(c.in.p, "millrace_workers_ready{model_name=\"org/fake\"} 1"));
    hang_up(&c);
    house_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streamed_and_whole_answers_arrive_and_are_counted),
        cmocka_unit_test(error_before_the_first_token_has_its_status),
        cmocka_unit_test(pings_come_before_the_first_token),
        cmocka_unit_test(error_in_a_stream_ends_it_without_a_false_stop),
        cmocka_unit_test(client_that_leaves_cancels_its_job),
        cmocka_unit_test(full_queue_is_429_with_a_time_to_come_back),
        cmocka_unit_test(client_that_does_not_read_pauses_only_itself),
        cmocka_unit_test(bad_requests_are_told_why),
        cmocka_unit_test(models_are_listed_and_found_with_slashes),
    };
    return RUN_TESTS(tests);
}
