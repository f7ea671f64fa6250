/* matmul.c - the driver: fills the tiles of activations, cuts the rows of W into tasks, runs the
 * kernels.
 *
 * One parallel region per call: (1) threads share the rows of x and fill tiles (act.h); barrier;
 * (2) threads take tasks (neighbouring panels of 16 rows of one matrix) from a counter. Which
 * thread does what, and how columns are cut into chunks, changes no number: see kernels.h.
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
#include "worker/cpu/act.h"
#include "worker/cpu/isa.h"
#include "worker/cpu/kernels.h"

/* Columns per chunk and panels at once. A chunk's panels stay in the L1 or L2 cache while all
 * tokens pass; many tokens want several panels per pass over the activations, few want little
 * scratch and fine tasks. */
enum {
    CHUNK_MAX = 1024,          /* integer panels; a multiple of every block */
    CHUNK_FEW = 512,           /* the same for few tokens: the panel stays in L1 */
    CHUNK_FLOAT = FLOAT_BLOCK, /* float panels: 32 KiB each */
    PANELS_MAX = 4,
    MANY_TOKENS = 48,     /* from here on PANELS_MAX panels at once */
    TASKS_PER_THREAD = 4, /* enough to even out threads that others delay */
    SLOTS_MIN = MATMUL_USED_MAX
};

struct scratch {
    struct panel panel[PANELS_MAX];
    uint8_t *tail; /* [16] rows of a chunk: the last rows of W, filled up */
    void *block;   /* owned: all of the above */
};

struct segment {
    const struct weight *w;
    const uint8_t *data;
    float *y;
    int ldy;
    struct act_range slots;
    int pack; /* index of its sums in the activations */
    int panels_at_once, panels_per_task;
    bool dot, dot_float; /* whole panels go by these kernels */
    int first_task;
};

struct matmul_ws {
    int max_tok, max_in, n_threads, slots_max;
    const struct kernels *k;
    struct act act;
    int32_t *source, *target; /* experts: row of x and of y by slot */
    struct segment *segments; /* [MATMUL_EXPERTS_MAX] */
    struct act_range *ranges; /* [MATMUL_EXPERTS_MAX]: the slots of the segments */
    struct scratch *scratch;  /* [n_threads] */
};

