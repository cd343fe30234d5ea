//! From a file to probes: looks into it once, and attaches if it exports CUDA functions.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use cuda::function::{
    Api,
    arguments::{Naming, capture, naming},
    calls_back,
};
use libraries::{
    library::{FileId, Function, Library, Refusals, TOO_MANY},
    untrusted_file,
};
use processes::{
    clock,
    process::{MappedFile, all_pids},
    time_limit,
};
use settings::Detail;
use sidecar_common::{MAX_FUNCTIONS, Plan};
use tracing::{debug, info, warn};

use super::{
    Discovery, FoundBy,
    files::{
        FileKey, Opened, Unopened, from_outside, is_same_inode, key_of_mapped, mappings_of,
        may_pass, open_mapped, too_slow,
    },
    has_cuda_name,
    lease::Watched,
    memory::{Look, Site, exports_wanted, in_other_mounts, sites},
    own_mapping::own_sites,
};

use crate::{
    probing::{preflight::missing_right_for, probes::Attachment},
    recording::recorder::DiscoveryEvent,
};

/// What was short may be there again; each attempt in vain doubles the wait.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Files that are remembered; beyond it those without CUDA functions are looked into again.
const MAX_FILES: usize = 1 << 16;

/// Libraries that have probes, and their probes: far more than a node has, and what a process that maps one
/// copy after the other can cost.
const MAX_LIBRARIES: usize = 512;
const MAX_PROBES: usize = 1 << 16;

/// With those whose probes were taken off again: the trace has a line of each.
const MAX_ATTACHED: usize = 4 * MAX_LIBRARIES;

/// Files that wait for another attempt; more than a node has.
const MAX_RETRIES: usize = 256;

/// Opening a file waits for its file system, which may be a process that does not answer.
const OPEN_TIMEOUT: Duration = Duration::from_millis(500);

/// The same of closing one, which nobody needs to wait for.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// A library of a few hundred MB on a slow disk.
const READ_TIMEOUT: Duration = Duration::from_millis(1500);

/// For all processes that have mapped a library, before it gets its probes.
const COMPARE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Libraries that may be getting their probes at the same time: of one that lies on a file system that
/// does not answer the thread waits.
const MAX_ATTACHING: usize = 8;

/// Why a library has no probes yet.
const BEING_ATTACHED: &str = "its probes are being put in place";

/// Paths whose errors are logged.
const MAX_COMPLAINTS: usize = 1024;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Examined {
    /// It exports no function that is wanted.
    Plain,
    /// It has probes: the library of this index.
    Library(usize),
    /// It has no probes, for this reason.
    Refused(String),
}

/// A library with probes.
pub(super) struct Attached {
    id: FileId,
    functions: Arc<[Function]>,
    /// `CLOCK_MONOTONIC` when the last probe was in place.
    pub(super) since_ns: u64,
    /// `None` once it was overwritten.
    held: Option<Held>,
    /// As its line has it.
    pub(super) path: String,
}

/// Beside so many libraries, and with so many probes in all.
fn beyond_limits(libraries: usize, probes: usize) -> Option<String> {
    let what = if libraries >= MAX_LIBRARIES {
        format!("{libraries} other libraries have them")
    } else if probes > MAX_PROBES {
        format!("with it there would be {probes}, more than {MAX_PROBES}")
    } else {
        return None;
    };
    Some(format!("there are too many: {what}; a restart of the tracer forgets those that are gone"))
}

/// What keeps the probes in place.
struct Held {
    attachment: Attachment,
    watched: Watched,
}

/// A library that is getting its probes, on a thread of its own.
pub(super) struct Attaching {
    origin: Origin,
    key: FileKey,
    mapped_as: Option<MappedFile>,
    watched: Watched,
    id: FileId,
    started: Instant,
    done: Receiver<Done>,
}

/// What became of it.
struct Done {
    library: Library,
    attached: Result<(Attachment, BTreeMap<String, String>)>,
    /// `CLOCK_MONOTONIC` when the last probe was in place.
    attached_ns: u64,
}

/// What a file was found to be.
enum Read {
    /// It exports no function that is wanted.
    Plain,
    /// Somebody has it open for writing.
    Busy,
    Library(Box<(Watched, Library)>),
}

/// What led to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    pid: u32,
    /// As the process sees it.
    path: PathBuf,
    /// As a mapping calls it, if one led here.
    mapped: Option<MappedFile>,
    found_by: FoundBy,
}

