#!/usr/bin/env bash
# Holds what `manifests` prints, for every profile, against the schemas of the oldest and of the pinned Kubernetes.
# Needs python3; takes kubernetes-validate from PyPI into a virtual environment under target/ unless it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

# Carries the schemas of all versions from 1.10 to 1.37, so that it needs no network once it is here.
package=kubernetes-validate==1.37.0
versions=(1.29 1.33)
profiles=(default privileged)
# Settings by which objects get fields that they lack otherwise.
everything=(--perf-events false --gpus 4 --tensor-parallel-size 2 --drain-timeout 60 --hf-token-optional true
    --vllm-memory-limit 64Gi --vllm-env NCCL_DEBUG=INFO --tracer-env RUST_BACKTRACE=1 --hf-offline true
    --model-cache-host-path /srv/models --storage-class local-path --aws-region eu-central-1
    --node-selector pool=gpu --tolerations dedicated=llm:NoSchedule,spot --image-pull-secrets registry
    --priority-class serving --secrets-digest 0123)

say() { printf '%s\n' "$*" >&2; }

python=$(.ci/python.sh "$package" kubernetes_validate "$package")

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
cargo build --quiet --locked --package manifests

render() { cargo run --quiet --locked --package manifests -- --s3-bucket traces "$@"; }
# What it says names the object, the field and the rule.
validate() { "$python" -m kubernetes_validate --strict --quiet --kubernetes-version "$1" "$2" >&2; }

# A check that refuses nothing proves nothing: a wrong type, and a field that Kubernetes does not know.
render >"$scratch/good.yaml"
sed 's/^  replicas: 1$/  replicas: one/' "$scratch/good.yaml" >"$scratch/type.yaml"
sed 's/^  replicas: 1$/  replica: 1/' "$scratch/good.yaml" >"$scratch/field.yaml"
for wrong in type field; do
    if cmp --quiet "$scratch/good.yaml" "$scratch/$wrong.yaml"; then
        say "error: there is no line \`replicas: 1\` any more to try the validator with"
        exit 1
    fi
    for version in "${versions[@]}"; do
        if validate "$version" "$scratch/$wrong.yaml" 2>/dev/null; then
            say "error: the validator takes a deployment with a wrong $wrong for one of Kubernetes $version"
            exit 1
        fi
    done
done

# Prints objects with these flags and validates them.
check() {
    render "$@" >"$scratch/objects.yaml"
    objects=$(grep -c '^kind: ' "$scratch/objects.yaml")
    for version in "${versions[@]}"; do
        if ! validate "$version" "$scratch/objects.yaml"; then
            say "error: an object does not fit Kubernetes $version; all of them:" \
                "cargo run --package manifests -- --s3-bucket traces $*"
            exit 1
        fi
        say "ok: $objects objects fit Kubernetes $version: $1 $2${3:+, with everything set}"
    done
}

for profile in "${profiles[@]}"; do
    check --profile "$profile"
    check --profile "$profile" "${everything[@]}"
done
