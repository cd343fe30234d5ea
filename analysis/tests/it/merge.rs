//! `timeline --merge`: profiles that are made of a trace, so that it is known which launch is which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use analysis::{pass::Window, questions::Settings};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    perfetto::{Slice, Timeline},
    random::Random,
    scene::{Scene, segment_name},
    timeline::{figure, timeline_with},
};

/// The trace's clock less the profiler's, and what its times count from.
const OFFSET_NS: i64 = 7_654_321;
const BASE_NS: i64 = 1_790_000_000_000_000_000;

const LAUNCHES: [&str; 3] = ["cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch"];

/// What `torch.profiler` would have written of a trace, and what is true of it.
#[derive(Clone, Default)]
struct Profile {
    events: Vec<Value>,
    /// When each correlation was launched, by the trace's clock.
    launched: BTreeMap<u64, u64>,
    random: Random,
    next: u64,
}

impl Profile {
    /// The launches of the calls that are outermost.
    fn of(directory: &Path, segments: usize, seed: u64) -> Self {
        let mut profile = Self { random: Random(seed ^ 0x3e46e), ..Self::default() };
        let mut base = None;
        for sequence in 1..=segments {
            let text = fs::read_to_string(directory.join(segment_name(sequence))).unwrap();
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                let clock = |field: &str| line["clock"][field].as_i64().unwrap();
                if line["func"] == "segment_open" && base.is_none() {
                    let start = clock("start_monotonic_ns");
                    base = Some(clock("realtime_ns") - clock("monotonic_ns") + start);
                }
                let is_launch = LAUNCHES.iter().any(|name| line["func"] == *name);
                if is_launch && line["depth"] == 0 {
                    profile.launch(&line, base.unwrap());
                }
            }
        }
        profile
    }

    fn launch(&mut self, line: &Value, base: i64) {
        self.next += 1;
        #[expect(clippy::cast_possible_truncation, reason = "of a small trace")]
        let begin = base + (line["ts"].as_f64().unwrap() * 1e6).round() as i64;
        #[expect(clippy::cast_possible_truncation, reason = "of a small trace")]
        let end = begin + (line["dur_us"].as_f64().unwrap() * 1e3).round() as i64;
        let us = |ns: i64| (ns - OFFSET_NS - BASE_NS) as f64 / 1e3;
        // CUPTI is inside of our probes.
        let (from, to) = (begin + 40 + self.below(30), end - 30 - self.below(30));
        let (name, tid) = (line["func"].clone(), line["tid"].clone());
        let correlation = self.next;
        self.events.push(
            json!({"ph": "X", "cat": "cuda_runtime", "name": name, "pid": 70, "tid": tid,
            "ts": us(from), "dur": (to - from) as f64 / 1e3,
            "args": {"cbid": 211, "correlation": correlation, "External id": 5}}),
        );
        // What is launched into a capture runs later.
        if line["stream"] == "0x9" {
            return;
        }
        self.launched.insert(correlation, begin.cast_unsigned());
        let kernels = if name == "cudaGraphLaunch" { 3 } else { 1 };
        for kernel in 0..kernels {
            let at = end + 2000 + 3000 * kernel;
            self.events.push(json!({"ph": "X", "cat": "kernel", "name": "void k<1>()", "pid": 0,
                "tid": 7, "ts": us(at), "dur": 2.5, "args": {"device": 0, "stream": 7,
                "correlation": correlation, "grid": line["grid"], "block": line["block"]}}));
        }
    }

    fn below(&mut self, limit: usize) -> i64 {
        i64::try_from(self.random.below(limit)).unwrap()
    }

    fn json(&self) -> Value {
        json!({"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "a \"GPU\""}],
            "traceEvents": self.events, "baseTimeNanoseconds": BASE_NS, "displayTimeUnit": "ms"})
    }

    /// Of the calls of a category, to be changed.
    fn calls(&mut self) -> impl Iterator<Item = &mut Value> {
        self.events.iter_mut().filter(|event| event["cat"] == "cuda_runtime")
    }
}

