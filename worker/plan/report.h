/* report.h - a plan as lines for people and as JSON for programs. Thread: no state. */
#ifndef MILLRACE_WORKER_PLAN_REPORT_H
#define MILLRACE_WORKER_PLAN_REPORT_H

#include "shared/base/buf.h"
#include "worker/plan/estimate.h"

void plan_text(const struct plan *p, struct buf *out);
void plan_json(const struct plan *p, struct buf *out);
/* The rule of thumb with the computed need beside it. */
enum err thumb_text(const struct load *load, struct buf *out, struct errmsg *why) MUST_CHECK;
enum err thumb_json(const struct load *load, struct buf *out, struct errmsg *why) MUST_CHECK;

#endif
