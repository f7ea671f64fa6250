/* estimate.c - see estimate.h. */
#include "worker/plan/estimate.h"

#include <math.h>
#include <stdio.h>

/* --- does it fit ----------------------------------------------------------------------------- */

/* GPUs that one worker needs for this load; CPU: 1 where it fits; 0: it doesn't. */
static uint32_t units_needed(const struct plan *p, const struct load *l)
{
    struct errmsg ignored; /* more than can be counted: doesn't fit */
    if (p->m->gpus) {
        struct gpu_memory g;
        return memory_of_gpus(&g, p->s, l, p->m->gpu_bytes, &ignored) ? 0 : g.gpus;
    }
    struct memory m;
    return memory_of_worker(&m, p->s, l, &ignored) == ERR_OK && m.total <= p->room_bytes;
}

/* The most requests of that context that one worker of `gpus` GPUs takes. */
static uint32_t most_slots(const struct plan *p, uint32_t context, uint32_t gpus)
{
    struct load l = p->load;
    l.context = context;
    uint32_t lo = 0, hi = SLOTS_LIMIT;
    while (lo < hi) {
        l.slots = lo + (hi - lo + 1) / 2;
        const uint32_t n = units_needed(p, &l);
        if (n && n <= gpus)
            lo = l.slots;
        else
            hi = l.slots - 1;
    }
    return lo;
}

/* The split of all GPUs into workers that takes most requests; of equals the smaller workers. */
static struct room best_room(const struct plan *p, uint32_t context)
{
    struct load one = p->load;
    one.context = context;
    one.slots = 1;
    struct room r = {.context = context};
    struct kv_need n;
    struct errmsg ignored;
    const struct kv_ask ask = {.context = context, .slots = 1, .type = p->load.kv_type};
    if (model_kv_need(&n, &p->s->h, p->s->arch, backend_find("cpu"), &ask, &ignored) == ERR_OK)
        r.kv_bytes = n.slot_bytes;
    const uint32_t least = units_needed(p, &one), have = p->m->gpus ? p->m->n_gpus : 1;
    if (!least || least > have)
        return r;
    uint32_t workers = have / least;
    while (workers) { /* each number of workers with as many GPUs as it can give them */
        const uint32_t each = have / workers;
        const uint64_t slots = (uint64_t)workers * most_slots(p, context, each);
        if (slots > r.slots) {
            r.slots = (uint32_t)slots;
            r.gpus = each;
            r.workers = workers;
        }
        workers = have / (each + 1);
    }
    return r;
}

static void find_room(struct plan *p)
{
    static const uint32_t usual[] = {2048, 4096, 8192, 16384, 32768, 65536, 131072};
    const uint32_t most = p->s->h.n_ctx_train;
    bool asked = false;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if (!asked && p->load.context <= usual[i]) {
            p->rows[p->n_rows++] = best_room(p, p->load.context);
            asked = true;
        }
        if (usual[i] < most && usual[i] != p->load.context)
            p->rows[p->n_rows++] = best_room(p, usual[i]);
    }
    if (!asked)
        p->rows[p->n_rows++] = best_room(p, p->load.context);
    if (most != p->load.context)
        p->rows[p->n_rows++] = best_room(p, most);
}

/* --- how fast -------------------------------------------------------------------------------- */

/* A token's K and V over the layers; windows hold no more than they see. */
static uint64_t kv_reads(const struct subject *s, const struct kv_need *n, uint32_t tokens)
{
    if (s->arch->encoder)
        return 0;
    const uint64_t ring = n->ring_blocks && tokens > n->window ? n->window : tokens;
    return n->block_bytes[KV_WHOLE] / KV_TOKENS * tokens +
           (n->ring_blocks ? n->block_bytes[KV_WINDOW] / KV_TOKENS * ring : 0);
}

uint64_t plan_step_reads(const struct subject *s, const struct kv_need *n, uint32_t context,
                         uint32_t slots)
{
    double experts = 0;
    if (s->h.n_expert) /* a share that each of `slots` tokens leaves out, if they choose freely */
        experts = (double)s->expert_bytes *
                  (1 - pow(1 - (double)s->h.n_expert_used / s->h.n_expert, slots));
    return s->read_bytes + (uint64_t)experts + slots * kv_reads(s, n, context / 2);
}

static struct speed speed_of(const struct plan *p, uint32_t slots)
{
    const struct kv_need *n = p->m->gpus ? &p->gpu.need : &p->cpu.need;
    struct speed v = {.slots = slots, .bytes = plan_step_reads(p->s, n, p->load.context, slots)};
    const double gb_s = p->m->gpus ? p->m->gpu_gb_s * GPU_SHARE : p->m->ram_gb_s * CPU_SHARE;
    if (gb_s > 0 && v.bytes)
        v.tokens_s = slots * gb_s * 1e9 / (double)v.bytes;
    return v;
}

/* --- all of it ------------------------------------------------------------------------------- */

static const struct room *room_asked(const struct plan *p)
{
    for (int i = 0; i < p->n_rows; i++)
        if (p->rows[i].context == p->load.context)
            return &p->rows[i];
    return NULL;
}

enum err plan_make(struct plan *p, const struct subject *s, const struct machine *m,
                   const struct load *load, struct errmsg *why)
{
    *p = (struct plan){.s = s, .m = m, .load = *load};
    if (load->context > s->h.n_ctx_train)
        return err_set(why, ERR_RANGE,
                       "context %u is longer than the %u tokens that the model is made for",
                       load->context, s->h.n_ctx_train);
    if (!p->load.context)
        p->load.context = s->h.n_ctx_train < 8192 ? s->h.n_ctx_train : 8192;
    if (!p->load.slots)
        p->load.slots = 1;
    if (!p->load.threads)
        p->load.threads = m->cores > 0 ? m->cores : 1;
    if (p->load.slots > (uint32_t)SLOTS_LIMIT)
        return err_set(why, ERR_RANGE, "%u slots: a worker takes %d at most", p->load.slots,
                       SLOTS_LIMIT);
    p->room_bytes = m->gpus ? m->gpu_bytes - m->gpu_bytes / GPU_RESERVE
                            : m->ram_free_bytes - m->ram_free_bytes / CPU_RESERVE;
    enum err e = memory_of_worker(&p->cpu, s, &p->load, why);
    if (!e && m->gpus)
        e = memory_of_gpus(&p->gpu, s, &p->load, m->gpu_bytes, why);
    if (e)
        return e;
    const uint32_t units = units_needed(p, &p->load);
    p->fits = units && units <= (m->gpus ? m->n_gpus : 1);
    find_room(p);
    const struct room *r = room_asked(p);
    uint32_t many = load->slots > 1 ? load->slots : r && r->workers ? r->slots / r->workers : 0;
    if (load->slots <= 1 && many > SPEED_SLOTS)
        many = SPEED_SLOTS;
    p->one = speed_of(p, 1);
    if (many > 1 && m->gpus)
        p->many = speed_of(p, many);
    return ERR_OK;
}
