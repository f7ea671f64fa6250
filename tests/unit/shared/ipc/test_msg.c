#include "shared/ipc/msg.h"
#include "shared/base/checked.h"
#include "tests/support/test.h"
#include <math.h>
#include <stdlib.h>

static struct errmsg why;

/* One of each record, every field with a value of its own. */
enum { SAMPLES_MAX = 32 };
static struct msg samples[SAMPLES_MAX];
static size_t n_samples;
static const int32_t tokens[] = {17, -1, INT32_MAX};
static const float values[] = {0.5f, -1.25f, 3e38f, -0.0f};
static struct buf logprobs;

static void add(struct msg m)
{
    samples[n_samples++] = m;
}

static int make_samples(void **state)
{
    UNUSED(state);
    buf_init(&logprobs);
    msg_put_logprob(&logprobs, 17, -0.5f, "he", 2, 2);
    msg_put_logprob(&logprobs, 17, -0.5f, "he", 2, 0);
    msg_put_logprob(&logprobs, 18, -INFINITY, "\xff", 1, 0); /* a token's bytes need not be UTF-8 */
    msg_put_logprob(&logprobs, -1, 0, "", 0, 0);
    msg_put_logprob(&logprobs, INT32_MAX, -1, "llo", 3, 0);
    add((struct msg){.type = REC_SUBMIT, .job = 1, .submit = {.offset = 4096, .bytes = 88}});
    add((struct msg){.type = REC_CANCEL, .job = 2});
    add((struct msg){.type = REC_PAUSE, .job = 3});
    add((struct msg){.type = REC_RESUME, .job = 4});
    add((struct msg){.type = REC_DRAIN});
    add((struct msg){.type = REC_TAKEN, .job = 5, .taken = {.offset = 8}});
    add((struct msg){.type = REC_ADMITTED,
                     .job = 6,
                     .admitted = {.prompt_tokens = 100, .cached_tokens = 64, .context = 4096}});
    add((struct msg){.type = REC_DELTA,
                     .job = UINT64_MAX,
                     .delta = {.head = {.choice = 127,
                                        .kind = DELTA_TOOL_ARGS,
                                        .reasoning_tokens = 5,
                                        .tool_index = 2},
                               .tokens = tokens,
                               .n_tokens = 3,
                               .text = STR("h\xc3\xa9llo"),
                               .logprobs = {logprobs.p, logprobs.n}}});
    add((struct msg){.type = REC_DELTA, .job = 7, .delta = {.tokens = tokens, .n_tokens = 1}});
    add((struct msg){.type = REC_DELTA, .job = 7, .delta = {.text = STR("held back")}});
    add((struct msg){.type = REC_CHOICE_DONE,
                     .job = 8,
                     .choice_done = {.choice = 1,
                                     .reason = FINISH_LENGTH,
                                     .completion_tokens = 9,
                                     .reasoning_tokens = 3,
                                     .stop_index = -1}});
    add((struct msg){
        .type = REC_EMBEDDING,
        .job = 9,
        .embedding = {.head = {.index = 2, .n_dims = 4, .n_tokens = 11}, .values = values}});
    add((struct msg){.type = REC_FINISHED,
                     .job = 10,
                     .finished = {.reason = FINISH_CANCELLED,
                                  .prompt_tokens = 1,
                                  .cached_tokens = 2,
                                  .completion_tokens = 3,
                                  .reasoning_tokens = 4,
                                  .computed_tokens = 5,
                                  .queue_ns = 6,
                                  .prefill_ns = 7,
                                  .decode_ns = 8}});
    add((struct msg){.type = REC_FAILED,
                     .job = 11,
                     .failed = {.head = {.err = ERR_CONTEXT_LENGTH,
                                         .param = PARAM_MESSAGES,
                                         .prompt_tokens = 5000,
                                         .context = 4096},
                                .message = STR("too long")}});
    add((struct msg){.type = REC_MODEL_INFO, .text = STR("{\"context\":4096}")});
    add((struct msg){.type = REC_FATAL, .text = STR("cannot open model.gguf")});
    return 0;
}

