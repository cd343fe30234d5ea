//! A file system of one library, which stops answering when it is told to: FUSE, as the kernel's
//! `fuse.h` has it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{PidfdFlags, PidfdGetfdFlags},
};

const FILE: u64 = 2;

/// After so long everything is answered, whatever the test waits for.
const TIMEOUT: Duration = Duration::from_secs(30);

// Requests, by number.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// What is read does not stay in the page cache, but for what is mapped.
const FOPEN_DIRECT_IO: u32 = 1;

/// Mounted until it is dropped; then everything is answered.
pub(crate) struct Hanging {
    directory: PathBuf,
    name: String,
    hangs: Arc<AtomicBool>,
    reads: Arc<AtomicU32>,
    /// Something waits for an answer.
    is_asked: Arc<AtomicBool>,
    /// It is mounted in the namespace of this process.
    is_own: bool,
}

impl Hanging {
    /// Serves a copy of `original`, under the same name. Reads of whole pages, as those of mapped code
    /// are, may be held back; others are always answered.
    pub(crate) fn mount(original: &Path, directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        // Inherited by `mount` alone.
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR, Mode::empty()).unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let mut command = Command::new("mount");
        command.args(["-i", "-t", "fuse", "-o", &options, "standin"]).arg(directory);
        assert!(command.status().unwrap().success());
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).unwrap();
        let mut own = Self::serve(device, original, directory);
        own.is_own = true;
        own
    }

    /// Serves what process `pid` has mounted, with a device that it opened as descriptor 3: nobody
    /// else may look into the file system, as a user has one in a namespace of his own.
    pub(crate) fn for_process(pid: u32, original: &Path, directory: &Path) -> Self {
        let link = PathBuf::from(format!("/proc/{pid}/fd/3"));
        let deadline = Instant::now() + TIMEOUT;
        while !fs::read_link(&link).is_ok_and(|device| device.ends_with("fuse")) {
            assert!(Instant::now() < deadline, "the process opens no /dev/fuse");
            thread::sleep(Duration::from_millis(5));
        }
        let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let process = rustix::process::pidfd_open(process, PidfdFlags::empty()).unwrap();
        let device = rustix::process::pidfd_getfd(process, 3, PidfdGetfdFlags::empty()).unwrap();
        Self::serve(device, original, directory)
    }

    fn serve(device: OwnedFd, original: &Path, directory: &Path) -> Self {
        let name = original.file_name().unwrap().to_str().unwrap().to_owned();
        let content = File::open(original).unwrap();
        let (hangs, is_asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let reads = Arc::<AtomicU32>::default();
        let server = Server {
            device: device.into(),
            size: content.metadata().unwrap().size(),
            content,
            name: name.clone(),
            hangs: Arc::clone(&hangs),
            reads: Arc::clone(&reads),
            is_asked: Arc::clone(&is_asked),
            held: Vec::new(),
            held_since: None,
            read: HashMap::new(),
        };
        thread::spawn(move || server.serve());
        Self { directory: directory.to_owned(), name, hangs, reads, is_asked, is_own: false }
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// From now on each page is read so often and no more.
    pub(crate) fn hang_after(&self, reads: u32) {
        self.reads.store(reads, Ordering::Release);
        self.hangs.store(true, Ordering::Release);
    }

    pub(crate) fn answer(&self) {
        self.hangs.store(false, Ordering::Release);
    }

    pub(crate) fn is_hanging(&self) -> bool {
        self.hangs.load(Ordering::Acquire)
    }

    /// Whether somebody waits, or has waited, for what is held back.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.answer();
        let status = Command::new("umount").arg("-ql").arg(&self.directory).status().unwrap();
        // In a namespace of its own it ends with that.
        assert!(!self.is_own || status.success() || thread::panicking());
    }
}

struct Server {
    device: File,
    content: File,
    size: u64,
    name: String,
    hangs: Arc<AtomicBool>,
    reads: Arc<AtomicU32>,
    is_asked: Arc<AtomicBool>,
    /// Reads that are held back: their numbers, where, and how much.
    held: Vec<(u64, u64, usize)>,
    held_since: Option<Instant>,
    /// How often each page was read since it began to hang.
    read: HashMap<u64, u32>,
}

