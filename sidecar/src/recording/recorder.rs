//! From the ring buffer to trace lines: one thread, no allocation per event, every event counted.

mod cost;
mod dictionary;
mod discovery_events;
mod disk;
mod first_launch;
mod graphs;
mod kernel_names;
mod kernels;
mod line;
mod overflow;
mod process_changes;
mod progress;
mod publisher;
mod rotation;
mod targets;
mod unreturned;

use std::{
    collections::BTreeMap,
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
use cost::CostMeter;
use dictionary::Dictionary;
pub use discovery_events::DiscoveryEvent;
use disk::Disk;
use first_launch::FirstLaunch;
use kernel_names::{KernelNames, Reference};
use line::push_line;
use process_changes::Changes;
pub use process_changes::ProcessChange;
use processes::process::Processes;
use publisher::SegmentPublisher;
use rustix::event::{Timespec, epoll};
use sidecar_common::CallEvent;
use trace::{
    line::{CloseReason, CoverageCounts, FunctionCounts},
    segment_name::{Format, Run},
};
use tracing::error;

use crate::{
    probing::probes::{ControlMaps, Events, RecordBuffer},
    recording::{
        accounting::Accounting,
        event::{Call, Record},
    },
    reporting::state::State,
    shipping::{segment::Segment, spool::Spool},
};

/// How long an event may wait in the ring buffer while that is far from full.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Lines are written when this much has been collected, and at the end of each turn in which the
/// segment says that they are due.
const FLUSH_BYTES: usize = 256 << 10;

/// Events of one turn: between turns the thread looks whether to stop or to rotate.
const MAX_EVENTS: usize = 1 << 16;

/// What shapes the trace.
pub struct Options {
    pub run: Run,
    /// `CLOCK_MONOTONIC` at `ts` 0.
    pub start_ns: u64,
    pub interval: Duration,
    pub segment_size: u64,
    pub format: Format,
    pub directory_limit: u64,
    pub ring_bytes: u64,
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
    events: Events,
    wakeups: OwnedFd,
    kernel: ControlMaps,
    swept: Instant,
    processes: Arc<Mutex<Processes>>,
    discovery_events: Receiver<DiscoveryEvent>,
    changes: Changes,
    accounting: Accounting,
    kernel_names: KernelNames,
    first_launch: FirstLaunch,
    segment: Segment,
    segment_started: Instant,
    publisher: SegmentPublisher,
    dictionary: Dictionary,
    coverage: CoverageCounts,
    disk: Disk,
    state: Arc<State>,
    published: Instant,
    cost: CostMeter,
    /// In segments before the open one.
    closed_bytes: u64,
}

impl Recorder {
    /// Probes record from now on.
    pub fn new(
        options: Options,
        spool: Spool,
        events: Events,
        kernel: ControlMaps,
        processes: Arc<Mutex<Processes>>,
        discovery_events: Receiver<DiscoveryEvent>,
        state: Arc<State>,
    ) -> Result<Self> {
        let (directory, run) = (spool.directory().to_owned(), options.run.clone());
        let segment = Segment::create(directory, run, 1, options.format).with_context(|| {
            format!("cannot create a segment in {}", spool.directory().display())
        })?;
        let wakeups = watch(&events)?;
        let publisher = SegmentPublisher::new(spool.transcoder().cloned());
        let mut recorder = Self {
            options,
            spool,
            events,
            wakeups,
            kernel,
            swept: Instant::now(),
            processes,
            discovery_events,
            changes: Changes::default(),
            accounting: Accounting::default(),
            kernel_names: KernelNames::default(),
            first_launch: FirstLaunch::default(),
            segment,
            segment_started: Instant::now(),
            publisher,
            dictionary: Dictionary::default(),
            coverage: CoverageCounts::default(),
            disk: Disk::default(),
            state,
            published: Instant::now(),
            cost: CostMeter::default(),
            closed_bytes: 0,
        };
        recorder.open_segment();
        recorder.check_limit();
        recorder.kernel.record()?;
        Ok(recorder)
    }

    /// Records until `stop` is set; then stops the probes, drains, and closes the last segment.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Totals> {
        let mut is_drained = true;
        while !stop.load(Ordering::Acquire) {
            if is_drained {
                self.wait()?;
            }
            is_drained = self.turn();
            self.sweep_if_due();
            self.rotate_if_due();
            self.publish_if_due();
        }
        self.kernel.stop()?;
        let counters = self.settle()?;
        let earlier = self.publisher.publish();
        let closed = self.close_segment(CloseReason::Shutdown, &counters);
        self.publish(&counters, self.segment.sequence());
        let counts = self.accounting.counts(&counters);
        let sum = |part: fn(&FunctionCounts) -> u64| counts.values().map(part).sum();
        let totals = Totals {
            lines: sum(|counts| counts.run_lines),
            dropped: sum(|counts| counts.run_dropped),
            segments: self.segment.sequence(),
        };
        closed
            .with_context(|| format!("the closing line is lost, with these counts: {totals:?}"))?;
        self.publisher.give(&self.segment).with_context(|| {
            format!("cannot rename the last segment, with these counts: {totals:?}")
        })?;
        earlier.map(|()| totals)
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

    /// Discovery events, then calls, then what the former say of processes: the last events of a process
    /// are booked while it is still known. False if events are left.
    fn turn(&mut self) -> bool {
        self.take_discovery_events();
        let mut is_drained = false;
        let mut buffer: RecordBuffer = [0; size_of::<RecordBuffer>()];
        for _ in 0..MAX_EVENTS {
            let Some(length) = self.events.take(&mut buffer) else {
                is_drained = true;
                break;
            };
            self.cost.took(length);
            self.changes.took(length);
            self.receive(&buffer[..length]);
        }
        if is_drained {
            self.cost.drained();
        }
        while let Some((pid, change)) = self.changes.next_due(is_drained, self.options.ring_bytes) {
            self.apply(pid, change);
        }
        if self.segment.is_due() {
            self.write_out();
        }
        is_drained
    }

    fn receive(&mut self, bytes: &[u8]) {
        let Some(record) = Record::parse(bytes) else {
            error!("skipped an event that this sidecar does not understand: {bytes:?}");
            return;
        };
        let (Record::Entry(event) | Record::Call(Call { event, .. }) | Record::Name { event, .. }) =
            record;
        // The number was sent before the probe, but maybe after this turn took its discovery events.
        if event.function >= self.accounting.functions() {
            self.take_discovery_events();
        }
        match record {
            Record::Entry(event) => self.book(&event, None),
            Record::Call(call) => self.book(&event, Some(&call)),
            Record::Name { text, .. } => self.kernel_names.give(&event, text),
        }
    }

    /// Counts one call, of which maybe only the entry is known.
    fn book(&mut self, event: &CallEvent, call: Option<&Call<'_>>) {
        let is_target = match self.dictionary.is_target(event.tgid, event.start_ns) {
            Some(is_target) => is_target,
            None => self.examine(event.tgid),
        };
        if !is_target {
            self.accounting.ignored(event.function);
            return;
        }
        let reference = match (call, self.accounting.function(event.function)) {
            (Some(call), Some((text, capture))) => {
                self.kernel_names.learn(call, text, |place| call.word(place, capture))
            }
            _ => Reference::default(),
        };
        if self.first_launch.is_first(event, call) {
            self.launched(event.tgid);
        }
        if !self.disk.is_writable() {
            self.accounting.unwritten(event.function);
            return;
        }
        let since_start = event.start_ns.saturating_sub(self.options.start_ns);
        if self.dictionary.is_due(event.tgid) {
            let known = self.known(event.tgid);
            self.dictionary.process(self.segment.buffer(), since_start, event.tgid, known);
        }
        self.kernel_names.announce(self.segment.buffer(), since_start, event.tgid, reference);
        let out = self.segment.buffer();
        push_line(out, &mut self.accounting, since_start, event, call, reference.kernel);
        if self.segment.buffered() >= FLUSH_BYTES {
            self.write_out();
        }
    }
}

/// Edge-triggered: the ring buffer is readable as soon as it holds one event, but only the
/// programs' wake-up at the threshold makes an edge.
fn watch(events: &Events) -> Result<OwnedFd> {
    let wakeups = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&wakeups, events, epoll::EventData::new_u64(0), flags)
        .context("cannot watch the ring buffer")?;
    Ok(wakeups)
}
