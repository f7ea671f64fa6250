#include "gateway/metrics/metrics.h"

#include "shared/base/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BUCKETS = 20, MAX_ROUTES = 64, STATUS_CLASSES = 6, LABELS = 6 };

/* Upper bounds as vLLM has them, so that histograms of both can be added. */
// clang-format off
static const struct histogram_row {
    const char *name, *help;
    double bounds[MAX_BUCKETS]; /* ends with 0 */
} histograms[METRIC_HISTOGRAMS] = {
    [METRIC_TTFT]        = {"vllm:time_to_first_token_seconds", "Time from admission to the first token",
                            {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 80}},
    [METRIC_INTER_TOKEN] = {"vllm:inter_token_latency_seconds", "Time between two tokens of a choice",
                            {.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5}},
    [METRIC_E2E]         = {"vllm:e2e_request_latency_seconds", "Time from admission to the end",
                            {.01, .05, .1, .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 60, 120, 480}},
    [METRIC_QUEUE]       = {"vllm:request_queue_time_seconds", "Time from admission until a worker computes",
                            {.001, .005, .01, .05, .1, .3, .5, 1, 1.5, 2, 5, 10, 20, 30, 60, 120}},
};
// clang-format on
static const char *const outcomes[LABELS] = {"finished", "cancelled", "failed", "interrupted"};
static const char *const finishes[LABELS] = {"stop", "length", "tool_calls"};

struct histogram {
    uint64_t bucket[MAX_BUCKETS + 1], count;
    double sum;
};

struct model_metrics {
    struct histogram h[METRIC_HISTOGRAMS];
    uint64_t outcome[LABELS], finish[LABELS];
};

struct route_metrics {
    const char *route;
    uint64_t by_class[STATUS_CLASSES];
};

struct metrics {
    const struct str *models;
    size_t n_models;
    struct model_metrics *of;
    struct route_metrics routes[MAX_ROUTES];
    struct histogram lag;
    double lag_max;
};

enum err metrics_open(struct metrics **out, const struct str *models, size_t n_models)
{
    struct metrics *m = calloc(1, sizeof(*m));
    if (m)
        m->of = calloc(n_models ? n_models : 1, sizeof(*m->of));
    if (!m || !m->of) {
        free(m);
        return ERR_NOMEM;
    }
    m->models = models;
    m->n_models = n_models;
    *out = m;
    return ERR_OK;
}

void metrics_close(struct metrics *m)
{
    if (!m)
        return;
    free(m->of);
    free(m);
}

void metrics_observe(struct metrics *m, size_t model, enum metric_histogram h, double seconds)
{
    struct histogram *x = &m->of[model].h[h];
    const double *bounds = histograms[h].bounds;
    int i = 0;
    while (bounds[i] > 0 && seconds > bounds[i])
        i++;
    x->bucket[i]++;
    x->count++;
    x->sum += seconds;
}

static void count_label(uint64_t *counts, const char *const *names, const char *name)
{
    for (int i = 0; i < LABELS && names[i]; i++)
        if (strcmp(names[i], name) == 0)
            counts[i]++;
}

void metrics_job(struct metrics *m, size_t model, const char *outcome, const char *finish)
{
    count_label(m->of[model].outcome, outcomes, outcome);
    if (finish)
        count_label(m->of[model].finish, finishes, finish);
}

void metrics_http(struct metrics *m, const char *route, int status)
{
    int class = status >= 100 && status < 600 ? status / 100 : 0;
    for (int i = 0; i < MAX_ROUTES; i++) {
        if (!m->routes[i].route)
            m->routes[i].route = route;
        if (m->routes[i].route == route || strcmp(m->routes[i].route, route) == 0) {
            m->routes[i].by_class[class]++;
            return;
        }
    }
}

void metrics_loop_lag(struct metrics *m, double seconds)
{
    m->lag.count++;
    m->lag.sum += seconds;
    m->lag_max = seconds > m->lag_max ? seconds : m->lag_max;
}

/* ---- text
 * ------------------------------------------------------------------------------------------------------------
 */

