#!/usr/bin/env bash
# Runs the test layers and ends with one line: N passed, N failed, N skipped.
#
#   tests/run.sh [--only LAYER,...] [FLAVOUR]     layers: unit reference e2e fault sanitize fuzz lint
#
# Every layer's programs print cmocka's or TAP's lines; what counts is counted here, in one place:
#   [       OK ] / [  FAILED  ] / [  SKIPPED ]  (cmocka)      ok / not ok / ok ... # SKIP  (TAP)
set -uo pipefail
cd "$(dirname "$0")/.."

layers=unit,reference,e2e,fault,sanitize,fuzz,lint
if [ "${1:-}" = --only ]; then layers=$2; shift 2; fi
flavour=${1:-release}
b=build; [ "$flavour" = release ] || b=build/$flavour
jobs=$(nproc 2>/dev/null || echo 2)
logs=$b/test-logs; rm -rf "$logs"; mkdir -p "$logs"
passed=0 failed=0 skipped=0
export MILLRACE_REFERENCE=${MILLRACE_REFERENCE:-$(cd .. && pwd)/shared/reference}
has() { case ",$layers," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }

# run NAME LIMIT_S COMMAND...: one program, its log, its counts. No counted line at all counts as one test.
run() {
    local name=$1 limit=$2 log rc; shift 2
    log=$logs/$(echo "$name" | tr '/ ' '__').log
    timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null; rc=$?
    echo "$rc" >"$log.rc"
}
count() {
    local name=$1 log rc ok bad skip
    log=$logs/$(echo "$name" | tr '/ ' '__').log; rc=$(cat "$log.rc" 2>/dev/null || echo 1)
    ok=$(grep -cE '^\[ +OK \]|^ *ok [0-9]+' "$log"); skip=$(grep -E '^\[ +SKIPPED \] [a-z_A-Z0-9]+$|^ *ok [0-9]+.*# SKIP' "$log" | sort -u | wc -l)
    bad=$(grep -E '^\[ +FAILED +\] [a-z_A-Z0-9]+$|^ *not ok [0-9]+' "$log" | sort -u | wc -l) # cmocka lists them twice
    ok=$((ok - $(grep -cE '^ *ok [0-9]+.*# SKIP' "$log")))
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$rc" -eq 0 ] && [ "$((ok + bad + skip))" -eq 0 ]; then ok=1; fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" -gt 0 ]; then
        printf 'FAIL  %-52s exit %s\n' "$name" "$rc"
        grep -vE '^\[ +(OK|RUN) +\]|^ *ok ' "$log" | tail -${FAIL_LINES:-25} | sed 's/^/      /'
    else
        printf 'ok    %-52s %d passed%s\n' "$name" "$ok" "$([ "$skip" -gt 0 ] && echo ", $skip skipped")"
        [ "$skip" -gt 0 ] && grep -iE '# SKIP|^skip(ped)?:' "$log" | sed 's/^/      /' | head -5
    fi
}
# Programs that don't disturb each other run side by side.
programs() {
    local limit=$1 list; shift
    list=("$@")
    for p in "${list[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
        run "${p#"$b"/test/}" "$limit" "$p" &
    done
    wait
    for p in "${list[@]}"; do count "${p#"$b"/test/}"; done
}

if has unit; then
    mapfile -t t < <(find "$b/test/unit" -type f -executable -not -path '*/reference/*' 2>/dev/null | LC_ALL=C sort)
    programs 120 "${t[@]}"
fi
if has reference; then
    mapfile -t t < <(find "$b/test/unit" -type f -executable -path '*/reference/*' 2>/dev/null | LC_ALL=C sort)
    programs 300 "${t[@]}"
fi
if has e2e; then
    if tests/e2e/setup.sh >"$logs/e2e-setup.log" 2>&1; then
        for t in tests/e2e/*.test.mjs; do
            [ -e "$t" ] || continue
            run "${t#tests/}" 240 env MILLRACE_BUILD="$b" node --test --test-reporter=tap "$t"; count "${t#tests/}"
        done
    else
        tail -3 "$logs/e2e-setup.log"; failed=$((failed + 1)); echo "FAIL  e2e/setup"
    fi
fi
if has fault; then
    for t in tests/fault/*.test.mjs; do
        [ -e "$t" ] || continue
        run "${t#tests/}" 240 env MILLRACE_BUILD="$b" node --test --test-reporter=tap "$t"; count "${t#tests/}"
    done
fi
if has sanitize && [ "$flavour" = release ]; then
    run sanitize 1800 tests/sanitize.sh; count sanitize
fi
if has fuzz && [ "$flavour" = release ]; then
    run fuzz 1200 tests/fuzz/run.sh "${FUZZ_SECONDS:-3}"; count fuzz
fi
if has lint && [ "$flavour" = release ]; then
    run lint 120 tests/lint/run.sh; count lint
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
