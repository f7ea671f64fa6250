/* escape.h - the escapes of a string literal, as Python's "unicode-escape" codec reads them. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_ESCAPE_H
#define MILLRACE_WORKER_TEXT_JINJA_ESCAPE_H

#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/str.h"

/* `body` is what stands between the quotes. The result is in the arena, or is `body` when nothing
 * was escaped. ERR_INVALID for a truncated escape, ERR_UNSUPPORTED for \N{...} and for surrogates.
 */
enum err jj_unescape(struct arena *a, struct str body, struct str *out,
                     struct errmsg *why) MUST_CHECK;

#endif
