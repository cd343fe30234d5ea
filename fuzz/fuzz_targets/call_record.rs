//! A record of the ring buffer, whose registers and memory the traced process chooses: taken apart, written as a
//! line, and the line read back.

#![no_main]

use std::{path::Path, sync::LazyLock};

use cuda::function::{
    Api, KNOWN,
    arguments::{Capture, capture},
};
use libfuzzer_sys::fuzz_target;
use sidecar::recording::event::Record;
use trace::{
    line::Line,
    reader::Reader,
    writer::{CallText, Returned, push_call, push_entry},
};

static FUNCTIONS: LazyLock<Vec<(CallText, Capture)>> = LazyLock::new(|| {
    let api = |name: &str| Api::of(name).expect("a known function is one of CUDA");
    KNOWN.iter().map(|name| (CallText::new(name, api(name)), capture(name))).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let mut line = Vec::new();
    match Record::parse(bytes) {
        Some(Record::Call(call)) => {
            let (text, capture) = &FUNCTIONS[call.event.function as usize % FUNCTIONS.len()];
            let parent = call.caller.map(|caller| &FUNCTIONS[caller as usize % FUNCTIONS.len()].0);
            let returned = Returned {
                since_start_ns: call.event.start_ns,
                pid: call.event.tgid,
                tid: call.event.tid,
                duration_ns: call.duration_ns,
                result: call.result,
                depth: call.event.depth,
                parent,
                kernel: None,
            };
            push_call(&mut line, text, &returned, |place| call.word(place, capture));
        }
        Some(Record::Entry(event)) => {
            let (text, _) = &FUNCTIONS[event.function as usize % FUNCTIONS.len()];
            push_entry(&mut line, event.start_ns, event.tgid, event.tid, text);
        }
        Some(Record::Name { text, .. }) => {
            assert!(text.len() <= bytes.len());
            return;
        }
        None => return,
    }
    let text = String::from_utf8_lossy(&line);
    let read: Vec<_> = Reader::new(&line[..], Path::new("line")).collect();
    assert!(matches!(read[..], [Ok(Line::Call(_))]), "{read:?}: {text}");
});
