/* A request's body into a job: what the validator takes makes a body that the worker's reader
 * takes, and what it refuses makes an error object that is JSON. First byte: the dialect. */
#include "gateway/api/validate.h"
#include "shared/ipc/body.h"

static void check_error(struct arena *a, const struct api_fault *f)
{
    struct buf b = {0};
    struct json *root;
    if (f->error <= API_OK || f->error >= API_N_ERRORS || !f->message[0])
        __builtin_trap();
    api_error_put(&b, f->error, f->param, f->message);
    if (b.failed || json_parse(&root, a, b.p, b.n, NULL, NULL) != ERR_OK)
        __builtin_trap();
    buf_fini(&b);
}

static void check_body(struct arena *a, const struct api_params *p)
{
    struct buf b = {0};
    struct body body;
    struct body_part part;
    struct errmsg why;
    uint32_t n_inputs = 0;
    if (api_build_body(p, &b) != ERR_OK || body_open(&body, b.p, b.n, &why) != ERR_OK)
        __builtin_trap();
    for (size_t at = 0; body_next(&body, &at, &part);) {
        struct json *root;
        n_inputs += part.kind == SECTION_INPUT_TEXT || part.kind == SECTION_INPUT_TOKENS;
        if (part.kind == SECTION_REQUEST_JSON &&
            json_parse(&root, a, part.p, part.n, NULL, NULL) != ERR_OK)
            __builtin_trap();
    }
    if (n_inputs != (p->input ? api_count_inputs(p->input) : 0))
        __builtin_trap();
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a;
    struct json *root;
    struct api_params p;
    struct api_fault f;
    const struct json_limits limits = {.max_depth = 64, .max_nodes = 10000};
    if (n < 1)
        return 0;
    arena_init(&a, 64 << 20);
    if (json_parse(&root, &a, (const char *)data + 1, n - 1, &limits, NULL) == ERR_OK) {
        static const enum dialect_bit dialects[] = {FOR_CHAT, FOR_COMPLETIONS, FOR_EMBEDDINGS};
        if (api_validate(root, dialects[data[0] % 3], &p, &f))
            check_body(&a, &p);
        else
            check_error(&a, &f);
    }
    arena_fini(&a);
    return 0;
}
