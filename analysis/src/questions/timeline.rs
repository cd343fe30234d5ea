//! `timeline`: a file for Perfetto. Calls by thread, steps of engines with what is proven of their end
//! on the GPU, live memory, and how often is launched.
//!
//! The file is written while the trace is read, so memory does not grow with the trace, but for the
//! ledger of steps. What nobody has proved is not in it: no slice claims that the GPU worked, or did
//! not, where calls do not tell.

mod arguments;
mod calls;
mod clock;
mod counters;
mod engine;
mod file;
mod gaps;
mod lanes;
mod merge;
mod names;
mod perfetto;
mod protobuf;
mod requests;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use cuda::function::Api;
use trace::{
    call_view::from_milliseconds,
    line::{Meta, MetaLine},
};

use self::{
    calls::{Calls, Flows, is_shown},
    clock::Clock,
    counters::Counters,
    file::TimelineFile,
    merge::Merge,
    perfetto::{Kind, MAIN_SEQUENCE, clock as clocks, clock_snapshot, describe, track},
    protobuf::{message, text, uint},
};
use super::{
    launches::{self, kind_of},
    memory::Memory,
    steps::Steps,
    tokens::Load,
};
use crate::{
    answer::{Answer, Unit, units::bytes},
    context::{
        Context,
        function::ByName,
        process::{Process, ProcessId},
    },
    gap::Gap,
    grade::Grade,
    question::{Call, Question},
};

pub struct Timeline {
    path: Option<PathBuf>,
    state: State,
    clock: Clock,
    steps: Steps,
    memory: Memory,
    loads: Vec<Load>,
    /// A closing line has said that nothing follows.
    has_ended: bool,
    merge: Option<Merge>,
    calls: Calls,
    launching: ByName<launches::Kind>,
    processes: Vec<OfProcess>,
    flows: u64,
    left_out: u64,
}

enum State {
    /// No call has come yet.
    NotBegun,
    Writing(Box<TimelineFile>),
    Failed(String),
}

#[derive(Default)]
struct OfProcess {
    /// Its track is told; false again if more is known of it.
    is_described: bool,
    has_memory: bool,
    counters: Counters,
    /// The first that is in the file.
    first_work: Option<u64>,
}

impl Question for Timeline {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        if matches!(self.state, State::NotBegun) {
            self.state = self.begin(call.line.ts_ns, context);
        }
        if let Err(error) = self.write(call, context) {
            self.state = State::Failed(format!("{error:#}"));
        }
    }

    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.steps.call_before(call, context);
        self.memory.account(call, context);
    }

    fn gap(&mut self, gap: &Gap, context: &Context) {
        self.steps.gap(gap, context);
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        self.steps.meta(line, context);
        match &line.meta {
            Meta::Kernel(kernel) => self.calls.kernels.forget(kernel.id),
            Meta::Process(_) => {
                let id = context.processes.find(line.pid);
                if let Some(process) = id.and_then(|id| self.processes.get_mut(id.index())) {
                    process.is_described = false;
                }
            }
            Meta::SegmentClose(closing) => self.has_ended |= closing.r#final,
            Meta::SegmentOpen(_) => {
                if let State::Writing(file) = &mut self.state {
                    time_of_day(&mut file.buffer, from_milliseconds(line.ts), self.clock, context);
                }
            }
            _ => {}
        }
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        let mut answer = Answer::new("timeline");
        match std::mem::replace(&mut self.state, State::NotBegun) {
            State::NotBegun => {
                answer.sentences.push("no call is here, so no file was written".to_owned());
            }
            State::Failed(error) => answer.failure = Some(error),
            State::Writing(file) => {
                if let Err(error) = self.end(*file, context, &mut answer) {
                    answer.failure = Some(format!("{error:#}"));
                }
            }
        }
        answer
    }
}

impl Timeline {
    pub fn new(path: Option<&Path>, loads: &[PathBuf], merge: Option<&Path>) -> Result<Self> {
        if let Some(path) = path {
            ensure!(path.file_name().is_some(), "{} names no file", path.display());
        }
        Ok(Self {
            path: path.map(Path::to_owned),
            state: State::NotBegun,
            clock: Clock::default(),
            steps: Steps::default(),
            memory: Memory::new(None, None)?,
            loads: Load::read_all(loads)?,
            has_ended: false,
            merge: merge.map(Merge::read).transpose()?,
            calls: Calls::default(),
            launching: ByName::default(),
            processes: Vec::new(),
            flows: 0,
            left_out: 0,
        })
    }

