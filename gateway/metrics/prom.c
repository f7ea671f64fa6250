#include "gateway/metrics/prom.h"
#include "shared/base/json.h"
#include <stdio.h>

void histogram_init(struct histogram *h, const double *bounds, uint32_t n)
{
    *h = (struct histogram){.bounds = bounds,
                            .n_bounds = n < HISTOGRAM_MAX_BUCKETS ? n : HISTOGRAM_MAX_BUCKETS};
}

void histogram_observe(struct histogram *h, double v)
{
    uint32_t i = 0;
    while (i < h->n_bounds && v > h->bounds[i])
        i++;
    h->counts[i]++;
    h->count++;
    h->sum += v;
}

void prom_family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_label_value(struct buf *out, struct str v)
{
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '\\' || v.p[i] == '"')
            buf_putc(out, '\\');
        if (v.p[i] == '\n')
            buf_puts(out, "\\n");
        else
            buf_putc(out, v.p[i]);
    }
}

static void put_series(struct buf *out, const char *name, const char *suffix,
                       const struct prom_label *labels, int n_labels, const char *le)
{
    buf_puts(out, name);
    buf_puts(out, suffix);
    if (n_labels || le) {
        buf_putc(out, '{');
        for (int i = 0; i < n_labels; i++) {
            buf_printf(out, "%s%s=\"", i ? "," : "", labels[i].name);
            put_label_value(out, labels[i].value);
            buf_putc(out, '"');
        }
        if (le)
            buf_printf(out, "%sle=\"%s\"", n_labels ? "," : "", le);
        buf_putc(out, '}');
    }
    buf_putc(out, ' ');
}

void prom_u64(struct buf *out, const char *name, const struct prom_label *labels, int n_labels,
              uint64_t v)
{
    put_series(out, name, "", labels, n_labels, NULL);
    buf_put_u64(out, v);
    buf_putc(out, '\n');
}

void prom_f64(struct buf *out, const char *name, const struct prom_label *labels, int n_labels,
              double v)
{
    put_series(out, name, "", labels, n_labels, NULL);
    json_put_f64(out, v);
    buf_putc(out, '\n');
}

void prom_histogram(struct buf *out, const char *name, const struct prom_label *labels,
                    int n_labels, const struct histogram *h)
{
    uint64_t so_far = 0;
    char le[32];
    for (uint32_t i = 0; i <= h->n_bounds; i++) {
        so_far += h->counts[i];
        if (i < h->n_bounds)
            snprintf(le, sizeof(le), "%g", h->bounds[i]);
        put_series(out, name, "_bucket", labels, n_labels, i < h->n_bounds ? le : "+Inf");
        buf_put_u64(out, so_far);
        buf_putc(out, '\n');
    }
    put_series(out, name, "_sum", labels, n_labels, NULL);
    json_put_f64(out, h->sum);
    buf_putc(out, '\n');
    put_series(out, name, "_count", labels, n_labels, NULL);
    buf_put_u64(out, h->count);
    buf_putc(out, '\n');
}
