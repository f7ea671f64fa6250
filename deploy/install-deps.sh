#!/usr/bin/env bash
# Installs what the build (and with --tests or --bench: what those) need, from Debian's or Ubuntu's packages.
# Where apt is not there, or not permitted, it prints exactly what to install and exits with 1.
set -euo pipefail

pkgs=(gcc make pkg-config libuv1-dev libsqlite3-dev libpcre2-dev libutf8proc-dev libsodium-dev libcurl4-openssl-dev)
case "${1:-}" in
--tests) pkgs+=(libcmocka-dev libcjson-dev clang libclang-rt-14-dev clang-format-14 codespell nodejs npm sqlite3 curl nginx-light docker-registry openssl) ;;
--bench) pkgs+=(libcmocka-dev libcjson-dev nodejs npm sqlite3 curl nginx-light wrk) ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    missing=()
    for lib in libuv sqlite3 libpcre2-8 libutf8proc libsodium libcurl; do
        pkg-config --exists "$lib" 2>/dev/null || missing+=("$lib")
    done
    [ ${#missing[@]} -eq 0 ] && exit 0
    echo "millrace: not a Debian system; install the development packages of: ${missing[*]}, llhttp" \
         "(and for tests: cmocka, cJSON, clang with libFuzzer, Node.js)" >&2
    exit 1
fi

have() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# llhttp: a library of its own where the distribution has it, the sources inside node-llhttp on Debian 12.
if ! have libllhttp-dev && ! have node-llhttp; then
    if apt-cache show libllhttp-dev >/dev/null 2>&1; then pkgs+=(libllhttp-dev); else pkgs+=(node-llhttp); fi
fi

missing=()
for p in "${pkgs[@]}"; do
    have "$p" && continue
    # Node.js and npm may come from elsewhere than the distribution.
    case $p in nodejs) command -v node >/dev/null && continue ;; npm) command -v npm >/dev/null && continue ;;
    nginx-light) { command -v nginx || [ -x /usr/sbin/nginx ]; } >/dev/null && continue ;;
    libcurl4-openssl-dev) pkg-config --exists libcurl 2>/dev/null && continue ;; esac # any TLS library will do
    missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        echo "millrace: please run: sudo apt-get install -y ${missing[*]}" >&2
        exit 1
    fi
fi
echo "millrace: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp); trap 'rm -f "$log"' EXIT
# Servers that only tests start: their packages must not leave a daemon running here.
units=()
for p in "${missing[@]}"; do case $p in docker-registry) units+=(docker-registry.service) ;; nginx-light) units+=(nginx.service) ;; esac; done
[ -d /run/systemd/system ] || units=()
if [ ${#units[@]} -gt 0 ]; then
    $sudo systemctl mask --runtime --quiet "${units[@]}" || true
    trap 'rm -f "$log"; $sudo systemctl unmask --runtime --quiet "${units[@]}"; $sudo systemctl disable --quiet "${units[@]}"' EXIT
fi
$sudo apt-get update >"$log" 2>&1 || true
if ! $sudo apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -5 "$log" >&2
    echo "millrace: apt-get could not install: ${missing[*]}" >&2
    exit 1
fi