struct Scenery {
    directory: tempfile::TempDir,
    profile: Profile,
}

fn scenery(seed: u64) -> Scenery {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(seed, 3, 150).write(directory.path());
    let profile = Profile::of(directory.path(), 3, seed);
    Scenery { directory, profile }
}

fn merge(traces: &Path, content: &[u8]) -> (Value, Timeline) {
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("profile");
    fs::write(&file, content).unwrap();
    let settings = Settings { merge: Some(file), ..Settings::default() };
    let (answer, _, timeline) = timeline_with(traces, Window::default(), settings);
    (answer, timeline.unwrap())
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn notes(answer: &Value) -> String {
    answer["notes"].to_string()
}

fn of_gpu(timeline: &Timeline) -> Vec<&Slice> {
    timeline.on("stream 7").collect()
}

/// Every flow to the GPU comes from the call that was really its launch. Returns how many there are.
fn check_flows(timeline: &Timeline, profile: &Profile) -> usize {
    let mut calls: BTreeMap<u64, Vec<&Slice>> = BTreeMap::new();
    for call in timeline.calls() {
        for flow in &call.flows {
            calls.entry(*flow).or_default().push(call);
        }
    }
    let mut flows = 0;
    for slice in of_gpu(timeline) {
        let correlation: u64 = slice.arguments["correlation"].parse().unwrap();
        for flow in &slice.ends {
            let [call] = calls[flow][..] else { panic!("flow {flow} leaves {:?}", calls[flow]) };
            assert_eq!(call.begin, profile.launched[&correlation], "{slice:?} {call:?}");
            flows += 1;
        }
    }
    flows
}

#[test]
fn launches_lead_to_what_the_gpu_did_of_them() {
    for seed in 0..4 {
        let Scenery { directory, profile } = scenery(seed);
        let json = profile.json().to_string().into_bytes();
        let (answer, timeline) = merge(directory.path(), &json);
        let calls = profile.clone().calls().count() as u64;
        assert_eq!(figure(&answer, "profile_launches"), calls, "{seed}: {}", notes(&answer));
        assert_eq!(figure(&answer, "profile_launches_matched"), calls, "seed {seed}");
        assert_eq!(figure(&answer, "profile_launches_missing"), 0, "seed {seed}");
        let kernels = profile.events.iter().filter(|event| event["cat"] == "kernel").count();
        assert_eq!(of_gpu(&timeline).len(), kernels);
        assert_eq!(figure(&answer, "gpu_slices_launched"), kernels as u64);
        let flows = check_flows(&timeline, &profile);
        assert_eq!(
            (flows, flows as u64),
            (profile.launched.len(), figure(&answer, "flows_to_gpu"))
        );
        let offset = &answer["figures"]["profile_clock_offset_ns"]["grade"];
        let bound = |side: &str| answer["figures"]["profile_clock_offset_ns"][side].as_f64();
        let (low, high) = (bound("low").unwrap(), bound("high").unwrap());
        let truth = OFFSET_NS as f64;
        assert!(low <= truth && truth <= high && high - low < 200.0, "{offset} {low} {high}");
        // Where they ran is told to the middle of these bounds.
        for slice in of_gpu(&timeline) {
            assert_eq!(slice.end.unwrap() - slice.begin, 2500);
        }
        let same = merge(directory.path(), &gzip(&json));
        assert_eq!(same.0["figures"]["flows_to_gpu"], answer["figures"]["flows_to_gpu"]);
        // The older form has times since 1970 and no base; a list alone is one, too.
        let mut older = profile.clone();
        for event in &mut older.events {
            event["ts"] = json!(event["ts"].as_f64().unwrap() + BASE_NS as f64 / 1e3);
        }
        let older = Value::Array(older.events).to_string().into_bytes();
        let (answer, timeline) = merge(directory.path(), &older);
        assert_eq!(figure(&answer, "profile_launches_matched"), calls, "{}", notes(&answer));
        check_flows(&timeline, &profile);
    }
}

#[test]
fn what_one_of_both_lacks_is_counted_and_leads_nowhere() {
    for seed in 0..4 {
        let Scenery { directory, mut profile } = scenery(seed);
        let all = profile.clone().calls().count() as u64;
        let mut random = Random(seed);
        profile.events.retain(|event| event["cat"] != "cuda_runtime" || random.below(10) > 0);
        let left = profile.clone().calls().count() as u64;
        let (answer, timeline) = merge(directory.path(), profile.json().to_string().as_bytes());
        assert_eq!(figure(&answer, "profile_launches"), left);
        assert_eq!(figure(&answer, "profile_launches_matched"), left, "seed {seed}");
        let missing = figure(&answer, "profile_launches_missing");
        assert!(missing > 0 && missing <= all - left, "{missing} of {all} less {left}");
        assert!(check_flows(&timeline, &profile) > 50);
        let slices = figure(&answer, "gpu_slices");
        assert!(figure(&answer, "gpu_slices_launched") < slices, "seed {seed}");

        // Now the trace lacks some.
        let whole = Profile::of(directory.path(), 3, seed);
        let file = directory.path().join(segment_name(2));
        let text = fs::read_to_string(&file).unwrap();
        let is_kept = |line: &&str| !line.contains("Launch") || random.below(10) > 0;
        let lines: Vec<&str> = text.lines().filter(is_kept).collect();
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        let (answer, timeline) = merge(directory.path(), whole.json().to_string().as_bytes());
        assert_eq!(figure(&answer, "profile_launches"), all);
        let matched = figure(&answer, "profile_launches_matched");
        assert!(matched < all && matched > all * 3 / 4, "seed {seed}: {matched} of {all}");
        check_flows(&timeline, &whole);
    }
}

#[test]
fn threads_are_told_by_their_launches() {
    for seed in 0..4 {
        let Scenery { directory, mut profile } = scenery(seed);
        for call in profile.calls() {
            let tid = call["tid"].as_i64().unwrap();
            (call["pid"], call["tid"]) = (json!(1), json!(100 - tid));
        }
        let (answer, timeline) = merge(directory.path(), profile.json().to_string().as_bytes());
        let calls = profile.clone().calls().count() as u64;
        assert_eq!(figure(&answer, "profile_launches_matched"), calls);
        let told = "thread 93 of process 1 in";
        assert!(notes(&answer).contains(told), "{}", notes(&answer));
        assert_eq!(check_flows(&timeline, &profile), profile.launched.len());

        // Launches that are given to any thread match nothing, or what they were.
        let mut random = Random(seed);
        for call in profile.calls() {
            call["tid"] = json!(7 + random.below(2));
        }
        let (answer, timeline) = merge(directory.path(), profile.json().to_string().as_bytes());
        assert!(figure(&answer, "profile_launches_matched") < calls);
        check_flows(&timeline, &profile);
    }
}

/// Of a thread that it does not know the profiler writes the lower half of its `pthread_t`, which the
/// next thread may have too.
#[test]
fn threads_that_had_one_number_one_after_the_other_are_told_apart() {
    for seed in 0..4 {
        let Scenery { directory, profile } = scenery(seed);
        let calls = profile.clone().calls().count() as u64;
        let numbers: BTreeSet<u64> =
            profile.clone().calls().map(|call| call["tid"].as_u64().unwrap()).collect();
        for sequence in 1..=3 {
            let file = directory.path().join(segment_name(sequence));
            let mut text = fs::read_to_string(&file).unwrap();
            for tid in &numbers {
                text =
                    text.replace(&format!("\"tid\":{tid},"), &format!("\"tid\":{sequence}0{tid},"));
            }
            fs::write(&file, text).unwrap();
        }
        let (answer, timeline) = merge(directory.path(), profile.json().to_string().as_bytes());
        assert_eq!(figure(&answer, "profile_launches_matched"), calls, "{}", notes(&answer));
        assert_eq!(figure(&answer, "profile_launches_missing"), 0, "seed {seed}");
        assert!(notes(&answer).contains("threads 107, 207, 307 of process"), "{}", notes(&answer));
        assert!(!notes(&answer).contains("not the trace's"), "{}", notes(&answer));
        assert_eq!(check_flows(&timeline, &profile), profile.launched.len());
    }
}

#[test]
fn a_profile_of_something_else_is_named_and_nothing_of_it_is_shown() {
    for seed in 0..4 {
        let Scenery { directory, profile } = scenery(seed);
        let other = scenery(seed + 100).profile;
        let mut late = profile.clone();
        for event in &mut late.events {
            event["ts"] = json!(event["ts"].as_f64().unwrap() + 3600e6);
        }
        let mut few = profile.clone();
        few.events.truncate(2);
        for (profile, expected) in [
            (other, "is of another process or time"),
            (late, "has no launch within 10 s"),
            (few, "has too few launches to be matched"),
        ] {
            let (answer, timeline) = merge(directory.path(), profile.json().to_string().as_bytes());
            assert!(notes(&answer).contains("is not merged"), "seed {seed}: {answer}");
            assert!(notes(&answer).contains(expected), "seed {seed}: {}", notes(&answer));
            assert_eq!(of_gpu(&timeline).len(), 0);
            assert_eq!(figure(&answer, "gpu_slices"), 0);
        }
    }
}

#[test]
fn hostile_profiles_are_named_and_take_no_memory() {
    let Scenery { directory, profile } = scenery(1);
    let json = profile.json().to_string();
    let event = |event: &str| format!("{{\"traceEvents\":[{event}]}}");
    let long = "x".repeat(1 << 20);
    let cut = gzip(json.as_bytes());
    for (content, expected) in [
        (Vec::new(), "EOF"),
        (b"not json".to_vec(), "expected"),
        (b"{}".to_vec(), "no traceEvents"),
        (event("").into_bytes(), "has no launch"),
        (event("1").into_bytes(), "invalid type"),
        (event(&"[".repeat(100_000)).into_bytes(), "not merged"),
        (event(&format!("{{\"name\":\"{long}\"}}")).into_bytes(), "a text of more than"),
        (event(&format!("{{\"ts\":{}}}", "1".repeat(1 << 20))).into_bytes(), "a text of more than"),
        (json.as_bytes()[..json.len() / 2].to_vec(), "EOF"),
        (cut[..cut.len() / 2].to_vec(), "not merged"),
        (gzip(b"no json"), "expected"),
        (b"\x1f\x8b\0\0\0".to_vec(), "not merged"),
        (format!("{}{}", &json[..json.len() - 1], ",\"traceEvents\":[]}").into_bytes(), "twice"),
    ] {
        let (answer, timeline) = merge(directory.path(), &content);
        assert!(notes(&answer).contains("not merged"), "{expected}: {}", notes(&answer));
        assert!(notes(&answer).contains(expected), "{expected}: {}", notes(&answer));
        assert_eq!(of_gpu(&timeline).len(), 0);
    }
    // Bytes that were changed are no panic, and all calls stay.
    let mut shown = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut bytes = json.clone().into_bytes();
        for _ in 0..20 {
            let at = random.below(bytes.len());
            bytes[at] = b"0123456789-e.\"{}[],:x"[random.below(21)];
            if random.below(2) == 0 && bytes[at].is_ascii_digit() {
                continue;
            }
            bytes[at] = json.as_bytes()[at];
        }
        let (answer, timeline) = merge(directory.path(), &bytes);
        shown += of_gpu(&timeline).len();
        assert!(answer["figures"]["slices"]["value"].as_u64().unwrap() > 0);
    }
    assert!(shown > 0);
}

