/* matmul.c - the driver: quantizes activations into tiles, cuts the rows of W into tasks, runs the
 * kernels.
 *
 * One parallel region per call: (1) threads share the rows of x and quantize them; barrier; (2)
 * threads take tasks (some panels of 16 rows of one matrix) from a counter. Which thread does what,
 * and how columns are cut into chunks, changes no number: see kernels.h.
 *
 * A segment is one matrix with the slots (rows of quantized x) that go through it: matmul() has one
 * segment per output, matmul_experts() one per expert in use, its tokens gathered into neighbouring
 * slots. */
#include "worker/cpu/matmul.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/checked.h"
#include "worker/cpu/isa.h"
#include "worker/cpu/kernels.h"

/* Columns per chunk and panels per task. A chunk's panels stay in the L1 or L2 cache while all
 * tokens pass; many tokens want several panels per pass over the activations, few want a small
 * scratch and fine tasks. */
enum {
    CHUNK_MAX = 1024,  /* integer panels; a multiple of every block */
    CHUNK_FEW = 512,   /* the same for few tokens: the panel stays in L1 */
    CHUNK_FLOAT = 256, /* float panels: 16 KiB each */
    PANELS_MAX = 4,
    MANY_TOKENS = 48, /* from here on PANELS_MAX panels per task */
    SLOTS_MIN = MATMUL_USED_MAX
};

struct scratch {
    struct panel panel[PANELS_MAX];
    uint8_t *tail; /* [16] rows of a chunk: the last rows of W, filled up */
    int32_t *corr; /* [CHUNK_MAX/16][TILE_TOKENS]; floats (sum) in place for types with mins */
    float *x;      /* [CHUNK_FLOAT][TILE_TOKENS] */
    void *block;   /* owned: all of the above */
};

struct segment {
    const struct weight *w;
    const uint8_t *data;
    float *y;
    int ldy;
    int slot_lo, slot_hi;
    int panels_per_task;
    int first_task;
};

struct matmul_ws {
    int max_tok, max_in, n_threads, slots_max;
    size_t elems_max; /* slots * columns that q holds */
    const struct kernels *k;
    int8_t *q;                /* tiles one after the other: [tile][group][width][32] */
    float *d;                 /* [tile][group][width] */
    int16_t *sum16;           /* [tile][group][2][width] */
    int32_t *source, *target; /* experts: row of x and of y by slot */
    struct segment *segments; /* [MATMUL_EXPERTS_MAX] */
    struct scratch *scratch;  /* [n_threads] */
};

struct job {
    struct pool *pool;
    struct matmul_ws *ws;
    const struct segment *segments;
    int n_segments, n_tasks, n_in;
    const float *x;
    int ldx;
    const int32_t *source, *target; /* NULL: the slot itself */
    bool quantize;
    int n_slots;
    _Alignas(64) _Atomic int next_task;
};

bool matmul_supports(enum qtype type)
{
    const struct qtype_info *info = qtype_info(type);
    return info && info->name && info->dequantize;
}

/* ---- workspace
 * ---------------------------------------------------------------------------------------- */

static const struct kernels *kernels_for(enum cpu_isa isa)
{
#if defined(__x86_64__)
    if (isa >= CPU_ISA_AVX512)
        return &kernels_avx512;
    if (isa >= CPU_ISA_AVX2)
        return &kernels_avx2;
#endif
    (void)isa;
    return &kernels_c;
}

static void *alloc64(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) & ~(size_t)63);
}

