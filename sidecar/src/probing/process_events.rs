//! What the kernel tells of processes while it happens: fork, exec, a mapped file, exit.
//!
//! One perf software event per CPU, which counts nothing but carries these records. Pids are those
//! of the sidecar's pid namespace; tasks outside it are left out. Needs neither tracefs nor an
//! eBPF program, only CAP_PERFMON or CAP_SYS_ADMIN.

mod cpus;
mod exits;

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use cpus::{Cpu, Cpus};
use exits::Leaderless;
use perf_event::{Builder, Clock, SampleFlag, Sampler, data::Record, events::Software};
use processes::process::MappedFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sidecar_common::foreign;
use tracing::{debug, info, warn};

use crate::probing::preflight::{reason_to_refuse_locked_memory, reason_to_refuse_perf_events};

/// Bytes of the ring of each CPU; they hold over a thousand records.
const MAX_RING_BYTES: usize = 1 << 17;

/// What is tried last where less memory may be locked. A smaller ring loses records in a burst,
/// which costs a look at every process but no call.
const MIN_RING_BYTES: usize = 1 << 13;

/// `PERF_RECORD_MISC_COMM_EXEC`: the name is that of a program that was executed.
const COMM_EXEC: u16 = 1 << 13;

/// Something happened to a process. Times are `CLOCK_MONOTONIC`, as those of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    Forked {
        pid: u32,
        parent: u32,
        at_ns: u64,
    },
    /// It executed a program; or, unless `is_replaced`, it took another title and is what it was.
    Executed {
        pid: u32,
        comm: String,
        is_replaced: bool,
        at_ns: u64,
    },
    /// A file was mapped executable.
    Mapped {
        pid: u32,
        file: MappedFile,
        /// As the process sees it.
        path: PathBuf,
        at_ns: u64,
    },
    /// Its last thread ended.
    Exited {
        pid: u32,
        at_ns: u64,
    },
    /// Records were lost: look at everything again.
    Lost,
}

impl ProcessEvent {
    /// The process that it happened to.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Forked { pid, .. }
            | Self::Executed { pid, .. }
            | Self::Mapped { pid, .. }
            | Self::Exited { pid, .. } => Some(*pid),
            Self::Lost => None,
        }
    }
}

pub struct ProcessEvents {
    watched: Vec<Watched>,
    cpus: Cpus,
    ring_bytes: usize,
    leaderless: Leaderless,
}

/// A CPU whose records are read.
struct Watched {
    cpu: Cpu,
    sampler: Sampler,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Event(ProcessEvent),
    /// A thread ended: the first one of its process, or another.
    ThreadEnded {
        pid: u32,
        is_first: bool,
        at_ns: u64,
    },
}

impl ProcessEvents {
    pub fn open() -> Result<Self> {
        let mut process_events = Self {
            watched: Vec::new(),
            cpus: Cpus::of_this_machine(),
            ring_bytes: MAX_RING_BYTES,
            leaderless: Leaderless::default(),
        };
        for cpu in process_events.cpus.look()? {
            process_events.watch(cpu)?;
        }
        Ok(process_events)
    }

    /// Waits for records, at most `timeout`, and appends what they tell to `events`.
    pub fn wait(&mut self, timeout: Duration, events: &mut Vec<ProcessEvent>) -> Result<()> {
        let mut polled: Vec<PollFd<'_>> = self
            .watched
            .iter()
            .map(|watched| PollFd::from_borrowed_fd(descriptor_of(&watched.sampler), PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(timeout).context("the timeout is too long")?;
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for process events"),
        }
        let mut found = Vec::new();
        for Watched { sampler, .. } in &mut self.watched {
            while let Some(record) = sampler.next_record() {
                found.extend(interpret(&record));
            }
        }
        // A process may have been forked on one CPU and have gone on on another.
        found.sort_by_key(|(at_ns, _)| *at_ns);
        for (_, told) in found {
            self.leaderless.follow(told, events);
        }
        self.leaderless.look_if_due(events);
        if self.cpus.is_due() && self.follow_cpus() {
            events.push(ProcessEvent::Lost);
        }
        Ok(())
    }

    /// Watches CPUs that have come online, and leaves those that are gone: what was opened for a
    /// CPU is dead for ever once that has been offline. True if something may have been missed.
    fn follow_cpus(&mut self) -> bool {
        let online = match self.cpus.look() {
            Ok(online) => online,
            // Those that are watched still are; the next look may succeed.
            Err(error) => {
                debug!("cannot tell which CPUs are online: {error:#}");
                return false;
            }
        };
        let before = self.watched.len();
        // Its last records may be unread.
        self.watched.retain(|watched| online.contains(&watched.cpu));
        let mut has_missed = self.watched.len() < before;
        let is_watched = |cpu: &Cpu| self.watched.iter().any(|watched| watched.cpu == *cpu);
        let new: Vec<Cpu> = online.iter().filter(|cpu| !is_watched(cpu)).copied().collect();
        for cpu in new {
            match self.watch(cpu) {
                Ok(()) => {
                    info!(cpu = cpu.number, "a CPU came online: its process events are watched");
                    has_missed = true;
                }
                // It may be offline again; or else the next look tries once more.
                Err(error) if self.cpus.is_new_failure(cpu) => warn!("{error:#}"),
                Err(_) => {}
            }
        }
        has_missed
    }

    fn watch(&mut self, cpu: Cpu) -> Result<()> {
        let number = cpu.number;
        let cannot = || format!("cannot watch processes of CPU {number}");
        let wanted_bytes = self.ring_bytes;
        let sampler = loop {
            let counter =
                open_counter(number).with_context(|| match reason_to_refuse_perf_events() {
                    Some(reason) => format!("{} ({reason})", cannot()),
                    None => cannot(),
                })?;
            match counter.sampled(self.ring_bytes) {
                Ok(sampler) => break sampler,
                Err(error) if is_locked_memory(&error) && self.ring_bytes > MIN_RING_BYTES => {
                    self.ring_bytes /= 2;
                }
                Err(error) if is_locked_memory(&error) => {
                    let reason = reason_to_refuse_locked_memory();
                    return Err(anyhow!(error).context(reason)).with_context(cannot);
                }
                Err(error) => return Err(error).with_context(cannot),
            }
        };
        if self.ring_bytes < wanted_bytes {
            warn!(
                cpu = number,
                ring_bytes = self.ring_bytes,
                wanted_bytes,
                "process events have a smaller buffer, which may overflow: {}",
                reason_to_refuse_locked_memory()
            );
        }
        self.watched.push(Watched { cpu, sampler });
        Ok(())
    }
}

fn open_counter(cpu: usize) -> io::Result<perf_event::Counter> {
    Builder::new(Software::DUMMY)
        .any_pid()
        .one_cpu(cpu)
        .include_kernel()
        .mmap(true)
        .mmap2(true)
        .comm(true)
        .comm_exec(true)
        .task(true)
        // Every record that is no sample ends with its time.
        .sample_id_all(true)
        .sample(SampleFlag::TIME)
        .clockid(Clock::MONOTONIC)
        .wakeup_watermark(1)
        .enabled(true)
        .build()
}

/// The kernel answers so when more memory would be locked than the user, or the process, may lock.
fn is_locked_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM | libc::EAGAIN))
}

