/* tools.h - the tools of a request, as far as reading calls needs them: names, and which arguments
 * are strings (forms that write tags instead of JSON don't say).
 * Memory: one arena. Thread: read-only after tool_list_read(). */
#ifndef MILLRACE_WORKER_TEXT_OUTPUT_TOOLS_H
#define MILLRACE_WORKER_TEXT_OUTPUT_TOOLS_H

#include "shared/base/arena.h"
#include "shared/base/json.h"

struct tool_list {
    struct arena arena;
    struct buf text;          /* the JSON; the values below borrow from it */
    const struct json *tools; /* an array; NULL: none */
};

/* `request`: {"tools":[{"type":"function","function":{"name":...,"parameters":{...}}}]} and more.
 */
enum err tool_list_read(struct tool_list *t, struct str request_json,
                        struct errmsg *why) MUST_CHECK;
void tool_list_fini(struct tool_list *t);

bool tool_list_has(const struct tool_list *t, struct str name);

enum arg_type { ARG_ANY, ARG_STRING, ARG_STRING_OR_NULL };
enum arg_type tool_list_arg(const struct tool_list *t, struct str tool, struct str arg);

#endif
