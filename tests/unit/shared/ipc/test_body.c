#include "shared/ipc/body.h"
#include "tests/support/test.h"
#include <math.h>
#include <stdlib.h>

static struct errmsg why;
static struct buf b;
static const struct job_head plain = {.kind = JOB_CHAT,
                                      .n = 2,
                                      .flags = JOB_LOGPROBS,
                                      .max_tokens = 100,
                                      .seed = 42,
                                      .temperature = 0.5f,
                                      .top_p = 1,
                                      .repetition_penalty = 1,
                                      .top_logprobs = 3};
static const int32_t replayed[] = {5, 6, 7};

static int fresh(void **state)
{
    UNUSED(state);
    buf_init(&b);
    return 0;
}

static int drop(void **state)
{
    UNUSED(state);
    buf_fini(&b);
    return 0;
}

static enum err open_n(struct body *out, size_t n)
{
    static void *copy;
    free(copy);
    copy = malloc(n ? n : 1);
    if (n)
        memcpy(copy, b.p, n);
    return body_open(out, copy, n, &why);
}

static void full_body(void)
{
    const struct {
        int32_t token;
        float bias;
    } bias[] = {{1, 0.5f}, {2, -100}};
    buf_clear(&b);
    body_begin(&b, &plain);
    body_section(&b, SECTION_REQUEST_JSON, "{\"messages\":[]}", 15);
    body_section(&b, SECTION_STOP, "\n\n", 2);
    body_section(&b, SECTION_STOP, "END", 3);
    body_section(&b, SECTION_LOGIT_BIAS, bias, sizeof(bias));
    body_replay(&b, 1, 9, replayed, 3);
    body_replay(&b, 0, 0, NULL, 0);
    assert_int_equal(body_end(&b), ERR_OK);
}

static void a_body_comes_back_in_order_and_aligned(void **state)
{
    UNUSED(state);
    struct body body;
    struct body_part part;
    size_t at = 0;
    full_body();
    assert_int_equal(open_n(&body, b.n), ERR_OK);
    assert_int_equal(body.head.seed, 42);
    assert_int_equal(body.head.version, PROTO_VERSION);
    assert_int_equal(body.head.n_sections, 6);
    assert_true(body_next(&body, &at, &part));
    assert_int_equal(part.kind, SECTION_REQUEST_JSON);
    assert_int_equal(part.n, 15);
    assert_memory_equal(part.p, "{\"messages\":[]}", 15);
    assert_true(body_next(&body, &at, &part) && part.kind == SECTION_STOP && part.n == 2);
    assert_true(body_next(&body, &at, &part) && part.kind == SECTION_STOP && part.n == 3);
    assert_true(body_next(&body, &at, &part) && part.kind == SECTION_LOGIT_BIAS && part.n == 16);
    assert_int_equal((uintptr_t)part.p % 8, 0);
    assert_true(body_next(&body, &at, &part) && part.kind == SECTION_REPLAY);
    struct body_replay r = body_part_replay(&part);
    assert_int_equal(r.choice, 1);
    assert_int_equal(r.n, 3);
    assert_memory_equal(r.tokens, replayed, sizeof(replayed));
    assert_int_equal(r.text_bytes, 9);
    assert_true(body_next(&body, &at, &part) && part.kind == SECTION_REPLAY);
    assert_int_equal(body_part_replay(&part).n, 0);
    assert_false(body_next(&body, &at, &part));
}

static void a_cut_or_longer_body_is_refused(void **state)
{
    UNUSED(state);
    struct body body;
    full_body();
    size_t whole = b.n;
    buf_put(&b, "\0\0\0\0\0\0\0\0", 8);
    for (size_t n = 0; n <= b.n; n++)
        assert_int_equal(open_n(&body, n), n == whole ? ERR_OK : ERR_PROTOCOL);
}

