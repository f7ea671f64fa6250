#!/usr/bin/env bash
# engine.sh - the engine on synthetic models, and beside llama.cpp on the same file and threads where a build is at hand
# (LLAMA_BENCH=path of llama-bench). Rounds alternate who goes first; each figure is the best of its rounds, since a
# neighbour can only slow a round down. Prints a Markdown table.
set -euo pipefail
cd "$(dirname "$0")/../.."
threads=${BENCH_THREADS:-$(seq -s ' ' 1 $(($(nproc) > 1 ? $(nproc) - 1 : 1)) "$(nproc)")} rounds=${BENCH_ROUNDS:-3}
preset=${BENCH_PRESET:-0.5B} quants=${BENCH_QUANTS:-"Q4_0 Q4_K_M Q5_K_M Q6_K Q8_0 IQ4_XS IQ2_XXS F16 BF16"}
prompt=${BENCH_PROMPT:-256} gen=${BENCH_GEN:-32}
w=build/millrace-worker
llama=${LLAMA_BENCH:-$(command -v llama-bench || true)}
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
best() { sort -g "$1" | tail -1; }
num() { node -e 'let v=JSON.parse(require("fs").readFileSync(0));for(const k of process.argv[1].split("."))v=v[k];if(!(v>0))throw Error(process.argv[1]);console.log(v)' "$1"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {if (b > 0) printf "%.2f", a / b; else printf "-"}'; }
show() { awk -v a="$1" 'BEGIN {if (a > 0) printf "%.1f", a; else printf "-"}'; }

ours() {
    "$w" bench "$f" -p "$prompt" -n "$gen" -b 1,8 -t "$t" >"$dir/j"
    num prefill.tok_s <"$dir/j" >>"$dir/p"
    num decode.tok_s <"$dir/j" >>"$dir/d"
    num batch.1.tok_s <"$dir/j" >>"$dir/b"
}
theirs() {
    [ -n "$llama" ] || return 0
    # A type or an architecture that this build does not know leaves the columns empty.
    "$llama" -m "$f" -p "$prompt" -n "$gen" -t "$t" -r 1 -o json 2>/dev/null >"$dir/l" || return 0
    num 0.avg_ts <"$dir/l" >>"$dir/lp"
    num 1.avg_ts <"$dir/l" >>"$dir/ld"
}

echo "## The engine ($preset, prompt $prompt, $gen tokens, best of $rounds; tokens per second)"
echo
echo "| quantization | threads | prefill | decode | batch of 8 | llama.cpp prefill | llama.cpp decode | prefill ratio | decode ratio |"
echo "|---|---|---|---|---|---|---|---|---|"
for q in $quants; do
    f=$dir/$q.gguf
    "$w" synthesize "$f" --arch llama --preset "$preset" --quant "$q" >/dev/null
    for t in $threads; do
        for c in p d b lp ld; do : >"$dir/$c"; done
        for i in $(seq "$rounds"); do
            if ((i % 2)); then ours; theirs; else theirs; ours; fi
        done
        p=$(best "$dir/p") d=$(best "$dir/d") lp=$(best "$dir/lp") ld=$(best "$dir/ld")
        echo "| $q | $t | $(show "$p") | $(show "$d") | $(show "$(best "$dir/b")") | $(show "$lp") | $(show "$ld") |" \
            "$(ratio "$p" "$lp") | $(ratio "$d" "$ld") |"
    done
    rm -f "$f"
done
echo
[ -n "$llama" ] || echo "(no llama.cpp build at hand: set LLAMA_BENCH to a llama-bench binary for the comparison)"
