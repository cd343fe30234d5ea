//! What the kernel tells of processes while it happens: fork, exec, a mapped file, exit.
//!
//! One perf software event per CPU, which counts nothing but carries these records. Pids are those
//! of the sidecar's pid namespace; tasks outside it are left out. Needs neither tracefs nor an
//! eBPF program, only CAP_PERFMON or CAP_SYS_ADMIN.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use perf_event::{Builder, Clock, SampleFlag, Sampler, data::Record, events::Software};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sidecar_common::foreign;

use crate::preflight::reason_to_refuse_perf_events;

/// Bytes of the ring of each CPU; they hold over a thousand records.
const RING_BYTES: usize = 1 << 17;

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
        /// As the process sees it.
        path: PathBuf,
    },
    Exited {
        pid: u32,
        at_ns: u64,
    },
    /// Records were lost: look at everything again.
    Lost,
}

pub struct Sideband {
    samplers: Vec<Sampler>,
}

impl Sideband {
    pub fn open() -> Result<Self> {
        let cpus = online_cpus()?;
        let samplers = cpus
            .into_iter()
            .map(|cpu| {
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
                    .and_then(|counter| counter.sampled(RING_BYTES))
                    .with_context(|| match reason_to_refuse_perf_events() {
                        Some(reason) => format!("cannot watch processes of CPU {cpu} ({reason})"),
                        None => format!("cannot watch processes of CPU {cpu}"),
                    })
            })
            .collect::<Result<_>>()?;
        Ok(Self { samplers })
    }

    /// Waits for records, at most `timeout`, and appends what they tell to `events`.
    pub fn wait(&mut self, timeout: Duration, events: &mut Vec<ProcessEvent>) -> Result<()> {
        let mut polled: Vec<PollFd<'_>> = self
            .samplers
            .iter()
            .map(|sampler| PollFd::from_borrowed_fd(descriptor_of(sampler), PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(timeout).context("the timeout is too long")?;
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for process events"),
        }
        let mut found = Vec::new();
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                found.extend(interpret(&record));
            }
        }
        // A process may have been forked on one CPU and have gone on on another.
        found.sort_by_key(|(at_ns, _)| *at_ns);
        events.extend(found.into_iter().map(|(_, event)| event));
        Ok(())
    }
}

fn descriptor_of(sampler: &Sampler) -> BorrowedFd<'_> {
    // SAFETY: the sampler owns the descriptor, and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(sampler.as_raw_fd()) }
}

/// What a record tells, and when it was written.
fn interpret(raw: &perf_event::Record<'_>) -> Option<(u64, ProcessEvent)> {
    // A record of a kind that the library does not know is of no interest here.
    told_by(raw.parse_record().ok()?, raw.misc(), &raw.to_contiguous())
}

/// What a record tells, and when it was written; `misc` is of its header, `body` all that follows that.
pub fn told_by(record: Record<'_>, misc: u16, body: &[u8]) -> Option<(u64, ProcessEvent)> {
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
    event_of(record, is_replaced, at_ns).map(|event| (at_ns, event))
}

/// What `sample_id_all` puts behind a record, which is the time alone.
fn time_behind(body: &[u8]) -> Option<u64> {
    body.last_chunk().copied().map(u64::from_ne_bytes)
}

fn event_of(record: Record<'_>, is_replaced: bool, at_ns: u64) -> Option<ProcessEvent> {
    match record {
        // A new thread, not a process, has its own process as parent.
        Record::Fork(fork) if fork.pid != fork.ppid && is_pid(fork.pid) => {
            Some(ProcessEvent::Forked { pid: fork.pid, parent: fork.ppid, at_ns })
        }
        Record::Comm(comm) if comm.pid == comm.tid && is_pid(comm.pid) => {
            let name = String::from_utf8_lossy(until_nul(&comm.comm)).into_owned();
            Some(ProcessEvent::Executed { pid: comm.pid, comm: name, is_replaced, at_ns })
        }
        Record::Mmap2(mapping) if is_pid(mapping.pid) && mapping.filename.starts_with(b"/") => {
            let path = PathBuf::from(OsStr::from_bytes(until_nul(&mapping.filename)));
            Some(ProcessEvent::Mapped { pid: mapping.pid, path })
        }
        Record::Exit(exit) if exit.pid == exit.tid && is_pid(exit.pid) => {
            Some(ProcessEvent::Exited { pid: exit.pid, at_ns })
        }
        Record::Lost(_) => Some(ProcessEvent::Lost),
        _ => None,
    }
}

/// The kernel writes 0 for a task outside the namespace and -1 for one that is already dead.
fn is_pid(pid: u32) -> bool {
    (1..foreign::MOST_PIDS).contains(&pid)
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Numbers of the CPUs that run, from a list such as `0-3,8`.
fn online_cpus() -> Result<Vec<usize>> {
    const LIST: &str = "/sys/devices/system/cpu/online";
    let text = std::fs::read_to_string(LIST).with_context(|| format!("cannot read {LIST}"))?;
    parse_cpu_list(text.trim()).with_context(|| format!("cannot understand {LIST}: {text:?}"))
}

fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_ranges_and_single_numbers() {
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list(""), None);
    }
}
