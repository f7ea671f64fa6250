/* /healthz, /readyz, /metrics: for probes, balancers and Prometheus. None needs a key or waits. */
#include "gateway/api/api.h"
#include "shared/base/json.h"
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Alive means that the loop turns: that this is answered at all. */
void api_health(struct http_request *r, void *app)
{
    static const char body[] = "{\"status\":\"ok\"}\n";
    (void)app;
    http_reply(r, 200, "application/json", body, sizeof(body) - 1);
}

/* Ready means that each model has a worker that has stepped recently, or is fit to be loaded when
 * somebody asks for it, and that nobody asked us to go. */
void api_ready(struct http_request *r, void *app)
{
    struct api *api = app;
    struct buf b = {0};
    bool ready = !api->unready;
    size_t n = dispatch_n_models(api->dispatch);
    buf_puts(&b, "\"models\":[");
    for (size_t i = 0; i < n; i++) {
        struct model_status s;
        dispatch_model_status(api->dispatch, i, &s);
        ready = ready && s.available;
        buf_puts(&b, i ? ",{\"id\":" : "{\"id\":");
        json_put_str(&b, s.name.p, s.name.n);
        buf_printf(&b, ",\"state\":\"%s\",\"ready\":%u,\"workers\":%u}", model_state_name(s.state),
                   s.ready, s.workers);
    }
    buf_puts(&b, "]}\n");
    struct buf out = {0};
    buf_printf(&out, "{\"status\":\"%s\",%s",
               ready          ? "ready"
               : api->unready ? "draining"
                              : "not_ready",
               b.p ? b.p : "");
    http_reply(r, ready ? 200 : 503, "application/json", out.p, out.n);
    buf_fini(&out);
    buf_fini(&b);
}

/* ---- /metrics: what the gateway counted, and gauges read where they live
 * ------------------------- */

struct gauge {
    const char *name, *type, *help;
    double (*of)(const struct model_status *s);
};

static double running(const struct model_status *s)
{
    return s->running;
}
static double waiting(const struct model_status *s)
{
    return s->queued;
}
static double queue_limit(const struct model_status *s)
{
    return s->queue_limit;
}
static double kv_usage(const struct model_status *s)
{
    return s->kv_blocks_total ? (double)s->kv_blocks_used / s->kv_blocks_total : 0;
}
static double prefix_queries(const struct model_status *s)
{
    return (double)s->prompt_tokens;
}
static double prefix_hits(const struct model_status *s)
{
    return (double)s->cached_tokens;
}
static double preemptions(const struct model_status *s)
{
    return (double)s->preemptions;
}
static double workers(const struct model_status *s)
{
    return s->workers;
}
static double workers_ready(const struct model_status *s)
{
    return s->ready;
}
static double restarts(const struct model_status *s)
{
    return (double)s->restarts;
}
static double failovers(const struct model_status *s)
{
    return (double)s->failovers;
}
static double memory_bytes(const struct model_status *s)
{
    return (double)s->memory_bytes;
}
static double loads(const struct model_status *s)
{
    return (double)s->loads;
}
static double unloads(const struct model_status *s)
{
    return (double)s->unloads;
}
static double load_failures(const struct model_status *s)
{
    return (double)s->load_failures;
}

// clang-format off
static const struct gauge gauges[] = {
    {"vllm:num_requests_running", "gauge", "Jobs that workers have.", running},
    {"vllm:num_requests_waiting", "gauge", "Jobs in the gateway's queue.", waiting},
    {"millrace_queue_limit", "gauge", "Jobs that may wait before new ones are refused.", queue_limit},
    {"vllm:kv_cache_usage_perc", "gauge", "Used part of the KV cache, 0 to 1.", kv_usage},
    {"vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache, by workers' own count.", prefix_queries},
    {"vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache, by workers' own count.", prefix_hits},
    {"vllm:num_preemptions_total", "counter", "Sequences thrown out of the KV cache and computed again.", preemptions},
    {"millrace_workers", "gauge", "Worker processes configured.", workers},
    {"millrace_workers_ready", "gauge", "Worker processes loaded and stepping.", workers_ready},
    {"millrace_worker_restarts_total", "counter", "Worker processes started again after an end.", restarts},
    {"millrace_model_memory_bytes", "gauge", "Weights and KV cache of the model when it is loaded; 0: not known yet.", memory_bytes},
    {"millrace_model_loads_total", "counter", "Times the model came into memory.", loads},
    {"millrace_model_unloads_total", "counter", "Times the model left memory for others, or for want of requests.", unloads},
    {"millrace_model_load_failures_total", "counter", "Loads and inspections of the model that failed.", load_failures},
    {"millrace_failovers_total", "counter", "Jobs that went on after their worker died.", failovers},
};
// clang-format on

