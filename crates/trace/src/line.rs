//! The lines of a trace: one JSON object each, every one with `ts`, `pid`, `type`, `func`, `phase`.
//!
//! `docs/trace-format.md` describes the same for people; the two change together.

mod detail;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use detail::{Address, Detail};

/// Goes into the opening line of each segment; a reader refuses a higher one.
pub const FORMAT_VERSION: u32 = 3;

/// `type` of every line that is not a call.
pub const META_TYPE: &str = "meta";

/// `phase` of a call of which only the beginning is known.
pub const ENTRY_PHASE: &str = "entry";

/// One line, as the reader gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    Call(Call),
    Meta(MetaLine),
}

/// A call into the CUDA driver or runtime.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Call {
    /// Milliseconds since the start of the run, to the nanosecond.
    pub ts: f64,
    pub pid: u32,
    /// Absent in traces that were not made by this sidecar.
    pub tid: Option<u32>,
    /// `cuda_api` (driver) or `cuda_runtime`.
    pub r#type: String,
    pub func: String,
    /// `call`: the whole call; `entry`: it began, its end was not traced.
    pub phase: String,
    /// Read apart, by the reader: `flatten` would copy every field first.
    #[serde(skip)]
    pub detail: Box<Detail>,
}

/// A line that is not a call.
#[derive(Debug, Clone, PartialEq)]
pub struct MetaLine {
    pub ts: f64,
    pub pid: u32,
    pub meta: Meta,
}

/// What a meta line tells; the name of the variant is the line's `func`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "func", rename_all = "snake_case")]
pub enum Meta {
    SegmentOpen(SegmentOpen),
    SegmentClose(SegmentClose),
    Process(Process),
    Library(Library),
    Coverage(Coverage),
    Kernel(Kernel),
    Graph(Graph),
    Stage(Stage),
}

/// First line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentOpen {
    pub format_version: u32,
    /// From 1, without gaps within a run.
    pub sequence: u64,
    pub host: String,
    pub kernel: String,
    pub sidecar_version: String,
    pub clock: Clock,
    /// The sidecar's settings that shape the trace.
    pub options: BTreeMap<String, String>,
}

/// Two clocks read together: joins `ts` with wall-clock logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// `CLOCK_MONOTONIC` at `ts` 0.
    pub start_monotonic_ns: u64,
    /// `CLOCK_MONOTONIC` when the pair was read.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME` (Unix time) when the pair was read.
    pub realtime_ns: u64,
}

/// Last line of a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentClose {
    pub sequence: u64,
    pub reason: CloseReason,
    /// True in the last segment of a run that ended in order: its counters must balance exactly.
    pub r#final: bool,
    /// Call lines in this segment.
    pub calls: u64,
    pub clock: Clock,
    /// By function; the counters since the start of the run.
    ///
    /// Empty where the run crashed: its counters died with it.
    pub functions: BTreeMap<String, FunctionCounts>,
    /// Since the start of the run; absent after a crash, and before format 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<CoverageCounts>,
    /// What the sidecar itself took; absent after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What tracing took since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time of the sidecar, all threads together, in seconds.
    pub cpu_s: f64,
    /// The most bytes that waited in the ring buffer when the recorder looked.
    pub ring_high_water_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// `TRACE_INTERVAL` passed.
    Interval,
    /// The segment reached its size limit.
    Size,
    /// The sidecar was told to stop.
    Shutdown,
    /// An earlier run crashed; a later one closed the segment. Its end may be missing.
    Truncated,
}

/// How many calls of one function were seen, and what became of them.
///
/// `run_hits = run_lines + run_dropped + run_ignored + run_suppressed` once nothing is in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCounts {
    /// Call lines in this segment.
    pub lines: u64,
    /// Probe hits, counted in the kernel.
    pub run_hits: u64,
    /// Call lines in this segment and all before it.
    pub run_lines: u64,
    /// Lost: the ring buffer or the disk was full.
    pub run_dropped: u64,
    /// Hits in processes that turned out not to be targets.
    pub run_ignored: u64,
    /// Hits beyond `TRACE_RATE_LIMIT`.
    #[serde(default)]
    pub run_suppressed: u64,
}

