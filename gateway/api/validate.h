/* validate.h - from the JSON of a request to a job: one table of fields for all dialects.
 *
 * Promise: a field is taken, is accepted without effect on purpose (the table says so), or the
 * request is refused with OpenAI's code and the path of the field; nothing that would change the
 * answer is ignored. null means absent. Parts that only the worker understands (messages, tools,
 * template arguments) are checked for shape and forwarded as the client wrote them.
 * Memory: results borrow from the parsed JSON. Thread: no shared state. */
#ifndef MILLRACE_GATEWAY_API_VALIDATE_H
#define MILLRACE_GATEWAY_API_VALIDATE_H

#include "gateway/api/errors.h"
#include "gateway/dispatch/job.h"
#include "shared/base/json.h"

enum dialect_bit { FOR_CHAT = 1, FOR_COMPLETIONS = 2, FOR_EMBEDDINGS = 4 };

enum {
    API_MAX_STOPS = 4, /* OpenAI's bound */
    API_MAX_TOOLS = 128,
    API_MAX_NODES = 1 << 19, /* JSON values of one request: about 50 MB while it is read */
};

struct api_params {
    struct str model;
    struct job_head head;
    struct str stops[API_MAX_STOPS];
    int n_stops;
    const struct json *messages, *tools, *template_kwargs; /* chat; NULL: absent */
    struct str reasoning_effort;                           /* chat; empty: absent */
    const struct json *prompt;     /* completions: a string or an array of integers */
    const struct json *input;      /* embeddings: see inputs.c */
    bool base64;                   /* embeddings */
    const struct json *logit_bias; /* an object; NULL: absent */
    bool stream, include_usage;
    bool has_stream_options, has_seed, logprobs, has_top_logprobs, has_parallel_false;
    uint32_t max_tokens, max_completion_tokens; /* 0: absent */
    uint32_t best_of;                           /* 0: absent */
    bool echo;                                  /* completions */
    bool tools_off;                             /* tool_choice none */
    bool reasoning_off;                         /* thoughts stay in the content, tags and all */
    bool include_reasoning;                     /* false: thoughts are counted, not shown */
    struct str user, safety_identifier, cache_key;
};

/* False: `fault` says what the client is told. */
bool api_validate(const struct json *root, enum dialect_bit dialect, struct api_params *out,
                  struct api_fault *fault);

/* messages.c: shape of chat messages and tools. `path` starts the fault's param. */
bool api_check_messages(const struct json *messages, struct api_fault *fault);
bool api_check_tools(const struct json *tools, struct api_fault *fault);
/* inputs.c: shape of an embeddings request's input; how many there are (of a checked one); into the
 * body. */
bool api_check_input(const struct json *input, struct api_fault *fault);
uint32_t api_count_inputs(const struct json *input);
void api_put_inputs(struct buf *body, const struct json *input);
/* A checked list of token ids as one section. */
void api_put_tokens(struct buf *body, enum job_section kind, const struct json *list);

/* The job's body: parameters and sections. ERR_NOMEM, ERR_RANGE. */
enum err api_build_body(const struct api_params *p, struct buf *body) MUST_CHECK;
/* Affinity: the beginnings of the prompt, in the order in which they are rendered. */
void api_add_prefixes(const struct dispatch *d, const struct api_params *p, struct job_spec *spec);

/* Faults in OpenAI's words; always false. */
bool fault_set(struct api_fault *f, enum api_error e, const char *param, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
bool fault_type(struct api_fault *f, const char *param, const char *expected,
                const struct json *got);
bool fault_missing(struct api_fault *f, const char *param);
/* False, with the fault, unless v is an integer from min to max. */
bool api_in_range_int(const struct json *v, const char *param, int64_t min, int64_t max,
                      struct api_fault *f);
/* At most so many bytes of a client's text go back in a message, on a UTF-8 border. */
struct str fault_cut(struct str s, size_t max);

#endif
