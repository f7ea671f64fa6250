/* The rings between two threads that really sleep: the test for ThreadSanitizer (make
 * FLAVOUR=tsan). A lost wake-up shows as a timeout, a missing barrier as a wrong byte or a report.
 */
#include "shared/ipc/ring.h"
#include "shared/ipc/shm.h"
#include "shared/ipc/wake.h"
#include "tests/support/test.h"
#include <pthread.h>
#include <stdlib.h>

enum {
    PATIENCE_MS = 10000
}; /* far beyond any scheduling delay: reaching it means a lost wake-up */

struct end {
    struct ring_writer out;
    struct ring_reader in;
    int mine, peer; /* eventfds */
    uint32_t n_records;
    uint32_t sleeps;
    bool ok;
};

/* Record i: length and every byte follow from i. */
static size_t make(uint32_t i, unsigned char *p)
{
    size_t n = (i * 2654435761u >> 16) % 700;
    for (size_t k = 0; k < n; k++)
        p[k] = (unsigned char)(i + k);
    return n;
}

static bool check(uint32_t i, const struct ring_record *rec)
{
    unsigned char want[700];
    size_t n = make(i, want);
    return rec->job == i && rec->type == (i & 0xff) && rec->n == n &&
           memcmp(rec->payload, want, n) == 0;
}

/* Writes all records, and reads what comes back, as both programs do: write what fits, read what is
 * there, tell the peer, then sleep on the one descriptor for either. */
static void converse(struct end *e, bool echo)
{
    unsigned char payload[700];
    uint32_t sent = 0, got = 0;
    while (sent < e->n_records || got < e->n_records) {
        struct ring_record rec;
        enum err rc = ERR_AGAIN;
        size_t n = 0;
        bool full = false;
        while (got < e->n_records && (rc = ring_read(&e->in, &rec)) == ERR_OK) {
            if (!check(got, &rec))
                return;
            got++;
        }
        if (got < e->n_records && rc != ERR_AGAIN)
            return;
        while (sent < (echo ? got : e->n_records) && !full) {
            n = make(sent, payload);
            rc = ring_write(&e->out, sent & 0xff, 0, sent, payload, n);
            if (rc == ERR_OK)
                sent++;
            else if (rc == ERR_FULL)
                full = true;
            else
                return;
        }
        bool for_news = ring_reader_needs_wake(&e->out), for_room = ring_writer_needs_wake(&e->in);
        if (for_news || for_room)
            wake_send(e->peer);
        if (full ? !ring_writer_arm(&e->out, n) : sent < (echo ? got : e->n_records))
            continue;
        if (got < e->n_records ? !ring_reader_arm(&e->in) : !full)
            continue;
        e->sleeps++;
        rc = wake_wait(e->mine, PATIENCE_MS);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return;
    }
    e->ok = true;
}

static void *worker_thread(void *arg)
{
    converse(arg, true);
    return NULL;
}

static void two_threads_exchange_every_record_and_lose_no_wake_up(void **state)
{
    UNUSED(state);
    struct shm shm;
    struct errmsg why;
    struct shm_spec spec = {.submit_bytes = 4096, .event_bytes = 8192, .payload_bytes = 4096};
    struct end gateway = {.n_records = 60000}, worker = {.n_records = 60000};
    assert_int_equal(shm_create(&shm, &spec, &why), ERR_OK);
    assert_int_equal(wake_open(&gateway.mine), ERR_OK);
    assert_int_equal(wake_open(&worker.mine), ERR_OK);
    gateway.peer = worker.mine;
    worker.peer = gateway.mine;
    assert_int_equal(ring_writer_open(&gateway.out, shm.submit, shm.head.submit_bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&gateway.in, shm.events, shm.head.event_bytes), ERR_OK);
    assert_int_equal(ring_writer_open(&worker.out, shm.events, shm.head.event_bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&worker.in, shm.submit, shm.head.submit_bytes), ERR_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, worker_thread, &worker), 0);
    converse(&gateway, false);
    pthread_join(thread, NULL);
    assert_true(gateway.ok);
    assert_true(worker.ok);
    assert_true(gateway.sleeps + worker.sleeps > 0);
    ring_reader_close(&gateway.in);
    ring_reader_close(&worker.in);
    wake_close(&gateway.mine);
    wake_close(&worker.mine);
    shm_close(&shm);
}

/* One record at a time, so that each side sleeps before every record. */
static void *answer_thread(void *arg)
{
    struct end *e = arg;
    struct ring_record rec;
    for (uint32_t i = 0; i < e->n_records;) {
        if (ring_read(&e->in, &rec) == ERR_OK) {
            if (ring_write(&e->out, rec.type, 0, rec.job, rec.payload, rec.n))
                return NULL;
            if (ring_reader_needs_wake(&e->out))
                wake_send(e->peer);
            i++;
        } else if (ring_reader_arm(&e->in)) {
            e->sleeps++;
            if (wake_wait(e->mine, PATIENCE_MS) == ERR_TIMEOUT)
                return NULL;
        }
    }
    e->ok = true;
    return NULL;
}

