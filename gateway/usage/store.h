/* store.h - the SQLite side: one connection, used by one thread, prepared statements only. */
#ifndef MILLRACE_GATEWAY_USAGE_STORE_H
#define MILLRACE_GATEWAY_USAGE_STORE_H

#include "gateway/usage/usage.h"

struct store; /* opaque */

enum err store_open(struct store **out, const char *path,
                    struct errmsg *why) MUST_CHECK; /* applies schemas/usage.sql */
void store_close(struct store *s);                  /* NULL is fine */

/* A batch is one transaction. A row whose id is there already is left as it is: writing twice is
 * harmless. After a failure the batch is rolled back and may be repeated whole. */
enum err store_begin(struct store *s, struct errmsg *why) MUST_CHECK;
enum err store_put(struct store *s, const struct usage_row *row, struct errmsg *why) MUST_CHECK;
enum err store_commit(struct store *s, struct errmsg *why) MUST_CHECK;
void store_rollback(struct store *s);

const char *usage_outcome_name(enum usage_outcome o);

#endif
