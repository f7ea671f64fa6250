/* schema.h - schemas/usage.sql, embedded at build. */
#ifndef MILLRACE_GATEWAY_USAGE_SCHEMA_H
#define MILLRACE_GATEWAY_USAGE_SCHEMA_H

extern const char usage_schema_sql[]; /* NUL-terminated */

#endif