/// A file that could not get its probes yet.
pub(super) struct Retry {
    origin: Origin,
    due: Instant,
    wait: Duration,
}

impl Attached {
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn functions(&self) -> &Arc<[Function]> {
        &self.functions
    }
}

impl Discovery {
    /// Attaches to a file that a process would load, unless that has been done.
    ///
    /// `path` is as process `pid` sees it. A file that cannot be read is a warning, not an error:
    /// processes end while they are looked at.
    pub(super) fn inspect(&mut self, pid: u32, path: &Path, found_by: FoundBy) -> Result<()> {
        self.begin_turn(Some(pid));
        let origin = Origin { pid, path: path.to_owned(), mapped: None, found_by };
        match open_in_time(pid, path) {
            Ok(opened) => self.examine(&origin, opened).map(|_| ()),
            Err(error) if may_pass(&error) => {
                self.try_later(&origin, &error.to_string());
                Ok(())
            }
            Err(error) => {
                self.complain(pid, path, &anyhow::Error::from(error).context("cannot open it"));
                Ok(())
            }
        }
    }

    /// Attaches to a file that a process has mapped, unless that has been done, and says whether the
    /// calls of the process are covered.
    pub(super) fn examine_mapped(&mut self, pid: u32, told: MappedFile, path: &Path) -> Result<()> {
        let (file, opened) = match open_mapped_in_time(pid, told, path) {
            // It has been told of by that name too, so it is another file.
            Ok((listed, _)) if listed != told && self.history.mapped_ns(pid, listed).is_some() => {
                (told, Err(Unopened::Gone))
            }
            Ok((listed, opened)) => {
                if listed != told {
                    self.file_aliases.note(listed, told);
                }
                (listed, Ok(opened))
            }
            Err(unopened) => (self.as_listed(pid, told), Err(unopened)),
        };
        let origin =
            Origin { pid, path: path.to_owned(), mapped: Some(file), found_by: FoundBy::Mapping };
        let examined = match opened {
            Ok(opened) => self.examine(&origin, opened)?,
            Err(Unopened::Io(error)) if may_pass(&error) && has_cuda_name(path) => {
                self.try_later(&origin, &error.to_string())
            }
            Err(unopened) => {
                let may_pass = matches!(&unopened, Unopened::Io(error) if may_pass(error));
                let is_tried_again = may_pass && self.wait_for(&origin);
                let known = self.known_as(file);
                if known.is_none() {
                    let error = anyhow!("{unopened}");
                    self.complain(pid, path, &error);
                }
                known.or_else(|| {
                    let exports = if has_cuda_name(path) {
                        Some(true)
                    } else {
                        exports_wanted(pid, file, &self.selection)
                    };
                    if exports.is_none() && !is_tried_again {
                        self.not_examined(pid, file);
                    }
                    (exports == Some(true)).then(|| Examined::Refused(unopened.to_string()))
                })
            }
        };
        if let Some(examined) = examined {
            self.coverage.examined(pid, told);
            self.coverage.examined(pid, file);
            self.cover(pid, file, path, &examined);
            if let (Examined::Plain, Some(&(key, _))) = (&examined, self.mapped.get(&file)) {
                // The next event of it needs no look at it.
                self.mapped.insert(told, (key, Examined::Plain));
            }
            if let Examined::Refused(reason) = examined {
                // Children that were forked meanwhile have it too.
                if self.unopened.len() >= MAX_COMPLAINTS {
                    self.unopened.clear();
                }
                self.unopened.insert(file, (path.to_owned(), reason));
            } else {
                self.unopened.remove(&file);
            }
        }
        Ok(())
    }

    /// What a file that cannot be opened turned out to be before: when it was mapped, or when a loader's
    /// search led to it.
    fn known_as(&self, file: MappedFile) -> Option<Examined> {
        if let Some((_, examined)) = self.mapped.get(&file) {
            return Some(examined.clone());
        }
        let mut found = self.files.iter().filter(|(key, _)| key.has_number(file));
        let (_, examined) = found.next()?;
        // Of several files that had the number one after the other nobody knows which this is.
        found.next().is_none().then(|| examined.clone())
    }

