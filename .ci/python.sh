#!/usr/bin/env bash
# Prints a Python that has packages of PyPI: the one on PATH, else that of a virtual environment under target/:
#
#   python=$(.ci/python.sh NAME MODULES PACKAGE...)     MODULES as `import` takes them, packages with their versions
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1 modules=$2
shift 2
if python3 -c "import $modules" 2>/dev/null; then
    echo python3
    exit
fi
environment=${CARGO_TARGET_DIR:-target}/$name
python=$environment/bin/python
if ! "$python" -c "import $modules" 2>/dev/null; then
    printf 'installing %s into %s\n' "$*" "$environment" >&2
    # A moved checkout leaves one behind whose paths are wrong.
    if ! python3 -m venv --clear "$environment" || ! "$python" -m pip install --quiet "$@" >&2; then
        printf 'error: cannot install %s: it needs python3 with venv (apt-get install python3-venv) and PyPI\n' "$*" >&2
        exit 1
    fi
fi
echo "$python"
