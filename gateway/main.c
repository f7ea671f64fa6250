/* main.c - millrace: finds the subcommand and runs it. */
#include "gateway/app.h"
#include "gateway/library/library.h"
#include "gateway/models.h"
#include "gateway/plan.h"
#include "gateway/pull/pull.h"
#include "gateway/usage/usage.h"
#include <stdio.h>
#include <string.h>

static int cmd_serve(int argc, char **argv)
{
    struct config c;
    struct errmsg why = {0};
    if (config_load(&c, argc - 1, (const char *const *)argv + 1, &why) != ERR_OK) {
        fprintf(stderr, "millrace: %s\n", why.text);
        return 2;
    }
    int status = 0;
    if (c.help) {
        struct buf b = {0};
        config_print_help(&b);
        fputs(b.p ? b.p : "", stdout);
        buf_fini(&b);
    } else {
        status = app_run(&c);
    }
    config_free(&c);
    return status;
}

/* argv[0] is the subcommand's own name. */
static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", cmd_serve, "run the gateway and its workers"},
    {"usage", cmd_usage, "report who used how many tokens of what"},
    {"models", cmd_models, "list models: configured, running or pulled"},
    {"pull", cmd_pull, "fetch a model from a registry or a URL"},
    {"rm", cmd_rm, "remove pulled models"},
    {"plan", cmd_plan, "what fits this machine, how many GPUs, how fast (estimates)"},
};

static void print_help(FILE *f)
{
    fprintf(f, "usage: millrace COMMAND [options]\n\ncommands:\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(f, "\n`millrace COMMAND --help` lists a command's options.\n");
}

int main(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_help(stdout);
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("millrace %s\n", MILLRACE_VERSION);
        return 0;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argc >= 2)
        fprintf(stderr, "millrace: there is no command '%s' (see millrace --help)\n", argv[1]);
    else
        print_help(stderr);
    return 2;
}
