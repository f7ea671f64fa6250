/* plan.h - `millrace plan`: what fits this machine, or another. Thread: one. */
#ifndef MILLRACE_GATEWAY_PLAN_H
#define MILLRACE_GATEWAY_PLAN_H

/* Becomes `millrace-worker plan`, which knows models, with a pulled model's name made into its
 * file. argv[0] is the subcommand's own name. Returns only when that can't be: 1, 2 unusable
 * arguments. */
int cmd_plan(int argc, char **argv);

#endif
