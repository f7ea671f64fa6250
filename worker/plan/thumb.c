/* thumb.c - see thumb.h. */
#include "worker/plan/thumb.h"

#include "worker/plan/gpus.h"
#include "worker/plan/shapes.h"

#include <stdio.h>

static const struct thumb rows[] = {
    {"1.5B", "8-12 GB", "1", "A100-40GB"},
    {"7B", "24-32 GB", "1 (A100-40GB)", "A100-40GB"},
    {"8B", "32-40 GB", "1 (A100-80GB)", "A100-80GB"},
    {"14B", "56-72 GB", "2 (A100-40GB)", "A100-40GB"},
    {"32B", "128-160 GB", "4 (A100-40GB)", "A100-40GB"},
    {"70B", "280-350 GB", "8 (A100-80GB)", "A100-80GB"},
    {"671B", "1.3-1.6 TB", "32 (H100-80GB)", "H100-80GB"},
};
enum { ROWS = sizeof rows / sizeof *rows };

const char *const thumb_quants[THUMB_QUANTS] = {"F16", "Q8_0", "Q4_K_M"};

const struct thumb *thumb_at(int i)
{
    return i >= 0 && i < ROWS ? &rows[i] : NULL;
}

enum err thumb_need(struct gpu_memory *out, char shape[64], const struct thumb *t,
                    const char *quant, const struct load *load, struct errmsg *why)
{
    const struct gpu_model *g;
    struct shape_choice c;
    struct subject s;
    struct load l = *load;
    enum err e = gpu_find(&g, t->gpu, why);
    if (!e)
        e = shape_choose(&c, t->size, why);
    if (e)
        return e;
    snprintf(shape, 64, "%s", c.shape->family);
    e = subject_open_shape(&s, t->size, quant, why);
    if (e)
        return e;
    if (!l.context)
        l.context = 8192;
    if (!l.slots)
        l.slots = 1;
    e = memory_of_gpus(out, &s, &l, (uint64_t)g->mib << 20, why);
    subject_fini(&s);
    return e;
}
