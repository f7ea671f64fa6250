/* gpus.h - what is known of GPUs: memory as the driver reports it, bandwidth as the data sheet has
 * it. Thread: a constant table. */
#ifndef MILLRACE_WORKER_PLAN_GPUS_H
#define MILLRACE_WORKER_PLAN_GPUS_H

#include "shared/base/err.h"

#include <stdint.h>

struct gpu_model {
    const char *name; /* "H100-80GB": what --gpu takes */
    uint32_t mib;     /* what nvidia-smi calls memory.total */
    uint32_t gb_s;    /* 10^9 bytes a second */
};

const struct gpu_model *gpu_at(int i); /* NULL past the end */
/* Any case, with or without hyphens; "H100" where one size is listed only. ERR_NOT_FOUND with the
 * names that are near. */
enum err gpu_find(const struct gpu_model **out, const char *name, struct errmsg *why) MUST_CHECK;
/* By the driver's words ("NVIDIA A100-SXM4-40GB", 40960). NULL: not in the table. */
const struct gpu_model *gpu_recognise(const char *driver_name, uint64_t mib);

#endif