static int drop_samples(void **state)
{
    UNUSED(state);
    buf_fini(&logprobs);
    return 0;
}

/* The payload in memory of exactly its length, so that a sanitizer sees one byte too far. */
static struct ring_record record(const struct msg *m, const struct buf *payload, size_t n)
{
    static void *copy;
    free(copy);
    copy = malloc(n ? n : 1);
    if (n)
        memcpy(copy, payload->p, n);
    return (struct ring_record){.type = (uint16_t)m->type, .job = m->job, .payload = copy, .n = n};
}

static void same(const struct msg *a, const struct msg *b)
{
    struct buf x, y;
    buf_init(&x);
    buf_init(&y);
    msg_put(&x, a);
    msg_put(&y, b);
    assert_int_equal(a->type, b->type);
    assert_true(a->job == b->job);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    buf_fini(&x);
    buf_fini(&y);
}

static void every_record_of_the_table_has_a_sample(void **state)
{
    UNUSED(state);
    unsigned seen = 0, rows = 0;
#define X(name, value, direction, payload, terminal)                                               \
    {                                                                                              \
        bool found = false;                                                                        \
        for (size_t i = 0; i < n_samples; i++)                                                     \
            found |= samples[i].type == REC_##name;                                                \
        seen += found;                                                                             \
        rows++;                                                                                    \
        assert_string_equal(msg_type_name(value), #name);                                          \
        assert_int_equal(msg_type_terminal(value), terminal);                                      \
        assert_int_equal(msg_type_direction(value), direction);                                    \
        assert_int_equal(sizeof(payload) % 8, 0);                                                  \
    }
    PROTO_RECORDS(X)
#undef X
    assert_int_equal(seen, rows);
    assert_null(msg_type_name(0));
    assert_null(msg_type_name(6));
    assert_null(msg_type_name(65535));
}

static void every_message_survives_the_ring(void **state)
{
    UNUSED(state);
    size_t bytes = 8192 + RING_OVERHEAD;
    void *memory = aligned_alloc(RING_LINE, bytes);
    struct ring_writer w;
    struct ring_reader r;
    struct buf scratch;
    buf_init(&scratch);
    assert_int_equal(ring_init(memory, bytes), ERR_OK);
    assert_int_equal(ring_writer_open(&w, memory, bytes), ERR_OK);
    assert_int_equal(ring_reader_open(&r, memory, bytes), ERR_OK);
    for (int round = 0; round < 100; round++) {
        for (size_t i = 0; i < n_samples; i++) {
            struct ring_record rec;
            struct msg back;
            assert_int_equal(msg_send(&w, &scratch, &samples[i]), ERR_OK);
            assert_int_equal(ring_read(&r, &rec), ERR_OK);
            if (msg_read(&back, msg_type_direction(rec.type), &rec, &why))
                fail_msg("%s", why.text);
            same(&samples[i], &back);
            enum err e = msg_send_fixed(&w, &samples[i]);
            if (e == ERR_OK) {
                assert_int_equal(ring_read(&r, &rec), ERR_OK);
                assert_int_equal(msg_read(&back, msg_type_direction(rec.type), &rec, &why), ERR_OK);
                same(&samples[i], &back);
            } else {
                assert_int_equal(e, ERR_INVALID); /* only those with variable parts */
                assert_true(samples[i].type >= REC_DELTA);
            }
        }
    }
    buf_fini(&scratch);
    ring_reader_close(&r);
    free(memory);
}

static void the_fields_of_a_delta_come_back(void **state)
{
    UNUSED(state);
    struct buf b;
    struct msg m;
    struct logprob_entry e;
    struct str text;
    buf_init(&b);
    msg_put(&b, &samples[7]);
    struct ring_record rec = record(&samples[7], &b, b.n);
    assert_int_equal(msg_read(&m, TO_GATEWAY, &rec, &why), ERR_OK);
    assert_int_equal(m.delta.head.choice, 127);
    assert_int_equal(m.delta.n_tokens, 3);
    assert_int_equal(m.delta.tokens[2], INT32_MAX);
    assert_true(str_is(m.delta.text, "h\xc3\xa9llo"));
    struct str rest = m.delta.logprobs;
    assert_true(msg_next_logprob(&rest, &e, &text));
    assert_int_equal(e.id, 17);
    assert_int_equal(e.n_top, 2);
    assert_true(str_is(text, "he"));
    for (int i = 0; i < 4; i++)
        assert_true(msg_next_logprob(&rest, &e, &text));
    assert_true(str_is(text, "llo"));
    assert_false(msg_next_logprob(&rest, &e, &text));
    buf_fini(&b);
}

static void any_other_length_is_refused(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < n_samples; i++) {
        struct buf b;
        struct msg m;
        buf_init(&b);
        msg_put(&b, &samples[i]);
        size_t whole = b.n;
        buf_put(&b, "\0\0\0\0\0\0\0\0", 8);
        for (size_t n = 0; n <= b.n; n++) {
            struct ring_record rec = record(&samples[i], &b, n);
            enum err e = msg_read(&m, msg_type_direction(rec.type), &rec, &why);
            assert_int_equal(e, n == whole ? ERR_OK : ERR_PROTOCOL);
        }
        buf_fini(&b);
    }
}

