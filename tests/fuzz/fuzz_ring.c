/* Any bytes as: a ring under the reader (and every record in it as a message of either direction),
 * indices under the writer, one message, one job body. First byte: which. */
#include "shared/ipc/body.h"
#include "shared/ipc/msg.h"
#include "shared/ipc/ring.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAPACITY = RING_MIN_CAPACITY, BYTES = CAPACITY + RING_OVERHEAD };

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* What is accepted is canonical: encoded again it is the same bytes. */
static void one_message(const struct ring_record *rec)
{
    for (int to = TO_WORKER; to <= TO_GATEWAY; to++) {
        struct msg m;
        struct buf b;
        struct errmsg why = {0};
        if (msg_read(&m, (enum msg_direction)to, rec, &why)) {
            require(why.text[0] != '\0');
            continue;
        }
        buf_init(&b);
        msg_put(&b, &m);
        require(!b.failed && b.n == rec->n && memcmp(b.p, rec->payload, b.n) == 0);
        buf_fini(&b);
        if (m.type == REC_DELTA) {
            struct str rest = m.delta.logprobs, text;
            struct logprob_entry e;
            while (msg_next_logprob(&rest, &e, &text))
                ;
            require(rest.n == 0);
        }
    }
}

static void hostile_writer(const uint8_t *data, size_t size)
{
    uint64_t tail;
    struct ring_reader r;
    struct ring_record rec;
    if (size < sizeof(tail))
        return;
    struct ring *ring = aligned_alloc(RING_LINE, BYTES);
    memset(ring, 0, BYTES);
    require(ring_init(ring, BYTES) == ERR_OK && ring_reader_open(&r, ring, BYTES) == ERR_OK);
    memcpy(&tail, data, sizeof(tail));
    size -= sizeof(tail);
    memcpy(ring->bytes, data + sizeof(tail), size < CAPACITY ? size : CAPACITY);
    ring->tail = tail;
    enum err e;
    while ((e = ring_read(&r, &rec)) == ERR_OK) {
        require(rec.n <= CAPACITY - RING_RECORD_HEAD);
        one_message(&rec);
    }
    require(e == ERR_AGAIN || e == ERR_PROTOCOL);
    require(e == ERR_PROTOCOL || r.head == tail);
    ring_reader_close(&r);
    free(ring);
}

/* Each word of input: a number of bytes to write, and where the reader claims to be. */
static void hostile_reader(const uint8_t *data, size_t size)
{
    static const char payload[CAPACITY];
    struct ring_writer w;
    struct ring *ring = aligned_alloc(RING_LINE, BYTES);
    require(ring_init(ring, BYTES) == ERR_OK && ring_writer_open(&w, ring, BYTES) == ERR_OK);
    for (; size >= 10; data += 10, size -= 10) {
        uint16_t n;
        uint64_t head;
        memcpy(&n, data, sizeof(n));
        memcpy(&head, data + sizeof(n), sizeof(head));
        n %= CAPACITY;
        enum err e = ring_write(&w, 1, 0, 0, payload, n);
        require(w.tail - w.head_seen <= CAPACITY && (e != ERR_OK || !w.broken));
        ring_writer_arm(&w, n);
        ring->head = head;
    }
    free(ring);
}

static void job_body(const uint8_t *data, size_t size)
{
    struct body b;
    struct body_part part;
    struct errmsg why;
    unsigned n = 0, sum = 0;
    if (body_open(&b, data, size, &why))
        return;
    for (size_t at = 0; body_next(&b, &at, &part); n++) {
        for (size_t i = 0; i < part.n; i++)
            sum += ((const uint8_t *)part.p)[i];
        if (part.kind == SECTION_REPLAY) {
            struct body_replay r = body_part_replay(&part);
            require(r.choice < b.head.n);
            for (size_t i = 0; i < r.n; i++)
                sum += (unsigned)r.tokens[i];
        }
    }
    require(n == b.head.n_sections);
    (void)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t which = data[0];
    size--;
    void *copy = malloc(size ? size : 1); /* aligned, and of exactly that length */
    memcpy(copy, data + 1, size);
    if (which == 'w')
        hostile_writer(copy, size);
    else if (which == 'r')
        hostile_reader(copy, size);
    else if (which == 'j')
        job_body(copy, size);
    else
        one_message(&(struct ring_record){.type = which, .job = 1, .payload = copy, .n = size});
    free(copy);
    return 0;
}
