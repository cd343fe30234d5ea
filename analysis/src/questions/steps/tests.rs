//! The question as a whole: several ranks, trials before the first step, and lines that are missing.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde_json::{Value, json};

use crate::{
    answer::json,
    input,
    pass::{self, Moment, Window},
    questions::{Name, Settings},
};

const OPENING: &str = r#"{"ts":0,"pid":1,"type":"meta","phase":"meta","func":"segment_open","format_version":3,"sequence":SEQUENCE,"host":"node","kernel":"6.18","sidecar_version":"0.1.0","clock":{"start_monotonic_ns":0,"monotonic_ns":0,"realtime_ns":1000000000000},"options":{}}"#;

/// The name of a segment, up to its number.
const NAME: &str = "trace_node_20261130T000000.000Z_00000";

#[derive(Default)]
struct Trace {
    text: String,
    /// By when their calls returned, in nanoseconds.
    lines: Vec<(i64, String)>,
    /// By function.
    calls: BTreeMap<String, u64>,
}

impl Trace {
    fn new(sequence: u64) -> Self {
        let opening = OPENING.replace("SEQUENCE", &sequence.to_string());
        Self { text: opening + "\n", ..Self::default() }
    }

    fn line(&mut self, line: &Value) {
        writeln!(self.text, "{line}").expect("a string takes all");
    }

    fn worker(&mut self, pid: u32, tp: u32) {
        self.line(
            &json!({"ts": 1.0, "pid": pid, "type": "meta", "phase": "meta", "func": "process",
            "parent": 10, "executable": null, "command": null, "comm": null,
            "matched_by": "ancestor", "role": "worker", "role_by": "title", "ranks": {"tp": tp}}),
        );
    }

    fn call(&mut self, (ms, dur_us): (f64, f64), pid: u32, func: &str, more: Value) {
        let mut line = json!({"ts": ms, "pid": pid, "tid": pid, "type": "cuda_api", "func": func,
            "phase": "call", "dur_us": dur_us, "ret": 0, "depth": 0});
        let Value::Object(more) = more else { panic!("fields") };
        line.as_object_mut().expect("a line is an object").extend(more);
        let returned = trace::call_view::from_milliseconds(ms + dur_us / 1e3);
        self.lines.push((returned, format!("{line}\n")));
        *self.calls.entry(func.to_owned()).or_default() += 1;
    }

    /// A step of 16 requests that decode; its event is `0xe0` and the number.
    fn step(&mut self, ms: f64, pid: u32, event: &str) {
        let main = json!("0x0");
        let copies = json!("0xc0");
        let input = json!({"bytes": 64, "kind": "HtoD", "stream": main});
        self.call((ms, 5.0), pid, "cuMemcpyHtoDAsync_v2", input);
        for layer in 0..6 {
            let launch = json!({"function": "0x1", "kernel": 1, "grid": [16, 1, 1],
                "block": [128, 1, 1], "shared_bytes": 0, "stream": main});
            self.call((ms + 0.1 * f64::from(layer + 1), 5.0), pid, "cuLaunchKernel", launch);
        }
        let output = json!({"bytes": 64, "kind": "DtoH", "src": "0x5000", "stream": copies});
        self.call((ms + 1.0, 5.0), pid, "cuMemcpyDtoHAsync_v2", output);
        let record = json!({"event": event, "stream": copies});
        self.call((ms + 1.1, 5.0), pid, "cuEventRecord", record);
    }

    fn wait(&mut self, ms: f64, dur_us: f64, pid: u32, event: &str) {
        self.call((ms, dur_us), pid, "cuEventSynchronize", json!({"event": event}));
    }

    /// The kernel counted `dropped` launches that have no line.
    fn close(mut self, ms: f64, sequence: u64, is_final: bool, dropped: u64) -> String {
        let counts = |(func, lines): (&String, &u64)| {
            let dropped = if func == "cuLaunchKernel" { dropped } else { 0 };
            // Every segment of a run holds the same.
            let run = lines * sequence;
            let counts = json!({"lines": lines, "run_hits": run + dropped, "run_lines": run,
                "run_dropped": dropped, "run_ignored": 0, "run_suppressed": 0});
            (func.clone(), counts)
        };
        // A thread writes its line when the call returns.
        self.lines.sort_by_key(|&(returned, _)| returned);
        self.text.extend(self.lines.drain(..).map(|(_, line)| line));
        let functions: Value = self.calls.iter().map(counts).collect();
        let clock = json!({"start_monotonic_ns": 0, "monotonic_ns": 0,
            "realtime_ns": 1_000_000_000_000_u64});
        let calls: u64 = self.calls.values().sum();
        self.line(&json!({"ts": ms, "pid": 1, "type": "meta", "phase": "meta",
            "func": "segment_close", "sequence": sequence, "reason": "interval", "final": is_final,
            "calls": calls, "clock": clock, "functions": functions}));
        self.text
    }
}

