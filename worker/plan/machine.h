/* machine.h - what there is to run on: this machine, as found, or as the command line says.
 *
 * Detection reads /proc, the control group's limit, and asks nvidia-smi where there is one (for at
 * most five seconds). Memory bandwidth is measured by reading, for about a tenth of a second.
 * Nothing of it computes on a GPU. Thread: one caller; measuring starts threads and joins them. */
#ifndef MILLRACE_WORKER_PLAN_MACHINE_H
#define MILLRACE_WORKER_PLAN_MACHINE_H

#include "shared/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { GPUS_MAX = 1024 };

struct machine {
    bool gpus; /* plan for GPUs; else for the processor */
    /* GPUs: all alike (of a mixed machine the kind that there are most of). */
    char gpu_name[64];
    uint32_t n_gpus, n_other_gpus;
    uint64_t gpu_bytes;
    double gpu_gb_s; /* 0: not known */
    bool gpus_detected, gpu_gb_s_given;
    /* The processor. */
    int cores;
    uint64_t ram_bytes, ram_free_bytes;
    double ram_gb_s;
    bool ram_detected, ram_gb_s_given;
};

/* Everything that can be found without measuring; GPUs only when they are asked for. ERR_IO:
 * nvidia-smi is there and fails. */
enum err machine_detect(struct machine *m, bool with_gpus, struct errmsg *why) MUST_CHECK;
/* 10^9 bytes a second that `threads` threads read from memory; 0: no memory to measure with. */
double machine_measure_gb_s(int threads, uint64_t free_bytes);
/* One line of `nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits`. */
bool machine_read_smi_line(const char *line, char name[64], uint64_t *mib);

#endif
