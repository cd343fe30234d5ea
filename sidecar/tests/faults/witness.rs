//! Keeps every segment that the sidecar begins, whoever deletes it later.
//!
//! A file stays while somebody has it open, and is deleted all the same: nothing that the sidecar
//! sees is changed. So what it closed is known without asking it, also of segments that it has
//! uploaded and deleted.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
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

/// By the names that they get when they are closed.
type Segments = Arc<Mutex<BTreeMap<String, File>>>;

pub(crate) struct Witness {
    segments: Segments,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub(crate) fn start(traces: &Path) -> Self {
        let (stop, segments) = (Arc::new(AtomicBool::new(false)), Segments::default());
        let (end, kept, traces) = (Arc::clone(&stop), Arc::clone(&segments), traces.to_owned());
        let thread = thread::spawn(move || watch(&traces, &kept, &end));
        Self { segments, stop, thread: Some(thread) }
    }

    /// The contents of closed segments, by name: of those whose last line says so.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let segments = self.segments.lock().unwrap();
        let names: Vec<String> = segments.keys().cloned().collect();
        drop(segments);
        // One after the other: there may be gigabytes.
        names.into_iter().filter_map(|name| {
            let content = content(&self.segments.lock().unwrap()[&name]);
            is_closed(&content).then_some((name, content))
        })
    }
}

fn content(file: &File) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A witness that panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn watch(traces: &Path, segments: &Segments, stop: &AtomicBool) {
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
            open_all(traces, segments);
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
                let _ = read(&inotify, &mut vec![0_u8; 64 << 10]);
            } else {
                rounds += 1;
            }
        }
    }
}

fn open_all(traces: &Path, segments: &Segments) {
    let Ok(entries) = fs::read_dir(traces) else { return };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let closed = name.strip_suffix(PART_SUFFIX).unwrap_or(&name);
        let mut segments = segments.lock().unwrap();
        if SegmentName::parse(closed).is_none() || segments.contains_key(closed) {
            continue;
        }
        // It may have been renamed meanwhile: then it is found under its new name.
        if let Ok(file) = File::open(traces.join(&name)) {
            segments.insert(closed.to_owned(), file);
        }
    }
}

/// Whether the last line is the closing one.
fn is_closed(content: &[u8]) -> bool {
    let Some(lines) = content.strip_suffix(b"\n") else { return false };
    let last = lines.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(last).contains("\"segment_close\"")
}
