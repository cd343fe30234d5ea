not_found() { echo "Error from server (NotFound): $1 not found" >&2; exit 1; }
# A file that the test has laid out, or the answer to what is not there.
object() { if [ -f "$STATE/$1" ]; then cat "$STATE/$1"; else not_found "$2"; fi; }

kubectl() {
    if [ -f "$STATE/kubectl_error" ]; then cat "$STATE/kubectl_error" >&2; exit 1; fi
    case "$*" in
    *"get namespace vllm-tracing -o json") object namespace.json 'namespaces "vllm-tracing"' ;;
    *"get deployments,pods,"*) cat "$STATE/objects.json" ;;
    *"get events"*) cat "$STATE/events.json" ;;
    *"get nodes -o json") cat "$STATE/nodes.json" ;;
    *"get configmap ebpf-tracer"*) object configmap.json 'configmaps "ebpf-tracer"' ;;
    *"get secret"*go-template*)
        case "$*" in *hf-token*) name=hf-token ;; *) name=aws-credentials ;; esac
        if [ -f "$STATE/stored-$name" ]; then cat "$STATE/stored-$name"
        else case "$*" in *--ignore-not-found*) ;; *) not_found "secrets \"$name\"" ;; esac; fi ;;
    *"get secret hf-token"*) object secret-hf-token.json 'secrets "hf-token"' ;;
    *"get pods -n kube-system"*) object plugin.json 'pods' ;;
    *"get deployment/vllm"*) [ ! -f "$STATE/namespace.json" ] || echo deployment.apps/vllm ;;
    *"get service/vllm-api"*) [ ! -f "$STATE/namespace.json" ] || echo service/vllm-api ;;
    *" diff "* | "diff "*)
        cat >/dev/null
        [ -f "$STATE/applied" ] && exit 0
        echo 'diff -u -N /tmp/LIVE-1/v1.Namespace..vllm-tracing /tmp/MERGED-2/v1.Namespace..vllm-tracing'
        exit 1 ;;
    *apply*)
        if [ -f "$STATE/apply_error" ]; then cat >/dev/null; cat "$STATE/apply_error" >&2; exit 1; fi
        cat >"$STATE/applied.new"
        case "$(cat "$STATE/applied.new")" in
        *'"name":"hf-token"'*) echo token=hf_secret_value >"$STATE/stored-hf-token" ;;
        *'"name":"aws-credentials"'*) cp "$STATE/aws_after" "$STATE/stored-aws-credentials" ;;
        esac
        cp "$STATE/applied.new" "$STATE/applied"
        for file in "$STATE"/after_apply-*; do
            [ -f "$file" ] && cp "$file" "$STATE/${file##*/after_apply-}"
        done
        echo 'deployment.apps/vllm serverside-applied' ;;
    *"create namespace"*) echo '{"status":{"phase":"Active"}}' >"$STATE/namespace.json" ;;
    *"delete namespace"*) rm -f "$STATE/namespace.json" ;;
    *"delete deployment/vllm"*) rm -f "$STATE/namespace.json" ;;
    *delete*) ;;
    *"exec "*"status --json") object status.json pods ;;
    *"logs "*"-c vllm"*) cat "$STATE/log-vllm" 2>/dev/null ;;
    *"logs "*"-c ebpf-tracer"*) cat "$STATE/log-tracer" 2>/dev/null ;;
    *"logs "*nvidia-device-plugin*) cat "$STATE/log-plugin" 2>/dev/null ;;
    *"logs "*) echo 'the logs' ;;
    *) echo "error: unknown command \"$*\" for \"kubectl\"" >&2; exit 1 ;;
    esac
}

case "$*" in
"kubectl "*) shift; kubectl "$@" ;;
--version) echo 'k3s version v1.36.2+k3s1 (0123abcd)' ;;
"ctr -n k8s.io images import"*)
    if [ -f "$STATE/import_error" ]; then cat "$STATE/import_error" >&2; exit 1; fi
    touch "$STATE/imported" ;;
"ctr -n k8s.io images label"*) echo "$6" >"$STATE/pinned" ;;
"ctr -n k8s.io images ls -q") [ ! -f "$STATE/pinned" ] || cat "$STATE/pinned" ;;
"ctr -n k8s.io images ls"*)
    echo 'REF TYPE DIGEST SIZE PLATFORMS LABELS'
    if [ -f "$STATE/pinned" ]; then echo 'x y z io.cri-containerd.pinned=pinned'; fi ;;
"ctr -n k8s.io images rm"*) rm -f "$STATE/imported" "$STATE/pinned" ;;
"crictl inspecti"*)
    if [ -f "$STATE/imported" ]; then echo '{"status":{"id":"sha256:abc123"}}'
    else echo 'FATA[0000] no such image "x" present' >&2; exit 1; fi ;;
*) echo "k3s: unknown command $*" >&2; exit 1 ;;
esac
