/* report.c - a plan for people; report_json.c has the programs' form. */
#include "worker/plan/report.h"

#include "worker/cmd_io.h"
#include "worker/plan/thumb.h"

#include <inttypes.h>

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* --- what for, and on what ------------------------------------------------------------------- */

static void put_subject(const struct plan *p, struct buf *out)
{
    const struct subject *s = p->s;
    buf_printf(out, "model     %s: %s\n", s->name, s->what);
    buf_printf(out, "weights   %s%s, ", s->quant,
               s->quant_assumed ? " (assumed; --quant says another)" : "");
    cmd_put_size(out, 3, s->weight_bytes);
    buf_printf(out, ": %.4g billion parameters", (double)s->n_params / 1e9);
    if (s->n_active != s->n_params)
        buf_printf(out, " (all in memory), %.4g billion of them read for a token",
                   (double)s->n_active / 1e9);
    buf_puts(out, "\n");
}

static void put_machine(const struct machine *m, struct buf *out)
{
    buf_puts(out, "machine   ");
    if (m->gpus) {
        buf_printf(out, "%" PRIu32 " x %s of ", m->n_gpus, m->gpu_name);
        cmd_put_size(out, 3, m->gpu_bytes);
        if (m->gpu_gb_s > 0)
            buf_printf(out, ", %.0f GB/s (%s)", m->gpu_gb_s,
                       m->gpu_gb_s_given ? "as said" : "data sheet");
        else
            buf_puts(out, ", of unknown bandwidth (--bandwidth says it)");
        buf_puts(out, m->gpus_detected ? ", found by nvidia-smi" : ", as said");
        if (m->n_other_gpus)
            buf_printf(out, "; %" PRIu32 " more of another kind left out", m->n_other_gpus);
    } else {
        buf_printf(out, "the processor: %d core%s, ", m->cores, plural((uint64_t)m->cores));
        cmd_put_size(out, 3, m->ram_free_bytes);
        buf_puts(out, m->ram_detected ? " free of " : " as said, of ");
        cmd_put_size(out, 3, m->ram_bytes);
        if (m->ram_gb_s > 0)
            buf_printf(out, ", %.1f GB/s %s", m->ram_gb_s,
                       m->ram_gb_s_given ? "as said" : "measured");
    }
    buf_puts(out, "\n");
}

/* --- memory ---------------------------------------------------------------------------------- */

static void put_part(struct buf *out, const char *name, uint64_t bytes, bool first)
{
    buf_printf(out, "%s%s ", first ? "" : ", ", name);
    cmd_put_size(out, 3, bytes);
}

static void put_memory(const struct plan *p, struct buf *out)
{
    buf_printf(out, "memory    for %" PRIu32 " request%s of %" PRIu32 " tokens (KV cache in %s): ",
               p->load.slots, plural(p->load.slots), p->load.context,
               qtype_info((uint32_t)(p->s->arch->encoder ? QTYPE_F32 : p->load.kv_type))->name);
    if (p->m->gpus) {
        const struct gpu_memory *g = &p->gpu;
        cmd_put_size(out, 3, g->total);
        if (g->gpus)
            buf_printf(out, " on %" PRIu32 " GPU%s", g->gpus, plural(g->gpus));
        buf_puts(out, g->gpus > 1 ? "\n          the fullest holds " : "\n          ");
        put_part(out, "weights", g->weights, true);
        put_part(out, "KV cache", g->kv, false);
        put_part(out, "activations", g->step, false);
        put_part(out, "CUDA (assumed)", CUDA_BYTES, false);
    } else {
        const struct memory *c = &p->cpu;
        cmd_put_size(out, 3, c->total);
        buf_puts(out, "\n          ");
        put_part(out, "weights", c->weights, true);
        put_part(out, "KV cache", c->kv, false);
        put_part(out, "activations", c->step, false);
        put_part(out, "logits", c->sampling, false);
        put_part(out, "tokenizer", c->tokenizer, false);
        put_part(out, "process", c->process + c->copies, false);
    }
    buf_puts(out, "\nfits      ");
    if (p->m->gpus && !p->gpu.gpus) {
        buf_puts(out, "no: not even one layer with its share fits such a GPU");
    } else if (p->m->gpus) {
        buf_printf(out, "%s: needs %" PRIu32 " GPU%s of this kind, there %s %" PRIu32,
                   p->fits ? "yes" : "no", p->gpu.gpus, plural(p->gpu.gpus),
                   p->m->n_gpus == 1 ? "is" : "are", p->m->n_gpus);
    } else {
        buf_printf(out, "%s: ", p->fits ? "yes" : "no");
        cmd_put_size(out, 3, p->room_bytes);
        buf_puts(out, " may be used");
    }
    buf_puts(out, "\n");
}

