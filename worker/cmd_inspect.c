/* cmd_inspect.c - `millrace-worker inspect MODEL`: what the file is, what it needs, whether it
 * would run. */
#include "worker/cmd_io.h"
#include "worker/commands.h"
#include "worker/inspect.h"

#include <stdio.h>
#include <string.h>

static int print_usage(FILE *f, int status)
{
    fprintf(f, "usage: millrace-worker inspect MODEL [--context N] [--slots N] [--kv-type "
               "f16|f32|bf16|q8_0] "
               "[--tensors] [--json]\n");
    return status;
}

static bool take_number(const char *text, uint32_t *out)
{
    uint64_t v;
    if (!text || !str_to_u64(str_of(text), UINT32_MAX, &v) || v == 0)
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool take_kv_type(const char *text, enum qtype *out)
{
    int id = text ? qtype_by_name(text) : -1;
    if (id != QTYPE_F16 && id != QTYPE_F32 && id != QTYPE_BF16 && id != QTYPE_Q8_0)
        return false;
    *out = (enum qtype)id;
    return true;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_opts o = {.slots = 1, .kv_type = QTYPE_F16};
    const char *path = NULL;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        bool ok = true;
        if (strcmp(a, "--help") == 0)
            return print_usage(stdout, EXIT_DONE);
        else if (strcmp(a, "--tensors") == 0)
            o.list_tensors = true;
        else if (strcmp(a, "--json") == 0)
            json = true;
        else if (strcmp(a, "--context") == 0)
            ok = take_number(argv[++i < argc ? i : argc], &o.context);
        else if (strcmp(a, "--slots") == 0)
            ok = take_number(argv[++i < argc ? i : argc], &o.slots);
        else if (strcmp(a, "--kv-type") == 0)
            ok = take_kv_type(argv[++i < argc ? i : argc], &o.kv_type); /* argv[argc] is NULL */
        else if (a[0] != '-' && !path)
            path = a;
        else
            ok = false;
        if (!ok) {
            fprintf(stderr, "millrace-worker inspect: can't use '%s'\n", a);
            return print_usage(stderr, EXIT_USAGE);
        }
    }
    if (!path)
        return print_usage(stderr, EXIT_USAGE);
    struct inspect r;
    struct errmsg why = {{0}};
    enum err e = inspect_open(&r, path, &o, &why);
    if (e)
        return cmd_failed("inspect", &why);
    struct buf out;
    buf_init(&out);
    (json ? inspect_json : inspect_text)(&r, &o, &out);
    e = out.failed ? err_set(&why, ERR_NOMEM, "out of memory")
                   : cmd_write_stdout(out.p, out.n, &why);
    buf_fini(&out);
    inspect_close(&r);
    return e ? cmd_failed("inspect", &why) : EXIT_DONE;
}
