#!/usr/bin/env bash
# make lint: format, include directions, library guests, long files, white space, spelling. Nothing that only CI knows.
set -uo pipefail
cd "$(dirname "$0")/../.."
n=0 bad=0
check() { # check NAME: stdin holds the findings, one a line
    local found; found=$(cat); n=$((n + 1))
    if [ -z "$found" ]; then echo "ok $n - $1"; else bad=1; echo "not ok $n - $1"; echo "$found" | head -20; fi
}
src=$(git ls-files -co --exclude-standard '*.c' '*.h')

if command -v clang-format-14 >/dev/null; then
    # shellcheck disable=SC2086
    clang-format-14 --dry-run $src 2>&1 | grep -E 'warning: code should' | cut -d: -f1 | sort -u | check "sources are formatted (make format)"
fi

# Who may include whom (docs/ARCHITECTURE.md): FROM must not include PATTERN.
forbid() { grep -HnE "^#include \"($2)" $(echo "$src" | grep -E "^$1" || true) /dev/null; }
{
    forbid 'shared/' 'gateway/|worker/'
    forbid 'shared/base/' 'shared/ipc/'
    forbid 'gateway/' 'worker/'
    forbid 'worker/' 'gateway/'
    forbid 'gateway/(http|dispatch|supervise|usage|metrics|auth)/' 'gateway/(api|admin)/|gateway/app'
    forbid 'gateway/http/' 'gateway/(dispatch|supervise|usage)/'
    forbid 'gateway/usage/' 'gateway/(dispatch|supervise|http)/'
    forbid 'gateway/(library|pull)/' 'gateway/(dispatch|supervise|http|api)/'
    forbid 'worker/(model|text|sample|kv)/' 'worker/sched/'
    forbid 'worker/cpu/' 'worker/(sched|text|sample|kv)/'
    forbid 'worker/quant/' 'worker/(sched|text|sample|kv|model|cpu)/'
} | check "includes go in one direction"

guest() { grep -HnE "^#include <($1)" $(echo "$src" | grep -vE "^($2|tests/)") /dev/null; }
{
    guest 'uv\.h' 'gateway/'
    guest 'llhttp\.h' 'gateway/http/'
    guest 'sqlite3\.h' 'gateway/usage/'
    guest 'curl/curl\.h' 'gateway/pull/'
    guest 'pcre2\.h|utf8proc\.h' 'worker/text/'
    guest 'cuda|cublas' 'worker/cuda/'
} | check "each library is a guest in one place"

wc -l $src | awk '$2 != "total" && $1 > 1000' | check "no file passes 1,000 lines"
git ls-files -co --exclude-standard | grep -vE '\.(gguf|bin|f32|png|db)$|corpus/' | xargs grep -nIE '[[:blank:]]+$' 2>/dev/null | head | check "no trailing white space"
grep -nE '^[^#]*\b(strcpy|strcat|sprintf|gets|alloca)\(' $src | check "no unbounded string functions"
if command -v codespell >/dev/null; then
    git ls-files -co --exclude-standard '*.c' '*.h' '*.md' '*.sh' '*.mjs' 'Makefile' '*.sql' | grep -v zh-CN |
        xargs codespell -q 3 -L "bu,nam,dout,ue,ot,fo,nd,te,ro,ans,inout,wont,nin,sme,thr,ba,vie,hel,ser,fpr,crate,fiel" 2>/dev/null | check "spelling"
fi
exit $bad
