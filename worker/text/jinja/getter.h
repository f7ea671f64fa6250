/* getter.h - attribute paths of filters: "a.b.0" is item["a"]["b"][0]. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_GETTER_H
#define MILLRACE_WORKER_TEXT_JINJA_GETTER_H

#include "worker/text/jinja/value.h"

/* A path as a list of keys; JJ_NONE or JJ_MISSING gives the empty path, that is the item itself. */
struct jj_list *jj_getter(struct jj_render *r, struct jj_value attribute);
struct jj_list *jj_getter_list(struct jj_render *r,
                               struct jj_value attributes); /* "a.b,c": several, as lists */
/* `absent` replaces what is undefined on the way, unless it is JJ_NONE. */
struct jj_value jj_getter_get(struct jj_render *r, const struct jj_list *path, struct jj_value item,
                              struct jj_value absent);

#endif
