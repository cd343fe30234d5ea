//! What was found, and which runs of it are wanted.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use trace::segment_name::{Run, SegmentName};

use super::{
    RunFiles, damaged,
    exported::{self, Kind},
    location::Location,
    of_export, single,
};
use crate::gap::Gap;

/// Runs that are told where none is as asked for.
const MAX_NAMES: usize = 12;

/// Which runs are wanted.
#[derive(Debug, Default, Clone)]
pub struct Choice {
    /// Those whose name holds this.
    pub run: Option<String>,
    /// The latest alone.
    pub is_last: bool,
}

/// What was found, before anything is read of it but what tells its run.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) by_run: BTreeMap<Run, Vec<Location>>,
    /// Files that are no segments by their names, and exported runs.
    pub(super) others: Vec<RunFiles>,
    /// Files that lie beside and are not read, in words.
    pub(super) not_read: Vec<String>,
    /// What a listing may have left out.
    pub(super) unlisted: Vec<Gap>,
    /// Runs were left out that are not wanted.
    pub(super) has_unwanted: bool,
}

impl Pool {
    pub(super) fn is_empty(&self) -> bool {
        self.by_run.is_empty() && self.others.is_empty() && !self.has_unwanted
    }

    pub(super) fn add(&mut self, file: Location) {
        let name = file.path().file_name().and_then(|name| name.to_str());
        match name.and_then(SegmentName::parse) {
            Some(SegmentName { run, .. }) => self.by_run.entry(run).or_default().push(file),
            None => self.others.push(single(file)),
        }
    }

    pub(super) fn add_table(&mut self, table: Location, kind: Result<Kind>) {
        let name = || format!("{:?}", table.path().display().to_string());
        match kind {
            Ok(Kind::Calls(run)) => self.others.push(of_export(*run)),
            Ok(Kind::Other(_)) => {}
            Ok(Kind::Segment) => {
                self.not_read.push(format!("{} (a segment by another name)", name()));
            }
            Ok(Kind::Foreign) => self.not_read.push(format!("{} (not written by export)", name())),
            Err(error) if exported::is_below_calls(table.path()) => {
                self.others.push(damaged(table.path(), &error));
            }
            Err(error) => self.not_read.push(format!("{} ({error:#})", name())),
        }
    }

    /// A table that was given by its own path has to be one.
    pub(super) fn add_table_by_path(&mut self, table: &Location, kind: Result<Kind>) -> Result<()> {
        let path = table.path().display();
        match kind.with_context(|| path.to_string())? {
            Kind::Calls(run) => self.others.push(of_export(*run)),
            Kind::Segment => self.others.push(single(table.clone())),
            Kind::Other(name) => bail!(
                "{path}: it is the table {name:?} of an export: give the directory of the export, or \
             its table calls"
            ),
            Kind::Foreign => bail!("{path}: not written by export"),
        }
        Ok(())
    }

    /// A run that is here as segments and exported, or exported twice, is read once: in the form that has
    /// the most segments.
    pub(super) fn keep_one_form(&mut self) {
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        let exported = self.others.iter().filter(|run| is_export(run));
        for run in exported {
            let count = most.entry(run.name.clone()).or_default();
            *count = (*count).max(run.files.len());
        }
        let not_read = &mut self.not_read;
        self.by_run.retain(|run, files| {
            let name = run.to_string();
            let Some(exported) = most.get(&name) else { return true };
            if *exported > sequences(files) {
                not_read
                    .push(format!("the segments of run {name} (tables of it have more of them)"));
                return false;
            }
            true
        });
        let by_run = &self.by_run;
        self.others.retain(|run| {
            if !is_export(run) {
                return true;
            }
            let has_segments = by_run.keys().any(|other| other.to_string() == run.name);
            let is_most = most.get(&run.name) == Some(&run.files.len());
            if !has_segments && is_most && most.remove(&run.name).is_some() {
                return true;
            }
            let instead =
                if has_segments { "its segments are read" } else { "other tables of it are" };
            not_read.push(format!("tables of run {} ({instead})", run.name));
            false
        });
    }

    pub(super) fn choose(&mut self, Choice { run: text, is_last }: &Choice) -> Result<()> {
        if let Some(text) = text {
            let others = self.others.iter().map(|run| run.name.clone());
            let mut names: Vec<String> =
                self.by_run.keys().map(ToString::to_string).chain(others).collect();
            names.sort_by_key(|name| start_of(name));
            self.by_run.retain(|run, _| run.to_string().contains(text));
            self.others.retain(|run| run.name.contains(text));
            let is_none = self.by_run.is_empty() && self.others.is_empty();
            ensure!(!is_none, "no run is called {text:?}{}", there_are(&names));
        }
        if *is_last {
            let of_segments = self.by_run.keys().map(|run| start_of(&run.to_string())).max();
            let of_others = self.others.iter().map(|run| start_of(&run.name)).max();
            let last = of_segments.max(of_others);
            self.by_run.retain(|run, _| Some(start_of(&run.to_string())) == last);
            self.others.retain(|run| Some(start_of(&run.name)) == last);
            // Of several of one name the last one, as in their order.
            if self.by_run.is_empty() {
                self.others.drain(..self.others.len() - 1);
            } else {
                self.others.clear();
            }
        }
        Ok(())
    }
}

fn is_export(run: &RunFiles) -> bool {
    run.files.first().is_some_and(|file| file.exported.is_some())
}

/// How many different segments these are.
fn sequences(files: &[Location]) -> usize {
    let sequence = |file: &Location| {
        let name = file.path().file_name()?.to_str()?;
        Some(SegmentName::parse(name)?.sequence)
    };
    files.iter().filter_map(sequence).collect::<BTreeSet<_>>().len()
}

/// The latest ones.
fn there_are(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let told = names.iter().rev().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("; there are {told}{more}")
}

/// Runs of several hosts in the order of their time, not of their hosts.
pub(super) fn start_of(run: &str) -> (String, String) {
    let start = run.rsplit_once('_').map_or("", |(_, start)| start);
    (start.to_owned(), run.to_owned())
}
