//! When the GPU was done with a step's output, proved from stream order alone.
//!
//! A stream does its work in order. So the copy of an output ends after its call began, and before
//! the return of any wait that covers it: for an event recorded behind it, for its stream, or for an
//! event of another stream that has waited for one of these. An event that is not ready puts the end
//! of the work before it later still, if there is nothing else that it can wait for. Order is claimed only where one call had returned before the
//! other began; calls of two threads that overlap prove nothing.
//!
//! Two things are taken for granted, as calls do not tell them: a process uses one device, and its
//! streams do not wait for the default stream by themselves, as PyTorch creates them.

use std::collections::{HashMap, VecDeque};

use crate::context::function::Hasher;

/// An event is not ready for a moment after the work before it has ended, and for a moment after it
/// was recorded. An event that is not ready proves nothing of times closer than this.
pub(super) const SIGNAL_DELAY_NS: i64 = 50_000;

/// A wait that is over sooner may have found the work done. Waits that came late took up to 36 us.
const MIN_WAIT_NS: i64 = 50_000;

/// From the end of a copy to the return of the driver's wait for it: 7.5 us at the median.
const WAKE_UP_NS: i64 = 7_500;

/// An estimate is no better than this.
const MAX_POLL_GAP_NS: i64 = 50_000;

/// Outputs that nothing has covered yet, of a rank that waits for none.
pub(in crate::questions) const MAX_OPEN_OUTPUTS: usize = 64;

/// Lines of other threads may come this many outputs later.
pub(super) const KEPT_BEHIND: usize = 2;

/// Waits of a stream for others that are told apart by their time.
const MAX_INHERITED: usize = 32;

const MAX_STREAMS: usize = 65_536;

const MAX_EVENTS: usize = 1 << 20;

/// A call: from its entry to its return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub entry: i64,
    pub ret: i64,
}

impl Interval {
    fn is_before(self, other: Self) -> bool {
        self.ret <= other.entry
    }
}

/// An output in the order of a process, from 0.
pub(super) type Sequence = u64;

/// A copy to the host with an event behind it.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub sequence: Sequence,
    stream: usize,
    copied: Interval,
    /// The work ended no sooner.
    pub low: i64,
    /// The work ended no later; `None` if no call has told.
    pub high: Option<i64>,
    pub estimate: Option<i64>,
    /// When a thread first knew that this very output was there.
    pub handed: Option<i64>,
    /// How long that thread had waited for it.
    pub waited_ns: i64,
    not_ready: Option<i64>,
    /// The estimate lies between two calls that are close to each other.
    pub is_polled: bool,
}

/// Outputs of a stream up to a number.
#[derive(Debug, Clone, Default, PartialEq)]
struct Coverage(Vec<(usize, Sequence)>);

impl Coverage {
    fn add(&mut self, stream: usize, sequence: Sequence) {
        match self.0.iter_mut().find(|(other, _)| *other == stream) {
            Some((_, upto)) => *upto = (*upto).max(sequence),
            None => self.0.push((stream, sequence)),
        }
    }

    fn merge(&mut self, other: &Self) {
        for &(stream, sequence) in &other.0 {
            self.add(stream, sequence);
        }
    }

    fn holds(&self, output: &Output) -> bool {
        self.0.iter().any(|&(stream, upto)| stream == output.stream && output.sequence <= upto)
    }
}

#[derive(Debug, Clone)]
struct Record {
    call: Interval,
    coverage: Coverage,
    /// The output that it was recorded for.
    output: Option<Sequence>,
    /// The output that is all that it can wait for: until then it is not ready.
    waits_for: Option<Sequence>,
}

#[derive(Debug, Default)]
struct Stream {
    /// What it has waited for, all together, since a time.
    inherited: VecDeque<(i64, Coverage)>,
    /// The latest output that has left, with the end of its call and its low bound.
    left: Option<(i64, i64)>,
    /// The latest output, as long as no other work has come behind it.
    behind: Option<Sequence>,
    user: User,
}

/// Who queues the work of a stream.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum User {
    #[default]
    Nobody,
    Thread(u32),
    /// In an order that is not always known.
    Several,
}

impl Stream {
    fn used_by(&mut self, tid: u32) {
        self.user = match self.user {
            User::Nobody => User::Thread(tid),
            User::Thread(user) if user == tid => User::Thread(tid),
            User::Thread(_) | User::Several => User::Several,
        };
    }
}

