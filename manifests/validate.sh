#!/usr/bin/env bash
# Holds what `manifests` prints, for every profile, against the schemas of the oldest and of the pinned Kubernetes.
# Needs python3; takes kubernetes-validate from PyPI into a virtual environment under target/ unless it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

# Carries the schemas of all versions from 1.10 to 1.37, so that it needs no network once it is here.
package=kubernetes-validate==1.37.0
versions=(1.29 1.33)
profiles=(default privileged)

say() { printf '%s\n' "$*" >&2; }

python=python3
if ! "$python" -c 'import kubernetes_validate' 2>/dev/null; then
    environment=${CARGO_TARGET_DIR:-target}/$package
    python=$environment/bin/python
    if ! "$python" -c 'import kubernetes_validate' 2>/dev/null; then
        say "installing $package into $environment"
        if ! python3 -m venv "$environment" || ! "$python" -m pip install --quiet "$package"; then
            say "error: cannot install $package: it needs python3 with venv (apt-get install python3-venv) and PyPI"
            exit 1
        fi
    fi
fi

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
cargo build --quiet --locked --package manifests
for profile in "${profiles[@]}"; do
    file=$scratch/$profile.yaml
    cargo run --quiet --locked --package manifests -- --profile "$profile" --s3-bucket traces >"$file"
    objects=$(grep -c '^kind: ' "$file")
    for version in "${versions[@]}"; do
        # Its own word on stderr names the object, the field and the schema's rule.
        if ! "$python" -m kubernetes_validate --strict --quiet --kubernetes-version "$version" "$file"; then
            say "error: the objects of the profile $profile do not fit Kubernetes $version; print them with" \
                "cargo run --package manifests -- --profile $profile --s3-bucket traces"
            exit 1
        fi
        say "ok: $objects objects of the profile $profile fit Kubernetes $version"
    done
done
