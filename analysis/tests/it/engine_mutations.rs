//! An engine's trace that is damaged somewhere: what is said of steps, tokens, ranks, findings and
//! the start stays right, or says that it is not known.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use analysis::{
    answer::json::to_json,
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    data,
    engine::{Engine, START_UNIX_NS, Step, Truth},
    gaps,
    mutations::{FEW, mutate, seeds},
    random::Random,
    segments::{Line, Segments, Told},
};

const QUESTIONS: [Name; 5] =
    [Name::Steps, Name::Tokens, Name::Ranks, Name::Startup, Name::Findings];

const MUTATIONS: u64 = 300;

/// Different engines.
const ENGINES: u64 = 40;

/// Writes the segments and damages them, and says how. With `KEEP` in the environment they stay.
fn damaged(segments: &Segments, cuts: &[usize], random: &mut Random) -> (TempDir, String) {
    let mut directory = tempfile::tempdir().unwrap();
    segments.write(directory.path(), cuts);
    let mut what = mutate(directory.path(), random);
    if std::env::var_os("KEEP").is_some() {
        directory.disable_cleanup(true);
        what = format!("{what}, in {}", directory.path().display());
    }
    (directory, what)
}

/// By question; empty if nothing is left of the trace.
fn ask(directory: &Path, names: &[Name], load: &[PathBuf]) -> Vec<Value> {
    let settings = Settings { load: load.to_vec(), ..Settings::default() };
    let found = input::find(&[directory.to_owned()]).unwrap();
    let mut asked: Vec<_> = names.iter().map(|name| name.question(&settings).unwrap()).collect();
    let context = pass::read(&found.runs[0], &Window::default(), &mut asked);
    asked.into_iter().map(|question| to_json(&question.finish(&context), &context)).collect()
}

struct Made {
    engine: Engine,
    load: PathBuf,
    cuts: [usize; 2],
    /// Answers to the whole trace.
    whole: Vec<Value>,
}

impl Made {
    fn new(seed: u64, beside: &Path) -> Self {
        let engine = Engine::new(seed);
        let load = beside.join(format!("load-{seed}.json"));
        fs::write(&load, engine.load.to_string()).unwrap();
        let cuts = engine.cuts(&mut Random(seed));
        let directory = tempfile::tempdir().unwrap();
        engine.segments.write(directory.path(), &cuts);
        let whole = ask(directory.path(), &QUESTIONS, std::slice::from_ref(&load));
        Self { engine, load, cuts, whole }
    }
}

