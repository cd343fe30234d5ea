//! `--repeat` and `--sweep`: several runs, a result for each, and one for all.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::{Outcome, Session, show};
use crate::{
    pace::{self, Pace, Rate},
    plan::StudyPlan,
    prompts::Prompts,
    result_file::ResultFile,
    run::Load,
    study::{
        Run, Study, picture,
        repeat::{self, intervals},
        sweep::{Search, capacity},
    },
};

/// What a study has come to. Each run has its own file already, so an error here loses only what compares them.
#[derive(Default)]
struct Course {
    runs: Vec<Run>,
    is_good: bool,
    is_marked: bool,
    is_complete: bool,
    settings: Option<crate::record::Settings>,
    error: Option<anyhow::Error>,
}

pub(super) async fn execute(session: &Session<'_>, plan: StudyPlan) -> Result<Outcome> {
    let start = Timestamp::now();
    let mut course = Course { is_good: true, ..Course::default() };
    let name = match plan {
        StudyPlan::Repeat(count) => {
            repeat(session, count, &mut course).await;
            "repeat"
        }
        StudyPlan::Sweep { from, precision, share } => {
            sweep(session, Search::new(from, precision), share, &mut course).await;
            "sweep"
        }
    };
    let Course { runs, is_good, is_marked, is_complete, settings, error } = course;
    let Some(settings) = settings else {
        return Err(error.unwrap_or_else(|| anyhow::anyhow!("no run took place")));
    };
    let study = Study {
        tool: concat!("loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
        label: session.plan.label.clone(),
        study: name.to_owned(),
        started_at: start.to_string(),
        finished_at: Timestamp::now().to_string(),
        settings,
        is_complete,
        intervals: if name == "repeat" { intervals(&runs) } else { Vec::new() },
        capacity: match plan {
            StudyPlan::Sweep { share, .. } => Some(capacity(&runs, share)),
            StudyPlan::Repeat(_) => None,
        },
        runs,
    };
    let text = match plan {
        StudyPlan::Repeat(_) => repeat::text(&study.intervals),
        StudyPlan::Sweep { .. } => picture::text(&study),
    };
    let (path, json) = write(session, name, &study)?;
    eprint!("\n{} of {} runs\n\n{text}", name, study.runs.len());
    show(session.plan.json.then_some(json.as_str()), &path)?;
    match error {
        Some(error) => Err(error),
        None if !is_complete || !is_good => Ok(Outcome::Failed),
        None if session.plan.strict && is_marked => Ok(Outcome::Marked),
        None => Ok(Outcome::Good),
    }
}

async fn repeat(session: &Session<'_>, count: u32, course: &mut Course) {
    let plan = &session.plan.load;
    for number in 0..count {
        let seed = plan.seed.wrapping_add(number.into());
        eprintln!("\nrun {} of {count}, seed {seed}", number + 1);
        if !course.take(session, load_with_seed(plan, seed), None).await {
            return;
        }
    }
    course.is_complete = true;
}

async fn sweep(session: &Session<'_>, mut search: Search, share: f64, course: &mut Course) {
    let plan = &session.plan.load;
    let mut number = 0;
    while let Some(rate) = search.next() {
        let mut load = load_with_seed(plan, plan.seed.wrapping_add(number));
        let Pace::Open { rate: paced, arrivals, .. } = &mut load.pace else { return };
        *paced = Rate::Constant(rate);
        let due = pace::schedule(*paced, *arrivals, load.seed)
            .take_while(|&due| load.duration.is_none_or(|duration| due < duration))
            .count();
        eprintln!("\nrun {}: {rate} requests/s, {due} requests", number + 1);
        if !course.take(session, load, Some(most_bad(due, share))).await {
            return;
        }
        let Some(run) = course.runs.last_mut() else { return };
        // What is not sent is neither good nor bad: the share is that of what was sent.
        let good_share = run.summary.goodput.map_or(0.0, |goodput| goodput.good_share);
        let is_kept = !run.was_cut_short && good_share >= share;
        run.is_kept = Some(is_kept);
        run.rate = Some(rate);
        search.take(rate, is_kept);
        number += 1;
    }
    // A rate that is too high is no failure of the sweep.
    course.is_good = true;
    course.is_complete = true;
}

/// Of so many requests.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of requests"
)]
fn most_bad(requests: usize, share: f64) -> usize {
    (requests as f64 * (1.0 - share) + 1e-9).floor() as usize
}

impl Course {
    /// Whether another run may follow.
    async fn take(&mut self, session: &Session<'_>, load: Load, most_bad: Option<usize>) -> bool {
        let done = match session.run(load, most_bad).await {
            Ok(done) => done,
            Err(error) => {
                self.error = Some(error);
                return false;
            }
        };
        self.settings.get_or_insert_with(|| done.result.settings.clone());
        let mut run = Run::new(&done.path, &done.result);
        run.was_cut_short = done.was_cut_short;
        self.is_marked |= !run.marks.is_empty();
        self.is_good &= done.outcome != Outcome::Failed;
        self.runs.push(run);
        if let Err(error) = done.collected {
            self.error = Some(error);
            return false;
        }
        !done.interrupted
    }
}

fn load_with_seed(load: &Load, seed: u64) -> Load {
    Load { seed, prompts: Prompts { seed, ..load.prompts.clone() }, ..load.clone() }
}

/// The result of the study, and for a sweep its picture beside it.
fn write(session: &Session<'_>, name: &str, study: &Study) -> Result<(String, String)> {
    let mut json = serde_json::to_string_pretty(study).context("cannot serialise the result")?;
    json.push('\n');
    let prefix = format!("batch_{name}_result");
    let path = ResultFile::reserve(&session.plan.out, &prefix, Timestamp::now())?.publish(&json)?;
    if study.capacity.is_some() {
        let picture: &Path = &path.with_extension("svg");
        fs::write(picture, picture::svg(study))
            .with_context(|| format!("cannot write {}", picture.display()))?;
    }
    Ok((path.display().to_string(), json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_allows_so_many_bad_ones() {
        assert_eq!(
            [(100, 0.99), (99, 0.99), (30, 0.9), (7, 1.0)].map(|(n, s)| most_bad(n, s)),
            [1, 0, 3, 0]
        );
    }
}
