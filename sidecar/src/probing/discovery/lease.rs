//! Keeps a library file as it is while probes sit on it.
//!
//! A file that is overwritten in place (`cp` over it) would keep its probes at the old offsets, in
//! the middle of other code: whoever maps it then dies. A read lease makes the kernel hold back
//! whoever opens the file for writing until the probes are gone. Where there is no lease to be had
//! the file's size and times are watched, which is later.

use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    sync::Arc,
    time::{Duration, Instant},
};

use libraries::library::{Function, SITE_BYTES};
use processes::time_limit;
use rustix::fs::{Mode, OFlags};

/// How often a file without a lease is looked at: it may lie behind a network.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Such a look takes microseconds where the file system answers.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

/// A watched file.
pub(super) struct Watched {
    file: Arc<File>,
    has_lease: bool,
    before: Fingerprint,
    looked: Instant,
    /// Stands for its file system where a time limit asks for a process.
    file_system: u32,
}

/// What changes when a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    size: u64,
    modified: (i64, i64),
    /// `rsync --inplace --times` restores the time of the content, but nobody can set this one. A new
    /// name, owner or mode changes it too, so the code at the probes decides.
    changed: (i64, i64),
}

impl Watched {
    /// Fails where somebody has the file open for writing: it must not get probes now.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        let file = Arc::new(file.try_clone()?);
        let metadata = file.metadata()?;
        let before = Fingerprint::of(&metadata);
        let is_on_fuse = is_on_fuse(&file)?;
        // Above every process number.
        let file_system = u32::MAX - u32::try_from(metadata.dev() % (1 << 20)).unwrap_or(0);
        let has_lease = match set_lease(&file, libc::F_RDLCK) {
            Ok(()) if is_on_fuse => {
                let _: io::Result<()> = set_lease(&file, libc::F_UNLCK);
                false
            }
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Err(error),
            // Not its owner and without CAP_LEASE, or the file system has no leases.
            Err(_) => false,
        };
        let file = if is_on_fuse { Arc::new(without_content(&file)?) } else { file };
        Ok(Self { file, has_lease, before, looked: Instant::now(), file_system })
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// What stands for its file system where a time limit asks for a process.
    pub(super) fn file_system(&self) -> u32 {
        self.file_system
    }

    /// Somebody wants to write the file and waits for the end of this lease, or has written it.
    ///
    /// A file system that does not answer has not changed the file: nobody can read it either.
    pub(super) fn is_broken(&mut self, functions: &Arc<[Function]>) -> bool {
        if self.has_lease {
            // The kernel knows without asking the file system.
            return lease(&self.file).is_ok_and(|now| now != libc::F_RDLCK);
        }
        if self.looked.elapsed() < LOOK_INTERVAL {
            return false;
        }
        self.looked = Instant::now();
        let (file, functions, before) =
            (Arc::clone(&self.file), Arc::clone(functions), self.before);
        let look = move || before.compare(&file, &functions);
        match time_limit::run_in_turn(self.file_system, "look at a library", LOOK_TIMEOUT, look) {
            Some(Ok(Some(now))) => {
                self.before = now;
                false
            }
            // An error is an answer: the file is no longer what it was.
            Some(Ok(None) | Err(_)) => true,
            None => false,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.has_lease {
            // The lease ends with the last descriptor at the latest.
            let _: io::Result<()> = set_lease(&self.file, libc::F_UNLCK);
        }
    }
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { size: metadata.size(), modified, changed }
    }

    /// What the file is now; `None` if its content is another.
    fn compare(self, file: &File, functions: &[Function]) -> io::Result<Option<Self>> {
        let now = Self::of(&file.metadata()?);
        if (now.size, now.modified) != (self.size, self.modified) {
            return Ok(None);
        }
        if now.changed == self.changed {
            return Ok(Some(now));
        }
        let content = File::open(through_descriptor(file))?;
        for Function { entry_offset, entry_bytes, file_offset, site_bytes, .. } in functions {
            for (offset, expected) in [(*entry_offset, entry_bytes), (*file_offset, site_bytes)] {
                let mut bytes = [0; SITE_BYTES];
                let bytes = &mut bytes[..expected.len().min(SITE_BYTES)];
                content.read_exact_at(bytes, offset)?;
                if *bytes != **expected {
                    return Ok(None);
                }
            }
        }
        Ok(Some(now))
    }
}

