/* config.h - what a gateway is told at start: command line and file, one table of options.
 *
 * Promise: a config that config_load() returns is whole and in range, defaults filled in. Options
 * of the command line win over the file's; models of both add up. --help, the file's keys and
 * schemas/config.schema.json name the same options (a test holds them together).
 * Memory: texts live in the config's arena until config_free(). Thread: start only. */
#ifndef MILLRACE_GATEWAY_CONFIG_H
#define MILLRACE_GATEWAY_CONFIG_H

#include "gateway/dispatch/dispatch.h"
#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/base/log.h"

#define MILLRACE_VERSION "0.1.0"

enum { CONFIG_MAX_MODELS = 64 };

struct config {
    struct arena arena;
    const char *listen; /* as given */
    const char *host;   /* numeric address of it */
    int port;
    struct model_config models[CONFIG_MAX_MODELS];
    size_t n_models;
    const char *data_dir;
    const char *models_dir;    /* NULL: $MILLRACE_MODELS, else data_dir/models */
    const char *ollama_models; /* NULL: none */
    bool insecure;
    bool loopback;                          /* of host */
    const char *allow_hosts, *cors_origins; /* NULL: none */
    double ping_interval_s;                 /* 0: no pings */
    const char *log_format_name, *log_level_name;
    enum log_format log_format;
    enum log_level log_level;
    double drain_s;       /* running streams may take so long after SIGTERM */
    double drain_grace_s; /* SIGTERM: serve on so long, unready, before refusing; -1: by address */
    uint32_t max_connections;
    /* Loading on first use, where one of these is set (gateway/dispatch/resident.c). */
    uint32_t max_loaded;    /* 0: all */
    uint64_t memory_budget; /* bytes; 0: none */
    double idle_unload_s;   /* 0: never */
    double turn_s;
    double queue_s;     /* 0: no limit */
    double stall_s;     /* a worker without a step for so long is killed */
    const char *worker; /* program; beside our own by default */
    bool help;
};

/* argv: the words after "serve". ERR_INVALID with one line in `why`. On failure nothing is owned.
 */
enum err config_load(struct config *c, int argc, const char *const *argv,
                     struct errmsg *why) MUST_CHECK;
void config_free(struct config *c);
void config_print_help(struct buf *out);
/* A file that stands beside our own binary, or in its parent: a build tree is build/millrace.
 * False: it is not there, or not with this mode of access(2). */
bool config_near_self(char out[4096], const char *file, bool parent, int mode);
/* Names of all options in table order, NULL at the end: for the test of the schema. */
const char *config_option_name(size_t i);
const char *config_model_key(size_t i);

#endif
