//! `report`: all questions to the runs of a trace, each run in one pass, as one HTML page.

use anyhow::{Result, ensure};

use crate::{
    answer::{
        Answer,
        html::{Asked, Html, page},
    },
    input::RunFiles,
    nothing::nothing,
    pass::{self, Window},
    question::Question,
    questions::{Name, Settings},
};

/// Runs of one page: the latest.
const MAX_RUNS: usize = 5;

/// The whole file. `window` says which part of a run is asked for.
pub fn html(
    runs: &[RunFiles],
    window: impl Fn(&RunFiles) -> Result<Window>,
    settings: &Settings,
) -> Result<String> {
    let mut body = Html::default();
    let (mut hosts, mut missing) = (Vec::new(), Vec::new());
    let mut has_calls = false;
    for (number, run) in (1..).zip(runs.iter().rev().take(MAX_RUNS)) {
        let (mut names, mut asked, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (name, about) in Name::by_importance() {
            match question(name, settings)? {
                Ok(question) => {
                    names.push(about);
                    asked.push(question);
                }
                Err(what) => left_out.push(what),
            }
        }
        let window = window(run)?;
        let context = pass::read(run, &window, &mut asked);
        has_calls |= context.calls > 0;
        if let Some(told) = nothing(run, &window, &context) {
            missing.push(told);
            continue;
        }
        let answers: Vec<Answer> =
            asked.into_iter().map(|question| question.finish(&context)).collect();
        let asked = answers.iter().zip(&names);
        let asked: Vec<Asked<'_>> = asked.map(|(answer, about)| Asked { answer, about }).collect();
        body.run(number, &asked, &left_out, &context);
        hosts.extend(context.opening.map(|opening| opening.host));
    }
    ensure!(has_calls || missing.is_empty(), "{}", missing.join("; "));
    ensure!(has_calls, "no call was found: `cuda-trace summary` says what was read");
    hosts.sort();
    hosts.dedup();
    let title = match hosts.as_slice() {
        [] => "CUDA trace".to_owned(),
        hosts => format!("CUDA trace of {}", hosts.join(", ")),
    };
    let note = match runs.len() {
        0 | 1 => String::new(),
        count if count <= MAX_RUNS => format!("{count} runs, the latest first."),
        count => format!("The latest {MAX_RUNS} of {count} runs; --run chooses others."),
    };
    Ok(page(&title, &note, body))
}

/// Or what it needs that was not given.
fn question(name: Name, settings: &Settings) -> Result<Result<Box<dyn Question>, String>> {
    let error = match name.question(settings) {
        Ok(question) => return Ok(Ok(question)),
        Err(error) => error,
    };
    // If nothing given makes a difference, nothing for it was given.
    match name.question(&Settings::default()) {
        Err(without) if without.to_string() == error.to_string() => Ok(Err(error.to_string())),
        _ => Err(error),
    }
}
