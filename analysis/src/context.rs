//! What several questions need to know of the run, as of the line that is being read.

pub mod accounting;
pub mod capture;
pub mod function;
pub mod graph;
pub mod kernel;
pub mod process;
pub mod time;

use std::{collections::BTreeMap, path::PathBuf};

use cuda::function::Class;
use trace::{
    call_view::CallView,
    line::{Meta, MetaLine, SegmentOpen},
};

use crate::{gap::Gap, grade::Grade};
use accounting::{Accounting, Loss};
use capture::Captures;
use function::{FunctionId, Functions};
use graph::Graphs;
use kernel::Kernels;
use process::Processes;
use time::Time;

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Which of the files that were read.
    pub file: u32,
    /// From 1, as `sed -n` counts the lines of the file once it is unpacked.
    pub line: u64,
}

#[derive(Default)]
pub struct Context {
    /// How the run is called: host and start, or the file.
    pub run: String,
    /// In the order in which they are read.
    pub files: Vec<PathBuf>,
    /// Of the line that is being read.
    pub place: Place,
    /// Of the latest segment.
    pub opening: Option<SegmentOpen>,
    pub time: Time,
    pub functions: Functions,
    pub processes: Processes,
    pub kernels: Kernels,
    pub graphs: Graphs,
    pub captures: Captures,
    pub accounting: Accounting,
    /// What the run lacks, as far as is known by now.
    pub gaps: Vec<Gap>,
    /// Call lines that were read, in the window that was asked for.
    pub calls: u64,
    /// When the first call of the whole run began and the last one ended, in that window or not.
    pub span_of_run: Option<(i64, i64)>,
    /// Such a window leaves out a part of the run.
    pub is_windowed: bool,
    /// Meta lines that were read, by kind.
    pub meta_lines: BTreeMap<&'static str, u64>,
}

impl Context {
    /// Before the questions see the line.
    pub(crate) fn meta(&mut self, line: &MetaLine) {
        let kind = match &line.meta {
            Meta::SegmentOpen(open) => {
                self.time.set_clock(open.clock);
                self.opening = Some(open.clone());
                "segment_open"
            }
            Meta::SegmentClose(_) => "segment_close",
            Meta::Process(process) => {
                self.processes.describe(line.pid, process);
                "process"
            }
            Meta::Kernel(kernel) => {
                self.kernels.name(kernel);
                "kernel"
            }
            Meta::Graph(graph) => {
                self.graphs.define(line.pid, graph);
                "graph"
            }
            Meta::Library(_) => "library",
            Meta::Coverage(_) => "coverage",
            Meta::Stage(_) => "stage",
        };
        *self.meta_lines.entry(kind).or_default() += 1;
    }

    /// Before the questions see the call.
    pub(crate) fn call_begins(&mut self, begin_ns: i64, end_ns: i64) {
        let (first, last) = self.span_of_run.unwrap_or((begin_ns, end_ns));
        self.span_of_run = Some((first.min(begin_ns), last.max(end_ns)));
    }

    /// After the questions have seen the call.
    pub(crate) fn call_ended(&mut self, line: &CallView<'_>, function: FunctionId) {
        let function = self.functions.get(function);
        if let Some(graph_exec) = line.graph_exec {
            self.graphs.call(line.pid, graph_exec, &function.canonical);
        }
        if matches!(function.class, Class::Graph | Class::Stream | Class::Event) {
            self.captures.call(line, &function.canonical);
        }
    }

    /// The file's name, as far as one has been read.
    pub fn file_name(&self, place: Place) -> Option<String> {
        let path = self.files.get(usize::try_from(place.file).ok()?)?;
        Some(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
    }

    /// What is not here of a function's calls, in the window that was asked for.
    pub fn loss(&self, function: &str) -> Loss {
        let balance = self.accounting.balance(function, &self.functions);
        let loss = self.accounting.loss(&balance, &self.gaps);
        match loss {
            Loss::None(Grade::Exact) => Loss::None(self.exact()),
            loss => loss,
        }
    }

    /// The best grade that a count can have: calls where no probe was are not counted at all.
    fn exact(&self) -> Grade {
        if self.is_windowed {
            Grade::exact_within(WINDOW)
        } else if self.gaps.iter().any(Gap::may_hide_calls) {
            Grade::exact_within(PROBED)
        } else {
            Grade::Exact
        }
    }

    /// How a count is known that hangs on calls of all functions, where no line is missing.
    pub fn loss_grade(&self) -> Grade {
        self.exact()
    }

    /// The worst of several functions: of a figure that calls of all of them make.
    pub fn loss_of_all<'a>(&self, functions: impl IntoIterator<Item = &'a str>) -> Loss {
        // Of a function that has no line: whether that proves that nobody called it.
        let of_nothing = self.loss("");
        functions.into_iter().fold(of_nothing, |worst, function| {
            match (worst, self.loss(function)) {
                (Loss::Extra, _) | (_, Loss::Extra) => Loss::Extra,
                (Loss::Unbounded, _) | (_, Loss::Unbounded) => Loss::Unbounded,
                (Loss::AtMost(one), Loss::AtMost(other)) => Loss::AtMost(one.saturating_add(other)),
                (Loss::AtMost(lost), _) | (_, Loss::AtMost(lost)) => Loss::AtMost(lost),
                (Loss::None(grade), Loss::None(Grade::Exact)) => Loss::None(grade),
                (_, loss) => loss,
            }
        })
    }

    /// How many calls of a function there were where `seen` have been counted, and how that is known.
    pub fn calls_of(&self, function: &str, seen: u64) -> (u64, Grade) {
        if !self.is_windowed {
            let balance = self.accounting.balance(function, &self.functions);
            let (calls, grade) = self.accounting.calls(&balance, &self.gaps);
            return (calls, if grade.is_exact() { self.exact() } else { grade });
        }
        let grade = match self.loss(function) {
            Loss::None(grade) => grade,
            Loss::AtMost(lost) => Grade::between(seen as f64, seen.saturating_add(lost) as f64),
            Loss::Unbounded => Grade::at_least(seen as f64),
            Loss::Extra => Grade::unknown("lines may stand twice"),
        };
        (seen, grade)
    }
}

const PROBED: &str = "processes and times in which the libraries had probes, see above";
const WINDOW: &str = "the window that was asked for";
