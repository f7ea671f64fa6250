/* app.h - the one place that knows every module: starts them, wires them together, drains, stops.
 *
 * app_run() returns the exit status: 0 after a clean end, 1 when something failed (said on stderr).
 * Thread: makes the loop's. */
#ifndef MILLRACE_GATEWAY_APP_H
#define MILLRACE_GATEWAY_APP_H

#include "gateway/config.h"

int app_run(const struct config *c);

#endif