    /// Whether a mapped file is still what it was when it was examined.
    pub(super) fn is_same(&self, pid: u32, file: MappedFile, path: &Path) -> bool {
        let Some((known, _)) = self.mapped.get(&file) else { return false };
        let path = path.to_owned();
        let look = move || key_of_mapped(pid, file, &path);
        let now = time_limit::run_in_turn(pid, "look at a mapped file", OPEN_TIMEOUT, look);
        now.flatten().is_none_or(|now| now == *known)
    }

    /// `None`: it could not be told yet, and will be tried again.
    fn examine(&mut self, origin: &Origin, opened: Opened) -> Result<Option<Examined>> {
        let Opened { file: opened, key } = opened;
        if self.attaching.iter().any(|attaching| attaching.key == key) {
            let_go(origin.pid, opened);
            return Ok(self.try_later(origin, BEING_ATTACHED));
        }
        let examined = match self.files.get(&key) {
            // A file of the same number on another overlay looks alike, and has no probes.
            Some(Examined::Library(index)) if self.lacks_probes(origin, *index) => {
                self.read(origin, opened, key)?
            }
            Some(examined) => {
                let examined = examined.clone();
                let_go(origin.pid, opened);
                Some(examined)
            }
            None => self.read(origin, opened, key)?,
        };
        if let Some(examined) = &examined {
            if self.files.len() >= MAX_FILES || self.mapped.len() >= MAX_FILES {
                // Both: one leads to the other. What is no library is examined again.
                keep_libraries(&mut self.files, |examined| examined);
                keep_libraries(&mut self.mapped, |(_, examined)| examined);
            }
            self.files.insert(key, examined.clone());
            if let Some(file) = origin.mapped {
                self.mapped.insert(file, (key, examined.clone()));
            }
        }
        Ok(examined)
    }

    fn read(&mut self, origin: &Origin, opened: File, key: FileKey) -> Result<Option<Examined>> {
        // The file system that it lies on may be the process's own.
        let selection = self.selection.clone();
        let read = move || {
            // First, so that what is read stays.
            let Ok(watched) = Watched::new(&opened) else { return Ok(Read::Busy) };
            Ok(match Library::read(opened, &selection)? {
                None => Read::Plain,
                Some(library) => Read::Library(Box::new((watched, library))),
            })
        };
        match time_limit::run_in_turn(origin.pid, "read of a library", READ_TIMEOUT, read) {
            None => Ok(self.try_later(origin, &too_slow(READ_TIMEOUT).to_string())),
            Some(Ok(Read::Busy)) => Ok(self.try_later(origin, "somebody has it open for writing")),
            Some(Ok(Read::Plain)) => Ok(Some(Examined::Plain)),
            Some(Ok(Read::Library(found))) => {
                let (watched, library) = *found;
                self.attach_if_new(origin, key, watched, library)
            }
            Some(Err(error)) => {
                self.complain(origin.pid, &origin.path, &error);
                Ok(Some(if self.is_wanted(origin) {
                    Examined::Refused(format!("{error:#}"))
                } else {
                    Examined::Plain
                }))
            }
        }
    }

    /// Once per path, and only of what is a CUDA library of a process that still runs.
    fn complain(&mut self, pid: u32, path: &Path, error: &anyhow::Error) {
        // Without a look at the directory itself, whose file system may not answer.
        let has_ended = fs::read_link(format!("/proc/{pid}/root")).is_err();
        let is_told = self.unreadable.len() >= MAX_COMPLAINTS
            || !has_cuda_name(path)
            || has_ended
            || !self.unreadable.insert(path.to_owned());
        if is_told {
            debug!(pid, path = %path.display(), "cannot look into a file: {error:#}");
            return;
        }
        let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
        let missing = cause.and_then(missing_right_for);
        warn!(
            pid,
            path = %path.display(),
            "cannot look into a CUDA library, its calls are not traced: {error:#}{}",
            missing.map(|missing| format!(" ({missing})")).unwrap_or_default()
        );
    }