static bool scratch_init(struct scratch *s)
{
    const size_t u = PANEL_ROWS * CHUNK_MAX, sm = sizeof(float) * PANEL_ROWS * (CHUNK_MAX / 16),
                 w = sizeof(float) * PANEL_ROWS * CHUNK_FLOAT;
    /* Float and integer panels are never used together: they share memory. */
    const size_t panel = u + 2 * sm > w ? u + 2 * sm : w;
    const size_t tail = PANEL_ROWS * sizeof(double) * CHUNK_MAX; /* no type is wider */
    const size_t corr = sizeof(int32_t) * (CHUNK_MAX / 16) * TILE_TOKENS;
    const size_t x = sizeof(float) * CHUNK_FLOAT * TILE_TOKENS;
    uint8_t *b = s->block = alloc64(PANELS_MAX * panel + tail + corr + x);
    if (!b)
        return false;
    for (int i = 0; i < PANELS_MAX; i++, b += panel)
        s->panel[i] = (struct panel){
            .u = b, .s = (float *)(b + u), .m = (float *)(b + u + sm), .w = (float *)b};
    s->tail = b;
    s->corr = (int32_t *)(b + tail);
    s->x = (float *)(b + tail + corr);
    return true;
}

enum err matmul_ws_open(struct matmul_ws **out, int max_tok, int max_in, int n_threads,
                        enum cpu_isa isa, struct errmsg *why)
{
    enum cpu_isa wanted;
    enum err e = cpu_isa_wanted(&wanted, why);
    if (e)
        return e;
    if (isa > cpu_isa_hardware())
        return err_set(why, ERR_UNSUPPORTED, "instruction set '%s': this machine has only '%s'",
                       cpu_isa_name(isa), cpu_isa_name(cpu_isa_hardware()));
    if (max_tok < 1 || max_in < 1 || n_threads < 1 || n_threads > POOL_THREADS_MAX)
        return err_set(why, ERR_RANGE, "matmul workspace: %d tokens, %d columns, %d threads",
                       max_tok, max_in, n_threads);
    int slots = max_tok > SLOTS_MIN ? max_tok : SLOTS_MIN;
    size_t width = ((size_t)max_in + GROUP - 1) / GROUP * GROUP, elems;
    if (slots > INT32_MAX / 16 || !mul_size(&elems, (size_t)slots, width) ||
        elems > PTRDIFF_MAX / 2)
        return err_set(why, ERR_RANGE, "matmul workspace: %d tokens of %d columns are too many",
                       max_tok, max_in);
    struct matmul_ws *ws = calloc(1, sizeof *ws);
    if (!ws)
        return err_set(why, ERR_NOMEM, "matmul workspace: out of memory");
    ws->max_tok = max_tok;
    ws->max_in = max_in;
    ws->n_threads = n_threads;
    ws->elems_max = elems;
    ws->slots_max = slots * 16; /* experts in use: narrower rows, so more of them fit into q */
    ws->k = kernels_for(isa);
    ws->q = alloc64(elems);
    ws->d = alloc64(sizeof *ws->d * (elems / GROUP));
    ws->sum16 = alloc64(sizeof *ws->sum16 * (elems / 16));
    ws->source = calloc((size_t)ws->slots_max, sizeof *ws->source);
    ws->target = calloc((size_t)ws->slots_max, sizeof *ws->target);
    ws->segments = calloc(MATMUL_EXPERTS_MAX, sizeof *ws->segments);
    ws->scratch = calloc((size_t)n_threads, sizeof *ws->scratch);
    bool ok =
        ws->q && ws->d && ws->sum16 && ws->source && ws->target && ws->segments && ws->scratch;
    for (int i = 0; ok && i < n_threads; i++)
        ok = scratch_init(&ws->scratch[i]);
    if (!ok) {
        matmul_ws_close(ws);
        return err_set(why, ERR_NOMEM,
                       "matmul workspace: out of memory for %d tokens of %d columns", max_tok,
                       max_in);
    }
    *out = ws;
    return ERR_OK;
}

void matmul_ws_close(struct matmul_ws *ws)
{
    if (!ws)
        return;
    for (int i = 0; ws->scratch && i < ws->n_threads; i++)
        free(ws->scratch[i].block);
    free(ws->scratch);
    free(ws->segments);
    free(ws->target);
    free(ws->source);
    free(ws->sum16);
    free(ws->d);
    free(ws->q);
    free(ws);
}

/* ---- phase 1: activations
 * ------------------------------------------------------------------------------ */

