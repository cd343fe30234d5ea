//! What `timeline` writes, read by a program that knows nothing of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use analysis::{
    answer::json::to_json,
    input,
    pass::{self, Moment, Window},
    questions::{Name, Settings},
};
use serde_json::Value;

use super::{
    data,
    mutations::mutate,
    perfetto::{self, Slice, Timeline},
    random::Random,
    scene::{HOST, START, Scene, segment_name},
};

/// The answer, how many calls were read, and the file; `None` if nothing was written.
fn timeline(traces: &Path, window: Window) -> (Value, u64, Option<Timeline>) {
    timeline_with(traces, window, Settings::default())
}

pub(super) fn timeline_with(
    traces: &Path,
    window: Window,
    settings: Settings,
) -> (Value, u64, Option<Timeline>) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("a file");
    let settings = Settings { out: Some(out.clone()), ..settings };
    let found = input::find(&[traces.to_owned()]).unwrap();
    let mut asked = vec![Name::Timeline.question(&settings).unwrap()];
    let context = pass::read(&found.runs[0], &window, &mut asked);
    let answer = asked.remove(0).finish(&context);
    assert_eq!(answer.failure, None);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), usize::from(out.exists()));
    let file = out.exists().then(|| perfetto::read(&out));
    (to_json(&answer, &context), context.calls, file)
}

pub(super) fn figure(answer: &Value, name: &str) -> u64 {
    answer["figures"][name]["value"].as_u64().unwrap()
}

#[test]
fn every_call_has_its_slice_with_its_time() {
    for seed in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let scene = Scene::new(seed, 3, 60);
        scene.write(directory.path());
        let (answer, calls, timeline) = timeline(directory.path(), Window::default());
        let timeline = timeline.unwrap();
        let mut durations: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for slice in timeline.calls() {
            let duration = slice.end.unwrap() - slice.begin;
            durations.entry(slice.name.clone()).or_default().push(duration);
        }
        // The driver's call lies in that of the runtime.
        let of_runtime = |slice: &&Slice| slice.name.starts_with("cuda");
        let inner = || timeline.calls().filter(|slice| slice.depth == 1);
        assert_eq!(inner().count(), timeline.calls().filter(of_runtime).count());
        assert_eq!(inner().filter(of_runtime).count(), 0);
        let mut truth = scene.truth.durations.clone();
        for durations in durations.values_mut().chain(truth.values_mut()) {
            durations.sort_unstable();
        }
        assert_eq!(durations, truth, "seed {seed}");
        assert_eq!(figure(&answer, "slices"), calls);
        assert_eq!(figure(&answer, "instants"), 0);
        assert_eq!(timeline.on("what the trace lacks").count(), 0);

        let memory = timeline.counter("live device memory");
        assert_eq!(memory.last().unwrap().1, scene.truth.live, "seed {seed}");
        assert_eq!(memory.iter().map(|it| it.1).max().unwrap(), scene.truth.peak, "seed {seed}");
        let rate: u64 = timeline.counter("launches per second").iter().map(|it| it.1).sum();
        assert_eq!(rate, (scene.truth.launches + scene.truth.replays) * 100, "seed {seed}");

        // A flow is that of a launch, and the runtime's goes on in the driver's.
        let launches = |slice: &&Slice| slice.name.contains("Launch");
        let all = timeline.calls().filter(launches).count();
        assert!(all > 0 && timeline.flows.len() as u64 == figure(&answer, "flows"));
        assert!(timeline.flows.values().all(|&(calls, steps)| calls <= 2 && steps <= 1));
        assert!(timeline.flows.values().any(|&(calls, _)| calls == 2));
    }
}

