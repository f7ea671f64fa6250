/* cmd_io.h - what subcommands share: standard input and output, and how a report writes sizes. */
#ifndef MILLRACE_WORKER_CMD_IO_H
#define MILLRACE_WORKER_CMD_IO_H

#include "shared/base/buf.h"

/* Appends all of standard input; more than `limit` bytes is ERR_RANGE. */
enum err cmd_read_stdin(struct buf *out, size_t limit, struct errmsg *why) MUST_CHECK;
/* All bytes, flushed; a full disk or a closed pipe is ERR_IO. */
enum err cmd_write_stdout(const char *p, size_t n, struct errmsg *why) MUST_CHECK;
/* "millrace-worker NAME: text" on stderr. Returns EXIT_FAILED. */
int cmd_failed(const char *name, const struct errmsg *why);

/* "4.68 GB", by 1000. `fine`: the first unit that gets two decimals (1: KB, 3: GB). */
void cmd_put_size(struct buf *out, int fine, uint64_t bytes);

#endif
