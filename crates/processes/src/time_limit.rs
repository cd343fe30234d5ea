//! Runs what may never return, because another process controls what it waits for.
//!
//! Reading the memory of a process, or a directory that it has mounted, asks a server of its choice
//! (FUSE, NFS), which need not answer. Nobody can take back a thread that waits there, so such jobs
//! run on a thread beside the one that asks, which is left behind when the time of a job is over.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::process::read_parent;

/// Jobs of so many processes may wait for ever. Beyond it no job is begun, so that nobody fills the
/// tracer with threads.
const MAX_LEFT_BEHIND: usize = 128;

/// The same of processes that one process has started, such as the workers of a pool, which read
/// from the same place: all others are still looked at.
const MAX_OF_ONE_PARENT: usize = 8;

/// A job reads files, and no more.
const STACK_BYTES: usize = 512 << 10;

static LEFT_BEHIND: Mutex<LeftBehind> = Mutex::new(LeftBehind { parents: None });

/// Processes whose last job was left behind and has not ended since, and their parents then.
struct LeftBehind {
    parents: Option<HashMap<u32, Option<u32>>>,
}

impl LeftBehind {
    /// Whether a job may be begun. `parent` is asked for only where that decides.
    fn admits(&self, pid: u32, parent: impl FnOnce() -> Option<u32>) -> bool {
        let Some(parents) = self.parents.as_ref() else { return true };
        if parents.contains_key(&pid) || parents.len() >= MAX_LEFT_BEHIND {
            return false;
        }
        if parents.len() < MAX_OF_ONE_PARENT {
            return true;
        }
        let parent = parent();
        parents.values().filter(|other| **other == parent).count() < MAX_OF_ONE_PARENT
    }

    fn add(&mut self, pid: u32, parent: Option<u32>) {
        self.parents.get_or_insert_default().insert(pid, parent);
    }

    fn remove(&mut self, pid: u32) {
        if let Some(parents) = &mut self.parents {
            parents.remove(&pid);
        }
    }
}

