/* memory.h - what a model takes, part by part: as a worker process on the CPU, and on one GPU of
 * several.
 *
 * The parts are those that the worker allocates (worker/model, worker/cpu, worker/sched), by their
 * own functions where they have one: measure.h for the KV cache, forward_bytes() for the
 * activations. tests/e2e/plan.test.mjs compares the sum with the resident memory of real workers.
 * Units: bytes. Thread: no state. */
#ifndef MILLRACE_WORKER_PLAN_MEMORY_H
#define MILLRACE_WORKER_PLAN_MEMORY_H

#include "worker/model/measure.h"
#include "worker/plan/subject.h"

struct load {
    uint32_t context, slots; /* tokens per request, requests at a time; both 1 or more */
    uint32_t step_tokens;    /* 0: what `serve` takes for so many slots */
    enum qtype kv_type;
    int threads; /* of a worker on the CPU */
};

struct memory {
    uint64_t weights;   /* the mapped file's tensors */
    uint64_t copies;    /* vectors as float32, turned matrices */
    uint64_t kv;        /* every page of it in use */
    uint64_t step;      /* activations and workspace of one step */
    uint64_t sampling;  /* logits of all slots, the sampler */
    uint64_t tokenizer; /* its tables, and the file's metadata */
    uint64_t process;   /* program, libraries, stacks, rings: whatever the model is */
    uint64_t total;
    struct kv_need need;
};
enum err memory_of_worker(struct memory *out, const struct subject *s, const struct load *l,
                          struct errmsg *why) MUST_CHECK;

/* Layers are dealt to GPUs in order, each with its own KV cache; the embedding goes with the first,
 * the output with the last. Assumed of a GPU: CUDA's context and libraries take CUDA_BYTES, and one
 * part in GPU_RESERVE stays free for what allocators waste. */
enum { CUDA_BYTES = 600 * 1000 * 1000, GPU_RESERVE = 20 };
struct gpu_memory {
    uint32_t gpus;              /* how many are needed; 0: no number of them will do */
    uint64_t fullest;           /* on the GPU that holds most, CUDA's share included */
    uint64_t weights, kv, step; /* on that one */
    uint64_t total;             /* on all */
    struct kv_need need;
};
enum err memory_of_gpus(struct gpu_memory *out, const struct subject *s, const struct load *l,
                        uint64_t gpu_bytes, struct errmsg *why) MUST_CHECK;

/* What a step of `serve` holds for this load. */
uint32_t load_step_tokens(const struct subject *s, const struct load *l);

#endif
