//! What building the eBPF program takes beyond stable Rust, and how to get it.

use std::{env, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, bail};
use xshell::{Cmd, Shell, cmd};

use crate::pins;

/// Names the toolchain; `sidecar/build.rs` reads it too.
pub(crate) const VARIABLE: &str = "EBPF_TOOLCHAIN";

/// What is found on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) rustup: bool,
    pub(crate) nightly: Nightly,
    pub(crate) bpf_linker: Option<String>,
}

/// The compiler that was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Nightly {
    #[default]
    Absent,
    /// A toolchain of the plain name `nightly`, which is another compiler than the pinned one.
    Other { rustc: String },
    Chosen {
        /// As rustup names it.
        name: String,
        /// Its `rustc --version`.
        rustc: String,
        rust_src: bool,
        clippy: bool,
    },
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
    Found {
        rustup: read(cmd!(sh, "rustup --version")).is_some(),
        nightly: Nightly::look(sh),
        bpf_linker: read(cmd!(sh, "bpf-linker --version")),
    }
}

impl Nightly {
    fn look(sh: &Shell) -> Self {
        let rustc = |toolchain: &str| read(cmd!(sh, "rustup run {toolchain} rustc --version"));
        let (name, rustc) =
            match choose(env::var(VARIABLE).ok().filter(|name| !name.is_empty()), rustc) {
                Ok(chosen) => chosen,
                Err(none) => return none,
            };
        let sysroot = read(cmd!(sh, "rustup run {name} rustc --print sysroot"));
        let rust_src = sysroot.is_some_and(|sysroot| {
            Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
        });
        let clippy = read(cmd!(sh, "rustup run {name} cargo clippy --version")).is_some();
        Self::Chosen { name, rustc, rust_src, clippy }
    }
}

/// The toolchain that `EBPF_TOOLCHAIN` names; or the pinned one; or else the one that is called
/// `nightly`, if it is the same compiler. Returns its name and version; `.ci/run` does the same.
fn choose(
    named: Option<String>,
    rustc: impl Fn(&str) -> Option<String>,
) -> Result<(String, String), Nightly> {
    let is_named = named.is_some();
    let name = named.unwrap_or_else(|| pins::NIGHTLY.to_owned());
    if let Some(version) = rustc(&name) {
        return Ok((name, version));
    }
    if is_named {
        return Err(Nightly::Absent);
    }
    match rustc("nightly") {
        Some(version) if version == pins::NIGHTLY_RUSTC => Ok(("nightly".to_owned(), version)),
        Some(rustc) => Err(Nightly::Other { rustc }),
        None => Err(Nightly::Absent),
    }
}

fn read(command: Cmd<'_>) -> Option<String> {
    command.quiet().ignore_stderr().read().ok()
}

/// Returns rustup's name of the toolchain, or fails with everything that is missing at once, each
/// with the command that brings it.
pub(crate) fn require(sh: &Shell, purpose: For) -> Result<String> {
    let found = look(sh);
    let mut pieces = pieces(&found);
    if purpose == For::Build {
        pieces.retain(|piece| piece.name != CLIPPY);
    }
    if let Some(complaint) = complaint(&pieces) {
        bail!(complaint);
    }
    match found.nightly {
        Nightly::Chosen { name, .. } => Ok(name),
        Nightly::Absent | Nightly::Other { .. } => None.context("there is no nightly Rust"),
    }
}

const CLIPPY: &str = "clippy of the nightly";

pub(crate) fn pieces(found: &Found) -> Vec<Piece> {
    let Found { rustup, nightly, bpf_linker } = found;
    let wanted = pins::BPF_LINKER;
    let bpf_linker = match bpf_linker.as_deref() {
        None => Err("not installed".to_owned()),
        // `bpf-linker 0.10.4`, with more behind it in some builds.
        Some(found) if found.split_whitespace().nth(1) == Some(wanted) => Ok(found.to_owned()),
        Some(found) => Err(format!("found {found}, but {wanted} is needed")),
    };
    let mut pieces = vec![Piece {
        name: "rustup",
        purpose: "chooses the toolchain",
        state: installed(*rustup),
        remedy: "install it as https://rustup.rs says".to_owned(),
    }];
    pieces.extend(nightly.pieces());
    pieces.push(Piece {
        name: "bpf-linker",
        purpose: "links the program into one object",
        state: bpf_linker,
        remedy: format!("cargo install bpf-linker --version {wanted} --locked"),
    });
    pieces
}

impl Nightly {
    /// What is absent as a whole is one piece: one command brings all of it.
    fn pieces(&self) -> Vec<Piece> {
        let compiler = |state| Piece {
            name: "nightly Rust",
            purpose: "compiles for the BPF target",
            state,
            remedy: format!(
                "rustup toolchain install {} --profile minimal --component rust-src,clippy,rustfmt",
                pins::NIGHTLY
            ),
        };
        match self {
            Self::Absent => vec![compiler(Err("not installed".to_owned()))],
            Self::Other { rustc } => vec![compiler(Err(format!(
                "`nightly` is {rustc}, but {} is needed",
                pins::NIGHTLY_RUSTC
            )))],
            Self::Chosen { name, rustc, rust_src, clippy } => vec![
                compiler(Ok(if rustc == pins::NIGHTLY_RUSTC {
                    format!("{rustc}, as `{name}`")
                } else {
                    // Only who names a toolchain gets here.
                    let pinned = pins::NIGHTLY_RUSTC;
                    format!("{rustc}, as `{name}`; the committed object was built by {pinned}")
                })),
                Piece {
                    name: "rust-src of the nightly",
                    purpose: "is the source of `core`, which has no BPF build to download",
                    state: installed(*rust_src),
                    remedy: format!("rustup component add rust-src --toolchain {name}"),
                },
                Piece {
                    name: CLIPPY,
                    purpose: "checks the eBPF program for mistakes",
                    state: installed(*clippy),
                    remedy: format!("rustup component add clippy --toolchain {name}"),
                },
            ],
        }
    }
}

fn installed(is_there: bool) -> Result<String, String> {
    if is_there { Ok("installed".to_owned()) } else { Err("not installed".to_owned()) }
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
#[path = "toolchain/tests.rs"]
mod tests;
