//! Packets of a Perfetto trace: names and numbers as in Perfetto's `protos/perfetto/trace`, and what
//! several parts of the timeline write in the same way.
//!
//! The numbers are those of the descriptor in the package `perfetto` of PyPI, 0.59.1;
//! `analysis/timeline/check.py` decodes with it.

use super::protobuf::{fixed64, message, text, uint};

/// `Trace`
pub(super) const PACKET: u32 = 1;

/// `TracePacket`
pub(super) mod packet {
    pub(in super::super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(in super::super) const TIMESTAMP: u32 = 8;
    pub(in super::super) const SEQUENCE_ID: u32 = 10;
    pub(in super::super) const TRACK_EVENT: u32 = 11;
    pub(in super::super) const INTERNED_DATA: u32 = 12;
    pub(in super::super) const SEQUENCE_FLAGS: u32 = 13;
    pub(in super::super) const TIMESTAMP_CLOCK_ID: u32 = 58;
    pub(in super::super) const DEFAULTS: u32 = 59;
    pub(in super::super) const TRACK_DESCRIPTOR: u32 = 60;
    pub(in super::super) const FIRST_ON_SEQUENCE: u32 = 87;
}

/// `TracePacket.SequenceFlags`
pub(super) const STATE_CLEARED: u64 = 1;
pub(super) const NEEDS_STATE: u64 = 2;

/// `TracePacketDefaults`
pub(super) mod defaults {
    pub(in super::super) const TRACK_EVENT: u32 = 11;
    pub(in super::super) const TIMESTAMP_CLOCK_ID: u32 = 58;
    /// `TrackEventDefaults`
    pub(in super::super) const TRACK_UUID: u32 = 11;
}

/// `InternedData`, and of its entries
pub(super) mod interned {
    pub(in super::super) const CATEGORIES: u32 = 1;
    pub(in super::super) const EVENT_NAMES: u32 = 2;
    pub(in super::super) const ANNOTATION_NAMES: u32 = 3;
    pub(in super::super) const STRINGS: u32 = 29;
    pub(in super::super) const IID: u32 = 1;
    pub(in super::super) const NAME: u32 = 2;
}

/// `TrackEvent`
pub(super) mod event {
    pub(in super::super) const CATEGORY_IIDS: u32 = 3;
    pub(in super::super) const ANNOTATIONS: u32 = 4;
    pub(in super::super) const TYPE: u32 = 9;
    pub(in super::super) const NAME_IID: u32 = 10;
    pub(in super::super) const TRACK_UUID: u32 = 11;
    pub(in super::super) const CATEGORIES: u32 = 22;
    pub(in super::super) const NAME: u32 = 23;
    pub(in super::super) const COUNTER_VALUE: u32 = 30;
    pub(in super::super) const FLOW_IDS: u32 = 47;
    pub(in super::super) const TERMINATING_FLOW_IDS: u32 = 48;
    pub(in super::super) const CORRELATION_ID: u32 = 52;

    /// `TrackEvent.Type`
    pub(in super::super) const SLICE_BEGIN: u64 = 1;
    pub(in super::super) const SLICE_END: u64 = 2;
    pub(in super::super) const INSTANT: u64 = 3;
    pub(in super::super) const COUNTER: u64 = 4;
}

/// `DebugAnnotation`
pub(super) mod annotation {
    pub(in super::super) const NAME_IID: u32 = 1;
    pub(in super::super) const UINT: u32 = 3;
    pub(in super::super) const INT: u32 = 4;
    pub(in super::super) const STRING: u32 = 6;
    pub(in super::super) const POINTER: u32 = 7;
    pub(in super::super) const NAME: u32 = 10;
    pub(in super::super) const ARRAY: u32 = 12;
    pub(in super::super) const STRING_IID: u32 = 17;
}

/// `TrackDescriptor`, and of its parts
pub(super) mod track {
    pub(in super::super) const UUID: u32 = 1;
    pub(in super::super) const NAME: u32 = 2;
    pub(in super::super) const PROCESS: u32 = 3;
    pub(in super::super) const THREAD: u32 = 4;
    pub(in super::super) const PARENT_UUID: u32 = 5;
    pub(in super::super) const COUNTER: u32 = 8;
    pub(in super::super) const CHILD_ORDERING: u32 = 11;
    pub(in super::super) const SIBLING_ORDER_RANK: u32 = 12;
    pub(in super::super) const DESCRIPTION: u32 = 14;

    /// `ChildTracksOrdering`
    pub(in super::super) const EXPLICIT: u64 = 3;

    /// `ProcessDescriptor`
    pub(in super::super) const PROCESS_PID: u32 = 1;
    pub(in super::super) const PROCESS_COMMAND: u32 = 2;
    pub(in super::super) const PROCESS_NAME: u32 = 6;

    /// `ThreadDescriptor`
    pub(in super::super) const THREAD_PID: u32 = 1;
    pub(in super::super) const THREAD_TID: u32 = 2;

    /// `CounterDescriptor`
    pub(in super::super) const COUNTER_UNIT: u32 = 3;
    pub(in super::super) const UNIT_COUNT: u64 = 2;
    pub(in super::super) const UNIT_BYTES: u64 = 3;
}

/// `ClockSnapshot`, its `Clock`, and numbers of clocks
pub(super) mod clock {
    pub(in super::super) const CLOCKS: u32 = 1;
    pub(in super::super) const ID: u32 = 1;
    pub(in super::super) const TIMESTAMP: u32 = 2;
    pub(in super::super) const IS_INCREMENTAL: u32 = 3;

