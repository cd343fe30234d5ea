//! Finds CUDA libraries and puts probes on them: before a target maps them where the loader's own
//! search leads there, and otherwise as soon as the mapping is seen.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sidecar_common::MAX_FUNCTIONS;
use trace::function::{Api, Selection};
use tracing::{debug, info, warn};

use crate::{
    clock,
    library::{FileId, Library},
    loader::{self, Found, in_root, is_cuda_library},
    probes::Attacher,
    process::{Processes, all_pids},
    recorder::Notice,
    sideband::{ProcessEvent, Sideband},
};

/// How long the thread sleeps at most before it looks whether to stop.
const WAIT: Duration = Duration::from_millis(100);

/// How long an ended process stays known: its last events may still wait in the ring buffer.
const MEMORY_OF_EXITED: Duration = Duration::from_secs(2);

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
    /// Files that were looked into, by device and inode as `stat` shows them.
    inspected: HashSet<(u64, u64)>,
    /// Mapped files whose names say nothing: looked into when there is nothing else to do.
    nameless: VecDeque<(u32, PathBuf)>,
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
        })
    }

    /// Attaches what can be found now: call it once before reporting readiness.
    pub fn scan(&mut self) -> Result<()> {
        let own = std::process::id();
        for directory in self.extra_directories.clone() {
            for path in cuda_libraries_in(&directory) {
                self.inspect(own, &path, FoundBy::Directory)?;
            }
        }
        for found in search(own) {
            self.inspect(own, &found.path, FoundBy::Loader(found.reason))?;
        }
        for pid in all_pids() {
            self.look_at(pid)?;
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
            if events.is_empty()
                && let Some((pid, path)) = self.nameless.pop_front()
            {
                self.inspect(pid, &path, FoundBy::Mapping)?;
            }
            for event in events.drain(..) {
                self.follow(event)?;
            }
            if cleaned.elapsed() > MEMORY_OF_EXITED {
                self.processes().forget_exited();
                cleaned = Instant::now();
            }
        }
        Ok(self)
    }

    fn follow(&mut self, event: ProcessEvent) -> Result<()> {
        match event {
            ProcessEvent::Forked { pid, parent } => self.processes().forked(pid, parent),
            ProcessEvent::Executed { pid, comm } => {
                self.processes().executed(pid, &comm);
                self.prepare(pid)?;
                self.tell(Notice::Changed { pid })?;
            }
            ProcessEvent::Mapped { pid, path } => {
                let unfinished = self.processes().is_unfinished(pid);
                if unfinished {
                    self.look_at(pid)?;
                }
                if self.is_target(pid) {
                    self.mapped(pid, path)?;
                }
            }
            ProcessEvent::Exited { pid } => {
                self.processes().exited(pid);
                self.tell(Notice::Changed { pid })?;
            }
            ProcessEvent::Lost => {
                warn!("the kernel lost process events: looking at every process again");
                for pid in all_pids() {
                    self.look_at(pid)?;
                }
            }
        }
        Ok(())
    }

    fn look_at(&mut self, pid: u32) -> Result<()> {
        self.processes().examine(pid);
        self.prepare(pid)
    }

    /// Attaches to what a target has mapped, and to what its loader would find.
    fn prepare(&mut self, pid: u32) -> Result<()> {
        let is_target = self.processes().get(pid).is_some_and(|known| known.verdict.is_target());
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
        if name.contains(".so") {
            self.nameless.push_back((pid, path));
        }
        Ok(())
    }

    /// Attaches to a file that exports CUDA functions, unless that has been done.
    ///
    /// `path` is as process `pid` sees it. A file that cannot be read is a warning, not an error:
    /// processes end while they are looked at.
    fn inspect(&mut self, pid: u32, path: &Path, found_by: FoundBy) -> Result<()> {
        let outside = in_root(&root_of(pid), path);
        let Ok(metadata) = fs::metadata(&outside) else { return Ok(()) };
        let file = (metadata.dev(), metadata.ino());
        if !metadata.is_file() || !self.inspected.insert(file) {
            return Ok(());
        }
        match Library::open(&outside, &self.selection) {
            Ok(Some(library)) if self.attached.insert(library.id.clone()) => {
                self.attach(pid, path, &library, found_by)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                // A retry finds it again if it becomes readable.
                self.inspected.remove(&file);
                debug!(pid, path = %path.display(), %error, "cannot look into a library");
                Ok(())
            }
        }
    }

    fn attach(
        &mut self,
        pid: u32,
        path: &Path,
        library: &Library,
        found_by: FoundBy,
    ) -> Result<()> {
        let started = Instant::now();
        for function in &library.functions {
            number(&mut self.numbers, &self.notices, &function.name, function.api)?;
        }
        let numbers = &self.numbers;
        let failed = self.attacher.attach(library, |name| {
            numbers.get(name).copied().context("a function without a number")
        })?;
        let attached_ns = clock::monotonic_ns();
        let attached_late = self.may_have_been_called(pid, path);
        let functions = library.functions.len() - failed.len();
        let single_stepped = library.functions.iter().filter(|function| !function.emulated).count();
        info!(
            path = %path.display(),
            functions,
            single_stepped,
            failed = failed.len(),
            attached_late,
            milliseconds = started.elapsed().as_millis(),
            "attached to a CUDA library"
        );
        if let Some((name, reason)) = failed.first_key_value() {
            warn!(path = %path.display(), failed = failed.len(), "some functions refused a probe, as {name}: {reason}");
        }
        let library = trace::line::Library {
            path: path.display().to_string(),
            device: library.id.device,
            inode: library.id.inode,
            found_by: found_by.as_str().to_owned(),
            attached_late,
            functions: u32::try_from(functions).unwrap_or(u32::MAX),
            single_stepped: u32::try_from(single_stepped).unwrap_or(u32::MAX),
            failed,
        };
        self.tell(Notice::Library { attached_ns, library })
    }

    /// Looked at when the last probe is in place: whoever maps the file later loses nothing.
    fn may_have_been_called(&self, pid: u32, path: &Path) -> bool {
        let has_ended = !fs::exists(format!("/proc/{pid}")).unwrap_or(false);
        let targets = self.processes().targets();
        has_ended
            || targets.into_iter().any(|pid| mapped_files(pid).iter().any(|mapped| mapped == path))
    }

    fn is_target(&self, pid: u32) -> bool {
        self.processes().known(pid).verdict.is_target()
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().expect("no thread panics while it holds the lock")
    }

    fn tell(&self, notice: Notice) -> Result<()> {
        self.notices.send(notice).ok().context("the recorder has ended")
    }
}

