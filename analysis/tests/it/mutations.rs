//! A trace that is damaged somewhere: figures stay right, or say that they are not known.

use std::{fs, ops::Range, path::Path};

use analysis::{pass::Window, questions::Name};
use serde_json::Value;

use super::{
    ask,
    random::Random,
    scene::{Scene, Truth, segment_name},
};

const QUESTIONS: [Name; 3] = [Name::Summary, Name::Launches, Name::Memory];

const MUTATIONS: u64 = 2000;

/// So many damage something, and leave something.
pub(crate) const FEW: u64 = 100;

/// `MUTATIONS` in the environment asks for another number, `FIRST` for another first one.
pub(crate) fn seeds(usual: u64) -> Range<u64> {
    let asked = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let first = asked("FIRST").unwrap_or(0);
    first..first + asked("MUTATIONS").unwrap_or(usual)
}

#[test]
fn a_whole_trace_is_answered_exactly() {
    for seed in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let scene = Scene::new(seed, 3, 60);
        scene.write(directory.path());
        let answers = ask(&[directory.path()], &QUESTIONS, &Window::default());
        let judge =
            Judge { seed, what: "nothing", truth: &scene.truth, uncertain: 0 }.all(&answers);
        assert_eq!(judge, 0, "seed {seed}: figures of a whole trace are not all exact");
        assert_eq!(answers[0]["gaps"].as_array().unwrap().len(), 0, "{:?}", answers[0]["gaps"]);
    }
}

#[test]
fn a_damaged_trace_is_never_answered_wrongly() {
    let seeds = seeds(MUTATIONS);
    let (mut changed, mut lowered) = (0, 0);
    for seed in seeds.clone() {
        let directory = tempfile::tempdir().unwrap();
        let scene = Scene::new(seed % 50, 3, 25);
        scene.write(directory.path());
        let what = mutate(directory.path(), &mut Random(seed ^ 0xdead_beef));
        let answers = ask(&[directory.path()], &QUESTIONS, &Window::default());
        if answers.is_empty() {
            continue;
        }
        changed += 1;
        let judge = Judge { seed, what: &what, truth: &scene.truth, uncertain: 0 };
        lowered += u64::from(judge.all(&answers) > 0);
    }
    let count = seeds.end - seeds.start;
    // One or two may be of any kind.
    if count >= FEW {
        assert!(changed > count / 2 && lowered > count / 4, "{changed} {lowered}");
        assert!(lowered < changed, "some damage touches no figure");
    }
}

/// Damages one file, and says how.
pub(crate) fn mutate(directory: &Path, random: &mut Random) -> String {
    let at = 1 + random.below(3);
    let file = directory.join(segment_name(at));
    let text = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (one, other) = (random.below(lines.len()), random.below(lines.len()));
    let mut cut = String::new();
    let what = match random.below(9) {
        0 => {
            lines.remove(one);
            format!("line {one} deleted")
        }
        1 => {
            let length = random.below(lines[one].len());
            cut.push_str(&lines[one][..length]);
            cut.push('\n');
            lines[one] = &cut;
            format!("line {one} cut at {length}")
        }
        2 => {
            lines.swap(one, other);
            format!("lines {one} and {other} swapped")
        }
        3 => {
            lines.insert(one, lines[one]);
            format!("line {one} repeated")
        }
        4 => {
            lines.insert(other, lines[one]);
            format!("line {one} repeated before {other}")
        }
        5 => {
            let length = random.below(text.len());
            fs::write(&file, &text[..length]).unwrap();
            return format!("segment {at} cut at byte {length}");
        }
        6 => {
            fs::remove_file(&file).unwrap();
            return format!("segment {at} deleted");
        }
        7 => {
            let copy = 1 + random.below(5);
            fs::write(directory.join(segment_name(copy)), &text).unwrap();
            return format!("segment {at} copied to {copy}");
        }
        _ => {
            let to = 1 + random.below(3);
            let (one, other) = (file, directory.join(segment_name(to)));
            let (first, second) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
            fs::write(&one, second).unwrap();
            fs::write(&other, first).unwrap();
            return format!("segments {at} and {to} swapped");
        }
    };
    fs::write(&file, lines.concat()).unwrap();
    format!("segment {at}: {what}")
}

/// Compares every figure with the truth, as far as its grade claims something.
struct Judge<'a> {
    seed: u64,
    what: &'a str,
    truth: &'a Truth,
    /// Figures that claim less than to be exact.
    uncertain: u64,
}