    fn attach_if_new(
        &mut self,
        origin: &Origin,
        key: FileKey,
        watched: Watched,
        mut library: Library,
    ) -> Result<Option<Examined>> {
        let &Origin { pid, ref path, mapped, .. } = origin;
        let own = match own_sites(pid, &library.file, &library.functions.clone().into()) {
            Ok(own) => own,
            Err(error) => {
                let_go(pid, (watched, library));
                return Ok(self.try_later(origin, &format!("its code cannot be read: {error}")));
            }
        };
        let own_sites = own.as_ref().map(|(_, sites)| sites.as_slice());
        if let Some(index) = self.same_library(&library, own_sites) {
            let_go(pid, (watched, library));
            return Ok(Some(Examined::Library(index)));
        }
        if let Some(reason) = self.too_many(library.functions.len()) {
            let_go(pid, (watched, library));
            // Once per path, and not without end.
            if self.unreadable.len() < MAX_COMPLAINTS && self.unreadable.insert(path.clone()) {
                warn!(pid, path = %path.display(), "no probes for a CUDA library: {reason}");
            }
            return Ok(Some(Examined::Refused(reason)));
        }
        if let Some(reason) = self.reason_to_wait(&library) {
            let_go(pid, (watched, library));
            return Ok(self.try_later(origin, reason));
        }
        // As mappings call it, also if nobody has mapped it yet.
        let mapped_as = mapped.or_else(|| own.map(|(file, _)| file));
        if let Some(file) = mapped_as {
            self.refuse_changed(&mut library, file, path);
        }
        for function in &library.functions {
            self.give_number(&function.name, function.api);
        }
        let id = library.id.clone();
        let started = Instant::now();
        let done = match self.begin_to_attach(library) {
            Ok(done) => done,
            Err(error) => {
                let_go(pid, watched);
                return Ok(self.try_later(origin, &format!("{error:#}")));
            }
        };
        let origin = origin.clone();
        self.attaching.push(Attaching { origin, key, mapped_as, watched, id, started, done });
        let index = self.attaching.len() - 1;
        match self.attaching[index].done.recv_timeout(time_limit::left_of_turn()) {
            Err(RecvTimeoutError::Timeout) => {
                let Attaching { origin, .. } = &self.attaching[index];
                Ok(self.try_later(&origin.clone(), BEING_ATTACHED))
            }
            done => self.finish(index, done.ok()),
        }
    }

