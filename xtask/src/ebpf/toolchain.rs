//! What building the eBPF program takes beyond stable Rust, and how to get it.

use std::{fmt::Write as _, path::Path};

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::pins;

/// What is found on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) rustup: bool,
    /// Its `rustc --version`.
    pub(crate) nightly: Option<String>,
    pub(crate) rust_src: bool,
    pub(crate) clippy: bool,
    pub(crate) bpf_linker: Option<String>,
}

/// One part of the toolchain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) name: &'static str,
    /// Goes on from "it".
    pub(crate) purpose: &'static str,
    /// What was found, or what is wrong.
    pub(crate) state: Result<String, String>,
    /// The command that brings it.
    pub(crate) remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Build,
    Check,
}

pub(crate) fn look(sh: &Shell) -> Found {
    let nightly = pins::NIGHTLY;
    let read = |command: xshell::Cmd<'_>| command.quiet().ignore_stderr().read().ok();
    let sysroot = read(cmd!(sh, "rustup run {nightly} rustc --print sysroot"));
    Found {
        rustup: read(cmd!(sh, "rustup --version")).is_some(),
        nightly: read(cmd!(sh, "rustup run {nightly} rustc --version")),
        rust_src: sysroot.is_some_and(|sysroot| {
            Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
        }),
        clippy: read(cmd!(sh, "rustup run {nightly} cargo clippy --version")).is_some(),
        bpf_linker: read(cmd!(sh, "bpf-linker --version")),
    }
}

/// Fails with everything that is missing at once, each with the command that brings it.
pub(crate) fn require(sh: &Shell, purpose: For) -> Result<()> {
    let mut pieces = pieces(&look(sh));
    if purpose == For::Build {
        pieces.retain(|piece| piece.name != CLIPPY);
    }
    match complaint(&pieces) {
        None => Ok(()),
        Some(complaint) => bail!(complaint),
    }
}

const CLIPPY: &str = "clippy of the nightly";

pub(crate) fn pieces(found: &Found) -> Vec<Piece> {
    let Found { rustup, nightly, rust_src, clippy, bpf_linker } = found;
    let toolchain = pins::NIGHTLY;
    let wanted = pins::BPF_LINKER;
    let there = |there: bool| {
        if there { Ok("installed".to_owned()) } else { Err("not installed".to_owned()) }
    };
    let nightly = match nightly.as_deref() {
        None => Err("not installed".to_owned()),
        Some(found) if found == pins::NIGHTLY_RUSTC => Ok(found.to_owned()),
        Some(found) => {
            Ok(format!("{found}; the committed object was built by {}", pins::NIGHTLY_RUSTC))
        }
    };
    let bpf_linker = match bpf_linker.as_deref() {
        None => Err("not installed".to_owned()),
        // `bpf-linker 0.10.4`, with more behind it in some builds.
        Some(found) if found.split_whitespace().nth(1) == Some(wanted) => Ok(found.to_owned()),
        Some(found) => Err(format!("found {found}, but {wanted} is needed")),
    };
    vec![
        Piece {
            name: "rustup",
            purpose: "chooses the toolchain",
            state: there(*rustup),
            remedy: "install it as https://rustup.rs says".to_owned(),
        },
        Piece {
            name: "nightly Rust",
            purpose: "compiles for the BPF target",
            state: nightly,
            remedy: format!(
                "rustup toolchain install {dated} && \
                 rustup toolchain link {toolchain} \"$(rustup run {dated} rustc --print sysroot)\"",
                dated = pins::NIGHTLY_DATED
            ),
        },
        Piece {
            name: "rust-src of the nightly",
            purpose: "is the source of `core`, which has no BPF build to download",
            state: there(*rust_src),
            remedy: format!("rustup component add rust-src --toolchain {toolchain}"),
        },
        Piece {
            name: CLIPPY,
            purpose: "checks the eBPF program for mistakes",
            state: there(*clippy),
            remedy: format!("rustup component add clippy --toolchain {toolchain}"),
        },
        Piece {
            name: "bpf-linker",
            purpose: "links the program into one object",
            state: bpf_linker,
            remedy: format!("cargo install bpf-linker --version {wanted} --locked"),
        },
    ]
}

fn complaint(pieces: &[Piece]) -> Option<String> {
    let missing: Vec<_> = pieces
        .iter()
        .filter_map(|piece| piece.state.as_ref().err().map(|problem| (piece, problem)))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let mut text =
        "the eBPF program cannot be built here yet (nothing else needs these):".to_owned();
    for (Piece { name, purpose, remedy, .. }, problem) in missing {
        let _: std::fmt::Result = write!(text, "\n  {name}: {problem}; it {purpose}\n    {remedy}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Found {
        Found {
            rustup: true,
            nightly: Some(pins::NIGHTLY_RUSTC.to_owned()),
            rust_src: true,
            clippy: true,
            bpf_linker: Some(format!("bpf-linker {}", pins::BPF_LINKER)),
        }
    }

    #[test]
    fn complete_toolchain_has_no_complaint() {
        assert_eq!(complaint(&pieces(&complete())), None);
    }

    #[test]
    fn bare_machine_is_told_everything_at_once() {
        let found = Found { rustup: true, ..Found::default() };
        insta::assert_snapshot!(complaint(&pieces(&found)).unwrap(), @r#"
        the eBPF program cannot be built here yet (nothing else needs these):
          nightly Rust: not installed; it compiles for the BPF target
            rustup toolchain install nightly-2026-05-20 && rustup toolchain link nightly "$(rustup run nightly-2026-05-20 rustc --print sysroot)"
          rust-src of the nightly: not installed; it is the source of `core`, which has no BPF build to download
            rustup component add rust-src --toolchain nightly
          clippy of the nightly: not installed; it checks the eBPF program for mistakes
            rustup component add clippy --toolchain nightly
          bpf-linker: not installed; it links the program into one object
            cargo install bpf-linker --version 0.10.4 --locked
        "#);
    }

    #[test]
    fn another_linker_is_not_the_linker() {
        let found = Found { bpf_linker: Some("bpf-linker 0.10.40".to_owned()), ..complete() };
        let complaint = complaint(&pieces(&found)).unwrap();
        assert!(
            complaint.contains("found bpf-linker 0.10.40, but 0.10.4 is needed"),
            "{complaint}"
        );
        assert!(!complaint.contains("rust-src"), "{complaint}");
    }
}
