/* One turn of the loop, in the order in which libuv runs it (uv_run, libuv docs/src/design.rst):
 *
 *   1  timers       http deadlines and pings (every 100 ms), dispatch deadlines, supervision, loop
 * lag, drain 2  prepare      http: what timers wrote goes out, one write per connection 3  poll
 * sockets: bytes in, requests handled; eventfds: workers' records to sinks, which append to their
 * connections; signals; processes that ended 4  check        http: what this turn wrote goes out;
 * dispatch: ended jobs are freed 5  closing      handles' owners are freed
 *
 * The end:  SERVING ─SIGTERM─▶ GRACE ─drain_grace─▶ DRAINING ─idle, or drain_seconds─▶ STOPPING
 *   GRACE     /readyz says 503, all else goes on, so that balancers notice before anybody is
 * refused DRAINING  no new connections; queued jobs get a retryable 503; running answers go on
 *   STOPPING  what still runs is told so; workers end; the last usage rows are committed
 * SIGINT skips the grace. A second signal goes to STOPPING at once. */
#include "gateway/app.h"
#include "gateway/api/api.h"
#include "gateway/api/errors.h"
#include "shared/base/clock.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum app_state { APP_SERVING, APP_GRACE, APP_DRAINING, APP_STOPPING };
enum {
    LAG_INTERVAL_MS = 250,
    DRAIN_POLL_MS = 50,
    GOODBYE_MS = 100, /* for the last bytes of answers that were cut off */
};

struct app {
    const struct config *config;
    uv_loop_t loop;
    struct usage *usage;
    struct metrics *metrics;
    struct dispatch *dispatch;
    struct http_server *http;
    struct api api;
    uv_signal_t sigterm, sigint;
    uv_timer_t lag, drain;
    enum app_state state;
    uint64_t lag_due_ns, state_until_ms;
    size_t models_ready;
    bool announced;
    bool failed; /* a model can't be loaded: exit status 1 */
};

static struct app *app_of(void *api)
{
    return (struct app *)(void *)((char *)api - offsetof(struct app, api));
}

/* ---- what modules report
 * ------------------------------------------------------------------------- */

static int route_index(const struct app *a, const struct http_request *r)
{
    (void)a;
    for (size_t i = 0; i < api_n_routes; i++) {
        const char *path = api_routes[i].path;
        size_t n = strlen(path);
        if (n && path[n - 1] == '*' ? r->path.n >= n && memcmp(r->path.p, path, n - 1) == 0
                                    : str_is(r->path, path))
            return (int)i;
    }
    return -1;
}

/* The one log line of a request, with its cause. Probes are many and say little. */
static void on_request_end(const struct http_request *r, int status, uint64_t bytes_out,
                           const char *cause, void *app)
{
    struct app *a = app_of(app);
    int route = route_index(a, r);
    bool done = strcmp(cause, "done") == 0;
    bool probe = route >= 0 && (api_routes[route].flags & ROUTE_OPEN) && done;
    char path[160];
    const char *method = r->method == HTTP_GET_       ? "GET"
                         : r->method == HTTP_POST_    ? "POST"
                         : r->method == HTTP_DELETE_  ? "DELETE"
                         : r->method == HTTP_OPTIONS_ ? "OPTIONS"
                         : r->method == HTTP_HEAD_    ? "HEAD"
                                                      : "-";
    metrics_count_request(a->metrics, route, status);
    a->metrics->client_gone += strcmp(cause, "client_gone") == 0;
    snprintf(path, sizeof(path), "%.*s", (int)(r->path.n < 150 ? r->path.n : 150), r->path.p);
    struct log_kv kv[8 + HTTP_MAX_NOTES] = {
        KV_S("id", r->id),        KV_S("method", method),
        KV_S("path", path),       KV_I("status", status),
        KV_U("bytes", bytes_out), KV_U("ms", (clock_mono_ns() - r->start_ns) / 1000000),
        KV_S("peer", r->peer.p),  KV_S("cause", cause),
    };
    memcpy(kv + 8, r->notes, r->n_notes * sizeof(kv[0]));
    log_event(probe ? LOG_DEBUG : LOG_INFO, "http", "request", kv, 8 + (int)r->n_notes);
}

static void on_job_end(void *app, const struct usage_row *row)
{
    struct app *a = app;
    struct model_metrics *m = metrics_model(a->metrics, str_of(row->model));
    if (!m)
        return;
    if (row->outcome < METRICS_N_OUTCOMES)
        m->outcomes[row->outcome]++;
    if (row->outcome == USAGE_FINISHED) {
        m->finish_stop += strcmp(row->finish, "stop") == 0;
        m->finish_length += strcmp(row->finish, "length") == 0;
        m->finish_tool_calls += strcmp(row->finish, "tool_calls") == 0;
    }
    m->prompt_tokens += row->prompt_tokens;
    m->cached_tokens += row->cached_tokens;
    m->completion_tokens += row->completion_tokens;
    histogram_observe(&m->queue, (double)row->queue_us / 1e6);
    histogram_observe(&m->e2e, (double)row->duration_us / 1e6);
    if (row->ttft_us)
        histogram_observe(&m->ttft, (double)row->ttft_us / 1e6);
}