/// Streams, events and outputs of one process.
#[derive(Debug, Default)]
pub(super) struct StreamOrder {
    by_handle: HashMap<u64, usize, Hasher>,
    streams: Vec<Stream>,
    /// The latest record, and the one before it.
    events: HashMap<u64, (Record, Option<Record>), Hasher>,
    open: VecDeque<Output>,
    next: Sequence,
}

impl StreamOrder {
    /// A copy to the host, and behind it the record of `event` by the same thread; `is_direct` if
    /// nothing lies between them that can wait for something else.
    pub(super) fn output(
        &mut self,
        stream: u64,
        copied: Interval,
        event: u64,
        recorded: Interval,
        is_direct: bool,
        tid: u32,
    ) -> Option<Sequence> {
        let stream_index = self.stream(stream)?;
        let sequence = self.next;
        self.next += 1;
        self.open.push_back(Output {
            sequence,
            stream: stream_index,
            copied,
            low: copied.entry,
            high: None,
            estimate: None,
            handed: None,
            waited_ns: 0,
            not_ready: None,
            is_polled: false,
        });
        let stream_state = &mut self.streams[stream_index];
        stream_state.used_by(tid);
        stream_state.behind = is_direct.then_some(sequence);
        self.record_with(event, stream, recorded, Some(sequence), tid);
        Some(sequence)
    }

    pub(super) fn record(&mut self, event: u64, stream: u64, call: Interval, tid: u32) {
        self.record_with(event, stream, call, None, tid);
    }

    fn record_with(
        &mut self,
        event: u64,
        stream: u64,
        call: Interval,
        output: Option<Sequence>,
        tid: u32,
    ) {
        let mut coverage = Coverage::default();
        let mut waits_for = None;
        if let Some(at) = self.stream(stream) {
            coverage = self.covered(at, call.entry);
            let stream = &self.streams[at];
            waits_for = stream.behind.filter(|_| stream.user == User::Thread(tid));
        }
        let record = Record { call, coverage, output, waits_for };
        if let Some((latest, before)) = self.events.get_mut(&event) {
            *before = Some(std::mem::replace(latest, record));
        } else if record.coverage != Coverage::default() && self.events.len() < MAX_EVENTS {
            self.events.insert(event, (record, None));
        }
    }

    /// The handle is given back, or given out anew, or recorded where order is another.
    pub(super) fn forget_event(&mut self, event: u64) {
        self.events.remove(&event);
    }

    /// Nothing that is known of events and streams holds any more.
    pub(super) fn forget(&mut self) {
        self.events.clear();
        self.by_handle.clear();
    }

    pub(super) fn forget_stream(&mut self, stream: u64) {
        self.by_handle.remove(&stream);
    }

    /// Work that is no output.
    pub(super) fn work(&mut self, stream: u64, tid: u32) {
        if let Some(at) = self.stream(stream) {
            self.streams[at].used_by(tid);
            self.streams[at].behind = None;
        }
    }

    /// Later work of the stream begins when the event has been reached.
    pub(super) fn stream_wait(&mut self, stream: u64, event: u64, call: Interval, tid: u32) {
        self.work(stream, tid);
        let Some(record) = self.record_of(event, call) else { return };
        if record.coverage == Coverage::default() {
            return;
        }
        let mut coverage = record.coverage.clone();
        let Some(at) = self.stream(stream) else { return };
        let inherited = &mut self.streams[at].inherited;
        let mut since = call.ret;
        if let Some((latest, all)) = inherited.back() {
            since = since.max(*latest);
            coverage.merge(all);
        }
        if inherited.len() == MAX_INHERITED {
            inherited.pop_front();
        }
        inherited.push_back((since, coverage));
    }

    /// A wait for the event, or a query that found it ready.
    pub(super) fn event_done(&mut self, event: u64, call: Interval, is_wait: bool) {
        let Some(record) = self.record_of(event, call) else { return };
        let (coverage, own, waits_for) = (record.coverage.clone(), record.output, record.waits_for);
        self.done(&coverage, call.ret);
        if let Some(output) = self.find(waits_for)
            && let Some(from) = output.not_ready
            && call.ret - from <= MAX_POLL_GAP_NS
        {
            output.estimate = Some(i64::midpoint(from, call.ret));
            output.is_polled = true;
        }
        let Some(output) = self.find(own) else { return };
        let waited_ns = call.ret - call.entry;
        if is_wait {
            output.waited_ns = output.waited_ns.max(waited_ns);
        }
        // Whoever learns it later, as the runtime around the driver, has waited for more than the GPU.
        if output.handed.is_some_and(|handed| handed <= call.ret) {
            return;
        }
        output.handed = Some(call.ret);
        if !output.is_polled && is_wait && waited_ns >= MIN_WAIT_NS {
            output.estimate = Some(call.ret - WAKE_UP_NS);
        }
    }

