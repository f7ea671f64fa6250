#!/usr/bin/env bash
# make bench: prints the tables of docs/BENCHMARKS.md, afresh. BENCHMARKS.md says what each figure means.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/e2e/setup.sh >/dev/null
echo "# $(date -u +%F), $(git rev-parse --short HEAD 2>/dev/null || echo '?'), $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) cores"
echo
tests/bench/engine.sh
node tests/bench/gateway.mjs
