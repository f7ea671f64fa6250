/* A job's body is believed only where it makes sense. */
#include "shared/ipc/body.h"
#include "worker/sched/job_req.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 100 };

static const struct job_head neutral = {.kind = JOB_COMPLETION,
                                        .n = 1,
                                        .temperature = 1,
                                        .top_p = 1,
                                        .repetition_penalty = 1,
                                        .penalty_last_n = -1};

struct part {
    enum job_section kind;
    const void *p;
    size_t n;
};

static bool parse(struct job_req **out, const struct job_head *h, const struct part *parts,
                  size_t n, struct job_fault *fault)
{
    struct buf b = {0};
    body_begin(&b, h);
    for (size_t i = 0; i < n; i++)
        body_section(&b, parts[i].kind, parts[i].p, parts[i].n);
    assert_int_equal(body_end(&b), ERR_OK);
    return job_req_parse(out, b.p, b.n, VOCAB, fault);
}

static void expect_fault(const struct job_head *h, const struct part *parts, size_t n, enum err e,
                         enum job_param param, const char *says)
{
    struct job_req *r = NULL;
    struct job_fault fault = {0};
    assert_false(parse(&r, h, parts, n, &fault));
    assert_null(r);
    if (fault.err != e || fault.param != param || !strstr(fault.why.text, says))
        fail_msg("%s, parameter %d: \"%s\"; wanted %s, \"%s\"", err_name(fault.err), fault.param,
                 fault.why.text, err_name(e), says);
}

static const int32_t ids[] = {1, 2, 99};
static const struct part prompt = {SECTION_PROMPT_TOKENS, ids, sizeof ids};

static void a_whole_job_arrives_as_it_was_sent(void **state)
{
    (void)state;
    struct job_head h = neutral;
    h.n = 3;
    h.seed = 77;
    h.top_k = 40;
    const struct logit_bias bias[] = {{5, -1}, {99, 100}};
    const struct {
        uint32_t choice, zero;
        int32_t tokens[2];
    } replay = {2, 0, {7, 8}};
    const struct part parts[] = {prompt,
                                 {SECTION_STOP, "END", 3},
                                 {SECTION_LOGIT_BIAS, bias, sizeof bias},
                                 {SECTION_REPLAY, &replay, sizeof replay},
                                 {SECTION_STOP, "\n", 1}};
    struct job_req *r = NULL;
    struct job_fault fault;
    assert_true(parse(&r, &h, parts, 5, &fault));
    assert_int_equal(r->prompt_ids.n, 3);
    assert_memory_equal(r->prompt_ids.ids, ids, sizeof ids);
    assert_int_equal(r->n_stops, 2);
    assert_true(str_is(r->stops[0], "END") && str_is(r->stops[1], "\n"));
    assert_int_equal(r->replay[2].n, 2);
    assert_int_equal(r->replay[2].ids[1], 8);
    assert_int_equal(r->replay[0].n, 0);
    struct sample_params p = job_req_sampling(r);
    assert_int_equal(p.seed, 77);
    assert_int_equal(p.top_k, 40);
    assert_int_equal(p.n_bias, 2);
    assert_true(p.bias[1].token == 99 && p.bias[1].bias == 100);
    job_req_free(r);
}

static void parameters_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    struct job_head h;
#define BAD(field, value, e, param, says)                                                          \
    h = neutral;                                                                                   \
    h.field = value;                                                                               \
    expect_fault(&h, &prompt, 1, e, param, says)
    BAD(temperature, -0.1f, ERR_RANGE, PARAM_NONE, "temperature must be from 0 to 100");
    BAD(temperature, NAN, ERR_PROTOCOL, PARAM_NONE, "not finite");
    BAD(top_p, 1.5f, ERR_RANGE, PARAM_NONE, "top_p");
    BAD(min_p, -1, ERR_RANGE, PARAM_NONE, "min_p");
    BAD(repetition_penalty, 0, ERR_RANGE, PARAM_NONE, "repetition_penalty");
    BAD(frequency_penalty, 1e9f, ERR_RANGE, PARAM_NONE, "frequency_penalty");
    BAD(presence_penalty, -1e9f, ERR_RANGE, PARAM_NONE, "presence_penalty");
    BAD(penalty_last_n, -2, ERR_RANGE, PARAM_NONE, "penalty_last_n");
    BAD(flags, JOB_ECHO, ERR_UNSUPPORTED, PARAM_NONE, "echo");
    BAD(kind, JOB_TOKENIZE, ERR_UNSUPPORTED, PARAM_NONE, "tokenizing");
    BAD(n, 0, ERR_PROTOCOL, PARAM_NONE, "choices");
#undef BAD
    h = neutral;
    h.max_tokens = 3, h.min_tokens = 4;
    expect_fault(&h, &prompt, 1, ERR_RANGE, PARAM_MAX_TOKENS, "min_tokens is 4");
}

