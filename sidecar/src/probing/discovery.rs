//! Finds CUDA libraries and puts probes on them: before a target maps them where the loader's own
//! search leads there, and otherwise as soon as the mapping is seen. States whose calls are covered.

mod attach;
mod bounded_queue;
mod coverage;
mod cuda_processes;
mod file_aliases;
mod files;
mod history;
mod lease;
mod memory;
mod own_mapping;
mod time_slice;
mod waiting_files;

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
use attach::{Attached, Attaching, Examined, Retry};
use bounded_queue::{BoundedQueue, Once};
use coverage::Coverage;
use cuda::function::Selection;
use file_aliases::FileAliases;
use files::{FileKey, cuda_libraries_in, mappings_of};
use history::History;
use libraries::loader::{self, is_cuda_library, search};
use processes::{
    clock,
    process::{MappedFile, Processes, all_pids},
};
use time_slice::{Shares, TimeSlice};
use tracing::warn;
use waiting_files::WaitingFiles;

use crate::{
    probing::{
        probes::Attacher,
        process_events::{ProcessEvent, ProcessEvents},
    },
    recording::recorder::{DiscoveryEvent, ProcessChange},
    reporting::state::State,
};

/// How long the thread sleeps at most before it looks whether to stop, and whether somebody wants to
/// write an attached file.
const WAIT: Duration = Duration::from_millis(100);

/// How long an ended process stays known: its last events may still wait in the ring buffer.
const MEMORY_OF_EXITED: Duration = Duration::from_secs(5);

/// Files that a search has found: each path has up to 4 KiB, and most have 100 bytes.
const MAX_FOUND_BYTES: usize = 8 << 20;

/// Events that wait while a library is being attached to.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// Processes whose loaders' searches wait.
const MAX_SEARCHES: usize = 1 << 16;

/// How long events are followed, and how long what waits is gone on with, before it is asked for new
/// events. What has begun has its turn to the end.
const SLICE: Duration = Duration::from_millis(50);

/// How long the first scan waits for probes that are being put in place. Beyond it something does not
/// answer, and the rest is ready.
const SCAN_WAIT: Duration = Duration::from_secs(10);

/// How long the thread goes on with what has happened once it is told to stop.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// How often targets are asked whether they still have their probes.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Lost events are logged so often at most.
const LOSS_INTERVAL: Duration = Duration::from_secs(60);

