//! Without its capabilities the sidecar says what is missing, and leaves nothing behind.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
};

use crate::command::{binary, clean, run};

const NOBODY: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn kernel() -> (u32, u32) {
    let release = rustix::system::uname().release().to_str().unwrap().to_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn without_capabilities_each_is_named_with_its_purpose_and_nothing_is_created() {
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o755);
    // Where the tests are built may be closed to others.
    let program = directory.path().join("sidecar");
    fs::copy(binary(), &program).unwrap();
    let traces = directory.path().join("traces");
    fs::create_dir(&traces).unwrap();
    set_mode(&traces, 0o777);
    let mut command = clean(&program);
    command.env("TRACE_DIR", &traces).env("UPLOAD_ENABLED", "false");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ran = run(command);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for expected in [
        "this machine cannot trace yet",
        "CAP_SYS_PTRACE is missing, needed to open libraries",
        "CAP_BPF is missing, needed to create eBPF maps",
        "CAP_PERFMON is missing, needed to load tracing programs",
        "securityContext.capabilities",
    ] {
        assert!(ran.stderr.contains(expected), "no {expected:?} in {}", ran.stderr);
    }
    // Which kernels need it is tested beside the code.
    assert_eq!(
        ran.stderr.contains("CAP_SYS_ADMIN is missing, needed to attach uprobes"),
        kernel() < (6, 6)
    );
    assert_eq!(fs::read_dir(traces).unwrap().count(), 0);
}
