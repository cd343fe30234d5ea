//! What a load test has left: when its requests were sent, and when their tokens came.
//!
//! Four programs write such files; `docs/analysis.md` says from where each layout is known, and what
//! it does not tell. A file is told by its content. It comes from elsewhere: it is read up to a size,
//! and what does not fit is named, not guessed.

mod formats;

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use trace::segment_name::SegmentName;

/// A test of ten thousand requests with a thousand tokens each has less.
const MAX_BYTES: u64 = 128 << 20;

/// Of a directory: names of results, and as many as one takes for one comparison.
const EXTENSIONS: [&str; 2] = [".json", ".jsonl"];
const MAX_FILES: usize = 256;

/// No test has more; what is beyond is named.
const MAX_REQUESTS: usize = 1_000_000;

/// A token has the number of its step: more would not be one request.
const MAX_TOKENS: u32 = 1 << 20;

/// Times since 1970, or since the start of a machine, that can be subtracted.
const MAX_TIME_NS: f64 = 4.0e18;

/// One file, or why it cannot be used.
#[derive(Debug)]
pub(crate) struct Load {
    pub path: PathBuf,
    pub content: Result<Content, String>,
}

#[derive(Debug, PartialEq)]
pub struct Content {
    pub format: Format,
    pub clock: Clock,
    /// When the file was written, as the program says it: local time to the second.
    pub written: Option<String>,
    pub requests: Vec<Request>,
    /// Requests that failed before their first token, or whose answer came in one piece.
    pub without_tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Loadtest,
    VllmBench,
    GuideLlm,
    AiPerf,
}

/// What the times of a file count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// 1970, by the clock of the client.
    Unix,
    /// The client's monotonic clock, which is that of the trace only on the same machine.
    Monotonic,
}

/// One request that got a token at least.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// From 1, as the file has them.
    pub index: u64,
    pub id: Option<String>,
    pub sent_ns: i64,
    /// Number of the token from 0, and when it came; in order, and not always all tokens.
    pub arrivals: Vec<(u32, i64)>,
    /// When the answer was over, where that is told.
    pub ended_ns: Option<i64>,
    /// As the server counted.
    pub tokens: Option<u32>,
    /// It ended by its length: the engine knew beforehand.
    pub ends_by_length: bool,
    /// In no figure, but it was there.
    pub is_warmup: bool,
    /// Of tokens between the known ones nothing is told.
    pub is_sparse: bool,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loadtest => "loadtest",
            Self::VllmBench => "vllm bench serve",
            Self::GuideLlm => "GuideLLM",
            Self::AiPerf => "AIPerf",
        }
    }
}

impl Load {
    /// Of each path; of a directory every result in it. An error is a path that cannot be read, a
    /// directory without a result, or that none of the files is one; a bad one beside a good one is
    /// named in the answer.
    pub(in crate::questions) fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut loads = Vec::new();
        for path in paths {
            if path.is_dir() {
                loads.extend(Self::in_directory(path)?);
            } else {
                loads.push(Self::read(path)?);
            }
        }
        let mut not_results = loads.iter().map(Self::no_result);
        if let Some(Some(first)) = not_results.next()
            && not_results.all(|other| other.is_some())
        {
            bail!("cannot use {} as a load test: it {first}", loads[0].path.display());
        }
        Ok(loads)
    }

    /// Why it is no result at all; one that contradicts itself is one.
    fn no_result(&self) -> Option<&str> {
        let problem = self.content.as_ref().err()?;
        (problem.starts_with(formats::NO_RESULT) || problem == formats::EMPTY).then_some(problem)
    }

    fn in_directory(directory: &Path) -> Result<Vec<Self>> {
        let cannot = || format!("cannot read {}", directory.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let is_named = EXTENSIONS.iter().any(|extension| name.ends_with(extension));
            if is_named && SegmentName::parse(&name).is_none() && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        ensure!(
            files.len() <= MAX_FILES,
            "{} has more than {MAX_FILES} files: choose by --load FILE",
            directory.display()
        );
        let mut loads = Vec::new();
        for file in files {
            let load = Self::read(&file)?;
            // Reports lie beside results; a result that is damaged is named.
            if load.content.as_ref().err().is_none_or(|problem| problem != formats::OTHER) {
                loads.push(load);
            }
        }
        ensure!(
            loads.iter().any(|load| load.content.is_ok()),
            "no result of a load test is in {}: give one by --load FILE",
            directory.display()
        );
        Ok(loads)
    }

    /// Which program has written it, if it is a result.
    pub(crate) fn program(&self) -> Option<&'static str> {
        self.content.as_ref().ok().map(|content| content.format.name())
    }

    /// An error is a file that cannot be opened; what is wrong inside stands in the load.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let mut bytes = Vec::new();
        let file = File::open(path).with_context(cannot)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(cannot)?;
        let content = if bytes.len() as u64 > MAX_BYTES {
            Err(format!("is larger than {} MiB", MAX_BYTES >> 20))
        } else {
            parse(&bytes)
        };
        Ok(Self { path: path.to_owned(), content })
    }
}

/// The load test that these bytes are the result of.
pub fn parse(bytes: &[u8]) -> Result<Content, String> {
    let content = formats::parse(bytes)?;
    if content.requests.len() > MAX_REQUESTS {
        return Err(format!("has more than {MAX_REQUESTS} requests"));
    }
    for request in &content.requests {
        check(request).map_err(|wrong| format!("request {}: {wrong}", request.index))?;
    }
    if content.requests.is_empty() {
        return Err("has no request with a token time".to_owned());
    }
    Ok(content)
}

/// Tokens of a request come one after the other, and after it was sent.
fn check(request: &Request) -> Result<(), String> {
    let mut latest = (None, request.sent_ns);
    for &(token, at) in &request.arrivals {
        if token >= MAX_TOKENS {
            return Err(format!("has more than {MAX_TOKENS} tokens"));
        }
        if latest.0.is_some_and(|before| before >= token) || at < latest.1 {
            return Err("its tokens are not in the order of their times".to_owned());
        }
        latest = (Some(token), at);
    }
    if request.arrivals.is_empty() {
        return Err("has no token time".to_owned());
    }
    Ok(())
}

/// A time, or a length of one, in nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_TIME_NS")]
fn nanoseconds(value: f64, unit_ns: f64) -> Result<i64, String> {
    let ns = value * unit_ns;
    if ns.is_finite() && (0.0..MAX_TIME_NS).contains(&ns) {
        Ok(ns.round() as i64)
    } else {
        Err(format!("{value:?} is no time"))
    }
}

#[cfg(test)]
mod tests;
