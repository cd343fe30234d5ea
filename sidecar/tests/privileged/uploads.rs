//! The daemon and its store: what the store, its keys or one segment do is told, and keeps neither
//! calls from being recorded nor other segments from being stored.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use sidecar::reporting::{state::Uploads, status::Status};
use testbed::{
    libraries::Driver,
    s3::{ACCESS_KEY, Fault, Quirk, SECRET_KEY, Server},
};
use trace::check::{Report, check};

use crate::{
    harness::{Scene, Sidecar, assert_lines, default_set, run, segments_in},
    http::{get, status_when},
};

const BUCKET: &str = "traces";
const PREFIX: &str = "k3s-vllm";

/// Far more than a segment, far less than all of them.
const DIRECTORY_LIMIT: u64 = 1 << 20;

/// Libraries and programs to trace, and a store that the sidecar uploads to.
struct Uploading {
    scene: Scene,
    server: Server,
}

impl Uploading {
    fn new() -> Self {
        let scene = Scene::new(Driver::R550);
        fs::create_dir(scene.path("s3")).unwrap();
        let server = Server::start(scene.path("s3"), BUCKET).unwrap();
        Self { scene, server }
    }

    /// With no keys but those of `variables`, and a segment every moment.
    fn sidecar(&self, variables: &[(&str, &str)]) -> Sidecar {
        let endpoint = self.server.endpoint();
        let ours = [
            ("UPLOAD_ENABLED", "true"),
            ("S3_BUCKET", BUCKET),
            ("S3_ENDPOINT", &endpoint),
            ("TRACE_INTERVAL", "0.2"),
            ("UPLOAD_INTERVAL", "0.3"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ];
        self.scene.sidecar(&[&ours[..], variables].concat())
    }

    /// The keys that the store takes, by the environment.
    fn sidecar_with_keys(&self, variables: &[(&str, &str)]) -> Sidecar {
        let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        self.sidecar(&[&keys[..], variables].concat())
    }

    /// Another program that calls so often, to its end.
    fn call(&self, times: usize) {
        let times = times.to_string();
        run(self.scene.caller(&["--function", "cuCtxSynchronize", "--calls", &times]));
    }

    fn stored(&self) -> PathBuf {
        self.scene.path("s3").join(BUCKET).join(PREFIX)
    }

    fn objects(&self) -> Vec<PathBuf> {
        if self.stored().exists() { segments_in(&self.stored()) } else { Vec::new() }
    }

    /// The trace of these files, which must be whole and have each call of the callee's count.
    #[track_caller]
    fn assert_whole(&self, files: &[PathBuf]) -> Report {
        let report = check(files);
        assert_eq!((report.dropped, &*report.problems), (0, &[][..]));
        assert_lines(&report, &default_set(self.scene.counts()));
        report
    }
}

fn uploads(status: &Status) -> Uploads {
    status.uploads.clone().unwrap().uploads
}

fn dropped(status: &Status) -> u64 {
    status.calls.dropped_at_ring + status.calls.dropped_at_disk
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The trouble is told by the command, by the endpoint for Prometheus and by the text for people, and
/// calls are recorded meanwhile.
#[track_caller]
fn assert_failing_and_recording(uploading: &Uploading, sidecar: &mut Sidecar, cause: &str) {
    let address = sidecar.address();
    // What hangs is given its time, more than once.
    until("uploads fail", || get(&address, "/metrics").1.contains("upload_failing 1\n"));
    let status = status_when(&address, "uploads fail", |status| uploads(status).failing.is_some());
    let error = uploads(&status).failing.unwrap().error;
    assert!(error.contains(cause), "{error}");
    let (_, metrics) = get(&address, "/metrics");
    assert!(metrics.contains("ebpf_cuda_tracer_upload_failing 1\n"), "{metrics}");
    let text = Command::new(env!("CARGO_BIN_EXE_ebpf-cuda-tracer"))
        .args(["status", "--http-address", &address])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("FAILING") && text.contains(cause), "{text}");

    let before = status.calls.recorded;
    uploading.call(500);
    let status =
        status_when(&address, "calls are recorded", |status| status.calls.recorded >= before + 501);
    assert_eq!((dropped(&status), uploads(&status).stored), (0, 0));
    assert_eq!(get(&address, "/healthz").0, 200, "a restart would not help");
    assert_eq!(get(&address, "/readyz").0, 200, "it records");
}

#[test]
fn a_line_break_behind_a_key_keeps_no_segment_from_the_store() {
    for (id, secret) in [("standin-access-key\n", SECRET_KEY), (ACCESS_KEY, "standin-secret-key\n")]
    {
        let uploading = Uploading::new();
        let mut sidecar =
            uploading.sidecar(&[("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]);
        uploading.call(500);
        sidecar.wait_for("begins or ends with a blank or a line break");
        until("stored", || !uploading.objects().is_empty());
        sidecar.stop();
        uploading.assert_whole(&uploading.objects());
    }
}

#[test]
fn a_key_that_no_request_can_bear_is_told_while_calls_are_recorded() {
    let uploading = Uploading::new();
    let mut sidecar = uploading.sidecar(&[
        ("AWS_ACCESS_KEY_ID", "standin\naccess-key"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("SHUTDOWN_TIMEOUT", "2"),
    ]);
    assert_failing_and_recording(&uploading, &mut sidecar, "AWS_ACCESS_KEY_ID has a blank");
    sidecar.terminate();
    let (status, log) = sidecar.end();
    assert!(!status.success(), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("the next start uploads them")), "{log:#?}");
    uploading.assert_whole(&uploading.scene.segments());
    // A start with the right key sends all of it.
    uploading.sidecar_with_keys(&[]).stop();
    assert!(uploading.scene.segments().is_empty());
    uploading.assert_whole(&uploading.objects());
}

/// What `AWS_SHARED_CREDENTIALS_FILE` holds.
fn credentials(id: &str, secret: &str) -> String {
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

/// As a mounted secret is replaced: by another file under its name.
fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn keys_that_are_mended_in_their_file_are_taken_up_without_a_restart() {
    // Before, the file has a key with a blank in it, none at all, or one of another store.
    for (before, cause) in [
        (credentials("standin access-key", SECRET_KEY), "AWS_ACCESS_KEY_ID has a blank"),
        (String::new(), "no credentials"),
        (credentials("other-access-key", SECRET_KEY), "NotSignedUp"),
    ] {
        let uploading = Uploading::new();
        let file = uploading.scene.path("credentials");
        fs::write(&file, before).unwrap();
        let file_name = file.to_str().unwrap();
        let mut sidecar = uploading.sidecar(&[("AWS_SHARED_CREDENTIALS_FILE", file_name)]);
        assert_failing_and_recording(&uploading, &mut sidecar, cause);
        replace(&file, &credentials(ACCESS_KEY, SECRET_KEY));
        sidecar.wait_for("uploads work again");
        sidecar.stop();
        assert!(uploading.scene.segments().is_empty());
        uploading.assert_whole(&uploading.objects());
    }
}

#[test]
fn a_credential_process_that_hangs_is_told_and_uploads_go_on_when_it_is_replaced() {
    let uploading = Uploading::new();
    let file = uploading.scene.path("config");
    let started = uploading.scene.path("started");
    // It says that it has begun, and then nothing for longer than any test.
    let hangs = format!("sh -c \"echo begun >> {}; exec sleep 100000\"", started.display());
    fs::write(&file, format!("[default]\ncredential_process = {hangs}\n")).unwrap();
    let file_name = file.to_str().unwrap();
    let mut sidecar = uploading.sidecar(&[("AWS_CONFIG_FILE", file_name)]);
    assert_failing_and_recording(&uploading, &mut sidecar, "a credential_process of ~/.aws hangs");
    let count = || fs::read_to_string(&started).unwrap().lines().count();
    assert_eq!(count(), 1, "each further one might hang, too");
    replace(&file, &credentials(ACCESS_KEY, SECRET_KEY));
    sidecar.wait_for("uploads work again");
    sidecar.stop();
    assert_eq!(count(), 1);
    assert!(uploading.scene.segments().is_empty());
    uploading.assert_whole(&uploading.objects());
}

#[test]
fn keys_that_are_rotated_in_their_file_are_taken_up_while_running() {
    let uploading = Uploading::new();
    let file = uploading.scene.path("credentials");
    fs::write(&file, credentials(ACCESS_KEY, SECRET_KEY)).unwrap();
    let sidecar = uploading.sidecar(&[("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())]);
    uploading.call(100);
    until("stored with the first keys", || !uploading.objects().is_empty());
    for (id, secret) in [("second-access-key", "second-secret"), (ACCESS_KEY, "third-secret")] {
        // First the file, then the store, as whoever rotates keys does.
        replace(&file, &credentials(id, secret));
        uploading.server.set_keys(id, secret);
        let before = uploading.objects().len();
        uploading.call(100);
        until("stored with the next keys", || uploading.objects().len() > before);
    }
    sidecar.stop();
    assert!(uploading.scene.segments().is_empty());
    uploading.assert_whole(&uploading.objects());
}

/// Calls until far more was stored than may wait, with no more waiting than the first segment and
/// the one behind it.
fn call_beyond_the_limit(uploading: &Uploading) {
    let bytes = || {
        let lengths = uploading.objects().into_iter().map(|path| fs::metadata(path).unwrap().len());
        lengths.sum::<u64>()
    };
    // All of these may be in the first segment.
    uploading.call(1000);
    until("it is closed", || !uploading.scene.segments().is_empty());
    while bytes() < 3 * DIRECTORY_LIMIT {
        let before = uploading.objects().len();
        uploading.call(1000);
        until("segments behind the blocked one are stored", || {
            uploading.objects().len() > before && uploading.scene.segments().len() <= 2
        });
    }
}

#[test]
fn a_segment_that_is_refused_for_ever_holds_up_no_other_and_drops_no_call() {
    for status in [403, 409, 412, 423] {
        let uploading = Uploading::new();
        uploading.server.add_quirk(Quirk::RefusesKeys("_000001.", status));
        let limit = DIRECTORY_LIMIT.to_string();
        let mut sidecar = uploading
            .sidecar_with_keys(&[("TRACE_DIR_LIMIT", &limit), ("TRACE_SEGMENT_SIZE", "64Ki")]);
        let address = sidecar.address();
        call_beyond_the_limit(&uploading);
        let told = status_when(&address, "it is told", |now| uploads(now).blocked_segments == 1);
        let blocked = &uploads(&told).blocked[0];
        assert!(blocked.segment.contains("_000001."), "{blocked:?}");
        assert!(blocked.error.contains(&format!("HTTP {status}")), "{blocked:?}");
        assert_eq!((dropped(&told), uploads(&told).failing), (0, None));
        let (_, metrics) = get(&address, "/metrics");
        assert!(metrics.contains("ebpf_cuda_tracer_upload_blocked_segments 1\n"), "{metrics}");
        sidecar.stop();
        let waiting = uploading.scene.segments();
        assert_eq!(waiting.len(), 1, "{waiting:?}");
        uploading.assert_whole(&[waiting, uploading.objects()].concat());
    }
}

#[test]
fn a_segment_whose_name_is_taken_by_other_content_holds_up_no_other_and_drops_no_call() {
    let uploading = Uploading::new();
    uploading.server.add_quirk(Quirk::WriteOnce(412));
    let limit = DIRECTORY_LIMIT.to_string();
    let mut sidecar =
        uploading.sidecar_with_keys(&[("TRACE_DIR_LIMIT", &limit), ("TRACE_SEGMENT_SIZE", "64Ki")]);
    let address = sidecar.address();
    // Its name is known while it is written.
    let first = fs::read_dir(uploading.scene.traces())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find_map(|name| name.strip_suffix(".part").map(str::to_owned))
        .unwrap();
    let taken = uploading.stored().join(&first);
    fs::create_dir_all(uploading.stored()).unwrap();
    fs::write(&taken, "of somebody else\n").unwrap();
    call_beyond_the_limit(&uploading);
    let told = status_when(&address, "it is told", |now| uploads(now).blocked_segments == 1);
    let blocked = &uploads(&told).blocked[0];
    assert_eq!(blocked.segment, first);
    assert!(blocked.error.contains("is there already, with other content"), "{blocked:?}");
    sidecar.stop();
    assert_eq!(fs::read_to_string(&taken).unwrap(), "of somebody else\n");
    let waiting = uploading.scene.segments();
    assert_eq!(waiting, [uploading.scene.traces().join(&first)]);
    let mut stored = uploading.objects();
    stored.retain(|path| *path != taken);
    uploading.assert_whole(&[waiting, stored].concat());
}

#[test]
fn a_segment_that_was_stored_before_a_kill_is_not_sent_again_where_nothing_can_be_replaced() {
    for status in [403, 409, 412] {
        let uploading = Uploading::new();
        uploading.server.faults().set(Fault::HoldAnswer).unwrap();
        let first = uploading.sidecar_with_keys(&[]);
        uploading.call(500);
        // And cuInit: what is not written yet would be lost with it.
        uploading.scene.wait_for_lines(501);
        until("the store has it, and has not said so", || !uploading.objects().is_empty());
        let object = uploading.objects()[0].clone();
        let content = fs::read(&object).unwrap();
        first.kill();
        let left = uploading.scene.traces().join(object.file_name().unwrap());
        assert_eq!(fs::read(&left).unwrap(), content, "killed before the deletion");

        uploading.server.add_quirk(Quirk::WriteOnce(status));
        uploading.server.faults().clear().unwrap();
        let mut second = uploading.sidecar_with_keys(&[]);
        second.wait_for("was there already, with the same content");
        uploading.call(500);
        second.stop();
        assert!(uploading.scene.segments().is_empty());
        assert_eq!(fs::read(&object).unwrap(), content);
        let name = object.file_name().unwrap().to_str().unwrap();
        assert_eq!(uploading.server.put_count(&format!("{PREFIX}/{name}")), 1);
        let lines = check(&uploading.objects()).functions["cuCtxSynchronize"].lines;
        assert_eq!(lines, 1000);
    }
}

#[test]
fn a_host_without_a_name_uploads_all_the_same() {
    let uploading = Uploading::new();
    let endpoint = uploading.server.endpoint();
    let mut command = Command::new("unshare");
    let start = "echo > /proc/sys/kernel/hostname && test -z \"$(cat /proc/sys/kernel/hostname)\" \
                 && exec \"$0\"";
    command.args(["--uts", "sh", "-c", start, env!("CARGO_BIN_EXE_ebpf-cuda-tracer")]);
    uploading.scene.configure(&mut command).envs([
        ("UPLOAD_ENABLED", "true"),
        ("S3_BUCKET", BUCKET),
        ("S3_ENDPOINT", &endpoint),
        ("S3_PREFIX", "fleet/{node}/{pod}/{host}/"),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ]);
    for variable in ["NODE_NAME", "POD_NAME", "HOSTNAME"] {
        command.env_remove(variable);
    }
    let sidecar = Sidecar::start(command);
    uploading.call(500);
    sidecar.stop();
    assert!(uploading.scene.segments().is_empty());
    let keys: Vec<String> = uploading
        .server
        .requests()
        .into_iter()
        .filter(|request| request.method == "PUT")
        .map(|request| request.key)
        .collect();
    assert!(!keys.is_empty() && keys.iter().all(|key| !key.contains("//")), "{keys:?}");
    let bucket = uploading.scene.path("s3").join(BUCKET);
    let files: Vec<PathBuf> = keys.iter().map(|key| bucket.join(key)).collect();
    uploading.assert_whole(&files);
}
