//! `ebpf` where its toolchain is missing.

use crate::{stderr, xtask};

#[test]
fn missing_toolchain_is_named_before_anything_runs() {
    let empty = tempfile::tempdir().unwrap();
    for task in ["build", "check"] {
        let output = xtask().args(["ebpf", task]).env("PATH", empty.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = stderr(&output);
        for command in [
            "rustup toolchain install nightly-2026-05-20 --profile minimal --component rust-src,clippy",
            "cargo install bpf-linker --version 0.10.4 --locked",
        ] {
            assert!(error.contains(command), "no `{command}` in:\n{error}");
        }
        assert!(!error.contains("$ cargo"), "a command ran:\n{error}");
    }
}
