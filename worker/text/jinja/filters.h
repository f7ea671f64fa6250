/* filters.h - the table of filters: value | name(arguments). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_FILTERS_H
#define MILLRACE_WORKER_TEXT_JINJA_FILTERS_H

#include "worker/text/jinja/call.h"

/* `a`: the bound arguments, JJ_MISSING where not given; `c`: all of them, for filters without a
 * list of names. */
typedef struct jj_value (*jj_filter_fn)(struct jj_render *r, struct jj_value in,
                                        const struct jj_value *a, const struct jj_call *c);

struct jj_filter {
    const char *name;
    jj_filter_fn fn;
    const char *params; /* for jj_bind(); NULL: not bound */
    int min;
};

const struct jj_filter *jj_filter_find(struct str name); /* NULL: no such filter here */
bool jj_filter_known(struct str name);                   /* Jinja2 has it, this engine does not */
struct jj_value jj_filter_apply(struct jj_render *r, const struct jj_filter *f, struct jj_value in,
                                const struct jj_call *c);

/* Sorts `items` by `keys` (same length), stably, as Python's sorted(); both lists are reordered. */
void jj_sort(struct jj_render *r, struct jj_list *keys, struct jj_list *items, bool reverse);

/* By file: filters_text.c, filters_list.c, filters_pick.c, tojson.c */
#define JJ_FILTER_FN(name)                                                                         \
    struct jj_value name(struct jj_render *r, struct jj_value in, const struct jj_value *a,        \
                         const struct jj_call *c)
JJ_FILTER_FN(jj_f_upper);
JJ_FILTER_FN(jj_f_lower);
JJ_FILTER_FN(jj_f_title);
JJ_FILTER_FN(jj_f_capitalize);
JJ_FILTER_FN(jj_f_trim);
JJ_FILTER_FN(jj_f_replace);
JJ_FILTER_FN(jj_f_indent);
JJ_FILTER_FN(jj_f_center);
JJ_FILTER_FN(jj_f_truncate);
JJ_FILTER_FN(jj_f_wordcount);
JJ_FILTER_FN(jj_f_format);
JJ_FILTER_FN(jj_f_string);
JJ_FILTER_FN(jj_f_safe);
JJ_FILTER_FN(jj_f_escape);
JJ_FILTER_FN(jj_f_forceescape);
JJ_FILTER_FN(jj_f_urlencode);
JJ_FILTER_FN(jj_f_xmlattr);
JJ_FILTER_FN(jj_f_filesizeformat);
JJ_FILTER_FN(jj_f_tojson);
JJ_FILTER_FN(jj_f_abs);
JJ_FILTER_FN(jj_f_int);
JJ_FILTER_FN(jj_f_float);
JJ_FILTER_FN(jj_f_round);
JJ_FILTER_FN(jj_f_default);
JJ_FILTER_FN(jj_f_attr);
JJ_FILTER_FN(jj_f_length);
JJ_FILTER_FN(jj_f_first);
JJ_FILTER_FN(jj_f_last);
JJ_FILTER_FN(jj_f_list);
JJ_FILTER_FN(jj_f_items);
JJ_FILTER_FN(jj_f_dictsort);
JJ_FILTER_FN(jj_f_join);
JJ_FILTER_FN(jj_f_reverse);
JJ_FILTER_FN(jj_f_sort);
JJ_FILTER_FN(jj_f_unique);
JJ_FILTER_FN(jj_f_min);
JJ_FILTER_FN(jj_f_max);
JJ_FILTER_FN(jj_f_sum);
JJ_FILTER_FN(jj_f_batch);
JJ_FILTER_FN(jj_f_slice);
JJ_FILTER_FN(jj_f_groupby);
JJ_FILTER_FN(jj_f_map);
JJ_FILTER_FN(jj_f_select);
JJ_FILTER_FN(jj_f_reject);
JJ_FILTER_FN(jj_f_selectattr);
JJ_FILTER_FN(jj_f_rejectattr);

#endif
