use allocations::allocations;
use cuda::function::{Api, KNOWN, Selection};
use processes::process::{MatchedBy, Verdict};
use sidecar_common::{CallHead, EventKind, MEMORY_WORDS, unread};

use super::*;
use crate::recording::{
    event::Record,
    recorder::{
        dictionary::Dictionary,
        kernel_names::{KernelNames, Reference},
    },
};

const PID: u32 = 7;

/// A record as the programs hand it over: all words of arguments and memory are `word`.
fn record(function: u32, kind: EventKind, result: u64, unread: u16, word: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(1_000_000_u64.to_ne_bytes());
    for number in [PID, PID + 1, function] {
        bytes.extend(number.to_ne_bytes());
    }
    // At depth 1, so that there is a caller.
    for half in [kind as u16, 1] {
        bytes.extend(half.to_ne_bytes());
    }
    bytes.extend(1500_u64.to_ne_bytes());
    bytes.extend(result.to_ne_bytes());
    for half in [0, unread, 0, 0] {
        bytes.extend(half.to_ne_bytes());
    }
    let words = (size_of::<CallHead>() - CallHead::BARE) / 8 + MEMORY_WORDS;
    for _ in 0..words {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// All that the recorder does with an event of a process that it knows.
struct Recorder {
    accounting: Accounting,
    dictionary: Dictionary,
    kernel_names: KernelNames,
    out: Vec<u8>,
}

impl Recorder {
    fn receive(&mut self, bytes: &[u8]) {
        let (event, call) = match Record::parse(bytes).unwrap() {
            Record::Entry(event) => (event, None),
            Record::Call(call) => (call.event, Some(call)),
            Record::Name { .. } => panic!("no call"),
        };
        assert_eq!(self.dictionary.is_target(event.tgid, event.start_ns), Some(true));
        let (text, capture) = self.accounting.function(event.function).unwrap();
        let reference = call.map_or_else(Reference::default, |call| {
            self.kernel_names.learn(&call, text, |place| call.word(place, capture))
        });
        self.kernel_names.announce(&mut self.out, event.start_ns, event.tgid, reference);
        let kernel = reference.kernel;
        push_line(&mut self.out, &mut self.accounting, 5, &event, call.as_ref(), kernel);
    }
}

#[test]
fn an_event_of_what_is_known_becomes_a_line_without_allocation() {
    let selection = Selection::default();
    let names = KNOWN.iter().filter(|name| selection.contains(name));
    let mut recorder = Recorder {
        accounting: Accounting::default(),
        dictionary: Dictionary::default(),
        kernel_names: KernelNames::default(),
        out: Vec::with_capacity(1 << 20),
    };
    recorder.dictionary.decide(PID, Verdict::Target(MatchedBy::Comm), 0);
    let mut records = Vec::new();
    for (number, name) in (0..).zip(names) {
        recorder.accounting.add_function(number, (*name).to_owned(), Api::of(name).unwrap());
        recorder.kernel_names.add_function(name);
        // What a failed call, or one whose memory could not be read, does not tell, is not learnt.
        for (result, unread) in [(2, 0), (0, unread::STACK | unread::WINDOW | unread::SECOND)] {
            records.push(record(number, EventKind::Call, result, unread, 0x7f00_0000_1000));
        }
        records.push(record(number, EventKind::Entry, 0, 0, 0)[..24].to_owned());
        // A launch that succeeds, of a kernel and a graph that were seen before.
        if name.contains("Launch") {
            records.push(record(number, EventKind::Call, 0, 0, 0x7f00_0000_1000));
        }
    }
    assert!(records.len() > 1200, "{}", records.len());
    // The first time kernels get their numbers.
    for bytes in &records {
        recorder.receive(bytes);
    }
    for bytes in &records {
        recorder.out.clear();
        let allocated = allocations(|| recorder.receive(bytes));
        assert_eq!(allocated, 0, "{}", String::from_utf8_lossy(&recorder.out));
        assert_eq!(String::from_utf8_lossy(&recorder.out).lines().count(), 1);
    }
}
