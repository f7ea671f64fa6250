#!/usr/bin/env bash
# The unit and reference tests and a round of e2e under ASan+UBSan; the rings, the gateway and the thread pool under TSan.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0
part() {
    local name=$1 out; shift
    if out=$("$@" 2>&1); then
        echo "$out" | grep -E '^[0-9]+ passed' | sed "s/^/# $name: /"
        echo "ok $((++n)) - $name"
    else
        bad=1; echo "not ok $((++n)) - $name"; echo "$out" | grep -vE '^ok ' | tail -40
    fi
}
n=0
part "builds under ASan and UBSan" make --no-print-directory -j"$(nproc)" asan
part "unit, reference and e2e tests under ASan and UBSan" env MILLRACE_SCHEMAS=1000 tests/run.sh --only unit,reference,e2e asan
if [ -x tests/tsan.sh ]; then part "rings, thread pool and gateway under TSan" tests/tsan.sh; fi
exit $bad
