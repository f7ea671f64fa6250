/* metrics.h - counters and histograms of this process, as Prometheus text. Names are vLLM's where
 * vLLM has one, so that existing dashboards and autoscalers work; ours begin with millrace_.
 * Cardinality is bounded: models and routes, never keys. Thread: the loop's.   Memory: all at open.
 */
#ifndef MILLRACE_GATEWAY_METRICS_METRICS_H
#define MILLRACE_GATEWAY_METRICS_METRICS_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"

struct metrics; /* opaque */

enum metric_histogram {
    METRIC_TTFT,
    METRIC_INTER_TOKEN,
    METRIC_E2E,
    METRIC_QUEUE,
    METRIC_HISTOGRAMS
};

enum err metrics_open(struct metrics **out, const struct str *models,
                      size_t n_models) MUST_CHECK; /* names borrowed */
void metrics_close(struct metrics *m);

void metrics_observe(struct metrics *m, size_t model, enum metric_histogram h, double seconds);
/* One ended job; finish: "stop", "length", ... or NULL; outcome as in the usage store. */
void metrics_job(struct metrics *m, size_t model, const char *outcome, const char *finish);
/* One ended HTTP request. `route` is a path of the routes table (static text). */
void metrics_http(struct metrics *m, const char *route, int status);
void metrics_loop_lag(struct metrics *m, double seconds);

/* Appends everything above. */
void metrics_write(const struct metrics *m, struct buf *out);
/* For gauges that others know: `# HELP` and `# TYPE` lines, then samples. labels:
 * "model_name=\"x\"" or NULL. */
void metrics_head(struct buf *out, const char *name, const char *type, const char *help);
void metrics_sample(struct buf *out, const char *name, const char *label, struct str label_value,
                    double v);

#endif