    /// At the first call that is to be shown.
    fn begin(&mut self, ts_ns: i64, context: &Context) -> State {
        self.clock = Clock::of(&context.time);
        let path = self.path.clone().unwrap_or_else(|| default_path(&context.run));
        match TimelineFile::create(&path, perfetto::header()) {
            Err(error) => State::Failed(format!("{error:#}")),
            Ok(mut file) => {
                time_of_day(&mut file.buffer, ts_ns, self.clock, context);
                State::Writing(Box::new(file))
            }
        }
    }

    fn write(&mut self, call: &Call<'_>, context: &Context) -> Result<()> {
        let State::Writing(file) = &mut self.state else { return Ok(()) };
        let out = &mut file.buffer;
        let work = self.steps.follow(call, context);
        let live = self.memory.account(call, context);
        let line = call.line;
        let end_ns = line.end_ns();
        let (Some(begin), Some(end)) = (self.clock.at(line.ts_ns), self.clock.at(end_ns)) else {
            self.left_out += 1;
            return Ok(());
        };
        let owner = call.process.0;
        if call.process.index() >= self.processes.len() {
            self.processes.resize_with(call.process.index() + 1, OfProcess::default);
        }
        let process = &mut self.processes[call.process.index()];
        if !process.is_described {
            process.is_described = true;
            describe_process(out, call.process, context.processes.get(call.process));
        }
        let flow = work.map(|work| engine::flow_of(owner, work));
        if work.is_some() {
            process.first_work = process.first_work.or(work);
            self.flows += 1;
        }
        // Without a duration nothing tells when it returned.
        let times = (begin, line.dur_ns.filter(|_| !line.is_entry()).map(|_| end));
        let to_gpu = self.merge.as_mut().and_then(|merge| merge.call(call, times, context));
        self.calls.call(out, call, times, Flows { to_step: flow, to_gpu }, context);
        if let Some(bytes) = live {
            process.counters.live_memory(out, owner, end, bytes);
        } else if !process.has_memory {
            // What was allocated before the part of the trace that was asked for.
            let bytes = self.memory.live_of(call.process);
            if bytes > 0 {
                process.counters.live_memory(out, owner, begin, bytes);
            }
        }
        process.has_memory = true;
        let launching = self.launching.get(call.function, &context.functions, kind_of);
        if launching != launches::Kind::Not && is_launch(call, launching, context) {
            process.counters.launch(out, owner, end_ns, self.clock);
        }
        file.flush_if_full()
    }

    fn end(mut self, mut file: TimelineFile, context: &Context, answer: &mut Answer) -> Result<()> {
        self.calls.settle(&mut file.buffer);
        for (owner, process) in (0..).zip(&mut self.processes) {
            process.counters.finish(&mut file.buffer, owner, self.clock);
        }
        let found = self.steps.found(context);
        let first_work = |owner: u32| self.processes.get(owner as usize)?.first_work;
        let engine = engine::write(&mut file, &found, first_work, self.clock)?;
        let loads = std::mem::take(&mut self.loads);
        let requests =
            requests::write(&mut file, &loads, &found, self.has_ended, context, self.clock)?;
        let merge = self.merge.take().map(|merge| merge.write(&mut file)).transpose()?;
        gaps::about(&mut file.buffer, context, self.clock);
        gaps::write(&mut file.buffer, context, self.clock);
        let (path, size) = file.finish()?;
        answer.sentences.push(format!(
            "{} ({}) is a trace for Perfetto: open it at https://ui.perfetto.dev with \"Open trace \
             file\"; the page reads it on this machine and uploads nothing",
            path.display(),
            bytes(size as f64)
        ));
        let counts = self.calls.counts;
        let mut add = |name, title, value: u64| {
            answer.figure(name, title, Unit::Count, value, Grade::Exact);
        };
        add("slices", "slices of calls", counts.slices);
        add("instants", "calls whose end or place is not known, as instants", counts.instants);
        add("flows", "flows that begin at a call", self.flows);
        add("flows_to_steps", "flows that end in a step", engine.flows);
        add("steps", "steps", engine.steps);
        add("steps_proven", "steps with a proven end on the GPU", engine.proven);
        if !loads.is_empty() {
            add("requests", "requests of load tests", requests.requests);
            add("tokens", "tokens of these", requests.tokens);
            add("tokens_explained", "tokens with what they waited for", requests.explained);
        }
        let merged = merge.as_ref().map_or(0, |merge| merge.left_out);
        let left_out = self.left_out + engine.left_out + requests.left_out + merged;
        if left_out > 0 {
            let title = "calls, steps, requests, tokens and slices of the GPU that have no place";
            add("left_out", title, left_out);
        }
        answer.notes.extend(requests.problems);
        if let Some(merge) = merge {
            tell_merge(merge, answer);
        }
        let (live, grade) = self.memory.live_at_end(context);
        let title = "device memory live at the end, as the counters have it";
        answer.figure("live_bytes", title, Unit::Bytes, live, grade);
        answer.figure("file_bytes", "size of the file", Unit::Bytes, size, Grade::Exact);
        let path = path.display().to_string();
        answer.figure("file", "file", Unit::None, path, Grade::Exact);
        answer.notes.push(
            "a gap between slices of the GPU's track is not called idle: calls prove ends, not work"
                .to_owned(),
        );
        Ok(())
    }
}