    /// Why a library cannot get its probes now, although nothing is wrong with it.
    fn reason_to_wait(&self, library: &Library) -> Option<&'static str> {
        let is_it = |attaching: &Attaching| {
            attaching.id.build_id == library.id.build_id
                && is_same_inode_in_time(&attaching.watched, &library.file)
                    .unwrap_or(attaching.id == library.id)
        };
        if self.attaching.iter().any(is_it) {
            return Some(BEING_ATTACHED);
        }
        if self.attaching.len() >= MAX_ATTACHING {
            return Some("probes are being put on other libraries; it is tried again");
        }
        // What comes now is not to be given up in the middle.
        (!self.time_slice.has_time_to_change())
            .then_some("examining it used up its turn; it is tried again")
    }

    /// The kernel may wait for the file system, or for a process that is mapping something, and nobody
    /// can make it stop.
    fn begin_to_attach(&self, library: Library) -> Result<Receiver<Done>> {
        let detail = self.attacher.detail();
        let plans: HashMap<String, Plan> = library
            .functions
            .iter()
            .filter_map(|function| {
                let number = *self.numbers.get(&function.name)?;
                Some((function.name.clone(), plan(number, &function.name, detail)))
            })
            .collect();
        let attacher = self.attacher.clone();
        let (tell, done) = sync_channel(1);
        let attach = move || {
            let attached =
                attacher.attach(&library, |name| plans.get(name).copied().ok_or(TOO_MANY));
            // Nobody listens when everything ends; then the probes end too.
            let _: Result<(), _> =
                tell.send(Done { library, attached, attached_ns: clock::monotonic_ns() });
        };
        thread::Builder::new().name("attach".to_owned()).spawn(attach)?;
        Ok(done)
    }

    /// Takes up libraries that have got their probes meanwhile.
    pub(super) fn finish_attaching(&mut self, wait: Duration) -> Result<()> {
        let deadline = Instant::now() + wait;
        let mut index = 0;
        while index < self.attaching.len() {
            let Attaching { origin, done, .. } = &self.attaching[index];
            let pid = origin.pid;
            match done.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => index += 1,
                done => {
                    self.begin_turn(Some(pid));
                    self.finish(index, done.ok())?;
                }
            }
        }
        Ok(())
    }

    /// `None`: the thread has panicked, which the log tells.
    fn finish(&mut self, index: usize, done: Option<Done>) -> Result<Option<Examined>> {
        let Attaching { origin, key, mapped_as, watched, started, .. } =
            self.attaching.swap_remove(index);
        let Origin { pid, ref path, mapped, found_by } = origin;
        let Some(Done { library, attached, attached_ns }) = done else {
            let_go(pid, watched);
            return Ok(Some(Examined::Refused(
                "the thread that attaches to it panicked: its log says why".to_owned(),
            )));
        };
        let (attachment, mut failed) = match attached {
            Ok(attached) => attached,
            Err(error) => {
                let_go(pid, (watched, library));
                return Ok(self.try_later(&origin, &format!("{error:#}")));
            }
        };
        // Events until now tell who had it mapped before.
        self.receive(Duration::ZERO)?;
        let Library { file, id, functions, refused } = library;
        let_go(pid, file);
        let index = self.libraries.len();
        let has_probe = |function: &Function| !failed.contains_key(&function.name);
        let functions: Arc<[Function]> = functions.into_iter().filter(has_probe).collect();
        let single_stepped = functions.iter().filter(|function| !function.emulated).count();
        let (device, inode) = (id.device, id.inode);
        failed.extend(refused);
        let failed = Refusals::of(failed);
        let mut line = trace::line::Library {
            path: path.display().to_string(),
            device,
            inode,
            found_by: found_by.as_str().to_owned(),
            attached_late: false,
            functions: u32::try_from(functions.len()).unwrap_or(u32::MAX),
            single_stepped: u32::try_from(single_stepped).unwrap_or(u32::MAX),
            failed,
        };
        self.libraries.push(Attached {
            id,
            functions,
            since_ns: attached_ns,
            held: Some(Held { attachment, watched }),
            path: line.path.clone(),
        });
        line.attached_late = self.is_late(pid, mapped, mapped_as, attached_ns);
        log_attached(&line, started.elapsed());
        self.state.attached(line.clone());
        self.tell(DiscoveryEvent::Library { attached_ns, library: line });
        let examined = Examined::Library(index);
        self.files.insert(key, examined.clone());
        if let Some(file) = mapped_as {
            self.mapped.insert(file, (key, examined.clone()));
            self.cover_all(file, path, &examined);
        }
        if let Some(file) = mapped {
            // It may have ended meanwhile, and have been said to be unseen until now.
            self.cover(pid, file, path, &examined);
        }
        Ok(Some(examined))
    }

    /// Why one more library with so many functions gets no probes.
    fn too_many(&self, functions: usize) -> Option<String> {
        if self.libraries.len() >= MAX_ATTACHED {
            return Some(format!(
                "{MAX_ATTACHED} libraries got them since the start, most of which were overwritten in \
                 place; a restart of the tracer forgets them"
            ));
        }
        let held = self.libraries.iter().filter(|library| library.is_held());
        let (libraries, probes) = held.fold((0, 0), |(libraries, probes), library| {
            (libraries + 1, probes + library.functions.len())
        });
        beyond_limits(libraries, probes + functions)
    }

    /// A library that has its probes by another name, mount or device number. That a new mapping of
    /// the file has breakpoints, as `own_sites` says, is not enough: they may be those of another
    /// tracer.
    fn same_library(&self, library: &Library, own_sites: Option<&[Site]>) -> Option<usize> {
        let at: HashMap<u64, usize> = library
            .functions
            .iter()
            .enumerate()
            .map(|(index, function)| (function.file_offset, index))
            .collect();
        let is_it = |attached: &Attached| {
            let Some(held) = &attached.held else { return false };
            let functions = &attached.functions;
            attached.id.build_id == library.id.build_id
                && functions.iter().all(|function| at.contains_key(&function.file_offset))
                && own_sites.is_none_or(|sites| {
                    let site = |function: &Function| sites.get(at[&function.file_offset]);
                    has_most(functions.iter().filter_map(site), Site::Probed)
                })
                && is_same_inode_in_time(&held.watched, &library.file)
                    .unwrap_or(attached.id == library.id)
        };
        self.libraries.iter().position(is_it)
    }

    /// A process has mapped a file that looks like a library with probes, but has none in its memory.
    fn lacks_probes(&self, origin: &Origin, index: usize) -> bool {
        let library = &self.libraries[index];
        let Some(file) = origin.mapped.filter(|_| library.is_held()) else { return false };
        match sites(origin.pid, file, &library.functions) {
            // Another tracer may have probes of its own there.
            Look::Sites { sites, .. } => has_most(sites.iter(), Site::Plain),
            Look::NotMapped | Look::Unreadable => false,
        }
    }

    /// Takes out functions whose code some process has changed: a probe over it would break that
    /// process.
    fn refuse_changed(&self, library: &mut Library, file: MappedFile, path: &Path) {
        let functions: Arc<[Function]> = library.functions.clone().into();
        if functions.is_empty() {
            return;
        }
        let time = COMPARE_TIMEOUT.min(time_limit::left_of_turn());
        let deadline = Instant::now() + time;
        let mut pids = all_pids();
        // Those first whose calls are wanted.
        pids.sort_by_key(|&pid| !self.processes().is_target(pid));
        for pid in pids {
            if Instant::now() > deadline {
                warn!(
                    path = %path.display(),
                    "comparing the code of a library in all processes takes longer than \
                     {time:?}: hooks in those that are left may break"
                );
                break;
            }
            let Ok(mappings) = mappings_of(pid) else { continue };
            let build_id = library.id.build_id.as_deref();
            let mut mapped = in_other_mounts(pid, &mappings, file, path, build_id);
            mapped.extend(mappings.of_file(file).any(|found| found.is_executable).then_some(file));
            for file in mapped {
                match sites(pid, file, &functions) {
                    Look::Sites { sites, .. } => refuse(library, pid, &functions, &sites),
                    Look::NotMapped => {}
                    // If it is a target its coverage says so too.
                    Look::Unreadable => warn!(
                        pid,
                        path = %path.display(),
                        "the memory of a process that has mapped a CUDA library cannot be read: it \
                         gets the probes without a look at its code"
                    ),
                }
            }
        }
        let refused = &library.refused;
        library.functions.retain(|function| !refused.contains_key(&function.name));
    }

    /// Says so once, and tries again later.
    fn try_later(&mut self, origin: &Origin, reason: &str) -> Option<Examined> {
        let Origin { pid, path, mapped, .. } = origin;
        let is_known = self.retries.iter().any(|retry| retry.origin.path == *path);
        let is_wanted = self.is_wanted(origin);
        if !is_known && is_wanted {
            warn!(pid, path = %path.display(), "cannot attach to a CUDA library yet: {reason}");
        }
        self.wait_for(origin);
        if let Some(file) = mapped.filter(|_| is_wanted) {
            let refused = Examined::Refused(format!("no probes yet: {reason}"));
            self.cover(*pid, file, path, &refused);
        }
        None
    }

    /// Whether calls into a file that cannot be looked into are missed: by its name, or by what its
    /// image in memory exports.
    fn is_wanted(&self, Origin { pid, path, mapped, .. }: &Origin) -> bool {
        let by_memory = |file| exports_wanted(*pid, file, &self.selection) == Some(true);
        has_cuda_name(path) || mapped.is_some_and(by_memory)
    }

    /// False if there is no room.
    fn wait_for(&mut self, origin: &Origin) -> bool {
        if self.retries.iter().any(|retry| retry.origin == *origin) {
            return true;
        }
        // Half of the room is for what has the name of a CUDA library.
        let room = if has_cuda_name(&origin.path) { MAX_RETRIES } else { MAX_RETRIES / 2 };
        let has_room = self.retries.len() < room;
        if has_room {
            let due = Instant::now() + FIRST_RETRY;
            self.retries.push(Retry { origin: origin.clone(), due, wait: FIRST_RETRY });
        }
        has_room
    }

    /// Mapped files that are to be tried again, and of which nothing has been said.
    pub(super) fn retries_untold(&self) -> Vec<(u32, MappedFile)> {
        let file = |Retry { origin, .. }: &Retry| Some((origin.pid, origin.mapped?));
        let is_untold = |(pid, file): &(u32, MappedFile)| self.coverage.said(*pid, *file).is_none();
        self.retries.iter().filter_map(file).filter(is_untold).collect()
    }

    pub(super) fn retry(&mut self) -> Result<()> {
        let now = Instant::now();
        let Some(at) = self.retries.iter().position(|retry| retry.due <= now) else {
            return Ok(());
        };
        let Retry { origin, wait, .. } = self.retries.remove(at);
        let Origin { pid, path, mapped, found_by } = origin.clone();
        self.begin_turn(Some(pid));
        match mapped {
            Some(file) => self.examine_mapped(pid, file, &path)?,
            None => self.inspect(pid, &path, found_by)?,
        }
        if let Some(again) = self.retries.iter_mut().find(|retry| retry.origin == origin) {
            again.wait = (wait * 2).min(MAX_RETRY);
            again.due = Instant::now() + again.wait;
        }
        Ok(())
    }

    /// Takes the probes off files that somebody writes or wants to write.
    pub(super) fn let_writers_in(&mut self) {
        for index in 0..self.libraries.len() {
            let library = &mut self.libraries[index];
            let functions = Arc::clone(&library.functions);
            if !library.held.as_mut().is_some_and(|held| held.watched.is_broken(&functions)) {
                continue;
            }
            let Some(Held { attachment, watched }) = library.held.take() else { continue };
            let path = library.path.clone();
            // Nobody looks at them again, and the file may be overwritten any number of times.
            library.functions = Arc::default();
            // The lease last: now whoever waits may write.
            self.attacher.detach(attachment, watched);
            warn!(
                path,
                "a CUDA library is being overwritten in place: its probes are removed, and calls of \
                 processes that have it mapped are not seen; replace libraries by renaming a new file"
            );
            let is_it = |examined: &Examined| *examined == Examined::Library(index);
            self.files.retain(|_, examined| !is_it(examined));
            let mapped = self.mapped.iter().filter(|(_, (_, examined))| is_it(examined));
            let mapped: Vec<MappedFile> = mapped.map(|(&file, _)| file).collect();
            for file in mapped {
                self.mapped.remove(&file);
                let reason = "its file was overwritten in place, so the probes were removed";
                let refused = Examined::Refused(reason.to_owned());
                self.cover_all(file, Path::new(&path), &refused);
            }
        }
    }

    /// Gives a name its number, and tells the recorder before anyone can use it. A name beyond
    /// [`MAX_FUNCTIONS`] gets none.
    fn give_number(&mut self, name: &str, api: Api) {
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        if number >= MAX_FUNCTIONS || self.numbers.contains_key(name) {
            return;
        }
        self.numbers.insert(name.to_owned(), number);
        self.tell(DiscoveryEvent::Function { number, name: name.to_owned(), api });
    }

    /// Whether a target may have called the library before its probes were in place.
    fn is_late(
        &self,
        pid: u32,
        mapped: Option<MappedFile>,
        mapped_as: Option<MappedFile>,
        attached_ns: u64,
    ) -> bool {
        let Some(file) = mapped_as else { return true };
        // The process that led here may have ended, or been missed by the events.
        let is_first =
            mapped.is_some() && self.mapped_ns(pid, file).is_none_or(|at_ns| at_ns <= attached_ns);
        is_first
            || self
                .targets_with(file)
                .into_iter()
                .any(|pid| self.mapped_ns(pid, file).is_none_or(|at_ns| at_ns <= attached_ns))
    }
}

