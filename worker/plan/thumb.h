/* thumb.h - the usual rule of thumb (FP16: parameters times two bytes, times a factor of up to four
 * that has training state in it), and what the sizes need when they are computed.
 * Thread: a constant table. */
#ifndef MILLRACE_WORKER_PLAN_THUMB_H
#define MILLRACE_WORKER_PLAN_THUMB_H

#include "worker/plan/estimate.h"

struct thumb {
    const char *size, *memory, *gpus; /* as the rule is handed down */
    const char *gpu;                  /* what the computed need is counted on */
};
const struct thumb *thumb_at(int i); /* NULL past the end */

enum { THUMB_QUANTS = 3 };
extern const char *const thumb_quants[THUMB_QUANTS];

/* What a row needs in one quantization, for this load; context 0: 8192, slots 0: 1. */
enum err thumb_need(struct gpu_memory *out, char shape[64], const struct thumb *t,
                    const char *quant, const struct load *load, struct errmsg *why) MUST_CHECK;

#endif
