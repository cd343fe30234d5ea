//! Stages of a start: right where the trace is whole, never wrong where a line is missing.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use analysis::{pass::Window, questions::Name};
use serde_json::{Value, json};

use super::{ask, random::Random};

const MIB: u64 = 1 << 20;

const CLOCK: &str =
    r#"{"start_monotonic_ns":0,"monotonic_ns":0,"realtime_ns":1795494480000000000}"#;

/// Lines of one segment, in the order of their calls.
#[derive(Default)]
struct Start {
    lines: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    next_address: u64,
}

impl Start {
    fn call(&mut self, ms: u64, func: &'static str, fields: &Value) {
        let mut line = json!({"ts": ms, "pid": 7, "tid": 7, "type": "cuda_api", "func": func,
            "phase": "call", "dur_us": 20.0, "ret": 0, "depth": 0});
        let fields = fields.as_object().unwrap().clone();
        line.as_object_mut().unwrap().extend(fields);
        self.lines.push(format!("{line}\n"));
        *self.counts.entry(func).or_default() += 1;
    }

    fn allocate(&mut self, ms: u64, bytes: u64) -> u64 {
        self.next_address += 0x1000_0000;
        let ptr = format!("{:#x}", self.next_address);
        self.call(ms, "cuMemAlloc_v2", &json!({"ptr": ptr, "bytes": bytes}));
        self.next_address
    }

    fn launch(&mut self, ms: u64) {
        self.call(
            ms,
            "cuLaunchKernel",
            &json!({"function": "0x1", "stream": "0x0",
            "grid": [16, 1, 1], "block": [128, 1, 1]}),
        );
    }

    /// As an engine starts: weights, a profile run with a compiler in it, the cache, captures.
    fn engine() -> Self {
        let mut start = Self::default();
        let none = json!({});
        start.call(1000, "cuInit", &none);
        start.call(2000, "cuMemGetInfo_v2", &none);
        start.allocate(2100, 700 * MIB);
        start.call(2200, "cuMemcpyHtoDAsync_v2", &json!({"kind": "HtoD", "bytes": 700 * MIB}));
        start.call(3000, "cuMemGetInfo_v2", &none);
        start.launch(3100);
        // The compiler.
        start.call(8100, "cuLibraryLoadData", &none);
        let activations = start.allocate(8200, 900 * MIB);
        start.launch(8300);
        let ptr = format!("{activations:#x}");
        start.call(8400, "cuMemFree_v2", &json!({"ptr": ptr}));
        start.call(9000, "cuMemGetInfo_v2", &none);
        start.allocate(9100, 2000 * MIB);
        for size in 0..3 {
            let at = 9500 + 100 * size;
            start.call(at, "cuStreamBeginCapture_v2", &json!({"stream": "0x9"}));
            start.call(at + 50, "cuStreamEndCapture", &json!({"stream": "0x9", "graph": "0xa"}));
        }
        start.launch(9800);
        // The first request.
        for step in 0..2 {
            let at = 15_000 + 10 * step;
            let copy = json!({"kind": "HtoD", "bytes": 64, "stream": "0x0"});
            start.call(at, "cuMemcpyHtoDAsync_v2", &copy);
            start.launch(at + 1);
            let output = json!({"kind": "DtoH", "bytes": 64, "stream": "0x0", "src": "0x5000"});
            start.call(at + 2, "cuMemcpyDtoHAsync_v2", &output);
            start.call(at + 3, "cuEventRecord", &json!({"event": "0xe", "stream": "0x0"}));
            // Another thread waits, as vLLM has it.
            start.call(at + 4, "cuEventSynchronize", &json!({"tid": 8, "event": "0xe"}));
        }
        start
    }

