#!/usr/bin/env bash
# Installs the SDKs of package-lock.json into tests/e2e/node_modules, once.
set -euo pipefail
cd "$(dirname "$0")"
stamp=node_modules/.stamp
[ -e "$stamp" ] && [ "$stamp" -nt package-lock.json ] && exit 0
npm ci --no-audit --no-fund --loglevel=error
touch "$stamp"