/// Makes room in a table, and lets go of the libraries too where they alone would fill most of it:
/// the next file must not pay for a look at all of them again.
fn keep_libraries<K, V>(table: &mut HashMap<K, V>, examined: impl Fn(&V) -> &Examined) {
    table.retain(|_, value| matches!(examined(value), Examined::Library(_)));
    if table.len() > MAX_FILES / 2 {
        table.clear();
    }
}

fn open_in_time(pid: u32, path: &Path) -> io::Result<Opened> {
    let path = from_outside(pid, path);
    let open = move || Opened::new(untrusted_file::open(&path)?);
    time_limit::run_in_turn(pid, "open of a library", OPEN_TIMEOUT, open)
        .unwrap_or_else(|| Err(too_slow(OPEN_TIMEOUT)))
}

fn open_mapped_in_time(
    pid: u32,
    file: MappedFile,
    path: &Path,
) -> Result<(MappedFile, Opened), Unopened> {
    let path = path.to_owned();
    let open = move || open_mapped(pid, file, &path);
    time_limit::run_in_turn(pid, "open of a mapped file", OPEN_TIMEOUT, open)
        .unwrap_or_else(|| Err(Unopened::Io(too_slow(OPEN_TIMEOUT))))
}

/// Drops what holds a file open. Some file systems are asked about that too, so that it must not be
/// done here, even where their process is asked for nothing any more.
fn let_go<T: Send + 'static>(pid: u32, holder: T) {
    let holder = Arc::new(Mutex::new(Some(holder)));
    let take = |holder: &Mutex<Option<T>>| holder.lock().ok().and_then(|mut holder| holder.take());
    let close = {
        let holder = Arc::clone(&holder);
        move || drop(take(&holder))
    };
    if time_limit::run(pid, "close of a file", CLOSE_TIMEOUT, close).is_some() {
        return;
    }
    // It may not have been begun. Without a thread it is dropped here.
    if let Some(holder) = take(&holder) {
        let thread = thread::Builder::new().name("close".to_owned());
        if let Err(error) = thread.spawn(move || drop(holder)) {
            warn!("cannot start a thread that closes a file: {error}");
        }
    }
}

