/* act.h - the activations of one matrix product, in the tiles that the kernels read.
 *
 * Rows of x become slots 0..n_slots-1; up to TILE_TOKENS neighbouring slots of one range are a
 * tile. The tile that starts at slot `lo` begins at element lo*n_in of each array (scaled by
 * elements per entry): q [group][width][32]   d [group][width]   sums [group][parts][width]   x
 * [column][width] Memory: one allocation per array in act_open(), none later. Thread: act_fill()
 * from all threads at once, each with its own share; then a barrier; then act_tile() from anywhere.
 */
#ifndef MILLRACE_WORKER_CPU_ACT_H
#define MILLRACE_WORKER_CPU_ACT_H

#include <stdbool.h>

#include "worker/cpu/kernels.h"

/* Slots lo..hi-1 are cut into tiles from lo on. */
struct act_range {
    int lo, hi;
};

struct act {
    int8_t *q; /* owned, as the others */
    float *d;
    void *sums[MATMUL_OUTS_MAX]; /* int32 or float: what tile.corr or tile.sum points to */
    float *x;                    /* float weights; tiles of width 1 read the caller's row instead */
    size_t elems_max;            /* slots * columns */
};

/* One product's input. The arrays are borrowed for the call. */
struct act_input {
    const float *x; /* rows, ldx apart */
    int ldx, n_in, n_slots;
    const int32_t *source; /* row of x by slot; NULL: the slot itself */
    const struct act_range *ranges;
    int n_ranges;
    const struct pack *packs[MATMUL_OUTS_MAX]; /* what sums[i] is made for */
    int n_packs;
    bool floats; /* some weights go as float panels: fill x too */
};

bool act_open(struct act *a, size_t elems_max); /* false: out of memory; act_close() all the same */
void act_close(struct act *a);

/* Adds the pack of a weight type to the input; its index in sums, or -1 for float weights, which
 * need tiles only where panels are used. */
int act_add_pack(struct act_input *in, const struct pack *how, bool panels);
/* The row of x that a slot is. */
const float *act_row(const struct act_input *in, int slot);
/* The share of thread ith of nth. */
void act_fill(struct act *a, const struct act_input *in, quantize_fn quantize, int ith, int nth);
/* Columns k0.. of the tile that starts at slot lo of a range that ends at hi, for weights of pack
 * `how`, whose index is `pack`. k0: a multiple of 32. */
struct tile act_tile(const struct act *a, const struct act_input *in, const struct pack *how,
                     int pack, int lo, int hi, int k0);

#endif
