case "$*" in
*"build "*--target-dir*)
    [ -f "$STATE/build_error" ] && { cat "$STATE/build_error" >&2; exit 101; }
    while [ "$1" != --target-dir ]; do shift; done
    mkdir -p "$2/x86_64-unknown-linux-gnu/release"
    echo program >"$2/x86_64-unknown-linux-gnu/release/ebpf-cuda-tracer" ;;
*"--package manifests"*)
    case "$*$S3_BUCKET" in
    *"--only node"*) echo 'kind: RuntimeClass' ;;
    *--s3-bucket* | *traces*) echo 'kind: Deployment' ;;
    *) echo 'error: S3_BUCKET is not set' >&2; exit 1 ;;
    esac ;;
*"--package loadtest"*single*)
    [ -f "$STATE/single_error" ] && { cat "$STATE/single_error" >&2; exit 1; }
    echo single_prompt_result_1.json ;;
*"--package loadtest"*batch*)
    [ -f "$STATE/batch_error" ] && { cat "$STATE/batch_error" >&2; exit 1; }
    echo batch_prompts_result_1.json ;;
*"--package sidecar"*fetch*)
    [ -f "$STATE/fetch_error" ] && { cat "$STATE/fetch_error" >&2; exit 1; }
    echo "$S3_BUCKET $S3_PREFIX $AWS_ACCESS_KEY_ID" >"$STATE/fetched_from"
    while [ "$1" != --out ]; do shift; done
    mkdir -p "$2"
    for file in "$STATE"/trace_*; do
        if [ -f "$file" ]; then cp "$file" "$2"; echo "$2/${file##*/}"; fi
    done ;;
*) echo "error: no such command: $*" >&2; exit 101 ;;
esac