/// `None` if it cannot be told. The other file has just been read, so that it is the file system of the
/// watched one that may not answer.
fn is_same_inode_in_time(watched: &Watched, other: &File) -> Option<bool> {
    let (one, other) = (Arc::clone(watched.file()), other.try_clone().ok()?);
    let compare = move || is_same_inode(&one, &other).ok();
    let who = watched.file_system();
    time_limit::run_in_turn(who, "comparison of two files", OPEN_TIMEOUT, compare).flatten()
}

fn log_attached(line: &trace::line::Library, elapsed: Duration) {
    let trace::line::Library { path, functions, single_stepped, attached_late, .. } = line;
    let failed = line.refused();
    info!(
        path,
        functions,
        single_stepped,
        failed,
        attached_late,
        milliseconds = elapsed.as_millis(),
        "attached to a CUDA library"
    );
    if let Some((name, reason)) = line.first_refused() {
        warn!(path, failed, "some functions refused a probe, as {name}: {reason}");
    }
}

fn refuse(library: &mut Library, pid: u32, functions: &[Function], sites: &[Site]) {
    let changed = functions.iter().zip(sites).filter(|(_, site)| **site == Site::Changed);
    for (Function { name, .. }, _) in changed {
        let reason = format!(
            "process {pid} has other code there than the file: an inline hook, a relocation, or \
             code that unpacks itself"
        );
        library.refused.insert(name.clone(), reason);
    }
}

