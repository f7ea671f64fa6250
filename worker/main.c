/* main.c - millrace-worker: finds the subcommand and runs it. */
#include "worker/commands.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name, *args, *help;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
#define X(cmd, cmd_args, cmd_help) {#cmd, cmd_args, cmd_help, cmd_##cmd},
    WORKER_COMMANDS(X)
#undef X
        {0},
};

static void print_help(FILE *f)
{
    fprintf(f, "usage: millrace-worker COMMAND ...\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(f, "  %-11s %-45s %s\n", c->name, c->args, c->help);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(argv[1], c->name) == 0)
            return c->run(argc - 1, argv + 1);
    fprintf(stderr, "millrace-worker: no command '%s'; 'millrace-worker --help' lists them\n",
            argv[1]);
    return EXIT_USAGE;
}
