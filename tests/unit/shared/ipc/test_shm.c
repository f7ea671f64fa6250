#include "shared/ipc/msg.h"
#include "shared/ipc/ring.h"
#include "shared/ipc/shm.h"
#include "shared/ipc/wake.h"
#include "tests/support/test.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct shm_spec spec = {
    .build_id = 11, .epoch = 22, .submit_bytes = 4096, .event_bytes = 8192, .payload_bytes = 10000};
static struct shm shm;
static struct errmsg why;

static int fresh(void **state)
{
    UNUSED(state);
    return shm_create(&shm, &spec, &why);
}

static int drop(void **state)
{
    UNUSED(state);
    shm_close(&shm);
    return 0;
}

static void both_sides_see_one_memory(void **state)
{
    UNUSED(state);
    struct shm other;
    assert_int_equal(shm_attach(&other, dup(shm.fd), 11, &why), ERR_OK);
    assert_memory_equal(&other.head, &shm.head, sizeof(shm.head));
    assert_int_equal(other.head.epoch, 22);
    assert_true(other.head.payload_bytes >= 10000);
    shm.payload[9999] = 77;
    assert_int_equal(other.payload[9999], 77);
    atomic_store(&other.status->state, WORKER_READY);
    assert_int_equal(atomic_load(&shm.status->state), WORKER_READY);
    shm_close(&other);
    shm_close(&other); /* twice is fine */
}

