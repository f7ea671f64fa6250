#include "gateway/metrics/metrics.h"
#include <stdio.h>
#include <stdlib.h>

/* Bucket bounds in seconds; those of vLLM where it has the family. */
static const double ttft_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25,
                                     0.5,   0.75,  1,    2.5,  5,    7.5,  10,   20,  40};
static const double token_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                      0.2,   0.3,    0.4,   0.5,  0.75,  1,    2.5,   5};
static const double request_bounds[] = {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5,
                                        5,    10,   15,  20,  30,  40,  50, 60,  120, 240};
static const double lag_bounds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5};

static const int statuses[METRICS_STATUSES - 1] = {200, 201, 204, 400, 401, 403, 404, 405,
                                                   408, 409, 413, 414, 415, 417, 421, 422,
                                                   429, 431, 500, 501, 503, 504, 505};

#define BOUNDS(table) (table), (uint32_t)(sizeof(table) / sizeof((table)[0]))

enum err metrics_open(struct metrics **out, const char *const *routes, size_t n_routes,
                      const struct str *models, size_t n_models)
{
    struct metrics *m = calloc(1, sizeof(*m));
    if (!m)
        return ERR_NOMEM;
    m->models = calloc(n_models ? n_models : 1, sizeof(*m->models));
    if (!m->models) {
        free(m);
        return ERR_NOMEM;
    }
    m->n_models = (uint32_t)n_models;
    m->n_routes = (uint32_t)(n_routes < METRICS_MAX_ROUTES ? n_routes : METRICS_MAX_ROUTES);
    for (uint32_t i = 0; i < m->n_routes; i++)
        m->routes[i] = routes[i];
    for (uint32_t i = 0; i < m->n_models; i++) {
        struct model_metrics *mm = &m->models[i];
        mm->name = models[i];
        histogram_init(&mm->ttft, BOUNDS(ttft_bounds));
        histogram_init(&mm->inter_token, BOUNDS(token_bounds));
        histogram_init(&mm->e2e, BOUNDS(request_bounds));
        histogram_init(&mm->queue, BOUNDS(request_bounds));
    }
    histogram_init(&m->loop_lag, BOUNDS(lag_bounds));
    *out = m;
    return ERR_OK;
}

void metrics_close(struct metrics *m)
{
    if (!m)
        return;
    free(m->models);
    free(m);
}

void metrics_count_request(struct metrics *m, int route, int status)
{
    uint32_t r = route < 0 || (uint32_t)route >= m->n_routes ? METRICS_MAX_ROUTES : (uint32_t)route;
    int s = 0;
    while (s < METRICS_STATUSES - 1 && statuses[s] != status)
        s++;
    m->requests[r][s]++;
}

struct model_metrics *metrics_model(struct metrics *m, struct str name)
{
    for (uint32_t i = 0; i < m->n_models; i++)
        if (str_eq(m->models[i].name, name))
            return &m->models[i];
    return NULL;
}

static void write_requests(const struct metrics *m, struct buf *out)
{
    prom_family(out, "millrace_http_requests_total", "counter",
                "Requests answered, by route and status; status 0: the client left before one.");
    for (uint32_t r = 0; r <= METRICS_MAX_ROUTES; r++) {
        if (r >= m->n_routes && r != METRICS_MAX_ROUTES)
            continue;
        for (int s = 0; s < METRICS_STATUSES; s++) {
            char status[12] = "0";
            if (!m->requests[r][s])
                continue;
            if (s < METRICS_STATUSES - 1)
                snprintf(status, sizeof(status), "%d", statuses[s]);
            const struct prom_label labels[] = {
                {"route", r < m->n_routes ? str_of(m->routes[r]) : STR("none")},
                {"status", str_of(status)},
            };
            prom_u64(out, "millrace_http_requests_total", labels, 2, m->requests[r][s]);
        }
    }
    prom_family(out, "millrace_http_client_gone_total", "counter",
                "Requests whose client left before the end of the answer.");
    prom_u64(out, "millrace_http_client_gone_total", NULL, 0, m->client_gone);
}

