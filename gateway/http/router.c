#include "gateway/http/conn.h"
#include <stdio.h>

/* A path is exact, or ends with '*' that stands for a non-empty rest. The exact row wins. Few
 * routes, short strings: a scan is faster than anything clever. */
static bool matches(const char *pattern, struct str path, struct str *param)
{
    size_t n = strlen(pattern);
    if (n && pattern[n - 1] == '*') {
        if (path.n < n || memcmp(path.p, pattern, n - 1) != 0)
            return false;
        *param = (struct str){path.p + n - 1, path.n - (n - 1)};
        return true;
    }
    *param = (struct str){0};
    return path.n == n && memcmp(path.p, pattern, n) == 0;
}

/* NULL: no row for this method; *allowed has the methods of the path, 0 when there is no such path.
 */
const struct http_route *router_find(const struct http_options *o, struct http_request *r,
                                     unsigned *allowed)
{
    const struct http_route *found = NULL;
    struct str param, found_param = {0};
    *allowed = 0;
    for (size_t i = 0; i < o->n_routes; i++) {
        const struct http_route *row = &o->routes[i];
        unsigned methods = row->methods | (row->methods & HTTP_GET_ ? HTTP_HEAD_ : 0);
        if (!matches(row->path, r->path, &param))
            continue;
        *allowed |= methods | HTTP_OPTIONS_;
        if ((methods & r->method) && (!found || param.n == 0)) {
            found = row;
            found_param = param;
        }
    }
    r->param = found_param;
    return found;
}

void router_methods_text(unsigned methods, char *out, size_t size)
{
    // clang-format off
    static const struct { unsigned bit; const char *name; } names[] = {
        { HTTP_GET_, "GET" }, { HTTP_HEAD_, "HEAD" }, { HTTP_POST_, "POST" },
        { HTTP_DELETE_, "DELETE" }, { HTTP_OPTIONS_, "OPTIONS" },
    };
    // clang-format on
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (methods & names[i].bit && n < size)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", names[i].name);
}
