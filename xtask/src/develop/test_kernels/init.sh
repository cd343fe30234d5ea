#!/bin/busybox sh
# The first program of a guest: runs the checks, tells the console of each, and powers off.
export PATH=/bin RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# Not /tmp: the programs may lie below it, where they were built.
mount -t tmpfs scratch /scratch
export TMPDIR=/scratch
ip link set lo up
read -r seconds _ </proc/uptime
echo "@ boot $seconds"

# The kernel's own default. Debian's 3 asks for SYS_ADMIN.
echo 2 >/proc/sys/kernel/perf_event_paranoid
# Few probes, where a check asks for no others: on kernels without links each takes its time to close.
export TRACE_FUNCTIONS=cuInit,cuCtxSynchronize
# The processor that one of them takes away; the kernel was told to leave it alone.
while read -r check; do
    case $check in *processor*) echo 1 >/sys/devices/system/cpu/cpu1/online ;; esac
    # What the last one left to the kernel would slow this one down.
    while pidof closing-probes >/dev/null; do sleep 0.2; done
    echo "@ start $check"
    start=$(date +%s)
    timeout 180 /privileged --exact "$check" --include-ignored --test-threads=1 >/scratch/output 2>&1
    if grep -q '^test result: ok. 1 passed' /scratch/output; then word=ok; else
        word=failed
        tail -n 60 /scratch/output
    fi
    echo "@ $word $check $(($(date +%s) - start))"
    case $check in *processor*) echo 0 >/sys/devices/system/cpu/cpu1/online ;; esac
done </checks
poweroff -f
