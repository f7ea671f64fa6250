#!/usr/bin/env bash
# Runs every fuzz target on its corpus for SECONDS each (default 3). A finding is a failure, and stays in build/fuzz/found.
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-3}
make --no-print-directory fuzz-bins >build/fuzz-build.log 2>&1 || { tail -20 build/fuzz-build.log; echo "not ok 1 - fuzz targets build"; exit 1; }
mkdir -p build/fuzz/found
n=0 bad=0
for bin in build/fuzz/bin/fuzz_*; do
    case $bin in *.d | *.o) continue ;; esac
    [ -x "$bin" ] || continue
    name=$(basename "$bin"); n=$((n + 1))
    mkdir -p "build/fuzz/work/$name"
    corpus=tests/fuzz/corpus/$name; [ -d "$corpus" ] || corpus=
    dict=tests/fuzz/$name.dict; [ -f "$dict" ] && dict=-dict=$dict || dict=
    # shellcheck disable=SC2086
    if "$bin" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 $dict \
        -artifact_prefix="build/fuzz/found/$name-" "build/fuzz/work/$name" $corpus >"build/fuzz/$name.log" 2>&1; then
        echo "ok $n - $name $(grep -h 'number_of_executed_units' "build/fuzz/$name.log" | grep -oE '[0-9]+$') runs"
    else
        bad=1; echo "not ok $n - $name"; tail -30 "build/fuzz/$name.log" | cut -c1-200
    fi
done
exit $bad
