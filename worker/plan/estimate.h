/* estimate.h - puts a model onto a machine: whether it fits, on how many GPUs, how much context for
 * how many requests, and about how fast.
 *
 * Everything here is arithmetic on what subject.h and machine.h say; nothing is run. Speed counts
 * the bytes that have to be read for a token, which is what decoding waits for: an estimate, not a
 * measurement. Thread: no state. */
#ifndef MILLRACE_WORKER_PLAN_ESTIMATE_H
#define MILLRACE_WORKER_PLAN_ESTIMATE_H

#include "worker/plan/machine.h"
#include "worker/plan/memory.h"

/* Shares of the bandwidth that decoding is assumed to get. */
#define GPU_SHARE 0.7 /* of the data sheet's */
#define CPU_SHARE 0.7 /* of what plain reading gets: the kernels unpack and multiply meanwhile */
enum {
    CPU_RESERVE = 10, /* one part in so many of the free memory stays free */
    ROWS_MAX = 12,
    SLOTS_LIMIT = 4096, /* of one worker */
    SPEED_SLOTS = 32,   /* beyond it arithmetic counts more than bandwidth */
};

struct room {
    uint32_t context;
    uint32_t slots;    /* requests of that context at a time, on all workers; 0: not one */
    uint32_t gpus;     /* of one worker */
    uint32_t workers;  /* replicas */
    uint64_t kv_bytes; /* of one request */
};

struct speed {
    uint32_t slots;
    uint64_t bytes;  /* read in one step */
    double tokens_s; /* of all requests together; 0: the bandwidth is not known */
};

struct plan {
    const struct subject *s; /* borrowed, as m */
    const struct machine *m;
    struct load load;
    bool fits;
    struct memory cpu;     /* where the machine has no GPUs */
    struct gpu_memory gpu; /* where it has */
    uint64_t room_bytes;   /* of one GPU or of the machine, that may be used */
    struct room rows[ROWS_MAX];
    int n_rows;
    struct speed one,
        many; /* many: on GPUs; a processor waits for arithmetic then. slots 0: none */
};

/* load: as asked. ERR_RANGE: a context beyond the model's, numbers that can't be. */
enum err plan_make(struct plan *p, const struct subject *s, const struct machine *m,
                   const struct load *load, struct errmsg *why) MUST_CHECK;

/* Bytes that one step reads: the weights once (of the experts those that `slots` tokens can be
 * expected to choose), and the K and V of each request, half of its context filled. */
uint64_t plan_step_reads(const struct subject *s, const struct kv_need *n, uint32_t context,
                         uint32_t slots);

#endif