/// A traced process; stands before its first call in every segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub parent: Option<u32>,
    pub executable: Option<String>,
    /// The command line as it was when the process was examined.
    pub command: Option<String>,
    pub comm: Option<String>,
    /// Why it is traced.
    pub matched_by: String,
    /// What it is in a vLLM server: `api_server`, `engine_core`, `worker`; absent if nothing tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What told the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_by: Option<String>,
    /// Which of several it is, by kind of parallelism: `tp`, `pp`, `dp` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, u32>,
}

/// In formats 1 and 2: how far the sidecar thought that a process had come. Nothing writes it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// `load`, `warm_up` or `serve`.
    pub stage: String,
    /// What told it.
    pub stage_by: String,
}

/// A library whose functions carry probes from this line's `ts` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// As the process that led to it sees it.
    pub path: String,
    pub device: u64,
    pub inode: u64,
    /// How it was found.
    pub found_by: String,
    /// True if a process had mapped it before the probes were in place: calls may be missing.
    pub attached_late: bool,
    /// Functions that carry a probe.
    pub functions: u32,
    /// Of these, probes on an instruction that the kernel must single-step (dearer).
    pub single_stepped: u32,
    /// Functions that were wanted but refused a probe, with the reason.
    pub failed: BTreeMap<String, String>,
}

impl Library {
    /// How many functions were wanted and have no probe.
    pub fn refused(&self) -> u64 {
        let count = |name: &String| more_functions(name).unwrap_or(1);
        self.failed.keys().map(count).fold(0, u64::saturating_add)
    }

    /// One of them, with the reason.
    pub fn first_refused(&self) -> Option<(&str, &str)> {
        let first = self.failed.iter().find(|(name, _)| more_functions(name).is_none());
        let (name, reason) = first.or(self.failed.first_key_value())?;
        Some((name, reason))
    }
}

/// The entry of `failed` that stands for all functions which are not told by name.
pub fn name_of_more_functions(count: u64) -> String {
    format!("({count} more functions)")
}

/// How many functions an entry of `failed` stands for that is no name.
pub fn more_functions(name: &str) -> Option<u64> {
    name.strip_prefix('(')?.strip_suffix(" more functions)")?.parse().ok()
}

/// Whether the calls of one process into one mapped library are in the trace. The latest line of a
/// process and a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub coverage: CoverageKind,
    /// As the mapping names it.
    pub path: String,
    /// As the kernel numbers the mapped file, which on overlayfs and btrfs is not as `stat` does.
    pub device: u64,
    pub inode: u64,
    /// Functions that other processes have probes on, and this one has not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unprobed: u32,
    /// Why calls are missing, or may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageKind {
    /// The probes were in place before the process could call: nothing is missing.
    Exact,
    /// Calls before this line's `ts` may be missing.
    From,
    /// The library has no probes in this process.
    Unseen,
}

/// How many mappings of CUDA libraries in targets are covered, and how well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageCounts {
    pub exact: u64,
    pub from: u64,
    pub unseen: u64,
    /// How often the kernel lost process events: short-lived processes of that time may be unseen.
    pub events_lost: u64,
    /// Mapped files that nobody could look into, so that they may be CUDA libraries.
    #[serde(default)]
    pub unexamined: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A kernel's number, before the first line of a segment that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// In the whole run; `kernel` of call lines, and the elements of `kernels`.
    pub id: u32,
    /// As the library has it; `None` if no traced call has told.
    pub name: Option<String>,
    /// As the source has it.
    pub demangled: Option<String>,
    /// Why there is no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a captured graph holds, before the first launch of it in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The executable graph that is launched.
    pub graph_exec: Address,
    /// Kernels in the order in which they were captured.
    pub kernels: Vec<u32>,
}
