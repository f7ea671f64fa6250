#!/usr/bin/env bash
# engine.sh - the engine on synthetic models, and beside llama.cpp on the same file and threads where a build is at hand
# (LLAMA_BENCH=path of llama-bench). Rounds alternate, so that a noisy neighbour hits both. Prints Markdown tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
threads=${BENCH_THREADS:-$(nproc)} rounds=${BENCH_ROUNDS:-3}
preset=${BENCH_PRESET:-0.5B} quants=${BENCH_QUANTS:-"Q8_0 Q4_0 Q4_K_M"} prompt=${BENCH_PROMPT:-512} gen=${BENCH_GEN:-64}
w=build/millrace-worker
llama=${LLAMA_BENCH:-$(command -v llama-bench || true)}
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
median() { sort -g | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
num() { node -e 'const d=JSON.parse(require("fs").readFileSync(0));const f=process.argv[1].split(".");let v=d;for(const k of f)v=v[k];console.log(v)' "$1"; }

echo "## The engine ($preset, $threads threads, prompt $prompt, $gen tokens)"
echo
echo "| quantization | prefill tok/s | decode tok/s | llama.cpp prefill | llama.cpp decode | prefill ratio | decode ratio |"
echo "|---|---|---|---|---|---|---|"
for q in $quants; do
    f=$dir/$q.gguf
    "$w" synthesize "$f" --arch llama --preset "$preset" --quant "$q" >/dev/null
    : >"$dir/p"; : >"$dir/d"; : >"$dir/lp"; : >"$dir/ld"
    for _ in $(seq "$rounds"); do
        "$w" bench "$f" -p "$prompt" -n "$gen" -b 1 -t "$threads" >"$dir/j"
        num prefill_tok_s <"$dir/j" >>"$dir/p"; num decode_tok_s <"$dir/j" >>"$dir/d"
        if [ -n "$llama" ]; then
            "$llama" -m "$f" -p "$prompt" -n "$gen" -t "$threads" -r 1 -o json 2>/dev/null >"$dir/l"
            num 0.avg_ts <"$dir/l" >>"$dir/lp"; num 1.avg_ts <"$dir/l" >>"$dir/ld"
        fi
    done
    p=$(median <"$dir/p") d=$(median <"$dir/d")
    if [ -n "$llama" ]; then
        lp=$(median <"$dir/lp") ld=$(median <"$dir/ld")
        awk -v q="$q" -v p="$p" -v d="$d" -v lp="$lp" -v ld="$ld" 'BEGIN {printf "| %s | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f |\n", q, p, d, lp, ld, p/lp, d/ld}'
    else
        awk -v q="$q" -v p="$p" -v d="$d" 'BEGIN {printf "| %s | %.1f | %.1f | - | - | - | - |\n", q, p, d}'
    fi
done
[ -n "$llama" ] || echo "(no llama.cpp build at hand: set LLAMA_BENCH to a llama-bench binary for the comparison)"
echo