#[test]
fn arguments_are_decoded() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::new(3, 1, 80);
    scene.write(directory.path());
    let timeline = timeline(directory.path(), Window::default()).2.unwrap();
    let of = |name: &str| timeline.calls().find(|slice| slice.name == name).unwrap();
    let launch = of("cuLaunchKernel");
    let kernel: u64 =
        launch.arguments["kernel"].strip_prefix("kern").unwrap()[..1].parse().unwrap();
    assert_eq!(launch.arguments["kernel"], format!("kern{kernel}()"));
    assert_eq!(launch.arguments["grid"], format!("{},1,1", kernel + 1));
    assert_eq!(launch.arguments["block"], "32,1,1");
    let replay = of("cudaGraphLaunch");
    assert!((1..=4).contains(&replay.arguments["kernels"].parse().unwrap()), "{replay:?}");
    let query = of("cudaEventQuery");
    assert_eq!(query.arguments["error"], "cudaErrorNotReady");
    assert_eq!((&*query.arguments["ret"], &*query.arguments["event"]), ("600", "14"));
    // The clock of the scene is that of its first line.
    let (unix, trace) = timeline.clocks[0];
    assert_eq!(unix, trace);
    assert!(timeline.calls().all(|slice| slice.begin >= 1_795_494_480_642_456_752));
}

#[test]
fn a_damaged_trace_gives_a_whole_file() {
    let mut instants = 0;
    for seed in 0..300 {
        let directory = tempfile::tempdir().unwrap();
        Scene::new(seed % 50, 3, 25).write(directory.path());
        let what = mutate(directory.path(), &mut Random(seed ^ 0x71e1_11e5));
        let (answer, calls, timeline) = timeline(directory.path(), Window::default());
        let Some(timeline) = timeline else { continue };
        // Reading it proves that it is well formed; and every line that was used is there.
        let shown = timeline.calls().count() as u64;
        let [slices, here] = ["slices", "instants"].map(|name| figure(&answer, name));
        assert_eq!(shown, slices + here, "seed {seed}: {what}");
        assert_eq!(shown, calls, "seed {seed}: {what}");
        instants += here;
        let gaps = answer["gaps"].as_array().unwrap().len();
        assert_eq!(timeline.on("what the trace lacks").count(), gaps, "seed {seed}: {what}");
    }
    assert!(instants > 0, "lines in a wrong place are instants");
}

#[test]
fn bytes_that_were_forged_give_a_whole_file() {
    let mut strange = 0;
    for seed in 0..200 {
        let directory = tempfile::tempdir().unwrap();
        Scene::new(seed % 50, 2, 25).write(directory.path());
        let mut random = Random(seed);
        let file = directory.path().join(segment_name(1 + random.below(2)));
        let mut bytes = fs::read(&file).unwrap();
        // Digits mostly: the lines stay lines, with other times, threads and sizes.
        for _ in 0..100 {
            let at = random.below(bytes.len());
            if bytes[at].is_ascii_digit() || random.below(20) == 0 {
                bytes[at] = b"0123456789-e."[random.below(13)];
            }
        }
        fs::write(&file, bytes).unwrap();
        let (answer, calls, timeline) = timeline(directory.path(), Window::default());
        let Some(timeline) = timeline else { continue };
        let shown = timeline.calls().count() as u64;
        let [slices, instants] = ["slices", "instants"].map(|name| figure(&answer, name));
        let left_out = answer["figures"]["left_out"]["value"].as_u64().unwrap_or(0);
        assert_eq!(shown, slices + instants, "seed {seed}");
        assert!(shown <= calls && calls <= shown + left_out, "seed {seed}: {calls} {shown}");
        strange += instants;
    }
    assert!(strange > 100, "{strange}: lines in a wrong place are instants");
}

#[test]
fn a_part_begins_with_what_is_live() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::new(5, 3, 60);
    scene.write(directory.path());
    let all = timeline(directory.path(), Window::default()).2.unwrap();
    let begin = all.calls().map(|slice| slice.begin).min().unwrap();
    let end = all.calls().filter_map(|slice| slice.end).max().unwrap();
    let middle = u64::midpoint(begin, end);
    let from = Some(Moment::Unix(i64::try_from(middle).unwrap()));
    let part = timeline(directory.path(), Window { from, to: None }).2.unwrap();
    let expected = all.calls().filter(|slice| slice.begin >= middle).count();
    assert_eq!(part.calls().count(), expected);
    let memory = part.counter("live device memory");
    let before = all.counter("live device memory");
    let before = before.iter().rfind(|it| it.0 < middle).unwrap();
    assert_eq!(memory[0].1, before.1);
    assert_eq!(memory.last().unwrap().1, scene.truth.live);
}