#[test]
fn a_whole_engine_is_answered_rightly() {
    let beside = tempfile::tempdir().unwrap();
    let (mut steps, mut kinds, mut matched, mut requests) = (0, 0, 0, 0);
    for seed in 0..ENGINES {
        let Made { engine, whole, .. } = Made::new(seed, beside.path());
        let Truth { steps: truth, stages, findings, silences, requests: of_requests } =
            &engine.truth;
        assert!(gaps(&whole[0]).is_empty(), "seed {seed}: {:?}", gaps(&whole[0]));
        let [of_steps, tokens, ranks, startup, of_findings] = &whole[..] else { panic!() };

        let rows = of_steps["steps"].as_array().unwrap();
        assert_eq!(rows.len(), truth.len(), "seed {seed}");
        let start_unix_ns = START_UNIX_NS;
        let judge = Judge {
            seed,
            what: "nothing",
            truth,
            start_unix_ns,
            gaps: Vec::new(),
            wrong: RefCell::default(),
        };
        for row in rows {
            let step = judge.step_of(row).unwrap_or_else(|| panic!("seed {seed}: {row}"));
            judge.core(row, step);
            steps += 1;
            kinds += u32::from(!row["kind"].is_null());
        }
        assert_eq!(judge.wrong.take(), Vec::<String>::new());

        let found: BTreeSet<(String, u64)> = of_findings["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (text(row, "finding"), row["pid"].as_u64().unwrap()))
            .collect();
        let expected: BTreeSet<(String, u64)> =
            findings.iter().map(|&(name, pid)| (name.to_owned(), u64::from(pid))).collect();
        assert_eq!(found, expected, "seed {seed}");
        for row in of_findings["findings"].as_array().unwrap() {
            let steps = truth.iter().filter(|step| row["pid"] == step.pid).count();
            assert_eq!(row["steps"], steps, "seed {seed}: every step wastes: {row}");
        }

        let found: BTreeSet<(u64, String, u64, u64)> = startup["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let [pid, from, took] =
                    ["pid", "start_ns", "duration_ns"].map(|it| row[it].as_u64().unwrap());
                (pid, text(row, "stage"), from, from + took)
            })
            .collect();
        let expected = stages
            .iter()
            .map(|&(pid, stage, from, to)| (u64::from(pid), stage.to_owned(), from, to));
        assert_eq!(found, expected.collect(), "seed {seed}");

        let found: Vec<[u64; 3]> = ranks["late"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let [pid, from, silent] =
                    ["pid", "from_ns", "silent_ns"].map(|it| row[it].as_u64().unwrap());
                [pid, from, from + silent]
            })
            .collect();
        let expected: Vec<[u64; 3]> =
            silences.iter().map(|&(pid, from, to)| [u64::from(pid), from, to]).collect();
        assert_eq!(found, expected, "seed {seed}");

        for row in tokens["requests"].as_array().unwrap() {
            requests += 1;
            if row["match"] == "matched" {
                matched += 1;
                let at = usize::try_from(row["request"].as_u64().unwrap() - 1).unwrap();
                let ends = ["first_step_unix_ns", "last_step_unix_ns"]
                    .map(|it| row[it].as_u64().unwrap() - START_UNIX_NS);
                assert_eq!(ends, of_requests[at], "seed {seed}: {row}");
            }
        }
    }
    assert!(kinds * 10 > steps * 8, "{kinds} of {steps}");
    assert!(matched * 2 > requests, "{matched} of {requests}");
}

#[test]
fn a_damaged_engine_is_never_answered_wrongly() {
    let beside = tempfile::tempdir().unwrap();
    let mut made: BTreeMap<u64, Made> = BTreeMap::new();
    let mut seen = Seen::default();
    let seeds = seeds(MUTATIONS);
    for seed in seeds.clone() {
        let number = seed % ENGINES;
        let made = made.entry(number).or_insert_with(|| Made::new(number, beside.path()));
        let mut random = Random(seed ^ 0x0057_e955);
        let (directory, what) = damaged(&made.engine.segments, &made.cuts, &mut random);
        let answers = ask(directory.path(), &QUESTIONS, std::slice::from_ref(&made.load));
        let judge = Judge {
            seed,
            what: &what,
            truth: &made.engine.truth.steps,
            start_unix_ns: START_UNIX_NS,
            gaps: gaps(&answers[0]),
            wrong: RefCell::default(),
        };
        judge.all(&answers, &made.whole, &mut seen);
        seen.wrong.extend(judge.wrong.take());
    }
    seen.assert_nothing_wrong();
    let is_balanced = seen.lowered > 0 && seen.claimed > seen.lowered / 4;
    assert!(is_balanced || seeds.end - seeds.start < FEW, "{seen:?}");
}

/// The steps of `vllm-h200.jsonl`, as vLLM's log and CUPTI have them: beginning since the start of the
/// run, kind, graph mode, requests, tokens, and when the copy of the output ended.
///
/// The first begins before the cut.
const REAL_STEPS: [(u64, &str, &str, u64, u64, u64); 8] = [
    (97_694_322_204, "decode", "FULL", 16, 16, 1_795_999_217_287_929_609),
    (97_697_596_663, "decode", "FULL", 15, 15, 1_795_999_217_293_040_438),
    (97_723_634_026, "prefill", "PIECEWISE", 1, 3, 1_795_999_217_328_081_297),
    (97_742_899_293, "mixed", "PIECEWISE", 16, 98, 1_795_999_217_346_977_130),
    (97_761_204_348, "decode", "FULL", 16, 16, 1_795_999_217_356_445_574),
    (97_766_811_591, "decode", "FULL", 16, 16, 1_795_999_217_361_923_666),
    (97_772_118_888, "decode", "FULL", 16, 16, 1_795_999_217_367_188_926),
    (97_777_307_647, "decode", "FULL", 16, 16, 1_795_999_217_372_252_779),
];

