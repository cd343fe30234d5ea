#!/usr/bin/env bash
# Exports traces of real engines to Parquet and asks them in SQL: DuckDB must find what `cuda-trace summary` says, and must
# run every query of docs/parquet.md; and it asks segments that the sidecar has made tables, as they lie in a bucket, against
# `cargo xtask verify`. With --spark also by Spark, which needs Java and takes a minute more.
# Needs python3; takes duckdb (and pyspark) from PyPI into a virtual environment under target/ unless they are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(duckdb==2.0.1)
modules=duckdb
[ "${1:-}" != --spark ] || { packages+=(pyspark==4.1.3) && modules=duckdb,pyspark; }

python=$(.ci/python.sh check-tables "$modules" "${packages[@]}")

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
cargo build --quiet --locked --package analysis
cargo build --quiet --locked --package tables --example transcode

# A fleet: a run without its end, one without its first segment, and files that are no segments, of which one has a call
# that failed.
mkdir "$scratch/traces"
cp analysis/tests/data/h200-eager.jsonl.zst "$scratch/traces/trace_gpu-a_20261201T101500.000Z_000001.jsonl.zst"
cp analysis/tests/data/h200-graphs.jsonl.zst "$scratch/traces/trace_gpu-b_20261130T003839.587Z_000002.jsonl.zst"
cp analysis/tests/it/data/vllm-h200.jsonl "$scratch/other.jsonl"
printf '%s\n' '{"ts":3017.976619,"pid":27967,"tid":27967,"type":"cuda_api","func":"cuMemAlloc_v2","phase":"call",'\
'"dur_us":0.911,"ret":2,"error":"CUDA_ERROR_OUT_OF_MEMORY","depth":0,"bytes":1125899906842624,"ptr":null}' |
    tr -d '\n' >"$scratch/failed.jsonl"

# The same segments as a bucket has them, and one whose closing line counts a call that is not there.
table() {
    mkdir -p "$scratch/bucket/date=2026-12-01/node=$1/pod=vllm"
    "${CARGO_TARGET_DIR:-target}/debug/examples/transcode" "$2" "$scratch/bucket/date=2026-12-01/node=$1/pod=vllm"
}
table a "$scratch/traces/trace_gpu-a_20261201T101500.000Z_000001.jsonl.zst"
table b "$scratch/traces/trace_gpu-b_20261130T003839.587Z_000002.jsonl.zst"
counts='{"lines":2,"run_hits":2,"run_lines":2,"run_dropped":0,"run_ignored":0,"run_suppressed":0}'
{
    cat "$scratch/failed.jsonl"
    printf '\n{"ts":4000.0,"pid":1,"type":"meta","phase":"meta","func":"segment_close","sequence":1,"reason":"shutdown",'
    printf '"final":true,"calls":2,"clock":{"start_monotonic_ns":1,"monotonic_ns":2,"realtime_ns":3},'
    printf '"functions":{"cuMemAlloc_v2":%s}}\n' "$counts"
} >"$scratch/trace_gpu-c_20261201T101500.000Z_000001.jsonl"
table c "$scratch/trace_gpu-c_20261201T101500.000Z_000001.jsonl"
# Not all of it is whole, which is what it says, by its exit code too.
cargo xtask verify --traces "$scratch/bucket" --json >"$scratch/verified.json" || [ $? = 1 ]

"$python" analysis/check_tables.py "${CARGO_TARGET_DIR:-target}/debug/cuda-trace" "$scratch" docs/parquet.md "$@"
