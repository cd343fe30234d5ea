use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use anyhow::{anyhow, ensure};
use tokio::time::timeout;

use super::*;

#[derive(Clone, Default)]
struct Memory {
    down: Arc<AtomicBool>,
    stored: Arc<Mutex<Vec<String>>>,
    /// This file cannot be read.
    unreadable: Option<&'static str>,
    /// This file is too large for the store.
    too_large: Option<&'static str>,
    refusals: Arc<AtomicU32>,
    /// This file becomes a directory: not even root can delete that as a file.
    undeletable: Option<&'static str>,
}

impl Store for Memory {
    async fn put(&self, file: &Path, name: &str) -> Result<(), PutError> {
        if self.unreadable == Some(name) {
            return Err(PutError::File(anyhow!("unreadable")));
        }
        self.check().await.map_err(PutError::Store)?;
        if self.too_large == Some(name) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(PutError::Object(anyhow!("too large")));
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
    let store = Memory::default();
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
    assert!(spool.closed().unwrap().is_empty());
    sender.send(true).unwrap();
    assert_eq!(task.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_the_store_is_down_and_all_arrives_when_it_is_back() {
    let (_directory, spool) = spool_of(&[FIRST]);
    let store = Memory::default();
    store.down.store(true, Ordering::Relaxed);
    let (_sender, stop) = watch::channel(false);
    let task = tokio::spawn(
        Uploader::new(spool.clone(), store.clone(), Arc::default())
            .run(Duration::from_secs(3600), stop),
    );
    sleep(Duration::from_secs(30)).await;
    assert_eq!(spool.closed().unwrap().len(), 1);
    store.down.store(false, Ordering::Relaxed);
    sleep(LONGEST_RETRY * 2).await;
    assert_eq!(*store.stored.lock().unwrap(), [FIRST], "retried long before the next period");
    assert!(spool.closed().unwrap().is_empty());
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_last_pass_does_not_end_before_everything_is_stored() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Memory::default();
    store.down.store(true, Ordering::Relaxed);
    let (_sender, stop) = watch::channel(true);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let mut task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    assert!(timeout(Duration::from_secs(60), &mut task).await.is_err(), "still trying");
    store.down.store(false, Ordering::Relaxed);
    assert_eq!(task.await.unwrap(), 2);
    assert!(spool.closed().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_is_uploaded_once() {
    let (directory, spool) = spool_of(&[]);
    // A directory stands for a file that cannot be deleted, by root neither.
    let path = directory.path().join(FIRST);
    let segment = Closed { path, name: SegmentName::parse(FIRST).unwrap(), bytes: 0 };
    fs::create_dir(&segment.path).unwrap();
    let store = Memory::default();
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
    let store = Memory::default();
    store.down.store(true, Ordering::Relaxed);
    let (sender, stop) = watch::channel(false);
    let task = tokio::spawn(
        Uploader::new(spool, store, Arc::default()).run(Duration::from_secs(120), stop),
    );
    sleep(Duration::from_secs(60)).await;
    sender.send(true).unwrap();
    assert_eq!(timeout(Duration::from_secs(60), task).await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_holds_up_neither_the_others_nor_the_end() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Memory { unreadable: Some(FIRST), ..Memory::default() };
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(*store.stored.lock().unwrap(), [SECOND]);
    sender.send(true).unwrap();
    assert_eq!(timeout(Duration::from_secs(60), task).await.unwrap().unwrap(), 1);
    let left: Vec<String> = spool.closed().unwrap().iter().map(|c| c.name.to_string()).collect();
    assert_eq!(left, [FIRST], "kept for whoever can read it");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_too_large_for_the_store_holds_up_neither_the_others_nor_the_end() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Memory { too_large: Some(FIRST), ..Memory::default() };
    let (sender, stop) = watch::channel(false);
    let uploader = Uploader::new(spool.clone(), store.clone(), Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
    sleep(Duration::from_secs(600)).await;
    sender.send(true).unwrap();
    assert_eq!(timeout(Duration::from_secs(60), task).await.unwrap().unwrap(), 1);
    assert_eq!(*store.stored.lock().unwrap(), [SECOND]);
    assert_eq!(store.refusals.load(Ordering::Relaxed), 1, "it is sent once");
    assert_eq!(spool.closed().unwrap().len(), 1, "kept for a store that takes it");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_deleted_holds_up_neither_the_others_nor_the_end() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Memory { undeletable: Some(FIRST), ..Memory::default() };
    let (_sender, stop) = watch::channel(true);
    let task = tokio::spawn(
        Uploader::new(spool, store.clone(), Arc::default()).run(Duration::from_secs(120), stop),
    );
    assert_eq!(timeout(Duration::from_secs(60), task).await.unwrap().unwrap(), 2);
    assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_is_told_how_uploads_go() {
    let (_directory, spool) = spool_of(&[FIRST, SECOND]);
    let store = Memory { unreadable: Some(FIRST), ..Memory::default() };
    store.down.store(true, Ordering::Relaxed);
    let state = Arc::new(State::default());
    let mut uploader = Uploader::new(spool, store.clone(), Arc::clone(&state));
    uploader.upload_all().await;
    let outage = state.uploads().clone();
    assert_eq!((outage.stored, outage.store_failures, outage.file_failures), (0, 1, 1));
    assert_eq!(outage.failing.unwrap().error, "down");
    store.down.store(false, Ordering::Relaxed);
    uploader.upload_all().await;
    let uploads = state.uploads().clone();
    assert_eq!((uploads.stored, uploads.store_failures, uploads.file_failures), (1, 1, 2));
    assert_eq!((uploads.stored_bytes, uploads.failing), (3, None));
    assert!(uploads.last_stored.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_can_be_read_again_is_uploaded() {
    let (_directory, spool) = spool_of(&[FIRST]);
    let store = Memory { unreadable: Some(FIRST), ..Memory::default() };
    let mut uploader = Uploader::new(spool.clone(), store, Arc::default());
    assert!(uploader.upload_all().await);
    assert_eq!((uploader.stuck.len(), uploader.failing), (1, false), "no fault of the store");
    uploader.store.unreadable = None;
    assert!(uploader.upload_all().await);
    assert_eq!((uploader.stuck.len(), uploader.uploaded), (0, 1));
    assert!(spool.closed().unwrap().is_empty());
}
