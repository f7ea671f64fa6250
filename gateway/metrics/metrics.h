/* metrics.h - what the gateway counts itself. Gauges of models and workers are read where they live
 * when somebody asks (gateway/api/health.c).
 *
 * Names are vLLM's where it has one for the same thing, so that dashboards and autoscalers made for
 * it work; the rest begin with millrace_. Label values come from tables (routes, models of the
 * configuration), never from requests: their number is bounded. Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_METRICS_METRICS_H
#define MILLRACE_GATEWAY_METRICS_METRICS_H

#include "gateway/metrics/prom.h"

enum {
    METRICS_MAX_ROUTES = 64, /* one more counts what met no route */
    METRICS_STATUSES = 24,   /* of the table in metrics.c; the last one counts the others */
};

/* X(name, text): why a job ended; the order of enum usage_outcome. */
#define METRICS_OUTCOMES(X)                                                                        \
    X(FINISHED, "finished")                                                                        \
    X(CANCELLED, "cancelled")                                                                      \
    X(FAILED, "failed")                                                                            \
    X(INTERRUPTED, "interrupted")

enum { METRICS_N_OUTCOMES = 4 };

struct model_metrics {
    struct str name; /* borrowed: configuration */
    uint64_t outcomes[METRICS_N_OUTCOMES];
    uint64_t finish_stop, finish_length, finish_tool_calls;
    uint64_t refused; /* queue full */
    uint64_t prompt_tokens, cached_tokens, completion_tokens;
    struct histogram ttft, inter_token, e2e, queue;
};

struct metrics {
    const char *routes[METRICS_MAX_ROUTES]; /* borrowed patterns */
    uint32_t n_routes;
    uint64_t requests[METRICS_MAX_ROUTES + 1][METRICS_STATUSES];
    uint64_t client_gone;         /* requests whose client left before the end */
    struct model_metrics *models; /* owned */
    uint32_t n_models;
    struct histogram loop_lag;
};

enum err metrics_open(struct metrics **out, const char *const *routes, size_t n_routes,
                      const struct str *models, size_t n_models) MUST_CHECK;
void metrics_close(struct metrics *m);

/* route: index in the table given at open; -1: none. */
void metrics_count_request(struct metrics *m, int route, int status);
struct model_metrics *metrics_model(struct metrics *m, struct str name); /* NULL: unknown */

void metrics_write(const struct metrics *m, struct buf *out);

#endif
