//! From the ring buffer to trace lines: one thread, no allocation per event, every event booked.

use std::{
    collections::{BTreeMap, HashMap},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use rustix::event::{Timespec, epoll};
use sidecar_common::CallEvent;
use trace::{
    function::Api,
    line::{CloseReason, FORMAT_VERSION, Library, Meta, Process, SegmentClose, SegmentOpen},
    segment_name::Run,
    writer::{push_entry, push_meta},
};
use tracing::{debug, error, info, warn};

use crate::{
    books::Books,
    clock,
    probes::KernelSide,
    process::{Known, Processes, Verdict},
    segment::Segment,
    spool::Spool,
};

/// How long an event may wait in the ring buffer while that is far from full.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Lines are written when this much has been collected, and at the end of each turn.
const FLUSH_BYTES: usize = 256 << 10;

/// How long events may take to arrive after the probes were stopped.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// News from the thread that attaches probes.
#[derive(Debug)]
pub enum Notice {
    /// `number` is what events of this function carry; sent before its first probe.
    Function { number: u32, name: String, api: Api },
    /// Probes are in place.
    Library { attached_ns: u64, library: Library },
    /// A process executed something, took another title, or ended.
    Changed { pid: u32 },
}

/// What shapes the trace.
pub struct Options {
    pub run: Run,
    /// `CLOCK_MONOTONIC` at `ts` 0.
    pub start_ns: u64,
    pub interval: Duration,
    pub segment_size: u64,
    pub directory_limit: u64,
    pub kernel_release: String,
    /// Repeated in each opening line.
    pub settings: BTreeMap<String, String>,
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    pub lines: u64,
    pub dropped: u64,
    pub segments: u64,
}

pub struct Recorder {
    options: Options,
    spool: Spool,
    events: RingBuf<MapData>,
    wakeups: OwnedFd,
    kernel: KernelSide,
    processes: Arc<Mutex<Processes>>,
    notices: Receiver<Notice>,
    books: Books,
    segment: Segment,
    segment_started: Instant,
    /// By pid: the verdict, and whether the line of the process is known to be up to date.
    seen: HashMap<u32, Seen>,
    /// By pid: what this segment says of the process.
    announced: HashMap<u32, Process>,
    /// Repeated in each segment, so that each stands alone.
    libraries: Vec<(u64, Library)>,
    disk: Disk,
}

#[derive(Clone, Copy)]
struct Seen {
    is_target: bool,
    announced: bool,
}

/// Whether lines can be written. While they cannot, calls are booked as dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Writable,
    /// Closed segments fill TRACE_DIR_LIMIT.
    AtLimit,
    Failing,
}

impl Recorder {
    pub fn new(
        options: Options,
        spool: Spool,
        events: RingBuf<MapData>,
        kernel: KernelSide,
        processes: Arc<Mutex<Processes>>,
        notices: Receiver<Notice>,
    ) -> Result<Self> {
        let segment = create_segment(&spool, &options.run, 1)?;
        let wakeups = watch(&events)?;
        let mut recorder = Self {
            options,
            spool,
            events,
            wakeups,
            kernel,
            processes,
            notices,
            books: Books::default(),
            segment,
            segment_started: Instant::now(),
            seen: HashMap::new(),
            announced: HashMap::new(),
            libraries: Vec::new(),
            disk: Disk::Writable,
        };
        recorder.open_segment();
        recorder.kernel.record()?;
        Ok(recorder)
    }

