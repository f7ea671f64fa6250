/* cmd_match.c - `match SCHEMA.json < instance`: whether constrained output could be this text. */
#include "worker/commands.h"

#include <stdio.h>
#include <string.h>

#include "worker/cmd_io.h"
#include "worker/grammar/grammar.h"

enum { INPUT_MAX = 64 << 20 };

static enum err read_file(const char *path, struct buf *out, struct errmsg *why)
{
    char piece[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(why, ERR_NOT_FOUND, "%s: cannot be opened", path);
    out->limit = INPUT_MAX;
    for (size_t n; (n = fread(piece, 1, sizeof(piece), f)) > 0;)
        buf_put(out, piece, n);
    bool bad = ferror(f) || out->failed;
    fclose(f);
    return bad ? err_set(why, ERR_IO, "%s: cannot be read, or longer than 64 MiB", path) : ERR_OK;
}

int cmd_match(int argc, char **argv)
{
    enum grammar_kind kind = GRAMMAR_JSON_SCHEMA;
    if (argc == 3 && strcmp(argv[1], "--gbnf") == 0)
        kind = GRAMMAR_GBNF;
    else if (argc == 3 && strcmp(argv[1], "--regex") == 0)
        kind = GRAMMAR_REGEX;
    else if (argc != 2) {
        fprintf(stderr, "usage: millrace-worker match [--gbnf | --regex] SCHEMA.json < instance\n");
        return EXIT_USAGE;
    }
    struct buf source, input;
    struct errmsg why = {""};
    struct grammar *g = NULL;
    int status = EXIT_USAGE;
    buf_init(&source);
    buf_init(&input);
    const char *path = argv[argc - 1];
    enum err e = read_file(path, &source, &why);
    if (!e)
        e = cmd_read_stdin(&input, INPUT_MAX, &why);
    if (!e && kind == GRAMMAR_REGEX && source.n && source.p[source.n - 1] == '\n')
        source.n--; /* the line break that editors add */
    if (!e)
        e = grammar_compile(&g, kind, (struct str){source.p, source.n}, &why);
    if (!e)
        status = grammar_matches(g, (struct str){input.p, input.n}) ? EXIT_DONE : EXIT_FAILED;
    else
        fprintf(stderr, "match: %s\n", why.text[0] ? why.text : err_text(e));
    grammar_release(g);
    buf_fini(&source);
    buf_fini(&input);
    return status;
}