/* The tile that holds `slot` of a segment, and its width. */
static int tile_of(const struct segment *seg, int slot, int *width)
{
    int lo = slot - (slot - seg->slot_lo) % TILE_TOKENS;
    *width = seg->slot_hi - lo < TILE_TOKENS ? seg->slot_hi - lo : TILE_TOKENS;
    return lo;
}

static void quantize_slot(const struct job *job, const struct segment *seg, int slot, int g0,
                          int n_groups)
{
    struct matmul_ws *ws = job->ws;
    int width, lo = tile_of(seg, slot, &width), t = slot - lo;
    size_t groups = (size_t)job->n_in / GROUP, first = (size_t)lo * groups + (size_t)g0 * width;
    size_t row = (size_t)(job->source ? job->source[slot] : slot);
    ws->k->quantize(job->x + row * (size_t)job->ldx + (size_t)g0 * GROUP, n_groups,
                    ws->q + (first + t) * GROUP, ws->d + first + t, ws->sum16 + 2 * first + t,
                    width);
}

/* Rows are dealt round robin; few rows are also cut by columns, so that decode uses all threads. */
static void quantize_share(const struct job *job, int ith, int nth)
{
    int groups = job->n_in / GROUP;
    int parts = job->n_slots >= 4 * nth ? 1 : nth;
    if (parts > groups / 8)
        parts = groups / 8 > 0 ? groups / 8 : 1;
    int unit = 0;
    /* matmul()'s segments all have the same slots: the first stands for them. */
    int n_segments = job->source ? job->n_segments : 1;
    for (int i = 0; i < n_segments; i++) {
        const struct segment *seg = &job->segments[i];
        for (int slot = seg->slot_lo; slot < seg->slot_hi; slot++)
            for (int part = 0; part < parts; part++, unit++) {
                int g0 = groups * part / parts, g1 = groups * (part + 1) / parts;
                if (unit % nth == ith && g1 > g0)
                    quantize_slot(job, seg, slot, g0, g1 - g0);
            }
    }
}

/* ---- phase 2: tasks
 * ------------------------------------------------------------------------------------- */

/* The tile's part for columns k0..k0+kc, in the form that the micro kernels want. */
static struct tile stage_tile(const struct job *job, const struct pack *how, struct scratch *s,
                              int lo, int width, int k0, int kc)
{
    const struct matmul_ws *ws = job->ws;
    struct tile x = {.width = width};
    if (!how->group) {
        const float *rows[TILE_TOKENS];
        for (int t = 0; t < width; t++)
            rows[t] = job->x +
                      (size_t)(job->source ? job->source[lo + t] : lo + t) * (size_t)job->ldx + k0;
        x.x = width == 1 ? rows[0] : s->x;
        for (int k = 0; width > 1 && k < kc; k++)
            for (int t = 0; t < width; t++)
                s->x[k * width + t] = rows[t][k];
        return x;
    }
    size_t groups = (size_t)job->n_in / GROUP;
    size_t at = (size_t)lo * groups + (size_t)(k0 / GROUP) * width;
    x.q = ws->q + at * GROUP;
    x.d = ws->d + at;
    const int16_t *sum = ws->sum16 + 2 * at;
    int n = kc / GROUP, parts = GROUP / how->group;
    float *fsum = (float *)s->corr; /* one or the other is in use */
    for (int g = 0; g < n; g++)
        for (int h = 0; h < parts; h++)
            for (int t = 0; t < width; t++) {
                const int16_t *two = sum + (size_t)g * 2 * width + t;
                int v = parts == 1 ? two[0] + two[width] : two[h * width];
                int i = (g * parts + h) * width + t;
                if (how->has_min)
                    fsum[i] = (float)v;
                else
                    s->corr[i] = -v * how->offset;
            }
    x.corr = s->corr;
    x.sum = fsum;
    return x;
}

