//! Lines that are out of order: what hangs on their order is not known, and nothing else is lost.

use analysis::{pass::Window, questions::Name};
use serde_json::{Value, json};

use super::{
    ask, gaps,
    segments::{Line, Segments, Told},
};

const FIRST: u32 = 7;
const SECOND: u32 = 8;

/// Further out of order than lines get by themselves.
const LATE_NS: u64 = 60_000;

fn call(pid: u32, tid: u32, func: &str, ts_ns: u64, mut fields: Value) -> Line {
    let all = fields.as_object_mut().unwrap();
    for (key, value) in [
        ("ts", json!(ts_ns as f64 / 1e6)),
        ("pid", pid.into()),
        ("tid", tid.into()),
        ("type", "cuda_api".into()),
        ("func", func.into()),
        ("phase", "call".into()),
        ("dur_us", 1.into()),
        ("ret", 0.into()),
        ("depth", 0.into()),
    ] {
        all.insert(key.to_owned(), value);
    }
    let text = format!("{fields}\n");
    Line {
        pid,
        func: func.to_owned(),
        ts_ns,
        end_ns: ts_ns + 1000,
        kernel: None,
        graph: None,
        text,
    }
}

fn allocation(pid: u32, ts_ns: u64, address: u64) -> Line {
    let fields = json!({"bytes": 1 << 20, "ptr": format!("{address:#x}")});
    call(pid, pid, "cuMemAlloc_v2", ts_ns, fields)
}

fn memory(lines: Vec<Line>) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let mapped = vec![(FIRST, 1), (SECOND, 1)];
    let clock = [4_000_000_000, 1_795_494_480_642_456_752];
    let segments = Segments { lines, told: Told::default(), clock, mapped };
    segments.write(directory.path(), &[]);
    ask(&[directory.path()], &[Name::Memory], &Window::default()).remove(0)
}

fn grade<'a>(answer: &'a Value, figure: &str) -> &'a Value {
    &answer["figures"][figure]["grade"]
}

/// Two processes, of which each allocates, and a line of `pid` and `tid` that comes late.
fn with_late(late: Line) -> Value {
    let at_ns = late.ts_ns;
    memory(vec![
        allocation(FIRST, 1_000_000, 0x1000_0000),
        allocation(SECOND, 2_000_000, 0x1000_0000),
        call(FIRST, FIRST, "cuCtxSynchronize", at_ns + LATE_NS, json!({})),
        late,
    ])
}

#[test]
fn a_line_behind_those_of_another_process_changes_nothing_that_one_process_did() {
    let answer = with_late(call(SECOND, SECOND, "cuCtxSynchronize", 3_000_000, json!({})));
    assert_eq!(gaps(&answer).len(), 1, "{answer:#}");
    assert!(gaps(&answer)[0].contains("1 line stands behind those of other processes"));
    for figure in ["peak_bytes", "live_bytes", "allocations"] {
        assert_eq!(grade(&answer, figure), "exact", "{figure}");
    }
    assert_eq!(answer["figures"]["peak_bytes"]["value"], 2 << 20);
}

#[test]
fn an_allocation_behind_calls_of_another_process_leaves_the_common_peak_unknown() {
    let answer = with_late(allocation(SECOND, 3_000_000, 0x2000_0000));
    assert!(gaps(&answer)[0].contains("other processes"));
    assert_eq!(grade(&answer, "peak_bytes"), "unknown");
    for figure in ["live_bytes", "allocations"] {
        assert_eq!(grade(&answer, figure), "exact", "{figure}");
    }
}

#[test]
fn a_line_behind_those_of_another_thread_leaves_the_memory_of_its_process_unknown() {
    let answer = with_late(call(FIRST, 70, "cuCtxSynchronize", 3_000_000, json!({})));
    assert!(gaps(&answer)[0].contains("1 line stands behind those of other threads"));
    assert_eq!(grade(&answer, "live_bytes"), "unknown");
}