pub struct Discovery {
    selection: Selection,
    extra_directories: Vec<PathBuf>,
    process_events: ProcessEvents,
    /// Events that have been noted in `history` and not been followed yet.
    queue: BoundedQueue<ProcessEvent>,
    /// There was no room for some.
    has_lost_events: bool,
    /// When a loss was logged last.
    loss_logged: Option<Instant>,
    history: History,
    attacher: Attacher,
    processes: Arc<Mutex<Processes>>,
    events: Sender<DiscoveryEvent>,
    state: Arc<State>,
    /// The number of each function name that any library has shown.
    numbers: HashMap<String, u32>,
    /// What each file turned out to be; one that has changed is another file.
    files: HashMap<FileKey, Examined>,
    /// The same by what mappings call it, for those that have been mapped.
    mapped: HashMap<MappedFile, (FileKey, Examined)>,
    /// What events call files that mappings call otherwise.
    file_aliases: FileAliases,
    /// Mapped files that could not be opened: where they were, and why.
    unopened: HashMap<MappedFile, (PathBuf, String)>,
    /// Libraries with probes, by their index in [`Examined::Library`].
    libraries: Vec<Attached>,
    /// Libraries that are getting their probes.
    attaching: Vec<Attaching>,
    coverage: Coverage,
    retries: Vec<Retry>,
    time_slice: TimeSlice,
    /// When every turn ends, because the sidecar does.
    last_turn_end: Option<Instant>,
    /// Processes whose loaders' searches are due.
    searches: Once,
    /// How much time the events of each process have taken lately.
    shares: Shares,
    /// Mapped files whose names say nothing, or whose process has had its time: examined when there is
    /// time.
    waiting_files: WaitingFiles,
    /// What the loaders of processes would find, when their turn was over.
    later: BoundedQueue<(u32, loader::Found)>,
    /// Processes that are to be looked at again, because events were lost.
    unsure: Once,
    /// Targets that are to be asked whether they still have their probes.
    unchecked: VecDeque<u32>,
    /// The kind of waiting work that was gone on with last.
    latest_kind: usize,
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
        discovery_events: Sender<DiscoveryEvent>,
        state: Arc<State>,
    ) -> Result<Self> {
        lease::ignore_signal();
        Ok(Self {
            selection,
            extra_directories,
            // Opened before the first scan, so that no process falls between the two.
            process_events: ProcessEvents::open()?,
            queue: BoundedQueue::new(MAX_EVENT_BYTES),
            has_lost_events: false,
            loss_logged: None,
            history: History::default(),
            attacher,
            processes,
            events: discovery_events,
            state,
            numbers: HashMap::new(),
            files: HashMap::new(),
            mapped: HashMap::new(),
            file_aliases: FileAliases::default(),
            unopened: HashMap::new(),
            libraries: Vec::new(),
            attaching: Vec::new(),
            coverage: Coverage::default(),
            retries: Vec::new(),
            time_slice: TimeSlice::begin(None),
            last_turn_end: None,
            searches: Once::new(MAX_SEARCHES),
            shares: Shares::default(),
            waiting_files: WaitingFiles::default(),
            later: BoundedQueue::new(MAX_FOUND_BYTES),
            unsure: Once::new(usize::MAX),
            unchecked: VecDeque::new(),
            latest_kind: 0,
            strangers: VecDeque::new(),
            unreadable: HashSet::new(),
        })
    }

    /// Attaches what can be found now: call it once before reporting readiness.
    pub fn scan(&mut self) -> Result<()> {
        // First, so that it is known who has mapped a library already.
        let pids = all_pids();
        for &pid in &pids {
            self.begin_turn(Some(pid));
            Processes::look_at(&self.processes, pid);
        }
        let own = std::process::id();
        for directory in self.extra_directories.clone() {
            for path in cuda_libraries_in(&directory) {
                self.begin_new_turn(Some(own));
                self.inspect(own, &path, FoundBy::Directory)?;
            }
        }
        for found in search(own) {
            self.begin_new_turn(Some(own));
            self.inspect(own, &found.path, FoundBy::Loader(found.reason))?;
        }
        for &pid in &pids {
            // What happens meanwhile does not wait for all of them.
            self.follow_new(Duration::ZERO)?;
            self.begin_turn(Some(pid));
            self.prepare(pid)?;
            while let Some(next) = self.searches.pop() {
                self.begin_new_turn(Some(next));
                self.search(next)?;
                if next == pid {
                    break;
                }
            }
        }
        self.note_strangers(pids);
        let deadline = Instant::now() + SCAN_WAIT;
        while !self.attaching.is_empty() && Instant::now() < deadline {
            self.follow_new(WAIT)?;
            self.finish_attaching(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Whether dropping `self` takes the kernel its time for each probe.
    pub fn detaches_slowly(&self) -> bool {
        self.attacher.uses_perf_events()
    }

    /// Whether a thread is putting probes in place.
    pub fn is_attaching(&self) -> bool {
        !self.attaching.is_empty()
    }

    /// Follows the kernel's events until `stop` is set; dropping `self` then detaches.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Self> {
        let (mut cleaned, mut checked) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Acquire) {
            self.follow_new(if self.is_idle() { WAIT } else { Duration::ZERO })?;
            self.begin_turn(None);
            self.let_writers_in();
            self.finish_attaching(Duration::ZERO)?;
            let until = Instant::now() + SLICE;
            // Probes are best in place before the process maps the library.
            if let Some(pid) = self.searches.pop() {
                self.begin_turn(Some(pid));
                self.search(pid)?;
            }
            while Instant::now() < until && self.go_on()? {}
            self.retry()?;
            if checked.elapsed() > CHECK_INTERVAL {
                self.begin_checks();
                checked = Instant::now();
            }
            if cleaned.elapsed() > MEMORY_OF_EXITED {
                self.follow_late()?;
                self.processes().forget_exited(MEMORY_OF_EXITED);
                self.history.forget_ended();
                self.coverage.forget_ended();
                self.state.unprobed(self.coverage.unprobed());
                self.tell_counts(clock::monotonic_ns());
                own_mapping::reap();
                cleaned = Instant::now();
            }
        }
        // What has happened until now is still said of.
        self.receive(Duration::ZERO)?;
        let deadline = Instant::now() + LAST_LOOK;
        self.last_turn_end = Some(deadline);
        let mut is_lost = false;
        while Instant::now() < deadline
            && let Some(event) = self.queue.pop()
        {
            is_lost |= event == ProcessEvent::Lost;
            self.follow(event)?;
        }
        while Instant::now() < deadline
            && let Some((pid, file, path)) = self.waiting_files.pop()
        {
            self.begin_turn(Some(pid));
            self.examine_mapped(pid, file, &path)?;
        }
        self.finish_attaching(deadline.saturating_duration_since(Instant::now()))?;
        if Instant::now() < deadline {
            self.follow_late()?;
        }
        self.say_what_is_left(is_lost);
        // Its last turn ends here.
        self.state.discovery_waits();
        Ok(self)
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.searches.is_empty()
            && self.waiting_files.is_empty()
            && self.later.is_empty()
            && self.strangers.is_empty()
            && self.unsure.is_empty()
            && self.unchecked.is_empty()
    }

    /// Follows what has happened, as far as it goes in a moment.
    fn follow_new(&mut self, wait: Duration) -> Result<()> {
        self.state.discovery_waits();
        self.receive(wait)?;
        self.time_slice = TimeSlice::begin(None);
        let until = Instant::now() + SLICE;
        // However many say so, every process is looked at once.
        let mut is_lost = false;
        while Instant::now() < until
            && let Some(event) = self.queue.pop()
        {
            is_lost |= event == ProcessEvent::Lost;
            self.follow(event)?;
        }
        if is_lost | mem::take(&mut self.has_lost_events) {
            self.look_at_all();
        }
        Ok(())
    }

    /// Goes on with one thing that waits; false if there is nothing. Kinds have their turns one after
    /// the other, so that none waits for the end of another.
    fn go_on(&mut self) -> Result<bool> {
        const KINDS: usize = 5;
        for _ in 0..KINDS {
            self.latest_kind = (self.latest_kind + 1) % KINDS;
            let kind = self.latest_kind;
            match kind {
                0 if let Some(pid) = self.unsure.pop() => self.look_at(pid)?,
                1 if let Some((pid, file, path)) = self.waiting_files.pop() => {
                    self.begin_turn(Some(pid));
                    self.examine_mapped(pid, file, &path)?;
                }
                2 if let Some((pid, found)) = self.later.pop() => {
                    self.begin_turn(Some(pid));
                    self.inspect(pid, &found.path, FoundBy::Loader(found.reason))?;
                }
                3 if let Some(pid) = self.strangers.pop_front() => {
                    self.begin_turn(Some(pid));
                    self.look_at_stranger(pid);
                }
                4 if let Some(pid) = self.unchecked.pop_front() => {
                    self.begin_turn(Some(pid));
                    self.check_probes(pid);
                }
                _ => continue,
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Turns to a process, or to what is of none. What follows each other of one process is one turn,
    /// until new events have been asked for.
    fn begin_turn(&mut self, pid: Option<u32>) {
        self.state.discovery_steps(pid);
        if self.time_slice.pid() != pid {
            self.time_slice = TimeSlice::begin(pid);
        }
        if let Some(end) = self.last_turn_end {
            self.time_slice.end_by(end);
        }
    }

    /// The same for what is gone on with only because everything else waits anyway.
    fn begin_new_turn(&mut self, pid: Option<u32>) {
        self.state.discovery_waits();
        self.state.discovery_steps(pid);
        self.time_slice = TimeSlice::begin(pid);
    }

    /// Takes what the kernel has to tell, and notes its times at once: what is decided later needs
    /// those of all events until then.
    fn receive(&mut self, wait: Duration) -> Result<()> {
        let mut events = Vec::new();
        self.process_events.wait(wait, &mut events)?;
        for event in events {
            self.history.note(&event);
            let path_bytes = match &event {
                ProcessEvent::Mapped { path, .. } => path.as_os_str().len(),
                _ => 0,
            };
            self.has_lost_events |= !self.queue.push(event, path_bytes);
        }
        if self.history.take_overflow() {
            self.events_lost();
        }
        Ok(())
    }

    fn follow(&mut self, event: ProcessEvent) -> Result<()> {
        self.begin_turn(event.pid());
        match event {
            ProcessEvent::Forked { pid, parent, at_ns } => {
                let before = self.processes().is_target(pid);
                Processes::note_fork(&self.processes, pid, parent);
                self.coverage.began(pid);
                self.note_if_late(pid);
                self.tell_change(pid, ProcessChange::Forked { parent, at_ns });
                self.tell_if_changed(pid, before);
                self.cover_inherited(pid, parent);
            }
            ProcessEvent::Executed { pid, comm, is_replaced, at_ns } => {
                Processes::note_exec(&self.processes, pid, &comm, is_replaced);
                self.caller_changed(pid);
                let change = if is_replaced {
                    self.coverage.began(pid);
                    ProcessChange::Replaced { at_ns }
                } else {
                    self.note_if_late(pid);
                    ProcessChange::Described
                };
                self.tell_change(pid, change);
                self.prepare(pid)?;
            }
            ProcessEvent::Mapped { pid, file, path, .. } => {
                let begun = Instant::now();
                let is_unfinished = self.processes().is_unfinished(pid);
                if is_unfinished && self.shares.has_time(pid) {
                    self.look_at(pid)?;
                } else if is_unfinished {
                    self.unsure.push(pid);
                }
                let is_target = self.processes().is_target(pid);
                if is_target {
                    self.mapped(pid, file, path)?;
                } else if has_cuda_name(&path) {
                    self.note_mapping(pid);
                }
                self.shares.add(pid, begun.elapsed());
            }
            ProcessEvent::Exited { pid, at_ns } => {
                self.processes().exited(pid);
                self.state.callers().exited(pid);
                self.coverage.ended(pid);
                self.tell_change(pid, ProcessChange::Replaced { at_ns });
            }
            // For the whole batch, in `follow_new`.
            ProcessEvent::Lost => {}
        }
        Ok(())
    }

    fn look_at_all(&mut self) {
        if self.loss_logged.is_none_or(|told| told.elapsed() > LOSS_INTERVAL) {
            self.loss_logged = Some(Instant::now());
            warn!(
                "the kernel lost process events: looking at every process again; more losses within \
                 {LOSS_INTERVAL:?} are counted and not logged"
            );
        }
        let at_ns = clock::monotonic_ns();
        self.events_lost();
        let gone = self.processes().find_exited();
        for pid in gone {
            self.history.ended(pid);
            self.tell_change(pid, ProcessChange::Replaced { at_ns });
        }
        // Each in its turn, for new events come meanwhile.
        let pids = all_pids();
        for &pid in &pids {
            self.unsure.push(pid);
        }
        self.note_strangers(pids);
    }

    fn look_at(&mut self, pid: u32) -> Result<()> {
        self.begin_turn(Some(pid));
        let before = self.processes().is_target(pid);
        Processes::look_at(&self.processes, pid);
        self.note_if_late(pid);
        self.caller_changed(pid);
        self.tell_if_changed(pid, before);
        self.prepare(pid)
    }

    /// Attaches to what a target has mapped, and soon to what its loader would find.
    fn prepare(&mut self, pid: u32) -> Result<()> {
        self.begin_turn(Some(pid));
        let is_target = self.processes().is_target(pid);
        if !is_target {
            return Ok(());
        }
        if self.time_slice.is_over() {
            self.unsure.push(pid);
            return Ok(());
        }
        let mappings = mappings_of(pid).unwrap_or_default();
        let mut seen = HashSet::new();
        for mapping in mappings.executable() {
            if seen.insert(mapping.file) {
                self.mapped(pid, mapping.file, mapping.path.clone())?;
            }
        }
        self.cover_moved_code(pid, &mappings);
        // What has no room is attached to when its mapping is seen.
        self.searches.push(pid);
        Ok(())
    }

    /// Attaches to what the loader of a target would find.
    fn search(&mut self, pid: u32) -> Result<()> {
        let is_target = self.processes().is_target(pid);
        if !is_target {
            return Ok(());
        }
        for found in search(pid) {
            if self.time_slice.has_time() {
                self.inspect(pid, &found.path, FoundBy::Loader(found.reason))?;
                continue;
            }
            // One that has no room is attached to when its mapping is seen.
            let path_bytes = found.path.as_os_str().len();
            self.later.push((pid, found), path_bytes);
        }
        Ok(())
    }

    fn mapped(&mut self, pid: u32, file: MappedFile, path: PathBuf) -> Result<()> {
        let has_name = has_cuda_name(&path);
        if has_name {
            self.note_mapping(pid);
        }
        if !self.time_slice.has_time() || !self.shares.has_time(pid) {
            self.examine_later(pid, file, path);
            return Ok(());
        }
        if has_name {
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
        let is_urgent = has_cuda_name(&path);
        if !self.waiting_files.push(pid, file, path, is_urgent) {
            self.not_examined(pid, file);
        }
    }

    /// What nobody has looked at by the end may hold libraries.
    fn say_what_is_left(&mut self, is_lost: bool) {
        if is_lost || self.has_lost_events || !self.queue.is_empty() || !self.unsure.is_empty() {
            self.events_lost();
        }
        while let Some((pid, file, _)) = self.waiting_files.pop() {
            self.not_examined(pid, file);
        }
        for (pid, file) in self.retries_untold() {
            self.not_examined(pid, file);
        }
        self.tell_counts(clock::monotonic_ns());
    }

    fn events_lost(&mut self) {
        let at_ns = clock::monotonic_ns();
        self.coverage.events_lost(at_ns);
        self.tell_counts(at_ns);
    }

    /// Nobody could look into a file that a process has mapped. The trace is told now and then, because
    /// there may be any number of them.
    fn not_examined(&mut self, pid: u32, file: MappedFile) {
        let is_target = self.processes().is_target(pid);
        if is_target {
            self.coverage.not_examined(pid, file);
            self.state.coverage_counted(self.coverage.counts());
        }
    }

    fn tell_counts(&self, at_ns: u64) {
        let counts = self.coverage.counts();
        self.state.coverage_counted(counts);
        self.tell(DiscoveryEvent::Coverage { at_ns, line: None, counts });
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
            self.tell_change(pid, ProcessChange::Described);
        }
    }

    fn tell_change(&self, pid: u32, change: ProcessChange) {
        self.tell(DiscoveryEvent::Changed { pid, change });
    }

    fn tell(&self, event: DiscoveryEvent) {
        // Nobody listens once the recorder has ended.
        let _: Result<(), SendError<DiscoveryEvent>> = self.events.send(event);
    }
}

fn has_cuda_name(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_cuda_library)
}
