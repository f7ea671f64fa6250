/* submit.h - what every endpoint with a job does the same way: the request's body as JSON, and the
 * refusals of the dispatcher as answers. Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_API_SUBMIT_H
#define MILLRACE_GATEWAY_API_SUBMIT_H

#include "gateway/api/api.h"
#include "gateway/api/errors.h"
#include "shared/base/json.h"

/* Parses the body and calls `start` with it; a body that is no JSON is answered here. The tree is
 * freed right after `start`: it is large, and an answer may take minutes. */
void api_with_json(struct http_request *r, struct api *api, const void *arg,
                   void (*start)(struct http_request *r, struct api *api, const void *arg,
                                 const struct json *root));

/* Answers for job_submit() or the missing model; counts a full queue. */
void api_refuse_submit(struct http_request *r, struct api *api, enum err e, struct str model,
                       uint32_t retry_after_s);
/* Answers with a job's failure. */
void api_reply_failed(struct http_request *r, enum err e, enum job_param param, bool is_chat,
                      const char *message);
/* Counts for the log line of the request. */
void api_note_usage(struct http_request *r, const struct job_usage *u);

#endif