static void tokens_outside_of_the_vocabulary_are_refused_wherever_they_stand(void **state)
{
    (void)state;
    static const int32_t high[] = {1, 100}, negative[] = {-1};
    static const struct logit_bias bias = {100, 1}, wild = {1, 1e30f}, nan = {1, NAN};
    static const struct {
        uint32_t choice, zero;
        int32_t token;
    } replay = {0, 0, 100};
    struct job_head embed = neutral;
    embed.kind = JOB_EMBEDDING;
    expect_fault(&neutral, &(struct part){SECTION_PROMPT_TOKENS, high, sizeof high}, 1, ERR_INVALID,
                 PARAM_PROMPT, "token 100 at position 1");
    expect_fault(&neutral, &(struct part){SECTION_PROMPT_TOKENS, negative, sizeof negative}, 1,
                 ERR_INVALID, PARAM_PROMPT, "token -1");
    expect_fault(&embed, &(struct part){SECTION_INPUT_TOKENS, high, sizeof high}, 1, ERR_INVALID,
                 PARAM_INPUT, "token 100");
    const struct part with_bias[] = {prompt, {SECTION_LOGIT_BIAS, &bias, sizeof bias}};
    expect_fault(&neutral, with_bias, 2, ERR_INVALID, PARAM_LOGIT_BIAS, "the tokens 0 to 99");
    const struct part with_wild[] = {prompt, {SECTION_LOGIT_BIAS, &wild, sizeof wild}};
    expect_fault(&neutral, with_wild, 2, ERR_RANGE, PARAM_LOGIT_BIAS, "out of range");
    const struct part with_nan[] = {prompt, {SECTION_LOGIT_BIAS, &nan, sizeof nan}};
    expect_fault(&neutral, with_nan, 2, ERR_RANGE, PARAM_LOGIT_BIAS, "out of range");
    const struct part with_replay[] = {prompt, {SECTION_REPLAY, &replay, sizeof replay}};
    expect_fault(&neutral, with_replay, 2, ERR_INVALID, PARAM_NONE, "token 100");
}

static void a_job_has_exactly_the_source_of_its_kind(void **state)
{
    (void)state;
    const struct part chat = {SECTION_REQUEST_JSON, "{}", 2}, text = {SECTION_PROMPT_TEXT, "", 0};
    const struct part input = {SECTION_INPUT_TEXT, "x", 1}, empty = {SECTION_INPUT_TEXT, "", 0};
    struct job_head c = neutral, e = neutral;
    c.kind = JOB_CHAT;
    e.kind = JOB_EMBEDDING;
    expect_fault(&c, NULL, 0, ERR_INVALID, PARAM_MESSAGES, "has messages");
    expect_fault(&neutral, NULL, 0, ERR_INVALID, PARAM_PROMPT, "has a prompt");
    expect_fault(&e, NULL, 0, ERR_INVALID, PARAM_INPUT, "has inputs");
    expect_fault(&e, &empty, 1, ERR_INVALID, PARAM_INPUT, "input 0 is empty");
    expect_fault(&neutral, (struct part[]){prompt, chat}, 2, ERR_INVALID, PARAM_PROMPT,
                 "no messages");
    expect_fault(&c, (struct part[]){chat, input}, 2, ERR_INVALID, PARAM_MESSAGES, "no input");
    expect_fault(&neutral, (struct part[]){prompt, text}, 2, ERR_INVALID, PARAM_NONE,
                 "two prompts");
    expect_fault(&c, (struct part[]){chat, chat}, 2, ERR_INVALID, PARAM_NONE, "two requests");

    struct job_req *r = NULL;
    struct job_fault fault;
    assert_true(parse(&r, &neutral, &text, 1, &fault)); /* BOS may make a prompt of it */
    assert_true(r->has_text && r->prompt_text.n == 0);
    job_req_free(r);
    struct part inputs[5] = {input, input, {SECTION_INPUT_TOKENS, ids, sizeof ids}, input, input};
    assert_true(parse(&r, &e, inputs, 5, &fault));
    assert_int_equal(r->n_inputs, 5);
    assert_true(r->inputs[1].is_text && !r->inputs[2].is_text && r->inputs[2].n == 3);
    job_req_free(r);
}

static void what_is_not_offered_is_refused_not_ignored(void **state)
{
    (void)state;
    const struct part schema[] = {prompt, {SECTION_SCHEMA_JSON, "{}", 2}};
    expect_fault(&neutral, schema, 2, ERR_UNSUPPORTED, PARAM_RESPONSE_FORMAT, "structured output");
    const struct part grammar[] = {prompt, {SECTION_GRAMMAR, "x", 1}};
    expect_fault(&neutral, grammar, 2, ERR_UNSUPPORTED, PARAM_RESPONSE_FORMAT, "structured output");
}

static void a_body_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    body_begin(&b, &neutral);
    body_section(&b, SECTION_PROMPT_TOKENS, ids, sizeof ids);
    body_section(&b, SECTION_STOP, "END", 3);
    assert_int_equal(body_end(&b), ERR_OK);
    for (size_t n = 0; n < b.n; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, b.p, n);
        struct job_req *r = NULL;
        struct job_fault fault;
        assert_false(job_req_parse(&r, copy, n, VOCAB, &fault));
        assert_int_equal(fault.err, ERR_PROTOCOL);
        assert_true(fault.why.text[0]);
    }
    buf_fini(&b);
}

static void too_many_inputs_are_refused(void **state)
{
    (void)state;
    struct job_head h = neutral;
    h.kind = JOB_EMBEDDING;
    static struct part inputs[PROTO_MAX_INPUTS + 1];
    for (int i = 0; i <= PROTO_MAX_INPUTS; i++)
        inputs[i] = (struct part){SECTION_INPUT_TOKENS, ids, 4};
    struct job_req *r = NULL;
    struct job_fault fault;
    assert_true(parse(&r, &h, inputs, PROTO_MAX_INPUTS, &fault));
    job_req_free(r);
    expect_fault(&h, inputs, PROTO_MAX_INPUTS + 1, ERR_PROTOCOL, PARAM_NONE, "too many inputs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_job_arrives_as_it_was_sent),
        cmocka_unit_test(parameters_out_of_range_are_refused_by_name),
        cmocka_unit_test(tokens_outside_of_the_vocabulary_are_refused_wherever_they_stand),
        cmocka_unit_test(a_job_has_exactly_the_source_of_its_kind),
        cmocka_unit_test(what_is_not_offered_is_refused_not_ignored),
        cmocka_unit_test(a_body_cut_anywhere_is_refused),
        cmocka_unit_test(too_many_inputs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