/* Panel of rows row0.. of the segment's matrix; the last rows are repeated to fill it. */
static void unpack_panel(const struct job *job, const struct segment *seg, struct scratch *s,
                         const struct panel *p, int row0, int k0, int kc)
{
    const struct weight *w = seg->w;
    const struct qtype_info *info = qtype_info(w->type);
    const uint8_t *rows = seg->data + (size_t)row0 * w->row_bytes +
                          (size_t)k0 / info->block_elems * info->block_bytes;
    size_t row_bytes = w->row_bytes;
    int n_rows = w->n_out - row0;
    if (n_rows < PANEL_ROWS) {
        size_t bytes = (size_t)kc / info->block_elems * info->block_bytes;
        for (int r = 0; r < PANEL_ROWS; r++)
            memcpy(s->tail + (size_t)r * bytes,
                   rows + (size_t)(r < n_rows ? r : n_rows - 1) * row_bytes, bytes);
        rows = s->tail;
        row_bytes = bytes;
    }
    const unpack_fn *unpack = job->ws->k->unpack;
    if (unpack && unpack[w->type])
        unpack[w->type](p, rows, row_bytes, kc);
    else
        unpack_any(w->type, p, rows, row_bytes, kc);
}

static void run_task(const struct job *job, const struct segment *seg, int task, struct scratch *s)
{
    const struct pack *how = &pack_table[seg->w->type];
    const struct kernels *k = job->ws->k;
    int panel0 = task * seg->panels_per_task;
    int n_panels = (seg->w->n_out + PANEL_ROWS - 1) / PANEL_ROWS - panel0;
    if (n_panels > seg->panels_per_task)
        n_panels = seg->panels_per_task;
    int chunk = !how->group ? CHUNK_FLOAT : seg->panels_per_task == 1 ? CHUNK_FEW : CHUNK_MAX;

    for (int k0 = 0; k0 < job->n_in; k0 += chunk) {
        int kc = job->n_in - k0 < chunk ? job->n_in - k0 : chunk;
        for (int i = 0; i < n_panels; i++)
            unpack_panel(job, seg, s, &s->panel[i], (panel0 + i) * PANEL_ROWS, k0, kc);
        for (int lo = seg->slot_lo; lo < seg->slot_hi; lo += TILE_TOKENS) {
            int width;
            tile_of(seg, lo, &width);
            struct tile x = stage_tile(job, how, s, lo, width, k0, kc);
            for (int i = 0; i < n_panels; i++) {
                int row0 = (panel0 + i) * PANEL_ROWS, n_rows = seg->w->n_out - row0;
                float *y[TILE_TOKENS];
                for (int t = 0; t < width; t++) {
                    size_t row = (size_t)(job->target ? job->target[lo + t] : lo + t);
                    y[t] = seg->y + row * (size_t)seg->ldy + row0;
                }
                if (n_rows > PANEL_ROWS)
                    n_rows = PANEL_ROWS;
                if (how->group)
                    k->micro_int(&s->panel[i], how, &x, kc / GROUP, y, n_rows, k0 == 0);
                else
                    k->micro_float(&s->panel[i], &x, kc, y, n_rows, k0 == 0);
            }
        }
    }
}

static const struct segment *segment_of(const struct job *job, int task)
{
    int lo = 0, hi = job->n_segments - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (job->segments[mid].first_task <= task)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &job->segments[lo];
}

static void region(void *arg, int ith, int nth)
{
    struct job *job = arg;
    struct matmul_ws *ws = job->ws;
    if (job->quantize) {
        quantize_share(job, ith, nth);
        pool_barrier(job->pool);
    }
    for (;;) {
        int task = atomic_fetch_add_explicit(&job->next_task, 1, memory_order_relaxed);
        if (task >= job->n_tasks)
            return;
        const struct segment *seg = segment_of(job, task);
        run_task(job, seg, task - seg->first_task, &ws->scratch[ith]);
    }
}

/* Sets how many tasks a segment has; large ones only where every thread still gets several. */
static int plan_segment(struct segment *seg, int first_task, int n_threads)
{
    int panels = (seg->w->n_out + PANEL_ROWS - 1) / PANEL_ROWS;
    int per = 1;
    if (seg->slot_hi - seg->slot_lo >= MANY_TOKENS)
        while (per < PANELS_MAX && panels / (per * 2) >= 3 * n_threads)
            per *= 2;
    seg->panels_per_task = per;
    seg->first_task = first_task;
    return first_task + (panels + per - 1) / per;
}