fn root_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// What the loader of a process would find, in the file system that the process sees.
fn search(pid: u32) -> Vec<Found> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let link = |file: &str| fs::read_link(format!("/proc/{pid}/{file}")).unwrap_or_default();
    loader::find(&loader::Process {
        root: &root_of(pid),
        executable: &link("exe"),
        working_directory: &link("cwd"),
        arguments: &read("cmdline"),
        environment: &read("environ"),
    })
}

fn cuda_libraries_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        warn!(directory = %directory.display(), "cannot list a directory of CUDA_LIBRARY_DIRS");
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_cuda_library(name)).map(|name| directory.join(name)).collect()
}

/// Gives a name its number, and tells the recorder before anyone can use it.
fn number(
    numbers: &mut HashMap<String, u32>,
    notices: &Sender<Notice>,
    name: &str,
    api: Api,
) -> Result<()> {
    if numbers.contains_key(name) {
        return Ok(());
    }
    let number = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    ensure!(number < MAX_FUNCTIONS, "more than {MAX_FUNCTIONS} functions: narrow TRACE_FUNCTIONS");
    numbers.insert(name.to_owned(), number);
    notices
        .send(Notice::Function { number, name: name.to_owned(), api })
        .ok()
        .context("the recorder has ended")
}

/// Paths of executable file mappings, as the process sees them.
fn mapped_files(pid: u32) -> Vec<PathBuf> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        maps.lines().filter_map(executable_file).map(PathBuf::from).collect();
    paths.dedup();
    paths
}

/// The path is all that follows the inode: it may hold spaces.
fn executable_file(line: &str) -> Option<&str> {
    let mut rest = line;
    let mut permissions = "";
    for field in 0..5 {
        let (value, after) = rest.split_once(' ')?;
        if field == 1 {
            permissions = value;
        }
        rest = after.trim_start_matches(' ');
    }
    let path = rest.strip_suffix(" (deleted)").unwrap_or(rest);
    (permissions.contains('x') && path.starts_with('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maps_line_gives_the_path_of_an_executable_file() {
        let line =
            "7f00-7f01 r-xp 00001000 fe:00 1234                       /opt/my libs/libcuda.so.1";
        assert_eq!(executable_file(line), Some("/opt/my libs/libcuda.so.1"));
        assert_eq!(executable_file(&line.replace("r-xp", "rw-p")), None);
        assert_eq!(executable_file("7ffe-7fff r-xp 00000000 00:00 0   [vdso]"), None);
        let deleted = format!("{line} (deleted)");
        assert_eq!(executable_file(&deleted), Some("/opt/my libs/libcuda.so.1"));
    }

    #[test]
    fn this_test_has_its_own_executable_mapped() {
        let executable = std::env::current_exe().unwrap();
        assert!(mapped_files(std::process::id()).contains(&executable));
    }
}