/// What is asked of the real trace, of which there is no load test.
const OF_REAL: [Name; 4] = [Name::Steps, Name::Ranks, Name::Startup, Name::Findings];

struct Real {
    segments: Segments,
    start_unix_ns: u64,
    truth: Vec<Step>,
}

impl Real {
    fn new() -> Self {
        let (mut lines, mut told, mut clock) = (Vec::new(), Told::default(), [0; 2]);
        for text in fs::read_to_string(data("vllm-h200.jsonl")).unwrap().lines() {
            let mut line: Value = serde_json::from_str(text).unwrap();
            let pid = u32::try_from(line["pid"].as_u64().unwrap()).unwrap();
            let func = line["func"].as_str().unwrap().to_owned();
            if line["type"] == "meta" {
                let fields = line.as_object_mut().unwrap();
                for common in ["ts", "pid", "type", "phase", "func"] {
                    fields.remove(common);
                }
                let graph = || line["graph_exec"].as_str().unwrap().to_owned();
                match func.as_str() {
                    "process" => drop(told.processes.insert(pid, line)),
                    "kernel" => drop(told.kernels.insert(line["id"].as_u64().unwrap(), line)),
                    "graph" => drop(told.graphs.insert((pid, graph()), line)),
                    _ => {
                        let [start, then, unix] =
                            ["start_monotonic_ns", "monotonic_ns", "realtime_ns"]
                                .map(|it| line["clock"][it].as_u64().unwrap());
                        clock = [start, unix - (then - start)];
                    }
                }
                continue;
            }
            let ns = |field: &str, unit: f64| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a time"
                )]
                let ns = (line[field].as_f64().unwrap() * unit).round() as u64;
                ns
            };
            let (ts_ns, took_ns) = (ns("ts", 1e6), ns("dur_us", 1e3));
            let graph = (func == "cuGraphLaunch").then(|| line["graph_exec"].as_str());
            lines.push(Line {
                pid,
                func,
                ts_ns,
                end_ns: ts_ns + took_ns,
                kernel: line["kernel"].as_u64(),
                graph: graph.flatten().map(str::to_owned),
                text: format!("{text}\n"),
            });
        }
        let start_unix_ns = clock[1];
        let pid = lines[0].pid;
        let truth = REAL_STEPS.map(|(start, kind, mode, requests, tokens, end)| Step {
            pid,
            start,
            end: end - start_unix_ns,
            kind,
            mode,
            requests,
            tokens,
            ..Step::default()
        });
        let segments = Segments { lines, told, clock, mapped: Vec::new() };
        Self { segments, start_unix_ns, truth: truth.to_vec() }
    }
}

#[test]
fn a_damaged_trace_of_a_real_engine_is_never_answered_wrongly() {
    let real = Real::new();
    let whole_directory = tempfile::tempdir().unwrap();
    let count = real.segments.lines.len();
    real.segments.write(whole_directory.path(), &[count / 3, count * 2 / 3]);
    let whole = ask(whole_directory.path(), &OF_REAL, &[]);
    let rows = whole[0]["steps"].as_array().unwrap();
    assert_eq!(rows.len(), REAL_STEPS.len());
    let mut seen = Seen::default();
    for (row, step) in rows.iter().zip(&real.truth) {
        for (column, expected) in [
            ("kind", Value::from(step.kind)),
            ("graph_mode", step.mode.into()),
            ("requests", step.requests.into()),
            ("tokens", step.tokens.into()),
        ] {
            assert!(row[column].is_null() || row[column] == expected, "{column}: {row}");
        }
    }
    let seeds = seeds(MUTATIONS / 2);
    for seed in seeds.clone() {
        let mut random = Random(seed ^ 0x4ea1);
        let one = 1 + random.below(count - 2);
        let other = one + 1 + random.below(count - one - 1);
        let (directory, what) = damaged(&real.segments, &[one, other], &mut random);
        let answers = ask(directory.path(), &OF_REAL, &[]);
        let judge = Judge {
            seed,
            what: &what,
            truth: &real.truth,
            start_unix_ns: real.start_unix_ns,
            gaps: gaps(&answers[0]),
            wrong: RefCell::default(),
        };
        judge.all(&answers, &whole, &mut seen);
        seen.wrong.extend(judge.wrong.take());
    }
    seen.assert_nothing_wrong();
    let is_balanced = seen.lowered > 0 && seen.steps[0] > seen.steps[1] / 4;
    assert!(is_balanced || seeds.end - seeds.start < FEW, "{seen:?}");
}

