# A machine with an NVIDIA driver, before and after `install`. Called by the tools of their names.
case "$TOOL $*" in
"nvidia-smi "*) echo '580.95.05, NVIDIA A10, 23028 MiB, 8.6' ;;
"dpkg-query "*) [ ! -f "$STATE/packages" ] || cat "$STATE/packages" ;;
"apt-get update") ;;
"apt-get install "*)
    for name in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do
        case "$*" in *$name=1.20.0-1* | *"/${name}_1.20.0-1_amd64.deb"*) echo "installed $name 1.20.0-1" ;; esac
    done >"$STATE/packages" ;;
"curl "*)
    if [ -s "$STATE/curl_error" ]; then cat "$STATE/curl_error" >&2; exit 22; fi
    while [ "$1" != --output ]; do shift; done
    mkdir -p "${2%/*}"
    cd "${2%/*}"
    case "$3" in
    *%2Bk3s1/k3s | *%2Bk3s1/install.sh) echo "${2##*/}" >"$2" ;;
    *%2Bk3s1/sha256sum-amd64.txt) sha256sum k3s >"$2" ;;
    *%2Bk3s1/install.sh.sha256sum) sha256sum install.sh >"$2" ;;
    *libnvidia-container/*) echo "deb https://nvidia" >"$2" ;;
    *) echo "curl: (22) The requested URL returned error: 404" >&2; exit 22 ;;
    esac ;;
"gpg "* | "sed --in-place "* | "mv "*) ;;
# The kubeconfig of a user who is not root.
"mkdir --parents $HOME/.kube") mkdir -p "$HOME/.kube" ;;
"install --mode=0600 --owner="*" /etc/rancher/k3s/k3s.yaml $HOME/.kube/config")
    echo 'kind: Config' >"$HOME/.kube/config" ;;
"install --mode=0755 "*/k3s" /usr/local/bin/k3s") cp "$STATE/k3s" "$BIN/k3s" ;;
"install "*) ;;
"sh "*/install.sh) touch "$STATE/unit" ;;
"sh "*) PATH=$BIN exec /bin/sh "$@" ;;
"systemctl cat k3s") [ -f "$STATE/unit" ] ;;
"systemctl cat "*) cat "$STATE/unit-$2" 2>/dev/null || { echo "No files found for $2.service." >&2; exit 1; } ;;
"systemctl is-active k3s")
    if [ -f "$STATE/active" ]; then cat "$STATE/active"; else echo inactive; exit 3; fi ;;
"systemctl is-active "[ufn]*) echo inactive; exit 3 ;;
"systemctl start --no-block k3s" | "systemctl restart --no-block k3s")
    echo "${AFTER_START:-active}" >"$STATE/active"
    # K3s finds the runtime only if the toolkit was there when it started.
    [ ! -f "$STATE/packages" ] || touch "$STATE/runtime" ;;
"grep --quiet nvidia "*) [ -f "$STATE/runtime" ] ;;
"grep "*) exec grep "$@" ;;
"journalctl "*) [ ! -f "$STATE/journal" ] || cat "$STATE/journal" ;;
*) echo "$TOOL: unexpected: $*" >&2; exit 2 ;;
esac