static void announce(struct app *a)
{
    char url[128];
    const char *host = a->config->host;
    bool v6 = strchr(host, ':') != NULL;
    snprintf(url, sizeof(url), "http://%s%s%s:%d/v1", v6 ? "[" : "", host, v6 ? "]" : "",
             http_server_port(a->http));
    a->announced = true;
    log_info("app", "ready", KV_S("url", url), KV_U("models", a->config->n_models));
}

static void on_start_failed(uv_timer_t *t);

static void on_model_state(void *app, const struct model_config *m, const char *error)
{
    struct app *a = app;
    if (error) {
        /* It was never ready: a configuration that can't work ends the start, as a shell expects.
         */
        if (!a->failed)
            fprintf(stderr, "millrace: model " STR_FMT ": %s\n", STR_ARG(m->name), error);
        a->failed = true;
        uv_timer_start(&a->drain, on_start_failed, 0, 0); /* not from inside the dispatcher */
        return;
    }
    bool on_use = a->config->max_loaded || a->config->memory_budget || a->config->idle_unload_s > 0;
    log_info("app", on_use ? "model loads on first use" : "model ready", KV_S("model", m->name.p),
             KV_S("file", m->path));
    if (++a->models_ready == a->config->n_models && a->http && !a->announced)
        announce(a);
}

static void on_lag(uv_timer_t *t)
{
    struct app *a = t->data;
    uint64_t now = clock_mono_ns();
    if (a->lag_due_ns && now > a->lag_due_ns)
        histogram_observe(&a->metrics->loop_lag, (double)(now - a->lag_due_ns) / 1e9);
    a->lag_due_ns = now + (uint64_t)LAG_INTERVAL_MS * 1000000;
}

/* ---- the end
 * -------------------------------------------------------------------------------------------- */

static void set_state(struct app *a, enum app_state state);

static void on_http_closed(void *user)
{
    struct app *a = user;
    a->http = NULL;
}

static void on_dispatch_closed(void *user)
{
    struct app *a = user;
    a->dispatch = NULL;
}

static void on_goodbye(uv_timer_t *t)
{
    struct app *a = t->data;
    uv_timer_stop(t);
    http_server_close(a->http, on_http_closed, a);
    uv_close((uv_handle_t *)&a->drain, NULL);
    uv_close((uv_handle_t *)&a->lag, NULL);
    uv_close((uv_handle_t *)&a->sigterm, NULL);
    uv_close((uv_handle_t *)&a->sigint, NULL);
}

static void on_drain_tick(uv_timer_t *t)
{
    struct app *a = t->data;
    bool over = clock_mono_ms() >= a->state_until_ms;
    if (a->state == APP_GRACE && over)
        set_state(a, APP_DRAINING);
    else if (a->state == APP_DRAINING &&
             (over || (dispatch_idle(a->dispatch) && http_server_active(a->http) == 0)))
        set_state(a, APP_STOPPING);
}

static void set_state(struct app *a, enum app_state state)
{
    static const char *const names[] = {"serving", "grace", "draining", "stopping"};
    double seconds = state == APP_GRACE ? a->config->drain_grace_s : a->config->drain_s;
    if (state <= a->state)
        return;
    a->state = state;
    a->state_until_ms = clock_mono_ms() + (uint64_t)(seconds * 1000);
    a->api.unready = true;
    log_info("app", names[state], KV_U("requests", http_server_active(a->http)));
    switch (state) {
    case APP_SERVING:
    case APP_GRACE:
        break;
    case APP_DRAINING:
        http_server_stop_listening(a->http);
        dispatch_drain(a->dispatch);
        break;
    case APP_STOPPING: /* jobs first: their sinks still have connections to say so */
        http_server_stop_listening(a->http);
        dispatch_close(a->dispatch, on_dispatch_closed, a);
        uv_timer_start(&a->drain, on_goodbye, GOODBYE_MS, 0);
        return;
    }
    uv_timer_start(&a->drain, on_drain_tick, 0, DRAIN_POLL_MS);
}

static void on_start_failed(uv_timer_t *t)
{
    set_state(t->data, APP_STOPPING);
}

static void on_signal(uv_signal_t *h, int number)
{
    struct app *a = h->data;
    log_info("app", "signal", KV_S("name", number == SIGTERM ? "SIGTERM" : "SIGINT"));
    if (a->state != APP_SERVING)
        set_state(a, APP_STOPPING);
    else
        set_state(a, number == SIGTERM && a->config->drain_grace_s > 0 ? APP_GRACE : APP_DRAINING);
}

/* ---- the start
 * -------------------------------------------------------------------------------------------- */

/* 10,000 connections want more than the usual 1,024 descriptors; the hard limit is the operator's.
 */
