//! The ledger of real engines, beside what vLLM logged and what CUPTI saw of the same run.
//!
//! `data/` holds cuts of two runs of vLLM 0.20.2 on an H200, and of one of 0.26.0 with its newer model
//! runner: lines of a time, and of one process. What a step of the newer runner ran as, `StepGraph`,
//! is from a line that was put into it, as it has no `--cudagraph-metrics`. The
//! whole runs are checked too where they are at hand:
//! `cargo test --release -p analysis --test steps -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use analysis::{
    answer::json,
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use serde_json::Value;

/// vLLM's words for one iteration.
const CONTEXT: &str = " context requests, ";
const GENERATION: &str = " generation requests, ";

#[test]
fn a_cut_of_an_engine_with_graphs() {
    let run = Run::cut("h200-graphs");
    // The cut begins within the first step.
    run.check_iterations(1);
    let errors = run.check_ends(224);
    assert!(errors.len() > 200, "{}", errors.len());
    let (median, nine_of_ten) = (at(&errors, 0.5), at(&errors, 0.9));
    assert!(median < 10_000 && nine_of_ten < 25_000, "{median} {nine_of_ten}");
    let modes = run.modes();
    assert_eq!(modes["FULL 16"], 218);
    assert_eq!(modes["PIECEWISE 104"], 2);
    assert_eq!(modes.values().sum::<usize>(), 224);
}

#[test]
fn a_cut_of_an_eager_engine() {
    let run = Run::cut("h200-eager");
    run.check_iterations(1);
    let errors = run.check_ends(32);
    assert_eq!(errors.len(), 0, "every wait came late");
    assert_eq!(run.modes()["NONE null"], 41);
}

/// Copies of two sizes make one output, and the waiting thread sleeps: ends are bounded only.
#[test]
fn a_cut_of_the_newer_runner() {
    let run = Run::cut("h200-v2-runner");
    run.check_iterations(1);
    assert_eq!(run.check_ends(128).len(), 0, "returns come 75 us and more behind the end");
    let mut logged = run.log.lines().filter_map(|line| line.strip_prefix("StepGraph "));
    for step in &run.steps {
        let words: Vec<&str> = logged.next().unwrap().split(' ').collect();
        let [mode, "padded", padded, "requests", _, "tokens", _] = words[..] else { panic!() };
        assert_eq!(step["graph_mode"], mode, "{step}");
        let padded = if mode == "NONE" { "null" } else { padded };
        assert_eq!(step["graph_tokens"].to_string(), padded, "{step}");
    }
    assert_eq!(logged.next(), None);
}

/// The directories of the whole runs lie beside the repository.
#[test]
#[ignore = "needs the whole runs beside the repository"]
fn whole_runs() {
    let graphs = Run::whole("vllm-0.20.2-llama-2-7b-h200-graphs");
    graphs.check_iterations(0);
    let errors = graphs.check_ends(224);
    let (median, nine_of_ten) = (at(&errors, 0.5), at(&errors, 0.9));
    println!("graphs: {} estimates, {median} ns, {nine_of_ten} ns", errors.len());
    assert!(errors.len() > 200 && median < 10_000 && nine_of_ten < 25_000);
    graphs.check_tables();

    let eager = Run::whole("vllm-0.20.2-llama-2-7b-h200-eager");
    eager.check_iterations(0);
    assert_eq!(eager.check_ends(32).len(), 0);
    eager.check_tables();
}

struct Run {
    steps: Vec<Value>,
    log: String,
    /// When copies to the host ended on the GPU, by CUPTI.
    ends: Vec<i64>,
}