    /// `lines` is what is left of them.
    fn answer(&self, lines: &[String]) -> Value {
        let directory = tempfile::tempdir().unwrap();
        let mut text = format!(
            r#"{{"ts":0,"pid":1,"type":"meta","phase":"meta","func":"segment_open","format_version":3,"sequence":1,"host":"node","kernel":"6.18","sidecar_version":"0.1.0","clock":{CLOCK},"options":{{}}}}
{{"ts":500,"pid":7,"type":"meta","phase":"meta","func":"coverage","coverage":"exact","path":"/l/libcuda.so.1","device":1,"inode":1}}
"#
        );
        text.extend(lines.iter().map(String::as_str));
        let counts = self.counts.iter().map(|(func, lines)| {
            let counts = json!({"lines": lines, "run_hits": lines, "run_lines": lines,
                "run_dropped": 0, "run_ignored": 0, "run_suppressed": 0});
            ((*func).to_owned(), counts)
        });
        let functions: Value = counts.collect();
        let calls: u64 = self.counts.values().sum();
        writeln!(
            text,
            r#"{{"ts":20000,"pid":1,"type":"meta","phase":"meta","func":"segment_close","sequence":1,"reason":"shutdown","final":true,"calls":{calls},"clock":{CLOCK},"functions":{functions},"coverage":{{"exact":1,"from":0,"unseen":0,"events_lost":0}}}}"#
        )
        .unwrap();
        let name = "trace_node_20261124T042800.000Z_000001.jsonl";
        fs::write(directory.path().join(name), text).unwrap();
        ask(&[directory.path()], &[Name::Startup], &Window::default()).remove(0)
    }
}

/// Stage, start and length in milliseconds; `None` where it is not known.
fn stages(answer: &Value) -> Vec<(String, Option<(f64, f64)>)> {
    let rows = answer["stages"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            let ms = |column: &str| row[column].as_f64().map(|ns| ns / 1e6);
            let stage = row["stage"].as_str().unwrap().to_owned();
            (stage, ms("start_ns").zip(ms("duration_ns")))
        })
        .collect()
}

#[test]
fn an_engine_goes_through_its_stages() {
    let start = Start::engine();
    let answer = start.answer(&start.lines);
    let expected = [
        ("before_first_call", 500.0, 500.0),
        ("init", 1000.0, 1000.0),
        ("load", 2000.0, 1000.0),
        ("profile", 3000.0, 6000.0),
        ("cache", 9000.0, 500.0),
        ("capture", 9500.0, 250.02),
        ("warm_up", 9750.02, 50.0),
        ("waiting", 9800.02, 5199.98),
    ];
    let expected = expected.map(|(stage, from, took)| (stage.to_owned(), Some((from, took))));
    assert_eq!(stages(&answer), expected);
    let row = |stage: &str| {
        let rows = answer["stages"].as_array().unwrap();
        rows.iter().find(|row| row["stage"] == stage).unwrap()
    };
    assert_eq!(row("load")["copied_bytes"], 700 * MIB);
    assert_eq!(row("profile")["before_code_ns"], 4_999_980_000_u64);
    assert_eq!(row("profile")["live_bytes"], 700 * MIB);
    assert_eq!(row("cache")["live_bytes"], 2700 * MIB);
    assert_eq!(row("capture")["captures"], 3);
    assert_eq!(row("waiting")["calls"], Value::Null, "those of the step are not among them");
}

#[test]
fn a_start_with_a_line_missing_is_never_told_wrongly() {
    let start = Start::engine();
    let truth: BTreeMap<_, _> = stages(&start.answer(&start.lines)).into_iter().collect();
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut lines = start.lines.clone();
        let (one, other) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(3) {
            0 => drop(lines.remove(one)),
            1 => lines.swap(one, other),
            _ => lines[one] = format!("{}\n", &start.lines[one][..random.below(40)]),
        }
        if lines == start.lines {
            continue;
        }
        for (stage, found) in stages(&start.answer(&lines)) {
            let truth = truth.get(&stage).copied().flatten();
            assert!(found.is_none() || found == truth, "seed {seed}: {stage} {found:?} {truth:?}");
        }
    }
}
