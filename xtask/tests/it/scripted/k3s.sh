# What does not exist is a file that is not there, or is empty.
object() { if [ -s "$STATE/$1" ]; then cat "$STATE/$1"; else not_found "$2"; fi; }
not_found() { echo "Error from server (NotFound): $1 not found" >&2; exit 1; }
fail_if_told() { if [ -s "$STATE/$1" ]; then cat "$STATE/$1" >&2; exit 1; fi; }
name_if_there() { [ ! -f "$STATE/$1" ] || echo "$2"; }
# What has come about after one of these: first by files `after_...`, the next time by `then_...`.
follow() {
    for file in "$STATE"/after_$1-*; do
        [ ! -f "$file" ] || cp "$file" "$STATE/${file##*/after_$1-}"
    done
    for file in "$STATE"/then_$1-*; do
        [ ! -f "$file" ] || cp "$file" "$STATE/after_$1-${file##*/then_$1-}"
    done
}
# Answers as it is, and not as it is then.
answer_then_follow() {
    answer=$("$@" 2>"$STATE/complaint"); code=$?
    follow "$event"
    cat "$STATE/complaint" >&2
    [ -z "$answer" ] || echo "$answer"
    exit $code
}
objects() { fail_if_told objects_error; cat "$STATE/objects.json"; }
# As go-template prints it: decoded and quoted.
store() {
    rm -f "$STATE/stored-$1"
    for key in token AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN; do
        value=$(sed -n "s/.*\"$key\":\"\([^\"]*\)\".*/\1/p" "$STATE/applied" | base64 -d)
        [ -z "$value" ] || echo "$key=\"$value\"" >>"$STATE/stored-$1"
    done
}

kubectl() {
    fail_if_told kubectl_error
    case "$*" in
    *"get namespace vllm-tracing -o json")
        event=namespace answer_then_follow object namespace.json 'namespaces "vllm-tracing"' ;;
    *"get deployments,replicasets,pods,"*) event=look answer_then_follow objects ;;
    *"get events"*--no-headers*) cat "$STATE/warnings" 2>/dev/null ;;
    *"get events"*) cat "$STATE/events.json" ;;
    *"get nodes -o json") fail_if_told nodes_error; cat "$STATE/nodes.json" ;;
    *"get configmap ebpf-tracer"*) object configmap.json 'configmaps "ebpf-tracer"' ;;
    *"get secret hf-token -o go-template"*) object stored-hf-token 'secrets "hf-token"' ;;
    *"get secret aws-credentials -o go-template"*)
        object stored-aws-credentials 'secrets "aws-credentials"' ;;
    *"get pods -n kube-system"*) object plugin.json 'pods' ;;
    *"get deployment/vllm"*) name_if_there deployment deployment.apps/vllm ;;
    *"get service/vllm-api"*) name_if_there service service/vllm-api ;;
    *"diff --server-side"*)
        cat >"$STATE/rendered"
        case "$(cat "$STATE/rendered")" in *RuntimeClass*) kind=node ;; *) kind=app ;; esac
        [ -f "$STATE/applied-$kind" ] || { echo 'Error from server (NotFound): namespaces "vllm-tracing" not found' >&2; exit 2; }
        [ "$(cat "$STATE/applied-$kind")" != "$(cat "$STATE/rendered")" ] || exit 0
        echo 'diff -u -N /tmp/LIVE-1/apps.v1.Deployment.vllm-tracing.vllm /tmp/MERGED-2/apps.v1.Deployment.vllm-tracing.vllm'
        exit 1 ;;
    *"apply --server-side"*--dry-run=server*)
        cat >/dev/null
        fail_if_told dry_run_error
        if [ -s "$STATE/dry_run.json" ]; then cat "$STATE/dry_run.json"; else echo '{"items":[]}'; fi ;;
    *"apply --server-side"*)
        cat >"$STATE/applied"
        fail_if_told apply_error
        case "$(cat "$STATE/applied")" in
        *'"name":"hf-token"'*) store hf-token; echo 'secret/hf-token serverside-applied' ;;
        *'"name":"aws-credentials"'*) store aws-credentials; echo 'secret/aws-credentials serverside-applied' ;;
        *RuntimeClass*) cp "$STATE/applied" "$STATE/applied-node"; echo 'daemonset.apps/x serverside-applied' ;;
        *)
            cp "$STATE/applied" "$STATE/applied-app"
            touch "$STATE/deployment" "$STATE/service"
            follow apply
            echo 'deployment.apps/vllm serverside-applied' ;;
        esac ;;
    *"rollout restart deployment/vllm") follow restart; echo 'deployment.apps/vllm restarted' ;;
    *"create namespace vllm-tracing") echo '{"status":{"phase":"Active"}}' >"$STATE/namespace.json" ;;
    *"delete namespace vllm-tracing"*)
        fail_if_told delete_namespace_error
        rm -f "$STATE/namespace.json" ;;
    *"delete deployment/vllm"*)
        fail_if_told delete_deployment_error
        rm -f "$STATE/deployment"
        echo '{"items":[]}' >"$STATE/objects.json"
        follow delete ;;
    *"delete service/vllm-api"*) rm -f "$STATE/service" ;;
    *"exec "*" -c ebpf-tracer -- /ebpf-cuda-tracer status --json")
        event=status answer_then_follow object status.json pods ;;
    *"logs "*"-c vllm --tail="*) cat "$STATE/log-vllm" 2>/dev/null ;;
    *"logs "*"-c ebpf-tracer --tail="*) cat "$STATE/log-tracer" 2>/dev/null ;;
    *"logs -n kube-system"*) cat "$STATE/log-plugin" 2>/dev/null ;;
    *"logs "*) fail_if_told logs_error; echo 'the logs' ;;
    *) echo "error: unknown command \"$*\" for \"kubectl\"" >&2; exit 1 ;;
    esac
}

case "$*" in
"kubectl "*) shift; kubectl "$@" ;;
--version) echo 'k3s version v1.36.2+k3s1 (0123abcd)' ;;
"ctr -n k8s.io images import --platform linux/amd64 "*)
    fail_if_told import_error
    touch "$STATE/imported" ;;
"ctr -n k8s.io images label "*" io.cri-containerd.pinned=pinned") echo "$6" >>"$STATE/pinned" ;;
"ctr -n k8s.io images ls -q") [ ! -f "$STATE/pinned" ] || cat "$STATE/pinned" ;;
"ctr -n k8s.io images ls name=="*)
    echo 'REF TYPE DIGEST SIZE PLATFORMS LABELS'
    [ ! -f "$STATE/pinned" ] || echo 'x y z io.cri-containerd.pinned=pinned' ;;
"ctr -n k8s.io images rm "*) rm -f "$STATE/imported" "$STATE/pinned" ;;
"crictl inspecti -o json "*)
    if [ -f "$STATE/imported" ]; then echo '{"status":{"id":"sha256:abc123"}}'
    else echo 'FATA[0000] no such image "x" present' >&2; exit 1; fi ;;
*) echo "k3s: unknown command $*" >&2; exit 1 ;;
esac
