/* plan.c - see plan.h. */
#include "gateway/plan.h"

#include "gateway/config.h"
#include "gateway/library/library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 64, EXIT_FAILED_ = 1, EXIT_UNUSABLE_ = 2 };

struct words {
    const char *worker, *models_dir, *data, *ollama; /* ours; the rest goes to the worker */
    const char *rest[ARGS_MAX + 3];
    int n_rest, model; /* index in rest; 0: none */
    bool quant;
};

static int unusable(const char *what, const char *value)
{
    fprintf(stderr, "millrace plan: %s '%s' (see millrace plan --help)\n", what, value);
    return EXIT_UNUSABLE_;
}

static int read_words(struct words *w, int argc, char **argv)
{
    const struct {
        const char *name;
        const char **value;
    } ours[] = {{"--worker", &w->worker},
                {"--models-dir", &w->models_dir},
                {"--data", &w->data},
                {"--ollama-models", &w->ollama}};
    /* Words of the worker's that have no value. */
    static const char *const flags[] = {"--cpu", "--rule-of-thumb", "--json", "--help", "-h"};
    w->n_rest = 2; /* the program and its subcommand */
    for (int i = 1; i < argc; i++) {
        const char **to = NULL;
        bool flag = false;
        for (size_t k = 0; k < sizeof(ours) / sizeof(ours[0]); k++)
            if (strcmp(argv[i], ours[k].name) == 0)
                to = ours[k].value;
        for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
            flag |= strcmp(argv[i], flags[k]) == 0;
        if (to) {
            if (i + 1 == argc || !*argv[i + 1])
                return unusable("no value after", argv[i]);
            *to = argv[++i];
            continue;
        }
        if (w->n_rest + 2 > ARGS_MAX)
            return unusable("too many words at", argv[i]);
        if (argv[i][0] != '-' && !w->model)
            w->model = w->n_rest;
        w->quant |= strcmp(argv[i], "--quant") == 0;
        const bool value = argv[i][0] == '-' && !flag && i + 1 < argc;
        w->rest[w->n_rest++] = argv[i];
        if (value)
            w->rest[w->n_rest++] = argv[++i];
    }
    return 0;
}

/* A pulled model is planned by its own file, unless another quantization of it is asked for. */
static int find_pulled(struct words *w, struct local_model *found)
{
    struct library l;
    struct model_name name;
    struct errmsg why = {0};
    if (!w->model || w->quant || access(w->rest[w->model], F_OK) == 0 ||
        name_parse(&name, str_of(w->rest[w->model]), &why) != ERR_OK)
        return 0;
    enum err e = library_locate(&l, w->models_dir, w->data, w->ollama, &why);
    if (e == ERR_OK)
        e = library_find(found, &l, &name, &why);
    else if (!w->models_dir && !w->data && !w->ollama)
        e = ERR_NOT_FOUND; /* no home, no library: nobody pulled anything */
    if (e == ERR_OK)
        w->rest[w->model] = found->path;
    if (e == ERR_OK || e == ERR_NOT_FOUND)
        return 0;
    fprintf(stderr, "millrace plan: %s: %s\n", w->rest[w->model], why.text);
    return EXIT_FAILED_;
}

int cmd_plan(int argc, char **argv)
{
    struct words w = {0};
    struct local_model found;
    char beside[4096];
    int status = read_words(&w, argc, argv);
    if (status == 0)
        status = find_pulled(&w, &found);
    if (status)
        return status;
    if (!w.worker) {
        if (!config_near_self(beside, "millrace-worker", false, X_OK)) {
            fprintf(stderr, "millrace plan: millrace-worker is not beside this program; name it "
                            "with --worker\n");
            return EXIT_FAILED_;
        }
        w.worker = beside;
    }
    w.rest[0] = w.worker;
    w.rest[1] = "plan";
    w.rest[w.n_rest] = NULL;
    execv(w.worker, (char *const *)(uintptr_t)w.rest);
    fprintf(stderr, "millrace plan: %s: %s\n", w.worker, strerror(errno));
    return EXIT_FAILED_;
}
