//! What tracing needs of this machine and container, asked before anything is loaded.

use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};
use settings::{
    AttachBy, Detail,
    rights::{ALWAYS, Capability, LINKS_KERNEL, OLDEST_KERNEL, SYS_ADMIN},
};
use tracing::warn;

/// Fails with everything that is missing, each with what it is for and the way out.
pub fn check(attach_by: AttachBy) -> Result<()> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = parse_release(&release);
    let effective = capabilities(None).context("cannot read the capabilities")?.effective;
    let mut missing = missing_capabilities(effective, needs_perf_events(attach_by, version));
    if version.is_some_and(|version| version < OLDEST_KERNEL) {
        missing.push(format!("kernel {release}: 5.15 or later is needed to tell functions apart"));
    }
    if !fs::exists("/sys/bus/event_source/devices/uprobe/type").unwrap_or(false) {
        missing.push(
            "uprobes: the kernel is built without CONFIG_UPROBE_EVENTS, or /sys is not \
                      mounted"
                .to_owned(),
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot trace yet:\n  {}", missing.join("\n  "))
}

/// What perf events may be refused for although [`check`] has passed: the seccomp profile of a
/// container engine may ask for both capabilities, `kernel.perf_event_paranoid` for the first.
pub fn reason_to_refuse_perf_events() -> Option<String> {
    missing_for_perf_events(capabilities(None).ok()?.effective)
}

/// The capability that a file or a process was refused for, if one is missing at all: with all of
/// them the reason is another one, such as a security module, and the error stands for itself.
pub fn missing_right_for(error: &io::Error) -> Option<String> {
    missing_for_access(error, capabilities(None).ok()?.effective)
}

fn missing_for_access(error: &io::Error, effective: CapabilitySet) -> Option<String> {
    let code = error.raw_os_error()?;
    if code != libc::EACCES && code != libc::EPERM {
        return None;
    }
    let reads_all = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE;
    let (name, purpose) = if !effective.contains(CapabilitySet::SYS_PTRACE) {
        ("SYS_PTRACE", "open files of other users and containers through /proc/PID/root")
    } else if code == libc::EACCES && !effective.intersects(reads_all) {
        (
            "DAC_READ_SEARCH",
            "read what lies in directories closed to others, as a home with mode 0700",
        )
    } else {
        return None;
    };
    Some(format!(
        "CAP_{name} is missing, needed to {purpose}: add {name} to the container's \
         securityContext.capabilities"
    ))
}

fn missing_for_perf_events(effective: CapabilitySet) -> Option<String> {
    let asked = [("SYS_ADMIN", CapabilitySet::SYS_ADMIN), ("PERFMON", CapabilitySet::PERFMON)];
    let (name, _) = asked.into_iter().find(|(_, capability)| !effective.contains(*capability))?;
    Some(format!(
        "CAP_{name} is missing, needed to watch process events where a seccomp profile or \
         kernel.perf_event_paranoid asks for it: add {name} to the container's \
         securityContext.capabilities"
    ))
}

/// Why the kernel refused to lock the memory of a perf event's ring.
///
/// It takes `kernel.perf_event_mlock_kb` for each CPU, which all profilers of a user share, and then
/// the process's own RLIMIT_MEMLOCK; only `CAP_IPC_LOCK` goes beyond both.
pub fn reason_to_refuse_locked_memory() -> String {
    let budget = fs::read_to_string("/proc/sys/kernel/perf_event_mlock_kb");
    let budget =
        budget.map_or_else(|_| "unknown".to_owned(), |text| format!("{} KiB", text.trim()));
    let limit = getrlimit(Resource::Memlock).current;
    let limit =
        limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    let way_out = if capabilities(None)
        .is_ok_and(|held| held.effective.contains(CapabilitySet::IPC_LOCK))
    {
        "free memory"
    } else {
        "stop the other profiler; or raise kernel.perf_event_mlock_kb, or RLIMIT_MEMLOCK; or add \
         IPC_LOCK to the container's securityContext.capabilities"
    };
    format!(
        "the memory that may be locked is used up: kernel.perf_event_mlock_kb is {budget} per CPU, \
         which all profilers of this user share, RLIMIT_MEMLOCK is {limit}, and CAP_IPC_LOCK, which \
         goes beyond both, {}: {way_out}",
        if way_out == "free memory" { "is held" } else { "is missing" }
    )
}

/// What can be recorded of calls without harm to the callers.
///
/// Linux 6.11 returns from a return probe by a system call, which a container's seccomp filter does
/// not know and answers by killing the process; `cf6cb56e` in 6.14, 6.13.3 and 6.12.14 lets it
/// through. Distributions may have brought it into others, which cannot be told from the release.
pub fn safe_detail(wanted: Detail) -> Detail {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if wanted == Detail::Call && parse_full_release(&release).is_some_and(kills_at_return) {
        warn!(
            "kernel {release} kills processes under a seccomp filter that return probes sit on, so \
             only entries of calls are recorded, as with TRACE_DETAIL=entry: no durations, return \
             codes and arguments; Linux 6.12.14, 6.13.3 and 6.14 are the first without this fault"
        );
        return Detail::Entry;
    }
    wanted
}

fn kills_at_return(version: (u32, u32, u32)) -> bool {
    ((6, 11, 0)..(6, 12, 14)).contains(&version) || ((6, 13, 0)..(6, 13, 3)).contains(&version)
}

fn needs_perf_events(attach_by: AttachBy, kernel: Option<(u32, u32)>) -> bool {
    attach_by == AttachBy::PerfEvents || kernel.is_some_and(|version| version < LINKS_KERNEL)
}

fn missing_capabilities(effective: CapabilitySet, by_perf_events: bool) -> Vec<String> {
    // SYS_ADMIN stands in for the two that were split from it.
    let split = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let is_held = |capability| {
        effective.contains(capability)
            || split.contains(capability) && effective.contains(CapabilitySet::SYS_ADMIN)
    };
    by_perf_events
        .then_some(SYS_ADMIN)
        .into_iter()
        .chain(ALWAYS)
        .filter(|capability| !is_held(capability.set))
        .map(|capability| {
            let Capability { name, purpose, .. } = capability;
            let short = capability.short_name();
            format!(
                "{name} is missing, needed to {purpose}: run as root, or add {short} to the \
                 container's securityContext.capabilities"
            )
        })
        .collect()
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    parse_full_release(release).map(|(major, minor, _)| (major, minor))
}

/// A release without a patch level has 0.
fn parse_full_release(release: &str) -> Option<(u32, u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let patch = if release.split('.').count() > 2 { parts.next() } else { None };
    Some((major, minor, patch.and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(parse_release("6.18.44-fc-v769"), Some((6, 18)));
        assert!(parse_release("5.4.0").unwrap() < OLDEST_KERNEL);
        assert!(parse_release("5.15.0").unwrap() >= OLDEST_KERNEL);
    }

    #[test]
    fn return_probes_are_kept_off_the_kernels_that_kill_for_them() {
        for (release, kills) in [
            ("6.10.14-linuxkit", false),
            ("6.11.0-17-generic", true),
            ("6.12.13", true),
            ("6.12.14-cloud", false),
            ("6.13.2", true),
            ("6.13.3", false),
            ("6.14-rc2", false),
            ("6.18.44-fc-v769", false),
        ] {
            assert_eq!(kills_at_return(parse_full_release(release).unwrap()), kills, "{release}");
        }
    }

    fn names(effective: CapabilitySet, kernel: (u32, u32)) -> Vec<String> {
        let name = |line: String| line.split(' ').next().unwrap().to_owned();
        let by_perf_events = needs_perf_events(AttachBy::Auto, Some(kernel));
        missing_capabilities(effective, by_perf_events).into_iter().map(name).collect()
    }

    #[test]
    fn only_old_kernels_need_sys_admin() {
        let three = CapabilitySet::SYS_PTRACE | CapabilitySet::BPF | CapabilitySet::PERFMON;
        assert_eq!(names(three, (6, 6)), [""; 0]);
        assert_eq!(names(three, (6, 5)), ["CAP_SYS_ADMIN"]);
        let all = ["CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"];
        assert_eq!(names(CapabilitySet::empty(), (5, 15)), all);
        assert_eq!(names(CapabilitySet::empty(), (6, 18)), all[1..]);
    }

    #[test]
    fn sys_admin_stands_in_for_what_was_split_from_it() {
        for kernel in [(5, 15), (6, 18)] {
            assert_eq!(names(CapabilitySet::SYS_ADMIN, kernel), ["CAP_SYS_PTRACE"]);
        }
    }

    #[test]
    fn what_a_seccomp_profile_asks_for_beyond_the_kernel_is_named() {
        let named = |effective| missing_for_perf_events(effective).unwrap_or_default();
        assert!(named(CapabilitySet::PERFMON).starts_with("CAP_SYS_ADMIN is missing"));
        assert!(named(CapabilitySet::SYS_ADMIN).starts_with("CAP_PERFMON is missing"));
        assert_eq!(named(CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON), "");
    }

    #[test]
    fn a_missing_right_is_named_only_where_it_is_missing_and_the_error_is_a_refusal() {
        let refused = |code: i32, effective| {
            let named = missing_for_access(&io::Error::from_raw_os_error(code), effective);
            named.map(|text| text.split(' ').next().unwrap().to_owned())
        };
        let ptrace = CapabilitySet::SYS_PTRACE;
        assert_eq!(refused(libc::EACCES, CapabilitySet::empty()).unwrap(), "CAP_SYS_PTRACE");
        assert_eq!(refused(libc::EPERM, CapabilitySet::DAC_READ_SEARCH).unwrap(), "CAP_SYS_PTRACE");
        assert_eq!(refused(libc::EACCES, ptrace).unwrap(), "CAP_DAC_READ_SEARCH");
        assert_eq!(refused(libc::EPERM, ptrace), None, "no file mode answers so");
        for reads in [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE] {
            assert_eq!(refused(libc::EACCES, ptrace | reads), None);
        }
        for code in [libc::ENOENT, libc::ESRCH, libc::EINVAL, libc::EIO] {
            assert_eq!(refused(code, CapabilitySet::empty()), None, "{code}");
        }
        let own = io::Error::other("not a 64-bit ELF file");
        assert_eq!(missing_for_access(&own, CapabilitySet::empty()), None);
    }
}
