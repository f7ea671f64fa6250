/* One connection, played by script: what is taken, what is refused, what happens in time. */
#include "tests/unit/gateway/http/harness.h"
#include "tests/support/test.h"

static void echo(struct http_request *r, void *app)
{
    struct world *w = app;
    buf_printf(&w->log, "[%d " STR_FMT " q=" STR_FMT " p=" STR_FMT " b=" STR_FMT "]",
               (int)r->method, STR_ARG(r->path), STR_ARG(r->query), STR_ARG(r->param),
               STR_ARG(r->body));
    http_reply(r, 200, "text/plain", r->body.p, r->body.n);
}

static void on_abort(struct http_request *r)
{
    struct world *w = r->user;
    w->aborts++;
    w->held = NULL;
}

static void on_drain(struct http_request *r)
{
    ((struct world *)r->user)->drains++;
}

static void on_timer(struct http_request *r)
{
    ((struct world *)r->user)->timers++;
}

static void hold(struct http_request *r, void *app)
{
    struct world *w = app;
    w->held = r;
    r->user = w;
    r->on_abort = on_abort;
    r->on_drain = on_drain;
    r->on_timer = on_timer;
}

static const struct http_route routes[] = {
    {HTTP_POST_ | HTTP_GET_, "/echo", echo, 1000, 0},
    {HTTP_GET_, "/hold", hold, 0, 0},
    {HTTP_POST_, "/big", hold, 4 << 20, 0},
    {HTTP_GET_, "/models/*", echo, 0, 0},
    {HTTP_GET_, "/models", echo, 0, 0},
};

static int setup(void **state)
{
    struct world *w = malloc(sizeof(*w));
    world_open(w, routes, sizeof(routes) / sizeof(routes[0]));
    world_connect(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    world_drop(w->fc);
    assert_int_equal(w->s.stats.active, 0);
    assert_int_equal(w->s.body_bytes, 0);
    world_close(w);
    free(w);
    return 0;
}

static void say(struct world *w, const char *text)
{
    world_send(w, w->fc, text, strlen(text));
}

#define GET_ECHO  "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST_ECHO "POST /echo HTTP/1.1\r\nHost: a\r\n"

static void request_in_any_pieces_gives_the_same_answer(void **state)
{
    struct world *w = *state;
    static const char text[] =
        POST_ECHO "X-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nTrailer: x\r\n\r\n" GET_ECHO;
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        buf_clear(&w->log);
        world_send(w, w->fc, text, cut);
        world_send(w, w->fc, text + cut, sizeof(text) - 1 - cut);
        assert_string_equal(w->log.p, "[2 /echo q= p= b=hello!][1 /echo q= p= b=]");
    }
    buf_clear(&w->log);
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        world_send(w, w->fc, text + i, 1);
    assert_string_equal(w->log.p, "[2 /echo q= p= b=hello!][1 /echo q= p= b=]");
    assert_false(w->fc->closed || w->fc->fin);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct world *w = *state;
    say(w,
        POST_ECHO "Content-Length: 3\r\n\r\none" POST_ECHO "Content-Length: 3\r\n\r\ntwo" GET_ECHO);
    const char *one = strstr(sent(w->fc), "\r\n\r\none"), *two = strstr(sent(w->fc), "\r\n\r\ntwo");
    assert_true(one && two && one < two);
    assert_int_equal(count_of(sent(w->fc), "HTTP/1.1 200 OK"), 3);
}

static void request_behind_a_running_one_waits_for_it(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n" POST_ECHO "Content-Length: 3\r\n\r\ntwo");
    assert_int_equal(w->fc->sent.n, 0);
    assert_int_equal(w->log.n, 0);
    http_reply(w->held, 200, "text/plain", "one", 3);
    server_flush(&w->s);
    const char *one = strstr(sent(w->fc), "\r\n\r\none"), *two = strstr(sent(w->fc), "\r\n\r\ntwo");
    assert_true(one && two && one < two);
}

static void pipelined_flood_behind_a_running_request_stops_the_reading(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 2000 && w->fc->c.reading; i++)
        say(w, GET_ECHO);
    assert_false(w->fc->c.reading);
    assert_true(w->fc->c.stash.n < CONN_STASH_MAX + 100);
    http_reply(w->held, 200, NULL, NULL, 0);
    server_flush(&w->s);
    assert_true(w->fc->c.reading);
    assert_true(count_of(sent(w->fc), "HTTP/1.1 200 OK") > 400);
}

