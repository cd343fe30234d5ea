//! Finds CUDA libraries and puts probes on them: before a target maps them where the loader's own
//! search leads there, and otherwise as soon as the mapping is seen. States whose calls are covered.

mod attach;
mod bounded;
mod callers;
mod coverage;
mod files;
mod history;
mod lease;
mod memory;
mod twins;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{SendError, Sender},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use attach::{Attached, Examined, Retry};
use bounded::Bounded;
use coverage::Coverage;
use files::{FileKey, cuda_libraries_in};
use history::History;
use trace::function::Selection;
use tracing::warn;
use twins::Twins;

use crate::{
    clock,
    loader::{self, is_cuda_library, search},
    probes::Attacher,
    process::{MappedFile, Mappings, Processes, all_pids},
    recorder::{Change, Notice},
    sideband::{ProcessEvent, Sideband},
    state::State,
};

/// How long the thread sleeps at most before it looks whether to stop, and whether somebody wants to
/// write an attached file.
const WAIT: Duration = Duration::from_millis(100);

/// How long an ended process stays known: its last events may still wait in the ring buffer.
const MEMORY_OF_EXITED: Duration = Duration::from_secs(5);

/// Mapped files that wait to be examined, and files that a search has found: each path has up to
/// 4 KiB, and most have 100 bytes.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Events that wait while a library is being attached to.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// How long one process is looked at before others have their turn; the rest of it waits.
const TURN: Duration = Duration::from_secs(1);

/// How long the thread goes on with what has happened once it is told to stop.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// How often targets are asked whether they still have their probes.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub struct Discovery {
    selection: Selection,
    extra_directories: Vec<PathBuf>,
    sideband: Sideband,
    /// Events that have been noted in `history` and not been followed yet.
    queue: Bounded<ProcessEvent>,
    /// There was no room for some.
    has_lost_events: bool,
    history: History,
    attacher: Attacher,
    processes: Arc<Mutex<Processes>>,
    notices: Sender<Notice>,
    state: Arc<State>,
    /// The number of each function name that any library has shown.
    numbers: HashMap<String, u32>,
    /// What each file turned out to be; one that has changed is another file.
    files: HashMap<FileKey, Examined>,
    /// The same by what mappings call it, for those that have been mapped.
    mapped: HashMap<MappedFile, (FileKey, Examined)>,
    /// What events call files that mappings call otherwise.
    twins: Twins,
    /// Mapped files that could not be opened: where they were, and why.
    unopened: HashMap<MappedFile, (PathBuf, String)>,
    /// Libraries with probes, by their index in [`Examined::Library`].
    libraries: Vec<Attached>,
    coverage: Coverage,
    retries: Vec<Retry>,
    /// Mapped files whose names say nothing: examined when there is time.
    nameless: Bounded<(u32, MappedFile, PathBuf)>,
    /// What the loaders of processes would find, when their turn was over.
    later: Bounded<(u32, loader::Found)>,
    /// Foreign processes that may have mapped a CUDA library unseen: looked at when there is time,
    /// only to tell that they are not traced.
    strangers: VecDeque<u32>,
    /// Files whose errors have been logged.
    unreadable: HashSet<PathBuf>,
}

/// Why a file was looked into; becomes `found_by` of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundBy {
    /// The loader of a target, or of a program like the sidecar, would find it.
    Loader(loader::Reason),
    /// It lies in one of CUDA_LIBRARY_DIRS.
    Directory,
    /// A target had it mapped.
    Mapping,
}

impl FoundBy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Loader(reason) => reason.as_str(),
            Self::Directory => "CUDA_LIBRARY_DIRS",
            Self::Mapping => "mapping",
        }
    }
}

impl Discovery {
    pub fn new(
        selection: Selection,
        extra_directories: Vec<PathBuf>,
        attacher: Attacher,
        processes: Arc<Mutex<Processes>>,
        notices: Sender<Notice>,
        state: Arc<State>,
    ) -> Result<Self> {
        lease::ignore_signal();
        Ok(Self {
            selection,
            extra_directories,
            // Opened before the first scan, so that no process falls between the two.
            sideband: Sideband::open()?,
            queue: Bounded::new(MAX_EVENT_BYTES),
            has_lost_events: false,
            history: History::default(),
            attacher,
            processes,
            notices,
            state,
            numbers: HashMap::new(),
            files: HashMap::new(),
            mapped: HashMap::new(),
            twins: Twins::default(),
            unopened: HashMap::new(),
            libraries: Vec::new(),
            coverage: Coverage::default(),
            retries: Vec::new(),
            nameless: Bounded::new(MAX_WAITING_BYTES),
            later: Bounded::new(MAX_WAITING_BYTES),
            strangers: VecDeque::new(),
            unreadable: HashSet::new(),
        })
    }

