//! Calls as slices of their threads.
//!
//! Each thread has a sequence of packets of its own: names are sent once in it, its track is the one
//! of every event that names none, and a timestamp is the time since the one before. So events must
//! follow each other by time, and a call stands before those that it made; in the trace it stands
//! behind them. They wait until the outermost call has come.

use std::{cmp::Reverse, collections::HashMap};

use cuda::function::Class;
use trace::call_view::CallView;

use super::{
    arguments::{ARGUMENTS, Argument, argument, arguments, number},
    names::KernelNames,
    perfetto::{
        Kind, NEEDS_STATE, PACKET, STATE_CLEARED, annotation, clock, clock_snapshot, defaults,
        describe, event, flow, interned, packet, track,
    },
    protobuf::{message, text, uint},
};
use crate::{
    context::{Context, function::Hasher},
    question::Call,
};

/// Threads whose sequence is open; a thread that comes again begins a new one.
const MAX_THREADS: usize = 4096;

/// Of calls that wait for the one that made them, in all threads.
const MAX_WAITING_BYTES: usize = 32 << 20;

const CATEGORIES: [&str; 3] = ["cuda_api", "cuda_runtime", "other"];

#[derive(Default)]
pub(super) struct Calls {
    threads: HashMap<(u32, Option<u32>), Thread, Hasher>,
    sequences: u32,
    waiting_bytes: usize,
    pub(super) kernels: KernelNames,
    pub(super) counts: Counts,
}

/// What has been written.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) slices: u64,
    /// Of calls whose end, or place among others, is not known.
    pub(super) instants: u64,
}

struct Thread {
    sequence: u64,
    /// Of the latest event that was written as part of the sequence's time.
    latest: Option<u64>,
    /// What the sequence has been told the name of.
    functions: Numbers,
    strings: Numbers,
    waiting: Vec<Waiting>,
    /// Events of those that wait, without type and time.
    bytes: Vec<u8>,
    /// Depth and end of slices that have begun; empty between two outermost calls.
    open: Vec<(u16, u64)>,
}

struct Waiting {
    begin: u64,
    end: u64,
    depth: u16,
    class: Class,
    flows: Flows,
    from: usize,
    to: usize,
}

/// What leads on from a call.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Flows {
    /// Over the driver's part of it.
    pub(super) to_step: Option<u64>,
    pub(super) to_gpu: Option<u64>,
}

impl Flows {
    fn write(self, out: &mut Vec<u8>) {
        for id in [self.to_step, self.to_gpu].into_iter().flatten() {
            flow(out, id);
        }
    }
}

impl Calls {
    /// `begin` and `end` are times of the trace, `None` where the call's end is not known.
    pub(super) fn call(
        &mut self,
        out: &mut Vec<u8>,
        call: &Call<'_>,
        (begin, end): (u64, Option<u64>),
        flows: Flows,
        context: &Context,
    ) {
        let line = call.line;
        let key = (line.pid, line.tid);
        if !self.threads.contains_key(&key) {
            if self.threads.len() >= MAX_THREADS {
                self.settle(out);
                self.threads.clear();
            }
            let number = self.sequences;
            self.sequences += 1;
            self.threads.insert(key, Thread::begin(out, number, call));
        }
        let thread = self.threads.get_mut(&key).expect("it is there");
        let from = thread.bytes.len();
        thread.write_call(out, call, &mut self.kernels, context);
        let to = thread.bytes.len();
        let Some(end) = end else {
            let place = (begin, None, "only its beginning is known");
            let Thread { sequence, ref bytes, .. } = *thread;
            instant(out, sequence, &bytes[from..to], place, flows);
            thread.bytes.truncate(from);
            self.counts.instants += 1;
            return;
        };
        let (depth, class) = (line.depth.unwrap_or(0), context.functions.get(call.function).class);
        if flows.to_step.is_some() {
            // The driver's part of the runtime's call.
            let is_inner = |inner: &&mut Waiting| inner.depth == depth + 1 && inner.class == class;
            if let Some(inner) = thread.waiting.iter_mut().rev().find(is_inner)
                && inner.begin >= begin
            {
                inner.flows.to_step = flows.to_step;
            }
        }
        thread.waiting.push(Waiting { begin, end, depth, class, flows, from, to });
        if depth == 0 {
            self.waiting_bytes -= from;
            thread.settle(out, &mut self.counts);
            return;
        }
        self.waiting_bytes += to - from;
        if self.waiting_bytes > MAX_WAITING_BYTES {
            self.settle(out);
        }
    }

