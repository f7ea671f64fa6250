/* report_json.c - a plan for programs. Bytes are bytes, speeds are tokens a second. */
#include "worker/plan/report.h"

#include "shared/base/json.h"
#include "worker/plan/thumb.h"

/* null: not known */
static void put_rate(struct buf *out, const char *key, double v)
{
    json_put_key(out, key);
    if (v > 0)
        buf_printf(out, "%.6g", v);
    else
        buf_puts(out, "null");
}

static void put_open(struct buf *out, const char *key, char bracket)
{
    json_put_key(out, key);
    buf_putc(out, bracket);
}

static void put_machine(const struct machine *m, struct buf *out)
{
    put_open(out, "machine", '{');
    json_put_member_str(out, "device", str_of(m->gpus ? "gpu" : "cpu"));
    if (m->gpus) {
        json_put_member_str(out, "gpu", str_of(m->gpu_name));
        json_put_member_u64(out, "gpus", m->n_gpus);
        json_put_member_u64(out, "gpu_bytes", m->gpu_bytes);
        json_put_member_bool(out, "detected", m->gpus_detected);
    } else {
        json_put_member_u64(out, "cores", (uint64_t)m->cores);
        json_put_member_u64(out, "ram_bytes", m->ram_bytes);
        json_put_member_u64(out, "ram_free_bytes", m->ram_free_bytes);
        json_put_member_bool(out, "detected", m->ram_detected);
    }
    put_rate(out, "bandwidth_gb_s", m->gpus ? m->gpu_gb_s : m->ram_gb_s);
    buf_putc(out, '}');
}

static void put_memory(const struct plan *p, struct buf *out)
{
    put_open(out, "memory", '{');
    if (p->m->gpus) {
        json_put_member_u64(out, "total", p->gpu.total);
        json_put_member_u64(out, "fullest_gpu", p->gpu.fullest);
        json_put_member_u64(out, "weights", p->gpu.weights);
        json_put_member_u64(out, "kv_cache", p->gpu.kv);
        json_put_member_u64(out, "activations", p->gpu.step);
        json_put_member_u64(out, "cuda_assumed", CUDA_BYTES);
    } else {
        json_put_member_u64(out, "total", p->cpu.total);
        json_put_member_u64(out, "weights", p->cpu.weights);
        json_put_member_u64(out, "copies", p->cpu.copies);
        json_put_member_u64(out, "kv_cache", p->cpu.kv);
        json_put_member_u64(out, "activations", p->cpu.step);
        json_put_member_u64(out, "logits", p->cpu.sampling);
        json_put_member_u64(out, "tokenizer", p->cpu.tokenizer);
        json_put_member_u64(out, "process", p->cpu.process);
    }
    json_put_member_u64(out, "usable", p->room_bytes);
    buf_putc(out, '}');
}

static void put_speed(const struct speed *v, bool known, struct buf *out)
{
    json_put_member_u64(out, "slots", v->slots);
    json_put_member_u64(out, "bytes_per_step", v->bytes);
    put_rate(out, "tokens_per_second_estimate", known ? v->tokens_s : 0);
}

void plan_json(const struct plan *p, struct buf *out)
{
    const struct subject *s = p->s;
    buf_putc(out, '{');
    json_put_member_str(out, "model", str_of(s->name));
    json_put_member_str(out, "shape", str_of(s->what));
    json_put_member_bool(out, "distilled", s->distilled);
    json_put_member_str(out, "architecture", str_of(s->arch->name));
    json_put_member_str(out, "quantization", str_of(s->quant));
    json_put_member_bool(out, "quantization_assumed", s->quant_assumed);
    json_put_member_u64(out, "parameters", s->n_params);
    json_put_member_u64(out, "active_parameters", s->n_active);
    json_put_member_u64(out, "weight_bytes", s->weight_bytes);
    json_put_member_u64(out, "context_length", s->h.n_ctx_train);
    put_machine(p->m, out);
    json_put_member_u64(out, "context", p->load.context);
    json_put_member_u64(out, "slots", p->load.slots);
    json_put_member_bool(out, "fits", p->fits);
    if (p->m->gpus) {
        json_put_key(out, "gpus_needed"); /* null: no number of them will do */
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
        json_put_member_u64(out, "context", r->context);
        json_put_member_u64(out, "kv_bytes_per_request", r->kv_bytes);
        json_put_member_u64(out, "requests", r->slots);
        json_put_member_u64(out, "workers", r->workers);
        json_put_member_u64(out, "gpus_per_worker", r->gpus);
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
        json_put_member_str(out, "size", str_of(t->size));
        json_put_member_str(out, "memory", str_of(t->memory));
        json_put_member_str(out, "gpus", str_of(t->gpus));
        put_open(out, "computed", '{');
        json_put_member_str(out, "gpu", str_of(t->gpu));
        for (int q = 0; q < THUMB_QUANTS; q++) {
            struct gpu_memory g;
            const enum err e = thumb_need(&g, shape, t, thumb_quants[q], load, why);
            if (e)
                return e;
            put_open(out, thumb_quants[q], '{');
            json_put_member_u64(out, "bytes", g.total);
            json_put_member_u64(out, "gpus", g.gpus);
            buf_putc(out, '}');
        }
        json_put_member_str(out, "shape", str_of(shape));
        buf_puts(out, "}}");
    }
    buf_puts(out, "]\n");
    return ERR_OK;
}