impl Run {
    fn cut(name: &str) -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let cupti = fs::read(data.join(format!("{name}.cupti.json"))).unwrap();
        let cupti: Value = serde_json::from_slice(&cupti).unwrap();
        let copies = cupti["copies"].as_array().unwrap();
        Self {
            steps: steps(data.join(format!("{name}.jsonl.zst"))),
            log: fs::read_to_string(data.join(format!("{name}.log"))).unwrap(),
            ends: copies
                .iter()
                .map(|copy| copy[0].as_i64().unwrap() + copy[1].as_i64().unwrap())
                .collect(),
        }
    }

    fn whole(name: &str) -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
        let cupti: Value = serde_json::from_str(&unpacked(&data.join("cupti.json.xz"))).unwrap();
        let base = cupti["base"].as_i64().unwrap();
        let is_output = |row: &&Value| {
            let name = usize::try_from(row[1].as_u64().unwrap()).unwrap();
            row[0].as_str().unwrap().starts_with("gpu_m")
                && cupti["names"][name].as_str().unwrap().contains("DtoH")
        };
        let end = |row: &Value| base + nanoseconds(&row[2]) + nanoseconds(&row[3]);
        Self {
            log: unpacked(&data.join("vllm.log.xz")),
            ends: cupti["rows"].as_array().unwrap().iter().filter(is_output).map(end).collect(),
            steps: steps(data),
        }
    }

    /// One step for each iteration that had requests, of the same kind, requests and tokens.
    fn check_iterations(&self, first: usize) {
        let iterations: Vec<[u64; 4]> =
            self.log.lines().filter_map(iteration).filter(|it| it[0] + it[2] > 0).collect();
        assert_eq!(self.steps.len(), iterations.len());
        let mut unknown = 0;
        for (step, counts) in self.steps.iter().zip(&iterations).skip(first) {
            let [context, context_tokens, generation, generation_tokens] = *counts;
            let kind = match (context, generation) {
                (0, _) => "decode",
                (_, 0) => "prefill",
                _ => "mixed",
            };
            match step["kind"].as_str() {
                Some(found) => assert_eq!(found, kind, "{counts:?} {step}"),
                None => unknown += 1,
            }
            assert_eq!(step["requests"], context + generation, "{counts:?} {step}");
            if let Some(tokens) = step["tokens"].as_u64() {
                assert_eq!(tokens, context_tokens + generation_tokens, "{counts:?} {step}");
            }
        }
        assert!(unknown * 20 <= iterations.len(), "{unknown} of {}", iterations.len());
    }

    /// Each end lies in the interval of its step; the errors of the estimates, sorted.
    fn check_ends(&self, count: usize) -> Vec<u64> {
        assert_eq!(self.ends.len(), count);
        let side = |step: &Value, side: &str| step["completed"][side].as_i64();
        let mut errors = Vec::new();
        for &end in &self.ends {
            // Outputs end in order.
            let at = self.steps.partition_point(|it| side(it, "high_unix_ns").unwrap() < end);
            let step = &self.steps[at];
            assert!(side(step, "low_unix_ns").unwrap() <= end, "{end} {step}");
            errors.extend(side(step, "estimate_unix_ns").map(|it| it.abs_diff(end)));
        }
        errors.sort_unstable();
        errors
    }

    /// Steps by graph mode and captured tokens.
    fn modes(&self) -> BTreeMap<String, usize> {
        let mut modes = BTreeMap::new();
        for step in &self.steps {
            let mode = step["graph_mode"].as_str().unwrap();
            *modes.entry(format!("{mode} {}", step["graph_tokens"])).or_default() += 1;
        }
        modes
    }

    /// vLLM's own tables count the steps up to the moment at which the last was printed.
    fn check_tables(&self) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for line in self.log.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let [_, _, padded, _, mode, count, _] = cells[..]
                && let Ok(count) = count.parse::<usize>()
            {
                *counts.entry(format!("{mode} {padded}")).or_default() += count;
            }
        }
        let (before, _) = self.log.rsplit_once("**CUDAGraph Stats:**").unwrap();
        let all = counts.values().sum::<usize>();
        let iterations = before.lines().filter_map(iteration).filter(|it| it[0] + it[2] > 0);
        // Two processes write the log: the next iteration may stand before the table.
        assert!(iterations.count() - all <= 1);
        let mut modes: BTreeMap<String, usize> = BTreeMap::new();
        for step in &self.steps[..all] {
            let mode = step["graph_mode"].as_str().unwrap();
            // Without a graph nothing is padded.
            let tokens = &step[if mode == "NONE" { "tokens" } else { "graph_tokens" }];
            *modes.entry(format!("{mode} {tokens}")).or_default() += 1;
        }
        assert_eq!(modes, counts);
    }
}

fn steps(path: PathBuf) -> Vec<Value> {
    let found = input::find(&[path]).unwrap();
    let mut asked = vec![Name::Steps.question(&Settings::default()).unwrap()];
    let context = pass::read(&found.runs[0], &Window::default(), &mut asked);
    let answer = asked.remove(0).finish(&context);
    json::to_json(&answer, &context)["steps"].as_array().unwrap().clone()
}

/// Requests and tokens with a prompt, requests and tokens without.
fn iteration(line: &str) -> Option<[u64; 4]> {
    let (before, behind) = line.split_once(CONTEXT)?;
    let (tokens, rest) = behind.split_once(" context tokens, ")?;
    let (requests, rest) = rest.split_once(GENERATION)?;
    let (generated, _) = rest.split_once(" generation tokens")?;
    let context = before.rsplit(' ').next()?;
    let number = |text: &str| text.parse().ok();
    Some([number(context)?, number(tokens)?, number(requests)?, number(generated)?])
}

fn unpacked(path: &Path) -> String {
    let output = Command::new("xz").arg("-dc").arg(path).output().expect("xz is installed");
    assert!(output.status.success(), "{}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Microseconds with three decimals.
#[expect(clippy::cast_possible_truncation, reason = "a time of this century")]
fn nanoseconds(microseconds: &Value) -> i64 {
    (microseconds.as_f64().unwrap() * 1e3).round() as i64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
fn at(sorted: &[u64], part: f64) -> u64 {
    sorted[(part * (sorted.len() - 1) as f64) as usize]
}