static void run_job(struct pool *pool, struct job *job)
{
    job->pool = pool;
    pool_run(pool, region, job);
}

void matmul(struct pool *pool, struct matmul_ws *ws, const struct matmul_out *out, int n_out,
            const float *x, int ldx, int n_tok)
{
    assert(n_out >= 1 && n_out <= MATMUL_OUTS_MAX && n_tok >= 1 && n_tok <= ws->max_tok);
    assert(out[0].w->n_in <= ws->max_in && pool_threads(pool) <= ws->n_threads);
    struct segment segments[MATMUL_OUTS_MAX];
    struct job job = {.ws = ws,
                      .segments = segments,
                      .n_segments = n_out,
                      .n_in = out[0].w->n_in,
                      .n_slots = n_tok,
                      .x = x,
                      .ldx = ldx};
    for (int i = 0; i < n_out; i++) {
        const struct weight *w = out[i].w;
        assert(w->n_in == job.n_in && out[i].ldy >= w->n_out);
        segments[i] = (struct segment){
            .w = w, .data = w->data, .y = out[i].y, .ldy = out[i].ldy, .slot_hi = n_tok};
        job.n_tasks = plan_segment(&segments[i], job.n_tasks, pool_threads(pool));
        job.quantize = job.quantize || pack_table[w->type].group;
    }
    run_job(pool, &job);
}

void matmul_experts(struct pool *pool, struct matmul_ws *ws, const struct weight *w,
                    size_t expert_bytes, int n_expert, const int32_t *ids, int n_used, int n_tok,
                    const float *x, int ldx, int x_per_use, float *y, int ldy)
{
    assert(n_expert >= 1 && n_expert <= MATMUL_EXPERTS_MAX && n_used >= 1 &&
           n_used <= MATMUL_USED_MAX);
    assert(w->n_in <= ws->max_in && ldy >= w->n_out && pool_threads(pool) <= ws->n_threads);
    /* As many tokens at once as q and the slot maps hold; at least one, since max_tok >=
     * MATMUL_USED_MAX. */
    size_t slots = ws->elems_max / (size_t)w->n_in;
    if (slots > (size_t)ws->slots_max)
        slots = (size_t)ws->slots_max;
    int batch = (int)(slots / (size_t)n_used);

    for (int t0 = 0; t0 < n_tok; t0 += batch) {
        int n = (n_tok - t0 < batch ? n_tok - t0 : batch) * n_used;
        const int32_t *id = ids + (size_t)t0 * n_used;
        /* Counting sort by expert: tokens of one expert become neighbouring slots. */
        int start[MATMUL_EXPERTS_MAX + 1] = {0};
        for (int i = 0; i < n; i++) {
            assert(id[i] >= 0 && id[i] < n_expert);
            start[id[i] + 1]++;
        }
        for (int e = 0; e < n_expert; e++)
            start[e + 1] += start[e];

        struct job job = {.ws = ws,
                          .segments = ws->segments,
                          .n_in = w->n_in,
                          .n_slots = n,
                          .x = x,
                          .ldx = ldx,
                          .source = ws->source,
                          .target = ws->target,
                          .quantize = pack_table[w->type].group != 0};
        for (int e = 0; e < n_expert; e++) {
            if (start[e + 1] == start[e])
                continue;
            struct segment *seg = &ws->segments[job.n_segments++];
            *seg = (struct segment){.w = w,
                                    .data = (const uint8_t *)w->data + (size_t)e * expert_bytes,
                                    .y = y,
                                    .ldy = ldy,
                                    .slot_lo = start[e],
                                    .slot_hi = start[e + 1]};
            job.n_tasks = plan_segment(seg, job.n_tasks, pool_threads(pool));
        }
        for (int i = 0; i < n; i++) {
            int slot = start[id[i]]++, row = t0 * n_used + i;
            ws->source[slot] = x_per_use ? row : t0 + i / n_used;
            ws->target[slot] = row;
        }
        run_job(pool, &job);
    }
}