/* What is accepted after damage must still be canonical: written again, it is the same bytes. */
static void damaged_records_are_refused_or_still_whole(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < n_samples; i++) {
        struct buf b, again;
        buf_init(&b);
        buf_init(&again);
        msg_put(&b, &samples[i]);
        for (size_t bit = 0; bit < b.n * 8; bit++) {
            struct msg m;
            b.p[bit / 8] ^= (char)(1 << bit % 8);
            struct ring_record rec = record(&samples[i], &b, b.n);
            if (msg_read(&m, msg_type_direction(rec.type), &rec, &why) == ERR_OK) {
                buf_clear(&again);
                msg_put(&again, &m);
                assert_int_equal(again.n, b.n);
                assert_memory_equal(again.p, b.p, b.n);
            } else {
                assert_string_not_equal(why.text, "");
            }
            b.p[bit / 8] ^= (char)(1 << bit % 8);
        }
        buf_fini(&b);
        buf_fini(&again);
    }
}

static void the_wrong_direction_type_or_flag_is_refused(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < n_samples; i++) {
        struct buf b;
        struct msg m;
        buf_init(&b);
        msg_put(&b, &samples[i]);
        struct ring_record rec = record(&samples[i], &b, b.n);
        enum msg_direction to = msg_type_direction(rec.type);
        assert_int_equal(msg_read(&m, to == TO_WORKER ? TO_GATEWAY : TO_WORKER, &rec, &why),
                         ERR_PROTOCOL);
        rec.flags = 1;
        assert_int_equal(msg_read(&m, to, &rec, &why), ERR_PROTOCOL);
        rec.flags = 0;
        rec.type = 31;
        assert_int_equal(msg_read(&m, to, &rec, &why), ERR_PROTOCOL);
        assert_string_equal(why.text, "record of type 31 does not belong in this ring");
        buf_fini(&b);
    }
}

static void refused(struct msg m)
{
    struct buf b;
    struct msg out;
    buf_init(&b);
    msg_put(&b, &m);
    struct ring_record rec = record(&m, &b, b.n);
    assert_int_equal(msg_read(&out, msg_type_direction(rec.type), &rec, &why), ERR_PROTOCOL);
    buf_fini(&b);
}

