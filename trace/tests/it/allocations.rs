//! A call becomes a line without a single allocation: the recorder does this a million times a
//! second, and its memory must stay bounded.

use trace::{
    function::{Api, KNOWN, Selection, arguments::Place},
    writer::{CallText, Returned, push_call, push_entry},
};

use crate::counting::allocations;

#[test]
fn lines_of_all_default_functions_are_written_without_allocation() {
    let selection = Selection::default();
    let texts: Vec<CallText> = KNOWN
        .iter()
        .filter(|name| selection.contains(name))
        .map(|name| CallText::new(name, Api::of(name).unwrap()))
        .collect();
    assert!(texts.len() > 400, "{}", texts.len());
    let parent = CallText::new("cudaLaunchKernel", Api::Runtime);
    let mut out = Vec::with_capacity(64 << 10);
    // Nothing was read; small numbers, also where they stand for a kind; the longest numbers.
    let words: [&dyn Fn(Place) -> Option<u64>; 4] =
        [&|_| None, &|_| Some(0), &|_| Some(2), &|_| Some(u64::MAX)];
    for text in &texts {
        for word in words {
            // Success, and an error with a name.
            for result in [0, 2] {
                let call = Returned {
                    since_start_ns: u64::MAX,
                    pid: u32::MAX,
                    tid: u32::MAX,
                    duration_ns: u64::MAX,
                    result,
                    depth: u16::MAX,
                    parent: Some(&parent),
                    kernel: Some(u32::MAX),
                };
                out.clear();
                let allocated = allocations(|| {
                    push_call(&mut out, text, &call, word);
                    push_entry(&mut out, call.since_start_ns, call.pid, call.tid, text);
                });
                assert_eq!(allocated, 0, "{}", String::from_utf8_lossy(&out));
                assert_eq!(String::from_utf8_lossy(&out).lines().count(), 2);
            }
        }
    }
}