static void raise_descriptor_limit(const struct config *c)
{
    struct rlimit l;
    rlim_t want = (rlim_t)c->max_connections + 256;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= want)
        return;
    l.rlim_cur = l.rlim_max == RLIM_INFINITY || l.rlim_max > want ? want : l.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur < want)
        log_warn("app", "fewer descriptors than connections allowed",
                 KV_U("descriptors", l.rlim_cur), KV_U("max_connections", c->max_connections));
}

static enum err open_stores(struct app *a, struct errmsg *why)
{
    const struct config *c = a->config;
    const char *routes[METRICS_MAX_ROUTES];
    struct str names[CONFIG_MAX_MODELS];
    uint32_t recovered = 0;
    for (size_t i = 0; i < api_n_routes; i++)
        routes[i] = api_routes[i].path;
    for (size_t i = 0; i < c->n_models; i++)
        names[i] = c->models[i].name;
    if (metrics_open(&a->metrics, routes, api_n_routes, names, c->n_models) != ERR_OK)
        return err_set(why, ERR_NOMEM, "out of memory");
    const struct usage_options o = {.data_dir = c->data_dir};
    enum err e = usage_open(&a->usage, &o, &recovered, why);
    if (e == ERR_OK && recovered)
        log_warn("app", "jobs of a gateway that died were recorded as interrupted",
                 KV_U("rows", recovered));
    return e;
}

static enum err open_services(struct app *a, struct errmsg *why)
{
    const struct config *c = a->config;
    const struct dispatch_options d = {
        .loop = &a->loop,
        .models = c->models,
        .n_models = c->n_models,
        .worker_path = c->worker,
        .usage = a->usage,
        .stall_ms = (uint32_t)(c->stall_s * 1000),
        .max_loaded = c->max_loaded,
        .memory_budget_bytes = c->memory_budget,
        .idle_unload_ms = (uint32_t)(c->idle_unload_s * 1000 + 0.999), /* never 0 by rounding */
        .turn_ms = (uint32_t)(c->turn_s * 1000),
        .queue_ms = (uint32_t)(c->queue_s * 1000),
        .on_job_end = on_job_end,
        .on_model_state = on_model_state,
        .app = a,
    };
    const struct http_options h = {
        .host = c->host,
        .port = c->port,
        .routes = api_routes,
        .n_routes = api_n_routes,
        .app = &a->api,
        .before = api_before,
        .error = api_http_error,
        .on_end = on_request_end,
        .max_connections = c->max_connections,
        .cors_origins = c->cors_origins,
    };
    /* The port first: a second gateway by mistake should not load a model to learn that. */
    enum err e = http_server_open(&a->http, &a->loop, &h, why);
    if (e == ERR_OK)
        e = dispatch_open(&a->dispatch, &d, why);
    a->api = (struct api){
        .dispatch = a->dispatch,
        .metrics = a->metrics,
        .http = a->http,
        .usage = a->usage,
        .version = MILLRACE_VERSION,
        .ping_ms = (uint32_t)(c->ping_interval_s * 1000),
        .check_host = c->loopback,
        .allow_hosts = c->allow_hosts,
    };
    return e;
}

static void start_handles(struct app *a)
{
    uv_timer_init(&a->loop, &a->lag);
    uv_timer_init(&a->loop, &a->drain);
    uv_signal_init(&a->loop, &a->sigterm);
    uv_signal_init(&a->loop, &a->sigint);
    a->lag.data = a->drain.data = a->sigterm.data = a->sigint.data = a;
    uv_timer_start(&a->lag, on_lag, LAG_INTERVAL_MS, LAG_INTERVAL_MS);
    uv_signal_start(&a->sigterm, on_signal, SIGTERM);
    uv_signal_start(&a->sigint, on_signal, SIGINT);
}

int app_run(const struct config *c)
{
    struct app *a = calloc(1, sizeof(*a));
    struct errmsg why = {0};
    if (!a || uv_loop_init(&a->loop) != 0) {
        fprintf(stderr, "millrace: out of memory\n");
        free(a);
        return 1;
    }
    a->config = c;
    signal(SIGPIPE, SIG_IGN); /* a client that left is an error code, not an end */
    log_setup(c->log_level, c->log_format, 2);
    raise_descriptor_limit(c);
    enum err e = open_stores(a, &why);
    if (e == ERR_OK)
        e = open_services(a, &why);
    if (e == ERR_OK) {
        start_handles(a);
        log_info("app", "listening", KV_S("version", MILLRACE_VERSION), KV_S("host", c->host),
                 KV_I("port", http_server_port(a->http)), KV_S("data", c->data_dir));
    } else {
        fprintf(stderr, "millrace: %s\n", why.text);
        if (a->http)
            http_server_close(a->http, on_http_closed, a);
    }
    uv_run(&a->loop, UV_RUN_DEFAULT); /* until every handle is closed */
    uv_loop_close(&a->loop);
    if (a->usage)
        usage_close(a->usage);
    metrics_close(a->metrics);
    buf_fini(&a->api.scratch);
    if (e == ERR_OK && !a->failed)
        log_info("app", "stopped", KV_S("reason", "asked to"));
    int status = e == ERR_OK && !a->failed ? 0 : 1;
    free(a);
    return status;
}
