/* cmd_io.c - see cmd_io.h. */
#include "worker/cmd_io.h"
#include "worker/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum err cmd_read_stdin(struct buf *out, size_t limit, struct errmsg *why)
{
    for (;;) {
        if (!buf_reserve(out, 64 * 1024))
            return err_set(why, ERR_NOMEM, "standard input: out of memory after %zu bytes", out->n);
        size_t got = fread(out->p + out->n, 1, out->cap - out->n - 1, stdin);
        out->n += got;
        out->p[out->n] = '\0';
        if (out->n > limit)
            return err_set(why, ERR_RANGE, "standard input: more than %zu bytes", limit);
        if (got == 0)
            break;
    }
    if (ferror(stdin))
        return err_set(why, ERR_IO, "standard input: %s", strerror(errno));
    return ERR_OK;
}

enum err cmd_write_stdout(const char *p, size_t n, struct errmsg *why)
{
    if ((n && fwrite(p, 1, n, stdout) != n) || fflush(stdout) != 0)
        return err_set(why, ERR_IO, "standard output: %s", strerror(errno));
    return ERR_OK;
}

int cmd_failed(const char *name, const struct errmsg *why)
{
    fprintf(stderr, "millrace-worker %s: %s\n", name, why->text);
    return EXIT_FAILED;
}

void cmd_put_size(struct buf *out, int fine, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1000 && u < 4; u++)
        v /= 1000;
    buf_printf(out, u >= fine ? "%.2f %s" : "%.0f %s", v, units[u]);
}
