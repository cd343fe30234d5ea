fail_if_told() { if [ -f "$STATE/$1" ]; then cat "$STATE/$1" >&2; exit "$2"; fi; }
# Before vLLM has its model nobody listens at its port.
refuse_if_not_ready() {
    [ ! -f "$STATE/is_strict" ] || grep -q '"readyReplicas":1' "$STATE/objects.json" ||
        { echo 'error: connection refused' >&2; exit 1; }
}
case "$*" in
"build "*"--package sidecar"*--target-dir*)
    fail_if_told build_error 101
    while [ "$1" != --target-dir ]; do shift; done
    mkdir -p "$2/x86_64-unknown-linux-gnu/release"
    echo program >"$2/x86_64-unknown-linux-gnu/release/ebpf-cuda-tracer" ;;
"tree "*"--package sidecar "*) echo 'sidecar v0.1.0 (/source/sidecar)|MIT OR Apache-2.0' ;;
*"--package manifests"*)
    case "$*$S3_BUCKET" in
    *"--only node"*) echo 'kind: RuntimeClass' ;;
    *--check*--s3-bucket* | *--check*traces*) ;;
    *--s3-bucket* | *traces*) echo "kind: Deployment # $S3_BUCKET $*" ;;
    *) echo 'error: S3_BUCKET is not set' >&2; exit 1 ;;
    esac ;;
*"--package loadtest"*single*)
    refuse_if_not_ready
    fail_if_told single_error 1
    echo single_prompt_result_1.json ;;
*"--package loadtest"*batch*)
    refuse_if_not_ready
    fail_if_told batch_error 1
    echo batch_prompts_result_1.json ;;
"run "*"--package sidecar"*fetch*)
    fail_if_told fetch_error 1
    echo "$S3_BUCKET $S3_PREFIX $AWS_ACCESS_KEY_ID" >"$STATE/fetched_from"
    while [ "$1" != --out ]; do shift; done
    mkdir -p "$2"
    for file in "$STATE"/trace_*; do
        if [ -f "$file" ]; then cp "$file" "$2"; echo "$2/${file##*/}"; fi
    done ;;
"run "*"--package analysis"*report*)
    fail_if_told report_error 1
    while [ "$1" != --out ]; do shift; done
    echo "$2" ;;
*) echo "error: no such command: $*" >&2; exit 101 ;;
esac
