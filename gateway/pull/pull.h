/* pull.h - `millrace pull`: models from a registry or a URL into the models directory.
 *
 *   options ─▶ name of a model ─▶ registry: manifest ─▶ blobs ─▶ library_save()
 *         └──▶ URL of a GGUF  ─▶ its part, or all parts of its split set ─┘
 *
 * A process run of its own: nothing here is on the serving path, and everything may block. */
#ifndef MILLRACE_GATEWAY_PULL_PULL_H
#define MILLRACE_GATEWAY_PULL_PULL_H

#include "gateway/pull/blob.h"
#include "gateway/pull/registry.h"

int cmd_pull(int argc, char **argv); /* the exit status */

struct puller {
    struct library library;
    struct fetcher *fetcher;
    struct progress progress;
    const char *registry; /* --registry or $MILLRACE_REGISTRY; NULL: the default */
    bool registry_given;  /* by --registry */
    bool insecure_http;
    const char *as;     /* local name; NULL: derived */
    const char *sha256; /* expected of a URL; NULL: not given */
};

struct pulled {
    struct model_name name;
    uint64_t bytes, fetched;
};

/* take.c. `text` as on the command line. */
enum err take_name(struct pulled *out, struct puller *p, const char *text,
                   struct errmsg *why) MUST_CHECK;
enum err take_url(struct pulled *out, struct puller *p, const char *text,
                  struct errmsg *why) MUST_CHECK;

#endif
