#!/usr/bin/env bash
# Load tests against a real uvicorn and a real nginx: connections that are not kept, limits, buffering, prefixes, and https
# with an own authority. All of it listens on free ports of 127.0.0.1, in under a minute.
# Needs python3; takes uvicorn from PyPI into a virtual environment under target/, and nginx from PATH or, unpacked under
# target/ and not installed, from Debian.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
python=$(.ci/python.sh check-servers uvicorn uvicorn==0.54.0)
nginx=$(PATH=$PATH:/usr/sbin command -v nginx || echo "$target/check-servers-nginx/usr/sbin/nginx")
if [ ! -x "$nginx" ]; then
    mkdir -p "$target/check-servers-nginx"
    (cd "$target/check-servers-nginx" && apt-get download -qq nginx && dpkg -x nginx_*.deb .) || {
        echo 'error: nginx is not here and cannot be had from Debian: install it, or run apt-get update' >&2
        exit 1
    }
fi
cargo build --quiet --locked --package loadtest
exec "$python" loadtest/tests/servers/check.py "$target/debug/loadtest" "$nginx" sidecar/tests/it/tls