static void the_memory_can_neither_shrink_nor_grow_nor_be_unsealed(void **state)
{
    UNUSED(state);
    assert_int_equal(ftruncate(shm.fd, 4096), -1);
    assert_int_equal(ftruncate(shm.fd, 1 << 30), -1);
    assert_int_equal(fcntl(shm.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_true(fcntl(shm.fd, F_GETFD) & FD_CLOEXEC);
}

static void impossible_specs_are_refused(void **state)
{
    UNUSED(state);
    struct shm s;
    static const struct shm_spec bad[] = {
        {.submit_bytes = 0, .event_bytes = 4096},
        {.submit_bytes = 4096, .event_bytes = 5000},
        {.submit_bytes = 2048, .event_bytes = 4096},
        {.submit_bytes = UINT64_MAX, .event_bytes = 4096},
        {.submit_bytes = 4096, .event_bytes = 4096, .payload_bytes = UINT64_MAX},
        {.submit_bytes = 4096, .event_bytes = 4096, .payload_bytes = (uint64_t)INT64_MAX - 8192},
        {.submit_bytes = 1ull << 63, .event_bytes = 1ull << 63},
    };
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(shm_create(&s, &bad[i], &why), ERR_INVALID);
}

static void a_worker_of_another_build_refuses_to_attach(void **state)
{
    UNUSED(state);
    struct shm s;
    int fd = dup(shm.fd);
    assert_int_equal(shm_attach(&s, fd, 12, &why), ERR_PROTOCOL);
    assert_non_null(strstr(why.text, "install gateway and worker together"));
    assert_int_equal(close(fd), 0); /* the caller kept it */
    assert_true(shm_build_id() != 0);
    assert_true(shm_build_id() == shm_build_id());
}

static void descriptors_that_are_no_sealed_memfd_are_refused(void **state)
{
    UNUSED(state);
    struct shm s;
    int fds[2];
    assert_int_equal(shm_attach(&s, -1, 11, &why), ERR_IO);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(shm_attach(&s, fds[0], 11, &why), ERR_PROTOCOL);
    int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(loose, (off_t)shm.head.total_bytes), 0);
    assert_int_equal(pwrite(loose, &shm.head, sizeof(shm.head), 0), sizeof(shm.head));
    assert_int_equal(shm_attach(&s, loose, 11, &why), ERR_PROTOCOL); /* all right but the seals */
    assert_int_equal(fcntl(loose, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    assert_int_equal(shm_attach(&s, loose, 11, &why), ERR_OK);
    shm_close(&s);
    close(fds[0]);
    close(fds[1]);
    int empty = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(fcntl(empty, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    assert_int_equal(shm_attach(&s, empty, 11, &why), ERR_PROTOCOL);
    close(empty);
}

/* Every field, every awkward value: what is accepted must lie inside the real size without overlap.
 */
static void every_field_of_the_header_is_checked(void **state)
{
    UNUSED(state);
    static const uint64_t awkward[] = {
        0, 1, 64, 4096, 8191, 8192 + 192, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 4095};
    uint64_t words[sizeof(struct shm_header) / 8], real = shm.head.total_bytes;
    unsigned refused = 0, tried = 0;
    for (size_t f = 0; f < COUNT(words); f++) {
        for (size_t k = 0; k < COUNT(awkward); k++) {
            struct shm_header h;
            memcpy(words, &shm.head, sizeof(words));
            if (words[f] == awkward[k])
                continue;
            words[f] = awkward[k];
            memcpy(&h, words, sizeof(h));
            tried++;
            if (shm_check(&h, real, &why)) {
                refused++;
                continue;
            }
            assert_true(h.magic == PROTO_MAGIC && h.version == PROTO_VERSION &&
                        h.total_bytes == real);
            assert_true(h.status_offset >= sizeof(h));
            assert_true(h.status_offset + sizeof(struct shm_status) <= h.submit_offset);
            assert_true(h.submit_offset + h.submit_bytes <= h.event_offset);
            assert_true(h.event_offset + h.event_bytes <= h.payload_offset);
            assert_true(h.payload_offset <= real && h.payload_bytes <= real - h.payload_offset);
        }
    }
    assert_true(refused > tried / 2);
    struct shm_header same = shm.head;
    assert_int_equal(shm_check(&same, real, &why), ERR_OK);
    assert_int_equal(shm_check(&same, real - 4096, &why), ERR_PROTOCOL);
    assert_int_equal(shm_check(&same, real + 4096, &why), ERR_PROTOCOL);
}

static void extents_outside_the_payload_space_do_not_exist(void **state)
{
    UNUSED(state);
    uint64_t n = shm.head.payload_bytes;
    assert_ptr_equal(shm_extent(&shm, 0, n), shm.payload);
    assert_ptr_equal(shm_extent(&shm, n, 0), shm.payload + n);
    assert_null(shm_extent(&shm, 1, n));
    assert_null(shm_extent(&shm, n + 1, 0));
    assert_null(shm_extent(&shm, 8, UINT64_MAX));
    assert_null(shm_extent(&shm, UINT64_MAX, 8));
}

/* The other process: attaches by number, reads one record, answers with the text of its payload. */
static int worker(int fd, int work, int news)
{
    struct shm s;
    struct ring_reader in;
    struct ring_writer out;
    struct ring_record rec;
    struct msg m;
    if (shm_attach(&s, fd, 11, NULL) || ring_reader_open(&in, s.submit, s.head.submit_bytes) ||
        ring_writer_open(&out, s.events, s.head.event_bytes))
        return 1;
    while (ring_read(&in, &rec) != ERR_OK)
        if (ring_reader_arm(&in) && wake_wait(work, 10000))
            return 2;
    if (msg_read(&m, TO_WORKER, &rec, NULL) || m.type != REC_SUBMIT)
        return 3;
    struct msg answer = {.type = REC_MODEL_INFO};
    const unsigned char *extent = shm_extent(&s, m.submit.offset, m.submit.bytes);
    if (!extent)
        return 4;
    answer.text = (struct str){(const char *)extent, (size_t)m.submit.bytes};
    struct buf b;
    buf_init(&b);
    if (msg_send(&out, &b, &answer))
        return 5;
    if (ring_reader_needs_wake(&out))
        wake_send(news);
    buf_fini(&b);
    ring_reader_close(&in);
    shm_close(&s);
    return 0;
}

static void a_worker_process_attaches_and_answers(void **state)
{
    UNUSED(state);
    int work, news, status;
    struct ring_writer out;
    struct ring_reader in;
    struct ring_record rec;
    struct msg m;
    assert_int_equal(wake_open(&work), ERR_OK);
    assert_int_equal(wake_open(&news), ERR_OK);
    assert_int_equal(ring_writer_open(&out, shm.submit, shm.head.submit_bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&in, shm.events, shm.head.event_bytes), ERR_OK);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(worker(shm.fd, work, news));
    memset(shm.payload + 64, 'p', 100);
    struct msg submit = {.type = REC_SUBMIT, .job = 9, .submit = {.offset = 64, .bytes = 100}};
    assert_int_equal(msg_send_fixed(&out, &submit), ERR_OK);
    if (ring_reader_needs_wake(&out))
        wake_send(work);
    while (ring_read(&in, &rec) != ERR_OK)
        if (ring_reader_arm(&in))
            assert_int_equal(wake_wait(news, 10000), ERR_OK);
    assert_int_equal(msg_read(&m, TO_GATEWAY, &rec, &why), ERR_OK);
    assert_int_equal(m.text.n, 100);
    assert_int_equal(m.text.p[99], 'p');
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    ring_reader_close(&in);
    wake_close(&work);
    wake_close(&news);
}

static void a_wake_up_is_remembered_until_it_is_slept_on(void **state)
{
    UNUSED(state);
    int fd;
    assert_int_equal(wake_open(&fd), ERR_OK);
    assert_int_equal(wake_wait(fd, 0), ERR_TIMEOUT);
    wake_send(fd);
    wake_send(fd);
    assert_int_equal(wake_wait(fd, 10000), ERR_OK);
    assert_int_equal(wake_wait(fd, 0), ERR_TIMEOUT);
    uint64_t nearly = UINT64_MAX - 1; /* a peer that never looks: the counter is at its end */
    assert_int_equal(write(fd, &nearly, sizeof(nearly)), sizeof(nearly));
    wake_send(fd);
    assert_int_equal(wake_wait(fd, 0), ERR_OK);
    wake_close(&fd);
    assert_int_equal(fd, -1);
    wake_close(&fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, drop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_sides_see_one_memory),
        TEST(the_memory_can_neither_shrink_nor_grow_nor_be_unsealed),
        TEST(impossible_specs_are_refused),
        TEST(a_worker_of_another_build_refuses_to_attach),
        TEST(descriptors_that_are_no_sealed_memfd_are_refused),
        TEST(every_field_of_the_header_is_checked),
        TEST(extents_outside_the_payload_space_do_not_exist),
        TEST(a_worker_process_attaches_and_answers),
        cmocka_unit_test(a_wake_up_is_remembered_until_it_is_slept_on),
    };
    return RUN_TESTS(tests);
}
