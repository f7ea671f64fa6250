#include "shared/ipc/ring.h"
#include "tests/support/test.h"
#include <stdlib.h>

enum { CAPACITY = RING_MIN_CAPACITY, BYTES = CAPACITY + RING_OVERHEAD };

static struct ring *memory;
static struct ring_writer w;
static struct ring_reader r;

static int fresh(void **state)
{
    UNUSED(state);
    memory = aligned_alloc(RING_LINE, BYTES);
    memset(memory, 0xa5, BYTES);
    return ring_init(memory, BYTES) || ring_writer_open(&w, memory, BYTES) ||
           ring_reader_open(&r, memory, BYTES);
}

static int drop(void **state)
{
    UNUSED(state);
    ring_reader_close(&r);
    free(memory);
    return 0;
}

static uint64_t seed = 1;
static unsigned rnd(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static void records_arrive_whole_and_in_order(void **state)
{
    UNUSED(state);
    struct ring_record rec;
    assert_int_equal(ring_read(&r, &rec), ERR_AGAIN);
    assert_int_equal(ring_write(&w, 1, 2, 3, "abc", 3), ERR_OK);
    assert_int_equal(ring_write(&w, 4, 0, UINT64_MAX, NULL, 0), ERR_OK);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_int_equal(rec.type, 1);
    assert_int_equal(rec.flags, 2);
    assert_int_equal(rec.job, 3);
    assert_int_equal(rec.n, 3);
    assert_memory_equal(rec.payload, "abc", 3);
    assert_int_equal((uintptr_t)rec.payload % 8, 0);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_int_equal(rec.type, 4);
    assert_true(rec.job == UINT64_MAX);
    assert_int_equal(rec.n, 0);
    assert_int_equal(ring_read(&r, &rec), ERR_AGAIN);
}

/* Enough records of all lengths that every kind of wrap happens: inside the payload, inside the
 * head. */
static void records_wrap_around_the_end_at_every_offset(void **state)
{
    UNUSED(state);
    unsigned char out[CAPACITY];
    struct ring_record rec;
    unsigned across_head = 0, across_payload = 0;
    for (unsigned i = 0; i < 20000; i++) {
        size_t n = rnd(300);
        uint64_t at = w.tail % CAPACITY;
        across_head += at + RING_RECORD_HEAD > CAPACITY;
        across_payload += at + RING_RECORD_HEAD <= CAPACITY && at + RING_RECORD_HEAD + n > CAPACITY;
        memset(out, (int)(i & 0xff), n);
        assert_int_equal(ring_write(&w, (uint16_t)i, 0, i, out, n), ERR_OK);
        assert_int_equal(ring_read(&r, &rec), ERR_OK);
        assert_int_equal(rec.job, i);
        assert_int_equal(rec.n, n);
        assert_memory_equal(rec.payload, out, n);
    }
    assert_true(across_head > 10 && across_payload > 10);
}

static void a_full_ring_refuses_and_loses_nothing(void **state)
{
    UNUSED(state);
    struct ring_record rec;
    for (int round = 0; round < 50; round++) { /* other offsets each time */
        uint64_t written = 0, read = 0;
        enum err e;
        while ((e = ring_write(&w, 1, 0, written, "0123456789abcdefghijk", 21)) == ERR_OK)
            written++;
        assert_int_equal(e, ERR_FULL);
        assert_int_equal(written, CAPACITY / (RING_RECORD_HEAD + 24));
        while (ring_read(&r, &rec) == ERR_OK) {
            assert_int_equal(rec.job, read++);
            assert_memory_equal(rec.payload, "0123456789abcdefghijk", 21);
        }
        assert_int_equal(read, written);
        assert_int_equal(
            ring_write(&w, 1, 0, 0, "0123456789012345678901234567890123456789", rnd(40)), ERR_OK);
        assert_int_equal(ring_read(&r, &rec), ERR_OK);
    }
}

static void the_largest_record_fills_the_ring_and_one_more_never_fits(void **state)
{
    UNUSED(state);
    static unsigned char big[CAPACITY];
    struct ring_record rec;
    assert_int_equal(ring_write(&w, 1, 0, 0, big, 1), ERR_OK);
    assert_int_equal(ring_write(&w, 1, 0, 0, big, CAPACITY - RING_RECORD_HEAD), ERR_FULL);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    memset(big, 7, sizeof(big));
    assert_int_equal(ring_write(&w, 1, 0, 0, big, CAPACITY - RING_RECORD_HEAD), ERR_OK);
    assert_int_equal(ring_write(&w, 1, 0, 0, NULL, 0), ERR_FULL);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_int_equal(rec.n, CAPACITY - RING_RECORD_HEAD);
    assert_memory_equal(rec.payload, big, rec.n);
    assert_int_equal(ring_write(&w, 1, 0, 0, big, CAPACITY - RING_RECORD_HEAD + 1), ERR_RANGE);
    assert_int_equal(ring_write(&w, 1, 0, 0, big, SIZE_MAX), ERR_RANGE);
    assert_int_equal(ring_write(&w, 1, 0, 0, big, 8), ERR_OK); /* a refusal breaks nothing */
}

static void padding_carries_no_stale_bytes(void **state)
{
    UNUSED(state);
    assert_int_equal(ring_write(&w, 1, 0, 0, "x", 1), ERR_OK); /* the memory was full of 0xa5 */
    assert_memory_equal(memory->bytes + RING_RECORD_HEAD, "x\0\0\0\0\0\0\0", 8);
}

static void impossible_sizes_are_refused_at_open(void **state)
{
    UNUSED(state);
    struct ring_writer w2;
    struct ring_reader r2;
    static const size_t sizes[] = {0,         1,         RING_OVERHEAD, RING_OVERHEAD + 2048,
                                   BYTES - 1, BYTES + 8, SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        assert_int_equal(ring_init(memory, sizes[i]), ERR_INVALID);
        assert_int_equal(ring_writer_open(&w2, memory, sizes[i]), ERR_PROTOCOL);
        assert_int_equal(ring_reader_open(&r2, memory, sizes[i]), ERR_PROTOCOL);
    }
    memory->capacity = CAPACITY * 2;
    assert_int_equal(ring_reader_open(&r2, memory, BYTES), ERR_PROTOCOL);
    assert_int_equal(ring_writer_open(&w2, memory, BYTES), ERR_PROTOCOL);
}

static void a_tail_that_cannot_be_breaks_the_reader_for_good(void **state)
{
    UNUSED(state);
    struct ring_record rec;
    assert_int_equal(ring_write(&w, 1, 0, 0, "abc", 3), ERR_OK);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    static const int64_t moves[] = {-8, -24, 4, 1, CAPACITY + 8, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < COUNT(moves); i++) {
        struct ring_reader mad = r; /* its copy buffer is only written, so sharing it is fine */
        memory->tail = w.tail + (uint64_t)moves[i];
        assert_int_equal(ring_read(&mad, &rec), ERR_PROTOCOL);
        memory->tail = w.tail;
        assert_int_equal(ring_read(&mad, &rec), ERR_PROTOCOL);
        assert_false(ring_reader_arm(&mad));
    }
    assert_int_equal(ring_read(&r, &rec), ERR_AGAIN);
}

static void a_head_that_cannot_be_breaks_the_writer_for_good(void **state)
{
    UNUSED(state);
    static unsigned char big[CAPACITY - RING_RECORD_HEAD];
    struct ring_record rec;
    assert_int_equal(ring_write(&w, 1, 0, 0, big, sizeof(big)), ERR_OK);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_int_equal(ring_write(&w, 1, 0, 0, big, sizeof(big)),
                     ERR_OK); /* it has seen the head move */
    static const int64_t moves[] = {8, CAPACITY, -CAPACITY - 8, INT64_MIN};
    for (size_t i = 0; i < COUNT(moves); i++) {
        struct ring_writer mad = w;
        memory->head = w.tail + (uint64_t)moves[i];
        assert_int_equal(ring_write(&mad, 1, 0, 0, "x", 1), ERR_PROTOCOL);
        memory->head = w.tail;
        assert_int_equal(ring_write(&mad, 1, 0, 0, "x", 1), ERR_PROTOCOL);
        assert_false(ring_writer_arm(&mad, 1));
    }
}

static void a_length_past_what_was_published_is_refused(void **state)
{
    UNUSED(state);
    static const uint32_t lengths[] = {9, 100, CAPACITY, INT32_MAX, UINT32_MAX, UINT32_MAX - 15};
    struct ring_record rec;
    assert_int_equal(ring_write(&w, 1, 0, 0, "12345678", 8), ERR_OK);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct ring_reader mad = r;
        memcpy(memory->bytes, &lengths[i], 4);
        assert_int_equal(ring_read(&mad, &rec), ERR_PROTOCOL);
        assert_int_equal(ring_read(&mad, &rec), ERR_PROTOCOL);
    }
}