static void put_models(struct buf *b, const struct api *api)
{
    for (size_t g = 0; g < sizeof(gauges) / sizeof(gauges[0]); g++) {
        prom_family(b, gauges[g].name, gauges[g].type, gauges[g].help);
        for (size_t i = 0; i < dispatch_n_models(api->dispatch); i++) {
            struct model_status s;
            dispatch_model_status(api->dispatch, i, &s);
            const struct prom_label label = {"model_name", s.name};
            prom_f64(b, gauges[g].name, &label, 1, gauges[g].of(&s));
        }
    }
}

/* One series per state, of which exactly one is 1. */
static void put_states(struct buf *b, const struct api *api)
{
    prom_family(b, "millrace_model_state", "gauge", "1 for the state that the model is in.");
    for (size_t i = 0; i < dispatch_n_models(api->dispatch); i++) {
        struct model_status s;
        dispatch_model_status(api->dispatch, i, &s);
        for (enum model_state k = MODEL_STATE_UNLOADED; k <= MODEL_STATE_FAILED; k++) {
            const struct prom_label labels[] = {{"model_name", s.name},
                                                {"state", str_of(model_state_name(k))}};
            prom_u64(b, "millrace_model_state", labels, 2, s.state == k);
        }
    }
}

static void put_one(struct buf *b, const char *name, const char *type, const char *help, double v)
{
    prom_family(b, name, type, help);
    prom_f64(b, name, NULL, 0, v);
}

static double resident_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return 0;
    if (fscanf(f, "%*s %ld", &pages) != 1)
        pages = 0;
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void put_process(struct buf *b, const struct api *api)
{
    struct http_stats h;
    struct timespec cpu;
    http_server_stats(api->http, &h);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    // clang-format off
    put_one(b, "millrace_http_connections", "gauge", "Open connections.", (double)h.connections);
    put_one(b, "millrace_http_requests_active", "gauge", "Requests not yet answered.", (double)h.active);
    put_one(b, "millrace_http_connections_total", "counter", "Connections accepted.", (double)h.accepted);
    put_one(b, "millrace_http_connections_refused_total", "counter", "Connections over the limit.", (double)h.refused);
    put_one(b, "millrace_http_malformed_total", "counter", "Requests that broke the rules of HTTP.", (double)h.malformed);
    put_one(b, "millrace_usage_rows_pending", "gauge", "Usage rows not yet committed.", (double)usage_pending(api->usage));
    put_one(b, "millrace_usage_rows_total", "counter", "Usage rows committed.", (double)usage_written(api->usage));
    put_one(b, "millrace_usage_store_healthy", "gauge", "1: the last commit of usage rows worked.", usage_healthy(api->usage));
    put_one(b, "process_resident_memory_bytes", "gauge", "Memory of the gateway, without workers.", resident_bytes());
    put_one(b, "process_cpu_seconds_total", "counter", "CPU time of the gateway, without workers.", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    // clang-format on
}

void api_metrics(struct http_request *r, void *app)
{
    struct api *api = app;
    struct buf b = {0};
    metrics_write(api->metrics, &b);
    put_models(&b, api);
    put_states(&b, api);
    put_process(&b, api);
    http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", b.p, b.n);
    buf_fini(&b);
}
