#include "shared/ipc/msg.h"
#include "shared/base/checked.h"
#include "shared/base/utf8.h"
#include <math.h>

struct row {
    const char *name;
    enum msg_direction to;
    uint32_t fixed; /* bytes of the payload struct */
    bool terminal;
};

static const struct row *row_of(unsigned type)
{
    static const struct row rows[] = {
#define X(name, value, direction, payload, terminal)                                               \
    [value] = {#name, direction, sizeof(payload), terminal},
        PROTO_RECORDS(X)
#undef X
    };
    return type < sizeof(rows) / sizeof(*rows) && rows[type].name ? &rows[type] : NULL;
}

const char *msg_type_name(unsigned type)
{
    const struct row *row = row_of(type);
    return row ? row->name : NULL;
}

bool msg_type_terminal(unsigned type)
{
    const struct row *row = row_of(type);
    return row && row->terminal;
}

enum msg_direction msg_type_direction(unsigned type)
{
    const struct row *row = row_of(type);
    return row ? row->to : TO_WORKER;
}

/* ---- encoding
 * ------------------------------------------------------------------------------------------ */

/* The longest start of the text that fits and ends between characters. */
static size_t cut(struct str s, size_t max)
{
    size_t n = s.n < max ? s.n : max;
    return n - (n < s.n ? utf8_incomplete_tail(s.p, n) : 0);
}

/* A length that its 32-bit field cannot hold fails the whole message. */
static uint32_t length32(struct buf *out, size_t n)
{
    if (n > UINT32_MAX)
        out->failed = true;
    return (uint32_t)n;
}

static void put_delta(struct buf *out, const struct msg *m)
{
    struct rec_delta head = m->delta.head;
    head.n_tokens = m->delta.n_tokens;
    head.text_bytes = length32(out, m->delta.text.n);
    head.logprob_bytes = length32(out, m->delta.logprobs.n);
    buf_put(out, &head, sizeof(head));
    buf_put(out, m->delta.tokens, head.n_tokens * sizeof(int32_t));
    buf_put(out, m->delta.text.p, m->delta.text.n);
    buf_put(out, m->delta.logprobs.p, m->delta.logprobs.n);
}

void msg_put(struct buf *out, const struct msg *m)
{
    switch (m->type) {
    case REC_SUBMIT:
        buf_put(out, &m->submit, sizeof(m->submit));
        break;
    case REC_CANCEL:
    case REC_PAUSE:
    case REC_RESUME:
    case REC_DRAIN:
        buf_put(out, &(struct rec_empty){0}, sizeof(struct rec_empty));
        break;
    case REC_TAKEN:
        buf_put(out, &m->taken, sizeof(m->taken));
        break;
    case REC_ADMITTED:
        buf_put(out, &m->admitted, sizeof(m->admitted));
        break;
    case REC_DELTA:
        put_delta(out, m);
        break;
    case REC_CHOICE_DONE:
        buf_put(out, &m->choice_done, sizeof(m->choice_done));
        break;
    case REC_EMBEDDING:
        buf_put(out, &m->embedding.head, sizeof(m->embedding.head));
        buf_put(out, m->embedding.values, m->embedding.head.n_dims * sizeof(float));
        break;
    case REC_FINISHED:
        buf_put(out, &m->finished, sizeof(m->finished));
        break;
    case REC_FAILED: {
        struct rec_failed head = m->failed.head;
        head.message_bytes = (uint32_t)cut(m->failed.message, PROTO_MAX_MESSAGE_BYTES);
        buf_put(out, &head, sizeof(head));
        buf_put(out, m->failed.message.p, head.message_bytes);
        break;
    }
    case REC_MODEL_INFO:
    case REC_FATAL: {
        size_t max = m->type == REC_FATAL ? PROTO_MAX_MESSAGE_BYTES : SIZE_MAX;
        size_t n = cut(m->text, max);
        buf_put(out, &(struct rec_text){.bytes = length32(out, n)}, sizeof(struct rec_text));
        buf_put(out, m->text.p, n);
        break;
    }
    }
}

enum err msg_send(struct ring_writer *w, struct buf *scratch, const struct msg *m)
{
    buf_clear(scratch);
    msg_put(scratch, m);
    if (scratch->failed)
        return ERR_NOMEM;
    return ring_write(w, (uint16_t)m->type, 0, m->job, scratch->p, scratch->n);
}

enum err msg_send_fixed(struct ring_writer *w, const struct msg *m)
{
    static const struct rec_empty empty;
    const void *payload = NULL;
    switch (m->type) {
    case REC_CANCEL:
    case REC_PAUSE:
    case REC_RESUME:
    case REC_DRAIN:
        payload = &empty;
        break;
    case REC_SUBMIT:
    case REC_TAKEN:
    case REC_ADMITTED:
    case REC_CHOICE_DONE:
    case REC_FINISHED:
        payload = &m->submit; /* where every member of the union starts */
        break;
    case REC_DELTA:
    case REC_EMBEDDING:
    case REC_FAILED:
    case REC_MODEL_INFO:
    case REC_FATAL:
        return ERR_INVALID;
    }
    const struct row *row = row_of(m->type);
    if (!row)
        return ERR_INVALID;
    return ring_write(w, (uint16_t)m->type, 0, m->job, payload, row->fixed);
}

void msg_put_logprob(struct buf *out, int32_t id, float logprob, const char *text, size_t n,
                     uint16_t n_top)
{
    if (n > UINT16_MAX) {
        out->failed = true;
        return;
    }
    struct logprob_entry e = {.id = id, .logprob = logprob, .n_bytes = (uint16_t)n, .n_top = n_top};
    buf_put(out, &e, sizeof(e));
    buf_put(out, text, n);
}

/* ---- decoding
 * ------------------------------------------------------------------------------------------- */

bool msg_next_logprob(struct str *rest, struct logprob_entry *entry, struct str *text)
{
    struct logprob_entry e;
    if (rest->n < sizeof(e))
        return false;
    memcpy(&e, rest->p, sizeof(e)); /* packed, so not aligned */
    if (rest->n - sizeof(e) < e.n_bytes)
        return false;
    *entry = e;
    *text = (struct str){rest->p + sizeof(e), e.n_bytes};
    *rest = (struct str){text->p + text->n, rest->n - sizeof(e) - text->n};
    return true;
}

/* Exactly one chosen token with its alternatives for each of n_tokens, or nothing at all. */
static bool logprobs_ok(struct str all, uint32_t n_tokens)
{
    struct logprob_entry e;
    struct str text;
    if (all.n == 0)
        return true;
    for (uint32_t i = 0; i < n_tokens; i++) {
        if (!msg_next_logprob(&all, &e, &text) || e.n_top > PROTO_MAX_TOP_LOGPROBS ||
            isnan(e.logprob))
            return false;
        for (unsigned left = e.n_top; left > 0; left--)
            if (!msg_next_logprob(&all, &e, &text) || e.n_top != 0 || isnan(e.logprob))
                return false;
    }
    return all.n == 0;
}

/* Splits the variable part; every reader ends with nothing left over. */
struct rest {
    const unsigned char *p;
    uint64_t n;
};

static const void *take(struct rest *r, uint64_t n)
{
    const void *p = r->p;
    if (n > r->n)
        return NULL;
    r->p += n;
    r->n -= n;
    return p;
}

static bool take_text(struct rest *r, uint32_t n, struct str *out)
{
    const char *p = take(r, n);
    *out = (struct str){p, n};
    return p && utf8_valid(p, n);
}

static const char *read_delta(struct msg *m, struct rest *r)
{
    struct rec_delta *h = &m->delta.head;
    if (h->choice >= PROTO_MAX_CHOICES || h->kind > DELTA_TOOL_ARGS)
        return "choice or kind out of range";
    m->delta.n_tokens = h->n_tokens;
    m->delta.tokens = take(r, (uint64_t)h->n_tokens * sizeof(int32_t));
    if (!m->delta.tokens)
        return "more tokens than bytes";
    if (!take_text(r, h->text_bytes, &m->delta.text))
        return "text is cut or not UTF-8";
    m->delta.logprobs = (struct str){take(r, h->logprob_bytes), h->logprob_bytes};
    if (!m->delta.logprobs.p || !logprobs_ok(m->delta.logprobs, h->n_tokens))
        return "malformed log probabilities";
    return NULL;
}

static const char reserved[] = "a reserved field is set";

static const char *read_payload(struct msg *m, struct rest *r)
{
    switch (m->type) {
    case REC_CANCEL:
    case REC_PAUSE:
    case REC_RESUME:
        if (!m->job)
            return "no job";
        return m->empty.zero ? reserved : NULL;
    case REC_DRAIN:
        return m->empty.zero ? reserved : NULL;
    case REC_SUBMIT:
        if (m->submit.offset % 8 || m->submit.bytes < sizeof(struct job_head) ||
            m->submit.bytes > PROTO_MAX_JOB_BYTES)
            return "extent cannot be a job";
        return NULL;
    case REC_TAKEN:
        return m->taken.offset % 8 ? "offset is no multiple of 8" : NULL;
    case REC_ADMITTED:
        if (m->admitted.cached_tokens > m->admitted.prompt_tokens)
            return "more cached than prompt";
        return m->admitted.zero ? reserved : NULL;
    case REC_DELTA:
        return read_delta(m, r);
    case REC_CHOICE_DONE:
        if (m->choice_done.choice >= PROTO_MAX_CHOICES ||
            m->choice_done.reason > FINISH_CANCELLED || m->choice_done.stop_index < -1 ||
            m->choice_done.stop_index >= PROTO_MAX_STOPS)
            return "choice, reason or stop index out of range";
        return NULL;
    case REC_EMBEDDING: {
        uint32_t n = m->embedding.head.n_dims;
        if (m->embedding.head.zero)
            return reserved;
        if (m->embedding.head.index >= PROTO_MAX_INPUTS || n < 1 || n > PROTO_MAX_DIMS)
            return "index or dimensions out of range";
        m->embedding.values = take(r, (uint64_t)n * sizeof(float));
        if (!m->embedding.values)
            return "more dimensions than bytes";
        for (uint32_t i = 0; i < n; i++)
            if (!isfinite(m->embedding.values[i]))
                return "a value is not finite";
        return NULL;
    }
    case REC_FINISHED:
        return m->finished.reason > FINISH_CANCELLED ? "reason out of range" : NULL;
    case REC_FAILED: {
        const struct rec_failed *h = &m->failed.head;
        if (h->err == ERR_OK || h->err >= ERR_COUNT_ || h->param >= PARAM_COUNT_)
            return "error code or parameter out of range";
        if (h->message_bytes > PROTO_MAX_MESSAGE_BYTES ||
            !take_text(r, h->message_bytes, &m->failed.message))
            return "message is cut, too long or not UTF-8";
        return h->zero ? reserved : NULL;
    }
    case REC_MODEL_INFO:
    case REC_FATAL:
        break;
    }
    struct rec_text t;
    memcpy(&t, &m->text, sizeof(t)); /* where msg_read() put the fixed part */
    if (t.zero)
        return reserved;
    if (!take_text(r, t.bytes, &m->text))
        return "text is cut or not UTF-8";
    return m->type == REC_FATAL && t.bytes > PROTO_MAX_MESSAGE_BYTES ? "message too long" : NULL;
}

enum err msg_read(struct msg *out, enum msg_direction to, const struct ring_record *rec,
                  struct errmsg *why)
{
    const struct row *row = row_of(rec->type);
    if (!row || row->to != to)
        return err_set(why, ERR_PROTOCOL, "record of type %u does not belong in this ring",
                       rec->type);
    if (rec->flags)
        return err_set(why, ERR_PROTOCOL, "%s: unknown flags 0x%x", row->name, rec->flags);
    if (rec->n < row->fixed)
        return err_set(why, ERR_PROTOCOL, "%s: %zu bytes, needs %u", row->name, rec->n, row->fixed);
    struct msg m = {.type = (enum rec_type)rec->type, .job = rec->job};
    memcpy(&m.submit, rec->payload,
           row->fixed); /* the fixed part starts every member of the union */
    struct rest rest = {(const unsigned char *)rec->payload + row->fixed, rec->n - row->fixed};
    const char *fault = read_payload(&m, &rest);
    if (!fault && rest.n)
        fault = "bytes left over";
    if (fault)
        return err_set(why, ERR_PROTOCOL, "%s: %s", row->name, fault);
    *out = m;
    return ERR_OK;
}
