/* body.h - a job's body: struct job_head and its sections (layout: proto.h), built and read.
 *
 *   gateway: body_begin, body_section ..., body_end ──▶ payload space ──▶ worker: copy, body_open,
 * body_next
 *
 * Promise: what body_open() accepts is whole: every section lies inside, has a known kind and a
 * length that its kind can have, counts stay below the limits of proto.h, every float of the head
 * is finite, enums are in range. Meaning (does the temperature make sense, is the token in the
 * vocabulary) is the callers' affair. Thread: no shared state. Memory: sections borrow from the
 * bytes given to body_open(). */
#ifndef MILLRACE_IPC_BODY_H
#define MILLRACE_IPC_BODY_H

#include "shared/base/buf.h"
#include "shared/base/str.h"
#include "shared/ipc/proto.h"

/* Starts a body in an empty buffer. version and n_sections of `head` are filled in. */
void body_begin(struct buf *b, const struct job_head *head);
void body_section(struct buf *b, enum job_section kind, const void *p, size_t n);
/* SECTION_REPLAY: the tokens of one choice that the gateway already has, and how many bytes of
 * their text, all kinds together. */
void body_replay(struct buf *b, uint32_t choice, uint32_t text_bytes, const int32_t *tokens,
                 size_t n);
enum err body_end(struct buf *b) MUST_CHECK; /* ERR_NOMEM, or ERR_RANGE past PROTO_MAX_JOB_BYTES */

struct body {
    struct job_head head;
    const unsigned char *sections; /* borrowed */
    size_t n;
};

struct body_part {
    enum job_section kind;
    const void *p; /* 8-byte aligned if the body is; borrowed */
    size_t n;
};

/* A decoded SECTION_REPLAY. */
struct body_replay {
    uint32_t choice, text_bytes;
    const int32_t *tokens;
    size_t n;
};

/* `p` is private memory (never the payload space itself: the peer could change it), 8-byte aligned.
 */
enum err body_open(struct body *out, const void *p, size_t n, struct errmsg *why) MUST_CHECK;
/* Walks the sections in order; start with *at = 0. False at the end. */
bool body_next(const struct body *b, size_t *at, struct body_part *part);
struct body_replay body_part_replay(const struct body_part *part);

#endif