impl Judge<'_> {
    fn all(mut self, answers: &[Value]) -> u64 {
        let [summary, launches, memory] = answers else { panic!("{} answers", answers.len()) };
        self.summary(summary);
        self.launches(launches);
        self.memory(memory);
        self.uncertain
    }

    fn summary(&mut self, answer: &Value) {
        let truth = self.truth;
        let all = truth.durations.values().map(Vec::len).sum::<usize>();
        self.figure(answer, "calls", all as f64);
        let rows = answer["functions"].as_array().unwrap();
        for row in rows {
            let name = row["function"].as_str().unwrap();
            let mut durations = truth.durations.get(name).cloned().unwrap_or_default();
            durations.sort_unstable();
            // The rank is the part in hundredths, rounded up.
            let of = |percent: usize| {
                let rank = (percent * durations.len()).div_ceil(100).max(1);
                durations.get(rank - 1).copied().unwrap_or(0) as f64
            };
            let errors = truth.errors.get(name).copied().unwrap_or(0);
            for (column, expected) in [
                ("calls", durations.len() as f64),
                ("total_ns", durations.iter().sum::<u64>() as f64),
                ("max_ns", durations.last().copied().unwrap_or(0) as f64),
                ("p50_ns", of(50)),
                ("p99_ns", of(99)),
                ("errors", errors as f64),
            ] {
                self.cell(answer, "functions", row, column, expected);
            }
        }
        // A function that is not there at all is one that the trace does not prove to be whole.
        let missing =
            truth.durations.keys().any(|name| !rows.iter().any(|row| row["function"] == **name));
        if missing {
            self.must_be_uncertain(&answer["figures"]["calls"], "a function is missing");
        }
    }

    fn launches(&mut self, answer: &Value) {
        let truth = self.truth;
        let runs: u64 = truth.runs.values().sum();
        for (name, expected) in [
            ("launches", truth.launches),
            ("replays", truth.replays),
            ("captured", truth.captured),
            ("kernels", runs),
        ] {
            if answer["figures"].get(name).is_some() {
                self.figure(answer, name, expected as f64);
            }
        }
        for row in answer["kernels"].as_array().unwrap() {
            let Some(expected) = truth.runs.get(row["kernel"].as_str().unwrap()) else { continue };
            self.cell(answer, "kernels", row, "runs", *expected as f64);
        }
    }

    fn memory(&mut self, answer: &Value) {
        let Truth { allocations, frees, allocated, live, peak, .. } = self.truth;
        for (name, expected) in [
            ("allocations", allocations),
            ("frees", frees),
            ("allocated_bytes", allocated),
            ("live_bytes", live),
            ("peak_bytes", peak),
        ] {
            self.figure(answer, name, *expected as f64);
        }
    }

    fn figure(&mut self, answer: &Value, name: &str, expected: f64) {
        let figure = &answer["figures"][name];
        self.judge(name, &figure["value"], figure, expected, answer);
    }

    fn cell(&mut self, answer: &Value, table: &str, row: &Value, column: &str, expected: f64) {
        let of_row = row["grades"].get(column);
        let grade = of_row.unwrap_or(&answer["columns"][table][column]);
        let name = format!("{} {}", row.as_object().unwrap().values().next().unwrap(), column);
        self.judge(&name, &row[column], grade, expected, answer);
    }

    fn judge(&mut self, name: &str, value: &Value, grade: &Value, expected: f64, answer: &Value) {
        let found = value.as_f64().unwrap_or(f64::NAN);
        let (low, high) = (grade["low"].as_f64(), grade["high"].as_f64());
        let is_right = match grade["grade"].as_str().unwrap() {
            "exact" => found.to_bits() == expected.to_bits() || (found == 0.0 && expected == 0.0),
            // Of the part that is here: there may be more, but not less.
            "exact_within" => found <= expected || name.contains("live_bytes"),
            "estimate" if grade.get("windows").is_some() => true,
            "estimate" => {
                let error = grade["error"].as_f64().unwrap();
                (found - expected).abs() <= expected * error + 0.5
            }
            "bounds" => {
                low.is_none_or(|low| low <= expected) && high.is_none_or(|high| expected <= high)
            }
            "unknown" => true,
            other => panic!("{other}"),
        };
        let is_certain = matches!(grade["grade"].as_str(), Some("exact" | "estimate"))
            && grade.get("windows").is_none();
        self.uncertain += u64::from(!is_certain);
        assert!(
            is_right,
            "seed {}, {}: {} {name} is {value}, {grade}, and in truth {expected}; gaps: {:?}",
            self.seed,
            self.what,
            answer["question"],
            super::gaps(answer)
        );
    }

    fn must_be_uncertain(&self, figure: &Value, why: &str) {
        assert_ne!(figure["grade"], "exact", "seed {}, {}: {why}", self.seed, self.what);
    }
}
