/* prom.h - the Prometheus text exposition format, version 0.0.4:
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 *
 * A family is announced once (prom_family), then its samples follow. Labels are given as a flat
 * list of name, value, ... and are escaped here. Thread: no shared state. */
#ifndef MILLRACE_GATEWAY_METRICS_PROM_H
#define MILLRACE_GATEWAY_METRICS_PROM_H

#include "shared/base/buf.h"
#include "shared/base/str.h"

struct prom_label {
    const char *name;
    struct str value;
};

/* Bounds are upper ones, ascending, without +Inf. */
enum { HISTOGRAM_MAX_BUCKETS = 24 };
struct histogram {
    const double *bounds; /* borrowed constant table */
    uint32_t n_bounds;
    uint64_t counts[HISTOGRAM_MAX_BUCKETS + 1]; /* not cumulated; the last one is +Inf */
    uint64_t count;
    double sum;
};

void histogram_init(struct histogram *h, const double *bounds, uint32_t n);
void histogram_observe(struct histogram *h, double v);

void prom_family(struct buf *out, const char *name, const char *type, const char *help);
void prom_u64(struct buf *out, const char *name, const struct prom_label *labels, int n_labels,
              uint64_t v);
void prom_f64(struct buf *out, const char *name, const struct prom_label *labels, int n_labels,
              double v);
/* _bucket, _sum and _count. */
void prom_histogram(struct buf *out, const char *name, const struct prom_label *labels,
                    int n_labels, const struct histogram *h);

#endif
