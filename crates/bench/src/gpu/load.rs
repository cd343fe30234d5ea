//! The load: prompts that no run has sent before, by the project's own load test.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

/// Words of a prompt.
const PROMPT_WORDS: usize = 60;

const WORDS: [&str; 16] = [
    "alpha", "beta", "gamma", "delta", "omega", "kernel", "launch", "memory", "token", "stream",
    "graph", "tensor", "block", "grid", "event", "copy",
];

/// What a client has seen of one load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) tokens: u64,
    pub(super) tokens_per_second: f64,
    pub(super) ttft_ms_median: f64,
    pub(super) itl_ms_median: f64,
    pub(super) itl_ms_p99: f64,
}

pub(super) struct Load {
    pub(super) program: PathBuf,
    pub(super) address: SocketAddr,
    pub(super) workers: u32,
    pub(super) directory: PathBuf,
    /// So that prompts differ from run to run: vLLM would keep what it computed for the same ones.
    pub(super) sent: u64,
}

impl Load {
    pub(super) fn run(&mut self, requests: u32, output_tokens: u32) -> Result<Figures> {
        let prompts = self.directory.join("prompts.txt");
        fs::write(&prompts, self.prompts(requests)).context("cannot write the prompts")?;
        let Self { program, address, workers, directory, .. } = self;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let (workers, requests) = (workers.to_string(), requests.to_string());
        let output_tokens = output_tokens.to_string();
        let sh = Shell::new()?;
        let text = cmd!(
            sh,
            "{program} batch --host {host} --port {port} --count {requests} --parallel
             --workers {workers} --max-tokens {output_tokens} --ignore-eos --prompts {prompts}
             --out {directory} --json"
        )
        .quiet()
        .ignore_stderr()
        .read()
        .context("the load test failed")?;
        figures(&text)
    }

    fn prompts(&mut self, count: u32) -> String {
        let mut text = String::new();
        for _ in 0..count {
            self.sent += 1;
            let mut state = self.sent;
            for _ in 0..PROMPT_WORDS {
                // SplitMix64: a good mix of a counter.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let word = WORDS[(mixed >> 60) as usize];
                let _: std::fmt::Result = write!(text, "{word} ");
            }
            text.push('\n');
        }
        text
    }
}

/// From what `loadtest --json` prints.
fn figures(text: &str) -> Result<Figures> {
    let Run { summary } =
        serde_json::from_str(text).context("the load test did not print its result")?;
    ensure!(summary.failed == 0, "{} requests failed", summary.failed);
    let missing = "the load test has no figure for it: did all requests stream?";
    Ok(Figures {
        tokens: summary.output_tokens.context(missing)?,
        tokens_per_second: summary.output_tokens_per_second.context(missing)?,
        ttft_ms_median: summary.ttft_ms.as_ref().context(missing)?.p50,
        itl_ms_median: summary.itl_ms.as_ref().context(missing)?.p50,
        itl_ms_p99: summary.itl_ms.as_ref().context(missing)?.p99,
    })
}

#[derive(Deserialize)]
struct Run {
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    failed: usize,
    output_tokens: Option<u64>,
    output_tokens_per_second: Option<f64>,
    ttft_ms: Option<Percentiles>,
    itl_ms: Option<Percentiles>,
}

#[derive(Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

/// A directory for a load's result files.
pub(super) fn directory(root: &Path) -> Result<PathBuf> {
    let directory = root.join("loadtest");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}
