/* job_req.c - from the bytes of a job to values that can be trusted. */
#include "worker/sched/job_req.h"

#include "shared/ipc/body.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(struct logit_bias) == 8, "read in place");
static_assert(offsetof(struct logit_bias, bias) == 4, "read in place");

bool job_fault_set(struct job_fault *fault, enum err e, enum job_param param, const char *fmt, ...)
{
    char line[sizeof fault->why.text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    *fault = (struct job_fault){.err = e, .param = param};
    err_set(&fault->why, e, "%s", line);
    return false;
}

static bool check_ids(const struct job_tokens *t, uint32_t n_vocab, enum job_param param,
                      struct job_fault *fault)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->ids[i] < 0 || (uint32_t)t->ids[i] >= n_vocab)
            return job_fault_set(fault, ERR_INVALID, param,
                                 "token %d at position %zu is not in the vocabulary of %u tokens",
                                 t->ids[i], i, n_vocab);
    return true;
}

/* What the sampler relies on. The gateway's ranges are narrower (they are the API's). */
static bool check_head(const struct job_head *h, struct job_fault *fault)
{
    const struct {
        const char *name;
        double value, min, max;
    } ranges[] = {
        {"temperature", (double)h->temperature, 0, 100},
        {"top_p", (double)h->top_p, 0, 1},
        {"min_p", (double)h->min_p, 0, 1},
        {"repetition_penalty", (double)h->repetition_penalty, 0.01, 100},
        {"frequency_penalty", (double)h->frequency_penalty, -100, 100},
        {"presence_penalty", (double)h->presence_penalty, -100, 100},
        {"penalty_last_n", (double)h->penalty_last_n, -1, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (!(ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max))
            return job_fault_set(fault, ERR_RANGE, PARAM_NONE, "%s must be from %g to %g, not %g",
                                 ranges[i].name, ranges[i].min, ranges[i].max, ranges[i].value);
    if (h->max_tokens && h->min_tokens > h->max_tokens)
        return job_fault_set(fault, ERR_RANGE, PARAM_MAX_TOKENS,
                             "min_tokens is %u, more than max_tokens %u", h->min_tokens,
                             h->max_tokens);
    if (h->flags & JOB_ECHO)
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_NONE,
                             "echo of the prompt is not offered by this worker");
    if (h->kind == JOB_TOKENIZE || h->kind == JOB_DETOKENIZE)
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_NONE,
                             "this worker offers no tokenizing jobs");
    return true;
}

static bool once(bool first, const char *what, struct job_fault *fault)
{
    return first || job_fault_set(fault, ERR_INVALID, PARAM_NONE, "the job has two %s", what);
}

static bool take_bias(struct job_req *r, const struct body_part *part, uint32_t n_vocab,
                      struct job_fault *fault)
{
    if (!once(!r->bias, "sections of logit bias", fault))
        return false;
    r->bias = part->p;
    r->n_bias = part->n / sizeof *r->bias;
    for (size_t i = 0; i < r->n_bias; i++) {
        const struct logit_bias *b = &r->bias[i];
        if (b->token < 0 || (uint32_t)b->token >= n_vocab)
            return job_fault_set(fault, ERR_INVALID, PARAM_LOGIT_BIAS,
                                 "logit_bias names token %d; this model has the tokens 0 to %u",
                                 b->token, n_vocab - 1);
        if (!(fabsf(b->bias) <= 1000))
            return job_fault_set(fault, ERR_RANGE, PARAM_LOGIT_BIAS,
                                 "logit_bias of token %d is out of range", b->token);
    }
    return true;
}

static bool add_input(struct job_req *r, const struct job_input *in, struct job_fault *fault)
{
    /* body_open() has counted them */
    if ((r->n_inputs & (r->n_inputs - 1)) == 0) { /* 0, 1, 2, 4 ...: full */
        size_t cap = r->n_inputs ? r->n_inputs * 2 : 1;
        struct job_input *grown = realloc(r->inputs, cap * sizeof *grown);
        if (!grown)
            return job_fault_set(fault, ERR_NOMEM, PARAM_INPUT, "out of memory");
        r->inputs = grown;
    }
    r->inputs[r->n_inputs++] = *in;
    return true;
}

static bool take_input_ids(struct job_req *r, const struct body_part *part, uint32_t n_vocab,
                           struct job_fault *fault)
{
    struct job_tokens t = {part->p, part->n / sizeof(int32_t)};
    if (t.n == 0)
        return job_fault_set(fault, ERR_INVALID, PARAM_INPUT, "input %zu is empty", r->n_inputs);
    if (!check_ids(&t, n_vocab, PARAM_INPUT, fault))
        return false;
    struct job_input in = {.ids = malloc(part->n), .n = t.n};
    if (!in.ids)
        return job_fault_set(fault, ERR_NOMEM, PARAM_INPUT, "out of memory");
    memcpy(in.ids, part->p, part->n);
    if (add_input(r, &in, fault))
        return true;
    free(in.ids);
    return false;
}

