//! Stages of a start: right where the trace is whole, never wrong where a line is missing.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use analysis::{pass::Window, questions::Name};
use serde_json::{Value, json};

use super::{ask, random::Random};

const MIB: u64 = 1 << 20;

const CLOCK: &str =
    r#"{"start_monotonic_ns":0,"monotonic_ns":0,"realtime_ns":1795494480000000000}"#;

/// Lines in the order of their calls.
#[derive(Default)]
pub(super) struct Start {
    pub(super) lines: Vec<String>,
    next_address: u64,
}

impl Start {
    fn call(&mut self, ms: u64, func: &str, fields: &Value) {
        let mut line = json!({"ts": ms, "pid": 7, "tid": 7, "type": "cuda_api", "func": func,
            "phase": "call", "dur_us": 20.0, "ret": 0, "depth": 0});
        let fields = fields.as_object().unwrap().clone();
        line.as_object_mut().unwrap().extend(fields);
        self.lines.push(format!("{line}\n"));
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
    pub(super) fn engine() -> Self {
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
        // The first request. Which step is the first is known a few steps later.
        for step in 0..6 {
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

    /// Three segments: up to the cache, up to the fifth step, and the rest.
    pub(super) fn segments(&self) -> [Vec<String>; 3] {
        let at = |ms: u64| {
            let is_it = |line: &String| line.contains(&format!("\"ts\":{ms},"));
            self.lines.iter().position(is_it).unwrap()
        };
        let (cache, step) = (at(9000), at(15_040));
        let [one, two, three] =
            [&self.lines[..cache], &self.lines[cache..step], &self.lines[step..]];
        [one.to_vec(), two.to_vec(), three.to_vec()]
    }

    fn answer(segments: &[Vec<String>; 3]) -> Value {
        let directory = tempfile::tempdir().unwrap();
        Self::write(segments, directory.path());
        ask(&[directory.path()], &[Name::Startup], &Window::default()).remove(0)
    }

    /// `segments` is what is left of them.
    pub(super) fn write(segments: &[Vec<String>; 3], directory: &Path) {
        let mut in_run = BTreeMap::new();
        for (sequence, (lines, whole)) in (1..).zip(segments.iter().zip(Self::engine().segments()))
        {
            let mut in_segment: BTreeMap<String, u64> = BTreeMap::new();
            for line in &whole {
                let line: Value = serde_json::from_str(line).unwrap();
                let func = line["func"].as_str().unwrap().to_owned();
                *in_run.entry(func.clone()).or_insert(0_u64) += 1;
                *in_segment.entry(func).or_default() += 1;
            }
            let counts = in_run.iter().map(|(func, run)| {
                let lines = in_segment.get(func).copied().unwrap_or(0);
                let counts = json!({"lines": lines, "run_hits": run, "run_lines": run,
                    "run_dropped": 0, "run_ignored": 0, "run_suppressed": 0});
                (func.clone(), counts)
            });
            let functions: Value = counts.collect();
            let (calls, is_final) = (whole.len(), sequence == 3);
            let (open_ms, close_ms) = [(0, 8900), (8900, 15_039), (15_039, 20_000)][sequence - 1];
            let mut text = format!(
                r#"{{"ts":{open_ms},"pid":1,"type":"meta","phase":"meta","func":"segment_open","format_version":3,"sequence":{sequence},"host":"node","kernel":"6.18","sidecar_version":"0.1.0","clock":{CLOCK},"options":{{}}}}
"#
            );
            if sequence == 1 {
                text.push_str(
                    r#"{"ts":500,"pid":7,"type":"meta","phase":"meta","func":"coverage","coverage":"exact","path":"/l/libcuda.so.1","device":1,"inode":1}
"#,
                );
            }
            text.extend(lines.iter().map(String::as_str));
            writeln!(
                text,
                r#"{{"ts":{close_ms},"pid":1,"type":"meta","phase":"meta","func":"segment_close","sequence":{sequence},"reason":"interval","final":{is_final},"calls":{calls},"clock":{CLOCK},"functions":{functions},"coverage":{{"exact":1,"from":0,"unseen":0,"events_lost":0}}}}"#
            )
            .unwrap();
            let name = format!("trace_node_20261124T042800.000Z_00000{sequence}.jsonl");
            fs::write(directory.join(name), text).unwrap();
        }
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
    let answer = Start::answer(&Start::engine().segments());
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
fn the_start_of_an_engine_that_still_serves_is_known() {
    let segments = Start::engine().segments();
    let directory = tempfile::tempdir().unwrap();
    Start::write(&segments, directory.path());
    fs::remove_file(directory.path().join("trace_node_20261124T042800.000Z_000003.jsonl")).unwrap();
    let answer = ask(&[directory.path()], &[Name::Startup], &Window::default()).remove(0);
    assert_eq!(answer["gaps"][0]["gap"], "not_ended");
    assert_eq!(stages(&answer), stages(&Start::answer(&segments)));
}

#[test]
fn a_start_with_a_line_missing_is_never_told_wrongly() {
    let whole = Start::engine().segments();
    let truth: BTreeMap<_, _> = stages(&Start::answer(&whole)).into_iter().collect();
    let mut known = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut segments = whole.clone();
        let lines = &mut segments[random.below(3)];
        let (one, other) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(3) {
            0 => drop(lines.remove(one)),
            1 => lines.swap(one, other),
            _ => {
                let kept = lines[one][..random.below(40)].to_owned();
                lines[one] = format!("{kept}\n");
            }
        }
        if segments == whole {
            continue;
        }
        let answer = Start::answer(&segments);
        if stages(&answer).iter().all(|(_, found)| found.is_none()) {
            let sentence = answer["sentences"][0].as_str().unwrap();
            assert!(sentence.contains("lines of the start"), "{sentence}");
        }
        for (stage, found) in stages(&answer) {
            let truth = truth.get(&stage).copied().flatten();
            assert!(found.is_none() || found == truth, "seed {seed}: {stage} {found:?} {truth:?}");
            known += u32::from(found.is_some());
        }
    }
    assert!(known > 300, "what the damage does not touch stays known: {known}");
}