fn descriptor_of(sampler: &Sampler) -> BorrowedFd<'_> {
    // SAFETY: the sampler owns the descriptor, and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(sampler.as_raw_fd()) }
}

/// What a record tells, and when it was written.
fn interpret(raw: &perf_event::Record<'_>) -> Option<(u64, Told)> {
    // A record of a kind that the library does not know is of no interest here.
    told_with_time(raw.parse_record().ok()?, raw.misc(), &raw.to_contiguous())
}

/// What a record tells of a process; `misc` is of its header, `body` all that follows that.
pub fn event_of(record: Record<'_>, misc: u16, body: &[u8]) -> Option<ProcessEvent> {
    match told_with_time(record, misc, body)? {
        (_, Told::Event(event)) => Some(event),
        _ => None,
    }
}

/// What a record tells, and when it was written.
fn told_with_time(record: Record<'_>, misc: u16, body: &[u8]) -> Option<(u64, Told)> {
    let is_replaced = misc & COMM_EXEC != 0;
    let at_ns = match record {
        Record::Fork(_)
        | Record::Comm(_)
        | Record::Mmap2(_)
        | Record::Exit(_)
        | Record::Lost(_) => time_behind(body)?,
        // Of no interest, and maybe without a time.
        _ => return None,
    };
    told_by(record, is_replaced, at_ns).map(|told| (at_ns, told))
}

/// What `sample_id_all` puts behind a record, which is the time alone.
fn time_behind(body: &[u8]) -> Option<u64> {
    body.last_chunk().copied().map(u64::from_ne_bytes)
}

fn told_by(record: Record<'_>, is_replaced: bool, at_ns: u64) -> Option<Told> {
    let event = match record {
        // A new thread, not a process, has its own process as parent.
        Record::Fork(fork) if fork.pid != fork.ppid && is_pid(fork.pid) => {
            ProcessEvent::Forked { pid: fork.pid, parent: fork.ppid, at_ns }
        }
        Record::Comm(comm) if comm.pid == comm.tid && is_pid(comm.pid) => {
            let name = String::from_utf8_lossy(until_nul(&comm.comm)).into_owned();
            ProcessEvent::Executed { pid: comm.pid, comm: name, is_replaced, at_ns }
        }
        Record::Mmap2(mapping) if is_pid(mapping.pid) => {
            let (major, minor) = (mapping.maj()?, mapping.min()?);
            // Memory that belongs to no file has no inode.
            let inode = mapping.ino().filter(|&inode| inode != 0)?;
            let file = MappedFile { device: rustix::fs::makedev(major, minor), inode };
            let path = until_nul(&mapping.filename);
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            let path = PathBuf::from(OsStr::from_bytes(path));
            ProcessEvent::Mapped { pid: mapping.pid, file, path, at_ns }
        }
        Record::Exit(exit) if is_pid(exit.pid) => {
            let is_first = exit.pid == exit.tid;
            return Some(Told::ThreadEnded { pid: exit.pid, is_first, at_ns });
        }
        Record::Lost(_) => ProcessEvent::Lost,
        _ => return None,
    };
    Some(Told::Event(event))
}

/// The kernel writes 0 for a task outside the namespace and -1 for one that is already dead.
fn is_pid(pid: u32) -> bool {
    (1..foreign::MAX_PIDS).contains(&pid)
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}
