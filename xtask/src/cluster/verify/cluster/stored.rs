//! Whether what the sidecar's run has put into S3 is whole, as far as a run can be that goes on.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use trace::{
    check::{Problem, Report, check_opened},
    segments::segments,
};

use super::Check;
use tasks::{command::Failure, ctx::target_directory};

use crate::{
    cluster::{
        bucket::{Bucket, Runs},
        kubectl::Kubectl,
        tracer::Status,
    },
    segment_reader,
};

const NAME: &str = "traces in S3 are whole";

/// What was found in S3; `status` tells the run.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    files: usize,
    calls: u64,
    dropped: u64,
    ignored: u64,
    problems: Vec<Problem>,
}

/// Only the files of the run are downloaded. Nothing at all: the run has nothing there yet.
pub(super) fn check(kubectl: &Kubectl, status: Option<&Status>) -> Option<(Check, Option<Stored>)> {
    let Some(status) = status else {
        return Some((
            Check::new(NAME, Err("not looked at, as not all above is as it should be".to_owned())),
            None,
        ));
    };
    match check_run(kubectl, &status.run) {
        Err(error) => Some((Check::new(NAME, Err(format!("{error:#}"))), None)),
        Ok(None) => None,
        Ok(Some(report)) => {
            let stored = Stored::of(report);
            Some((Check::new(NAME, stored.judge()), Some(stored)))
        }
    }
}

/// As `check` says it, where nothing came in time.
pub(super) fn nothing_yet(status: Option<&Status>) -> Check {
    let run = status.map(|status| &status.run[..]).unwrap_or_default();
    Check::new(NAME, Err(format!("S3 has nothing of the run {run} yet")))
}

/// What the sidecar's `fetch` says where a run has nothing there.
const NOTHING: [&str; 2] = ["no stored trace file is of a run", "nothing is stored under"];

fn check_run(kubectl: &Kubectl, run: &str) -> Result<Option<Report>> {
    let bucket = Bucket::find(Ok(kubectl))?;
    let directory = directory(&bucket);
    let runs = Runs { run: Some(run.to_owned()), ..Runs::default() };
    let fetch = bucket.fetch(&directory, &runs).variable("RUST_LOG", "warn");
    if let Err(error) = fetch.read_in_view() {
        let said = error.downcast_ref::<Failure>().map(Failure::said).unwrap_or_default();
        let is_nothing = NOTHING.iter().any(|nothing| said.contains(nothing));
        return if is_nothing { Ok(None) } else { Err(error) };
    }
    let prefix = format!("trace_{run}_");
    let of_run: Vec<PathBuf> = segments(&directory)?
        .into_iter()
        .filter(|file| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .collect();
    Ok((!of_run.is_empty()).then(|| check_opened(&of_run, segment_reader::open)))
}

/// Where traces of this bucket are kept, so that each is downloaded once.
pub(super) fn directory(bucket: &Bucket) -> PathBuf {
    target_directory().join("xtask/traces").join(&bucket.location)
}

impl Stored {
    /// Of a run that goes on the end is missing, and that is all that may be.
    fn of(report: Report) -> Self {
        let Report { files, calls, dropped, ignored, mut problems, .. } = report;
        problems.retain(|problem| !matches!(problem, Problem::NotEnded { .. }));
        Self { files, calls, dropped, ignored, problems }
    }

    fn judge(&self) -> Result<String, String> {
        let Self { files, calls, dropped, problems, .. } = self;
        let detail = format!("{files} files, {calls} calls, {dropped} dropped");
        match problems.first() {
            Some(problem) => {
                Err(format!("{detail}, {} problems, the first: {problem}", problems.len()))
            }
            None if *dropped > 0 => Err(detail),
            None if *calls == 0 => Err(format!("{detail}: nothing was traced yet")),
            None => Ok(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_may_lack_its_end_and_nothing_else() {
        let not_ended = Problem::NotEnded { run: "node_x".to_owned() };
        let missing = Problem::MissingSegments { run: "node_x".to_owned(), first: 2, last: 2 };
        let report = |problems| Report { files: 3, calls: 9, problems, ..Report::default() };
        assert!(Stored::of(report(vec![not_ended.clone()])).judge().is_ok());
        let judged = Stored::of(report(vec![not_ended, missing])).judge().unwrap_err();
        assert!(judged.starts_with("3 files, 9 calls, 0 dropped, 1 problems"), "{judged}");
        let dropped = Report { dropped: 1, ..report(Vec::new()) };
        assert!(Stored::of(dropped).judge().is_err());
    }
}
