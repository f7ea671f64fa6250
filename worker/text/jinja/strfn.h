/* strfn.h - Python's string functions, shared by methods and filters. All count code points. A
 * result is Markup when `s` is. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_STRFN_H
#define MILLRACE_WORKER_TEXT_JINJA_STRFN_H

#include "worker/text/jinja/value.h"

enum str_case { STR_UPPER, STR_LOWER, STR_TITLE, STR_CAPITALIZE, STR_SWAPCASE, STR_CASEFOLD };
struct jj_value str_case(struct jj_render *r, struct jj_value s, enum str_case to);

enum str_side { STR_LEFT = 1, STR_RIGHT = 2, STR_BOTH = 3 };
/* chars: JJ_NONE or JJ_MISSING for white space, else JJ_STR. */
struct jj_value str_strip(struct jj_render *r, struct jj_value s, struct jj_value chars,
                          enum str_side side);
struct jj_value str_replace(struct jj_render *r, struct jj_value s, struct jj_value old,
                            struct jj_value with, int64_t count); /* negative: all */
struct jj_value str_split(struct jj_render *r, struct jj_value s, struct jj_value sep, int64_t max,
                          bool from_right);
struct jj_value str_splitlines(struct jj_render *r, struct jj_value s, bool keep_ends);
struct jj_value str_pad(struct jj_render *r, struct jj_value s, int64_t width, uint32_t fill,
                        enum str_side side);
struct jj_value str_join(struct jj_render *r, struct jj_value sep,
                         struct jj_list *items); /* all JJ_STR */

enum str_class {
    STR_ALPHA,
    STR_ALNUM,
    STR_ASCII,
    STR_DECIMAL,
    STR_DIGIT,
    STR_NUMERIC,
    STR_PRINTABLE,
    STR_SPACE,
    STR_IS_LOWER,
    STR_IS_UPPER,
    STR_IS_TITLE,
};
bool str_is_class(struct jj_render *r, struct jj_value s, enum str_class c);

#endif
