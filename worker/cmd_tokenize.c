/* cmd_tokenize.c - text on standard input, a JSON array of token ids on standard output. */
#include "worker/cmd_io.h"
#include "worker/commands.h"
#include "worker/model/gguf.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TEXT = (1 << 30) - 1 };

static enum err run(const char *path, unsigned flags, struct errmsg *why)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct token_list ids = {0};
    struct buf text, out;
    buf_init(&text);
    buf_init(&out);
    enum err e = gguf_open(&g, path, why);
    if (!e)
        e = tokenizer_open(&t, g, why);
    if (!e)
        e = cmd_read_stdin(&text, MAX_TEXT, why);
    if (!e)
        e = tokenizer_encode(t, text.p, text.n, flags, &ids, why);
    if (!e) {
        buf_putc(&out, '[');
        for (size_t i = 0; i < ids.n; i++) {
            if (i)
                buf_puts(&out, ", ");
            buf_put_i64(&out, ids.ids[i]);
        }
        buf_puts(&out, "]\n");
        e = out.failed ? err_set(why, ERR_NOMEM, "out of memory for %zu ids", ids.n)
                       : cmd_write_stdout(out.p, out.n, why);
    }
    buf_fini(&out);
    buf_fini(&text);
    token_list_fini(&ids);
    tokenizer_close(t);
    gguf_close(g);
    return e;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *path = NULL;
    unsigned flags = TOK_ADD_SPECIAL;
    bool usable = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--no-add-special") == 0)
            flags &= ~(unsigned)TOK_ADD_SPECIAL;
        else if (strcmp(argv[i], "--parse-special") == 0)
            flags |= TOK_PARSE_SPECIAL;
        else if (argv[i][0] != '-' && !path)
            path = argv[i];
        else
            usable = false;
    }
    if (!usable || !path) {
        fprintf(
            stderr,
            "usage: millrace-worker tokenize MODEL [--no-add-special] [--parse-special] < text\n");
        return EXIT_USAGE;
    }
    struct errmsg why = {0};
    return run(path, flags, &why) ? cmd_failed(argv[0], &why) : EXIT_DONE;
}
