/* number.h - Python's int() and float(). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_NUMBER_H
#define MILLRACE_WORKER_TEXT_JINJA_NUMBER_H

#include "worker/text/jinja/value.h"

enum jj_parsed { JJ_PARSED, JJ_NOT_A_NUMBER, JJ_TOO_LARGE };
enum jj_parsed jj_parse_int(struct str s, int base,
                            int64_t *out); /* spaces, sign, underscores, 0x with base 0 or 16 */
bool jj_parse_float(struct str s, double *out);    /* "inf" and "nan", too */
bool jj_to_double(struct jj_value v, double *out); /* float(v); false: a TypeError or ValueError */

#endif