/// Columns by which rows of the whole trace and of the damaged one are told to be the same.
const KEYS: [(&str, &[&str]); 14] = [
    ("steps", &["pid", "start_ns"]),
    ("kinds", &["kind", "graph_mode", "graph_tokens"]),
    ("slowest", &["pid", "start_unix_ns"]),
    ("fingerprints", &["fingerprint"]),
    ("parts", &["part"]),
    ("requests", &["request"]),
    ("slowest_first", &["request", "token"]),
    ("slowest_next", &["request", "token"]),
    ("loads", &["file"]),
    ("ranks", &["pid"]),
    ("late", &["pid", "from_ns"]),
    ("stages", &["pid", "stage"]),
    ("findings", &["finding", "pid"]),
    ("evidence", &[]),
];

/// A list by order: a row that the other's lacks may stand behind those that it shows.
const RANKINGS: [&str; 3] = ["slowest", "slowest_first", "slowest_next"];

/// What is said of a row, whatever the lines are.
const CONSTANTS: [&str; 17] = [
    "process",
    "counted",
    "cost_of",
    "confidence",
    "what",
    "advice",
    "title",
    "format",
    "file",
    "problem",
    "id",
    "load",
    "warmup",
    "match",
    "pid",
    "waited_for",
    "at",
];

/// What figures hold for that are of a part of the trace.
const PARTS: [&str; 8] = [
    "the time up to the last closing line",
    "the time up to the last line",
    "the lines given",
    "processes and times in which",
    "requests that lie in the trace",
    "steps around which no line is missing",
    "the steps that were found",
    "tokens whose step is told",
];

/// Of how many steps or tokens something is said.
const SAID: [&str; 7] = [
    "steps_of_unknown_kind",
    "steps_estimated",
    "tokens_matched",
    "tokens_ambiguous",
    "tokens_unmatched",
    "ttft_unexplained",
    "itl_unexplained",
];

#[derive(Debug, Default)]
struct Seen {
    claimed: u64,
    lowered: u64,
    /// Rows of steps whose beginning is claimed, and all.
    steps: [u64; 2],
    wrong: Vec<String>,
}

impl Seen {
    fn assert_nothing_wrong(&self) {
        let Self { wrong, .. } = self;
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}

struct Judge<'a> {
    seed: u64,
    what: &'a str,
    truth: &'a [Step],
    start_unix_ns: u64,
    gaps: Vec<String>,
    /// What is claimed, and not true.
    wrong: RefCell<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Claim {
    Nothing,
    Bounds(Option<f64>, Option<f64>),
    Estimate(f64),
    /// Of a part of the trace: another figure than that of the whole one.
    Part,
    Value,
}

impl Claim {
    fn of_cell(columns: &Value, row: &Value, column: &str) -> Self {
        let own = row["grades"].get(column);
        Self::of(own.unwrap_or(&columns[column]))
    }

    fn of(grade: &Value) -> Self {
        let windows = grade["windows"].as_str().unwrap_or("");
        let is_part = PARTS.iter().any(|part| windows.starts_with(part));
        match grade["grade"].as_str().unwrap() {
            "unknown" => Self::Nothing,
            "bounds" => Self::Bounds(grade["low"].as_f64(), grade["high"].as_f64()),
            _ if is_part => Self::Part,
            "estimate" => Self::Estimate(grade["error"].as_f64().unwrap()),
            _ => Self::Value,
        }
    }
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap().to_owned()
}

impl Judge<'_> {
    fn all(&self, answers: &[Value], whole: &[Value], seen: &mut Seen) {
        for (answer, whole) in answers.iter().zip(whole) {
            self.figures(answer, whole, seen);
            for (table, columns) in answer["columns"].as_object().unwrap() {
                self.table(table, columns, answer, whole, seen);
            }
        }
        for row in answers[0]["steps"].as_array().unwrap() {
            seen.steps[1] += 1;
            if Claim::of_cell(&answers[0]["columns"]["steps"], row, "start_ns") == Claim::Value {
                seen.steps[0] += 1;
                match self.step_of(row) {
                    Some(step) => self.ends(&answers[0], row, step),
                    None => self.wrong(&answers[0], "no step begins there", row),
                }
            }
        }
    }

