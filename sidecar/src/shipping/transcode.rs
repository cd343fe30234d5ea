//! Closed segments become Parquet tables, on a thread that nobody waits for.
//!
//! A segment that waits here keeps the name of an open one, so that nobody uploads its lines too. Its
//! lines are removed when its table is whole; if none can be made, they get the name of a closed
//! segment, and nothing is lost.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufReader, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use libraries::untrusted_file;
use rustix::process::nice;
use tables::lines::{self, Stopped};
use trace::segment_name::{Format, SegmentName};
use tracing::{debug, error, info, warn};

use crate::{capabilities, shipping::spool::Closed};

/// Of lines that are read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The processors belong to the model.
const NICENESS: i32 = 10;

/// How long the thread may take to see that it is to stop: it looks after each few thousand lines.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Until a segment that could not be renamed is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// The segments that wait, and the thread that makes tables of them.
#[derive(Clone)]
pub struct Transcoder(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Bytes of segments that may wait for their turn, besides one. Those beyond stay lines, which can
    /// be uploaded: that tables are slow never fills TRACE_DIR.
    max_bytes: u64,
}

#[derive(Default)]
struct Queue {
    /// With the names of open files; the first may be the one that is worked on.
    segments: VecDeque<Closed>,
    /// That are to stay lines, but could not be renamed.
    unnamed: Vec<Closed>,
    is_working: bool,
    is_stopped: bool,
    /// Segments come faster than tables can be made of them.
    is_behind: bool,
}

impl Transcoder {
    /// At most so many bytes wait for the thread, which keeps no right but to the files of `directory`.
    pub fn start(max_bytes: u64, directory: &Path) -> Result<Self> {
        let transcoder = Self::without_thread(max_bytes);
        let (of_thread, directory) = (Arc::clone(&transcoder.0), directory.to_owned());
        thread::Builder::new()
            .name("transcoder".to_owned())
            .spawn(move || {
                capabilities::keep_files_only(&directory);
                work(&of_thread);
            })
            .context("cannot start the thread transcoder")?;
        Ok(transcoder)
    }

    fn without_thread(max_bytes: u64) -> Self {
        let (queue, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { queue, changed, max_bytes }))
    }

    /// Takes a segment that has its closing line, and still the name of an open one.
    pub fn push(&self, part: PathBuf, name: SegmentName, bytes: u64) {
        let segment = Closed { path: part, name, bytes };
        let mut queue = self.0.lock();
        let waiting: u64 = queue.segments.iter().map(|segment| segment.bytes).sum();
        let is_behind = !queue.segments.is_empty() && waiting + bytes > self.0.max_bytes;
        if is_behind && !queue.is_behind {
            info!("segments come faster than tables can be made of them: some stay lines");
        }
        queue.is_behind = is_behind;
        if queue.is_stopped || is_behind {
            queue.release(segment);
        } else {
            queue.segments.push_back(segment);
        }
        self.0.changed.notify_all();
    }

    /// Segments that are neither tables nor released yet, oldest first.
    pub fn waiting(&self) -> Vec<Closed> {
        let queue = self.0.lock();
        queue.unnamed.iter().chain(&queue.segments).cloned().collect()
    }

    /// Makes tables for at most so long of what waits; what is left then stays lines. Whatever comes
    /// later stays lines too.
    pub fn stop(&self, within: Duration) {
        let is_busy = |queue: &mut Queue| !queue.segments.is_empty();
        let (mut queue, _) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), within, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        queue.is_stopped = true;
        let first_waiting = usize::from(queue.is_working);
        let left = queue.segments.split_off(first_waiting);
        if !left.is_empty() {
            info!(
                segments = left.len(),
                "no time is left to make tables of segments: they stay lines"
            );
        }
        for segment in left {
            queue.release(segment);
        }
        self.0.changed.notify_all();
        let is_working = |queue: &mut Queue| queue.is_working;
        let (mut queue, _) = self
            .0
            .changed
            .wait_timeout_while(queue, STOP_TIMEOUT.min(within), is_working)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.is_working {
            warn!("a table cannot be finished or given up: the next start closes its segment");
        }
        queue.release_again();
        if !queue.unnamed.is_empty() {
            error!(
                segments = queue.unnamed.len(),
                "closed segments cannot be renamed: the next start will retry"
            );
        }
    }
}