static void damaged_bodies_never_lead_outside(void **state)
{
    UNUSED(state);
    full_body();
    unsigned accepted = 0;
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        struct body body;
        struct body_part part;
        b.p[bit / 8] ^= (char)(1 << bit % 8);
        if (open_n(&body, b.n) == ERR_OK) {
            unsigned sum = 0, parts = 0;
            for (size_t at = 0; body_next(&body, &at, &part); parts++)
                for (size_t i = 0; i < part.n; i++) /* touches every byte: a sanitizer judges */
                    sum += ((const unsigned char *)part.p)[i];
            assert_int_equal(parts, body.head.n_sections);
            assert_true(sum > 0);
            accepted++;
        }
        b.p[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_true(accepted > 0 && accepted < b.n * 8);
}

static void refused_head(struct job_head h, const char *message)
{
    struct body body;
    buf_clear(&b);
    body_begin(&b, &h);
    assert_int_equal(open_n(&body, b.n), ERR_PROTOCOL);
    assert_string_equal(why.text, message);
}

static void heads_out_of_range_are_refused(void **state)
{
    UNUSED(state);
    struct job_head h = plain;
    h.kind = JOB_DETOKENIZE + 1;
    refused_head(h, "job: of an unknown kind");
    h = plain;
    h.n = 0;
    refused_head(h, "job: with a number of choices out of range");
    h.n = PROTO_MAX_CHOICES + 1;
    refused_head(h, "job: with a number of choices out of range");
    h = plain;
    h.flags = 1u << 31;
    refused_head(h, "job: with unknown flags");
    h = plain;
    h.top_logprobs = PROTO_MAX_TOP_LOGPROBS + 1;
    refused_head(h, "job: with too many log probabilities");
    h = plain;
    h.temperature = NAN;
    refused_head(h, "job: with a parameter that is not finite");
    h = plain;
    h.presence_penalty = INFINITY;
    refused_head(h, "job: with a parameter that is not finite");
    struct body body;
    buf_clear(&b);
    body_begin(&b, &plain);
    b.p[0]++;
    assert_int_equal(open_n(&body, b.n), ERR_PROTOCOL);
    assert_string_equal(why.text, "job: of another protocol version");
}

static void refused_section(unsigned kind, const void *p, size_t n)
{
    struct body body;
    buf_clear(&b);
    body_begin(&b, &plain);
    body_section(&b, (enum job_section)kind, p, n);
    assert_int_equal(body_end(&b), ERR_OK);
    assert_int_equal(open_n(&body, b.n), ERR_PROTOCOL);
}

static void sections_that_cannot_be_are_refused(void **state)
{
    UNUSED(state);
    static char big[PROTO_MAX_LOGIT_BIAS * 8 + 8];
    struct body body;
    refused_section(0, "", 0);
    refused_section(11, "x", 1);
    refused_section(SECTION_REQUEST_JSON, "\xff", 1);
    refused_section(SECTION_PROMPT_TOKENS, "12345", 5);
    refused_section(SECTION_STOP, "", 0);
    refused_section(SECTION_STOP, "\xc3", 1);
    memset(big, 'x', sizeof(big));
    refused_section(SECTION_STOP, big, PROTO_MAX_STOP_BYTES + 1);
    refused_section(SECTION_LOGIT_BIAS, big, 12);
    refused_section(SECTION_LOGIT_BIAS, big, sizeof(big));
    refused_section(SECTION_REPLAY, "1234", 4);
    refused_section(SECTION_REPLAY, "\2\0\0\0\0\0\0\0", 8); /* choice 2 of 2 */
    buf_clear(&b);
    body_begin(&b, &plain);
    body_replay(&b, 1, 9, replayed, 3);
    body_replay(&b, 1, 9, replayed, 3);
    assert_int_equal(open_n(&body, b.n), ERR_PROTOCOL);
    assert_string_equal(why.text, "job: section 1: replay of a choice that cannot be");
    buf_clear(&b);
    body_begin(&b, &plain);
    for (int i = 0; i <= PROTO_MAX_STOPS; i++)
        body_section(&b, SECTION_STOP, "x", 1);
    assert_int_equal(open_n(&body, b.n), ERR_PROTOCOL);
    assert_string_equal(why.text, "job: section 16: stop strings out of range");
}

static void a_body_that_outgrows_its_buffer_fails_at_the_end(void **state)
{
    UNUSED(state);
    static char kilobyte[1024];
    b.limit = 1000;
    body_begin(&b, &plain);
    body_section(&b, SECTION_PROMPT_TEXT, kilobyte, sizeof(kilobyte));
    assert_int_equal(body_end(&b), ERR_NOMEM);
    b.limit = 0;
    buf_clear(&b);
    body_begin(&b, &plain);
    body_section(&b, SECTION_PROMPT_TEXT, kilobyte, (size_t)PROTO_MAX_JOB_BYTES + 1);
    assert_int_equal(body_end(&b), ERR_NOMEM);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, drop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_body_comes_back_in_order_and_aligned),
        TEST(a_cut_or_longer_body_is_refused),
        TEST(damaged_bodies_never_lead_outside),
        TEST(heads_out_of_range_are_refused),
        TEST(sections_that_cannot_be_are_refused),
        TEST(a_body_that_outgrows_its_buffer_fails_at_the_end),
    };
    return RUN_TESTS(tests);
}