    fn figures(&self, answer: &Value, whole: &Value, seen: &mut Seen) {
        for (name, figure) in answer["figures"].as_object().unwrap() {
            if SAID.contains(&name.as_str()) {
                continue;
            }
            let expected = &whole["figures"][name];
            let (claim, value) = (Claim::of(figure), &figure["value"]);
            self.compare(answer, name, (claim, value), expected, &expected["value"], seen);
        }
    }

    fn table(&self, table: &str, columns: &Value, answer: &Value, whole: &Value, seen: &mut Seen) {
        let (_, keys) = KEYS.iter().find(|it| it.0 == table).unwrap();
        // Means of the requests that are in the trace as a whole.
        let is_of_part =
            table == "parts" && Claim::of(&answer["figures"]["requests"]) == Claim::Part;
        // Of a load test, the numbers that another table has one by one.
        if keys.is_empty() || is_of_part || table == "loads" {
            return;
        }
        let key =
            |row: &Value| -> Vec<Value> { keys.iter().map(|key| row[*key].clone()).collect() };
        for row in answer[table].as_array().unwrap() {
            let is_said = row["part"] == "unexplained" || table == "kinds" && row["kind"].is_null();
            if is_said {
                continue;
            }
            let is_known = keys.iter().all(|key| {
                Claim::of_cell(columns, row, key) != Claim::Nothing || row[*key].is_null()
            });
            let expected = whole[table].as_array().unwrap().iter().find(|it| key(it) == key(row));
            if expected.is_none() && RANKINGS.contains(&table) {
                continue;
            }
            for column in columns.as_object().unwrap().keys() {
                if CONSTANTS.contains(&column.as_str()) || keys.contains(&column.as_str()) {
                    continue;
                }
                // It is known of the process, whatever the row is.
                if column == "rank" && (!is_known || expected.is_none()) {
                    continue;
                }
                let claim = Claim::of_cell(columns, row, column);
                if !is_known && claim != Claim::Nothing && !row[column].is_null() {
                    self.wrong(answer, &format!("{table}: {column} of an unknown row"), row);
                }
                let name = format!("{table} {:?} {column}", key(row));
                let nothing = Value::Null;
                let (grade, of_whole) = match expected {
                    Some(expected) => {
                        let grades = &whole["columns"][table][column];
                        (expected["grades"].get(column).unwrap_or(grades), &expected[column])
                    }
                    None => (&nothing, &nothing),
                };
                self.compare(answer, &name, (claim, &row[column]), grade, of_whole, seen);
            }
        }
    }

