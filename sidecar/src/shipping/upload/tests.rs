use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use anyhow::{anyhow, ensure};
use tokio::time::timeout;

use super::*;

#[derive(Default)]
struct Memory {
    down: AtomicBool,
    stored: Mutex<Vec<String>>,
    /// Every attempt, and whether it looked first.
    asked: Mutex<Vec<(String, bool)>>,
    /// This file cannot be read.
    unreadable: Mutex<Option<&'static str>>,
    /// This file is too large for the store.
    too_large: Option<&'static str>,
    refusals: AtomicU32,
    /// The store refuses these, and takes the others.
    refused: Vec<String>,
    /// The store takes these, and cannot be asked what it has.
    unconfirmed: Mutex<Vec<&'static str>>,
    /// The store has something else under this name.
    taken: Option<&'static str>,
    /// An attempt never ends, or panics.
    hangs: Option<&'static str>,
    panics: Option<&'static str>,
    /// This file becomes a directory: not even root can delete that as a file.
    undeletable: Option<&'static str>,
}

impl Store for Memory {
    async fn put(&self, file: &Path, name: &str, look_first: bool) -> Result<(), PutError> {
        self.asked.lock().unwrap().push((name.to_owned(), look_first));
        if *self.unreadable.lock().unwrap() == Some(name) {
            return Err(PutError::File(anyhow!("unreadable")));
        }
        if self.hangs == Some(name) {
            std::future::pending::<()>().await;
        }
        assert_ne!(self.panics, Some(name), "as a test wants it");
        self.check().await.map_err(PutError::Store)?;
        if self.too_large == Some(name) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(PutError::TooLarge(anyhow!("too large")));
        }
        if self.taken == Some(name) {
            return Err(PutError::Taken(anyhow!("something else is there")));
        }
        if self.refused.iter().any(|refused| refused == name) {
            return Err(PutError::Store(anyhow!("{name} is refused")));
        }
        if self.unconfirmed.lock().unwrap().contains(&name) {
            return Err(PutError::Unconfirmed(anyhow!("no answer to the HEAD")));
        }
        self.stored.lock().unwrap().push(name.to_owned());
        if self.undeletable == Some(name) {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        ensure!(!self.down.load(Ordering::Relaxed), "down");
        Ok(())
    }
}

const FIRST: &str = "trace_h_s_000001.jsonl";
fn unreadable() -> Arc<Memory> {
    Arc::new(Memory { unreadable: Mutex::new(Some(FIRST)), ..Memory::default() })
}

const SECOND: &str = "trace_h_s_000002.jsonl";

fn spool_of(names: &[&str]) -> (tempfile::TempDir, Spool) {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(directory.path().join(name), "{}\n").unwrap();
    }
    let spool = Spool::open(directory.path()).unwrap();
    (directory, spool)
}