/// More than half of what is there.
fn has_most<'a>(sites: impl Iterator<Item = &'a Site>, wanted: Site) -> bool {
    let (mut all, mut found) = (0, 0);
    for site in sites {
        all += 1;
        found += usize::from(*site == wanted);
    }
    found * 2 > all
}

/// What the programs copy of a function's calls.
fn plan(number: u32, name: &str, detail: Detail) -> Plan {
    let mut plan = Plan::bare(number);
    if detail == Detail::Entry || calls_back(name).is_some() {
        return plan;
    }
    let capture = capture(name);
    if capture.registers {
        plan = plan.with_registers();
    }
    if capture.stack {
        plan = plan.with_stack();
    }
    if let Some((register, words)) = capture.memory {
        plan = plan.with_window(register, words);
    }
    if let Some(register) = capture.second {
        plan = plan.with_second(register);
    }
    if let Some(Naming::Named { name, is_read, .. }) = naming(name) {
        plan = if is_read { plan.with_name(name) } else { plan.with_untouched_name(name) };
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_maps_copies_without_end_gets_no_probes_without_end() {
        assert_eq!(beyond_limits(MAX_LIBRARIES - 1, MAX_PROBES), None);
        let reason = beyond_limits(MAX_LIBRARIES, 1).unwrap();
        assert!(reason.starts_with("there are too many: 512 other libraries"), "{reason}");
        let reason = beyond_limits(3, MAX_PROBES + 1).unwrap();
        assert!(reason.contains("there would be 65537"), "{reason}");
    }

    #[test]
    fn a_full_table_lets_go_of_what_is_no_library_and_never_stays_full() {
        let table = |refused: usize, libraries: usize| -> HashMap<usize, Examined> {
            let refused = (0..refused).map(|_| Examined::Refused("why".to_owned()));
            let libraries = (0..libraries).map(Examined::Library);
            refused.chain(libraries).enumerate().collect()
        };
        for (refused, libraries, left) in [
            (MAX_FILES - 3, 3, 3),
            (1, MAX_FILES - 1, 0),
            (MAX_FILES / 2, MAX_FILES / 2, MAX_FILES / 2),
        ] {
            let mut full = table(refused, libraries);
            keep_libraries(&mut full, |examined| examined);
            assert_eq!(full.len(), left);
        }
    }
}
