/* cmd_serve.c - `serve MODEL --shm-fd N --work-fd N --news-fd N ...`: the process that the gateway
 * starts. */
#include "shared/base/str.h"
#include "worker/commands.h"
#include "worker/model/measure.h"
#include "worker/sched/serve.h"

#include <stdio.h>
#include <string.h>

static bool number(const char *text, uint64_t max, uint64_t *out)
{
    return str_to_u64(str_of(text), max, out);
}

int cmd_serve(int argc, char **argv)
{
    struct serve_options o = {
        .shm_fd = -1,
        .work_fd = -1,
        .news_fd = -1,
        .model = {.device = "cpu", .kv_type = QTYPE_F16},
        .embeddings = {.pooling = POOL_MODEL},
    };
    uint64_t shm = 0, work = 0, news = 0, context = 0, slots = 32, threads = 0, step = 0,
             blocks = 0, dimensions = 0, memory = 0, parent = 0;
    const struct {
        const char *name;
        uint64_t *value, max;
    } numbers[] = {{"--shm-fd", &shm, 1 << 20},
                   {"--work-fd", &work, 1 << 20},
                   {"--news-fd", &news, 1 << 20},
                   {"--context", &context, 1 << 24},
                   {"--slots", &slots, 4096},
                   {"--threads", &threads, 512},
                   {"--step-tokens", &step, 1 << 16},
                   {"--kv-blocks", &blocks, 1 << 30},
                   {"--memory", &memory, UINT64_MAX},
                   {"--parent-pid", &parent, INT32_MAX},
                   {"--dimensions", &dimensions, PROTO_MAX_DIMS}};
    const char *kv_type = NULL, *pooling = NULL;
    const struct {
        const char *name;
        const char **value;
    } texts[] = {{"--device", &o.model.device},
                 {"--chat-template", &o.chat_template},
                 {"--kv-type", &kv_type},
                 {"--pooling", &pooling}};
    if (argc > 1 && strncmp(argv[1], "--", 2) != 0)
        o.path = argv[1];
    for (int i = 2; i < argc; i += 2) {
        bool known = false, good = false;
        for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
            if (strcmp(argv[i], numbers[k].name) == 0) {
                known = true;
                good = i + 1 < argc && number(argv[i + 1], numbers[k].max, numbers[k].value);
            }
        }
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            if (strcmp(argv[i], texts[k].name) == 0) {
                known = true;
                good = i + 1 < argc;
                if (good)
                    *texts[k].value = argv[i + 1];
            }
        }
        if (!known || !good) {
            fprintf(stderr, "millrace-worker serve: %s '%s'\n",
                    known ? "no usable value after" : "unknown option", argv[i]);
            return EXIT_USAGE;
        }
    }
    if (!o.path || !shm || !work || !news) {
        fprintf(stderr, "millrace-worker serve: needs MODEL --shm-fd N --work-fd N --news-fd N; "
                        "`millrace serve` starts it\n");
        return EXIT_USAGE;
    }
    if (kv_type) {
        int t = qtype_by_name(kv_type);
        if (t != QTYPE_F16 && t != QTYPE_F32 && t != QTYPE_BF16 && t != QTYPE_Q8_0) {
            fprintf(stderr, "millrace-worker serve: --kv-type '%s': write f16, f32, bf16 or q8_0\n",
                    kv_type);
            return EXIT_USAGE;
        }
        o.model.kv_type = (enum qtype)t;
    }
    if (pooling && (!pooling_by_name(pooling, &o.embeddings.pooling) ||
                    o.embeddings.pooling == POOL_NONE || o.embeddings.pooling == POOL_RANK)) {
        fprintf(stderr, "millrace-worker serve: --pooling '%s': write mean, cls or last\n",
                pooling);
        return EXIT_USAGE;
    }
    o.embeddings.min_dims = (uint32_t)dimensions;
    o.shm_fd = (int)shm;
    o.work_fd = (int)work;
    o.news_fd = (int)news;
    o.model.context = (uint32_t)context;
    const uint64_t least = model_least_step(slots);
    if (slots == 0 || (step && step < least)) {
        fprintf(stderr,
                "millrace-worker serve: --slots %llu needs --step-tokens of at least %llu, and at "
                "least one slot\n",
                (unsigned long long)slots, (unsigned long long)least);
        return EXIT_USAGE;
    }
    o.model.max_seqs = (uint32_t)slots;
    o.model.n_threads = (int)threads;
    o.model.max_step_tokens = (uint32_t)(step ? step : model_default_step(slots));
    o.parent = (int)parent;
    o.model.kv_blocks = (uint32_t)blocks;
    o.model.memory_bytes = memory;
    struct errmsg why = {0};
    enum err e = serve_run(&o, &why);
    if (e == ERR_OK)
        return EXIT_DONE;
    fprintf(stderr, "millrace-worker: %s\n", why.text[0] ? why.text : err_text(e));
    return EXIT_FAILED;
}