fn answer(segments: &[(u64, String)], window: &Window) -> Value {
    let directory = tempfile::tempdir().unwrap();
    for (sequence, text) in segments {
        let name = format!("{NAME}{sequence}.jsonl");
        fs::write(directory.path().join(name), text).unwrap();
    }
    let found = input::find(&[directory.path().to_owned()]).unwrap();
    let mut asked = vec![Name::Steps.question(&Settings::default()).unwrap()];
    let context = pass::read(&found.runs[0], window, &mut asked);
    json::to_json(&asked.remove(0).finish(&context), &context)
}

fn steps(answer: &Value) -> &Vec<Value> {
    answer["steps"].as_array().unwrap()
}

#[test]
fn ranks_that_wait_for_nothing_have_the_steps_of_the_one_that_waits() {
    let mut trace = Trace::new(1);
    trace.worker(11, 0);
    trace.worker(12, 1);
    // Trials, for which nobody waits.
    for pid in [11, 12] {
        trace.step(100.0, pid, "0xe1");
        trace.step(110.0, pid, "0xe1");
    }
    for ms in (0..12).map(|step| 5000.0 + 10.0 * f64::from(step)) {
        trace.step(ms, 11, "0xe2");
        trace.step(ms - 0.3, 12, "0xe3");
        trace.wait(ms + 2.0, 4000.0, 11, "0xe2");
        // Memory of the host that is given back: an event behind the copy, asked for later.
        trace.call((ms + 5.0, 2.0), 12, "cuEventRecord", json!({"event": "0xf", "stream": "0xc0"}));
        trace.call((ms + 7.0, 2.0), 12, "cuEventQuery", json!({"event": "0xf"}));
    }
    let answer = answer(&[(1, trace.close(6000.0, 1, true, 0))], &Window::default());
    let steps = steps(&answer);
    let seen: Vec<_> = steps
        .iter()
        .map(|it| (it["pid"].as_u64().unwrap(), it["rank"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen, [(12, 1), (11, 0)].repeat(12));
    let first = &steps[1];
    assert_eq!(first["start_unix_ns"], 1_005_000_000_000_i64);
    assert_eq!(first["completed"]["low_unix_ns"], 1_005_001_000_000_i64);
    assert_eq!(first["completed"]["high_unix_ns"], 1_005_006_000_000_i64);
    assert_eq!(first["completed"]["estimate_unix_ns"], 1_005_005_992_500_i64);
    let other = &steps[0]["completed"];
    assert_eq!(other["high_unix_ns"], 1_005_007_002_000_i64);
    assert_eq!(other["estimate_unix_ns"], Value::Null);
    for step in steps {
        assert_eq!((&step["graph_mode"], &step["launches"]), (&json!("NONE"), &json!(6)));
    }
    for step in &steps[2..] {
        assert_eq!(step["kind"], "decode", "{step}");
        assert_eq!(step["grades"]["completed"], Value::Null);
    }
}

#[test]
fn lines_that_are_missing_lower_the_grade_of_the_steps_around_them() {
    let segment = |sequence: u64, from: f64, dropped: u64| {
        let mut trace = Trace::new(sequence);
        trace.text = trace.text.replace("\"ts\":0,", &format!("\"ts\":{from:.1},"));
        for ms in [from + 10.0, from + 20.0] {
            trace.step(ms, 11, "0xe2");
            trace.wait(ms + 2.0, 4000.0, 11, "0xe2");
        }
        (sequence, trace.close(from + 90.0, sequence, sequence == 4, dropped))
    };
    let grade = |step: &Value| step["grades"]["completed"]["grade"].clone();
    let whole = [segment(1, 0.0, 0), segment(2, 100.0, 0)];
    let answered = answer(&whole, &Window::default());
    assert!(steps(&answered).iter().all(|step| grade(step) == Value::Null));

    let dropped = [segment(1, 0.0, 0), segment(2, 100.0, 3)];
    let answered = answer(&dropped, &Window::default());
    let grades: Vec<Value> = steps(&answered).iter().map(grade).collect();
    assert_eq!(grades, [Value::Null, Value::Null, json!("unknown"), json!("unknown")]);
    for column in ["start_unix_ns", "kind", "launches", "handed_unix_ns"] {
        assert_eq!(steps(&answered)[3]["grades"][column]["grade"], "unknown", "{column}");
    }

    let hole = [segment(1, 0.0, 0), segment(3, 200.0, 0)];
    let answered = answer(&hole, &Window::default());
    let grades: Vec<Value> = steps(&answered).iter().map(grade).collect();
    // The counts do not say whether lines are missing before this segment or in it.
    assert_eq!(grades, [Value::Null, Value::Null, json!("unknown"), json!("unknown")]);
    assert_eq!(answered["figures"]["steps"]["grade"], "bounds");
}

#[test]
fn a_window_has_the_steps_that_end_in_it() {
    let mut trace = Trace::new(1);
    for ms in [10.0, 20.0, 30.0] {
        trace.step(ms, 11, "0xe2");
        trace.wait(ms + 2.0, 4000.0, 11, "0xe2");
    }
    let window = Window { from: Some(Moment::Run(19_000_000)), to: Some(Moment::Run(29_000_000)) };
    let answered = answer(&[(1, trace.close(90.0, 1, true, 0))], &window);
    assert_eq!(steps(&answered).len(), 1);
    assert_eq!(steps(&answered)[0]["kind"], "decode");
}

#[test]
fn entries_alone_have_no_steps_and_say_so() {
    let mut trace = Trace::new(1);
    let line = json!({"ts": 5.0, "pid": 11, "tid": 11, "type": "cuda_api",
        "func": "cuEventSynchronize", "phase": "entry"});
    trace.line(&line);
    trace.calls.insert("cuEventSynchronize".to_owned(), 1);
    let answered = answer(&[(1, trace.close(90.0, 1, true, 0))], &Window::default());
    assert!(steps(&answered).is_empty());
    assert!(answered["sentences"][0].as_str().unwrap().contains("TRACE_DETAIL"));
}

/// A line deleted, cut, repeated, or put in the place of another: what is still called proved is true.
#[test]
fn broken_traces_are_not_believed() {
    let mut trace = Trace::new(1);
    for step in 0..6_u32 {
        let ms = 10.0 * f64::from(step + 1);
        let event = ["0xe2", "0xe3"][step as usize % 2];
        trace.step(ms, 11, event);
        trace.wait(ms + 2.0, 4000.0, 11, event);
    }
    let whole = trace.close(90.0, 1, true, 0);
    let window = Window::default();
    // Shortly before each wait returns.
    let truth: Vec<i64> =
        (1..=6).map(|step| 1_000_000_000_000 + step * 10_000_000 + 5_992_500).collect();
    let seen = answer(&[(1, whole.clone())], &window);
    for (step, truth) in steps(&seen).iter().zip(&truth) {
        let side = |side: &str| step["completed"][side].as_i64().unwrap();
        assert!((side("low_unix_ns")..=side("high_unix_ns")).contains(truth), "{step}");
        // Six steps do not tell whether the thread spins.
        assert_eq!(step["completed"]["estimate_unix_ns"], Value::Null);
    }
    assert_eq!(steps(&seen).len(), truth.len());
    let lines: Vec<&str> = whole.lines().collect();
    for at in 1..lines.len() - 1 {
        for mutation in 0..5 {
            let mut broken = lines.clone();
            match mutation {
                0 => drop(broken.remove(at)),
                1 => broken[at] = &lines[at][..lines[at].len() / 2],
                2 => broken.insert(at, lines[at]),
                3 => broken.swap(at, (at * 7) % (lines.len() - 2) + 1),
                _ => broken.truncate(at),
            }
            let answered = answer(&[(1, broken.join("\n") + "\n")], &window);
            for step in steps(&answered) {
                let Some(high) = step["completed"]["high_unix_ns"].as_i64() else { continue };
                let low = step["completed"]["low_unix_ns"].as_i64().unwrap();
                let is_true = truth.iter().any(|truth| (low..=high).contains(truth));
                let is_proved = step["grades"]["completed"] == Value::Null;
                assert!(is_true || !is_proved, "line {at}, mutation {mutation}: {step}");
            }
        }
    }
}

/// Four steps, of which the first is the slowest, and nobody waits long enough to tell more than bounds.
fn four_steps() -> Trace {
    let mut trace = Trace::new(1);
    for (ms, took) in [(10.0, 8000.0), (30.0, 4000.0), (40.0, 5000.0), (50.0, 4000.0)] {
        trace.step(ms, 11, "0xe2");
        trace.wait(ms + 2.0, took, 11, "0xe2");
    }
    trace
}

#[test]
fn the_first_step_begins_with_itself() {
    let answered = answer(&[(1, four_steps().close(90.0, 1, true, 0))], &Window::default());
    // It begins at 10 ms; its output is queued at 11 ms, and the wait for it returns at 20 ms.
    let expected = json!({"grade": "bounds", "low": 1_000_000.0, "high": 10_000_000.0});
    assert_eq!(steps(&answered)[0]["grades"]["duration_ns"], expected);
    let headline = &answered["headlines"][0];
    assert_eq!((&headline["low"], &headline["high"]), (&expected["low"], &expected["high"]));
    let detail = headline["detail"].as_str().unwrap();
    assert!(detail.contains("took 1.00 ms..10.0 ms"), "{detail}");
    assert!(!detail.contains("not known"), "{detail}");

    // A window's first step has one before it.
    let window = Window { from: Some(Moment::Run(29_000_000)), to: None };
    let answered = answer(&[(1, four_steps().close(90.0, 1, true, 0))], &window);
    let expected = json!({"grade": "bounds", "low": 1_000_000.0, "high": 6_000_000.0});
    assert_eq!(steps(&answered)[0]["grades"]["duration_ns"], expected);
}

#[test]
fn what_may_be_before_the_first_step_makes_its_beginning_a_bound() {
    let mut trace = Trace::new(1);
    trace.line(&json!({"ts": 5.0, "pid": 11, "type": "meta", "phase": "meta", "func": "coverage",
        "coverage": "from", "path": "/opt/libcuda.so.1", "device": 1, "inode": 2, "reason": "late"}));
    let more = four_steps();
    trace.lines = more.lines;
    trace.calls = more.calls;
    let answered = answer(&[(1, trace.close(90.0, 1, true, 0))], &Window::default());
    let expected = json!({"grade": "bounds", "high": 10_000_000.0, "low": null});
    assert_eq!(steps(&answered)[0]["grades"]["duration_ns"], expected, "{}", answered["gaps"]);
}

#[test]
fn a_step_that_may_be_the_slowest_comes_first() {
    let mut trace = Trace::new(1);
    // Nobody looks before 39 ms: the GPU may have taken up to then.
    for (ms, waits, took) in [(10.0, 12.0, 4000.0), (20.0, 38.0, 5000.0), (50.0, 52.0, 6000.0)] {
        trace.step(ms, 11, "0xe2");
        trace.wait(waits, took, 11, "0xe2");
    }
    // Never waited for.
    trace.step(60.0, 11, "0xe2");
    let answered = answer(&[(1, trace.close(90.0, 1, true, 0))], &Window::default());
    let begun: Vec<i64> = answered["slowest"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["start_unix_ns"].as_i64().unwrap() / 1_000_000 - 1_000_000)
        .collect();
    assert_eq!(begun, [20, 50, 10, 60]);
    let headline = &answered["headlines"][0];
    assert_eq!((&headline["grade"], &headline["high"]), (&json!("bounds"), &Value::Null));
    let detail = headline["detail"].as_str().unwrap();
    assert!(detail.contains("took 1.00 ms..23.0 ms"), "{detail}");
    assert!(detail.contains("1 of 4 steps"), "{detail}");
}

#[test]
fn distinct_steps_count_their_kinds() {
    let answered = answer(&[(1, four_steps().close(90.0, 1, true, 0))], &Window::default());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for step in steps(&answered) {
        assert_eq!(step["fingerprint"], steps(&answered)[0]["fingerprint"]);
        *counts.entry(step["kind"].as_str().unwrap_or("of unknown kind")).or_default() += 1;
    }
    assert!(counts.len() > 1, "{counts:?}");
    let [row] = &answered["fingerprints"].as_array().unwrap()[..] else { panic!("{answered}") };
    let told: BTreeMap<&str, u64> = row["kinds"]
        .as_str()
        .unwrap()
        .split(", ")
        .map(|told| told.split_once(' ').unwrap())
        .map(|(count, kind)| (kind, count.parse().unwrap()))
        .collect();
    assert_eq!(told, counts);
    assert_eq!((&row["kind"], &row["grades"]["kind"]["grade"]), (&Value::Null, &json!("unknown")));
}