static void client_that_asks_but_never_reads_is_not_served_for_ever(void **state)
{
    struct world *w = *state;
    char body[900];
    memset(body, 'x', sizeof(body));
    w->fc->room = 0;
    for (int i = 0; i < 3000 && w->fc->c.reading; i++) {
        say(w, POST_ECHO "Content-Length: 900\r\n\r\n");
        if (w->fc->c.reading)
            world_send(w, w->fc, body, sizeof(body));
    }
    assert_false(w->fc->c.reading);
    assert_true(conn_backlog(&w->fc->c) < 2 * HTTP_BACKLOG_HIGH);
    world_wait(w, 61000);
    assert_true(w->fc->closed);
}

static void paths_are_decoded_and_matched(void **state)
{
    struct world *w = *state;
    say(w, "GET /models/org%2Fname?a=b&c#d HTTP/1.1\r\nHost: a\r\n\r\n");
    say(w, "GET /models/a/b/c HTTP/1.1\r\nHost: a\r\n\r\n");
    say(w, "GET http://a.example:80/models HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_string_equal(w->log.p, "[1 /models/org/name q=a=b&c p=org/name b=]"
                                  "[1 /models/a/b/c q= p=a/b/c b=]"
                                  "[1 /models q= p= b=]");
    say(w, "GET /models/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(sent(w->fc), "404 Not Found"));
}

static void head_gets_the_headers_without_the_body(void **state)
{
    struct world *w = *state;
    say(w, "HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(sent_status(w->fc), 200);
    assert_non_null(strstr(sent(w->fc), "Content-Length: 0\r\n"));
    assert_int_equal(strlen(strstr(sent(w->fc), "\r\n\r\n")), 4);
}

static void wrong_method_is_405_with_the_right_ones_named(void **state)
{
    struct world *w = *state;
    say(w, "DELETE /models HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(sent_status(w->fc), 405);
    assert_non_null(strstr(sent(w->fc), "\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    assert_false(w->fc->fin); /* nothing unread: the connection stays */
    say(w, "OPTIONS /echo HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(count_of(sent(w->fc), "204 No Content"), 2);
    assert_null(strstr(sent(w->fc), "Access-Control")); /* not configured */
}

static void preflight_names_the_origin_only_where_it_is_allowed(void **state)
{
    struct world *w = *state;
    w->s.o.cors_origins = "https://a.example, https://b.example";
    say(w, "OPTIONS /echo HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n"
           "Access-Control-Request-Method: POST\r\n"
           "Access-Control-Request-Headers: authorization,x-stainless-os\r\n\r\n");
    assert_non_null(strstr(sent(w->fc), "Access-Control-Allow-Origin: https://b.example\r\n"));
    assert_non_null(
        strstr(sent(w->fc), "Access-Control-Allow-Headers: authorization,x-stainless-os"));
    buf_clear(&w->fc->sent);
    say(w, "GET /echo HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n");
    assert_int_equal(sent_status(w->fc), 200);
    assert_null(strstr(sent(w->fc), "Access-Control"));
}

static void expect_100_continue_is_answered_before_the_body(void **state)
{
    struct world *w = *state;
    say(w, POST_ECHO "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(sent(w->fc), "HTTP/1.1 100 Continue\r\n\r\n");
    say(w, "ok");
    assert_non_null(strstr(sent(w->fc), "HTTP/1.1 200 OK"));
    buf_clear(&w->fc->sent);
    say(w, POST_ECHO "Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n");
    assert_int_equal(sent_status(w->fc), 413); /* and no 100: the body need not come at all */
}

static void http_1_0_closes_unless_asked_to_keep_alive(void **state)
{
    struct world *w = *state;
    say(w, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_non_null(strstr(sent(w->fc), "Connection: keep-alive\r\n"));
    assert_false(w->fc->fin);
    say(w, "GET /echo HTTP/1.0\r\n\r\n");
    assert_true(w->fc->fin);
    assert_int_equal(count_of(sent(w->fc), "200 OK"), 2);
}

static void streamed_answer_is_chunked_and_pinged(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_stream_begin(w->held, 200, "text/event-stream");
    http_stream_ping(w->held, 1000);
    server_flush(&w->s);
    assert_non_null(strstr(sent(w->fc), "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(sent(w->fc), "X-Accel-Buffering: no\r\n"));
    assert_non_null(strstr(sent(w->fc), "Cache-Control: no-cache\r\n"));
    buf_clear(&w->fc->sent);
    world_wait(w, 3500);
    assert_int_equal(count_of(sent(w->fc), "8\r\n: ping\n\n\r\n"), 3);
    for (int i = 0; i < 30; i++) { /* a busy stream needs no pings */
        http_stream_write(w->held, "data: x\n\n", 9);
        world_wait(w, 100);
    }
    assert_int_equal(count_of(sent(w->fc), ": ping"), 3);
    http_stream_end(w->held);
    server_flush(&w->s);
    assert_string_equal(w->fc->sent.p + w->fc->sent.n - 5, "0\r\n\r\n");
    assert_int_equal(w->ends, 1);
    assert_string_equal(w->last_cause, "done");
    assert_null(w->fc->c.out.p); /* an idle connection holds no buffers */
    say(w, GET_ECHO);
    assert_non_null(strstr(w->log.p, "/echo"));
}

static void writes_of_one_turn_become_one_write(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_stream_begin(w->held, 200, "text/plain");
    for (int i = 0; i < 10; i++)
        http_stream_write(w->held, "x", 1);
    assert_int_equal(w->fc->sent.n, 0);
    server_flush(&w->s);
    assert_true(w->fc->sent.n > 10);
    http_stream_end(w->held);
    server_flush(&w->s);
}

static void http_1_0_stream_ends_with_the_connection(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    http_stream_begin(w->held, 200, "text/event-stream");
    http_stream_write(w->held, "data: x\n\n", 9);
    http_stream_end(w->held);
    server_flush(&w->s);
    assert_null(strstr(sent(w->fc), "chunked"));
    assert_string_equal(w->fc->sent.p + w->fc->sent.n - 13, "\r\n\r\ndata: x\n\n");
    assert_true(w->fc->fin);
}

static void slow_reader_is_paused_and_drained(void **state)
{
    struct world *w = *state;
    char block[1000];
    memset(block, 'x', sizeof(block));
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_stream_begin(w->held, 200, "text/plain");
    w->fc->room = 5000;
    while (http_backlog(w->held) <= HTTP_BACKLOG_HIGH) {
        http_stream_write(w->held, block, sizeof(block));
        server_flush(&w->s);
    }
    assert_int_equal(w->drains, 0);
    fake_drain(w->fc);
    server_flush(&w->s);
    assert_int_equal(w->drains, 0); /* the rest waits now */
    fake_drain(w->fc);
    server_flush(&w->s);
    assert_int_equal(w->drains, 1);
    assert_int_equal(http_backlog(w->held), 0);
    http_stream_end(w->held);
    server_flush(&w->s);
}

static void reader_that_stalls_is_dropped(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_stream_begin(w->held, 200, "text/event-stream");
    http_stream_ping(w->held, 1000);
    w->fc->room = 10;
    http_stream_write(w->held, "data: x\n\n", 9);
    world_wait(w, 59000);
    assert_false(w->fc->closed);
    world_wait(w, 2000);
    assert_true(w->fc->closed);
    assert_int_equal(w->aborts, 1);
    assert_string_equal(w->last_cause, "timeout");
}

static void client_that_leaves_is_noticed_in_every_phase(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    conn_on_eof(&w->fc->c);
    assert_int_equal(w->aborts, 1);
    assert_string_equal(w->last_cause, "client_gone");
    assert_true(w->fc->closed);
    world_drop(w->fc);

    world_connect(w);
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_stream_begin(w->held, 200, "text/event-stream");
    w->fc->reset = true;
    server_flush(&w->s); /* the write fails */
    assert_int_equal(w->aborts, 2);
    assert_true(w->fc->closed);
    assert_int_equal(w->s.stats.active, 0);
}

static void answer_already_given_survives_the_half_close(void **state)
{
    struct world *w = *state;
    conn_on_bytes(&w->fc->c, GET_ECHO, strlen(GET_ECHO));
    conn_on_eof(&w->fc->c); /* in the same turn, before the flush */
    server_flush(&w->s);
    assert_int_equal(sent_status(w->fc), 200);
    assert_true(w->fc->closed);
    assert_int_equal(w->aborts, 0);
}

static void timer_of_a_request_fires_once(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    ((struct request *)w->held)->timer_at_ms = w->s.now_ms + 500;
    conn_arm(&w->fc->c, w->s.now_ms + 500);
    world_wait(w, 400);
    assert_int_equal(w->timers, 0);
    world_wait(w, 2000);
    assert_int_equal(w->timers, 1);
    http_reply(w->held, 204, NULL, NULL, 0);
    server_flush(&w->s);
}

static void slow_head_is_408_and_idle_is_closed_silently(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 30 && w->fc->sent.n == 0; i++) { /* one byte every half second */
        say(w, i == 0 ? "GET /echo HTTP/1.1\r\nHost: a\r\nX: " : "y");
        world_wait(w, 500);
    }
    assert_int_equal(sent_status(w->fc), 408);
    assert_string_equal(w->last_cause, "timeout");
    world_wait(w, 2500);
    assert_true(w->fc->closed);
    world_drop(w->fc);

    world_connect(w);
    world_wait(w, 74000);
    assert_false(w->fc->closed);
    world_wait(w, 1500);
    assert_true(w->fc->closed);
    assert_int_equal(w->fc->sent.n, 0);
}

static void slow_body_is_408(void **state)
{
    struct world *w = *state;
    say(w, "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    for (int i = 0; i < 200 && w->fc->sent.n == 0; i++) { /* never silent, but too slow */
        say(w, "z");
        world_wait(w, 1000);
    }
    assert_int_equal(sent_status(w->fc), 408);
}

static void bodies_share_one_budget(void **state)
{
    struct world *w = *state;
    w->s.o.max_body_total = 1000;
    char body[600];
    memset(body, 'x', sizeof(body));
    struct fake_conn *first = w->fc, *second = world_connect(w);
    world_send(w, first, "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n", 54);
    world_send(w, first, body, sizeof(body));
    world_send(w, second, "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n", 54);
    world_send(w, second, body, sizeof(body));
    assert_int_equal(first->sent.n, 0);
    assert_int_equal(sent_status(second), 503);
    assert_non_null(strstr(sent(second), "Retry-After: 1\r\n"));
    world_drop(first);
}

/* ---- what must be refused ----------------------------------------------------------------------
 */

struct refusal {
    const char *name;
    int status;
    const char *text;
};

// clang-format off
static const struct refusal refusals[] = {
    {"two different Content-Length", 400, POST_ECHO "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"},
    {"two equal Content-Length", 400, POST_ECHO "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
    {"list of Content-Length", 400, POST_ECHO "Content-Length: 3, 3\r\n\r\nabc"},
    {"negative Content-Length", 400, POST_ECHO "Content-Length: -1\r\n\r\n"},
    {"signed Content-Length", 400, POST_ECHO "Content-Length: +3\r\n\r\nabc"},
    {"hexadecimal Content-Length", 400, POST_ECHO "Content-Length: 0x3\r\n\r\nabc"},
    {"huge Content-Length", 400, POST_ECHO "Content-Length: 99999999999999999999999\r\n\r\n"},
    {"empty Content-Length", 400, POST_ECHO "Content-Length:\r\n\r\n"},
    {"Content-Length with a space inside", 400, POST_ECHO "Content-Length: 1 1\r\n\r\nabc"},
    {"Content-Length, then Transfer-Encoding", 400, POST_ECHO "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"Transfer-Encoding, then Content-Length", 400, POST_ECHO "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"},
    {"unknown coding", 501, POST_ECHO "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
    {"identity coding", 0, POST_ECHO "Transfer-Encoding: identity\r\n\r\nabc"},
    {"chunked twice", 0, POST_ECHO "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"chunked with a tail", 0, POST_ECHO "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"},
    {"xchunked", 0, POST_ECHO "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
    {"vertical tab before the coding", 0, POST_ECHO "Transfer-Encoding:\x0b" "chunked\r\n\r\n0\r\n\r\n"},
    {"coding on HTTP/1.0", 0, "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"space before the colon", 400, POST_ECHO "Content-Length : 3\r\n\r\nabc"},
    {"folded header", 400, POST_ECHO "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"},
    {"indented first header", 400, "GET /echo HTTP/1.1\r\n Host: a\r\n\r\n"},
    {"bare LF in the head", 400, "GET /echo HTTP/1.1\nHost: a\r\n\r\n"},
    {"bare LF after a header", 400, "GET /echo HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"},
    {"bare CR as a line end", 400, "GET /echo HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\nhello"},
    {"bare LF as the empty line", 400, "GET /echo HTTP/1.1\r\nHost: a\r\n\n"},
    {"header without a name", 400, "GET /echo HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"},
    {"first header without a name", 400, "GET /echo HTTP/1.1\r\n: x\r\nHost: a\r\n\r\n"},
    {"header without a colon", 400, "GET /echo HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n"},
    {"brackets in a header name", 400, "GET /echo HTTP/1.1\r\nHost: a\r\nfo[o]: x\r\n\r\n"},
    {"control character in a value", 400, "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\x01" "b\r\n\r\n"},
    {"DEL in a value", 400, "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\x7f" "b\r\n\r\n"},
    {"no Host", 400, "GET /echo HTTP/1.1\r\n\r\n"},
    {"two Hosts", 400, "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
    {"chunk size with a sign", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"},
    {"chunk size with 0x", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"},
    {"chunk size that overflows", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"},
    {"chunk with a space in front", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n"},
    {"chunk with a space behind", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"},
    {"chunk line ended by LF", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"},
    {"chunk data ended by LF", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"},
    {"chunk data that goes on", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"},
    {"chunk extension ended by LF", 400, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n3;a=b\nabc\r\n0\r\n\r\n"},
    {"HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
    {"HTTP/0.9", 505, "GET /echo HTTP/0.9\r\nHost: a\r\n\r\n"},
    {"HTTP/1.2", 505, "GET /echo HTTP/1.2\r\nHost: a\r\n\r\n"},
    {"HTTP/2.0", 505, "GET /echo HTTP/2.0\r\nHost: a\r\n\r\n"},
    {"no version", 0, "GET /echo\r\nHost: a\r\n\r\n"},
    {"lower-case method", 400, "get /echo HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"TLS hello", 400, "\x16\x03\x01\x02\x01\x03\x03 abcdefghijklmn"},
    {"CONNECT", 400, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"relative target", 400, "GET echo HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"NUL in the path", 400, "GET /echo%00 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"half a percent escape", 400, "GET /echo%2 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"unknown expectation", 417, POST_ECHO "Expect: a-miracle\r\nContent-Length: 0\r\n\r\n"},
    {"body too large by its length", 413, POST_ECHO "Content-Length: 1001\r\n\r\n"},
    {"body where none is taken", 413, "GET /models HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"},
    {"body for an unknown path", 404, "POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"},
};
// clang-format on

/* A refused request closes the connection: nothing behind it is ever taken for a request. */
static void malformed_requests_are_refused_and_end_the_connection(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *row = &refusals[i];
        for (int piecewise = 0; piecewise < 2; piecewise++) {
            world_drop(w->fc);
            world_connect(w);
            buf_clear(&w->log);
            size_t n = strlen(row->text);
            for (size_t k = 0; piecewise && k < n; k++)
                world_send(w, w->fc, row->text + k, 1);
            if (!piecewise)
                world_send(w, w->fc, row->text, n);
            say(w, GET_ECHO);
            int status = sent_status(w->fc);
            if (row->status ? status != row->status : status < 400)
                fail_msg("%s: expected %d, got: %s", row->name, row->status, sent(w->fc));
            if (!w->fc->fin || count_of(sent(w->fc), "\r\nx-request-id: ") != 1 ||
                !strstr(sent(w->fc), "\r\nConnection: close\r\n") || w->log.n)
                fail_msg("%s: the connection goes on: %s %s", row->name, sent(w->fc),
                         w->log.p ? w->log.p : "");
        }
    }
}

static void nul_in_the_head_is_refused(void **state)
{
    struct world *w = *state;
    static const char text[] = "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    world_send(w, w->fc, text, sizeof(text) - 1);
    assert_int_equal(sent_status(w->fc), 400);
    assert_true(w->fc->fin);
}

static void limits_of_the_head_hold(void **state)
{
    struct world *w = *state;
    char *big = malloc(40000);
    memset(big, 'a', 40000);
    struct {
        int status;
        const char *before;
        size_t n;
    } rows[] = {{414, "GET /", 9000}, {431, "GET /echo HTTP/1.1\r\nHost: a\r\nX: ", 33000}};
    for (size_t i = 0; i < 2; i++) {
        say(w, rows[i].before);
        world_send(w, w->fc, big, rows[i].n);
        assert_int_equal(sent_status(w->fc), rows[i].status);
        world_drop(w->fc);
        world_connect(w);
    }
    say(w, "GET /echo HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 99; i++)
        say(w, "A: b\r\n");
    say(w, "\r\n");
    assert_int_equal(sent_status(w->fc), 200); /* 100 with Host */
    buf_clear(&w->fc->sent);
    say(w, "GET /echo HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 100; i++)
        say(w, "A: b\r\n");
    say(w, "\r\n");
    assert_int_equal(sent_status(w->fc), 431);
    world_drop(w->fc);

    world_connect(w); /* blanks before a value reach no callback of the parser, yet they count */
    say(w, "GET /echo HTTP/1.1\r\nHost: a\r\nX:");
    memset(big, ' ', 40000);
    world_send(w, w->fc, big, 33000);
    assert_int_equal(sent_status(w->fc), 431);
    free(big);
}

static void limits_of_a_chunked_body_hold(void **state)
{
    struct world *w = *state;
    say(w, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 101 && w->fc->sent.n == 0; i++)
        say(w, "a\r\n0123456789\r\n");
    assert_int_equal(sent_status(w->fc), 413);
    world_drop(w->fc);

    world_connect(w);
    say(w, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n1;");
    for (int i = 0; i < 2000 && w->fc->sent.n == 0; i++)
        say(w, "a");
    assert_int_equal(sent_status(w->fc), 413);
    world_drop(w->fc);

    world_connect(w);
    say(w, POST_ECHO "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ");
    for (int i = 0; i < 40000 && w->fc->sent.n == 0; i++)
        say(w, "abcdefghij");
    assert_int_equal(sent_status(w->fc), 431);
}

static void after_stop_listening_connections_say_goodbye(void **state)
{
    struct world *w = *state;
    struct fake_conn *busy = w->fc, *idle = world_connect(w);
    world_send(w, busy, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n", 31);
    w->s.draining = true;
    conn_mark_dirty(&idle->c);
    server_flush(&w->s);
    assert_true(idle->fin);
    assert_false(busy->fin);
    http_reply(w->held, 200, "text/plain", "x", 1);
    server_flush(&w->s);
    assert_non_null(strstr(sent(busy), "Connection: close\r\n"));
    assert_true(busy->fin);
    world_drop(busy);
}

static void upgrade_offers_are_ignored(void **state)
{
    struct world *w = *state;
    say(w, POST_ECHO "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                     "HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 2\r\n\r\nok" GET_ECHO);
    assert_string_equal(w->log.p, "[2 /echo q= p= b=ok][1 /echo q= p= b=]");
}

static void response_headers_cannot_be_split(void **state)
{
    struct world *w = *state;
    say(w, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    log_setup(LOG_ERROR, LOG_PLAIN, 2);
    http_add_header(w->held, "X-A", "evil\r\nSet-Cookie: x");
    log_setup(LOG_INFO, LOG_PLAIN, 2);
    http_add_header(w->held, "X-B", "fine");
    http_reply(w->held, 200, NULL, NULL, 0);
    server_flush(&w->s);
    assert_null(strstr(sent(w->fc), "evil"));
    assert_non_null(strstr(sent(w->fc), "X-B: fine\r\n"));
    assert_non_null(strstr(sent(w->fc), "x-request-id: req_"));
    assert_non_null(strstr(sent(w->fc), "openai-processing-ms: "));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(request_in_any_pieces_gives_the_same_answer),
        T(pipelined_requests_are_answered_in_order),
        T(request_behind_a_running_one_waits_for_it),
        T(pipelined_flood_behind_a_running_request_stops_the_reading),
        T(client_that_asks_but_never_reads_is_not_served_for_ever),
        T(paths_are_decoded_and_matched),
        T(head_gets_the_headers_without_the_body),
        T(wrong_method_is_405_with_the_right_ones_named),
        T(preflight_names_the_origin_only_where_it_is_allowed),
        T(expect_100_continue_is_answered_before_the_body),
        T(http_1_0_closes_unless_asked_to_keep_alive),
        T(streamed_answer_is_chunked_and_pinged),
        T(writes_of_one_turn_become_one_write),
        T(http_1_0_stream_ends_with_the_connection),
        T(slow_reader_is_paused_and_drained),
        T(reader_that_stalls_is_dropped),
        T(client_that_leaves_is_noticed_in_every_phase),
        T(answer_already_given_survives_the_half_close),
        T(timer_of_a_request_fires_once),
        T(slow_head_is_408_and_idle_is_closed_silently),
        T(slow_body_is_408),
        T(bodies_share_one_budget),
        T(malformed_requests_are_refused_and_end_the_connection),
        T(nul_in_the_head_is_refused),
        T(limits_of_the_head_hold),
        T(limits_of_a_chunked_body_hold),
        T(after_stop_listening_connections_say_goodbye),
        T(upgrade_offers_are_ignored),
        T(response_headers_cannot_be_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