#[tokio::test(start_paused = true)]
async fn segments_go_in_order_and_are_deleted_once_stored() {
    let (_directory, spool) = spool_of(&[SECOND, FIRST]);
    let store = Arc::new(Memory::default());
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
    assert!(spool.closed().unwrap().is_empty());
    sender.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_the_store_is_down_and_all_arrives_when_it_is_back() {
    let (_directory, spool) = spool_of(&[FIRST]);
    let store = Arc::new(Memory::default());
    store.down.store(true, Ordering::Relaxed);
    let (_sender, stop) = watch::channel(false);
    let task = tokio::spawn(
        Uploader::new(spool.clone(), store.clone(), Arc::default())
            .run(Duration::from_secs(3600), stop),
    );
    sleep(Duration::from_secs(30)).await;
    assert_eq!(spool.closed().unwrap().len(), 1);
    store.down.store(false, Ordering::Relaxed);
    sleep(MAX_RETRY * 2).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST], "retried long before the next period");
    assert!(spool.closed().unwrap().is_empty());
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_last_pass_does_not_end_before_everything_is_stored() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Arc::new(Memory::default());
    store.down.store(true, Ordering::Relaxed);
    let (_sender, stop) = watch::channel(true);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let mut task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    assert!(timeout(Duration::from_secs(60), &mut task).await.is_err(), "still trying");
    store.down.store(false, Ordering::Relaxed);
    task.await.unwrap();
    store.stored.lock().unwrap().sort_unstable();
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
    assert!(spool.closed().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_is_uploaded_once() {
    let (directory, spool) = spool_of(&[]);
    // A directory stands for a file that cannot be deleted, by root neither.
    let path = directory.path().join(FIRST);
    let segment = Closed { path, name: SegmentName::parse(FIRST).unwrap(), bytes: 0 };
    fs::create_dir(&segment.path).unwrap();
    let store = Arc::new(Memory::default());
    let mut uploader = Uploader::new(spool, store.clone(), Arc::default());
    for _ in 0..2 {
        let error = uploader.upload(&segment).await.unwrap_err().to_string();
        assert!(error.contains("uploaded, but cannot delete"), "{error}");
    }
    assert_eq!(*store.stored.lock().unwrap(), [FIRST]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_the_start_does_not_hold_up_the_end() {
    let (_directory, spool) = spool_of(&[]);
    let store = Arc::new(Memory::default());
    store.down.store(true, Ordering::Relaxed);
    let (sender, stop) = watch::channel(false);
    let task = tokio::spawn(
        Uploader::new(spool, store, Arc::default()).run(Duration::from_secs(120), stop),
    );
    sleep(Duration::from_secs(60)).await;
    sender.send(true).unwrap();
    timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_holds_up_neither_the_others_nor_the_end() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = unreadable();
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(*store.stored.lock().unwrap(), [SECOND]);
    sender.send(true).unwrap();
    timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    let left: Vec<String> = spool.closed().unwrap().iter().map(|c| c.name.to_string()).collect();
    assert_eq!(left, [FIRST], "kept for whoever can read it");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_too_large_for_the_store_holds_up_neither_the_others_nor_the_end() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Arc::new(Memory { too_large: Some(FIRST), ..Memory::default() });
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(600)).await;
    sender.send(true).unwrap();
    timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    assert_eq!(*store.stored.lock().unwrap(), [SECOND]);
    assert_eq!(store.refusals.load(Ordering::Relaxed), 1, "it is sent once");
    assert_eq!(spool.closed().unwrap().len(), 1, "kept for a store that takes it");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_deleted_holds_up_neither_the_others_nor_the_end() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Arc::new(Memory { undeletable: Some(FIRST), ..Memory::default() });
    let (_sender, stop) = watch::channel(true);
    let task = tokio::spawn(
        Uploader::new(spool, store.clone(), Arc::default()).run(Duration::from_secs(120), stop),
    );
    timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_is_told_how_uploads_go() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = unreadable();
    store.down.store(true, Ordering::Relaxed);
    let state = Arc::new(State::default());
    let mut uploader = Uploader::new(spool, store.clone(), Arc::clone(&state));
    uploader.pass(Which::All).await;
    let outage = state.uploads().clone();
    assert_eq!((outage.stored, outage.store_failures, outage.file_failures), (0, 1, 1));
    assert_eq!(outage.failing.unwrap().error, "down");
    assert_eq!(outage.blocked_segments, 1);
    assert_eq!((&*outage.blocked[0].segment, &*outage.blocked[0].error), (FIRST, "unreadable"));
    store.down.store(false, Ordering::Relaxed);
    uploader.pass(Which::All).await;
    let uploads = state.uploads().clone();
    assert_eq!((uploads.stored, uploads.store_failures, uploads.file_failures), (1, 1, 2));
    assert_eq!((uploads.stored_bytes, uploads.failing), (3, None));
    assert!(uploads.last_stored.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_can_be_read_again_is_uploaded() {
    let (_directory, spool) = spool_of(&[FIRST]);
    let store = unreadable();
    let mut uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    uploader.pass(Which::Due).await;
    assert_eq!((uploader.failures.len(), uploader.failing), (1, false), "no fault of the store");
    *store.unreadable.lock().unwrap() = None;
    sleep(FIRST_RETRY * 2).await;
    uploader.pass(Which::Due).await;
    assert!(uploader.failures.is_empty());
    assert!(spool.closed().unwrap().is_empty());
}

/// A run until nothing changes any more, and its end.
async fn run_for(seconds: u64, spool: &Spool, store: &Arc<Memory>, state: &Arc<State>) {
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), Arc::clone(store), Arc::clone(state));
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(seconds)).await;
    sender.send(true).unwrap();
    timeout(Duration::from_secs(900), task).await.expect("it ends").unwrap();
}

fn names(count: u32) -> Vec<String> {
    (1..=count).map(|number| format!("trace_h_s_{number:06}.jsonl")).collect()
}

fn waiting(spool: &Spool) -> Vec<String> {
    spool.closed().unwrap().iter().map(|closed| closed.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn segments_that_the_store_refuses_hold_up_neither_the_others_nor_the_end() {
    let all = names(40);
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let (_directory, spool) = spool_of(&names);
    // More than those that are tried before it counts as the store's fault, and the oldest.
    let refused = all[..10].to_vec();
    let store = Arc::new(Memory { refused: refused.clone(), ..Memory::default() });
    let state = Arc::new(State::default());
    run_for(120, &spool, &store, &state).await;
    assert_eq!(*store.stored.lock().unwrap(), all[10..]);
    assert_eq!(waiting(&spool), refused);
    let uploads = state.uploads().clone();
    assert_eq!((uploads.stored, uploads.failing, uploads.blocked_segments), (30, None, 10));
    assert_eq!(uploads.blocked[3].error, format!("{} is refused", all[3]));
    let attempts = store.asked.lock().unwrap().iter().filter(|(name, _)| *name == all[0]).count();
    assert!((3..20).contains(&attempts), "with backoff: {attempts}");
}

#[tokio::test(start_paused = true)]
async fn something_else_under_the_name_of_a_segment_is_told_and_kept_and_the_others_go_on() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Arc::new(Memory { taken: Some(FIRST), ..Memory::default() });
    let state = Arc::new(State::default());
    run_for(600, &spool, &store, &state).await;
    assert_eq!(*store.stored.lock().unwrap(), [SECOND]);
    assert_eq!(waiting(&spool), [FIRST]);
    let uploads = state.uploads().clone();
    assert_eq!((uploads.failing, uploads.blocked_segments), (None, 1));
    assert_eq!(uploads.blocked[0].error, "something else is there");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_took_without_confirming_it_is_looked_for_before_it_is_sent_again() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Arc::new(Memory { unconfirmed: Mutex::new(vec![FIRST]), ..Memory::default() });
    let mut uploader = Uploader::new(spool.clone(), Arc::clone(&store), Arc::default());
    uploader.pass(Which::All).await;
    store.unconfirmed.lock().unwrap().clear();
    uploader.pass(Which::All).await;
    let asked = [(FIRST, false), (SECOND, false), (FIRST, true)];
    assert_eq!(*store.asked.lock().unwrap(), asked.map(|(name, look)| (name.to_owned(), look)));
    assert!(waiting(&spool).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_or_panics_fails_and_the_others_are_uploaded() {
    for (hangs, panics, expected) in [
        (Some(FIRST), None, "neither succeeded nor failed for 180 s"),
        (None, Some(FIRST), "it panicked: "),
    ] {
        let (_directory, spool) = spool_of(&[FIRST, SECOND]);
        let store = Arc::new(Memory { hangs, panics, ..Memory::default() });
        let state = Arc::new(State::default());
        run_for(1000, &spool, &store, &state).await;
        assert_eq!(*store.stored.lock().unwrap(), [SECOND]);
        let blocked = state.uploads().blocked.clone();
        assert!(blocked[0].error.contains(expected), "{blocked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_asks_the_store_no_more_often_the_more_segments_wait() {
    let all = names(2000);
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let (_directory, spool) = spool_of(&names);
    let store = Arc::new(Memory::default());
    store.down.store(true, Ordering::Relaxed);
    let (_sender, stop) = watch::channel(false);
    let state = Arc::new(State::default());
    let uploader = Uploader::new(spool.clone(), Arc::clone(&store), Arc::clone(&state));
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(3600)).await;
    let asked = store.asked.lock().unwrap().len();
    assert!((60..200).contains(&asked), "{asked} attempts in an hour");
    assert_eq!(state.uploads().blocked_segments, 0, "it is the store's fault");
    store.down.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(120)).await;
    assert!(waiting(&spool).is_empty());
    assert_eq!(store.stored.lock().unwrap().len(), 2000);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn an_upload_task_that_ends_or_panics_is_started_again_and_that_is_told() {
    let state = Arc::new(State::default());
    let (sender, stop) = watch::channel(false);
    let starts = Arc::new(AtomicU32::new(0));
    let start = {
        let (starts, stop, state) = (Arc::clone(&starts), stop.clone(), Arc::clone(&state));
        move || {
            let number = starts.fetch_add(1, Ordering::Relaxed);
            let (mut stop, state) = (stop.clone(), Arc::clone(&state));
            async move {
                assert_ne!(number, 0, "a line break in a header");
                if number == 1 {
                    return;
                }
                state.uploads().stored(7);
                let _ = stop.wait_for(|&stop| stop).await;
            }
        }
    };
    let task = tokio::spawn(supervise(Arc::clone(&state), stop, start));
    sleep(Duration::from_millis(500)).await;
    let failing = state.uploads().failing.clone().unwrap();
    assert!(failing.error.contains("a line break in a header"), "{failing:?}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((starts.load(Ordering::Relaxed), state.uploads().restarts), (3, 2));
    sender.send(true).unwrap();
    assert_eq!(task.await.unwrap(), 1, "segments of all starts");
}

#[tokio::test(start_paused = true)]
async fn an_upload_task_that_hangs_is_given_up_and_started_again() {
    let state = Arc::new(State::default());
    let (sender, stop) = watch::channel(false);
    let starts = Arc::new(AtomicU32::new(0));
    let start = {
        let (starts, stop, state) = (Arc::clone(&starts), stop.clone(), Arc::clone(&state));
        move || {
            let number = starts.fetch_add(1, Ordering::Relaxed);
            let (mut stop, state) = (stop.clone(), Arc::clone(&state));
            async move {
                if number == 0 {
                    state.uploads().begin("finding credentials", Duration::ZERO);
                    std::future::pending::<()>().await;
                }
                let _ = stop.wait_for(|&stop| stop).await;
            }
        }
    };
    let task = tokio::spawn(supervise(Arc::clone(&state), stop, start));
    sleep(Duration::from_secs(60)).await;
    assert_eq!((starts.load(Ordering::Relaxed), state.uploads().restarts), (2, 1));
    let failing = state.uploads().failing.clone().unwrap();
    assert_eq!(failing.error, "uploads hung at finding credentials");
    sender.send(true).unwrap();
    assert_eq!(task.await.unwrap(), 0);
}

/// The disk does not answer, or the file has gigabytes.
#[tokio::test(start_paused = true)]
async fn closed_segments_are_uploaded_while_leftovers_are_being_closed() {
    let (directory, spool) = spool_of(&[FIRST]);
    let store = Arc::new(Memory::default());
    let (sender, stop) = watch::channel(false);
    let (close, closes) = tokio::sync::oneshot::channel::<()>();
    let leftovers = tokio::spawn(async move {
        let _ = closes.await;
    });
    let wake = Arc::new(Notify::new());
    let upload = {
        let (spool, store, wake) = (spool.clone(), Arc::clone(&store), Arc::clone(&wake));
        move || {
            let state = Arc::<State>::default();
            let (spool, store, wake) = (spool.clone(), Arc::clone(&store), Arc::clone(&wake));
            let start = {
                let (state, stop) = (Arc::clone(&state), stop.clone());
                move || {
                    Uploader::new(spool.clone(), Arc::clone(&store), Arc::clone(&state))
                        .woken_by(Arc::clone(&wake))
                        .run(Duration::from_secs(3600), stop.clone())
                }
            };
            supervise(state, stop.clone(), start)
        }
    };
    let task = tokio::spawn(while_recovering(leftovers, wake, upload));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST]);
    fs::write(directory.path().join(SECOND), "{}\n").unwrap();
    close.send(()).unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND], "long before the next period");
    sender.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leftovers_that_are_closed_after_the_last_pass_are_uploaded_too() {
    let (directory, spool) = spool_of(&[]);
    let store = Arc::new(Memory::default());
    let (_sender, stop) = watch::channel(true);
    let path = directory.path().join(FIRST);
    let leftovers = tokio::spawn(async move {
        sleep(Duration::from_secs(10)).await;
        fs::write(path, "{}\n").unwrap();
    });
    let upload = || {
        let (state, spool, store) = (Arc::<State>::default(), spool.clone(), Arc::clone(&store));
        let (of_task, stopped) = (Arc::clone(&state), stop.clone());
        supervise(state, stop.clone(), move || {
            Uploader::new(spool.clone(), Arc::clone(&store), Arc::clone(&of_task))
                .run(Duration::from_secs(120), stopped.clone())
        })
    };
    while_recovering(leftovers, Arc::default(), upload).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST]);
}
