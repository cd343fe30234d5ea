//! Keeps every segment that the sidecar begins, whoever deletes it later.
//!
//! A hard link to the open file shares what is written to it. So what the sidecar closed is known
//! without asking it, also of segments that it has uploaded and deleted.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{CreateFlags, WatchFlags, add_watch, init},
    io::read,
};
use trace::segment_name::{PART_SUFFIX, SegmentName};

pub(crate) struct Witness {
    directory: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// `directory` must be on the file system of `traces`.
    pub(crate) fn start(traces: &Path, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (end, from, to) = (Arc::clone(&stop), traces.to_owned(), directory.to_owned());
        let thread = thread::spawn(move || watch(&from, &to, &end));
        Self { directory: directory.to_owned(), stop, thread: Some(thread) }
    }

    /// Closed segments, by name: those whose last line says so.
    pub(crate) fn closed(&self) -> Vec<(String, PathBuf)> {
        let files = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap());
        let mut closed: Vec<(String, PathBuf)> = files
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
            .filter(|(_, path)| is_closed(&fs::read(path).unwrap()))
            .collect();
        closed.sort();
        closed
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A witness that panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn watch(traces: &Path, witnessed: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let events = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        // A case may have removed the directory; another may come.
        let is_watching = add_watch(&inotify, traces, events | WatchFlags::ONLYDIR).is_ok();
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) && rounds < 20 {
            link_all(traces, witnessed);
            if !is_watching {
                thread::sleep(Duration::from_millis(5));
                rounds += 1;
                continue;
            }
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let mut ready = [PollFd::new(&inotify, PollFlags::IN)];
            // Interrupted or not: it looks again.
            if poll(&mut ready, Some(&wait)).is_ok_and(|count| count > 0) {
                // What happened is seen by looking.
                let _ = read(&inotify, &mut [0_u8; 64 << 10]);
            } else {
                rounds += 1;
            }
        }
    }
}

fn link_all(traces: &Path, witnessed: &Path) {
    let Ok(entries) = fs::read_dir(traces) else { return };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let closed = name.strip_suffix(PART_SUFFIX).unwrap_or(&name);
        if SegmentName::parse(closed).is_none() {
            continue;
        }
        let link = witnessed.join(closed);
        if !link.exists() {
            // It may have been renamed meanwhile: then it is found under its new name.
            let _ = fs::hard_link(traces.join(&name), &link);
        }
    }
}

/// Whether the last line is the closing one.
pub(crate) fn is_closed(content: &[u8]) -> bool {
    let Some(lines) = content.strip_suffix(b"\n") else { return false };
    let last = lines.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(last).contains("\"segment_close\"")
}