/// How a profile fits the trace, and what was made of it.
fn tell_merge(merge: merge::Written, answer: &mut Answer) {
    let mut add = |name, title, value: u64| {
        answer.figure(name, title, Unit::Count, value, Grade::Exact);
    };
    add("profile_launches", "launches in the profile", merge.launches);
    add("profile_launches_matched", "of these, calls of the trace", merge.matched);
    add("profile_launches_missing", "calls of the trace that it lacks", merge.not_in_profile);
    add("gpu_slices", "slices of the GPU", merge.slices);
    add("gpu_slices_launched", "of these, with the call that launched them", merge.launched);
    add("flows_to_gpu", "flows that end in a slice of the GPU", merge.flows);
    if let Some((low, high)) = merge.offset {
        let title = "the trace's clock less the profiler's";
        let grade = Grade::between(low as f64, high as f64);
        let offset = i64::midpoint(low, high);
        answer.figure("profile_clock_offset_ns", title, Unit::Nanoseconds, offset, grade);
    }
    answer.notes.extend(merge.problem);
    answer.notes.extend(merge.notes);
}

/// As the question `launches` counts: the outermost that succeeded, and is not captured.
fn is_launch(call: &Call<'_>, kind: launches::Kind, context: &Context) -> bool {
    let line = call.line;
    let Some(depth) = line.depth else { return line.api == Api::Driver.type_name() };
    let is_inner = depth > 0 && line.parent.is_some_and(|parent| kind_of(parent) == kind);
    let is_captured = || {
        let stream = line.stream.map_or(0, |stream| stream.0);
        kind == launches::Kind::Kernel && context.captures.origin(line.pid, stream).is_some()
    };
    !is_inner && line.ret.is_none_or(|ret| ret == 0) && !is_captured()
}

/// What the time of day was, by the latest pair of clocks.
fn time_of_day(out: &mut Vec<u8>, ts_ns: i64, clock: Clock, context: &Context) {
    let unix_ns = context.time.unix_ns(ts_ns).and_then(|unix_ns| u64::try_from(unix_ns).ok());
    if let (Some(unix_ns), Some(at)) = (unix_ns, clock.at(ts_ns)) {
        let same = [(clocks::REALTIME, unix_ns), (clocks::OF_TRACE, at)];
        clock_snapshot(out, MAIN_SEQUENCE, same, false);
    }
}

fn describe_process(out: &mut Vec<u8>, id: ProcessId, process: &Process) {
    let executable = process.executable.as_deref().and_then(|path| Path::new(path).file_name());
    let name = match (&process.role, executable) {
        (Some(role), _) => {
            let ranks = process.ranks.iter().map(|(kind, number)| format!(" {kind}{number}"));
            format!("{role}{}", ranks.collect::<String>())
        }
        (None, Some(executable)) => executable.to_string_lossy().into_owned(),
        (None, None) => "process".to_owned(),
    };
    describe(out, MAIN_SEQUENCE, |out| {
        uint(out, track::UUID, Kind::Process.uuid(id.0, 0));
        uint(out, track::CHILD_ORDERING, track::EXPLICIT);
        if is_shown(process.pid) {
            message(out, track::PROCESS, |out| {
                uint(out, track::PROCESS_PID, process.pid.into());
                text(out, track::PROCESS_NAME, &name);
                if let Some(command) = &process.command {
                    text(out, track::PROCESS_COMMAND, command);
                }
            });
        } else {
            text(out, track::NAME, &format!("{name} {}", process.pid));
        }
    });
}

/// In the current directory, named after the run, or after the file that was read.
fn default_path(run: &str) -> PathBuf {
    let name = Path::new(run).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name = name.trim_end_matches(".zst").trim_end_matches(".jsonl");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let plain = if plain.trim_matches(['.', '-']).is_empty() { "trace" } else { &plain };
    PathBuf::from(format!("{plain}.perfetto-trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_the_run() {
        for (run, expected) in [
            ("node_20261124T042800.642Z", "node_20261124T042800.642Z.perfetto-trace"),
            ("some/where/a b.jsonl.zst", "a_b.perfetto-trace"),
            ("-", "trace.perfetto-trace"),
            ("..", "trace.perfetto-trace"),
        ] {
            assert_eq!(default_path(run), Path::new(expected));
        }
    }
}
