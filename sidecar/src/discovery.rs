//! Finds CUDA libraries and puts probes on them: before a target maps them where the loader's own
//! search leads there, and otherwise as soon as the mapping is seen.

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

use anyhow::{Context as _, Result, ensure};
use files::{FileKey, cuda_libraries_in, from_outside, mapped_files, maps, search};
use sidecar_common::MAX_FUNCTIONS;
use trace::function::{Api, Selection};
use tracing::{debug, info, warn};

use crate::{
    clock,
    library::{FileId, Library},
    loader::{self, is_cuda_library},
    probes::Attacher,
    process::{Processes, all_pids},
    recorder::Notice,
    sideband::{ProcessEvent, Sideband},
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
    /// The number of each function name that any library has shown.
    numbers: HashMap<String, u32>,
    attached: HashSet<FileId>,
    /// Files that were looked into.
    inspected: HashSet<FileKey>,
    /// Mapped files whose names say nothing: looked into when there is time.
    nameless: VecDeque<(u32, PathBuf)>,
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
    ) -> Result<Self> {
        Ok(Self {
            selection,
            extra_directories,
            // Opened before the first scan, so that no process falls between the two.
            sideband: Sideband::open()?,
            attacher,
            processes,
            notices,
            numbers: HashMap::new(),
            attached: HashSet::new(),
            inspected: HashSet::new(),
            nameless: VecDeque::new(),
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
        for pid in pids {
            self.prepare(pid)?;
        }
        Ok(())
    }

    /// Follows the kernel's events until `stop` is set; dropping `self` then detaches.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Self> {
        let mut events = Vec::new();
        let mut cleaned = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let wait = if self.nameless.is_empty() { WAIT } else { Duration::ZERO };
            self.sideband.wait(wait, &mut events)?;
            for event in events.drain(..) {
                self.follow(event)?;
            }
            if let Some((pid, path)) = self.nameless.pop_front() {
                self.inspect(pid, &path, FoundBy::Mapping)?;
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
            ProcessEvent::Forked { pid, parent } => {
                let before = self.processes().is_target(pid);
                self.processes().forked(pid, parent);
                self.tell_if_changed(pid, before);
            }
            ProcessEvent::Executed { pid, comm } => {
                self.processes().executed(pid, &comm);
                self.tell(Notice::Changed { pid });
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
                }
            }
            ProcessEvent::Exited { pid } => {
                self.processes().exited(pid);
                self.tell(Notice::Changed { pid });
            }
            ProcessEvent::Lost => {
                warn!("the kernel lost process events: looking at every process again");
                let gone = self.processes().find_exited();
                for pid in gone {
                    self.tell(Notice::Changed { pid });
                }
                for pid in all_pids() {
                    self.look_at(pid)?;
                }
            }
        }
        Ok(())
    }

    fn look_at(&mut self, pid: u32) -> Result<()> {
        let before = self.processes().is_target(pid);
        self.processes().examine(pid);
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
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_cuda_library(name) {
            return self.inspect(pid, &path, FoundBy::Mapping);
        }
        let is_new = |metadata: fs::Metadata| !self.inspected.contains(&FileKey::of(&metadata));
        if name.contains(".so") && fs::metadata(from_outside(pid, &path)).is_ok_and(is_new) {
            self.nameless.push_back((pid, path));
        }
        Ok(())
    }

    /// Attaches to a file that exports CUDA functions, unless that has been done.
    ///
    /// `path` is as process `pid` sees it. A file that cannot be read is a warning, not an error:
    /// processes end while they are looked at.
    fn inspect(&mut self, pid: u32, path: &Path, found_by: FoundBy) -> Result<()> {
        let outside = from_outside(pid, path);
        let opened = fs::metadata(&outside).context("cannot stat it").and_then(|metadata| {
            let file = FileKey::of(&metadata);
            if !metadata.is_file() || self.inspected.contains(&file) {
                return Ok(None);
            }
            let library = Library::open(&outside, &self.selection)?;
            self.inspected.insert(file);
            Ok(library.map(|library| (file, library)))
        });
        match opened {
            Ok(Some((file, library))) if self.attached.insert(library.id.clone()) => {
                self.attach(pid, path, file, &library, found_by)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.complain(pid, path, &error);
                Ok(())
            }
        }
    }

    /// Once per path, and only of what is a CUDA library of a process that still runs.
    fn complain(&mut self, pid: u32, path: &Path, error: &anyhow::Error) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let has_ended = !fs::exists(format!("/proc/{pid}/root/")).unwrap_or(true);
        if !is_cuda_library(name) || has_ended || !self.unreadable.insert(path.to_owned()) {
            debug!(pid, path = %path.display(), "cannot look into a file: {error:#}");
            return;
        }
        warn!(
            pid,
            path = %path.display(),
            "cannot look into a CUDA library, its calls are not traced: {error:#} (files of other \
             users and containers need CAP_SYS_PTRACE)"
        );
    }

    fn attach(
        &mut self,
        pid: u32,
        path: &Path,
        file: FileKey,
        library: &Library,
        found_by: FoundBy,
    ) -> Result<()> {
        let started = Instant::now();
        for function in &library.functions {
            self.give_number(&function.name, function.api)?;
        }
        let numbers = &self.numbers;
        let failed = self.attacher.attach(library, |name| {
            numbers.get(name).copied().context("a function without a number")
        })?;
        let attached_ns = clock::monotonic_ns();
        let attached_late = self.may_have_been_called(pid, file);
        let functions = library.functions.len() - failed.len();
        let single_stepped = library.functions.iter().filter(|function| !function.emulated).count();
        let path = path.display().to_string();
        info!(
            path,
            functions,
            single_stepped,
            failed = failed.len(),
            attached_late,
            milliseconds = started.elapsed().as_millis(),
            "attached to a CUDA library"
        );
        if let Some((name, reason)) = failed.first_key_value() {
            let failed = failed.len();
            warn!(path, failed, "some functions refused a probe, as {name}: {reason}");
        }
        let library = trace::line::Library {
            path,
            device: library.id.device,
            inode: library.id.inode,
            found_by: found_by.as_str().to_owned(),
            attached_late,
            functions: u32::try_from(functions).unwrap_or(u32::MAX),
            single_stepped: u32::try_from(single_stepped).unwrap_or(u32::MAX),
            failed,
        };
        self.tell(Notice::Library { attached_ns, library });
        Ok(())
    }

    /// Gives a name its number, and tells the recorder before anyone can use it.
    fn give_number(&mut self, name: &str, api: Api) -> Result<()> {
        if self.numbers.contains_key(name) {
            return Ok(());
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        ensure!(
            number < MAX_FUNCTIONS,
            "more than {MAX_FUNCTIONS} functions: narrow TRACE_FUNCTIONS"
        );
        self.numbers.insert(name.to_owned(), number);
        self.tell(Notice::Function { number, name: name.to_owned(), api });
        Ok(())
    }

    /// Looked at when the last probe is in place: whoever maps the file later loses nothing.
    fn may_have_been_called(&self, pid: u32, file: FileKey) -> bool {
        let has_ended = !fs::exists(format!("/proc/{pid}")).unwrap_or(false);
        let targets = self.processes().targets();
        has_ended || targets.into_iter().any(|pid| maps(pid, file))
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().expect("no thread panics while it holds the lock")
    }

    fn tell_if_changed(&self, pid: u32, was_target: bool) {
        let is_target = self.processes().is_target(pid);
        if is_target != was_target {
            self.tell(Notice::Changed { pid });
        }
    }

    fn tell(&self, notice: Notice) {
        // The recorder ends first when the sidecar stops; then nobody needs to know any more.
        let _: Result<(), SendError<Notice>> = self.notices.send(notice);
    }
}
