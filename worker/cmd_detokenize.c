/* cmd_detokenize.c - a JSON array of token ids on standard input, their bytes on standard output.
 */
#include "shared/base/arena.h"
#include "shared/base/json.h"
#include "worker/cmd_io.h"
#include "worker/commands.h"
#include "worker/model/gguf.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>

enum { MAX_JSON = 1 << 30 };

static enum err print_ids(const struct tokenizer *t, const struct json *list, struct buf *out,
                          struct errmsg *why)
{
    if (!json_is(list, JSON_ARRAY))
        return err_set(why, ERR_INVALID, "standard input: not a JSON array of token ids");
    size_t i = 0;
    for (const struct json *v = list->list.first; v; v = v->next, i++) {
        if (!json_is(v, JSON_INT) || v->i < 0 || v->i >= (int64_t)tokenizer_n_vocab(t))
            return err_set(why, ERR_RANGE, "standard input: element %zu is no token id (0 to %u)",
                           i, tokenizer_n_vocab(t) - 1);
        int32_t id = (int32_t)v->i;
        if (tokenizer_decode(t, &id, 1, true, false, out))
            return err_set(why, ERR_NOMEM, "out of memory for the text of %zu tokens",
                           list->list.count);
    }
    return ERR_OK;
}

static enum err run(const char *path, struct errmsg *why)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct json *list = NULL;
    struct arena arena;
    struct buf text, out;
    arena_init(&arena, 0);
    buf_init(&text);
    buf_init(&out);
    enum err e = gguf_open(&g, path, why);
    if (!e)
        e = tokenizer_open(&t, g, why);
    if (!e)
        e = cmd_read_stdin(&text, MAX_JSON, why);
    if (!e)
        e = json_parse(&list, &arena, text.p, text.n, NULL, why);
    if (!e)
        e = print_ids(t, list, &out, why);
    if (!e)
        e = cmd_write_stdout(out.p, out.n, why);
    buf_fini(&out);
    buf_fini(&text);
    arena_fini(&arena);
    tokenizer_close(t);
    gguf_close(g);
    return e;
}

int cmd_detokenize(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: millrace-worker detokenize MODEL < JSON array of ids\n");
        return EXIT_USAGE;
    }
    struct errmsg why = {0};
    return run(argv[1], &why) ? cmd_failed(argv[0], &why) : EXIT_DONE;
}