static void values_out_of_range_are_refused(void **state)
{
    UNUSED(state);
    static const float nan_value[] = {NAN};
    refused((struct msg){.type = REC_SUBMIT, .submit = {.offset = 4, .bytes = 88}});
    refused((struct msg){.type = REC_SUBMIT, .submit = {.offset = 8, .bytes = 87}});
    refused((struct msg){.type = REC_SUBMIT,
                         .submit = {.offset = 8, .bytes = PROTO_MAX_JOB_BYTES + 1}});
    refused((struct msg){.type = REC_CANCEL, .job = 0});
    refused(
        (struct msg){.type = REC_ADMITTED, .admitted = {.prompt_tokens = 1, .cached_tokens = 2}});
    refused((struct msg){.type = REC_DELTA, .delta = {.head = {.choice = PROTO_MAX_CHOICES}}});
    refused((struct msg){.type = REC_DELTA, .delta = {.head = {.kind = 4}}});
    refused((struct msg){.type = REC_DELTA, .delta = {.text = STR("\xc3")}});
    refused((struct msg){.type = REC_CHOICE_DONE, .choice_done = {.stop_index = -2}});
    refused((struct msg){.type = REC_CHOICE_DONE, .choice_done = {.stop_index = PROTO_MAX_STOPS}});
    refused((struct msg){.type = REC_CHOICE_DONE, .choice_done = {.reason = 4}});
    refused((struct msg){.type = REC_EMBEDDING,
                         .embedding = {.head = {.n_dims = 1}, .values = nan_value}});
    refused((struct msg){.type = REC_FAILED, .failed = {.head = {.err = ERR_OK}}});
    refused((struct msg){.type = REC_FAILED, .failed = {.head = {.err = ERR_COUNT_}}});
    refused(
        (struct msg){.type = REC_FAILED, .failed = {.head = {.err = 1, .param = PARAM_COUNT_}}});
    refused((struct msg){.type = REC_FATAL, .text = STR("\xff")});
}

static void log_probabilities_must_match_the_tokens(void **state)
{
    UNUSED(state);
    struct buf b;
    buf_init(&b);
    struct msg m = {.type = REC_DELTA, .delta = {.tokens = tokens, .n_tokens = 1}};
    for (int kind = 0; kind < 5; kind++) {
        buf_clear(&b);
        switch (kind) {
        case 0: /* two for one token */
            msg_put_logprob(&b, 1, 0, "a", 1, 0);
            msg_put_logprob(&b, 2, 0, "b", 1, 0);
            break;
        case 1: /* an alternative is missing */
            msg_put_logprob(&b, 1, 0, "a", 1, 2);
            msg_put_logprob(&b, 2, 0, "b", 1, 0);
            break;
        case 2: /* an alternative with alternatives */
            msg_put_logprob(&b, 1, 0, "a", 1, 1);
            msg_put_logprob(&b, 2, 0, "b", 1, 1);
            break;
        case 3: /* not a number */
            msg_put_logprob(&b, 1, NAN, "a", 1, 0);
            break;
        case 4: /* more than OpenAI allows */
            msg_put_logprob(&b, 1, 0, "a", 1, PROTO_MAX_TOP_LOGPROBS + 1);
            for (int i = 0; i <= PROTO_MAX_TOP_LOGPROBS; i++)
                msg_put_logprob(&b, i, 0, "b", 1, 0);
            break;
        }
        m.delta.logprobs = (struct str){b.p, b.n};
        refused(m);
        assert_string_equal(why.text, "DELTA: malformed log probabilities");
    }
    buf_fini(&b);
}

static void long_messages_are_cut_between_characters(void **state)
{
    UNUSED(state);
    char text[PROTO_MAX_MESSAGE_BYTES + 100];
    struct buf b;
    struct msg m, back;
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', sizeof(text));
        for (size_t i = shift; i + 3 <= sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 3);
        m = (struct msg){.type = REC_FAILED, .failed = {.head = {.err = ERR_INTERNAL}}};
        m.failed.message = (struct str){text, sizeof(text)};
        buf_init(&b);
        msg_put(&b, &m);
        struct ring_record rec = record(&m, &b, b.n);
        assert_int_equal(msg_read(&back, TO_GATEWAY, &rec, &why), ERR_OK);
        assert_in_range(back.failed.message.n, PROTO_MAX_MESSAGE_BYTES - 2,
                        PROTO_MAX_MESSAGE_BYTES);
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_of_the_table_has_a_sample),
        cmocka_unit_test(every_message_survives_the_ring),
        cmocka_unit_test(the_fields_of_a_delta_come_back),
        cmocka_unit_test(any_other_length_is_refused),
        cmocka_unit_test(damaged_records_are_refused_or_still_whole),
        cmocka_unit_test(the_wrong_direction_type_or_flag_is_refused),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(log_probabilities_must_match_the_tokens),
        cmocka_unit_test(long_messages_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, make_samples, drop_samples);
}
