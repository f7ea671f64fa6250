/* tests.h - the table of tests: value is name(arguments). */
#ifndef MILLRACE_WORKER_TEXT_JINJA_TESTS_H
#define MILLRACE_WORKER_TEXT_JINJA_TESTS_H

#include "worker/text/jinja/call.h"

struct jj_test {
    const char *name;
    bool (*fn)(struct jj_render *r, struct jj_value v, struct jj_value arg);
    bool has_arg;
};

const struct jj_test *jj_test_find(struct str name); /* NULL: no such test */
bool jj_test_apply(struct jj_render *r, const struct jj_test *t, struct jj_value v,
                   const struct jj_call *c);

#endif