/* One family per row: everything that a model has one number of. */
struct model_counter {
    const char *name, *help;
    size_t offset;
};
#define FIELD(f) offsetof(struct model_metrics, f)
// clang-format off
static const struct model_counter counters[] = {
    {"vllm:prompt_tokens_total", "Prompt tokens of ended jobs.", FIELD(prompt_tokens)},
    {"vllm:generation_tokens_total", "Completion tokens of ended jobs.", FIELD(completion_tokens)},
    {"millrace_cached_prompt_tokens_total", "Prompt tokens of ended jobs found in the prefix cache.", FIELD(cached_tokens)},
    {"millrace_jobs_refused_total", "Jobs refused because the queue was full.", FIELD(refused)},
};
static const struct model_counter histograms[] = {
    {"vllm:time_to_first_token_seconds", "From admission to the first token.", FIELD(ttft)},
    {"vllm:inter_token_latency_seconds", "Between two tokens of one choice's stream.", FIELD(inter_token)},
    {"vllm:e2e_request_latency_seconds", "From admission to the end of the job.", FIELD(e2e)},
    {"vllm:request_queue_time_seconds", "From admission until a worker began.", FIELD(queue)},
};
// clang-format on

static void write_jobs(const struct metrics *m, struct buf *out)
{
    static const char *const outcomes[] = {
#define X(name, text) text,
        METRICS_OUTCOMES(X)
#undef X
    };
    prom_family(out, "millrace_jobs_total", "counter", "Jobs ended, by outcome.");
    for (uint32_t i = 0; i < m->n_models; i++)
        for (int k = 0; k < METRICS_N_OUTCOMES; k++) {
            const struct prom_label labels[] = {{"model_name", m->models[i].name},
                                                {"outcome", str_of(outcomes[k])}};
            prom_u64(out, "millrace_jobs_total", labels, 2, m->models[i].outcomes[k]);
        }
    prom_family(out, "vllm:request_success_total", "counter", "Jobs finished, by reason.");
    for (uint32_t i = 0; i < m->n_models; i++) {
        const struct model_metrics *mm = &m->models[i];
        const struct {
            const char *reason;
            uint64_t n;
        } rows[] = {{"stop", mm->finish_stop},
                    {"length", mm->finish_length},
                    {"tool_calls", mm->finish_tool_calls}};
        for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
            const struct prom_label labels[] = {{"model_name", mm->name},
                                                {"finished_reason", str_of(rows[k].reason)}};
            prom_u64(out, "vllm:request_success_total", labels, 2, rows[k].n);
        }
    }
}

void metrics_write(const struct metrics *m, struct buf *out)
{
    write_requests(m, out);
    write_jobs(m, out);
    for (size_t k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) {
        prom_family(out, counters[k].name, "counter", counters[k].help);
        for (uint32_t i = 0; i < m->n_models; i++) {
            const struct prom_label label = {"model_name", m->models[i].name};
            uint64_t v;
            memcpy(&v, (const char *)&m->models[i] + counters[k].offset, sizeof(v));
            prom_u64(out, counters[k].name, &label, 1, v);
        }
    }
    for (size_t k = 0; k < sizeof(histograms) / sizeof(histograms[0]); k++) {
        prom_family(out, histograms[k].name, "histogram", histograms[k].help);
        for (uint32_t i = 0; i < m->n_models; i++) {
            const struct prom_label label = {"model_name", m->models[i].name};
            const void *h = (const char *)&m->models[i] + histograms[k].offset;
            prom_histogram(out, histograms[k].name, &label, 1, h);
        }
    }
    prom_family(out, "millrace_loop_lag_seconds", "histogram",
                "How late a timer of the event loop fired: anything that blocks shows here.");
    prom_histogram(out, "millrace_loop_lag_seconds", NULL, 0, &m->loop_lag);
}
