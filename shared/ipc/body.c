#include "shared/ipc/body.h"
#include "shared/base/checked.h"
#include "shared/base/utf8.h"
#include <math.h>
#include <string.h>

struct section_head {
    uint32_t kind;
    uint32_t bytes;
};
static_assert(sizeof(struct section_head) == 8, "layout");

/* ---- building
 * ------------------------------------------------------------------------------------------- */

void body_begin(struct buf *b, const struct job_head *head)
{
    struct job_head h = *head;
    h.version = PROTO_VERSION;
    h.n_sections = 0;
    buf_put(b, &h, sizeof(h));
}

/* Two pieces, so that a replay needs no copy of its own. */
static void put_section(struct buf *b, enum job_section kind, const void *p, size_t n,
                        const void *p2, size_t n2)
{
    static const char zeros[8];
    size_t bytes;
    if (!add_size(&bytes, n, n2) || bytes > PROTO_MAX_JOB_BYTES) {
        b->failed = true;
        return;
    }
    buf_put(b, &(struct section_head){(uint32_t)kind, (uint32_t)bytes},
            sizeof(struct section_head));
    buf_put(b, p, n);
    buf_put(b, p2, n2);
    buf_put(b, zeros, -bytes & 7);
    if (b->failed)
        return;
    uint16_t count; /* of the head, which stands at the start of the buffer */
    char *field = b->p + offsetof(struct job_head, n_sections);
    memcpy(&count, field, sizeof(count));
    if (count == UINT16_MAX)
        b->failed = true;
    count++;
    memcpy(field, &count, sizeof(count));
}

void body_section(struct buf *b, enum job_section kind, const void *p, size_t n)
{
    put_section(b, kind, p, n, NULL, 0);
}

void body_replay(struct buf *b, uint32_t choice, uint32_t text_bytes, const int32_t *tokens,
                 size_t n)
{
    uint32_t head[2] = {choice, text_bytes};
    size_t bytes;
    if (!mul_size(&bytes, n, sizeof(*tokens))) {
        b->failed = true;
        return;
    }
    put_section(b, SECTION_REPLAY, head, sizeof(head), tokens, bytes);
}

enum err body_end(struct buf *b)
{
    if (b->failed)
        return ERR_NOMEM;
    return b->n <= PROTO_MAX_JOB_BYTES ? ERR_OK : ERR_RANGE;
}

/* ---- reading
 * -------------------------------------------------------------------------------------------- */

static const char *head_fault(const struct job_head *h)
{
    const float floats[] = {
        h->temperature,       h->top_p,           h->min_p, h->repetition_penalty,
        h->frequency_penalty, h->presence_penalty};
    const uint32_t known =
        JOB_IGNORE_EOS | JOB_LOGPROBS | JOB_ECHO | JOB_NO_ADD_SPECIAL | JOB_NO_PREFIX_CACHE |
        (h->kind == JOB_CHAT ? JOB_PARSE_REASONING | JOB_PARSE_TOOLS | JOB_SINGLE_CALL : 0);
    if (h->version != PROTO_VERSION)
        return "of another protocol version";
    if (h->kind > JOB_DETOKENIZE)
        return "of an unknown kind";
    if (h->n < 1 || h->n > PROTO_MAX_CHOICES)
        return "with a number of choices out of range";
    if (h->flags & ~known)
        return "with unknown flags";
    if (h->top_logprobs > PROTO_MAX_TOP_LOGPROBS)
        return "with too many log probabilities";
    for (size_t i = 0; i < sizeof(floats) / sizeof(*floats); i++)
        if (!isfinite(floats[i]))
            return "with a parameter that is not finite";
    if (h->dimensions > PROTO_MAX_DIMS || (h->dimensions && h->kind != JOB_EMBEDDING))
        return "with dimensions that it can't have";
    return NULL;
}

/* What one section may be; `seen` counts what is limited over the whole body. */
struct seen {
    unsigned stops, inputs;
    bool replay[PROTO_MAX_CHOICES];
};

