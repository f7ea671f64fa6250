/* worker.h - one worker process: spawned, watched, killed, restarted; and the shared memory to talk
 * to it.
 *
 *                    spawn            state READY            close, or given up
 *   WORKER_DOWN ───────────▶ STARTING ──────────▶ UP ───────────────────────────▶ CLOSED
 *        ▲                      │                  │
 *        └──── backoff timer ◀──┴── exit, stall, broken protocol: on_lost(), kill(process group)
 *
 *   PARKED ──worker_start()──▶ DOWN ...    any of them ──worker_stop()──▶ LEAVING ──gone──▶ PARKED
 *
 * Promise: records reach on_record() in order, each once, lengths checked against its own record;
 * after on_lost() none of that process's records arrive any more. A worker that breaks the protocol
 * is killed, as is one that should step and doesn't. A new process is started only when the one
 * before was reaped: its memory is free again. Backoff: 0 after a life of over a minute, else 100
 * ms doubling to 10 s. Failing to load is told apart from dying at work: on_lost says whether the
 * worker was ever up, and why. Thread: the loop's. Handles live inside; worker_close() is
 * asynchronous. */
#ifndef MILLRACE_GATEWAY_SUPERVISE_WORKER_H
#define MILLRACE_GATEWAY_SUPERVISE_WORKER_H

#include "shared/base/err.h"
#include "shared/base/str.h"
#include "shared/ipc/proto.h"
#include "shared/ipc/ring.h"
#include <stdbool.h>
#include <uv.h>

struct worker; /* opaque */

struct worker_spec {
    uv_loop_t *loop;
    const char *name;        /* for logs: "tiny/0" */
    const char *program;     /* path of millrace-worker */
    const char *const *argv; /* NULL-terminated, from argv[1] on ("serve", model, options);
                                descriptors are added. Borrowed */
    uint64_t payload_bytes;
    uint32_t stall_ms; /* without a step, and from worker_stop() until it is killed */
    bool parked;       /* nothing is spawned before worker_start() */
    void *user;
    void (*on_up)(void *user);
    void (*on_record)(void *user, const struct ring_record *rec); /* everything but FATAL */
    /* The process is gone (or is being killed and won't be heard again). reason: one line, borrowed
     * for the call. */
    void (*on_lost)(void *user, bool was_up, const char *reason);
    void (*on_room)(void *user); /* an extent or ring space was given back after worker_submit()
                                    said ERR_FULL */
    /* After worker_stop(): the process was reaped, so that its memory is the system's again, and
     * its shared memory is unmapped. Never from inside worker_stop(). NULL is fine. */
    void (*on_stopped)(void *user);
};

enum err worker_open(struct worker **out, const struct worker_spec *spec,
                     struct errmsg *why) MUST_CHECK; /* spawns at once, unless parked */
void worker_close(struct worker *w, void (*on_closed)(void *user), void *user);

/* Spawns a parked worker, from the loop; errors come through on_lost. */
void worker_start(struct worker *w);
/* The orderly end, without a restart: a worker that is up gets DRAIN and stall_ms to end in, one
 * that loads is killed. No on_lost follows; on_stopped does, and the worker is parked. Its jobs
 * must have ended. False: it is parked already, and nothing follows. */
bool worker_stop(struct worker *w);
/* The last life ended with the worker's own line (FATAL): trying again will not help soon. */
bool worker_refused(const struct worker *w);

bool worker_is_up(const struct worker *w);                       /* loaded and able to take jobs */
bool worker_stepped_within(const struct worker *w, uint32_t ms); /* readiness */
int worker_pid(const struct worker *w);                          /* 0: none */
uint64_t worker_restarts(const struct worker *w);
const struct shm_status *worker_status(const struct worker *w); /* NULL: down. Gauges only */

/* Writes a job's body (shared/ipc/body.h) to the payload space and the SUBMIT record. ERR_FULL:
 * wait for on_room. ERR_RANGE: larger than the space. ERR_CLOSED: not up. */
enum err worker_submit(struct worker *w, uint64_t job, const void *body, size_t n) MUST_CHECK;
/* CANCEL, PAUSE, RESUME, DRAIN. Never lost while the process lives: queued when the ring is full.
 */
void worker_tell(struct worker *w, enum rec_type type, uint64_t job);
/* The dispatcher knows whether the worker has something to do; a stall is judged only then. */
void worker_set_busy(struct worker *w, bool busy);
void worker_kill(
    struct worker *w,
    const char *reason); /* SIGKILL to the process group; on_lost follows from the loop */

#endif
