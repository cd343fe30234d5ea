//! What a case plays on: libraries, a store, a directory for traces that a witness watches, and the
//! sidecar.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use testbed::{libraries::Driver, s3::Server};

use crate::{
    harness::{Scene, Sidecar},
    witness::Witness,
};

pub(crate) const BUCKET: &str = "traces";

const PREFIX: &str = "k3s-vllm";

/// For what must happen at some time; the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) struct Stage {
    pub(crate) scene: Scene,
    pub(crate) server: Server,
    pub(crate) witness: Witness,
    /// Of all sidecars of the case, in KiB.
    pub(crate) peak_kib: u64,
    settings: BTreeMap<&'static str, String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::prepared(|_| ())
    }

    /// `prepare` may mount something at the directory that it gets, before anything lies there.
    pub(crate) fn prepared(prepare: impl FnOnce(&Path)) -> Self {
        let scene = Scene::new(Driver::R580);
        let (disk, root) = (scene.path("disk"), scene.path("s3"));
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&root).unwrap();
        prepare(&disk);
        fs::create_dir(disk.join("traces")).unwrap();
        let witness = Witness::start(&disk.join("traces"));
        let server = Server::start(&root, BUCKET).unwrap();
        let settings = [
            ("TRACE_DIR", disk.join("traces").display().to_string()),
            ("UPLOAD_ENABLED", "true".to_owned()),
            ("S3_BUCKET", BUCKET.to_owned()),
            ("S3_ENDPOINT", server.endpoint()),
            ("AWS_ACCESS_KEY_ID", testbed::s3::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", testbed::s3::SECRET_KEY.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("UPLOAD_INTERVAL", "0.3".to_owned()),
            ("TRACE_INTERVAL", "0.5".to_owned()),
            ("TRACE_SEGMENT_SIZE", "256Ki".to_owned()),
            // Until a case is about it, stopping has all the time it takes here.
            ("SHUTDOWN_TIMEOUT", "60".to_owned()),
        ]
        .into();
        Self { scene, server, witness, peak_kib: 0, settings }
    }

    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.settings.insert(variable, value.to_owned());
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.scene.path("disk")
    }

    pub(crate) fn traces(&self) -> PathBuf {
        self.disk().join("traces")
    }

    /// Where objects lie as files.
    pub(crate) fn stored(&self) -> PathBuf {
        self.bucket().join(PREFIX)
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.scene.path("s3").join(BUCKET)
    }

    pub(crate) fn key(name: &str) -> String {
        format!("{PREFIX}/{name}")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.scene.sidecar_command();
        command.envs(&self.settings);
        command
    }

    /// Returns when it traces.
    pub(crate) fn start(&self) -> Sidecar {
        Sidecar::start(self.command())
    }

    /// Keeps the memory that it has taken so far.
    pub(crate) fn note_peak(&mut self, sidecar: &Sidecar) {
        self.peak_kib = self.peak_kib.max(of_status(sidecar.pid(), "VmHWM").unwrap_or(0));
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self, sidecar: Sidecar) -> (ExitStatus, Vec<String>) {
        self.note_peak(&sidecar);
        sidecar.terminate();
        self.end(sidecar)
    }

    /// How it ends by itself, or by what it was told before.
    pub(crate) fn end(&mut self, sidecar: Sidecar) -> (ExitStatus, Vec<String>) {
        let pid = sidecar.pid();
        let deadline = Instant::now() + TIMEOUT;
        while is_running(pid) && Instant::now() < deadline {
            self.note_peak(&sidecar);
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!is_running(pid), "the sidecar did not end in {TIMEOUT:?}");
        sidecar.end()
    }

    /// Ends a sidecar that must end well.
    pub(crate) fn stop_well(&mut self, sidecar: Sidecar, problems: &mut Vec<String>) {
        let (status, log) = self.stop(sidecar);
        if !status.success() {
            problems.push(format!("the sidecar ended with {status}: {}", last(&log)));
        }
    }

    /// Waits until the store has this many objects more, or as many as it takes.
    pub(crate) fn wait_for_objects(&self, more_than: usize) {
        self.wait_until("more objects are stored", || self.objects() > more_than);
    }

    pub(crate) fn objects(&self) -> usize {
        fs::read_dir(self.stored()).map_or(0, Iterator::count)
    }

    #[expect(clippy::unused_self, reason = "cases wait for what their stage comes to")]
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition() {
            assert!(Instant::now() < deadline, "never in {TIMEOUT:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether it is there and no zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// A number of `/proc/PID/status`.
pub(crate) fn of_status(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:")))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn last(log: &[String]) -> String {
    log[log.len().saturating_sub(3)..].join(" / ")
}

fn answer(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The one sample of a metric.
pub(crate) fn metric(address: &str, name: &str) -> Option<f64> {
    let answer = answer(address, "/metrics").ok()?;
    let sample = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample?.parse().ok()
}

/// The status line of the answer, as a probe of the kubelet gets it.
pub(crate) fn ask(address: &str, path: &str) -> String {
    match answer(address, path) {
        Ok(answer) => answer.lines().next().unwrap_or("nothing").to_owned(),
        Err(error) => error.to_string(),
    }
}

/// What a liveness probe would complain of.
pub(crate) fn unhealthy(address: &str, when: &str) -> Option<String> {
    let answer = ask(address, "/healthz");
    (!answer.contains(" 200 ")).then(|| format!("/healthz {when}: {answer}"))
}