impl Server {
    fn serve(mut self) {
        let descriptor: OwnedFd = self.device.try_clone().unwrap().into();
        rustix::io::ioctl_fionbio(&descriptor, true).unwrap();
        let mut request = vec![0; 1 << 20];
        loop {
            if self.held_since.is_some_and(|since| since.elapsed() > TIMEOUT) {
                self.hangs.store(false, Ordering::Release);
            }
            if !self.hangs.load(Ordering::Acquire) {
                for (number, at, length) in std::mem::take(&mut self.held) {
                    self.read(number, at, length);
                }
            }
            match self.device.read(&mut request) {
                Ok(length) => self.handle(&request[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                // Unmounted.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
                // Taken back, by a signal to who asked.
                Err(_) => {}
            }
        }
    }

    fn handle(&mut self, request: &[u8]) {
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
        let (kind, number, node) = (word(4), long(8), long(16));
        let answer = match kind {
            INIT => {
                let mut out = [7_u32, 31, 0, 0, 0, 1 << 16, 1, 0].map(u32::to_le_bytes).concat();
                out.resize(64, 0);
                out
            }
            LOOKUP if request[40..].strip_suffix(b"\0") == Some(self.name.as_bytes()) => {
                let mut out = [FILE, 0, 60, 60, 0].map(u64::to_le_bytes).concat();
                out.extend(self.attributes(FILE));
                out
            }
            GETATTR => {
                let mut out = [60, 0].map(u64::to_le_bytes).concat();
                out.extend(self.attributes(node));
                out
            }
            OPEN => [0, u64::from(FOPEN_DIRECT_IO)].map(u64::to_le_bytes).concat(),
            READ => {
                let (at, length) = (long(48), word(56) as usize);
                let is_of_pages = at.is_multiple_of(4096) && length.is_multiple_of(4096);
                if is_of_pages && self.hangs.load(Ordering::Acquire) && self.was_read(at, length) {
                    self.held_since.get_or_insert_with(Instant::now);
                    self.is_asked.store(true, Ordering::Release);
                    self.held.push((number, at, length));
                } else {
                    self.read(number, at, length);
                }
                return;
            }
            STATFS => vec![0; 80],
            RELEASE => Vec::new(),
            FORGET | BATCH_FORGET | INTERRUPT => return,
            LOOKUP => return self.send(number, -libc::ENOENT, &[]),
            _ => return self.send(number, -libc::ENOSYS, &[]),
        };
        self.send(number, 0, &answer);
    }

    /// Whether one of the pages has been read as often as they may be. Counts this time too.
    fn was_read(&mut self, at: u64, length: usize) -> bool {
        let most = self.reads.load(Ordering::Acquire);
        let pages = (at / 4096)..(at + length as u64) / 4096;
        pages.fold(false, |was_read, page| {
            let reads = self.read.entry(page).or_default();
            *reads += 1;
            *reads > most || was_read
        })
    }

    fn read(&self, number: u64, at: u64, length: usize) {
        let mut bytes = vec![0; length];
        let found = self.content.read_at(&mut bytes, at).unwrap();
        self.send(number, 0, &bytes[..found]);
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (mode, size) = if node == FILE { (0o100_755, self.size) } else { (0o40_755, 0) };
        let mut out = [node, size, size.div_ceil(512), 1, 1, 1].map(u64::to_le_bytes).concat();
        out.extend([0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_le_bytes).concat());
        out
    }

    fn send(&self, number: u64, error: i32, content: &[u8]) {
        let length = u32::try_from(16 + content.len()).unwrap();
        let mut answer = length.to_le_bytes().to_vec();
        answer.extend(error.to_le_bytes());
        answer.extend(number.to_le_bytes());
        answer.extend(content);
        // Nobody waits for it if the asker is gone.
        let _ = (&self.device).write(&answer);
    }
}