/// The kernel tells of a lease that is wanted back by SIGIO, which would end the process: it is
/// ignored, because [`Watched::is_broken`] asks.
pub(super) fn ignore_signal() {
    // SAFETY: no handler is set, so none can be unsafe.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// A server of FUSE is asked whenever a descriptor of its file is closed, also by a process that was
/// forked, which then cannot end while the server does not answer.
fn is_on_fuse(file: &File) -> io::Result<bool> {
    const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;
    match rustix::fs::fstatfs(file) {
        Ok(found) => Ok(u64::try_from(found.f_type).is_ok_and(|magic| magic == FUSE_SUPER_MAGIC)),
        // Some servers do not tell.
        Err(rustix::io::Errno::NOSYS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The same file by a descriptor that only stands for it: nobody is asked when it is closed.
fn without_content(file: &File) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(through_descriptor(file), flags, Mode::empty())?.into())
}

fn through_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn set_lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the argument is a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The kind of lease that is held, or will be when it is broken.
fn lease(file: &File) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use cuda::function::Api;

    use super::*;

    fn none() -> Arc<[Function]> {
        Arc::default()
    }

    #[test]
    fn whoever_writes_a_watched_file_waits_until_it_is_let_go() {
        ignore_signal();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libcuda.so.1");
        fs::write(&path, "old").unwrap();
        let mut watched = Watched::new(&File::open(&path).unwrap()).unwrap();
        assert!(watched.has_lease && !watched.is_broken(&none()));
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "new code")
        });
        while !watched.is_broken(&none()) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(fs::read(&path).unwrap(), b"old", "not written while it is watched");
        drop(watched);
        writer.join().unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new code");
    }

    #[test]
    fn a_file_without_a_lease_is_looked_at_now_and_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libcuda.so.1");
        fs::write(&path, "old").unwrap();
        let mut watched = Watched::new(&File::open(&path).unwrap()).unwrap();
        set_lease(&watched.file, libc::F_UNLCK).unwrap();
        watched.has_lease = false;
        fs::write(&path, "new code").unwrap();
        assert!(!watched.is_broken(&none()), "it was looked at a moment ago");
        let long_ago = Instant::now().checked_sub(2 * LOOK_INTERVAL).unwrap();
        watched.looked = long_ago;
        assert!(watched.is_broken(&none()));
        assert!(watched.looked > long_ago);
    }

    /// As `rsync --inplace --times` does it; a new name of the file changes no content.
    #[test]
    fn other_code_of_the_same_size_and_time_is_told_from_another_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libcuda.so.1");
        fs::write(&path, "old code").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut watched = Watched::new(&File::open(&path).unwrap()).unwrap();
        set_lease(&watched.file, libc::F_UNLCK).unwrap();
        watched.has_lease = false;
        let function = Function {
            name: "cuInit".to_owned(),
            api: Api::Driver,
            entry_offset: 0,
            entry_bytes: b"old".to_vec(),
            file_offset: 4,
            site_bytes: b"code".to_vec(),
            emulated: true,
        };
        let functions: Arc<[Function]> = Arc::new([function]);
        let mut is_broken = || {
            watched.looked = Instant::now().checked_sub(2 * LOOK_INTERVAL).unwrap();
            watched.is_broken(&functions)
        };
        fs::hard_link(&path, directory.path().join("another name")).unwrap();
        assert!(!is_broken());
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"new CODE", 0).unwrap();
        file.set_modified(modified).unwrap();
        assert!(is_broken());
    }

    #[test]
    fn a_file_system_that_does_not_answer_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libcuda.so.1");
        fs::write(&path, "old").unwrap();
        let mut watched = Watched::new(&File::open(&path).unwrap()).unwrap();
        // No other test's.
        watched.file_system = u32::MAX / 2;
        let (_answer, waits) = std::sync::mpsc::channel::<()>();
        let hang = move || waits.recv();
        assert!(time_limit::run(watched.file_system, "test", Duration::ZERO, hang).is_none());
        set_lease(&watched.file, libc::F_UNLCK).unwrap();
        watched.has_lease = false;
        watched.looked = Instant::now().checked_sub(2 * LOOK_INTERVAL).unwrap();
        assert!(!watched.is_broken(&none()));
    }

    #[test]
    fn a_file_that_is_being_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libcuda.so.1");
        let _writer = File::create(&path).unwrap();
        assert!(Watched::new(&File::open(&path).unwrap()).is_err());
    }
}
