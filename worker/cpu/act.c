/* act.c - see act.h. */
#include "worker/cpu/act.h"

#include <stdlib.h>

static void *alloc64(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) & ~(size_t)63);
}

bool act_open(struct act *a, size_t elems_max)
{
    a->elems_max = elems_max;
    a->q = alloc64(elems_max);
    a->d = alloc64(sizeof(float) * (elems_max / GROUP));
    a->x = alloc64(sizeof(float) *
                   elems_max); /* untouched, so free of charge, without float weights */
    bool ok = a->q && a->d && a->x;
    for (int i = 0; i < MATMUL_OUTS_MAX; i++) {
        a->sums[i] = alloc64(sizeof(float) * (elems_max / 16));
        ok = ok && a->sums[i];
    }
    return ok;
}

void act_close(struct act *a)
{
    for (int i = 0; i < MATMUL_OUTS_MAX; i++)
        free(a->sums[i]);
    free(a->x);
    free(a->d);
    free(a->q);
}

int act_add_pack(struct act_input *in, const struct pack *how, bool panels)
{
    if (!how->group) {
        in->floats |= panels;
        return -1;
    }
    for (int i = 0; i < in->n_packs; i++)
        if (in->packs[i]->group == how->group && in->packs[i]->has_min == how->has_min &&
            in->packs[i]->offset == how->offset)
            return i;
    in->packs[in->n_packs] = how;
    return in->n_packs++;
}

static int tile_width(int lo, int hi)
{
    return hi - lo < TILE_TOKENS ? hi - lo : TILE_TOKENS;
}

const float *act_row(const struct act_input *in, int slot)
{
    return in->x + (size_t)(in->source ? in->source[slot] : slot) * (size_t)in->ldx;
}

/* The sums of n groups of token t in the form that a type wants; sums: [group][parts][width]. */
static void fill_sums(void *sums, const struct pack *how, const int16_t *sum16, int n, int t,
                      int width)
{
    int parts = GROUP / how->group;
    for (int g = 0; g < n; g++)
        for (int h = 0; h < parts; h++) {
            int v = parts == 2 ? sum16[2 * g + h] : sum16[2 * g] + sum16[2 * g + 1];
            size_t i = (size_t)(g * parts + h) * width + t;
            if (how->has_min)
                ((float *)sums)[i] = (float)v;
            else
                ((int32_t *)sums)[i] = -v * how->offset;
        }
}

/* Groups g0..g1-1 of a slot of the tile lo.., in short runs, for the sums on the stack. */
static void fill_groups(struct act *a, const struct act_input *in, quantize_fn quantize, int slot,
                        int lo, int width, int g0, int g1)
{
    enum { RUN = 32 };
    int16_t sum16[2 * RUN];
    const float *x = act_row(in, slot);
    int t = slot - lo;
    for (int g = g0; g < g1; g += RUN) {
        int n = g1 - g < RUN ? g1 - g : RUN;
        size_t at = (size_t)lo * ((size_t)in->n_in / GROUP) + (size_t)g * width;
        quantize(x + (size_t)g * GROUP, n, a->q + (at + t) * GROUP, a->d + at + t, sum16, width);
        for (int i = 0; i < in->n_packs; i++)
            fill_sums((float *)a->sums[i] + at * (GROUP / in->packs[i]->group), in->packs[i], sum16,
                      n, t, width);
    }
}

void act_fill(struct act *a, const struct act_input *in, quantize_fn quantize, int ith, int nth)
{
    int groups = in->n_packs ? in->n_in / GROUP : 0;
    /* Rows are dealt round robin; few rows are also cut by columns, so that decode uses all
     * threads. */
    int parts = in->n_slots >= 4 * nth ? 1 : nth;
    if (parts > groups / 8)
        parts = groups / 8 > 0 ? groups / 8 : 1;
    int unit = 0;
    for (int i = 0; i < in->n_ranges; i++)
        for (int lo = in->ranges[i].lo; lo < in->ranges[i].hi; lo += TILE_TOKENS) {
            int width = tile_width(lo, in->ranges[i].hi);
            for (int slot = lo; slot < lo + width; slot++)
                for (int part = 0; part < parts; part++, unit++) {
                    if (unit % nth != ith)
                        continue;
                    fill_groups(a, in, quantize, slot, lo, width, groups * part / parts,
                                groups * (part + 1) / parts);
                    if (!in->floats || width == 1 || part != 0)
                        continue;
                    float *to = a->x + (size_t)lo * (size_t)in->n_in + (slot - lo);
                    const float *from = act_row(in, slot);
                    for (int k = 0; k < in->n_in; k++)
                        to[(size_t)k * width] = from[k];
                }
        }
}

struct tile act_tile(const struct act *a, const struct act_input *in, const struct pack *how,
                     int pack, int lo, int hi, int k0)
{
    int width = tile_width(lo, hi);
    struct tile t = {.width = width};
    if (!how->group) {
        t.x = width == 1 ? act_row(in, lo) + k0
                         : a->x + (size_t)lo * (size_t)in->n_in + (size_t)k0 * width;
        return t;
    }
    size_t at = (size_t)lo * ((size_t)in->n_in / GROUP) + (size_t)(k0 / GROUP) * width;
    t.q = a->q + at * GROUP;
    t.d = a->d + at;
    t.sum = (const float *)a->sums[pack] + at * (GROUP / how->group);
    t.corr = (const int32_t *)a->sums[pack] + at * (GROUP / how->group);
    return t;
}
