//! A call becomes a line without a single allocation: the recorder does this a million times a
//! second, and its memory must stay bounded.

use allocations::{allocations, peak_bytes};
use cuda::function::{Api, KNOWN, Selection, arguments::Place};
use trace::{
    check::{Problem, check},
    writer::{CallText, Returned, push_call, push_entry},
};

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

/// A file of 318 MB took 1.88 GiB.
#[test]
fn the_check_of_a_trace_with_any_number_of_functions_takes_bounded_memory() {
    const NAMES: u64 = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<_> = (1..=3)
        .map(|sequence| {
            let mut out = Vec::new();
            for number in 0..NAMES {
                let name = format!("cuInit{:0>60}", number + sequence * NAMES);
                push_entry(&mut out, number, 7, 7, &CallText::new(&name, Api::Driver));
            }
            let name = format!("trace_h_20260101T000000.000Z_{sequence:06}.jsonl");
            let file = directory.path().join(name);
            std::fs::write(&file, out).unwrap();
            file
        })
        .collect();
    let mut report = None;
    let peak = peak_bytes(|| report = Some(check(&files)));
    let report = report.unwrap();
    assert!(peak < 16 << 20, "{peak}");
    assert_eq!(report.calls, 3 * NAMES);
    let too_many = |problem: &&Problem| matches!(problem, Problem::TooManyFunctions { lines, .. } if *lines > NAMES / 2);
    assert_eq!(report.problems.iter().filter(too_many).count(), 3, "{:?}", report.problems);
}
