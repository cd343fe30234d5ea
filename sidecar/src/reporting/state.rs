//! What the sidecar is doing, for whoever asks: written by the threads that do it, read over HTTP.
//!
//! Written when something happens to a process, a library or a segment, and otherwise once a
//! second: never per event.

mod callers;
mod coverage;
mod heartbeat;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use callers::{Caller, Callers, Evidence};
pub use coverage::{Coverage, Gap};
use heartbeat::Heartbeat;
pub use heartbeat::LongestTurn;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trace::line::{CoverageCounts, Library, name_of_more_functions};

use crate::recording::accounting::Tally;

/// How long discovery may take for one step, such as a look at one process. Each has limits of its
/// own that are far below: beyond this something does not answer, and never will.
pub const MAX_STEP: Duration = Duration::from_secs(30);

/// How long a leftover segment may take to be closed: at least, and by its bytes a second.
const MIN_TO_CLOSE: Duration = Duration::from_secs(30);
const SLOWEST_DISK: u64 = 4 << 20;

/// Libraries that tell by name which of their functions have no probe, 16 KiB each at most.
const MAX_DETAILED: usize = 64;

/// Shared by all threads; each part has one writer, save the list of callers.
#[derive(Debug, Default)]
pub struct State {
    life: Mutex<Life>,
    discovery: Mutex<Heartbeat>,
    recorded: Mutex<Recorded>,
    libraries: Mutex<Vec<Library>>,
    coverage: Mutex<Coverage>,
    callers: Mutex<Callers>,
    uploads: Mutex<Uploads>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Life {
    phase: Phase,
    failed_thread: Option<&'static str>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Libraries that can be found are being attached to.
    #[default]
    Starting,
    /// They are attached, and calls are recorded.
    Recording,
    /// The trace is being closed and uploaded.
    Stopping,
    /// A tracing thread ended before it was told to; what there is, is closed and uploaded.
    Failed,
}

/// What became of calls, and how much of it is in files. Numbers of one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub tally: Tally,
    /// In files of this run.
    pub written_bytes: u64,
    pub closed_segments: u64,
    /// The disk is full, TRACE_DIR_LIMIT reached, or the open segment deleted: calls are dropped, and
    /// counted.
    pub is_paused: bool,
}

/// What became of closed segments.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploads {
    /// Confirmed by the store.
    pub stored: u64,
    pub stored_bytes: u64,
    /// Attempts that the store refused or did not answer.
    pub store_failures: u64,
    /// Attempts that ended at a file that could not be read or deleted, was too large for the store,
    /// or has a name under which the store keeps something else.
    pub file_failures: u64,
    pub last_stored: Option<Timestamp>,
    /// The store is failing.
    pub failing: Option<Failing>,
    /// Segments that are not stored while others are.
    #[serde(default)]
    pub blocked_segments: usize,
    /// The first of them, oldest first.
    #[serde(default)]
    pub blocked: Vec<Blocked>,
    /// Uploads neither succeed nor fail, although one of the two is due.
    #[serde(default)]
    pub stalled: Option<Stalled>,
    /// How often the upload task ended by itself and was started again.
    #[serde(default)]
    pub restarts: u64,
    #[serde(skip)]
    step: Option<UploadStep>,
    /// The closing of what a crash has left, beside the uploader.
    #[serde(skip)]
    closing: Option<UploadStep>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    pub since: Timestamp,
    /// Of the last attempt.
    pub error: String,
}

/// A segment that waits for a reason of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub segment: String,
    pub since: Timestamp,
    pub attempts: u32,
    /// Of the last attempt.
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// When the step began that does not end.
    pub since: Timestamp,
    /// What it is.
    pub step: String,
}

/// What the uploader does, and by when it has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UploadStep {
    what: String,
    began: Timestamp,
    due: Instant,
}

impl State {
    pub fn phase(&self) -> Phase {
        lock(&self.life).phase
    }

    /// A failure is the last phase.
    pub fn enter(&self, phase: Phase) {
        let mut life = lock(&self.life);
        if life.phase != Phase::Failed {
            life.phase = phase;
        }
    }

    /// A tracing thread has ended by itself.
    pub fn thread_failed(&self, name: &'static str) {
        *lock(&self.life) = Life { phase: Phase::Failed, failed_thread: Some(name) };
    }

