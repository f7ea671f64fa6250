/* The decoder as a user runs it, on the image of a real memfd; and the protocol page beside its
 * table. */
#include "shared/ipc/msg.h"
#include "shared/ipc/shm.h"
#include "tests/support/test.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char tool[4096], output[65536];

/* BUILD/test/unit/shared/ipc/test_ringdump -> BUILD/tools/ringdump */
static int find_tool(void **state)
{
    UNUSED(state);
    ssize_t n = readlink("/proc/self/exe", tool, sizeof(tool) - 32);
    if (n < 0)
        return 1;
    tool[n] = '\0';
    for (int up = 0; up < 5; up++)
        *strrchr(tool, '/') = '\0';
    memcpy(tool + strlen(tool), "/tools/ringdump", sizeof("/tools/ringdump"));
    return access(tool, X_OK);
}

static int run(const char *args)
{
    char command[8192];
    snprintf(command, sizeof(command), "'%s' %s 2>&1", tool, args);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(output, 1, sizeof(output) - 1, p);
    output[n] = '\0';
    return pclose(p);
}

static void an_image_is_printed_record_by_record(void **state)
{
    UNUSED(state);
    struct shm shm;
    struct ring_writer w, events;
    struct ring_reader r;
    struct ring_record rec;
    struct buf b;
    const int32_t token = 17;
    char args[64];
    const struct msg submit = {
        .type = REC_SUBMIT, .job = 0xabc, .submit = {.offset = 8, .bytes = 96}};
    const struct msg cancel = {.type = REC_CANCEL, .job = 0xabc};
    const struct msg delta = {.type = REC_DELTA,
                              .job = 0xabc,
                              .delta = {.tokens = &token, .n_tokens = 1, .text = STR("hi\x1b")}};
    buf_init(&b);
    assert_int_equal(shm_create(&shm,
                                &(struct shm_spec){.build_id = shm_build_id(),
                                                   .epoch = 3,
                                                   .submit_bytes = 4096,
                                                   .event_bytes = 4096},
                                NULL),
                     ERR_OK);
    assert_int_equal(ring_writer_open(&w, shm.submit, shm.head.submit_bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&r, shm.submit, shm.head.submit_bytes), ERR_OK);
    assert_int_equal(ring_writer_open(&events, shm.events, shm.head.event_bytes), ERR_OK);
    assert_int_equal(msg_send(&w, &b, &submit), ERR_OK);
    assert_int_equal(msg_send(&w, &b, &cancel), ERR_OK);
    assert_int_equal(ring_read(&r, &rec), ERR_OK);
    assert_int_equal(msg_send(&events, &b, &delta), ERR_OK);
    assert_int_equal(ring_write(&events, 99, 0, 1, "????????", 8), ERR_OK);
    snprintf(args, sizeof(args), "/proc/%d/fd/%d", (int)getpid(), shm.fd);
    assert_int_equal(run(args), 0);
    assert_non_null(strstr(output, " epoch 3 "));
    assert_non_null(strstr(output, "submit ring: capacity 4096 head 32 tail 56 unread 24\n"));
    assert_non_null(strstr(output, " 0 . SUBMIT      job=0000000000000abc offset=8 bytes=96\n"));
    assert_non_null(strstr(output, " 32 > CANCEL      job=0000000000000abc\n"));
    assert_non_null(strstr(output,
                           " 0 > DELTA       job=0000000000000abc choice=0 kind=content tokens=17 "
                           "logprob_bytes=0 text=\"hi\\x1b\"\n"));
    assert_non_null(strstr(output, "MALFORMED record of type 99 does not belong in this ring\n"));
    memset((char *)shm.events + RING_OVERHEAD, 0xff, 4); /* a length that cannot be */
    assert_int_not_equal(run(args), 0);
    assert_non_null(strstr(output, "broken"));
    memset(shm.base, 0, 4);
    assert_int_not_equal(run(args), 0);
    assert_non_null(strstr(output, "ringdump: shared memory: magic is 0x00000000, not ours\n"));
    buf_fini(&b);
    ring_reader_close(&r);
    shm_close(&shm);
}

static void unusable_arguments_are_one_line(void **state)
{
    UNUSED(state);
    assert_int_not_equal(run("/nonexistent"), 0);
    assert_string_equal(output, "ringdump: /nonexistent: No such file or directory\n");
    assert_int_not_equal(run(""), 0);
    assert_string_equal(output, "usage: ringdump IMAGE | ringdump --table\n");
}

static void the_protocol_page_has_the_table_of_the_header(void **state)
{
    UNUSED(state);
    static char page[65536];
    FILE *f = fopen("docs/PROTOCOL.md", "r");
    assert_non_null(f); /* tests run from the root of the repository */
    size_t n = fread(page, 1, sizeof(page) - 1, f);
    page[n] = '\0';
    fclose(f);
    assert_int_equal(run("--table"), 0);
    if (!strstr(page, output))
        fail_msg(
            "docs/PROTOCOL.md: its table of records is not that of proto.h; paste this one:\n%s",
            output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_printed_record_by_record),
        cmocka_unit_test(unusable_arguments_are_one_line),
        cmocka_unit_test(the_protocol_page_has_the_table_of_the_header),
    };
    return cmocka_run_group_tests(tests, find_tool, NULL);
}