static const char *section_fault(const struct job_head *h, const struct body_part *s,
                                 struct seen *seen)
{
    switch (s->kind) {
    case SECTION_INPUT_TEXT:
        if (++seen->inputs > PROTO_MAX_INPUTS)
            return "too many inputs";
        return utf8_valid(s->p, s->n) ? NULL : "text is not UTF-8";
    case SECTION_REQUEST_JSON:
    case SECTION_PROMPT_TEXT:
    case SECTION_SCHEMA_JSON:
    case SECTION_GRAMMAR:
        return utf8_valid(s->p, s->n) ? NULL : "text is not UTF-8";
    case SECTION_INPUT_TOKENS:
        if (++seen->inputs > PROTO_MAX_INPUTS)
            return "too many inputs";
        return s->n % sizeof(int32_t) ? "tokens are cut" : NULL;
    case SECTION_PROMPT_TOKENS:
        return s->n % sizeof(int32_t) ? "tokens are cut" : NULL;
    case SECTION_STOP:
        if (++seen->stops > PROTO_MAX_STOPS || s->n == 0 || s->n > PROTO_MAX_STOP_BYTES)
            return "stop strings out of range";
        return utf8_valid(s->p, s->n) ? NULL : "a stop string is not UTF-8";
    case SECTION_LOGIT_BIAS:
        if (s->n % 8 || s->n / 8 > PROTO_MAX_LOGIT_BIAS)
            return "logit bias is cut or too long";
        return NULL;
    case SECTION_REPLAY: {
        uint32_t replay[2]; /* choice, bytes of text */
        if (s->n < sizeof(replay) || s->n % sizeof(int32_t))
            return "replay is cut";
        memcpy(replay, s->p, sizeof(replay));
        if (replay[0] >= h->n || seen->replay[replay[0]])
            return "replay of a choice that cannot be";
        seen->replay[replay[0]] = true;
        return NULL;
    }
    }
    return "section of an unknown kind";
}

enum err body_open(struct body *out, const void *p, size_t n, struct errmsg *why)
{
    struct body b;
    struct seen seen = {0};
    size_t at = 0;
    unsigned count = 0;
    if (n < sizeof(b.head) || n > PROTO_MAX_JOB_BYTES)
        return err_set(why, ERR_PROTOCOL, "job: %zu bytes cannot be a job", n);
    memcpy(&b.head, p, sizeof(b.head));
    b.sections = (const unsigned char *)p + sizeof(b.head);
    b.n = n - sizeof(b.head);
    const char *fault = head_fault(&b.head);
    if (fault)
        return err_set(why, ERR_PROTOCOL, "job: %s", fault);
    for (struct body_part part; body_next(&b, &at, &part); count++)
        if ((fault = section_fault(&b.head, &part, &seen)))
            return err_set(why, ERR_PROTOCOL, "job: section %u: %s", count, fault);
    if (at != b.n || count != b.head.n_sections)
        return err_set(why, ERR_PROTOCOL, "job: %u sections in %zu of %zu bytes, the head says %u",
                       count, at, b.n, b.head.n_sections);
    *out = b;
    return ERR_OK;
}

bool body_next(const struct body *b, size_t *at, struct body_part *part)
{
    struct section_head head;
    if (*at > b->n || b->n - *at < sizeof(head))
        return false;
    memcpy(&head, b->sections + *at, sizeof(head));
    size_t left = b->n - *at - sizeof(head);
    uint64_t padded = ((uint64_t)head.bytes + 7) & ~7ull;
    if (padded > left)
        return false;
    *part = (struct body_part){.kind = (enum job_section)head.kind,
                               .p = b->sections + *at + sizeof(head),
                               .n = head.bytes};
    *at += sizeof(head) + (size_t)padded;
    return true;
}

struct body_replay body_part_replay(const struct body_part *part)
{
    struct body_replay r = {0};
    memcpy(&r.choice, part->p, sizeof(r.choice));
    memcpy(&r.text_bytes, (const char *)part->p + sizeof(r.choice), sizeof(r.text_bytes));
    r.tokens = (const int32_t *)(const void *)((const char *)part->p + 2 * sizeof(uint32_t));
    r.n = (part->n - 2 * sizeof(uint32_t)) / sizeof(int32_t);
    return r;
}
