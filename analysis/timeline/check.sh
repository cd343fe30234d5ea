#!/usr/bin/env bash
# Writes timelines of real traces and holds each against Perfetto's own descriptor and against its trace: check.py.
# Takes traces as arguments, else those of the tests. Needs python3; takes two packages of PyPI into a virtual
# environment under target/.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(perfetto==0.59.1 protobuf==7.36.2 zstandard==0.25.0)
traces=("$@")
if [ $# -eq 0 ]; then
    traces=(analysis/tests/it/data/vllm-h200.jsonl analysis/tests/data/h200-{graphs,eager}.jsonl.zst)
fi

say() { printf '%s\n' "$*" >&2; }

python=$(.ci/python.sh perfetto perfetto,zstandard "${packages[@]}")

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
check() { "$python" analysis/timeline/check.py "$@"; }
write() {
    cargo run --release --quiet --locked --package analysis -- timeline "$1" --out "$scratch/timeline" >/dev/null
}
for trace in "${traces[@]}"; do
    write "$trace"
    check "$scratch/timeline" "$trace"
done

# A check that refuses nothing proves nothing: a call that has no slice, a slice that is of no call, a packet that is cut.
trace=analysis/tests/it/data/vllm-h200.jsonl
write "$trace"
sed '$d' "$trace" >"$scratch/less.jsonl"
{ cat "$trace" && tail -n 1 "$trace"; } >"$scratch/more.jsonl"
head -c -5 "$scratch/timeline" >"$scratch/cut"
for wrong in "timeline $scratch/less.jsonl" "timeline $scratch/more.jsonl" "cut $trace"; do
    # shellcheck disable=SC2086
    if check $scratch/$wrong >/dev/null 2>&1; then
        say "error: the check passes what is wrong: $wrong"
        exit 1
    fi
done
