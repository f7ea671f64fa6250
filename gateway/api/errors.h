/* errors.h - the one table from what went wrong to what the client reads: status, type, code.
 *
 * The body is OpenAI's: {"error":{"message":...,"type":...,"param":...,"code":...}}; code is a
 * string or null, param a path such as messages[0].role or null. Messages are fixed texts plus the
 * field at fault and its value: no paths, no addresses. Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_API_ERRORS_H
#define MILLRACE_GATEWAY_API_ERRORS_H

#include "gateway/http/http.h"
#include "shared/base/buf.h"
#include "shared/ipc/proto.h"

/* X(name, status, type, code): code NULL is null. */
// clang-format off
#define API_ERRORS(X)                                                                              \
    X(MALFORMED,          400, "invalid_request_error", NULL)                                      \
    X(MISSING,            400, "invalid_request_error", "missing_required_parameter")              \
    X(TYPE,               400, "invalid_request_error", "invalid_type")                            \
    X(VALUE,              400, "invalid_request_error", "invalid_value")                           \
    X(UNKNOWN,            400, "invalid_request_error", "unknown_parameter")                       \
    X(UNSUPPORTED,        400, "invalid_request_error", "unsupported_parameter")                   \
    X(UNSUPPORTED_VALUE,  400, "invalid_request_error", "unsupported_value")                       \
    X(INT_ABOVE,          400, "invalid_request_error", "integer_above_max_value")                 \
    X(INT_BELOW,          400, "invalid_request_error", "integer_below_min_value")                 \
    X(DECIMAL_ABOVE,      400, "invalid_request_error", "decimal_above_max_value")                 \
    X(DECIMAL_BELOW,      400, "invalid_request_error", "decimal_below_min_value")                 \
    X(EMPTY_ARRAY,        400, "invalid_request_error", "empty_array")                             \
    X(ARRAY_TOO_LONG,     400, "invalid_request_error", "array_above_max_length")                  \
    X(OBJECT_TOO_LARGE,   400, "invalid_request_error", "object_above_max_properties")             \
    X(EMPTY_STRING,       400, "invalid_request_error", "empty_string")                            \
    X(STRING_TOO_LONG,    400, "invalid_request_error", "string_above_max_length")                 \
    X(CONTEXT_LENGTH,     400, "invalid_request_error", "context_length_exceeded")                 \
    X(TEMPLATE,           400, "invalid_request_error", "chat_template_failed")                    \
    X(MODEL_NOT_FOUND,    404, "invalid_request_error", "model_not_found")                         \
    X(HOST,               403, "invalid_request_error", "host_not_allowed")                        \
    X(TOO_LARGE,          413, "invalid_request_error", "request_too_large")                       \
    X(MEDIA_TYPE,         415, "invalid_request_error", "unsupported_media_type")                  \
    X(QUEUE_FULL,         429, "rate_limit_error",      "rate_limit_exceeded")                     \
    X(INTERNAL,           500, "server_error",          "internal_error")                          \
    X(WORKER_LOST,        500, "server_error",          "worker_lost")                             \
    X(OUT_OF_MEMORY,      503, "server_error",          "out_of_memory")                           \
    X(NOT_READY,          503, "server_error",          "model_not_ready")                         \
    X(SHUTTING_DOWN,      503, "server_error",          "shutting_down")                           \
    X(TIMEOUT,            504, "server_error",          "deadline_exceeded")
// clang-format on

enum api_error {
    API_OK = 0,
#define X(name, status, type, code) API_##name,
    API_ERRORS(X)
#undef X
        API_N_ERRORS
};

/* Where a request was found wrong: filled by the validator. */
struct api_fault {
    enum api_error error;
    char param[160];   /* empty: null */
    char message[400]; /* UTF-8 */
};

int api_error_status(enum api_error e);
const char *api_error_code(enum api_error e);

/* {"error":{...}} without a newline. param NULL or empty: null. */
void api_error_put(struct buf *out, enum api_error e, const char *param, const char *message);
/* Ends the request. */
void api_error_reply(struct http_request *r, enum api_error e, const char *param,
                     const char *message);
/* For 429 and 503: also says when to come back (Retry-After, retry-after-ms, x-should-retry). */
void api_error_reply_later(struct http_request *r, enum api_error e, const char *message,
                           uint32_t retry_after_s);

/* What a worker or the dispatcher reports. */
enum api_error api_error_of(enum err e);
enum api_error api_error_of_job(enum err e, enum job_param p);
const char *api_param_of(enum job_param p, bool is_chat); /* NULL: none */

/* struct http_options.error: faults found by the HTTP server itself. */
void api_http_error(struct http_request *r, int status, const char *code, const char *message,
                    void *app);

#endif