/// CUPTI saw when the copies of the outputs ended.
#[test]
fn what_is_proven_of_the_gpu_holds() {
    for (name, ends, steps) in [("h200-graphs", 224, 224), ("h200-eager", 32, 41)] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let cupti = fs::read(directory.join(format!("{name}.cupti.json"))).unwrap();
        let cupti: Value = serde_json::from_slice(&cupti).unwrap();
        let copies: Vec<u64> = cupti["copies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|copy| copy[0].as_u64().unwrap() + copy[1].as_u64().unwrap())
            .collect();
        assert_eq!(copies.len(), ends);
        let (answer, _, timeline) =
            timeline(&directory.join(format!("{name}.jsonl.zst")), Window::default());
        let timeline = timeline.unwrap();
        assert_eq!(figure(&answer, "steps_proven"), steps);
        assert_eq!(timeline.on("steps").count() as u64, steps);
        assert_eq!(timeline.on("steps in flight").count() as u64, steps);
        let is_of =
            |what: &'static str| move |slice: &&Slice| slice.arguments["proven"].contains(what);
        let gpu = || timeline.on("GPU: ends of steps, proven");
        let holds = |slice: &Slice, end: u64| slice.begin <= end && end <= slice.end.unwrap();
        for end in copies {
            let around = gpu().filter(is_of("was done")).filter(|slice| holds(slice, end)).count();
            assert!(around >= 1, "{name}: {end} lies in no span of an end");
            let busy = gpu()
                .filter(is_of("this one is not"))
                .find(|slice| slice.begin < end && end < slice.end.unwrap());
            assert_eq!(busy, None, "{name}: a step ended while none could");
        }
        let in_steps = timeline.flows.values().filter(|it| it.1 == 1).count() as u64;
        assert!(in_steps > steps && in_steps == figure(&answer, "flows_to_steps"));
    }
}

