//! How far each process has come that computes on a GPU: it loads, warms up, serves.
//!
//! Told from the calls alone, while they happen. `docs/trace-format.md` has the rules for people.
//! This runs for every event: no allocation and no hashing, for most events one look into a table.

use sidecar_common::CallEvent;
use trace::{
    function::{Api, DRIVER_LAUNCHES, canonical},
    line::{Meta, Stage as StageLine},
    writer::push_meta,
};

use crate::record::Call;

/// A server that waits for its first request does nothing for longer; an engine that loads or
/// warms up seldom does. Not below a second, because TRACE_RATE_LIMIT leaves gaps of that length.
const IDLE_NS: u64 = 1_000_000_000;

/// Results read back in a row that only an engine at work has.
const STEPS: u32 = 32;

/// Processes that are followed at a time: a node runs a few dozen that compute. Of others no stage is
/// told, so that nobody makes every event look through a long list.
const MAX_PROCESSES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Load,
    WarmUp,
    Serve,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::WarmUp => "warm_up",
            Self::Serve => "serve",
        }
    }
}

/// What told a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StageBy {
    Init,
    Capture,
    Idle,
    Steps,
}

impl StageBy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Capture => "capture",
            Self::Idle => "idle",
            Self::Steps => "steps",
        }
    }
}

/// What a function says of the stage. The driver's calls alone are followed: the runtime makes
/// them for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Init,
    /// Device memory is taken.
    Allocate,
    /// It asks how much memory is free.
    Measure,
    /// Code is put on the device: a kernel was compiled, or is used for the first time.
    LoadCode,
    BeginCapture,
    EndCapture,
    /// Of a kernel or a graph.
    Launch,
    /// A copy from the device.
    ReadBack,
}

impl Sign {
    fn of(name: &str) -> Option<Self> {
        if Api::of(name) != Some(Api::Driver) {
            return None;
        }
        Some(match canonical(name) {
            "cuInit" => Self::Init,
            "cuMemAlloc"
            | "cuMemAllocPitch"
            | "cuMemAllocAsync"
            | "cuMemAllocFromPoolAsync"
            | "cuMemCreate" => Self::Allocate,
            "cuMemGetInfo" => Self::Measure,
            "cuModuleLoad"
            | "cuModuleLoadData"
            | "cuModuleLoadDataEx"
            | "cuModuleLoadFatBinary"
            | "cuLibraryLoadData"
            | "cuLibraryLoadFromFile" => Self::LoadCode,
            "cuStreamBeginCapture" | "cuStreamBeginCaptureToGraph" => Self::BeginCapture,
            "cuStreamEndCapture" => Self::EndCapture,
            "cuGraphLaunch" => Self::Launch,
            name if DRIVER_LAUNCHES.contains(&name) => Self::Launch,
            "cuMemcpyDtoH" | "cuMemcpyDtoHAsync" => Self::ReadBack,
            _ => return None,
        })
    }
}

#[derive(Default)]
pub(super) struct Stages {
    /// By number of the function.
    signs: Vec<Option<Sign>>,
    /// Few processes compute, and events of one come in a row.
    processes: Vec<Process>,
    latest: usize,
}

/// What a call has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// It is the first launch of its process.
    pub(super) is_first_launch: bool,
    /// The process is in this stage now.
    pub(super) stage: Option<Stage>,
}

#[derive(Debug, Default)]
struct Process {
    pid: u32,
    /// When its first call began that says anything.
    since_ns: u64,
    stage: Option<Entered>,
    is_announced: bool,
    /// When it called `cuInit`, if that was seen.
    initialised_ns: Option<u64>,
    /// When its last call that says anything returned.
    latest_ns: u64,
    sizing: Sizing,
    open_captures: u32,
    /// When it launched after it had done nothing for long: serving, if it reads a result back.
    woken_ns: Option<u64>,
    /// It has launched since it last read back.
    is_computing: bool,
    steps: u32,
}

/// What an engine does in this order to size its cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sizing {
    #[default]
    Nothing,
    /// It has launched a kernel.
    Launched,
    /// And then asked how much memory is free.
    Measured,
    /// And then taken memory.
    Done,
}