    /// Attaches what can be found now: call it once before reporting readiness.
    pub fn scan(&mut self) -> Result<()> {
        // First, so that it is known who has mapped a library already.
        let pids = all_pids();
        for &pid in &pids {
            self.state.discovery_steps(Some(pid));
            Processes::look_at(&self.processes, pid);
        }
        let own = std::process::id();
        for directory in self.extra_directories.clone() {
            for path in cuda_libraries_in(&directory) {
                self.inspect(own, &path, FoundBy::Directory)?;
            }
        }
        for found in search(own) {
            self.inspect(own, &found.path, FoundBy::Loader(found.reason))?;
        }
        for &pid in &pids {
            self.prepare(pid)?;
        }
        self.note_strangers(pids);
        Ok(())
    }

    /// Whether dropping `self` takes the kernel its time for each probe.
    pub fn detaches_slowly(&self) -> bool {
        self.attacher.uses_perf_events()
    }

    /// Follows the kernel's events until `stop` is set; dropping `self` then detaches.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Self> {
        let (mut cleaned, mut checked) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Acquire) {
            self.state.discovery_steps(None);
            let is_idle =
                self.nameless.is_empty() && self.later.is_empty() && self.strangers.is_empty();
            self.receive(if is_idle { WAIT } else { Duration::ZERO })?;
            self.let_writers_in();
            // However many say so, every process is looked at once.
            let mut is_lost = false;
            while let Some(event) = self.queue.pop() {
                is_lost |= event == ProcessEvent::Lost;
                self.follow(event)?;
            }
            if is_lost | mem::take(&mut self.has_lost_events) {
                self.look_at_all()?;
            }
            if let Some((pid, file, path)) = self.nameless.pop() {
                self.examine_mapped(pid, file, &path)?;
            }
            if let Some((pid, found)) = self.later.pop() {
                self.inspect(pid, &found.path, FoundBy::Loader(found.reason))?;
            }
            if let Some(pid) = self.strangers.pop_front() {
                self.look_at_stranger(pid);
            }
            self.retry()?;
            if checked.elapsed() > CHECK_INTERVAL {
                self.check_probes()?;
                checked = Instant::now();
            }
            if cleaned.elapsed() > MEMORY_OF_EXITED {
                self.follow_late()?;
                self.processes().forget_exited(MEMORY_OF_EXITED);
                self.history.forget_ended();
                self.coverage.forget_ended();
                self.state.unprobed(self.coverage.unprobed());
                cleaned = Instant::now();
            }
        }
        // What has happened until now is still said of.
        self.receive(Duration::ZERO)?;
        let deadline = Instant::now() + LAST_LOOK;
        while let Some(event) = self.queue.pop() {
            self.follow(event)?;
            if Instant::now() > deadline {
                break;
            }
        }
        while let Some((pid, file, path)) = self.nameless.pop() {
            if Instant::now() > deadline {
                break;
            }
            self.examine_mapped(pid, file, &path)?;
        }
        if Instant::now() < deadline {
            self.follow_late()?;
        }
        Ok(self)
    }

    /// Takes what the kernel has to tell, and notes its times at once: what is decided later needs
    /// those of all events until then.
    fn receive(&mut self, wait: Duration) -> Result<()> {
        let mut events = Vec::new();
        self.sideband.wait(wait, &mut events)?;
        for event in events {
            self.history.note(&event);
            let path_bytes = match &event {
                ProcessEvent::Mapped { path, .. } => path.as_os_str().len(),
                _ => 0,
            };
            self.has_lost_events |= !self.queue.push(event, path_bytes);
        }
        if self.history.take_overflow() {
            let at_ns = clock::monotonic_ns();
            self.coverage.events_lost(at_ns);
            let counts = self.coverage.counts();
            self.tell(Notice::Coverage { at_ns, line: None, counts });
        }
        Ok(())
    }

    fn follow(&mut self, event: ProcessEvent) -> Result<()> {
        self.state.discovery_steps(event.pid());
        match event {
            ProcessEvent::Forked { pid, parent, at_ns } => {
                let before = self.processes().is_target(pid);
                Processes::note_fork(&self.processes, pid, parent);
                self.coverage.began(pid);
                self.note_if_late(pid);
                self.tell_change(pid, Change::Forked { parent, at_ns });
                self.tell_if_changed(pid, before);
                self.cover_inherited(pid, parent);
            }
            ProcessEvent::Executed { pid, comm, is_replaced, at_ns } => {
                Processes::note_exec(&self.processes, pid, &comm, is_replaced);
                self.caller_changed(pid);
                let change = if is_replaced {
                    self.coverage.began(pid);
                    Change::Replaced { at_ns }
                } else {
                    self.note_if_late(pid);
                    Change::Described
                };
                self.tell_change(pid, change);
                self.prepare(pid)?;
            }
            ProcessEvent::Mapped { pid, file, path, .. } => {
                let is_unfinished = self.processes().is_unfinished(pid);
                if is_unfinished {
                    self.look_at(pid)?;
                }
                let is_target = self.processes().is_target(pid);
                if is_target {
                    self.mapped(pid, file, path)?;
                } else if has_cuda_name(&path) {
                    self.note_mapping(pid);
                }
            }
            ProcessEvent::Exited { pid, at_ns } => {
                self.processes().exited(pid);
                self.state.callers().exited(pid);
                self.coverage.ended(pid);
                self.tell_change(pid, Change::Replaced { at_ns });
            }
            // For the whole batch, in `run`.
            ProcessEvent::Lost => {}
        }
        Ok(())
    }

    fn look_at_all(&mut self) -> Result<()> {
        warn!("the kernel lost process events: looking at every process again");
        let at_ns = clock::monotonic_ns();
        self.coverage.events_lost(at_ns);
        let counts = self.coverage.counts();
        self.tell(Notice::Coverage { at_ns, line: None, counts });
        let gone = self.processes().find_exited();
        for pid in gone {
            self.history.ended(pid);
            self.tell_change(pid, Change::Replaced { at_ns });
        }
        let pids = all_pids();
        for &pid in &pids {
            self.look_at(pid)?;
        }
        self.note_strangers(pids);
        Ok(())
    }

    fn look_at(&mut self, pid: u32) -> Result<()> {
        self.state.discovery_steps(Some(pid));
        let before = self.processes().is_target(pid);
        Processes::look_at(&self.processes, pid);
        self.note_if_late(pid);
        self.caller_changed(pid);
        self.tell_if_changed(pid, before);
        self.prepare(pid)
    }

    /// Attaches to what a target has mapped, and to what its loader would find.
    fn prepare(&mut self, pid: u32) -> Result<()> {
        self.state.discovery_steps(Some(pid));
        let is_target = self.processes().is_target(pid);
        if !is_target {
            return Ok(());
        }
        let deadline = Instant::now() + TURN;
        let mappings = Mappings::of(pid).unwrap_or_default();
        let mut seen = HashSet::new();
        for mapping in mappings.executable() {
            if !seen.insert(mapping.file) {
                continue;
            }
            let path = mapping.path.clone();
            if Instant::now() < deadline {
                self.mapped(pid, mapping.file, path)?;
            } else {
                self.examine_later(pid, mapping.file, path);
            }
        }
        for found in search(pid) {
            if Instant::now() < deadline {
                self.inspect(pid, &found.path, FoundBy::Loader(found.reason))?;
                continue;
            }
            // One that has no room is attached to when its mapping is seen.
            let path_bytes = found.path.as_os_str().len();
            self.later.push((pid, found), path_bytes);
        }
        self.cover_moved_code(pid, &mappings);
        Ok(())
    }

    fn mapped(&mut self, pid: u32, file: MappedFile, path: PathBuf) -> Result<()> {
        if has_cuda_name(&path) {
            self.note_mapping(pid);
            return self.examine_mapped(pid, file, &path);
        }
        match self.mapped.get(&file) {
            // Whether it is still the same file costs a look at it.
            Some((_, Examined::Plain)) if self.is_same(pid, file, &path) => {}
            Some((_, Examined::Library(_))) => return self.examine_mapped(pid, file, &path),
            _ => self.examine_later(pid, file, path),
        }
        Ok(())
    }

    fn examine_later(&mut self, pid: u32, file: MappedFile, path: PathBuf) {
        let path_bytes = path.as_os_str().len();
        if !self.nameless.push((pid, file, path), path_bytes) {
            // Said as what it is: something may have been missed.
            self.coverage.events_lost(clock::monotonic_ns());
        }
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        Processes::lock(&self.processes)
    }

    /// Calls that a process made while it was known to be no target are not in the trace.
    fn note_if_late(&mut self, pid: u32) {
        let late_ns = self.processes().late_ns(pid);
        if let Some(since_ns) = late_ns {
            self.coverage.became_target(pid, since_ns);
        }
    }

    /// Targets that the recorder has found out to be such, by what they are when they call.
    fn follow_late(&mut self) -> Result<()> {
        let late = self.processes().take_late();
        for pid in late {
            self.note_if_late(pid);
            self.caller_changed(pid);
            self.prepare(pid)?;
        }
        Ok(())
    }

    fn tell_if_changed(&self, pid: u32, was_target: bool) {
        let is_target = self.processes().is_target(pid);
        if is_target != was_target {
            self.tell_change(pid, Change::Described);
        }
    }

    fn tell_change(&self, pid: u32, change: Change) {
        self.tell(Notice::Changed { pid, change });
    }

    fn tell(&self, notice: Notice) {
        // The recorder ends first when the sidecar stops; then nobody needs to know any more.
        let _: Result<(), SendError<Notice>> = self.notices.send(notice);
    }
}

fn has_cuda_name(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_cuda_library)
}
