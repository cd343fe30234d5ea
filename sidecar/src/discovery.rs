//! Finds CUDA libraries and puts probes on them: before a target maps them where the loader's own
//! search leads there, and otherwise as soon as the mapping is seen.

mod attach;
mod callers;
mod files;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{SendError, Sender},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use files::{FileKey, cuda_libraries_in, from_outside, search};
use trace::function::Selection;
use tracing::warn;

use crate::{
    clock,
    library::FileId,
    loader::{self, is_cuda_library},
    probes::Attacher,
    process::{Processes, all_pids, mapped_files},
    recorder::{Change, Notice},
    sideband::{ProcessEvent, Sideband},
    state::State,
};

/// How long the thread sleeps at most before it looks whether to stop.
const WAIT: Duration = Duration::from_millis(100);

/// How long an ended process stays known: its last events may still wait in the ring buffer.
const MEMORY_OF_EXITED: Duration = Duration::from_secs(5);

pub struct Discovery {
    selection: Selection,
    extra_directories: Vec<PathBuf>,
    sideband: Sideband,
    attacher: Attacher,
    processes: Arc<Mutex<Processes>>,
    notices: Sender<Notice>,
    state: Arc<State>,
    /// The number of each function name that any library has shown.
    numbers: HashMap<String, u32>,
    attached: HashSet<FileId>,
    /// Files that were looked into.
    inspected: HashSet<FileKey>,
    /// Mapped files whose names say nothing: looked into when there is time.
    nameless: VecDeque<(u32, PathBuf)>,
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
        Ok(Self {
            selection,
            extra_directories,
            // Opened before the first scan, so that no process falls between the two.
            sideband: Sideband::open()?,
            attacher,
            processes,
            notices,
            state,
            numbers: HashMap::new(),
            attached: HashSet::new(),
            inspected: HashSet::new(),
            nameless: VecDeque::new(),
            strangers: VecDeque::new(),
            unreadable: HashSet::new(),
        })
    }

    /// Attaches what can be found now: call it once before reporting readiness.
    pub fn scan(&mut self) -> Result<()> {
        // First, so that it is known who has mapped a library already.
        let pids = all_pids();
        for &pid in &pids {
            self.processes().examine(pid);
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
        self.attacher.detaches_slowly()
    }

    /// Follows the kernel's events until `stop` is set; dropping `self` then detaches.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Self> {
        let mut events = Vec::new();
        let mut cleaned = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let is_idle = self.nameless.is_empty() && self.strangers.is_empty();
            let wait = if is_idle { WAIT } else { Duration::ZERO };
            self.sideband.wait(wait, &mut events)?;
            // However many say so, every process is looked at once.
            let is_lost = events.contains(&ProcessEvent::Lost);
            for event in events.drain(..) {
                self.follow(event)?;
            }
            if is_lost {
                self.look_at_all()?;
            }
            if let Some((pid, path)) = self.nameless.pop_front() {
                self.inspect(pid, &path, FoundBy::Mapping)?;
            }
            if let Some(pid) = self.strangers.pop_front() {
                self.look_at_stranger(pid);
            }
            if cleaned.elapsed() > MEMORY_OF_EXITED {
                self.processes().forget_exited(MEMORY_OF_EXITED);
                cleaned = Instant::now();
            }
        }
        Ok(self)
    }

    fn follow(&mut self, event: ProcessEvent) -> Result<()> {
        match event {
            ProcessEvent::Forked { pid, parent, at_ns } => {
                let before = self.processes().is_target(pid);
                self.processes().forked(pid, parent);
                self.tell_change(pid, Change::Forked { parent, at_ns });
                self.tell_if_changed(pid, before);
            }
            ProcessEvent::Executed { pid, comm, is_replaced, at_ns } => {
                self.processes().executed(pid, &comm, is_replaced);
                self.caller_changed(pid);
                let change =
                    if is_replaced { Change::Replaced { at_ns } } else { Change::Described };
                self.tell_change(pid, change);
                self.prepare(pid)?;
            }
            ProcessEvent::Mapped { pid, path } => {
                let is_unfinished = self.processes().is_unfinished(pid);
                if is_unfinished {
                    self.look_at(pid)?;
                }
                let is_target = self.processes().is_target(pid);
                if is_target {
                    self.mapped(pid, path)?;
                } else if has_cuda_name(&path) {
                    self.note_mapping(pid);
                }
            }
            ProcessEvent::Exited { pid, at_ns } => {
                self.processes().exited(pid);
                self.state.callers().exited(pid);
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
        let gone = self.processes().find_exited();
        for pid in gone {
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
        let before = self.processes().is_target(pid);
        self.processes().examine(pid);
        self.caller_changed(pid);
        self.tell_if_changed(pid, before);
        self.prepare(pid)
    }

    /// Attaches to what a target has mapped, and to what its loader would find.
    fn prepare(&mut self, pid: u32) -> Result<()> {
        let is_target = self.processes().is_target(pid);
        if !is_target {
            return Ok(());
        }
        for path in mapped_files(pid) {
            self.mapped(pid, path)?;
        }
        for found in search(pid) {
            self.inspect(pid, &found.path, FoundBy::Loader(found.reason))?;
        }
        Ok(())
    }

    fn mapped(&mut self, pid: u32, path: PathBuf) -> Result<()> {
        if has_cuda_name(&path) {
            self.note_mapping(pid);
            return self.inspect(pid, &path, FoundBy::Mapping);
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_new = |metadata: fs::Metadata| !self.inspected.contains(&FileKey::of(&metadata));
        if name.contains(".so") && fs::metadata(from_outside(pid, &path)).is_ok_and(is_new) {
            self.nameless.push_back((pid, path));
        }
        Ok(())
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().expect("no thread panics while it holds the lock")
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