    /// `expected` is what the whole trace says, and `grade` how that is known; null where it has
    /// nothing like it.
    fn compare(
        &self,
        answer: &Value,
        name: &str,
        (claim, value): (Claim, &Value),
        grade: &Value,
        expected: &Value,
        seen: &mut Seen,
    ) {
        let number = |value: &Value| value.as_f64();
        // What the whole trace does not have is not there.
        let absent = grade.is_null();
        let is_null_claim = name.ends_with("deviates") && !absent;
        // Where the whole trace tells only bounds, nothing else is known to be wrong.
        let (least, most) = match (number(expected), absent) {
            (_, true) => (Some(0.0), Some(0.0)),
            _ if grade["grade"] == "bounds" => (grade["low"].as_f64(), grade["high"].as_f64()),
            (expected, false) => (expected, expected),
        };
        let is_below = |one: Option<f64>, other: Option<f64>| {
            // But for the last digits.
            let is_right = |(one, other): (f64, f64)| one <= other + other.abs() * 1e-9;
            one.zip(other).is_none_or(is_right)
        };
        let is_right = match claim {
            Claim::Nothing => {
                seen.lowered += 1;
                true
            }
            _ if value.is_object() => !absent,
            Claim::Part => {
                seen.lowered += 1;
                true
            }
            Claim::Value | Claim::Estimate(_) if value.is_null() => {
                !is_null_claim || expected.is_null()
            }
            // Zero of nothing.
            Claim::Value if absent => value.as_f64() == Some(0.0),
            Claim::Value if grade["grade"] == "bounds" => {
                let found = number(value);
                is_below(least, found) && is_below(found, most)
            }
            Claim::Value => {
                seen.claimed += 1;
                value == expected
            }
            Claim::Estimate(error) => {
                let found = number(value).unwrap();
                let error = found.abs() * error + 0.5;
                is_below(least, Some(found + error)) && is_below(Some(found - error), most)
            }
            Claim::Bounds(low, high) => is_below(low, most) && is_below(least, high),
        };
        if !is_right {
            self.wrong(
                answer,
                &format!("{name} is {value}, and in truth {expected}"),
                &Value::Null,
            );
        }
    }

    /// The step of the process that begins where the row says.
    fn step_of(&self, row: &Value) -> Option<&Step> {
        let [pid, start] = ["pid", "start_ns"].map(|it| row[it].as_u64());
        self.truth.iter().find(|step| Some(u64::from(step.pid)) == pid && Some(step.start) == start)
    }

    /// Cells of a whole trace against what was made.
    fn core(&self, row: &Value, step: &Step) {
        let told = |column: &str, expected: Value, may_be_null: bool| {
            let is_right = row[column] == expected || may_be_null && row[column].is_null();
            assert!(is_right, "seed {}: {column} is not {expected}: {row} {step:?}", self.seed);
        };
        told("rank", step.rank.into(), false);
        told("kind", step.kind.into(), true);
        told("graph_mode", step.mode.into(), false);
        told("graph_tokens", step.graph_tokens.into(), false);
        told("requests", step.requests.into(), false);
        told("tokens", step.tokens.into(), true);
        told("launches", step.launches.into(), false);
        told("graph_launches", step.graph_launches.into(), false);
        told("copies", step.copies.into(), false);
        told("handed_unix_ns", step.handed.map(|ns| START_UNIX_NS + ns).into(), false);
        self.ends(&Value::Null, row, step);
    }

    /// The GPU was done when it is proved to have been, and took as long.
    fn ends(&self, answer: &Value, row: &Value, step: &Step) {
        let is_claimed =
            |column: &str| row["grades"].get(column).is_none_or(|it| it["grade"] != "unknown");
        let end = self.start_unix_ns + step.end;
        let [low, high] = ["low_unix_ns", "high_unix_ns"].map(|it| row["completed"][it].as_u64());
        let is_within = low.is_none_or(|low| low <= end) && high.is_none_or(|high| end <= high);
        if is_claimed("completed") && !is_within {
            self.wrong(answer, &format!("the GPU was done at {end}"), row);
        }
        let own =
            self.truth.iter().filter(|other| other.pid == step.pid && other.start < step.start);
        let before = own.map(|other| other.end).max();
        let took = step.end - before.unwrap_or(0).max(step.start);
        let grade = &row["grades"]["duration_ns"];
        let is_bounded = grade["low"].as_u64().is_none_or(|low| low <= took)
            && grade["high"].as_u64().is_none_or(|high| took <= high);
        let is_close = grade["grade"] != "estimate"
            || row["duration_ns"].as_u64().is_some_and(|ns| ns.abs_diff(took) <= 25_000);
        if !is_bounded || !is_close {
            self.wrong(answer, &format!("it took {took}"), row);
        }
    }

    fn wrong(&self, answer: &Value, what: &str, row: &Value) {
        let Self { seed, what: damage, gaps, .. } = self;
        let question = &answer["question"];
        self.wrong
            .borrow_mut()
            .push(format!("seed {seed}, {damage}: {question} {what} {row}; gaps: {gaps:?}"));
    }
}
