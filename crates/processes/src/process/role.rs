//! What a process is in a vLLM server: by its title, its command line, or what it does.
//!
//! vLLM titles a process `PREFIX::Kind` with `_` and a label and number for each dimension that has
//! more than one rank: `VLLM::EngineCore_DP0`, `VLLM::Worker_PP0_TP1_EP1`, `VLLM::APIServer_0`.
//! A server with one API process leaves that process its command line. Titles need a Python module
//! that may be missing, and come after the first calls, so what a process does counts too.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{Identity, Known, mapped_files};
use crate::time_limit;

/// The kernel cuts a comm to so many bytes.
const COMM_BYTES: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    kind: Kind,
    /// Which of several it is: `tp`, `pp`, `dp` and so on.
    pub ranks: BTreeMap<String, u32>,
    pub by: RoleBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ApiServer,
    EngineCore,
    Worker,
}

/// What told the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleBy {
    Title,
    Command,
    /// It launches kernels, and is related to others or has code mapped so that it must be.
    Behaviour,
}

impl RoleBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Command => "command",
            Self::Behaviour => "behaviour",
        }
    }
}

impl Role {
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::ApiServer => "api_server",
            Kind::EngineCore => "engine_core",
            Kind::Worker => "worker",
        }
    }

    /// `None` if nothing tells.
    pub(super) fn of(
        pid: u32,
        known: &Known,
        parent: Option<&Known>,
        grandparent: Option<&Known>,
        maps_vllm: impl Fn(u32) -> bool,
    ) -> Option<Self> {
        if let Some((kind, ranks)) = of_title(&known.identity) {
            return Some(Self { kind, ranks, by: RoleBy::Title });
        }
        let without_ranks = |kind, by| Some(Self { kind, ranks: BTreeMap::new(), by });
        let command = known.identity.command.as_deref();
        // A process that was forked has the command line of its parent until it is titled.
        let is_own = parent.is_none_or(|parent| parent.identity.command.as_deref() != command);
        if is_own && command.is_some_and(runs_api_server) {
            return without_ranks(Kind::ApiServer, RoleBy::Command);
        }
        if !known.has_launched {
            return None;
        }
        let is = |known: Option<&Known>, kind| {
            known.and_then(|known| known.role.as_ref()).is_some_and(|role| role.kind == kind)
        };
        // An engine core computes itself or has workers that do, never both.
        let parent_computes = parent.is_some_and(|parent| parent.has_launched);
        let kind = if is(parent, Kind::ApiServer) {
            Kind::EngineCore
        } else if parent_computes {
            return None;
        } else if is(parent, Kind::EngineCore) || is(grandparent, Kind::ApiServer) {
            Kind::Worker
        } else if maps_vllm(pid) && !known.parent.is_some_and(&maps_vllm) {
            // `LLM(...)` without processes of its own.
            Kind::EngineCore
        } else {
            return None;
        };
        without_ranks(kind, RoleBy::Behaviour)
    }
}

/// The whole title is in place of the command line; comm is set with it, but cut.
fn of_title(identity: &Identity) -> Option<(Kind, BTreeMap<String, u32>)> {
    let whole = identity.command.as_deref().and_then(parse_title);
    whole.or_else(|| {
        let comm = identity.comm.as_deref()?;
        if comm.len() < COMM_BYTES { parse_title(comm) } else { parse_cut_title(comm) }
    })
}

fn parse_title(title: &str) -> Option<(Kind, BTreeMap<String, u32>)> {
    let (prefix, name) = title.split_once("::")?;
    if prefix.is_empty() || title.contains(|letter: char| letter.is_whitespace() || letter == '/') {
        return None;
    }
    let mut parts = name.split('_');
    let kind = match parts.next()? {
        "APIServer" => Kind::ApiServer,
        // The latter two until vLLM 0.10.
        "EngineCore" | "EngineCoreProc" | "DPEngineCore" => Kind::EngineCore,
        "Worker" => Kind::Worker,
        _ => return None,
    };
    let ranks: BTreeMap<String, u32> =
        parts.map(|part| parse_rank(kind, part)).collect::<Option<_>>()?;
    // VLLM_PROCESS_NAME_PREFIX may say anything, but many programs have workers.
    let is_sure = kind != Kind::Worker || !ranks.is_empty() || prefix == "VLLM";
    is_sure.then_some((kind, ranks))
}

/// Of a title that was cut, the last number is not sure and the last word may lack letters.
fn parse_cut_title(comm: &str) -> Option<(Kind, BTreeMap<String, u32>)> {
    match comm.rsplit_once('_') {
        Some((sure, _)) => parse_title(sure),
        None if comm.ends_with("::EngineCor") => parse_title(&format!("{comm}e")),
        None => parse_title(comm),
    }
}

/// `TP1`, or a number alone, which means what it can only mean.
fn parse_rank(kind: Kind, part: &str) -> Option<(String, u32)> {
    let digits = part.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
    let label = &part[..part.len() - digits.len()];
    let label = match (label, kind) {
        ("", Kind::ApiServer) => "server".to_owned(),
        ("", Kind::EngineCore) => "dp".to_owned(),
        ("", Kind::Worker) => "rank".to_owned(),
        (label, _) => label.to_ascii_lowercase(),
    };
    Some((label, digits.parse().ok()?))
}

/// Python or the script `vllm`, and then vLLM's entry point; not a shell that is told to start it.
fn runs_api_server(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let name = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let Some(program) = words.next().map(name) else { return false };
    if program == "vllm" {
        return words.next() == Some("serve");
    }
    if !program.starts_with("python") {
        return false;
    }
    while let Some(word) = words.next() {
        match word {
            "-m" => {
                return match words.next() {
                    Some("vllm.entrypoints.openai.api_server" | "vllm.entrypoints.api_server") => {
                        true
                    }
                    Some("vllm" | "vllm.entrypoints.cli.main") => words.next() == Some("serve"),
                    _ => false,
                };
            }
            "-c" => return false,
            // These have a value.
            "-X" | "-W" => drop(words.next()),
            option if option.starts_with('-') => {}
            script => return name(script) == "vllm" && words.next() == Some("serve"),
        }
    }
    false
}

/// Whether compiled code of vLLM is in use: `.../vllm/_C.abi3.so` and its like.
pub(super) fn maps_vllm(pid: u32, limit: Duration) -> bool {
    let is_mapped = move || mapped_files(pid).iter().any(|path| is_of_vllm(path));
    time_limit::run(pid, "look at mappings", limit, is_mapped).unwrap_or(false)
}

fn is_of_vllm(path: &Path) -> bool {
    let directory = path.parent().and_then(Path::file_name);
    directory.is_some_and(|name| name == "vllm")
        && path.extension().is_some_and(|extension| extension == "so")
}

#[cfg(test)]
mod tests;
