/* shm.h - the sealed memfd that a gateway and one worker share (layout: proto.h).
 *
 *   gateway: shm_create() ── fd inherited by the worker ──▶ worker: shm_attach()
 *
 * Promise: after either call every pointer and length in `struct shm` lies inside the mapping, and
 * the mapping cannot shrink under us (F_SEAL_SHRINK; without that seal a peer's ftruncate would be
 * our SIGBUS). `head` is a private copy, checked once: the shared page is never looked at again.
 * Errors: ERR_PROTOCOL for a header that is not ours (other magic, version, build, or impossible
 * offsets), ERR_INVALID for an impossible spec, ERR_IO, ERR_NOMEM; `why` says which field. */
#ifndef MILLRACE_IPC_SHM_H
#define MILLRACE_IPC_SHM_H

#include "shared/base/err.h"
#include "shared/ipc/proto.h"

struct shm_spec {
    uint64_t build_id;      /* shm_build_id() outside of tests */
    uint64_t epoch;         /* of this worker process */
    uint64_t submit_bytes;  /* capacity of the ring: a power of two, at least RING_MIN_CAPACITY */
    uint64_t event_bytes;   /* the same */
    uint64_t payload_bytes; /* rounded up to whole pages */
};

struct shm {
    int fd;     /* owned; -1 after shm_close() */
    void *base; /* owned mapping of head.total_bytes */
    struct shm_header head;
    struct shm_status *status; /* this and the next three: borrowed, in the mapping */
    void *submit;              /* head.submit_bytes, for ring_*_open() */
    void *events;              /* head.event_bytes */
    unsigned char *payload;    /* head.payload_bytes */
};

/* Hash of what the two processes must agree on: version, records, sizes. Builds that speak the same
 * bytes have the same id. */
uint64_t shm_build_id(void);

/* Creates, seals and maps; both rings are ready for use. The descriptor is close-on-exec. */
enum err shm_create(struct shm *out, const struct shm_spec *spec, struct errmsg *why) MUST_CHECK;

/* Maps an inherited descriptor; on success `fd` is moved to *out, on failure the caller keeps it.
 */
enum err shm_attach(struct shm *out, int fd, uint64_t build_id, struct errmsg *why) MUST_CHECK;

void shm_close(struct shm *s); /* unmaps, closes; a zeroed or a closed struct is fine */

/* Checks a private copy of a header against the real size; for shm_attach() and for tools. The
 * build id is the caller's affair. */
enum err shm_check(const struct shm_header *head, uint64_t actual_bytes,
                   struct errmsg *why) MUST_CHECK;

/* The extent [offset, offset+n) of the payload space, or NULL when it is not inside. What the peer
 * can still write there must be copied before it is checked. */
unsigned char *shm_extent(const struct shm *s, uint64_t offset, uint64_t n);

#endif
