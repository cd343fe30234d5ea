//! Ramps, replays, repetitions and sweeps, against servers that know what should be found.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use loadtest::{record::RunResult, study::Study};
use serde::de::DeserializeOwned;

use crate::{
    command::{Ran, run_at},
    reply::{MODEL, error, healthy},
    server::Server,
};

fn read<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The one file of the study, and those of its runs.
fn results(ran: &Ran) -> (Study, Vec<RunResult>) {
    let study = Path::new(ran.stdout.trim());
    let study: Study = read(&ran.directory.path().join(study));
    let runs = study.runs.iter().map(|run| read(&ran.directory.path().join(&run.file))).collect();
    (study, runs)
}

#[test]
fn a_repetition_tells_how_sure_its_figures_are() {
    let server = Server::start(healthy);
    let arguments = ["batch", "--model", MODEL, "--count", "4", "--repeat", "3", "--seed", "5"];
    let ran = run_at(server.port, &[&arguments[..], &["--input-tokens", "8"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (study, runs) = results(&ran);
    assert_eq!((study.study.as_str(), study.is_complete, ran.files().len()), ("repeat", true, 4));
    assert_eq!(runs.iter().map(|run| run.settings.seed).collect::<Vec<_>>(), [5, 6, 7]);
    // No prompt comes twice, or a cache would make the later runs look better.
    let prompts: std::collections::HashSet<_> =
        server.seen().iter().map(|seen| seen.prompt().to_owned()).collect();
    assert_eq!(prompts.len(), 12);
    let interval = study.intervals.iter().find(|it| it.figure == "TTFT mean ms").unwrap();
    let means: Vec<f64> = runs.iter().map(|run| run.summary.ttft_ms.unwrap().mean).collect();
    let mean = means.iter().sum::<f64>() / 3.0;
    let deviation = (means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let half = 4.303 * deviation / 3.0_f64.sqrt();
    assert!((interval.mean - mean).abs() < 0.002, "{interval:?} {means:?}");
    assert!((interval.high.unwrap() - mean - half).abs() < 0.002, "{interval:?} {means:?}");
    assert!(ran.stderr.contains("with 95 % confidence"), "{}", ran.stderr);
}

#[test]
fn a_sweep_finds_what_a_server_can_take() {
    const CAPACITY: usize = 10;
    // In a second it takes so many requests of a run, whose ids begin alike, and no more.
    let runs = Mutex::new(HashMap::<String, usize>::new());
    let server = Server::start(move |seen| {
        let (run, _) = seen.header("x-request-id").unwrap().rsplit_once('-').unwrap();
        let mut runs = runs.lock().unwrap();
        let count = runs.entry(run.to_owned()).or_default();
        *count += 1;
        if *count <= CAPACITY { healthy(seen) } else { error(503, "busy") }
    });
    let arguments = ["batch", "--model", MODEL, "--sweep", "--duration", "1", "--slo", "e2e=60s"];
    let arguments = [&arguments[..], &["--arrivals", "constant", "--sweep-share", "100"]].concat();
    let ran = run_at(server.port, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (study, runs) = results(&ran);
    let capacity = study.capacity.unwrap();
    let (rate, above) = (capacity.rate.unwrap(), capacity.above.unwrap());
    assert!((9.5..=10.0).contains(&rate) && above > 10.0 && above <= rate * 1.05, "{capacity:?}");
    for (run, result) in study.runs.iter().zip(&runs) {
        // So many are due in a second; the last of them is not sent if one was refused before.
        let due = run.rate.unwrap().ceil();
        assert_eq!(run.is_kept, Some(due <= CAPACITY as f64), "{run:?}");
        assert!(result.requests.len() as f64 <= due, "{run:?}");
    }
    assert!(
        ran.stderr.contains(&format!("capacity    {rate} requests/s keep the limits")),
        "{}",
        ran.stderr
    );
    let pictures: Vec<_> = ran
        .files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "svg"))
        .collect();
    let picture = fs::read_to_string(&pictures[0]).unwrap();
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"), "{picture}");
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    // A point for each run in the curve of goodput, and two in those of TTFT where there is one.
    let with_answers = runs.iter().filter(|run| run.summary.ttft_ms.is_some()).count();
    assert_eq!(picture.matches("<circle").count(), runs.len() + 2 * with_answers);
}

#[test]
fn a_ramp_has_figures_for_its_parts() {
    let server = Server::start(healthy);
    let arguments = ["batch", "--model", MODEL, "--ramp", "4..40", "--duration", "1"];
    let ran = run_at(server.port, &[&arguments[..], &["--arrivals", "constant"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    // The mean of the two rates.
    assert_eq!((server.seen().len(), result.settings.ramp.as_deref()), (22, Some("4..40")));
    let windows = &result.summary.windows;
    assert_eq!(windows.len(), 10);
    assert_eq!(windows.iter().map(|window| window.requests).sum::<usize>(), 22);
    assert!(ran.stderr.contains("22 of 22 succeeded, 4..40 a second"), "{}", ran.stderr);
}

#[test]
fn a_recorded_load_is_sent_as_it_came() {
    let server = Server::start(healthy);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        "{\"timestamp\": 900, \"input_length\": 600, \"output_length\": 9, \"hash_ids\": [1, 2]}\n\
         {\"timestamp\": 100, \"input_length\": 520, \"output_length\": 4, \"hash_ids\": [1, 3]}\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = ["batch", "--model", MODEL, "--replay", path, "--replay-speed", "2"];
    let before = Instant::now();
    let ran = run_at(server.port, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let seen = server.seen();
    assert_eq!(seen.iter().map(|seen| seen.body["max_tokens"].clone()).collect::<Vec<_>>(), [4, 9]);
    let words: Vec<Vec<&str>> =
        seen.iter().map(|seen| seen.prompt().split(' ').collect()).collect();
    assert_eq!((words[0].len(), words[1].len()), (520, 600));
    assert_eq!(words[0][..512], words[1][..512]);
    // 800 ms apart, at twice the speed.
    assert!(seen[1].at >= before + Duration::from_millis(400));
    assert!(ran.stderr.contains("2 of 2 succeeded, as recorded"), "{}", ran.stderr);
}

#[test]
fn a_run_that_cannot_take_place_leaves_no_file() {
    let server = Server::start(|_| error(500, "out of order"));
    let files = ["--append", "runs.jsonl", "--csv", "runs.csv"];
    let ran = run_at(server.port, &[&["batch"][..], &files].concat());
    assert_eq!((ran.code, ran.files().len()), (1, 0), "{}", ran.stderr);
    let ran = run_at(server.port, &["batch", "--model", MODEL, "--append", "none/runs.jsonl"]);
    assert_eq!((ran.code, server.seen().len()), (1, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot append to none/runs.jsonl"), "{}", ran.stderr);
}

#[test]
fn figures_that_find_no_room_are_told_after_the_result() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["batch", "--model", MODEL, "--append", "/dev/full"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("15 of 15 succeeded"), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot append to /dev/full"), "{}", ran.stderr);
    assert_eq!(ran.result().requests.len(), 15);
}

#[test]
fn questions_without_sense_are_wrong_usage() {
    for (arguments, part) in [
        (&["--sweep"][..], "--slo"),
        (&["--sweep", "--slo", "itl=5ms"], "ttft or e2e"),
        (&["--arrivals", "constant"], "--rate, --ramp or --sweep"),
        (&["--ramp", "1..50"], "--duration"),
        (&["--ramp", "1", "--duration", "5"], "as in 1..50"),
        (&["--replay", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (&["--repeat", "1"], "--repeat"),
    ] {
        let ran = run_at(1, &[&["batch"], arguments].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
}