    pub fn failed_thread(&self) -> Option<&'static str> {
        lock(&self.life).failed_thread
    }

    /// Discovery's heartbeat: it begins a step, which may be a look at a process.
    pub fn discovery_steps(&self, pid: Option<u32>) {
        lock(&self.discovery).step(pid);
    }

    /// It waits for events, or takes those that have come.
    pub fn discovery_waits(&self) {
        lock(&self.discovery).wait();
    }

    /// The longest that one process has kept discovery from others.
    pub fn longest_turn(&self) -> LongestTurn {
        lock(&self.discovery).longest()
    }

    /// Why discovery counts as stuck, if it does. When it is told to stop its heart may stop too.
    pub fn stuck_discovery(&self) -> Option<String> {
        let (taken, pid) = lock(&self.discovery).present()?;
        if taken <= MAX_STEP || !matches!(self.phase(), Phase::Starting | Phase::Recording) {
            return None;
        }
        let of = pid.map(|pid| format!(" with process {pid}")).unwrap_or_default();
        Some(format!(
            "discovery has been busy{of} for {} s, more than {} s: a file, or a process, does not \
             answer it, so that no further library gets probes",
            taken.as_secs(),
            MAX_STEP.as_secs()
        ))
    }

    pub fn publish(&self, recorded: Recorded) {
        *lock(&self.recorded) = recorded;
    }

    pub fn recorded(&self) -> Recorded {
        lock(&self.recorded).clone()
    }

    /// Of many libraries, only the first tell by name which functions have no probe: each answer to
    /// `/status` holds a copy of all. The trace names them.
    pub fn attached(&self, mut library: Library) {
        let mut libraries = lock(&self.libraries);
        if libraries.len() >= MAX_DETAILED
            && let Some((_, reason)) = library.first_refused()
        {
            let name = name_of_more_functions(library.refused());
            library.failed = [(name, reason.to_owned())].into();
        }
        libraries.push(library);
    }

    pub fn libraries(&self) -> Vec<Library> {
        lock(&self.libraries).clone()
    }

    /// What is said of one process and library, and of all together.
    pub fn covered(&self, pid: u32, line: Option<&trace::line::Coverage>, counts: CoverageCounts) {
        lock(&self.coverage).note(pid, line, counts);
    }

    /// All together, where nothing is new of any process by itself.
    pub fn coverage_counted(&self, counts: CoverageCounts) {
        lock(&self.coverage).counts = counts;
    }

    /// Functions of libraries with probes that have none in a process, over all processes.
    pub fn unprobed(&self, functions: u64) {
        lock(&self.coverage).unprobed = functions;
    }

    pub fn coverage(&self) -> Coverage {
        lock(&self.coverage).clone()
    }

    pub fn callers(&self) -> MutexGuard<'_, Callers> {
        lock(&self.callers)
    }

    pub fn uploads(&self) -> MutexGuard<'_, Uploads> {
        lock(&self.uploads)
    }
}

/// What a thread that panicked has left is still worth telling: that it did is told too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UploadStep {
    fn new(what: String, within: Duration) -> Self {
        Self { what, began: Timestamp::now(), due: Instant::now() + within }
    }

    fn overdue(&self) -> Option<Stalled> {
        (self.due <= Instant::now()).then(|| Stalled { since: self.began, step: self.what.clone() })
    }
}

impl Uploads {
    /// The uploader does this now. Where it has not begun something else after `within`, it hangs.
    pub fn begin(&mut self, what: impl Into<String>, within: Duration) {
        self.step = Some(UploadStep::new(what.into(), within));
    }

    /// The uploader has ended as it should.
    pub fn end(&mut self) {
        self.step = None;
    }

    /// The step that should have ended by now, if there is one.
    pub fn overdue(&self) -> Option<Stalled> {
        self.step.as_ref()?.overdue()
    }

    /// A segment of so many bytes is being closed that a crash had left open.
    pub fn begin_closing(&mut self, segment: &str, bytes: u64) {
        let within = MIN_TO_CLOSE + Duration::from_secs(bytes / SLOWEST_DISK);
        let what = format!("the closing of {segment}, which a crash had left open");
        self.closing = Some(UploadStep::new(what, within));
    }

    /// All are closed.
    pub fn end_closing(&mut self) {
        self.closing = None;
    }

    /// As of this moment, for whoever asks: a task that hangs cannot tell it itself.
    #[must_use]
    pub fn told(&self) -> Self {
        let closing = || self.closing.as_ref()?.overdue();
        let stalled = self.overdue().or_else(closing);
        Self { stalled, step: None, closing: None, ..self.clone() }
    }

    pub fn stored(&mut self, bytes: u64) {
        self.stored += 1;
        self.stored_bytes += bytes;
        self.last_stored = Some(Timestamp::now());
    }