    /// Records until `stop` is set; then stops the probes, drains, and closes the last segment.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Totals> {
        while !stop.load(Ordering::Acquire) {
            self.wait()?;
            self.turn()?;
            self.rotate_if_due()?;
        }
        self.kernel.stop()?;
        self.settle()?;
        self.close_segment(CloseReason::Shutdown)?;
        let counts = self.books.counts(&self.kernel.counters(self.books.functions())?);
        let segments = self.segment.sequence();
        let name = self.segment.publish().context("cannot rename the last segment")?;
        debug!(segment = %name, "closed the last segment");
        Ok(Totals {
            lines: counts.values().map(|counts| counts.run_lines).sum(),
            dropped: counts.values().map(|counts| counts.run_dropped).sum(),
            segments,
        })
    }

    /// Sleeps until the ring buffer is filled to its threshold, or for [`POLL_INTERVAL`].
    fn wait(&self) -> Result<()> {
        let timeout = Timespec::try_from(POLL_INTERVAL).expect("a short time");
        let mut woken = [MaybeUninit::uninit(); 1];
        match epoll::wait(&self.wakeups, &mut woken, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for events"),
        }
    }

    /// Notices, then events, then what the notices say of processes: the last events of a process
    /// are booked while it is still known.
    fn turn(&mut self) -> Result<()> {
        let mut changed = Vec::new();
        self.take_notices(&mut changed);
        while let Some(event) = self.events.next().map(|bytes| CallEvent::from_bytes(&bytes)) {
            let Some(event) = event else {
                error!("skipped an event that is too short");
                continue;
            };
            // The number was sent before the probe, but maybe after this turn took its notices.
            if event.function >= self.books.functions() {
                self.take_notices(&mut changed);
            }
            self.book(&event)?;
        }
        for pid in changed {
            self.seen.remove(&pid);
            self.kernel.set_foreign(pid, false)?;
        }
        self.write_out()
    }

    fn write_out(&mut self) -> Result<()> {
        self.flush();
        if self.segment.bytes() >= self.options.segment_size {
            self.rotate(CloseReason::Size)?;
        }
        Ok(())
    }

    fn book(&mut self, event: &CallEvent) -> Result<()> {
        let seen = match self.seen.get(&event.tgid) {
            Some(&seen) => seen,
            None => self.examine(event.tgid)?,
        };
        if !seen.is_target {
            self.books.ignored(event.function);
            return Ok(());
        }
        if self.disk != Disk::Writable {
            self.books.unwritten(event.function);
            return Ok(());
        }
        let since_start = event.start_ns.saturating_sub(self.options.start_ns);
        if !seen.announced {
            self.announce(event.tgid, since_start);
        }
        let Some(text) = self.books.line(event.function) else {
            error!(function = event.function, "skipped an event of a function without a name");
            return Ok(());
        };
        push_entry(self.segment.buffer(), since_start, event.tgid, event.tid, text);
        if self.segment.buffered() >= FLUSH_BYTES {
            self.write_out()?;
        }
        Ok(())
    }

    /// A process without a verdict called CUDA.
    fn examine(&mut self, pid: u32) -> Result<Seen> {
        let known = self.known(pid);
        debug!(pid, ?known, "a process calls CUDA");
        let seen = Seen { is_target: known.verdict.is_target(), announced: false };
        self.kernel.set_foreign(pid, !seen.is_target)?;
        self.seen.insert(pid, seen);
        Ok(seen)
    }

    fn known(&self, pid: u32) -> Known {
        self.processes.lock().expect("no thread panics while it holds the lock").known(pid)
    }

    /// Writes the line of a process before its first call in this segment, and again when what
    /// the line says has changed.
    fn announce(&mut self, pid: u32, since_start: u64) {
        let known = self.known(pid);
        let Verdict::Target(matched_by) = known.verdict else { return };
        let process = Process {
            parent: known.parent,
            executable: known.identity.executable.map(|path| path.display().to_string()),
            command: known.identity.command,
            comm: known.identity.comm,
            matched_by: matched_by.as_str().to_owned(),
        };
        self.seen.insert(pid, Seen { is_target: true, announced: true });
        if self.announced.get(&pid) != Some(&process) {
            self.announced.insert(pid, process.clone());
            push_meta(self.segment.buffer(), since_start, pid, &Meta::Process(process));
        }
    }

    fn take_notices(&mut self, changed: &mut Vec<u32>) {
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Function { number, name, api } => {
                    self.books.add_function(number, name, api);
                }
                Notice::Library { attached_ns, library } => {
                    self.push_library(attached_ns, library.clone());
                    self.libraries.push((attached_ns, library));
                }
                Notice::Changed { pid } => changed.push(pid),
            }
        }
    }

    fn push_library(&mut self, attached_ns: u64, library: Library) {
        let since_start = attached_ns.saturating_sub(self.options.start_ns);
        let pid = std::process::id();
        push_meta(self.segment.buffer(), since_start, pid, &Meta::Library(library));
    }

    fn flush(&mut self) {
        if self.segment.buffered() == 0 {
            return;
        }
        match self.segment.flush() {
            Ok(()) => {
                self.books.buffer_written();
                if self.disk == Disk::Failing {
                    info!("trace lines can be written again");
                    self.disk = Disk::Writable;
                }
            }
            Err(cause) => {
                self.books.buffer_lost();
                self.forget_announcements();
                if self.disk != Disk::Failing {
                    error!(%cause, "cannot write trace lines: calls are dropped, and counted");
                    self.disk = Disk::Failing;
                }
            }
        }
    }

    fn rotate_if_due(&mut self) -> Result<()> {
        if self.disk == Disk::Failing {
            // Nothing is buffered while the disk fails, so a probe tells when it is well again.
            self.write_library_lines();
            self.flush();
        }
        if self.segment_started.elapsed() < self.options.interval {
            return Ok(());
        }
        self.check_limit()?;
        if self.books.segment_lines() == 0 {
            // An empty segment would tell nothing; this one goes on.
            self.segment_started = Instant::now();
            return Ok(());
        }
        self.rotate(CloseReason::Interval)
    }

    /// Closes the segment and opens the next one. On a full disk the segment stays open, and the
    /// next turn tries again.
    fn rotate(&mut self, reason: CloseReason) -> Result<()> {
        if self.close_segment(reason).is_err() {
            return Ok(());
        }
        let next = create_segment(&self.spool, &self.options.run, self.segment.sequence() + 1)?;
        let closed = std::mem::replace(&mut self.segment, next);
        let name = closed.publish().context("cannot rename a closed segment")?;
        debug!(segment = %name, "closed a segment");
        self.check_limit()?;
        self.open_segment();
        Ok(())
    }

    fn check_limit(&mut self) -> Result<()> {
        let waiting = self.spool.waiting_bytes()?;
        let limit = self.options.directory_limit;
        match self.disk {
            Disk::Writable if waiting >= limit => {
                warn!(
                    waiting,
                    limit,
                    "TRACE_DIR_LIMIT is reached: calls are dropped, and counted, \
                                       until segments are uploaded"
                );
                self.disk = Disk::AtLimit;
            }
            Disk::AtLimit if waiting < limit => {
                info!(waiting, limit, "recording goes on");
                self.disk = Disk::Writable;
            }
            _ => {}
        }
        Ok(())
    }

    fn open_segment(&mut self) {
        self.segment_started = Instant::now();
        self.books.segment_closed();
        self.forget_announcements();
        let now = clock::read(self.options.start_ns);
        let open = SegmentOpen {
            format_version: FORMAT_VERSION,
            sequence: self.segment.sequence(),
            host: self.options.run.host.clone(),
            kernel: self.options.kernel_release.clone(),
            sidecar_version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: now,
            options: self.options.settings.clone(),
        };
        let since_start = now.monotonic_ns - now.start_monotonic_ns;
        let pid = std::process::id();
        push_meta(self.segment.buffer(), since_start, pid, &Meta::SegmentOpen(open));
        self.write_library_lines();
        self.flush();
    }

    fn write_library_lines(&mut self) {
        for (attached_ns, library) in self.libraries.clone() {
            self.push_library(attached_ns, library);
        }
    }

    fn forget_announcements(&mut self) {
        self.announced.clear();
        for seen in self.seen.values_mut() {
            seen.announced = false;
        }
    }

    /// Writes the closing line.
    fn close_segment(&mut self, reason: CloseReason) -> Result<()> {
        self.flush();
        let kernel = self.kernel.counters(self.books.functions())?;
        let now = clock::read(self.options.start_ns);
        let close = SegmentClose {
            sequence: self.segment.sequence(),
            reason,
            r#final: reason == CloseReason::Shutdown,
            calls: self.books.segment_lines(),
            clock: now,
            functions: self.books.counts(&kernel),
        };
        let since_start = now.monotonic_ns - now.start_monotonic_ns;
        let meta = Meta::SegmentClose(close);
        push_meta(self.segment.buffer(), since_start, std::process::id(), &meta);
        self.segment.flush().context("cannot write the closing line")
    }

    /// After the probes were stopped: takes events until every hit is accounted for.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            self.turn()?;
            let in_flight = self.books.in_flight(&self.kernel.counters(self.books.functions())?);
            if in_flight == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                error!(in_flight, "some calls were counted but never arrived");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn create_segment(spool: &Spool, run: &Run, sequence: u64) -> Result<Segment> {
    Segment::create(spool.directory().to_owned(), run.clone(), sequence)
        .with_context(|| format!("cannot create a segment in {}", spool.directory().display()))
}

/// Edge-triggered: the ring buffer is readable as soon as it holds one event, but only the
/// programs' wake-up at the threshold makes an edge.
fn watch(events: &RingBuf<MapData>) -> Result<OwnedFd> {
    let wakeups = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    // SAFETY: the recorder keeps `events`, which owns the descriptor, as long as the epoll.
    let descriptor =
        unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(events)) };
    epoll::add(&wakeups, descriptor, epoll::EventData::new_u64(0), flags)
        .context("cannot watch the ring buffer")?;
    Ok(wakeups)
}