static bool take_part(struct job_req *r, const struct body_part *part, uint32_t n_vocab,
                      struct job_fault *fault)
{
    const struct str text = {part->p, part->n};
    switch (part->kind) {
    case SECTION_REQUEST_JSON:
        if (!once(!r->request_json.p, "requests", fault))
            return false;
        r->request_json = text;
        return true;
    case SECTION_PROMPT_TEXT:
        if (!once(!r->has_text && !r->prompt_ids.ids, "prompts", fault))
            return false;
        r->has_text = true;
        r->prompt_text = text;
        return true;
    case SECTION_PROMPT_TOKENS:
        if (!once(!r->has_text && !r->prompt_ids.ids, "prompts", fault))
            return false;
        r->prompt_ids = (struct job_tokens){part->p, part->n / sizeof(int32_t)};
        return check_ids(&r->prompt_ids, n_vocab, PARAM_PROMPT, fault);
    case SECTION_STOP:
        r->stops[r->n_stops++] = text; /* body_open() has counted them */
        return true;
    case SECTION_LOGIT_BIAS:
        return take_bias(r, part, n_vocab, fault);
    case SECTION_REPLAY: {
        struct body_replay rp = body_part_replay(part);
        r->replay[rp.choice] = (struct job_tokens){rp.tokens, rp.n};
        r->replay_text[rp.choice] = rp.text_bytes;
        return check_ids(&r->replay[rp.choice], n_vocab, PARAM_NONE, fault);
    }
    case SECTION_INPUT_TEXT:
        if (text.n == 0)
            return job_fault_set(fault, ERR_INVALID, PARAM_INPUT, "input %zu is empty",
                                 r->n_inputs);
        return add_input(r, &(struct job_input){.text = text, .is_text = true}, fault);
    case SECTION_INPUT_TOKENS:
        return take_input_ids(r, part, n_vocab, fault);
    case SECTION_SCHEMA_JSON:
    case SECTION_GRAMMAR:
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_RESPONSE_FORMAT,
                             "structured output is not offered by this worker");
    }
    return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_NONE, "section kind %d is not known",
                         (int)part->kind);
}

/* Each kind has its own source of tokens, and no other. */
static bool check_sources(const struct job_req *r, struct job_fault *fault)
{
    bool chat = r->request_json.p != NULL, prompt = r->has_text || r->prompt_ids.ids;
    bool inputs = r->n_inputs > 0;
    switch ((enum job_kind)r->head.kind) {
    case JOB_CHAT:
        return (chat && !prompt && !inputs) ||
               job_fault_set(fault, ERR_INVALID, PARAM_MESSAGES,
                             "a chat job has messages, no prompt and no input");
    case JOB_COMPLETION:
        return (prompt && !chat && !inputs) ||
               job_fault_set(fault, ERR_INVALID, PARAM_PROMPT,
                             "a completion job has a prompt, no messages and no input");
    case JOB_EMBEDDING:
        return (inputs && !chat && !prompt) ||
               job_fault_set(fault, ERR_INVALID, PARAM_INPUT,
                             "an embedding job has inputs, no messages and no prompt");
    case JOB_TOKENIZE:
    case JOB_DETOKENIZE:
        break;
    }
    return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_NONE, "unknown kind of job");
}

bool job_req_parse(struct job_req **out, void *bytes, size_t n, uint32_t n_vocab,
                   struct job_fault *fault)
{
    struct job_req *r = calloc(1, sizeof *r);
    if (!r) {
        free(bytes);
        return job_fault_set(fault, ERR_NOMEM, PARAM_NONE, "out of memory");
    }
    r->bytes = bytes;
    struct body body;
    *fault = (struct job_fault){0};
    fault->err = body_open(&body, bytes, n, &fault->why);
    bool ok = fault->err == ERR_OK;
    if (ok) {
        r->head = body.head;
        ok = check_head(&r->head, fault);
    }
    struct body_part part;
    for (size_t at = 0; ok && body_next(&body, &at, &part);)
        ok = take_part(r, &part, n_vocab, fault);
    if (!ok || !check_sources(r, fault)) {
        job_req_free(r);
        return false;
    }
    *out = r;
    return true;
}

void job_req_free(struct job_req *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_inputs; i++)
        free(r->inputs[i].ids);
    free(r->inputs);
    output_job_free(r->output);
    free(r->prompt);
    free(r->bytes);
    free(r);
}

struct sample_params job_req_sampling(const struct job_req *r)
{
    const struct job_head *h = &r->head;
    return (struct sample_params){
        .temperature = h->temperature,
        .top_p = h->top_p,
        .min_p = h->min_p,
        .top_k = h->top_k,
        .repetition_penalty = h->repetition_penalty,
        .frequency_penalty = h->frequency_penalty,
        .presence_penalty = h->presence_penalty,
        .penalty_last_n = h->penalty_last_n,
        .seed = h->seed,
        .bias = r->bias,
        .n_bias = r->n_bias,
    };
}
