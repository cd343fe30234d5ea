//! Least privilege while it runs: capabilities are given back as soon as nothing needs them.
//!
//! They belong to threads, and a new thread has those of the thread that starts it. So the main thread gives back
//! what only the start needs before it starts the tracing threads, and each thread of the runtime, which is where
//! the network is, keeps no more than the right to files.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    process::{DumpableBehavior, geteuid, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};
use tracing::{debug, warn};

/// Needed for as long as libraries are attached: the first two for each probe and for the events of a CPU that
/// comes back, the next two for files of other processes, by `/proc/PID/root` and `/proc/PID/map_files`, and the last
/// to hold back who overwrites an attached library that another user owns.
const TRACING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::LEASE);

/// Above this the patched kernels of distributions open perf events for SYS_ADMIN only.
const MAX_PARANOID_WITHOUT_SYS_ADMIN: i32 = 2;

/// Nobody without SYS_PTRACE may look into this process, whose environment holds the keys of the store, and nothing
/// that it executes gains a right. The second is inherited by threads, so call it before there are any.
pub fn seal_process() -> Result<()> {
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    // Otherwise a process of the same user could attach to a thread that has given its capabilities back.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot make the process undumpable")
}

/// Gives back what only the start needed. Threads that are started from now on have no more.
pub fn finish_start(attaches_by_perf_events: bool, trace_dir: &Path) {
    let held = match capabilities(None) {
        Ok(CapabilitySets { permitted, .. }) => permitted,
        Err(error) => return warn!(%error, "cannot read the capabilities, so none is given back"),
    };
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let paranoid = paranoid.ok().and_then(|level| level.trim().parse().ok());
    let kept = needed_for_tracing(held, attaches_by_perf_events, paranoid)
        | needed_for_files(held, trace_dir);
    give_back(held, kept);
}

/// Gives back all but the right to files: for threads that do not trace.
pub fn keep_files_only(trace_dir: &Path) {
    match capabilities(None) {
        Ok(CapabilitySets { permitted, .. }) => {
            give_back(permitted, needed_for_files(permitted, trace_dir));
        }
        Err(error) => warn!(%error, "cannot read the capabilities, so none is given back"),
    }
}

fn needed_for_tracing(
    held: CapabilitySet,
    attaches_by_perf_events: bool,
    paranoid: Option<i32>,
) -> CapabilitySet {
    // Where one of these is not held, SYS_ADMIN stands in for it.
    let split_from_sys_admin =
        CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::CHECKPOINT_RESTORE;
    let needs_sys_admin = attaches_by_perf_events
        || !held.contains(split_from_sys_admin)
        || paranoid.is_none_or(|level| level > MAX_PARANOID_WITHOUT_SYS_ADMIN);
    let sys_admin = if needs_sys_admin { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() };
    held & (TRACING | sys_admin)
}

/// Root reads the files of others: libraries in closed homes, the credentials of who called `sudo`. It writes to
/// them only where the directory of the traces is not its own.
fn needed_for_files(held: CapabilitySet, trace_dir: &Path) -> CapabilitySet {
    const WRITE_AND_SEARCH: u32 = 0o300;
    let is_ours = |metadata: fs::Metadata| {
        metadata.uid() == geteuid().as_raw()
            && metadata.mode() & WRITE_AND_SEARCH == WRITE_AND_SEARCH
    };
    // One that is not there yet will be made by this process.
    let is_writable = fs::metadata(trace_dir).map_or(true, is_ours);
    let write = if is_writable { CapabilitySet::empty() } else { CapabilitySet::DAC_OVERRIDE };
    held & (CapabilitySet::DAC_READ_SEARCH | write)
}

fn give_back(held: CapabilitySet, kept: CapabilitySet) {
    match keep_only(held, kept) {
        Ok(()) => debug!(given_back = ?held - kept, ?kept, "gave back capabilities"),
        Err(error) => warn!("cannot give back capabilities: {error:#}"),
    }
}

/// Leaves the calling thread `kept`, and nothing that it could hand on or regain.
fn keep_only(held: CapabilitySet, kept: CapabilitySet) -> Result<()> {
    clear_ambient_capability_set().context("cannot clear the ambient set")?;
    // Without this right the set is what the container was given, and no_new_privs keeps it out of reach.
    if held.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if kept.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Behind the last that this kernel knows.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error).context("cannot lessen the bounding set"),
            }
        }
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("cannot set the capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT_PROFILE: CapabilitySet = CapabilitySet::BPF
        .union(CapabilitySet::PERFMON)
        .union(CapabilitySet::SYS_PTRACE)
        .union(CapabilitySet::SYS_ADMIN);

    #[test]
    fn sys_admin_goes_where_nothing_but_the_start_needs_it() {
        let all = CapabilitySet::all();
        assert_eq!(needed_for_tracing(all, false, Some(2)), TRACING);
        let with_sys_admin = TRACING | CapabilitySet::SYS_ADMIN;
        assert_eq!(needed_for_tracing(all, true, Some(2)), with_sys_admin);
        assert_eq!(needed_for_tracing(all, false, Some(4)), with_sys_admin);
        assert_eq!(needed_for_tracing(all, false, None), with_sys_admin);
        // Files that are mapped, but have no path any more, are opened by nothing else here.
        assert_eq!(needed_for_tracing(DEFAULT_PROFILE, false, Some(2)), DEFAULT_PROFILE);
    }

    #[test]
    fn writing_to_files_of_others_is_kept_only_for_a_trace_directory_of_another() {
        let all = CapabilitySet::all();
        let directory = tempfile::tempdir().unwrap();
        let read = CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(needed_for_files(all, directory.path()), read);
        assert_eq!(needed_for_files(all, &directory.path().join("to come")), read);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o500);
        fs::set_permissions(directory.path(), mode).unwrap();
        assert_eq!(needed_for_files(all, directory.path()), read | CapabilitySet::DAC_OVERRIDE);
    }
}