static void random_bytes_never_lead_the_reader_astray(void **state)
{
    UNUSED(state);
    unsigned ok = 0, refused = 0;
    for (int round = 0; round < 3000; round++) {
        struct ring_record rec;
        memset(r.copy, 0, CAPACITY);
        r = (struct ring_reader){.ring = memory, .capacity = CAPACITY, .copy = r.copy};
        uint64_t start = (uint64_t)rnd(1000) * 8;
        r.head = r.tail_seen = start;
        for (size_t i = 0; i < CAPACITY; i += 4) {
            uint32_t word = rnd(4) ? rnd(200) : rnd(1u << 31) * 2u;
            memcpy(memory->bytes + i, &word, 4);
        }
        memory->tail =
            start + (rnd(8) ? (uint64_t)rnd(CAPACITY / 8 + 1) * 8 : (uint64_t)rnd(1u << 31));
        enum err e;
        while ((e = ring_read(&r, &rec)) == ERR_OK) {
            assert_true(rec.n <= CAPACITY - RING_RECORD_HEAD);
            ok++;
        }
        assert_true(e == ERR_AGAIN || e == ERR_PROTOCOL);
        assert_true(r.head - start <= CAPACITY);
        refused += e == ERR_PROTOCOL;
    }
    assert_true(ok > 100 && refused > 100);
}

