//! Records of the ring buffer, as the recorder reads them.

use std::mem::offset_of;

use cuda::function::arguments::{self, Capture, Place};
use sidecar_common::{CallEvent, CallHead, CallRecord, EventKind, NO_CALLER, Plan, unread};

/// One record, borrowed from where it was copied to.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    Entry(CallEvent),
    Call(Call<'a>),
    /// Text that the next call of the same thread was given.
    Name {
        event: CallEvent,
        text: &'a [u8],
    },
}

/// A call that has returned.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub event: CallEvent,
    pub duration_ns: u64,
    pub result: u64,
    /// The number of the function around it.
    pub caller: Option<u32>,
    /// Bits of [`unread`].
    unread: u16,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// `None` for a record that this sidecar does not understand.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let event = CallEvent::from_bytes(bytes)?;
        match event.kind {
            kind if kind == EventKind::Entry as u16 => Some(Self::Entry(event)),
            kind if kind == EventKind::Call as u16 => Call::parse(event, bytes).map(Self::Call),
            kind if kind == EventKind::Name as u16 => {
                let text = bytes.get(size_of::<CallEvent>()..)?;
                // The terminator is part of the record, and missing where the text was cut.
                let text = text.strip_suffix(b"\0").unwrap_or(text);
                Some(Self::Name { event, text })
            }
            _ => None,
        }
    }
}

impl<'a> Call<'a> {
    fn parse(event: CallEvent, bytes: &'a [u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let caller = half(offset_of!(CallHead, caller))?;
        Some(Self {
            event,
            duration_ns: word(bytes, offset_of!(CallHead, duration_ns))?,
            result: word(bytes, offset_of!(CallHead, result))?,
            caller: (caller != NO_CALLER).then_some(caller.into()),
            unread: half(offset_of!(CallHead, unread))?,
            bytes,
        })
    }

    /// What stands at a place in the call; `capture` is what was copied of its function.
    pub fn word(&self, place: Place, capture: &Capture) -> Option<u64> {
        const REGISTERS: usize = offset_of!(CallHead, registers);
        const STACK: usize = offset_of!(CallHead, stack);
        const SECOND: usize = offset_of!(CallHead, second);
        const WINDOW: usize = offset_of!(CallRecord, window);
        let read = |part: u16, at: usize| {
            if self.unread & part != 0 { None } else { word(self.bytes, at) }
        };
        match place {
            Place::Constant(number) => Some(number.into()),
            Place::Register(register) => read(0, REGISTERS + 8 * usize::from(register)),
            Place::Stack(index) => read(unread::STACK, STACK + 8 * usize::from(index)),
            Place::Memory { register, word: index } => match capture.memory {
                Some((window, _)) if window == register => {
                    read(unread::WINDOW, WINDOW + 8 * usize::from(index))
                }
                _ if capture.second == Some(register) => read(unread::SECOND, SECOND),
                _ => None,
            },
        }
    }
}

// What the table of arguments may ask for, a plan can say and a record has room for.
const _: () = {
    let registers = offset_of!(CallHead, stack) - offset_of!(CallHead, registers);
    assert!(registers == 8 * arguments::REGISTERS as usize);
    assert!(sidecar_common::STACK_WORDS == arguments::STACK_WORDS as usize);
    let words = arguments::MEMORY_WORDS;
    assert!(words as usize <= sidecar_common::MEMORY_WORDS);
    let window = Plan::bare(0).with_window(0, words).window();
    assert!(matches!(window, Some((0, said)) if said == words as usize));
};

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: EventKind, unread: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(7_u64.to_ne_bytes());
        for number in [42_u32, 43, 5] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend((kind as u16).to_ne_bytes());
        bytes.extend(1_u16.to_ne_bytes());
        for number in [1500_u64, 2] {
            bytes.extend(number.to_ne_bytes());
        }
        for half in [6_u16, unread, 0, 0] {
            bytes.extend(half.to_ne_bytes());
        }
        for number in (0..6).chain(10..13).chain([20]).chain(30..33_u64) {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }

    fn words(bytes: &[u8]) -> [Option<u64>; 5] {
        let Some(Record::Call(call)) = Record::parse(bytes) else { panic!("no call") };
        let capture =
            Capture { registers: true, stack: true, memory: Some((0, 3)), second: Some(4) };
        [
            Place::Register(5),
            Place::Stack(2),
            Place::Memory { register: 0, word: 1 },
            Place::Memory { register: 4, word: 0 },
            Place::Memory { register: 3, word: 0 },
        ]
        .map(|place| call.word(place, &capture))
    }

    #[test]
    fn places_are_found_where_the_programs_put_them() {
        let bytes = record(EventKind::Call, 0);
        assert_eq!(words(&bytes), [Some(5), Some(12), Some(31), Some(20), None]);
        let Some(Record::Call(call)) = Record::parse(&bytes) else { panic!("no call") };
        assert_eq!((call.duration_ns, call.result, call.caller), (1500, 2, Some(6)));
    }

    #[test]
    fn what_was_not_read_or_not_copied_is_absent() {
        let bytes = record(EventKind::Call, unread::STACK | unread::WINDOW | unread::SECOND);
        assert_eq!(words(&bytes), [Some(5), None, None, None, None]);
        assert_eq!(words(&bytes[..CallHead::WITH_REGISTERS])[0], Some(5));
        assert_eq!(words(&bytes[..CallHead::BARE])[0], None);
    }

    #[test]
    fn a_name_ends_before_its_terminator() {
        let mut bytes = record(EventKind::Name, 0);
        bytes.truncate(size_of::<CallEvent>());
        bytes.extend(b"_Z3addPf\0");
        let Some(Record::Name { text, .. }) = Record::parse(&bytes) else { panic!("no name") };
        assert_eq!(text, b"_Z3addPf");
    }

    #[test]
    fn an_unknown_kind_and_a_short_record_are_refused() {
        let mut bytes = record(EventKind::Entry, 0);
        assert!(Record::parse(&bytes[..20]).is_none());
        bytes[20] = 99;
        assert!(Record::parse(&bytes).is_none());
    }
}
