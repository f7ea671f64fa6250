/* msg.h - the records of proto.h as C values: encoded into a ring, decoded out of it.
 *
 *   struct msg ──msg_send()──▶ ring ──ring_read()──▶ struct ring_record ──msg_read()──▶ struct msg
 *
 * Promise: what msg_read() accepts has a known type in the right direction, sums of lengths that
 * are exactly the record, enums in range, whole UTF-8 text, and well-formed log probabilities: the
 * caller checks only what needs its own state (does the job exist, is the choice below its n, is
 * the token in the vocabulary). What msg_send() sends, msg_read() accepts; counts in the fixed
 * parts are filled in from the parts. Thread: no shared state. Memory: a decoded message borrows
 * from the record, so until the next ring_read(). */
#ifndef MILLRACE_IPC_MSG_H
#define MILLRACE_IPC_MSG_H

#include "shared/base/buf.h"
#include "shared/base/str.h"
#include "shared/ipc/proto.h"
#include "shared/ipc/ring.h"

enum msg_direction { TO_WORKER, TO_GATEWAY };

struct msg {
    enum rec_type type;
    uint64_t job; /* id and generation; 0 for DRAIN, MODEL_INFO, FATAL */
    union {
        struct rec_empty empty; /* CANCEL, PAUSE, RESUME, DRAIN: all zero */
        struct rec_submit submit;
        struct rec_taken taken;
        struct rec_admitted admitted;
        struct {
            struct rec_delta head; /* sent: the three lengths are filled in */
            const int32_t *tokens; /* [head.n_tokens] */
            struct str text;
            struct str logprobs; /* build with msg_put_logprob(), walk with msg_next_logprob() */
            uint32_t n_tokens;   /* sent: of `tokens`; read: equals head.n_tokens */
        } delta;
        struct rec_choice_done choice_done;
        struct {
            struct rec_embedding head;
            const float *values; /* [head.n_dims] */
        } embedding;
        struct rec_finished finished;
        struct {
            struct rec_failed
                head; /* sent: message_bytes is filled in; more than the limit is cut */
            struct str message;
        } failed;
        struct str text; /* MODEL_INFO, FATAL */
    };
};

/* Encodes into `scratch` (cleared first) and writes one record. Errors of ring_write(); ERR_NOMEM.
 */
enum err msg_send(struct ring_writer *w, struct buf *scratch, const struct msg *m) MUST_CHECK;
/* For records without variable parts: CANCEL, PAUSE, RESUME, DRAIN and those with a fixed struct.
 */
enum err msg_send_fixed(struct ring_writer *w, const struct msg *m) MUST_CHECK;

/* Appends the payload of `m` to `out`: for msg_send(), tests and corpora. Check out->failed. */
void msg_put(struct buf *out, const struct msg *m);

/* Decodes a record that came in direction `to`. ERR_PROTOCOL with `why` for everything that is not
 * exactly as proto.h says; then the peer is not to be trusted any further. */
enum err msg_read(struct msg *out, enum msg_direction to, const struct ring_record *rec,
                  struct errmsg *why) MUST_CHECK;

/* Appends one entry: the chosen token with the number of alternatives that will follow it, or an
 * alternative (n_top 0). `n` must fit 16 bits. */
void msg_put_logprob(struct buf *out, int32_t id, float logprob, const char *text, size_t n,
                     uint16_t n_top);
/* Takes the next entry off the front of *rest; false at the end (or where the bytes are not whole).
 */
bool msg_next_logprob(struct str *rest, struct logprob_entry *entry, struct str *text);

/* From the table of proto.h; NULL and false for a type that is not in it. */
const char *msg_type_name(unsigned type);
bool msg_type_terminal(unsigned type); /* FINISHED, FAILED: the job's last */
enum msg_direction msg_type_direction(unsigned type);

#endif