    /// A query that found the event not reached.
    pub(super) fn event_not_ready(&mut self, event: u64, call: Interval) {
        let Some(record) = self.record_of(event, call) else { return };
        let (recorded, waits_for) = (record.call, record.waits_for);
        let Some(output) = self.find(waits_for) else { return };
        let proved = call.entry - SIGNAL_DELAY_NS;
        if proved >= recorded.ret {
            output.not_ready = output.not_ready.max(Some(call.entry));
            output.low = output.low.max(proved);
        }
    }

    fn find(&mut self, sequence: Option<Sequence>) -> Option<&mut Output> {
        let sequence = sequence?;
        self.open.iter_mut().find(|output| output.sequence == sequence)
    }

    /// Whether a call on this event is about an output.
    pub(super) fn is_output(&self, event: u64, call: Interval) -> bool {
        self.record_of(event, call).is_some_and(|record| record.output.is_some())
    }

    /// A wait for the stream, or a query that found it empty.
    pub(super) fn stream_done(&mut self, stream: u64, call: Interval) {
        if let Some(&at) = self.by_handle.get(&stream) {
            let coverage = self.covered(at, call.entry);
            self.done(&coverage, call.ret);
        }
    }

    /// The oldest output, once nothing more is to be learnt of it.
    pub(super) fn next_settled(&mut self) -> Option<Output> {
        let is_known = self.open.front()?.high.is_some() && self.open.len() > KEPT_BEHIND;
        (is_known || self.open.len() > MAX_OPEN_OUTPUTS).then(|| self.leave()).flatten()
    }

    /// The oldest output, when no more lines come.
    pub(super) fn next_left(&mut self) -> Option<Output> {
        self.leave()
    }

    fn leave(&mut self) -> Option<Output> {
        let mut output = self.open.pop_front()?;
        let stream = &mut self.streams[output.stream];
        if let Some((ret, low)) = stream.left
            && ret <= output.copied.entry
        {
            output.low = output.low.max(low);
        }
        stream.left = Some((output.copied.ret, output.low));
        output.estimate =
            output.estimate.map(|it| it.max(output.low).min(output.high.unwrap_or(it)));
        Some(output)
    }

    fn stream(&mut self, handle: u64) -> Option<usize> {
        if let Some(&at) = self.by_handle.get(&handle) {
            return Some(at);
        }
        if self.streams.len() >= MAX_STREAMS {
            return None;
        }
        self.streams.push(Stream::default());
        self.by_handle.insert(handle, self.streams.len() - 1);
        Some(self.streams.len() - 1)
    }

    /// What has surely been queued before a call of this stream that begins at `entry`.
    fn covered(&self, stream: usize, entry: i64) -> Coverage {
        let inherited = self.streams[stream].inherited.iter().rev();
        let mut coverage = inherited
            .clone()
            .find(|(since, _)| *since <= entry)
            .map_or_else(Coverage::default, |(_, coverage)| coverage.clone());
        let own = self.open.iter().filter(|output| output.stream == stream);
        if let Some(last) = own.take_while(|output| output.copied.ret <= entry).last() {
            coverage.add(stream, last.sequence);
        }
        coverage
    }

    /// The record that a call on this event was about; `None` where two may be meant.
    fn record_of(&self, event: u64, call: Interval) -> Option<&Record> {
        let (latest, before) = self.events.get(&event)?;
        for record in [Some(latest), before.as_ref()].into_iter().flatten() {
            if record.call.is_before(call) {
                return Some(record);
            }
            if !call.is_before(record.call) {
                return None;
            }
        }
        None
    }

    fn done(&mut self, coverage: &Coverage, ret: i64) {
        for output in self.open.iter_mut().filter(|output| coverage.holds(output)) {
            output.high = Some(output.high.map_or(ret, |high| high.min(ret)));
        }
    }
}

#[cfg(test)]
mod tests;
