//! Secrets that people put where they should not: no output and no error repeats them.

use crate::{
    command::sidecar,
    scripted::{Reply, Scripted},
};

const SECRETS: [&str; 4] =
    ["planted-secret-key", "planted-session", "pl4nted", "hf_plantedplantedplanted"];

#[test]
fn no_error_repeats_keys_or_the_password_of_an_address() {
    // A store that repeats what it was sent, as some do in debugging.
    let server = Scripted::start(|request| {
        let sent = request.headers.get("authorization").cloned().unwrap_or_default();
        Reply::error(403, "AccessDenied", &sent)
    });
    let address = server.endpoint.replace("http://", "http://me:pl4nted@");
    let keys = [
        ("S3_BUCKET", "traces"),
        ("AWS_ACCESS_KEY_ID", "AKIAPLANTEDPLANTED12"),
        ("AWS_SECRET_ACCESS_KEY", "planted-secret-key"),
        ("AWS_SESSION_TOKEN", "planted-session"),
        ("HF_TOKEN", "hf_plantedplantedplanted"),
    ];
    for door in [
        ("S3_ENDPOINT", server.endpoint.as_str()),
        ("S3_ENDPOINT", &address),
        ("AWS_ENDPOINT_URL", &address),
        ("S3_ENDPOINT", "http://me:pl4nted@127.0.0.1:1"),
        ("AWS_ENDPOINT_URL_S3", "http://me:pl4nted@127.0.0.1:1"),
        ("HTTP_ADDRESS", "http://me:pl4nted@127.0.0.1:1"),
    ] {
        for task in [&["check-s3"][..], &["fetch", "--out", "/dev/null/no"]] {
            let variables = [&keys[..], &[door]].concat();
            let ran = sidecar(task, &variables);
            assert_ne!(ran.code, 0, "{door:?}, {task:?}");
            for secret in SECRETS {
                let said = format!("{}{}", ran.stdout, ran.stderr);
                assert!(!said.contains(secret), "{door:?}, {task:?} says {secret}: {said}");
            }
        }
    }
}
