#!/usr/bin/env bash
# The parts with threads or shared memory, under ThreadSanitizer.
set -uo pipefail
cd "$(dirname "$0")/.."
make --no-print-directory -j"$(nproc)" FLAVOUR=tsan tsan-bins >build/tsan-build.log 2>&1 || { tail -20 build/tsan-build.log; exit 1; }
bad=0
for t in build/tsan/test/unit/shared/ipc/* build/tsan/test/unit/worker/cpu/test_pool build/tsan/test/unit/gateway/*/*; do
    [ -x "$t" ] && [ -f "$t" ] || continue
    if timeout 200 "$t" >"$t.log" 2>&1; then
        echo "ok - $t"
    else
        bad=1; echo "not ok - $t"; grep -A12 -E 'WARNING|FAILED|ERROR' "$t.log" | head -40
    fi
done
exit $bad