static void put_rooms(const struct plan *p, struct buf *out)
{
    buf_printf(out, "room      %9s  %13s  %s\n", "context", "KV of request", "requests at a time");
    for (int i = 0; i < p->n_rows; i++) {
        const struct room *r = &p->rows[i];
        struct buf kv;
        buf_init(&kv);
        cmd_put_size(&kv, 3, r->kv_bytes);
        buf_putc(&kv, '\0');
        buf_printf(out, "          %9" PRIu32 "  %13s  ", r->context, kv.p ? kv.p : "");
        buf_fini(&kv);
        if (!r->slots)
            buf_puts(out, "none");
        else
            buf_printf(out, "%" PRIu32, r->slots);
        if (r->slots && p->m->gpus)
            buf_printf(out, ": %" PRIu32 " worker%s of %" PRIu32 " GPU%s", r->workers,
                       plural(r->workers), r->gpus, plural(r->gpus));
        buf_puts(out, "\n");
    }
}

/* --- speed ----------------------------------------------------------------------------------- */

/* Two digits: it is an estimate. */
static void put_rate(struct buf *out, double v)
{
    double unit = 0.01;
    while (v >= 100 * unit)
        unit *= 10;
    buf_printf(out,
               unit < 0.1 ? "%.2f"
               : unit < 1 ? "%.1f"
                          : "%.0f",
               (double)(uint64_t)(v / unit + 0.5) * unit);
}

static void put_speed(const struct speed *v, struct buf *out)
{
    buf_puts(out, "estimate: ");
    put_rate(out, v->tokens_s);
    if (v->slots == 1)
        buf_puts(out, " tokens/s for one request");
    else
        buf_printf(out, " tokens/s in all for %" PRIu32 " requests on one worker", v->slots);
    buf_puts(out, " (a step reads ");
    cmd_put_size(out, 3, v->bytes);
    buf_puts(out, ")\n");
}

static void put_speeds(const struct plan *p, struct buf *out)
{
    if (!(p->one.tokens_s > 0)) {
        buf_puts(out, "speed     no estimate: the memory's bandwidth is not known\n");
        return;
    }
    if (p->s->arch->encoder) {
        buf_puts(out, "speed     no estimate: embeddings wait for arithmetic, not for memory\n");
        return;
    }
    buf_puts(out, "speed     ");
    put_speed(&p->one, out);
    if (p->many.tokens_s > 0) {
        buf_puts(out, "          ");
        put_speed(&p->many, out);
    }
    buf_printf(out,
               "          assumed: %.0f %% of the bandwidth, each request's context half full; ",
               100 * (p->m->gpus ? GPU_SHARE : CPU_SHARE));
    if (p->m->gpus)
        buf_printf(out, "arithmetic is free\n          (the less so the more requests)%s\n",
                   p->gpu.gpus > 1 ? ", GPUs of one worker work one after another" : "");
    else
        buf_puts(out, "with more requests\n          a processor waits for arithmetic: "
                      "millrace-worker bench measures that\n");
}

void plan_text(const struct plan *p, struct buf *out)
{
    put_subject(p, out);
    put_machine(p->m, out);
    put_memory(p, out);
    put_rooms(p, out);
    put_speeds(p, out);
    if (p->m->gpus && !backend_find("cuda"))
        buf_puts(out, "note      arithmetic alone, nothing was run on a GPU; this build of "
                      "millrace-worker computes on processors only\n");
}

/* --- the rule of thumb ----------------------------------------------------------------------- */

enum err thumb_text(const struct load *load, struct buf *out, struct errmsg *why)
{
    buf_printf(out, "%-5s  %-11s %-15s  ", "size", "rule", "GPUs");
    for (int q = 0; q < THUMB_QUANTS; q++)
        buf_printf(out, "%-26s", thumb_quants[q]);
    buf_puts(out, "shape\n");
    const struct thumb *t;
    for (int i = 0; (t = thumb_at(i)); i++) {
        char shape[64] = "";
        buf_printf(out, "%-5s  %-11s %-15s  ", t->size, t->memory, t->gpus);
        for (int q = 0; q < THUMB_QUANTS; q++) {
            struct gpu_memory g;
            const enum err e = thumb_need(&g, shape, t, thumb_quants[q], load, why);
            if (e)
                return e;
            const size_t from = out->n;
            cmd_put_size(out, 3, g.total);
            if (g.gpus)
                buf_printf(out, ": %" PRIu32 " x %s", g.gpus, t->gpu);
            else
                buf_puts(out, ": no number will do");
            while (!out->failed && out->n - from < 26)
                buf_putc(out, ' ');
        }
        buf_printf(out, "%s\n", shape);
    }
    buf_printf(out,
               "\nThe rule counts FP16 with a factor of up to 4, in which training state is; the "
               "columns on the right are\ncomputed for inference alone: weights, KV cache of %u "
               "request%s of %u tokens, activations, CUDA (%u MB a GPU,\nassumed), 1/%d of each "
               "GPU left free. Estimates: nothing was run on a GPU.\n",
               load->slots ? load->slots : 1, load->slots > 1 ? "s" : "",
               load->context ? load->context : 8192, (unsigned)(CUDA_BYTES / 1000000),
               (int)GPU_RESERVE);
    return ERR_OK;
}
