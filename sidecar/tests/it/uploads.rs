//! The uploader with a real bucket: each segment once, deleted after its confirmation, the log
//! brief.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use sidecar::{
    reporting::state::State,
    shipping::{
        spool::Spool,
        upload::{Store, Uploader},
    },
};
use store::{Bucket, PutError};
use testbed::s3::Fault;
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tracing::subscriber::DefaultGuard;

use crate::store::{NAME, PREFIX, Scene};

/// Everything logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(&self) -> DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(text).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Running {
    task: JoinHandle<()>,
    state: Arc<State>,
    stop: watch::Sender<bool>,
}

/// The uploader, with a period so long that only its start, retries and end upload.
async fn start(scene: &Scene) -> Running {
    let spool = Spool::open(&scene.path("traces")).unwrap();
    let (stop, stopped) = watch::channel(false);
    let state = Arc::new(State::default());
    let store = Arc::new(Broken { bucket: scene.bucket().await, unreadable: None });
    let uploader = Uploader::new(spool, store, Arc::clone(&state));
    Running { task: tokio::spawn(uploader.run(Duration::from_secs(3600), stopped)), state, stop }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_segment_is_stored_once_and_then_deleted() {
    let scene = Scene::new(b"{}\n");
    let part = scene.path("traces").join("trace_h_20261124T032105.123Z_000002.jsonl.part");
    let Running { task, state, stop } = start(&scene).await;
    fs::write(&part, "{").unwrap();
    until("deleted", || !scene.segment().exists()).await;
    let key = format!("{PREFIX}{NAME}");
    assert_eq!(fs::read(scene.stored(&key)).unwrap(), b"{}\n");
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(state.uploads().stored, 1);
    assert_eq!(scene.server.put_count(&key), 1);
    assert!(part.exists(), "what is open is not touched");
    assert_eq!(fs::read_dir(scene.stored("k3s-vllm")).unwrap().count(), 1);
}

#[tokio::test]
async fn an_outage_is_logged_once_and_ends_without_loss() {
    for fault in [Fault::Refuse, Fault::Status(503), Fault::Corrupt] {
        let log = Log::default();
        let _guard = log.capture();
        let scene = Scene::new(b"{}\n");
        scene.server.faults().set(fault).unwrap();
        let Running { task, state, stop } = start(&scene).await;
        until("logged", || log.count("uploads fail") > 0).await;
        // The first retry is after a second.
        sleep(Duration::from_millis(1500)).await;
        assert!(scene.segment().exists(), "{fault:?}");
        scene.server.faults().clear().unwrap();
        stop.send(true).unwrap();
        task.await.unwrap();
        assert_eq!(state.uploads().stored, 1);
        assert!(!scene.segment().exists());
        assert_eq!(fs::read(scene.stored(&format!("{PREFIX}{NAME}"))).unwrap(), b"{}\n");
        assert_eq!(
            (log.count("uploads fail"), log.count("uploads work again")),
            (1, 1),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_store_that_is_down_at_the_start_is_logged_before_there_is_anything_to_upload() {
    let log = Log::default();
    let _guard = log.capture();
    let scene = Scene::new(b"{}\n");
    fs::remove_file(scene.segment()).unwrap();
    scene.server.faults().set(Fault::Refuse).unwrap();
    let Running { task, state, stop } = start(&scene).await;
    until("logged", || log.count("uploads fail") > 0).await;
    scene.server.faults().clear().unwrap();
    until("noticed", || log.count("uploads work again") > 0).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(state.uploads().stored, 0);
    assert_eq!((log.count("uploads fail"), log.count("uploads work again")), (1, 1));
}

/// A bucket to which one file may be a directory, which nobody can read as a file.
pub(crate) struct Broken {
    pub(crate) bucket: Bucket,
    pub(crate) unreadable: Option<&'static str>,
}

impl Store for Broken {
    async fn put(&self, file: &Path, name: &str, look_first: bool) -> Result<(), PutError> {
        let file = if self.unreadable == Some(name) { file.parent().unwrap() } else { file };
        if look_first {
            return self.bucket.put_again(file, name).await;
        }
        self.bucket.put(file, name).await
    }

    async fn check(&self) -> anyhow::Result<()> {
        self.bucket.check().await
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_logged_once_and_the_others_are_uploaded() {
    let log = Log::default();
    let _guard = log.capture();
    let scene = Scene::new(b"{}\n");
    let second = NAME.replace("000001", "000002");
    fs::write(scene.path("traces").join(&second), "{}\n").unwrap();
    let spool = Spool::open(&scene.path("traces")).unwrap();
    let (stop, stopped) = watch::channel(false);
    let store = Arc::new(Broken { bucket: scene.bucket().await, unreadable: Some(NAME) });
    let uploader = Uploader::new(spool, store, Arc::default());
    let task = tokio::spawn(uploader.run(Duration::from_millis(50), stopped));
    until("uploaded", || scene.stored(&format!("{PREFIX}{second}")).exists()).await;
    sleep(Duration::from_millis(300)).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    assert!(scene.segment().exists());
    assert_eq!(log.count("a segment is left where it is"), 1);
    assert_eq!(log.count("read, uploaded or deleted stay in"), 1, "said again at the end");
    assert_eq!(log.count("uploads fail"), 0);
}
