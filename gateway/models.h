/* models.h - `millrace models`: what is configured, what a running server has loaded, what was
 * pulled. Thread: one. */
#ifndef MILLRACE_GATEWAY_MODELS_H
#define MILLRACE_GATEWAY_MODELS_H

/* argv[0] is the subcommand's own name. Returns the exit status: 0 listed, 1 the server could not
 * be asked, 2 unusable arguments. */
int cmd_models(int argc, char **argv);

#endif