    pub(in super::super) const REALTIME: u64 = 1;
    /// What a timestamp is of that names no clock.
    pub(in super::super) const OF_TRACE: u64 = 6;
    /// The first that is of one sequence: there, of the time since the timestamp before.
    pub(in super::super) const SINCE_LAST: u64 = 64;
}

/// The sequence of whatever is not of a thread.
pub(super) const MAIN_SEQUENCE: u64 = 1;

/// What a file of ours begins with: other files are not written over.
pub(super) fn header() -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, PACKET, |out| {
        uint(out, packet::SEQUENCE_ID, MAIN_SEQUENCE);
        uint(out, packet::SEQUENCE_FLAGS, STATE_CLEARED);
        uint(out, packet::FIRST_ON_SEQUENCE, 1);
        message(out, packet::TRACK_DESCRIPTOR, |out| {
            uint(out, track::UUID, Kind::Trace.uuid(0, 0));
            text(out, track::NAME, "written by cuda-trace");
        });
    });
    out
}

/// What a track is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Trace = 1,
    Process,
    Thread,
    Steps,
    InFlight,
    Gpu,
    Memory,
    LaunchRate,
    Gaps,
    Requests,
    /// By number of the device, and of the stream among all.
    Device,
    Stream,
}

impl Kind {
    /// `owner` is the number of the process or thread, `lane` that of several tracks with one name,
    /// which Perfetto shows as one.
    pub(super) fn uuid(self, owner: u32, lane: u16) -> u64 {
        (self as u64) << 56 | u64::from(lane) << 40 | u64::from(owner)
    }
}

/// Tells a track, as often as what is known of it changes.
pub(super) fn describe(out: &mut Vec<u8>, sequence: u64, write: impl FnOnce(&mut Vec<u8>)) {
    message(out, PACKET, |out| {
        uint(out, packet::SEQUENCE_ID, sequence);
        message(out, packet::TRACK_DESCRIPTOR, write);
    });
}

/// An event outside of threads, at a time of the trace.
pub(super) fn event(
    out: &mut Vec<u8>,
    timestamp: u64,
    r#type: u64,
    uuid: u64,
    write: impl FnOnce(&mut Vec<u8>),
) {
    message(out, PACKET, |out| {
        uint(out, packet::TIMESTAMP, timestamp);
        uint(out, packet::SEQUENCE_ID, MAIN_SEQUENCE);
        message(out, packet::TRACK_EVENT, |out| {
            uint(out, event::TYPE, r#type);
            uint(out, event::TRACK_UUID, uuid);
            write(out);
        });
    });
}

/// From `begin` to `end`; an instant where no end is known.
pub(super) fn slice(
    out: &mut Vec<u8>,
    (begin, end): (u64, Option<u64>),
    uuid: u64,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let Some(end) = end else { return event(out, begin, event::INSTANT, uuid, write) };
    slice_begin(out, begin, uuid, write);
    slice_end(out, end.max(begin), uuid);
}

/// Others may lie in it: they begin and end before its end is written.
pub(super) fn slice_begin(
    out: &mut Vec<u8>,
    begin: u64,
    uuid: u64,
    write: impl FnOnce(&mut Vec<u8>),
) {
    event(out, begin, event::SLICE_BEGIN, uuid, write);
}

pub(super) fn slice_end(out: &mut Vec<u8>, end: u64, uuid: u64) {
    event(out, end, event::SLICE_END, uuid, |_| {});
}

/// `value` is cut to what Perfetto can show.
pub(super) fn counter(out: &mut Vec<u8>, timestamp: u64, uuid: u64, value: u64) {
    let value = value.min(i64::MAX.unsigned_abs());
    event(out, timestamp, event::COUNTER, uuid, |out| uint(out, event::COUNTER_VALUE, value));
}

/// An argument under a name that is not interned.
pub(super) fn argument(out: &mut Vec<u8>, name: &str, value: impl Into<Argument>) {
    message(out, event::ANNOTATIONS, |out| {
        text(out, annotation::NAME, name);
        match value.into() {
            Argument::Number(number) => uint(out, annotation::UINT, number),
            Argument::Signed(number) => {
                uint(out, annotation::INT, number.cast_unsigned());
            }
            Argument::Text(value) => text(out, annotation::STRING, &value),
        }
    });
}

pub(super) enum Argument {
    Number(u64),
    /// A length that may be less than nothing.
    Signed(i64),
    Text(String),
}

impl From<u64> for Argument {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<u32> for Argument {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

pub(super) fn flow(out: &mut Vec<u8>, id: u64) {
    fixed64(out, event::FLOW_IDS, id);
}

/// What one moment is on two clocks.
pub(super) fn clock_snapshot(
    out: &mut Vec<u8>,
    sequence: u64,
    [one, other]: [(u64, u64); 2],
    is_incremental: bool,
) {
    message(out, PACKET, |out| {
        uint(out, packet::SEQUENCE_ID, sequence);
        message(out, packet::CLOCK_SNAPSHOT, |out| {
            message(out, clock::CLOCKS, |out| {
                uint(out, clock::ID, one.0);
                uint(out, clock::TIMESTAMP, one.1);
            });
            message(out, clock::CLOCKS, |out| {
                uint(out, clock::ID, other.0);
                uint(out, clock::TIMESTAMP, other.1);
                if is_incremental {
                    uint(out, clock::IS_INCREMENTAL, 1);
                }
            });
        });
    });
}