impl Queue {
    /// Gives the lines the name of a closed segment, under which they are uploaded; if that fails, it
    /// is tried again.
    fn release(&mut self, segment: Closed) {
        match rename(&segment) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                error!(
                    segment = %segment.name,
                    "somebody has removed a closed segment: its calls are lost"
                );
            }
            Err(error) => {
                error!(
                    segment = %segment.name,
                    %error,
                    "cannot rename a closed segment, which is tried again every {} s",
                    PAUSE.as_secs()
                );
                self.unnamed.push(segment);
            }
        }
    }

    fn release_again(&mut self) {
        self.unnamed.retain(|segment| match rename(segment) {
            Ok(()) => {
                info!(segment = %segment.name, "renamed a closed segment");
                false
            }
            Err(error) => error.kind() != ErrorKind::NotFound,
        });
    }
}

fn rename(Closed { path, name, .. }: &Closed) -> io::Result<()> {
    fs::rename(path, path.with_file_name(name.to_string()))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for it; `None` when it is to stop.
    fn next(&self) -> Option<Closed> {
        let mut queue = self.lock();
        loop {
            if queue.is_stopped {
                return None;
            }
            queue.release_again();
            if let Some(segment) = queue.segments.front().cloned() {
                queue.is_working = true;
                return Some(segment);
            }
            queue = if queue.unnamed.is_empty() {
                self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(queue, PAUSE);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// It is a table, or has to stay lines.
    fn done(&self, is_table: bool) {
        let mut queue = self.lock();
        let segment = queue.segments.pop_front();
        if let Some(segment) = segment.filter(|_| !is_table) {
            queue.release(segment);
        }
        queue.is_working = false;
        self.changed.notify_all();
    }
}

fn work(shared: &Shared) {
    // Of this thread alone. If it cannot be nicer it works all the same.
    let _: rustix::io::Result<i32> = nice(NICENESS);
    let mut is_failing = false;
    while let Some(segment) = shared.next() {
        let transcoded =
            catch_unwind(AssertUnwindSafe(|| transcode(&segment, || shared.lock().is_stopped)))
                .unwrap_or_else(|_| Err(anyhow!("it panicked: a defect of the sidecar")));
        match &transcoded {
            Ok(()) => {
                if is_failing {
                    info!("tables can be made of segments again");
                }
                is_failing = false;
            }
            // `release` logs it.
            Err(_) if !segment.path.exists() => {}
            Err(error) if error.is::<Stopped>() => {
                info!(segment = %segment.name, "no time is left to finish a table: it stays lines");
            }
            Err(error) => {
                let error = format!("{error:#}");
                if is_failing {
                    debug!(segment = %segment.name, error, "still no table");
                } else {
                    warn!(
                        segment = %segment.name,
                        error,
                        "cannot make a table of a segment: it stays lines, as do others that fail"
                    );
                }
                is_failing = true;
            }
        }
        shared.done(transcoded.is_ok());
    }
}

fn transcode(Closed { path, name, .. }: &Closed, is_stopped: impl Fn() -> bool) -> Result<()> {
    let file = untrusted_file::open(path)?;
    // By which the store files it: the day on which it was closed, not on which this has its turn.
    let closed = file.metadata()?.modified()?;
    let input = BufReader::with_capacity(BUFFER_BYTES, file);
    let table = SegmentName { format: Format::Parquet, ..name.clone() };
    let finished =
        lines::write(input, &path.with_file_name(table.to_string()), &table, is_stopped)?;
    finished.set_modified(closed)?;
    let (rows, size) = (finished.rows, finished.bytes);
    let table_path = finished.publish()?;
    // A crash before this leaves both; the next start removes the lines, and nobody uploads the table
    // before.
    if let Err(error) = fs::remove_file(path) {
        fs::remove_file(table_path).context("cannot remove a table beside its lines")?;
        return Err(error).context("cannot remove the lines that a table was made of");
    }
    debug!(segment = %table, rows, bytes = size, "made a table of a segment");
    Ok(())
}

#[cfg(test)]
mod tests;