void metrics_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Prometheus label values escape backslash, quote and newline: JSON's strings do no less. */
static void put_labels(struct buf *out, const char *label, struct str value, const char *label2,
                       const char *value2)
{
    if (!label)
        return;
    buf_printf(out, "{%s=", label);
    json_put_str(out, value.p, value.n);
    if (label2)
        buf_printf(out, ",%s=\"%s\"", label2, value2);
    buf_putc(out, '}');
}

void metrics_sample(struct buf *out, const char *name, const char *label, struct str label_value,
                    double v)
{
    buf_puts(out, name);
    put_labels(out, label, label_value, NULL, NULL);
    buf_printf(out, " %.17g\n", v);
}

static void write_histogram(struct buf *out, const struct metrics *m, int h)
{
    const struct histogram_row *row = &histograms[h];
    metrics_head(out, row->name, "histogram", row->help);
    for (size_t k = 0; k < m->n_models; k++) {
        const struct histogram *x = &m->of[k].h[h];
        uint64_t below = 0;
        char name[96], le[32];
        snprintf(name, sizeof(name), "%s_bucket", row->name);
        for (int i = 0;; i++) {
            bool last = row->bounds[i] <= 0;
            below += x->bucket[i];
            snprintf(le, sizeof(le), last ? "+Inf" : "%g", row->bounds[i]);
            buf_puts(out, name);
            put_labels(out, "model_name", m->models[k], "le", le);
            buf_printf(out, " %llu\n", (unsigned long long)below);
            if (last)
                break;
        }
        snprintf(name, sizeof(name), "%s_sum", row->name);
        metrics_sample(out, name, "model_name", m->models[k], x->sum);
        snprintf(name, sizeof(name), "%s_count", row->name);
        metrics_sample(out, name, "model_name", m->models[k], (double)x->count);
    }
}

static void write_labelled(struct buf *out, const struct metrics *m, const char *name,
                           const char *help, const char *label, const char *const *names,
                           size_t offset)
{
    metrics_head(out, name, "counter", help);
    for (size_t k = 0; k < m->n_models; k++) {
        const uint64_t *counts = (const uint64_t *)(const void *)((const char *)&m->of[k] + offset);
        for (int i = 0; i < LABELS && names[i]; i++) {
            buf_puts(out, name);
            put_labels(out, "model_name", m->models[k], label, names[i]);
            buf_printf(out, " %llu\n", (unsigned long long)counts[i]);
        }
    }
}

void metrics_write(const struct metrics *m, struct buf *out)
{
    for (int h = 0; h < METRIC_HISTOGRAMS; h++)
        write_histogram(out, m, h);
    write_labelled(out, m, "vllm:request_success_total", "Finished jobs by reason",
                   "finished_reason", finishes, offsetof(struct model_metrics, finish));
    write_labelled(out, m, "millrace_jobs_total", "Ended jobs by outcome", "outcome", outcomes,
                   offsetof(struct model_metrics, outcome));
    metrics_head(out, "millrace_http_requests_total", "counter",
                 "HTTP requests by route and class of status");
    for (int i = 0; i < MAX_ROUTES && m->routes[i].route; i++) {
        for (int c = 0; c < STATUS_CLASSES; c++) {
            if (!m->routes[i].by_class[c])
                continue;
            char class[8];
            snprintf(class, sizeof(class), c ? "%dxx" : "none", c);
            buf_puts(out, "millrace_http_requests_total");
            put_labels(out, "route", str_of(m->routes[i].route), "code", class);
            buf_printf(out, " %llu\n", (unsigned long long)m->routes[i].by_class[c]);
        }
    }
    metrics_head(out, "millrace_loop_lag_seconds_total", "counter",
                 "Time by which loop timers came late, summed");
    metrics_sample(out, "millrace_loop_lag_seconds_total", NULL, STR(""), m->lag.sum);
    metrics_head(out, "millrace_loop_lag_max_seconds", "gauge", "The worst of those since start");
    metrics_sample(out, "millrace_loop_lag_max_seconds", NULL, STR(""), m->lag_max);
}
