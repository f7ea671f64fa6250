/* llamalogits.c - the logits of a llama.cpp library, as `millrace-worker logits` prints ours.
 *
 *   llamalogits PATH/libllama.so MODEL.gguf CONTEXT 1,2,3 > float32 LE [n_tokens, n_vocab]
 *
 * For tests/compare/llama-cpp.sh. The library is opened at run time and its headers are not needed,
 * so that any build or release of it since March 2025 will do (llama_model_load_from_file()). Its
 * parameter structures are passed as it fills them in, in a buffer larger than they are; three
 * settings are changed, found by their default values: n_ctx and the batch sizes, which come first;
 * flash attention, off; the types of the KV cache, float32. What isn't found is refused. */
#include <dlfcn.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct opaque { /* of more than two words: the ABI passes it in memory, whatever its size */
    uint32_t w[128];
};

struct llama_batch_abi { /* unchanged since the batch has logits per token */
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos, *n_seq_id, **seq_id;
    int8_t *logits;
};

struct api {
    void (*backend_init)(void);
    void (*load_backends)(const char *dir); /* NULL: linked in */
    struct opaque (*model_params)(void);
    struct opaque (*context_params)(void);
    void *(*load_model)(const char *path, struct opaque params);
    void *(*new_context)(void *model, struct opaque params);
    const void *(*vocab)(const void *model);
    int32_t (*n_vocab)(const void *vocab);
    struct llama_batch_abi (*new_batch)(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
    int32_t (*decode)(void *ctx, struct llama_batch_abi batch);
    float *(*logits_of)(void *ctx, int32_t i);
    void (*log_set)(void (*log)(int level, const char *text, void *user), void *user);
};

static int fail(const char *what)
{
    fprintf(stderr, "llamalogits: %s\n", what);
    return 1;
}

static void quiet(int level, const char *text, void *user)
{
    (void)user;
    if (level == 4) /* GGML_LOG_LEVEL_ERROR */
        fputs(text, stderr);
}

static int open_library(struct api *a, const char *path)
{
    void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!lib)
        return fail(dlerror());
    const struct {
        void *to;
        const char *name;
        int must;
    } table[] = {
        {&a->backend_init, "llama_backend_init", 1},
        {&a->load_backends, "ggml_backend_load_all_from_path", 0},
        {&a->model_params, "llama_model_default_params", 1},
        {&a->context_params, "llama_context_default_params", 1},
        {&a->load_model, "llama_model_load_from_file", 1},
        {&a->new_context, "llama_init_from_model", 1},
        {&a->vocab, "llama_model_get_vocab", 1},
        {&a->n_vocab, "llama_vocab_n_tokens", 1},
        {&a->new_batch, "llama_batch_init", 1},
        {&a->decode, "llama_decode", 1},
        {&a->logits_of, "llama_get_logits_ith", 1},
        {&a->log_set, "llama_log_set", 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *f = dlsym(lib, table[i].name);
        if (!f && table[i].must) {
            fprintf(stderr, "llamalogits: %s has no %s\n", path, table[i].name);
            return 1;
        }
        memcpy(table[i].to, &f, sizeof f);
    }
    return 0;
}

/* Index of the first place where `n` words are as given; -1: nowhere. */
static int find(const struct opaque *p, const uint32_t *words, int n)
{
    for (int i = 0; i + n <= 64; i++)
        if (memcmp(p->w + i, words, (size_t)n * sizeof *words) == 0)
            return i;
    return -1;
}

static int set_params(struct opaque *p, uint32_t context)
{
    /* enums of -1 in a row: rope scaling, pooling, attention, flash attention (there since 2025-08;
     * before it was a bool that is off) */
    static const uint32_t enums[4] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    /* a callback and its user, both NULL, then the two types: GGML_TYPE_F16 is 1 */
    static const uint32_t types[6] = {0, 0, 0, 0, 1, 1};
    const int flash = find(p, enums, 4), kv = find(p, types, 6);
    if (kv < 0)
        return fail("this library's context parameters look otherwise than known");
    p->w[0] = context;
    p->w[1] = p->w[2] = 512;
    if (flash >= 0)
        p->w[flash + 3] = 0;
    p->w[kv + 4] = p->w[kv + 5] = 0; /* GGML_TYPE_F32 */
    return 0;
}

static int32_t *parse_tokens(char *text, int *n)
{
    int32_t *ids = calloc(strlen(text) + 1, sizeof *ids);
    *n = 0;
    for (char *t = strtok(text, ","); ids && t; t = strtok(NULL, ","))
        ids[(*n)++] = (int32_t)strtol(t, NULL, 10);
    return ids;
}

static int run(const struct api *a, void *ctx, int32_t n_vocab, const int32_t *ids, int n)
{
    struct llama_batch_abi b = a->new_batch(512, 0, 1);
    for (int at = 0; at < n; at += b.n_tokens) {
        b.n_tokens = n - at < 512 ? n - at : 512;
        for (int i = 0; i < b.n_tokens; i++) {
            b.token[i] = ids[at + i];
            b.pos[i] = at + i;
            b.n_seq_id[i] = 1;
            b.seq_id[i][0] = 0;
            b.logits[i] = 1;
        }
        if (a->decode(ctx, b) != 0)
            return fail("llama_decode failed");
        for (int i = 0; i < b.n_tokens; i++) {
            const float *row = a->logits_of(ctx, i);
            if (!row || fwrite(row, sizeof *row, (size_t)n_vocab, stdout) != (size_t)n_vocab)
                return fail("no logits, or stdout can't be written");
        }
    }
    return fflush(stdout) == 0 ? 0 : fail("stdout can't be written");
}

int main(int argc, char **argv)
{
    struct api a = {0};
    if (argc != 5)
        return fail("arguments: PATH/libllama.so MODEL.gguf CONTEXT TOKEN,TOKEN,...") + 1;
    if (open_library(&a, argv[1]))
        return 1;
    a.log_set(quiet, NULL);
    a.backend_init();
    if (a.load_backends)
        a.load_backends(dirname(argv[1]));
    int n;
    int32_t *ids = parse_tokens(argv[4], &n);
    void *model = a.load_model(argv[2], a.model_params());
    if (!model || !ids || !n)
        return fail("the library doesn't load this file, or there are no tokens");
    struct opaque p = a.context_params();
    if (set_params(&p, (uint32_t)strtoul(argv[3], NULL, 10)))
        return 1;
    void *ctx = a.new_context(model, p);
    if (!ctx)
        return fail("the library opens no context for this file");
    return run(&a, ctx, a.n_vocab(a.vocab(model)), ids, n);
}