    /// Keeps the time of the first failure in a row.
    pub fn failing(&mut self, error: String) {
        let since = self.failing.take().map_or_else(Timestamp::now, |failing| failing.since);
        self.failing = Some(Failing { since, error });
    }
}

#[cfg(test)]
impl State {
    /// As if discovery had gone on with one process for so long.
    pub(crate) fn let_a_turn_take(&self, pid: u32, time: Duration) {
        lock(&self.discovery).set_longest(pid, time);
    }

    /// As if its last step had begun a little more than [`MAX_STEP`] ago.
    pub(crate) fn let_discovery_hang(&self) {
        lock(&self.discovery).age(MAX_STEP + Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_not_forgotten_while_the_rest_stops() {
        let state = State::default();
        assert_eq!(state.phase(), Phase::Starting);
        state.enter(Phase::Recording);
        state.thread_failed("recorder");
        state.enter(Phase::Stopping);
        assert_eq!((state.phase(), state.failed_thread()), (Phase::Failed, Some("recorder")));
    }

    #[test]
    fn many_libraries_with_many_refusals_are_told_in_little_memory() {
        let refused = |count: u32| (0..count).map(|n| (format!("cuF{n}"), "why".to_owned()));
        let state = State::default();
        for inode in 0..2000 {
            state.attached(Library {
                path: "/lib/libcuda.so.1".to_owned(),
                device: 1,
                inode,
                found_by: "mapping".to_owned(),
                attached_late: false,
                functions: 1,
                single_stepped: 0,
                failed: refused(60).collect(),
            });
        }
        let libraries = state.libraries();
        assert_eq!(libraries.iter().map(Library::refused).sum::<u64>(), 2000 * 60);
        let told: usize = libraries.iter().map(|library| library.failed.len()).sum();
        assert_eq!(told, MAX_DETAILED * 60 + 2000 - MAX_DETAILED);
    }

    #[test]
    fn an_outage_has_the_time_of_its_first_failure_and_the_words_of_its_last() {
        let mut uploads = Uploads::default();
        uploads.failing("first".to_owned());
        let since = uploads.failing.clone().unwrap().since;
        std::thread::sleep(Duration::from_millis(2));
        uploads.failing("second".to_owned());
        assert_eq!(uploads.failing, Some(Failing { since, error: "second".to_owned() }));
    }

    #[test]
    fn discovery_is_stuck_when_a_step_takes_too_long_unless_everything_stops_anyway() {
        let state = State::default();
        assert_eq!(state.stuck_discovery(), None, "it has not begun");
        state.discovery_steps(Some(42));
        assert_eq!(state.stuck_discovery(), None);
        state.let_discovery_hang();
        let reason = state.stuck_discovery().unwrap();
        assert!(reason.contains("with process 42 for 31 s, more than 30 s"), "{reason}");
        state.discovery_steps(None);
        assert_eq!(state.stuck_discovery(), None);
        state.let_discovery_hang();
        assert!(state.stuck_discovery().unwrap().contains("busy for 31 s"));
        state.enter(Phase::Stopping);
        assert_eq!(state.stuck_discovery(), None);
    }

    #[test]
    fn a_step_of_the_uploader_that_does_not_end_is_told_by_whoever_asks() {
        let mut uploads = Uploads::default();
        uploads.begin("uploading a segment", Duration::from_secs(60));
        assert_eq!(uploads.told().stalled, None, "it has time");
        uploads.begin("finding credentials", Duration::ZERO);
        assert_eq!(uploads.told().stalled.unwrap().step, "finding credentials");
        uploads.begin("waiting", Duration::from_secs(60));
        assert_eq!(uploads.told().stalled, None, "it goes on");
        uploads.begin("the last step", Duration::ZERO);
        uploads.end();
        assert_eq!(uploads.told(), Uploads::default());
    }

    #[test]
    fn a_leftover_that_is_never_closed_is_told_and_does_not_look_like_the_uploader_hanging() {
        let mut uploads = Uploads::default();
        uploads.begin_closing("trace_h_s_000001.jsonl.part", 1 << 30);
        assert_eq!(uploads.told().stalled, None, "it has time");
        uploads.closing.as_mut().unwrap().due = Instant::now();
        assert!(uploads.told().stalled.unwrap().step.contains("trace_h_s_000001.jsonl.part"));
        assert_eq!(uploads.overdue(), None);
        uploads.end_closing();
        assert_eq!(uploads.told(), Uploads::default());
    }
}
