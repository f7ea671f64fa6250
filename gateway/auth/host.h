/* host.h - the Host header check of a gateway that needs no key.
 *
 * Bound to loopback without keys, the browser on the same machine is the one way in for strangers:
 * a page whose name resolves to 127.0.0.1 a second later (DNS rebinding) could read every answer.
 * Its requests carry that page's name in Host; so only names of this machine are served.
 * Thread: no shared state. */
#ifndef MILLRACE_GATEWAY_AUTH_HOST_H
#define MILLRACE_GATEWAY_AUTH_HOST_H

#include "shared/base/str.h"

bool host_is_loopback_address(const char *address); /* "127.0.0.1", "::1" */
/* host: the header's value, with or without a port. extra: names allowed besides, divided by
 * commas; NULL: none. "*" allows all. */
bool host_allowed(struct str host, const char *extra);

#endif
