/* ringdump: prints what stands in a worker's shared memory, from a saved image or from a living
 * process.
 *
 *   ringdump IMAGE             cp /proc/PID/fd/N IMAGE, or /proc/PID/fd/N itself
 *   ringdump --table           the records of the protocol as the table of docs/PROTOCOL.md
 *
 * A record line: position, '.' consumed or '>' unread, name, job, fields. Consumed records are
 * shown while the ring has not wrapped; afterwards nobody knows where an old record starts. Works
 * on a private copy. */
#include "shared/ipc/msg.h"
#include "shared/ipc/ring.h"
#include "shared/ipc/shm.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *or_number(const char *const *names, size_t n, unsigned v)
{
    static char text[16];
    if (v < n)
        return names[v];
    snprintf(text, sizeof(text), "%u", v);
    return text;
}
#define NAME(names, v) or_number(names, sizeof(names) / sizeof(*(names)), v)

static const char *const kinds[] = {"content", "reasoning", "tool_name", "tool_args"};
static const char *const reasons[] = {"stop", "length", "tool_calls", "cancelled"};
static const char *const states[] = {"starting", "loading", "ready", "draining", "failed"};

/* Text of the model goes to a terminal: control characters are shown, not sent. */
static void print_text(struct str s)
{
    putchar('"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void print_message(const struct msg *m)
{
    switch (m->type) {
    case REC_SUBMIT:
        printf(" offset=%" PRIu64 " bytes=%" PRIu64, m->submit.offset, m->submit.bytes);
        break;
    case REC_CANCEL:
    case REC_PAUSE:
    case REC_RESUME:
    case REC_DRAIN:
        break;
    case REC_TAKEN:
        printf(" offset=%" PRIu64, m->taken.offset);
        break;
    case REC_ADMITTED:
        printf(" prompt=%u cached=%u context=%u", m->admitted.prompt_tokens,
               m->admitted.cached_tokens, m->admitted.context);
        break;
    case REC_DELTA:
        printf(" choice=%u kind=%s tokens=", m->delta.head.choice, NAME(kinds, m->delta.head.kind));
        for (uint32_t i = 0; i < m->delta.n_tokens; i++)
            printf("%s%d", i ? "," : "", m->delta.tokens[i]);
        printf(" logprob_bytes=%zu text=", m->delta.logprobs.n);
        print_text(m->delta.text);
        break;
    case REC_CHOICE_DONE:
        printf(" choice=%u reason=%s completion=%u reasoning=%u stop_index=%d",
               m->choice_done.choice, NAME(reasons, m->choice_done.reason),
               m->choice_done.completion_tokens, m->choice_done.reasoning_tokens,
               m->choice_done.stop_index);
        break;
    case REC_EMBEDDING:
        printf(" index=%u dims=%u tokens=%u", m->embedding.head.index, m->embedding.head.n_dims,
               m->embedding.head.n_tokens);
        break;
    case REC_FINISHED:
        printf(" reason=%s prompt=%u cached=%u completion=%u reasoning=%u computed=%u",
               NAME(reasons, m->finished.reason), m->finished.prompt_tokens,
               m->finished.cached_tokens, m->finished.completion_tokens,
               m->finished.reasoning_tokens, m->finished.computed_tokens);
        break;
    case REC_FAILED:
        printf(" err=%s param=%u text=", err_name((enum err)m->failed.head.err),
               m->failed.head.param);
        print_text(m->failed.message);
        break;
    case REC_MODEL_INFO:
    case REC_FATAL:
        printf(" text=");
        print_text(m->text);
        break;
    }
}

static int print_ring(const char *name, unsigned char *image, uint64_t offset, uint64_t bytes,
                      enum msg_direction to)
{
    struct ring *ring =
        aligned_alloc(RING_LINE, (size_t)bytes); /* capacity and head are multiples of 64 */
    struct ring_reader r;
    struct ring_record rec;
    struct errmsg why;
    enum err e;
    if (!ring)
        return 1;
    memcpy(ring, image + offset, (size_t)bytes);
    uint64_t head = ring->head, tail = ring->tail;
    printf("%s: capacity %" PRIu64 " head %" PRIu64 " tail %" PRIu64 " unread %" PRIu64 "%s%s\n",
           name, ring->capacity, head, tail, tail - head,
           ring->reader_asleep ? ", reader asleep" : "",
           ring->writer_asleep ? ", writer asleep" : "");
    if (ring_reader_open(&r, ring, (size_t)bytes)) {
        printf("  broken: the capacity is not %" PRIu64 "\n", bytes - RING_OVERHEAD);
        free(ring);
        return 1;
    }
    if (tail > r.capacity)
        r.head = r.tail_seen = head;
    for (uint64_t at = r.head; (e = ring_read(&r, &rec)) == ERR_OK; at = r.head) {
        struct msg m;
        const char *type = msg_type_name(rec.type);
        printf("  %10" PRIu64 " %c %-11s job=%016" PRIx64, at, at < head ? '.' : '>',
               type ? type : "?", rec.job);
        if (msg_read(&m, to, &rec, &why))
            printf(" MALFORMED %s", why.text);
        else
            print_message(&m);
        putchar('\n');
    }
    if (e == ERR_PROTOCOL)
        printf("  broken: the indices or the record at %" PRIu64 " cannot be\n", r.head);
    ring_reader_close(&r);
    free(ring);
    return e == ERR_PROTOCOL;
}

static int print_image(unsigned char *image, size_t n)
{
    struct shm_header h;
    struct shm_status st;
    struct errmsg why;
    if (n < sizeof(h)) {
        fprintf(stderr, "ringdump: too short for a header\n");
        return 1;
    }
    memcpy(&h, image, sizeof(h));
    if (shm_check(&h, n, &why)) {
        fprintf(stderr, "ringdump: %s\n", why.text);
        return 1;
    }
    memcpy(&st, image + h.status_offset, sizeof(st));
    printf("header: version %u build %016" PRIx64 "%s epoch %" PRIu64 " bytes %" PRIu64
           " payload %" PRIu64 "\n",
           h.version, h.build_id, h.build_id == shm_build_id() ? "" : " (not this one)", h.epoch,
           h.total_bytes, h.payload_bytes);
    printf("status: %s load %u/1000 steps %" PRIu64
           " running %u waiting %u kv %u/%u generated %" PRIu64 "\n",
           NAME(states, st.state), st.load_permille, st.steps, st.running, st.waiting,
           st.kv_blocks_used, st.kv_blocks_total, st.generated_tokens);
    int bad = print_ring("submit ring", image, h.submit_offset, h.submit_bytes, TO_WORKER);
    return bad | print_ring("event ring", image, h.event_offset, h.event_bytes, TO_GATEWAY);
}

static int print_table(void)
{
    printf("| record | type | to | payload | bytes | terminal |\n|---|---|---|---|---|---|\n");
#define X(name, value, direction, payload, terminal)                                               \
    printf("| %s | %d | %s | `%s`%s | %zu | %s |\n", #name, value,                                 \
           direction == TO_WORKER ? "worker" : "gateway", #payload,                                \
           has_tail(value) ? " + data" : "", sizeof(payload), terminal ? "yes" : "");
#define has_tail(v)                                                                                \
    ((v) == REC_DELTA || (v) == REC_EMBEDDING || (v) == REC_FAILED || (v) == REC_MODEL_INFO ||     \
     (v) == REC_FATAL)
    PROTO_RECORDS(X)
#undef X
    return 0;
}

int main(int argc, char **argv)
{
    struct stat st;
    if (argc == 2 && strcmp(argv[1], "--table") == 0)
        return print_table();
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: ringdump IMAGE | ringdump --table\n");
        return 2;
    }
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        fprintf(stderr, "ringdump: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    size_t n = st.st_size > 0 ? (size_t)st.st_size : 0, got = 0;
    unsigned char *image = malloc(n + 1);
    while (image && got < n) {
        ssize_t k = read(fd, image + got, n - got);
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    close(fd);
    int rc = 1;
    if (image && got == n)
        rc = print_image(image, n);
    else
        fprintf(stderr, "ringdump: %s: cannot read %zu bytes\n", argv[1], n);
    free(image);
    return rc;
}
