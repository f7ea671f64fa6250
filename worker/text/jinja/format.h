/* format.h - Python's two ways to format: "%s" % args and "{}".format(args). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_FORMAT_H
#define MILLRACE_WORKER_TEXT_JINJA_FORMAT_H

#include "shared/base/buf.h"
#include "worker/text/jinja/value.h"

struct jj_value jj_format_percent(struct jj_render *r, struct jj_value format,
                                  struct jj_value args);
struct jj_value jj_format_braces(struct jj_render *r, struct jj_value format,
                                 const struct jj_list *pos, const struct jj_dict *kw);

/* How one field is laid out. */
struct jj_layout {
    uint32_t fill;
    char align; /* < > ^ =, 0: the type's own */
    char sign;  /* + or space, 0: minus only */
    bool alt, zero;
    char group;               /* , or _ */
    char type;                /* 0: none given */
    int64_t width, precision; /* -1: none given */
};
enum { JJ_MAX_PRECISION = 300, JJ_MAX_WIDTH = 1 << 20 };
/* One field: sign, prefix, digits (or text) padded to the width. */
void jj_put_padded(struct jj_render *r, struct buf *b, const struct jj_layout *y, struct str head,
                   struct str body, char own_align);
/* Integer and float conversions of both; `type` is one of d b o x X, e E f F g G %. */
void jj_put_int(struct jj_render *r, struct buf *b, const struct jj_layout *y, int64_t v,
                const char *octal_prefix);
void jj_put_double(struct jj_render *r, struct buf *b, const struct jj_layout *y, double v);

#endif