/// What CUPTI has seen of two thousand launches on an H200. Names of kernels take no part in the match:
/// each of ours, by its number, must be one of CUPTI's always.
#[test]
fn launches_of_a_real_engine_lead_to_their_kernels() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let profile = fs::read(data.join("h200-eager.profile.json.gz")).unwrap();
    let (answer, timeline) = merge(&data.join("h200-eager.jsonl.zst"), &profile);
    for figure_name in ["profile_launches", "profile_launches_matched", "flows_to_gpu"] {
        assert_eq!(figure(&answer, figure_name), 2000, "{figure_name}: {}", notes(&answer));
    }
    assert_eq!(figure(&answer, "profile_launches_missing"), 0);
    let mut calls = BTreeMap::new();
    for call in timeline.calls() {
        calls.extend(call.flows.iter().map(|flow| (*flow, call)));
    }
    let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
    let mut kernels = 0;
    for slice in timeline.on("stream 7").chain(timeline.on("stream 13")) {
        let [flow] = slice.ends[..] else { panic!("{slice:?}") };
        let call = calls[&flow];
        assert!(call.begin < slice.begin);
        let Some(kernel) = call.arguments.get("kernel_id") else { continue };
        assert_eq!(theirs.entry(kernel).or_insert(&slice.name), &&slice.name);
        assert_eq!(ours.entry(&slice.name).or_insert(kernel), &kernel);
        kernels += 1;
    }
    assert!(kernels > 1900 && theirs.len() > 10, "{kernels} of {}", theirs.len());
    let bound = |side: &str| answer["figures"]["profile_clock_offset_ns"][side].as_f64().unwrap();
    assert!(bound("low") < 0.0 && bound("high") > 0.0 && bound("high") - bound("low") < 1500.0);
}