static void a_ping_wakes_a_sleeper_every_time(void **state)
{
    UNUSED(state);
    struct shm shm;
    struct errmsg why;
    struct shm_spec spec = {.submit_bytes = 4096, .event_bytes = 4096};
    struct end me = {.n_records = 3000}, peer = {.n_records = 3000};
    assert_int_equal(shm_create(&shm, &spec, &why), ERR_OK);
    assert_int_equal(wake_open(&me.mine), ERR_OK);
    assert_int_equal(wake_open(&peer.mine), ERR_OK);
    me.peer = peer.mine;
    peer.peer = me.mine;
    assert_int_equal(ring_writer_open(&me.out, shm.submit, shm.head.submit_bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&me.in, shm.events, shm.head.event_bytes), ERR_OK);
    assert_int_equal(ring_writer_open(&peer.out, shm.events, shm.head.event_bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&peer.in, shm.submit, shm.head.submit_bytes), ERR_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer_thread, &peer), 0);
    for (uint32_t i = 0; i < me.n_records; i++) {
        struct ring_record rec;
        assert_int_equal(ring_write(&me.out, 1, 0, i, &i, sizeof(i)), ERR_OK);
        if (ring_reader_needs_wake(&me.out))
            wake_send(me.peer);
        while (ring_read(&me.in, &rec) == ERR_AGAIN)
            if (ring_reader_arm(&me.in))
                assert_int_not_equal(wake_wait(me.mine, PATIENCE_MS), ERR_TIMEOUT);
        assert_int_equal(rec.job, i);
    }
    pthread_join(thread, NULL);
    assert_true(peer.ok);
    assert_true(peer.sleeps > 0);
    ring_reader_close(&me.in);
    ring_reader_close(&peer.in);
    wake_close(&me.mine);
    wake_close(&peer.mine);
    shm_close(&shm);
}

/* One way only: nothing but room in the ring can wake this writer. */
static void *pour_thread(void *arg)
{
    struct end *e = arg;
    unsigned char payload[700];
    for (uint32_t i = 0; i < e->n_records;) {
        size_t n = make(i, payload);
        enum err rc = ring_write(&e->out, i & 0xff, 0, i, payload, n);
        if (rc == ERR_OK)
            i++;
        else if (rc != ERR_FULL)
            return NULL;
        if ((rc == ERR_FULL || i == e->n_records) && ring_reader_needs_wake(&e->out))
            wake_send(e->peer);
        if (rc == ERR_FULL && ring_writer_arm(&e->out, n)) {
            e->sleeps++;
            if (wake_wait(e->mine, PATIENCE_MS) == ERR_TIMEOUT)
                return NULL;
        }
    }
    e->ok = true;
    return NULL;
}

static void room_in_a_full_ring_wakes_its_writer(void **state)
{
    UNUSED(state);
    size_t bytes = RING_MIN_CAPACITY + RING_OVERHEAD;
    void *memory = aligned_alloc(RING_LINE, bytes);
    struct end me = {.n_records = 20000}, peer = {.n_records = 20000};
    assert_int_equal(ring_init(memory, bytes), ERR_OK);
    assert_int_equal(wake_open(&me.mine), ERR_OK);
    assert_int_equal(wake_open(&peer.mine), ERR_OK);
    me.peer = peer.mine;
    peer.peer = me.mine;
    assert_int_equal(ring_reader_open(&me.in, memory, bytes), ERR_OK);
    assert_int_equal(ring_writer_open(&peer.out, memory, bytes), ERR_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, pour_thread, &peer), 0);
    for (uint32_t i = 0; i < me.n_records;) {
        struct ring_record rec;
        enum err rc = ring_read(&me.in, &rec);
        if (rc == ERR_OK) {
            assert_true(check(i++, &rec));
            continue;
        }
        assert_int_equal(rc, ERR_AGAIN);
        if (ring_writer_needs_wake(&me.in))
            wake_send(me.peer);
        if (ring_reader_arm(&me.in))
            assert_int_not_equal(wake_wait(me.mine, PATIENCE_MS), ERR_TIMEOUT);
    }
    pthread_join(thread, NULL);
    assert_true(peer.ok);
    assert_true(peer.sleeps > 0);
    ring_reader_close(&me.in);
    wake_close(&me.mine);
    wake_close(&peer.mine);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_threads_exchange_every_record_and_lose_no_wake_up),
        cmocka_unit_test(a_ping_wakes_a_sleeper_every_time),
        cmocka_unit_test(room_in_a_full_ring_wakes_its_writer),
    };
    return RUN_TESTS(tests);
}
