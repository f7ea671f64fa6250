/* report.c - what people see of the library: the table of models, and `millrace rm`. */
#include "gateway/library/library.h"
#include "shared/base/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void put_bytes(struct buf *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 999.5 && u < 4) {
        v /= 1000;
        u++;
    }
    buf_printf(out, u == 0 || v >= 99.95 ? "%.0f %s" : "%.1f %s", v, units[u]);
}

struct report {
    struct buf *out;
    bool json, any;
    int width; /* of the longest name */
};

static int name_width(const struct local_model *m)
{
    struct buf b = {0};
    name_put(&b, &m->name);
    int n = (int)b.n;
    buf_fini(&b);
    return n;
}

static void measure(void *user, const struct local_model *m)
{
    struct report *r = user;
    int n = name_width(m);
    r->width = n > r->width ? n : r->width;
}

static void put_time(struct buf *out, int64_t s, const char *format)
{
    struct tm tm;
    time_t t = (time_t)s;
    char text[32] = "";
    if (gmtime_r(&t, &tm))
        strftime(text, sizeof(text), format, &tm);
    buf_puts(out, text);
}

static void put_row(void *user, const struct local_model *m)
{
    struct report *r = user;
    struct buf name = {0}, size = {0};
    const char *place = m->fault[0] ? m->fault : m->path;
    name_put(&name, &m->name);
    put_bytes(&size, m->bytes);
    buf_printf(r->out, "%-*s  %8s  ", r->width, name.p ? name.p : "", size.p ? size.p : "");
    put_time(r->out, m->changed_s, "%Y-%m-%d");
    buf_printf(r->out, "  %s%s%s\n", m->ollama ? "(ollama) " : "",
               m->fault[0] ? "CANNOT BE USED: " : "", place);
    buf_fini(&name);
    buf_fini(&size);
}

static void put_object(void *user, const struct local_model *m)
{
    struct report *r = user;
    struct buf name = {0};
    name_put(&name, &m->name);
    buf_puts(r->out, r->any ? ",\n {\"name\":" : "[\n {\"name\":");
    json_put_str(r->out, name.p ? name.p : "", name.n);
    buf_puts(r->out, ",\"bytes\":");
    buf_put_u64(r->out, m->bytes);
    buf_puts(r->out, ",\"changed\":\"");
    put_time(r->out, m->changed_s, "%Y-%m-%dT%H:%M:%SZ");
    buf_printf(r->out, "\",\"ollama\":%s,\"path\":", m->ollama ? "true" : "false");
    if (m->fault[0])
        buf_puts(r->out, "null");
    else
        json_put_cstr(r->out, m->path);
    buf_puts(r->out, ",\"fault\":");
    if (m->fault[0])
        json_put_cstr(r->out, m->fault);
    else
        buf_puts(r->out, "null");
    buf_putc(r->out, '}');
    buf_fini(&name);
    r->any = true;
}

enum err library_print(const struct library *l, bool json, struct buf *out, struct errmsg *why)
{
    struct report r = {.out = out, .json = json, .width = 5};
    enum err e = library_list(l, measure, &r, why);
    if (e != ERR_OK)
        return e;
    if (json) {
        e = library_list(l, put_object, &r, why);
        buf_puts(out, r.any ? "\n]\n" : "[]\n");
    } else {
        buf_printf(out, "%-*s  %8s  %-10s  %s\n", r.width, "model", "size", "pulled", "file");
        e = library_list(l, put_row, &r, why);
    }
    return e == ERR_OK && out->failed ? err_set(why, ERR_NOMEM, "out of memory") : e;
}

/* ---- millrace rm -------------------------------------------------------------------------- */

enum { EXIT_DONE_ = 0, EXIT_FAILED_ = 1, EXIT_UNUSABLE_ = 2 };

static const char rm_help[] =
    "usage: millrace rm [--models-dir DIR] [--data DIR] [--partial] NAME...\n\n"
    "Removes pulled models, and the files that no other model uses. A gateway that serves a\n"
    "removed model goes on, but can't restart its worker.\n\n"
    "  --models-dir DIR  where models lie ($MILLRACE_MODELS, else DATA/models)\n"
    "  --data DIR        the gateway's data directory (as `millrace serve`)\n"
    "  --partial         remove what interrupted pulls left\n";

static int unusable(const char *what, const char *which)
{
    fprintf(stderr, "millrace rm: %s%s%s; see 'millrace rm --help'\n", what, *which ? " " : "",
            which);
    return EXIT_UNUSABLE_;
}

static int remove_names(const struct library *l, char **names, int n, bool partial)
{
    struct errmsg why = {0};
    uint64_t freed = 0;
    int lock = -1, status = EXIT_DONE_;
    if (library_lock(l, true, &lock, &why) != ERR_OK) {
        fprintf(stderr, "millrace rm: %s\n", why.text);
        return EXIT_FAILED_;
    }
    for (int i = 0; i < n + partial; i++) {
        struct model_name name;
        struct buf size = {0};
        enum err e = i == n ? library_remove_partial(l, &freed, &why)
                            : name_parse(&name, str_of(names[i]), &why);
        if (i < n && e == ERR_OK) {
            e = library_remove(l, &name, &freed, &why);
            if (e == ERR_NOT_FOUND)
                (void)err_set(&why, e, "there is no model '%.80s' in %.120s", names[i], l->dir);
        }
        put_bytes(&size, freed);
        if (e != ERR_OK) {
            fprintf(stderr, "millrace rm: %s\n", why.text);
            status = EXIT_FAILED_;
        } else {
            printf("removed %s (%s)\n", i == n ? "partial downloads" : names[i],
                   size.p ? size.p : "");
        }
        buf_fini(&size);
    }
    close(lock);
    return status;
}

int cmd_rm(int argc, char **argv)
{
    const char *models_dir = NULL, *data = NULL;
    bool partial = false;
    int n = 0;
    struct library l;
    struct errmsg why = {0};
    for (int i = 1; i < argc; i++) {
        const char **value = strcmp(argv[i], "--models-dir") == 0 ? &models_dir
                             : strcmp(argv[i], "--data") == 0     ? &data
                                                                  : NULL;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(rm_help, stdout);
            return EXIT_DONE_;
        }
        if (value && i + 1 == argc)
            return unusable("no value after", argv[i]);
        if (value)
            *value = argv[++i];
        else if (strcmp(argv[i], "--partial") == 0)
            partial = true;
        else if (argv[i][0] == '-')
            return unusable("unknown option", argv[i]);
        else
            argv[n++] = argv[i]; /* n is below i */
    }
    if (n == 0 && !partial)
        return unusable("no model is named", "");
    if (library_locate(&l, models_dir, data, NULL, &why) != ERR_OK) {
        fprintf(stderr, "millrace rm: %s\n", why.text);
        return EXIT_UNUSABLE_;
    }
    return remove_names(&l, argv, n, partial);
}
