/* inspect.h - asks the worker program what a model file is and needs: `millrace-worker inspect
 * MODEL
 * --json ...`, as a process of its own, because the gateway never reads model files itself.
 *
 * Promise: on_done comes once, from the loop, never from inside inspect_start(), and not after
 * inspect_cancel(). A program that says too much, too late or nothing is an error like any other.
 * Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_SUPERVISE_INSPECT_H
#define MILLRACE_GATEWAY_SUPERVISE_INSPECT_H

#include "shared/base/err.h"
#include "shared/base/str.h"
#include <uv.h>

struct inspection; /* opaque */

struct inspect_spec {
    uv_loop_t *loop;
    const char *program;     /* path of millrace-worker */
    const char *const *argv; /* NULL-terminated, from argv[1] on. Borrowed until on_done */
    uint32_t limit_ms;       /* then it is killed; 0: 30 s */
    void *user;
    /* `json`: what it printed, when it ended with status 0; else empty and `error` says why, one
     * line. Both borrowed for the call. The inspection is gone afterwards. */
    void (*on_done)(void *user, struct str json, const char *error);
};

enum err inspect_start(struct inspection **out, const struct inspect_spec *spec,
                       struct errmsg *why) MUST_CHECK;
/* on_closed follows from the loop when all handles are closed. */
void inspect_cancel(struct inspection *i, void (*on_closed)(void *user), void *user);

#endif