#[test]
fn a_real_trace_is_all_there() {
    let file = data("vllm-h200.jsonl");
    let timeline = timeline(&file, Window::default()).2.unwrap();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in fs::read_to_string(&file).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["type"] != "meta" {
            *lines.entry(line["func"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let mut slices: BTreeMap<String, usize> = BTreeMap::new();
    for slice in timeline.calls() {
        *slices.entry(slice.name.clone()).or_default() += 1;
    }
    assert_eq!(slices, lines);
}

#[test]
fn only_beginnings_are_instants() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.jsonl");
    let line = |ts: u32, func: &str| {
        format!(
            "{{\"ts\":{ts}.5,\"pid\":7,\"type\":\"cuda_api\",\"func\":\"{func}\",\"phase\":\"entry\"}}\n"
        )
    };
    let lines: Vec<String> = (0..5).map(|ts| line(ts, "cuLaunchKernel")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let (answer, _, timeline) = timeline(&file, Window::default());
    let timeline = timeline.unwrap();
    assert_eq!((figure(&answer, "slices"), figure(&answer, "instants")), (0, 5));
    let begins: Vec<u64> = timeline.calls().map(|slice| slice.begin).collect();
    // Without a clock, times are those of the run.
    assert_eq!(begins, [500_000, 1_500_000, 2_500_000, 3_500_000, 4_500_000]);
    assert!(timeline.clocks.is_empty());
}

#[test]
fn a_foreign_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 10).write(directory.path());
    let out: PathBuf = directory.path().join(format!("{HOST}_{START}.perfetto-trace"));
    fs::write(&out, "mine").unwrap();
    let settings = Settings { out: Some(out.clone()), ..Settings::default() };
    let traces = directory.path().join(segment_name(1));
    let found = input::find(&[traces]).unwrap();
    let mut asked = vec![Name::Timeline.question(&settings).unwrap()];
    let context = pass::read(&found.runs[0], &Window::default(), &mut asked);
    let answer = asked.remove(0).finish(&context);
    assert!(answer.failure.unwrap().contains("was not written by this program"));
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
}

fn tests_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A length of a slice's arguments, which may be less than nothing.
fn ns(slice: &Slice, argument: &str) -> i64 {
    slice.arguments[argument].parse().unwrap()
}

#[test]
fn requests_and_tokens_are_spans_with_what_they_waited_for() {
    let (trace, load) = (tests_data("h200-graphs.jsonl.zst"), tests_data("h200-graphs.load.json"));
    let settings = || Settings { load: vec![load.clone()], ..Settings::default() };
    let (answer, _, timeline) = timeline_with(&trace, Window::default(), settings());
    let timeline = timeline.unwrap();
    let told: Value = serde_json::from_slice(&fs::read(&load).unwrap()).unwrap();
    let run = &input::find(&[trace]).unwrap().runs[0];
    let mut asked = vec![Name::Tokens.question(&settings()).unwrap()];
    let context = pass::read(run, &Window::default(), &mut asked);
    let tokens = to_json(&asked.remove(0).finish(&context), &context);

    let slices: Vec<&Slice> = timeline.on("requests of h200-graphs.load.json").collect();
    let (requests, spans): (Vec<&Slice>, Vec<&Slice>) =
        slices.iter().partition(|slice| slice.depth == 0);
    assert_eq!(requests.len(), 32);
    assert_eq!(figure(&answer, "requests"), 32);
    assert_eq!((spans.len(), figure(&answer, "tokens_explained")), (32 * 64, 32 * 64));
    for request in requests {
        let number: usize = request.name.strip_prefix("request ").unwrap().parse().unwrap();
        let told = &told["requests"][number - 1];
        // The client's clock is that of the node, whose clocks moved by less than this.
        let sent = told["start_unix_ns"].as_u64().unwrap();
        assert!(request.begin.abs_diff(sent) < 100_000, "{request:?} {told}");
        let is_in = |slice: &&&Slice| {
            slice.track == request.track && slice.begin >= request.begin && slice.end <= request.end
        };
        let spans: Vec<&&Slice> = spans.iter().filter(is_in).collect();
        let offsets = told["chunk_offsets_ms"].as_array().unwrap();
        assert_eq!(spans.len(), offsets.len());
        for (span, offset) in spans.iter().zip(offsets) {
            let offset = offset.as_f64().unwrap() * 1e6;
            let arrived = (span.end.unwrap() - request.begin) as f64;
            assert!((arrived - offset).abs() < 2.0, "{span:?} {offset}");
            let parts = ["before", "queue", "host", "gpu", "wait", "after"];
            let sum: i64 = parts.iter().map(|part| ns(span, &format!("{part}_ns"))).sum();
            assert_eq!(sum.cast_unsigned(), span.end.unwrap() - span.begin, "{span:?}");
            // The step is on the engine's own track, and was handed out before the token came.
            let step = &span.arguments["step"];
            let mut flights = timeline.on("steps in flight");
            let flight = flights.find(|flight| &flight.arguments["step"] == step).unwrap();
            assert!(flight.end <= span.end, "{flight:?} {span:?}");
        }
        // As the question `tokens` says.
        let rows = tokens["requests"].as_array().unwrap();
        let row = rows.iter().find(|row| row["request"] == number).unwrap();
        assert_eq!(row["match"].as_str(), Some(&*request.arguments["match"]));
        let sum = |spans: &[&&Slice], part: &str| -> i64 {
            spans.iter().map(|span| ns(span, part)).sum()
        };
        for part in ["host_ns", "gpu_ns", "wait_ns"] {
            assert_eq!(row[format!("decode_{part}")].as_i64(), Some(sum(&spans[1..], part)));
        }
        for part in ["before_ns", "queue_ns"] {
            assert_eq!(row[part].as_i64(), Some(sum(&spans[..1], part)), "{row}");
        }
    }
    let notes = answer["notes"].as_array().unwrap();
    assert!(
        notes.iter().any(|note| note.as_str().unwrap().contains("64 requests of")),
        "{notes:?}"
    );
}

#[test]
fn a_load_test_of_another_day_is_named_and_the_timeline_is_written() {
    let trace = tests_data("h200-graphs.jsonl.zst");
    let directory = tempfile::tempdir().unwrap();
    let load = directory.path().join("load.json");
    let text = fs::read_to_string(tests_data("h200-graphs.load.json")).unwrap();
    fs::write(&load, text.replace("\"start_unix_ns\": 1795", "\"start_unix_ns\": 1794")).unwrap();
    let settings = Settings { load: vec![load], ..Settings::default() };
    let (answer, calls, timeline) = timeline_with(&trace, Window::default(), settings);
    assert_eq!(figure(&answer, "requests"), 0);
    assert_eq!(timeline.unwrap().calls().count() as u64, calls);
    let notes = answer["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("is not used: it ran from")));
}