    /// Writes what still waits.
    pub(super) fn settle(&mut self, out: &mut Vec<u8>) {
        for thread in self.threads.values_mut() {
            thread.settle(out, &mut self.counts);
        }
        self.waiting_bytes = 0;
    }
}

impl Thread {
    fn begin(out: &mut Vec<u8>, number: u32, call: &Call<'_>) -> Self {
        let sequence = u64::from(number) + 2;
        let uuid = Kind::Thread.uuid(number, 0);
        message(out, PACKET, |out| {
            uint(out, packet::SEQUENCE_ID, sequence);
            uint(out, packet::SEQUENCE_FLAGS, STATE_CLEARED);
            uint(out, packet::FIRST_ON_SEQUENCE, 1);
            message(out, packet::DEFAULTS, |out| {
                uint(out, defaults::TIMESTAMP_CLOCK_ID, clock::SINCE_LAST);
                message(out, defaults::TRACK_EVENT, |out| uint(out, defaults::TRACK_UUID, uuid));
            });
            message(out, packet::INTERNED_DATA, |out| {
                for (names, field) in [
                    (&CATEGORIES[..], interned::CATEGORIES),
                    (ARGUMENTS, interned::ANNOTATION_NAMES),
                ] {
                    for (iid, name) in (1..).zip(names) {
                        name_of(out, field, iid, name);
                    }
                }
            });
        });
        let CallView { pid, tid, .. } = *call.line;
        describe(out, sequence, |out| {
            uint(out, track::UUID, uuid);
            if let (Some(tid), true) = (tid, is_shown(pid)) {
                message(out, track::THREAD, |out| {
                    uint(out, track::THREAD_PID, pid.into());
                    uint(out, track::THREAD_TID, tid.into());
                });
            } else {
                uint(out, track::PARENT_UUID, Kind::Process.uuid(call.process.0, 0));
                text(out, track::NAME, "calls of a thread that is not known");
            }
        });
        Self {
            sequence,
            latest: None,
            functions: Numbers::default(),
            strings: Numbers::default(),
            waiting: Vec::new(),
            bytes: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Adds the event to those that wait, and tells the names in it first.
    fn write_call(
        &mut self,
        out: &mut Vec<u8>,
        call: &Call<'_>,
        kernels: &mut KernelNames,
        context: &Context,
    ) {
        let line = call.line;
        let function = call.function.0 + 1;
        if self.functions.insert(function) {
            let name = &context.functions.get(call.function).name;
            self.tell(out, interned::EVENT_NAMES, function, name);
        }
        let is_launch = matches!(context.functions.get(call.function).class, Class::Launch);
        let kernel = line.kernel.map(|id| kernels.of(id, is_launch, context));
        if let Some(Some(iid)) = kernel
            && self.strings.insert(iid)
        {
            self.tell(out, interned::STRINGS, iid, kernels.text(iid));
        }
        let out = &mut self.bytes;
        let category = CATEGORIES.iter().position(|name| *name == line.api).unwrap_or(2) as u64 + 1;
        uint(out, event::CATEGORY_IIDS, category);
        uint(out, event::NAME_IID, function.into());
        match (line.kernel, kernel) {
            (_, Some(Some(iid))) => {
                argument(out, Argument::Kernel, |out| {
                    uint(out, annotation::STRING_IID, iid.into());
                });
            }
            (Some(id), _) => number(out, Argument::KernelId, id.into()),
            (None, _) => {}
        }
        arguments(out, line, context);
    }

    fn tell(&self, out: &mut Vec<u8>, field: u32, iid: u32, name: &str) {
        message(out, PACKET, |out| {
            uint(out, packet::SEQUENCE_ID, self.sequence);
            uint(out, packet::SEQUENCE_FLAGS, NEEDS_STATE);
            message(out, packet::INTERNED_DATA, |out| name_of(out, field, iid.into(), name));
        });
    }

    /// Writes all calls that wait: an outermost one and those inside it, or what is left of them.
    fn settle(&mut self, out: &mut Vec<u8>, counts: &mut Counts) {
        let mut waiting = std::mem::take(&mut self.waiting);
        if waiting.len() > 1 {
            waiting.sort_by_key(|call| (call.begin, Reverse(call.end), call.depth));
        }
        for call in waiting.drain(..) {
            let has_place = self.close_before(out, &call);
            if has_place && self.latest.is_none_or(|latest| latest <= call.begin) {
                self.begin_slice(out, &call);
                self.open.push((call.depth, call.end));
                counts.slices += 1;
            } else {
                let bytes = &self.bytes[call.from..call.to];
                let place = (call.begin, Some(call.end), "its line stands in a wrong place");
                instant(out, self.sequence, bytes, place, call.flows);
                counts.instants += 1;
            }
        }
        while let Some((_, end)) = self.open.pop() {
            self.end_slice(out, end);
        }
        self.waiting = waiting;
        self.bytes.clear();
    }

    /// Ends the slices that the call is not part of; false if it overlaps one without being part of it.
    fn close_before(&mut self, out: &mut Vec<u8>, call: &Waiting) -> bool {
        while let Some(&(depth, end)) = self.open.last() {
            if depth < call.depth && call.end <= end {
                return true;
            }
            if depth < call.depth && end > call.begin {
                return false;
            }
            self.open.pop();
            self.end_slice(out, end);
        }
        true
    }

    fn begin_slice(&mut self, out: &mut Vec<u8>, call: &Waiting) {
        if self.latest.is_none() {
            let same = [(clock::OF_TRACE, call.begin), (clock::SINCE_LAST, call.begin)];
            clock_snapshot(out, self.sequence, same, true);
        }
        let since = self.since_latest(call.begin);
        let bytes = &self.bytes[call.from..call.to];
        self.event(out, since, |out| {
            uint(out, event::TYPE, event::SLICE_BEGIN);
            out.extend_from_slice(bytes);
            call.flows.write(out);
        });
    }

    fn end_slice(&mut self, out: &mut Vec<u8>, end: u64) {
        let since = self.since_latest(end);
        self.event(out, since, |out| uint(out, event::TYPE, event::SLICE_END));
    }

    fn since_latest(&mut self, timestamp: u64) -> u64 {
        let latest = self.latest.unwrap_or(timestamp);
        self.latest = Some(latest.max(timestamp));
        timestamp.saturating_sub(latest)
    }

    fn event(&self, out: &mut Vec<u8>, since: u64, write: impl FnOnce(&mut Vec<u8>)) {
        message(out, PACKET, |out| {
            uint(out, packet::TIMESTAMP, since);
            uint(out, packet::SEQUENCE_ID, self.sequence);
            uint(out, packet::SEQUENCE_FLAGS, NEEDS_STATE);
            message(out, packet::TRACK_EVENT, write);
        });
    }
}

/// Outside of the sequence's time: it may lie anywhere.
fn instant(
    out: &mut Vec<u8>,
    sequence: u64,
    bytes: &[u8],
    (begin, end, why): (u64, Option<u64>, &str),
    flows: Flows,
) {
    message(out, PACKET, |out| {
        uint(out, packet::TIMESTAMP, begin);
        uint(out, packet::TIMESTAMP_CLOCK_ID, clock::OF_TRACE);
        uint(out, packet::SEQUENCE_ID, sequence);
        uint(out, packet::SEQUENCE_FLAGS, NEEDS_STATE);
        message(out, packet::TRACK_EVENT, |out| {
            uint(out, event::TYPE, event::INSTANT);
            out.extend_from_slice(bytes);
            if let Some(end) = end {
                number(out, Argument::DurNs, end - begin);
            }
            argument(out, Argument::NoSlice, |out| text(out, annotation::STRING, why));
            flows.write(out);
        });
    });
}

fn name_of(out: &mut Vec<u8>, field: u32, iid: u64, name: &str) {
    message(out, field, |out| {
        uint(out, interned::IID, iid);
        text(out, interned::NAME, name);
    });
}

/// Perfetto's numbers of processes are signed.
pub(super) fn is_shown(pid: u32) -> bool {
    i32::try_from(pid).is_ok()
}

/// A set of small numbers.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    /// False if it was there.
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}