thread_local! {
    /// Where the jobs of this thread run, until one is left behind. A thread for each job would have
    /// to wait for its turn among all that run, again and again.
    static HELPER: RefCell<Option<Sender<Job>>> = const { RefCell::new(None) };

    /// When this thread has to turn to something else.
    static TURN_END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From now on until the next call, [`run_in_turn`] on this thread takes no longer than until `end`.
pub fn begin_turn(end: Instant) {
    TURN_END.set(Some(end));
}

/// How much of the turn is left; all the time there is if none has begun.
pub fn left_of_turn() -> Duration {
    TURN_END.get().map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
}

/// As [`run`], but no longer than the turn of this thread lasts: many jobs of one turn may each take
/// just less than their limits.
pub fn run_in_turn<T: Send + 'static>(
    pid: u32,
    what: &'static str,
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match limit.min(left_of_turn()) {
        Duration::ZERO => None,
        limit => run(pid, what, limit, job),
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The result of `job`, which asks process `pid` for something; `None` if that takes longer than
/// `limit`, and at once while an earlier job of that process still waits.
pub fn run<T: Send + 'static>(
    pid: u32,
    what: &'static str,
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if !left_behind().admits(pid, || read_parent(pid)) {
        return None;
    }
    // With room for the result, so that a job which ends late does not wait for anybody.
    let (sender, receiver) = sync_channel(1);
    let job = move || {
        let result = job();
        // Under the lock: either the result is there in time, or the job counts as left behind.
        let mut waiting = left_behind();
        if sender.send(result).is_err() {
            waiting.remove(pid);
        }
    };
    if !begin(Box::new(job)) {
        return None;
    }
    match receiver.recv_timeout(limit) {
        Ok(result) => Some(result),
        // It panicked, which the log tells.
        Err(RecvTimeoutError::Disconnected) => {
            HELPER.take();
            None
        }
        Err(RecvTimeoutError::Timeout) => {
            let mut waiting = left_behind();
            if let Ok(result) = receiver.try_recv() {
                return Some(result);
            }
            // Under the lock too: from here on the job finds nobody to send to.
            drop(receiver);
            waiting.add(pid, read_parent(pid));
            drop(waiting);
            // It ends with the job that it is at, if ever.
            HELPER.take();
            warn!(
                pid,
                "a {what} takes longer than {limit:?}: what it asks the process for does not \
                 answer, so that less may be known of it"
            );
            None
        }
    }
}

/// Hands a job to the helper of this thread; false if there is none, and none can be made.
fn begin(job: Job) -> bool {
    HELPER.with_borrow_mut(|helper| {
        // One that is gone panicked at its last job.
        let job = match helper {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return true,
                Err(unsent) => unsent.0,
            },
            None => job,
        };
        let (jobs, waiting) = channel::<Job>();
        let work = move || waiting.into_iter().for_each(|job| job());
        let begun = thread::Builder::new().name("helper".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = begun.spawn(work) {
            warn!("cannot start a thread to look at processes: {error}");
            return false;
        }
        let is_sent = jobs.send(job).is_ok();
        *helper = Some(jobs);
        is_sent
    })
}

/// The next job of this thread has to wait so long.
#[cfg(test)]
pub(crate) fn stall_helper(time: Duration) {
    assert!(begin(Box::new(move || thread::sleep(time))));
}

fn left_behind() -> MutexGuard<'static, LeftBehind> {
    LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Above any real pid, and no other test's.
    const STUCK: u32 = 4_100_001;
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_never_answers_is_left_behind_and_not_asked_again_until_it_does() {
        let (answer, waits) = channel::<()>();
        let stuck = run(STUCK, "test", Duration::from_millis(1), move || waits.recv());
        assert!(stuck.is_none());
        assert_eq!(run(STUCK, "test", LONG, || 1), None, "its first job still waits");
        assert_eq!(run(STUCK + 1, "test", LONG, || 2), Some(2), "others are not held up");
        answer.send(()).unwrap();
        let deadline = Instant::now() + LONG;
        while run(STUCK, "test", LONG, || 3).is_none() {
            assert!(Instant::now() < deadline, "it has answered");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn processes_of_one_parent_do_not_use_up_the_room_of_all() {
        const ONE: Option<u32> = Some(1);
        let mut left = LeftBehind { parents: None };
        let mut admitted = 0;
        for pid in 0..1000 {
            if left.admits(pid, || ONE) {
                left.add(pid, ONE);
                admitted += 1;
            }
        }
        assert_eq!(admitted, MAX_OF_ONE_PARENT);
        assert!(left.admits(2000, || Some(2)), "others are looked at");
        assert!(!left.admits(0, || Some(2)), "one that is left behind is not asked again");
        left.remove(0);
        assert!(left.admits(0, || ONE));
        for pid in 2000..4000 {
            if left.admits(pid, || Some(pid)) {
                left.add(pid, Some(pid));
            }
        }
        assert_eq!(
            left.parents.unwrap().len(),
            MAX_LEFT_BEHIND,
            "threads are bounded all the same"
        );
    }

    #[test]
    fn jobs_of_a_turn_end_with_it() {
        assert_eq!(run_in_turn(STUCK + 3, "test", LONG, || 1), Some(1), "no turn has begun");
        begin_turn(Instant::now() + Duration::from_millis(20));
        let (answer, waits) = channel::<()>();
        assert!(run_in_turn(STUCK + 3, "test", LONG, move || waits.recv()).is_none());
        let (begun, begins) = channel();
        assert!(run_in_turn(STUCK + 4, "test", LONG, move || begun.send(())).is_none());
        assert!(begins.recv().is_err(), "what comes after the end is not begun");
        begin_turn(Instant::now() + LONG);
        assert_eq!(
            run_in_turn(STUCK + 4, "test", LONG, || 2),
            Some(2),
            "the next one has its time"
        );
        drop(answer);
    }

    #[test]
    fn a_job_that_panics_has_no_result() {
        assert_eq!(run(STUCK + 2, "test", LONG, || -> u8 { panic!("on purpose") }), None);
        assert_eq!(run(STUCK + 2, "test", LONG, || 4), Some(4), "the next one has");
    }
}