static void arming_looks_once_more_and_one_sleep_costs_one_wake_up(void **state)
{
    UNUSED(state);
    struct ring_record rec;
    assert_false(ring_reader_needs_wake(&w)); /* awake */
    assert_true(ring_reader_arm(&r));
    assert_int_equal(ring_write(&w, 1, 0, 0, "x", 1), ERR_OK);
    assert_true(ring_reader_needs_wake(&w));
    assert_false(ring_reader_needs_wake(&w));
    assert_false(ring_reader_arm(&r)); /* something came: don't sleep */
    assert_false(ring_reader_needs_wake(&w));
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_true(ring_reader_arm(&r));
}

static void a_writer_sleeps_until_there_is_room_for_its_record(void **state)
{
    UNUSED(state);
    static const unsigned char half[CAPACITY / 2 - RING_RECORD_HEAD];
    struct ring_record rec;
    assert_int_equal(ring_write(&w, 1, 0, 0, half, sizeof(half)), ERR_OK);
    assert_false(ring_writer_arm(&w, 8));
    assert_int_equal(ring_write(&w, 1, 0, 0, half, sizeof(half)), ERR_OK);
    assert_true(ring_writer_arm(&w, 8));
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_true(ring_writer_needs_wake(&r));
    assert_false(ring_writer_needs_wake(&r));
    assert_false(ring_writer_arm(&w, 8));
    assert_true(ring_writer_arm(&w, sizeof(half) + 8)); /* more than the half that is free */
    assert_false(ring_writer_arm(&w, CAPACITY));        /* never: no reason to sleep */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, drop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_arrive_whole_and_in_order),
        TEST(records_wrap_around_the_end_at_every_offset),
        TEST(a_full_ring_refuses_and_loses_nothing),
        TEST(the_largest_record_fills_the_ring_and_one_more_never_fits),
        TEST(padding_carries_no_stale_bytes),
        TEST(impossible_sizes_are_refused_at_open),
        TEST(a_tail_that_cannot_be_breaks_the_reader_for_good),
        TEST(a_head_that_cannot_be_breaks_the_writer_for_good),
        TEST(a_length_past_what_was_published_is_refused),
        TEST(random_bytes_never_lead_the_reader_astray),
        TEST(arming_looks_once_more_and_one_sleep_costs_one_wake_up),
        TEST(a_writer_sleeps_until_there_is_room_for_its_record),
    };
    return RUN_TESTS(tests);
}