struct job {
    struct pool *pool;
    struct matmul_ws *ws;
    const struct segment *segments;
    int n_segments, n_tasks;
    struct act_input in;
    const int32_t *target; /* NULL: the slot itself */
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

static bool scratch_init(struct scratch *s)
{
    const size_t u = PANEL_ROWS * CHUNK_MAX, sm = sizeof(float) * PANEL_ROWS * (CHUNK_MAX / 16),
                 w = sizeof(float) * PANEL_ROWS * CHUNK_FLOAT;
    /* Float and integer panels are never used together: they share memory. */
    const size_t panel = u + 2 * sm > w ? u + 2 * sm : w;
    const size_t tail = PANEL_ROWS * sizeof(double) * CHUNK_MAX; /* no type is wider */
    uint8_t *b = s->block = aligned_alloc(64, PANELS_MAX * panel + tail);
    if (!b)
        return false;
    for (int i = 0; i < PANELS_MAX; i++, b += panel)
        s->panel[i] = (struct panel){
            .u = b, .s = (float *)(b + u), .m = (float *)(b + u + sm), .w = (float *)b};
    s->tail = b;
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
    ws->slots_max = slots * 16; /* experts in use: narrower rows, so more of them fit into act */
    ws->k = kernels_for(isa);
    ws->source = calloc((size_t)ws->slots_max, sizeof *ws->source);
    ws->target = calloc((size_t)ws->slots_max, sizeof *ws->target);
    ws->segments = calloc(MATMUL_EXPERTS_MAX, sizeof *ws->segments);
    ws->ranges = calloc(MATMUL_EXPERTS_MAX, sizeof *ws->ranges);
    ws->scratch = calloc((size_t)n_threads, sizeof *ws->scratch);
    bool ok = act_open(&ws->act, elems) && ws->source && ws->target && ws->segments && ws->ranges &&
              ws->scratch;
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

uint64_t matmul_ws_bytes(uint64_t quant_elems, uint64_t float_elems, int n_threads)
{
    /* act.h: bytes, a scale per group of 32, the sums of a pack; floats as they are */
    const uint64_t acts = quant_elems + quant_elems / GROUP * sizeof(float) +
                          quant_elems / 16 * sizeof(float) + float_elems * sizeof(float);
    const uint64_t u = PANEL_ROWS * CHUNK_MAX, sm = sizeof(float) * PANEL_ROWS * (CHUNK_MAX / 16);
    const uint64_t panels = PANELS_MAX * (u + 2 * sm);
    return acts + (uint64_t)n_threads * panels +
           MATMUL_EXPERTS_MAX * (sizeof(struct segment) + sizeof(struct act_range));
}

void matmul_ws_close(struct matmul_ws *ws)
{
    if (!ws)
        return;
    for (int i = 0; ws->scratch && i < ws->n_threads; i++)
        free(ws->scratch[i].block);
    free(ws->scratch);
    free(ws->ranges);
    free(ws->segments);
    free(ws->target);
    free(ws->source);
    act_close(&ws->act);
    free(ws);
}

/* ---- tasks
 * --------------------------------------------------------------------------------------------- */

/* Where column k0 of row row0 of the segment's matrix is; k0: whole blocks. */
static const uint8_t *weights_at(const struct segment *seg, int row0, int k0)
{
    const struct qtype_info *info = qtype_info(seg->w->type);
    return seg->data + (size_t)row0 * seg->w->row_bytes +
           (size_t)k0 / info->block_elems * info->block_bytes;
}

/* What follows 16 rows from row0 in reading order, `done` bytes per row into it. */
static const uint8_t *ahead_of(const struct segment *seg, int row0, size_t done)
{
    int next = row0 + PANEL_ROWS;
    return next + PANEL_ROWS <= seg->w->n_out ? weights_at(seg, next, 0) + done * PANEL_ROWS
                                              : weights_at(seg, row0, 0);
}

/* Panel of rows row0..; the last rows are repeated to fill it. */
static void unpack_panel(const struct job *job, const struct segment *seg, struct scratch *s,
                         const struct panel *p, int row0, int k0, int kc)
{
    const struct weight *w = seg->w;
    const uint8_t *rows = weights_at(seg, row0, k0);
    const uint8_t *ahead = ahead_of(seg, row0, (size_t)(rows - weights_at(seg, row0, 0)));
    size_t row_bytes = w->row_bytes;
    int n_rows = w->n_out - row0;
    if (n_rows < PANEL_ROWS) {
        size_t bytes = (size_t)(weights_at(seg, row0, k0 + kc) - rows);
        for (int r = 0; r < PANEL_ROWS; r++)
            memcpy(s->tail + (size_t)r * bytes,
                   rows + (size_t)(r < n_rows ? r : n_rows - 1) * row_bytes, bytes);
        rows = s->tail;
        row_bytes = bytes;
    }
    const unpack_fn *unpack = job->ws->k->unpack;
    if (unpack && unpack[w->type])
        unpack[w->type](p, rows, row_bytes, kc, ahead);
    else
        unpack_any(w->type, p, rows, row_bytes, kc);
}

/* Where row row0 of the outputs of the tile at slot lo begins. */
static void outputs_at(float **y, const struct job *job, const struct segment *seg, int lo,
                       int width, int row0)
{
    for (int t = 0; t < width; t++) {
        size_t row = (size_t)(job->target ? job->target[lo + t] : lo + t);
        y[t] = seg->y + row * (size_t)seg->ldy + row0;
    }
}

/* n_panels panels from row row0 on, by way of unpacked panels. */
static void run_panels(const struct job *job, const struct segment *seg, int row0, int n_panels,
                       struct scratch *s)
{
    const struct pack *how = &pack_table[seg->w->type];
    const struct kernels *k = job->ws->k;
    int chunk = !how->group ? CHUNK_FLOAT : n_panels == 1 ? CHUNK_FEW : CHUNK_MAX;
    int n_in = seg->w->n_in;
    for (int k0 = 0; k0 < n_in; k0 += chunk) {
        int kc = n_in - k0 < chunk ? n_in - k0 : chunk;
        for (int i = 0; i < n_panels; i++)
            unpack_panel(job, seg, s, &s->panel[i], row0 + i * PANEL_ROWS, k0, kc);
        for (int lo = seg->slots.lo; lo < seg->slots.hi; lo += TILE_TOKENS) {
            struct tile x =
                act_tile(&job->ws->act, &job->in, how, seg->pack, lo, seg->slots.hi, k0);
            for (int i = 0; i < n_panels; i++) {
                float *y[TILE_TOKENS];
                int row = row0 + i * PANEL_ROWS, n_rows = seg->w->n_out - row;
                if (n_rows > PANEL_ROWS)
                    n_rows = PANEL_ROWS;
                outputs_at(y, job, seg, lo, x.width, row);
                if (how->group)
                    k->micro_int(&s->panel[i], how, &x, kc / GROUP, y, n_rows, k0 == 0);
                else
                    k->micro_float(&s->panel[i], &x, kc, y, n_rows, k0 == 0);
            }
        }
    }
}

/* One panel, up to a tile of tokens, DOT_TOKENS at a time: after the first of them the rows are in
 * the cache. */
static void run_dot(const struct job *job, const struct segment *seg, int row0)
{
    const struct pack *how = &pack_table[seg->w->type];
    struct tile x =
        act_tile(&job->ws->act, &job->in, how, seg->pack, seg->slots.lo, seg->slots.hi, 0);
    float *y[TILE_TOKENS];
    const uint8_t *rows = weights_at(seg, row0, 0), *ahead = ahead_of(seg, row0, 0);
    outputs_at(y, job, seg, seg->slots.lo, x.width, row0);
    for (int t = 0, n; t < x.width; t += n) {
        int left = x.width - t;
        n = left >= DOT_TOKENS ? DOT_TOKENS : left >= 2 ? 2 : 1;
        job->ws->k->dot[seg->w->type](rows, seg->w->row_bytes, &x, n, seg->w->n_in, y + t, ahead);
        x.q += n * GROUP;
        x.d += n;
        x.sum += n;
        x.corr += n;
        ahead = rows;
    }
}

/* The same for float weights. */
static void run_dot_float(const struct job *job, const struct segment *seg, int row0)
{
    const float *x[FLOAT_DOT_TOKENS];
    float *y[FLOAT_DOT_TOKENS];
    int n = seg->slots.hi - seg->slots.lo;
    for (int t = 0; t < n; t++)
        x[t] = act_row(&job->in, seg->slots.lo + t);
    outputs_at(y, job, seg, seg->slots.lo, n, row0);
    job->ws->k->dot_float[seg->w->type](weights_at(seg, row0, 0), seg->w->row_bytes, x, n,
                                        seg->w->n_in, y);
}

static void run_task(const struct job *job, const struct segment *seg, int task, struct scratch *s)
{
    int n_out = seg->w->n_out, first = task * seg->panels_per_task * PANEL_ROWS;
    int end = first + seg->panels_per_task * PANEL_ROWS;
    for (int row0 = first; row0 < end && row0 < n_out; row0 += seg->panels_at_once * PANEL_ROWS) {
        int left = ((n_out < end ? n_out : end) - row0 + PANEL_ROWS - 1) / PANEL_ROWS;
        if (seg->dot_float && n_out - row0 >= PANEL_ROWS)
            run_dot_float(job, seg, row0);
        else if (seg->dot && n_out - row0 >= PANEL_ROWS)
            run_dot(job, seg, row0);
        else
            run_panels(job, seg, row0, left < seg->panels_at_once ? left : seg->panels_at_once, s);
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
    act_fill(&ws->act, &job->in, ws->k->quantize, ith, nth);
    pool_barrier(job->pool);
    for (;;) {
        int task = atomic_fetch_add_explicit(&job->next_task, 1, memory_order_relaxed);
        if (task >= job->n_tasks)
            return;
        const struct segment *seg = segment_of(job, task);
        run_task(job, seg, task - seg->first_task, &ws->scratch[ith]);
    }
}

/* Cuts a segment into tasks: several for every thread, each as long as possible, since the panel
 * after the one at work is fetched ahead. */
static void add_segment(struct job *job, struct segment *seg)
{
    int panels = (seg->w->n_out + PANEL_ROWS - 1) / PANEL_ROWS,
        want = TASKS_PER_THREAD * pool_threads(job->pool);
    const struct kernels *k = job->ws->k;
    int n = seg->slots.hi - seg->slots.lo;
    enum qtype type = seg->w->type;
    bool whole = seg->w->n_in % GROUP == 0;
    int kind = pack_table[type].slow ? 0 : qtype_info(type)->block_elems <= GROUP ? 1 : 2;
    seg->dot = whole && n <= k->dot_tokens[kind] && k->dot && k->dot[type];
    seg->dot_float = whole && n <= k->float_tokens && k->dot_float && k->dot_float[type];
    int per = panels / want > 1 ? panels / want : 1;
    seg->panels_at_once = 1;
    if (n >= MANY_TOKENS)
        seg->panels_at_once = per < PANELS_MAX ? per : PANELS_MAX;
    per -= per % seg->panels_at_once;
    seg->panels_per_task = per;
    seg->first_task = job->n_tasks;
    seg->pack = act_add_pack(&job->in, &pack_table[type],
                             !seg->dot_float || seg->w->n_out % PANEL_ROWS != 0);
    job->n_tasks += (panels + per - 1) / per;
    job->n_segments++;
}

void matmul(struct pool *pool, struct matmul_ws *ws, const struct matmul_out *out, int n_out,
            const float *x, int ldx, int n_tok)
{
    assert(n_out >= 1 && n_out <= MATMUL_OUTS_MAX && n_tok >= 1 && n_tok <= ws->max_tok);
    assert(out[0].w->n_in <= ws->max_in && pool_threads(pool) <= ws->n_threads);
    struct segment segments[MATMUL_OUTS_MAX];
    const struct act_range all = {0, n_tok};
    struct job job = {.pool = pool, .ws = ws, .segments = segments};
    job.in = (struct act_input){.x = x,
                                .ldx = ldx,
                                .n_in = out[0].w->n_in,
                                .n_slots = n_tok,
                                .ranges = &all,
                                .n_ranges = 1};
    for (int i = 0; i < n_out; i++) {
        const struct weight *w = out[i].w;
        assert(w->n_in == job.in.n_in && out[i].ldy >= w->n_out);
        segments[i] = (struct segment){
            .w = w, .data = w->data, .y = out[i].y, .ldy = out[i].ldy, .slots = all};
        add_segment(&job, &segments[i]);
    }
    pool_run(pool, region, &job);
}

/* Sorts the n uses of experts by expert: slots of one expert become neighbours. start [n_expert +
 * 1]: the first slot of each. row0: the row of y of the first use; n_per_x uses share a row of x.
 */
static void gather(struct matmul_ws *ws, int *start, int n_expert, const int32_t *id, int n,
                   int row0, int n_per_x)
{
    memset(start, 0, sizeof *start * (size_t)(n_expert + 1));
    for (int i = 0; i < n; i++) {
        assert(id[i] >= 0 && id[i] < n_expert);
        start[id[i] + 1]++;
    }
    for (int e = 0; e < n_expert; e++)
        start[e + 1] += start[e];
    for (int i = 0; i < n; i++) {
        int slot = start[id[i]]++;
        ws->source[slot] = (row0 + i) / n_per_x;
        ws->target[slot] = row0 + i;
    }
    /* Every start has moved to its end, which is where the next one began. */
    memmove(start + 1, start, sizeof *start * (size_t)n_expert);
    start[0] = 0;
}

void matmul_experts(struct pool *pool, struct matmul_ws *ws, const struct weight *w,
                    size_t expert_bytes, int n_expert, const int32_t *ids, int n_used, int n_tok,
                    const float *x, int ldx, int x_per_use, float *y, int ldy)
{
    assert(n_expert >= 1 && n_expert <= MATMUL_EXPERTS_MAX && n_used >= 1 &&
           n_used <= MATMUL_USED_MAX);
    assert(w->n_in <= ws->max_in && ldy >= w->n_out && pool_threads(pool) <= ws->n_threads);
    /* As many tokens at once as the tiles and the slot maps hold: at least one, since they have
     * room for SLOTS_MIN rows. */
    size_t slots = ws->act.elems_max / (size_t)w->n_in;
    if (slots > (size_t)ws->slots_max)
        slots = (size_t)ws->slots_max;
    int batch = (int)(slots / (size_t)n_used);

    for (int t0 = 0; t0 < n_tok; t0 += batch) {
        int n = (n_tok - t0 < batch ? n_tok - t0 : batch) * n_used;
        int start[MATMUL_EXPERTS_MAX + 1];
        gather(ws, start, n_expert, ids + (size_t)t0 * n_used, n, t0 * n_used,
               x_per_use ? 1 : n_used);
        struct job job = {.pool = pool, .ws = ws, .segments = ws->segments, .target = ws->target};
        job.in = (struct act_input){.x = x,
                                    .ldx = ldx,
                                    .n_in = w->n_in,
                                    .n_slots = n,
                                    .source = ws->source,
                                    .ranges = ws->ranges};
        for (int e = 0; e < n_expert; e++) {
            if (start[e + 1] == start[e])
                continue;
            struct segment *seg = &ws->segments[job.n_segments];
            *seg = (struct segment){.w = w,
                                    .data = (const uint8_t *)w->data + (size_t)e * expert_bytes,
                                    .y = y,
                                    .ldy = ldy,
                                    .slots = {start[e], start[e + 1]}};
            ws->ranges[job.in.n_ranges++] = seg->slots;
            add_segment(&job, seg);
        }
        pool_run(pool, region, &job);
    }
}
