/* report_json.c - a plan for programs. Bytes are bytes, speeds are tokens a second. */
#include "worker/plan/report.h"

#include "shared/base/json.h"
#include "worker/plan/thumb.h"

static void put_key(struct buf *out, const char *key)
{
    buf_printf(out, "%s\"%s\":",
               out->n && out->p[out->n - 1] != '{' && out->p[out->n - 1] != '[' ? "," : "", key);
}

static void put_u64(struct buf *out, const char *key, uint64_t v)
{
    put_key(out, key);
    buf_put_u64(out, v);
}

static void put_text(struct buf *out, const char *key, const char *v)
{
    put_key(out, key);
    json_put_cstr(out, v);
}

static void put_bool(struct buf *out, const char *key, bool v)
{
    put_key(out, key);
    buf_puts(out, v ? "true" : "false");
}

/* null: not known */
static void put_rate(struct buf *out, const char *key, double v)
{
    put_key(out, key);
    if (v > 0)
        buf_printf(out, "%.6g", v);
    else
        buf_puts(out, "null");
}

static void put_open(struct buf *out, const char *key, char bracket)
{
    put_key(out, key);
    buf_putc(out, bracket);
}

static void put_machine(const struct machine *m, struct buf *out)
{
    put_open(out, "machine", '{');
    put_text(out, "device", m->gpus ? "gpu" : "cpu");
    if (m->gpus) {
        put_text(out, "gpu", m->gpu_name);
        put_u64(out, "gpus", m->n_gpus);
        put_u64(out, "gpu_bytes", m->gpu_bytes);
        put_bool(out, "detected", m->gpus_detected);
    } else {
        put_u64(out, "cores", (uint64_t)m->cores);
        put_u64(out, "ram_bytes", m->ram_bytes);
        put_u64(out, "ram_free_bytes", m->ram_free_bytes);
        put_bool(out, "detected", m->ram_detected);
    }
    put_rate(out, "bandwidth_gb_s", m->gpus ? m->gpu_gb_s : m->ram_gb_s);
    buf_putc(out, '}');
}

static void put_memory(const struct plan *p, struct buf *out)
{
    put_open(out, "memory", '{');
    if (p->m->gpus) {
        put_u64(out, "total", p->gpu.total);
        put_u64(out, "fullest_gpu", p->gpu.fullest);
        put_u64(out, "weights", p->gpu.weights);
        put_u64(out, "kv_cache", p->gpu.kv);
        put_u64(out, "activations", p->gpu.step);
        put_u64(out, "cuda_assumed", CUDA_BYTES);
    } else {
        put_u64(out, "total", p->cpu.total);
        put_u64(out, "weights", p->cpu.weights);
        put_u64(out, "copies", p->cpu.copies);
        put_u64(out, "kv_cache", p->cpu.kv);
        put_u64(out, "activations", p->cpu.step);
        put_u64(out, "logits", p->cpu.sampling);
        put_u64(out, "tokenizer", p->cpu.tokenizer);
        put_u64(out, "process", p->cpu.process);
    }
    put_u64(out, "usable", p->room_bytes);
    buf_putc(out, '}');
}

static void put_speed(const struct speed *v, bool known, struct buf *out)
{
    put_u64(out, "slots", v->slots);
    put_u64(out, "bytes_per_step", v->bytes);
    put_rate(out, "tokens_per_second_estimate", known ? v->tokens_s : 0);
}

void plan_json(const struct plan *p, struct buf *out)
{
    const struct subject *s = p->s;
    buf_putc(out, '{');
    put_text(out, "model", s->name);
    put_text(out, "shape", s->what);
    put_bool(out, "distilled", s->distilled);
    put_text(out, "architecture", s->arch->name);
    put_text(out, "quantization", s->quant);
    put_bool(out, "quantization_assumed", s->quant_assumed);
    put_u64(out, "parameters", s->n_params);
    put_u64(out, "active_parameters", s->n_active);
    put_u64(out, "weight_bytes", s->weight_bytes);
    put_u64(out, "context_length", s->h.n_ctx_train);
    put_machine(p->m, out);
    put_u64(out, "context", p->load.context);
    put_u64(out, "slots", p->load.slots);
    put_bool(out, "fits", p->fits);
    if (p->m->gpus) {
        put_key(out, "gpus_needed"); /* null: no number of them will do */
        if (p->gpu.gpus)
            buf_put_u64(out, p->gpu.gpus);
        else
            buf_puts(out, "null");
    }
    put_memory(p, out);
    put_open(out, "room", '[');
    for (int i = 0; i < p->n_rows; i++) {
        const struct room *r = &p->rows[i];
        buf_puts(out, i ? ",{" : "{");
        put_u64(out, "context", r->context);
        put_u64(out, "kv_bytes_per_request", r->kv_bytes);
        put_u64(out, "requests", r->slots);
        put_u64(out, "workers", r->workers);
        put_u64(out, "gpus_per_worker", r->gpus);
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
    put_open(out, "speed", '[');
    buf_putc(out, '{');
    put_speed(&p->one, !s->arch->encoder, out);
    buf_putc(out, '}');
    if (p->many.slots) {
        buf_puts(out, ",{");
        put_speed(&p->many, !s->arch->encoder, out);
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
    put_rate(out, "bandwidth_share_assumed", p->m->gpus ? GPU_SHARE : CPU_SHARE);
    buf_puts(out, "}\n");
}

enum err thumb_json(const struct load *load, struct buf *out, struct errmsg *why)
{
    const struct thumb *t;
    buf_putc(out, '[');
    for (int i = 0; (t = thumb_at(i)); i++) {
        char shape[64] = "";
        buf_puts(out, i ? ",{" : "{");
        put_text(out, "size", t->size);
        put_text(out, "memory", t->memory);
        put_text(out, "gpus", t->gpus);
        put_open(out, "computed", '{');
        put_text(out, "gpu", t->gpu);
        for (int q = 0; q < THUMB_QUANTS; q++) {
            struct gpu_memory g;
            const enum err e = thumb_need(&g, shape, t, thumb_quants[q], load, why);
            if (e)
                return e;
            put_open(out, thumb_quants[q], '{');
            put_u64(out, "bytes", g.total);
            put_u64(out, "gpus", g.gpus);
            buf_putc(out, '}');
        }
        put_text(out, "shape", shape);
        buf_puts(out, "}}");
    }
    buf_puts(out, "]\n");
    return ERR_OK;
}
