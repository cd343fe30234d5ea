//! Secrets where people put them, with the daemon at work and its log as loud as it gets: nothing that
//! it says, serves, writes or stores has one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testbed::{libraries::Driver, s3::Server};

use crate::{
    harness::{Scene, Waiting, run},
    http::{get, status_when},
};

const KEY_ID: &str = "AKIAPLANTEDPLANTED12";
const SECRET_KEY: &str = "planted-secret-key";

const SECRETS: [&str; 4] = [SECRET_KEY, "planted-session", "pl4nted", "hf_plantedplantedplanted"];

/// Every file below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    assert_without(what, text, &SECRETS);
    // No secret, but nobody's concern either.
    assert_without(what, text, &[KEY_ID]);
}

#[track_caller]
fn assert_without(what: &str, text: &str, secrets: &[&str]) {
    for &secret in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{what} has {secret}");
    }
}

#[test]
fn no_log_status_metric_trace_or_object_of_a_running_sidecar_has_a_planted_secret() {
    let credentials = format!(
        "[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n\
         aws_session_token = planted-session\n"
    );
    let told = format!(
        "{{\"Version\":1,\"AccessKeyId\":\"{KEY_ID}\",\"SecretAccessKey\":\"{SECRET_KEY}\",\
         \"SessionToken\":\"planted-session\"}}"
    );
    for way in ["variables", "a file", "a process"] {
        let scene = Scene::new(Driver::R550);
        fs::create_dir(scene.path("s3")).unwrap();
        let server = Server::start(scene.path("s3"), "traces").unwrap();
        server.set_keys(KEY_ID, SECRET_KEY);
        let file = scene.path("credentials");
        fs::write(&file, if way == "a file" { &credentials } else { "" }).unwrap();
        let (config, answer) = (scene.path("config"), scene.path("answer"));
        fs::write(&answer, &told).unwrap();
        let process =
            format!("[default]\ncredential_process = cat {}; : pl4nted\n", answer.display());
        fs::write(&config, if way == "a process" { &process } else { "" }).unwrap();
        let endpoint = server.endpoint();
        let by_environment = |value: &'static str| if way == "variables" { value } else { "" };
        let mut sidecar = scene.sidecar(&[
            ("RUST_LOG", "trace"),
            ("UPLOAD_ENABLED", "true"),
            ("UPLOAD_INTERVAL", "0.3"),
            ("TRACE_INTERVAL", "0.2"),
            ("S3_BUCKET", "traces"),
            ("S3_ENDPOINT", &endpoint),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", by_environment(KEY_ID)),
            ("AWS_SECRET_ACCESS_KEY", by_environment(SECRET_KEY)),
            ("AWS_SESSION_TOKEN", by_environment("planted-session")),
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
            ("HF_TOKEN", "hf_plantedplantedplanted"),
        ]);
        let address = sidecar.address();
        let mut target = scene.caller(&[
            "--function",
            "cuCtxSynchronize",
            "--calls",
            "100",
            "--wait-stdin",
            "--",
            "--api-key",
            "pl4nted",
            "--hf-token=hf_plantedplantedplanted",
            "https://me:pl4nted@proxy:3128/",
        ]);
        target.env("HF_TOKEN", "hf_plantedplantedplanted");
        target.env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let target = Waiting::start(target);
        // Of one that has ended by now the command line could not be told.
        status_when(&address, "its command line is told", |status| {
            status.processes.iter().any(|process| process.caller.command.is_some())
        });
        target.go_and_end();
        status_when(&address, "its calls are stored", |status| {
            status.uploads.clone().unwrap().uploads.stored > 0
        });
        let (_, status) = get(&address, "/status");
        assert!(status.contains("--api-key"), "the command line is told: {status}");
        assert_clean("/status", &status);
        assert_clean("/metrics", &get(&address, "/metrics").1);
        // Refused keys are told of, too.
        server.set_keys("another", "another");
        run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
        status_when(&address, "the keys are refused", |status| {
            status.uploads.clone().unwrap().uploads.failing.is_some()
        });
        assert_clean("/status", &get(&address, "/status").1);
        server.set_keys(KEY_ID, SECRET_KEY);
        sidecar.wait_for("uploads work again");
        sidecar.terminate();
        let (ended, log) = sidecar.end();
        assert!(ended.success(), "{:#?}", &log[log.len().saturating_sub(5)..]);
        let log = log.join("\n");
        assert!(log.contains("TRACE"), "its log is as loud as it gets");
        // The AWS SDK names the key that it signs with, from the level of debugging on.
        assert_without(&format!("the log, with keys by {way},"), &log, &SECRETS);

        // All of the trace is there: what stays behind would be in the directory.
        assert!(scene.segments().is_empty());
        let objects = files_below(&scene.path("s3"));
        let texts = objects.iter().map(|path| {
            let content = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            format!("{}\n{content}", path.display())
        });
        let text: String = texts.collect();
        assert!(text.contains("cuCtxSynchronize") && text.contains("--api-key"), "{objects:?}");
        assert_clean("the trace", &text);
    }
}