impl Sizing {
    fn after(self, sign: Sign) -> Self {
        match (self, sign) {
            (Self::Nothing, Sign::Launch) => Self::Launched,
            (Self::Launched, Sign::Measure) => Self::Measured,
            (Self::Measured, Sign::Allocate) => Self::Done,
            _ => self,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entered {
    stage: Stage,
    by: StageBy,
    at_ns: u64,
}

impl Stages {
    /// Numbers come in order, each once.
    pub(super) fn add_function(&mut self, name: &str) {
        self.signs.push(Sign::of(name));
    }

    /// Learns from an event, of which maybe only the entry is known.
    pub(super) fn follow(&mut self, event: &CallEvent, call: Option<&Call<'_>>) -> News {
        let Some(Some(sign)) = self.signs.get(event.function as usize).copied() else {
            return News::default();
        };
        #[expect(clippy::cast_possible_truncation, reason = "a code has 32 bits")]
        let has_failed = call.is_some_and(|call| call.result as u32 != 0);
        // A capture that failed has ended too.
        if has_failed && sign != Sign::EndCapture {
            return News::default();
        }
        let start_ns = event.start_ns;
        let end_ns = start_ns + call.map_or(0, |call| call.duration_ns);
        let process = self.process(event.tgid, start_ns);
        process.map_or_else(News::default, |process| process.follow(sign, start_ns, end_ns))
    }

    /// `None` if there are too many.
    fn process(&mut self, pid: u32, now_ns: u64) -> Option<&mut Process> {
        if self.processes.get(self.latest).is_none_or(|process| process.pid != pid) {
            let found = self.processes.iter().position(|process| process.pid == pid);
            self.latest = found.unwrap_or(self.processes.len());
            if found.is_none() && self.processes.len() < MAX_PROCESSES {
                self.processes.push(Process { pid, since_ns: now_ns, ..Process::default() });
            }
        }
        self.processes.get_mut(self.latest)
    }

    /// Writes the line of a process's stage, unless this segment has it.
    pub(super) fn announce(&mut self, out: &mut Vec<u8>, start_ns: u64, pid: u32) {
        let process = self.processes.iter_mut().find(|process| process.pid == pid);
        let Some(process) = process.filter(|process| !process.is_announced) else { return };
        let Some(Entered { stage, by, at_ns }) = process.stage else { return };
        process.is_announced = true;
        let line = StageLine { stage: stage.name().to_owned(), stage_by: by.as_str().to_owned() };
        push_meta(out, at_ns.saturating_sub(start_ns), pid, &Meta::Stage(line));
    }

    pub(super) fn begin_segment(&mut self) {
        for process in &mut self.processes {
            process.is_announced = false;
        }
    }

    /// The process ended, or ran another program from then on, and that one may be here already.
    pub(super) fn forget(&mut self, pid: u32, at_ns: u64) {
        self.processes.retain(|process| process.pid != pid || process.since_ns >= at_ns);
    }
}

impl Process {
    fn follow(&mut self, sign: Sign, start_ns: u64, end_ns: u64) -> News {
        let before = self.stage;
        let is_first_launch = sign == Sign::Launch && self.sizing == Sizing::Nothing;
        self.sizing = self.sizing.after(sign);
        let idle_ns = start_ns.saturating_sub(self.latest_ns);
        match sign {
            Sign::Init => self.initialised_ns = self.initialised_ns.or(Some(start_ns)),
            Sign::Allocate => {
                self.load();
                self.steps = 0;
            }
            Sign::Measure => {}
            Sign::LoadCode => self.steps = 0,
            Sign::BeginCapture => {
                self.open_captures += 1;
                self.steps = 0;
                self.woken_ns = None;
                self.enter(Stage::WarmUp, StageBy::Capture, start_ns);
            }
            Sign::EndCapture => self.open_captures = self.open_captures.saturating_sub(1),
            Sign::Launch => {
                self.load();
                self.is_computing = true;
                if idle_ns >= IDLE_NS && self.stage.is_some() && self.could_serve() {
                    self.woken_ns = Some(start_ns);
                }
            }
            Sign::ReadBack => {
                self.steps += u32::from(std::mem::take(&mut self.is_computing));
                let woken_ns = self.woken_ns.take().filter(|_| self.could_serve());
                if let Some(woken_ns) = woken_ns {
                    self.enter(Stage::Serve, StageBy::Idle, woken_ns);
                } else if self.steps >= STEPS && self.could_serve() {
                    self.enter(Stage::Serve, StageBy::Steps, start_ns);
                }
            }
        }
        self.latest_ns = self.latest_ns.max(end_ns);
        let stage = self.stage.filter(|stage| before != Some(*stage)).map(|entered| entered.stage);
        News { is_first_launch, stage }
    }

    /// Who has initialised the driver and then takes memory or launches does not only look around.
    fn load(&mut self) {
        if let (None, Some(at_ns)) = (self.stage, self.initialised_ns) {
            self.enter(Stage::Load, StageBy::Init, at_ns);
        }
    }

    /// What can come next is serving. One whose beginning was not seen may have come that far.
    fn could_serve(&self) -> bool {
        self.open_captures == 0
            && match self.stage.map(|entered| entered.stage) {
                None | Some(Stage::WarmUp) => true,
                Some(Stage::Load) => self.sizing == Sizing::Done,
                Some(Stage::Serve) => false,
            }
    }

    fn enter(&mut self, stage: Stage, by: StageBy, at_ns: u64) {
        if self.stage.is_none_or(|entered| entered.stage != stage) {
            self.stage = Some(Entered { stage, by, at_ns });
            self.is_announced = false;
        }
    }
}

#[cfg(test)]
mod tests;
