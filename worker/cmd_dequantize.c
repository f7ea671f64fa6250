/* cmd_dequantize.c - `millrace-worker dequantize TYPE < blocks > float32`: what the blocks of a
 * file mean. */
#include "worker/cmd_io.h"
#include "worker/commands.h"
#include "worker/quant/qtype.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ELEMS = 1 << 16 }; /* a multiple of every block */

static int unusable(const char *type)
{
    char list[256];
    qtype_list(list, sizeof list);
    if (type)
        fprintf(stderr, "millrace-worker dequantize: no type '%s'; known: %s\n", type, list);
    else
        fprintf(stderr, "usage: millrace-worker dequantize TYPE < blocks > float32\n");
    return EXIT_USAGE;
}

static enum err convert(const struct qtype_info *q, void *raw, float *out, struct errmsg *why)
{
    size_t whole = CHUNK_ELEMS / q->block_elems * q->block_bytes, n;
    do {
        n = fread(raw, 1, whole, stdin);
        if (ferror(stdin))
            return err_set(why, ERR_IO, "standard input: %s", strerror(errno));
        if (n % q->block_bytes)
            return err_set(why, ERR_INVALID,
                           "standard input ends inside a block (%zu bytes over; %s has %u a block)",
                           n % q->block_bytes, q->name, q->block_bytes);
        size_t elems = n / q->block_bytes * q->block_elems;
        q->dequantize(out, raw, elems);
        enum err e = cmd_write_stdout((const char *)out, elems * sizeof *out, why);
        if (e)
            return e;
    } while (n == whole);
    return ERR_OK;
}

int cmd_dequantize(int argc, char **argv)
{
    if (argc != 2)
        return unusable(NULL);
    int id = qtype_by_name(argv[1]);
    const struct qtype_info *q = id < 0 ? NULL : qtype_info((uint32_t)id);
    if (!q || !q->dequantize)
        return unusable(argv[1]);
    void *raw = malloc(CHUNK_ELEMS / q->block_elems * q->block_bytes);
    float *out = malloc(CHUNK_ELEMS * sizeof *out);
    struct errmsg why = {{0}};
    enum err e =
        raw && out ? convert(q, raw, out, &why) : err_set(&why, ERR_NOMEM, "out of memory");
    free(raw);
    free(out);
    return e ? cmd_failed("dequantize", &why) : EXIT_DONE;
}