/// What torch.profiler itself has written of three threads, two of them new ones in each of its steps: by
/// their numbers these are two. Each stream is one of the profiler's numbers and one of our handles.
#[test]
fn a_real_profile_of_threads_leads_to_their_streams() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let profile = fs::read(data.join("h200-threads.profile.json.gz")).unwrap();
    let (answer, timeline) = merge(&data.join("h200-threads.jsonl.zst"), &profile);
    for figure_name in ["profile_launches", "profile_launches_matched", "flows_to_gpu"] {
        assert_eq!(figure(&answer, figure_name), 1281, "{figure_name}: {}", notes(&answer));
    }
    assert_eq!(figure(&answer, "profile_launches_missing"), 0);
    assert!(notes(&answer).contains("threads 561, 563, 566 of process 485"), "{}", notes(&answer));
    let mut calls = BTreeMap::new();
    for call in timeline.calls() {
        calls.extend(call.flows.iter().map(|flow| (*flow, call)));
    }
    let mut handles = BTreeMap::new();
    let mut alike = 0;
    for stream in ["stream 7", "stream 18", "stream 22"] {
        for slice in timeline.on(stream) {
            let [flow] = slice.ends[..] else { continue };
            let call = calls[&flow];
            assert!(call.begin < slice.begin);
            handles.entry(stream).or_insert_with(BTreeSet::new).insert(&call.arguments["stream"]);
            for shape in ["grid", "block", "bytes"] {
                let of_both = call.arguments.get(shape).zip(slice.arguments.get(shape));
                assert!(of_both.is_none_or(|(ours, theirs)| ours == theirs), "{call:?} {slice:?}");
                alike += usize::from(of_both.is_some());
            }
        }
    }
    let all: BTreeSet<_> = handles.values().flatten().collect();
    assert!(handles.values().all(|handles| handles.len() == 1) && all.len() == 3, "{handles:?}");
    assert!(alike > 2000, "{alike}");
}
