//! One stand-in vLLM, from its start to its end, with a few requests at once.

use std::{fs, net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow};

use super::{Expected, Layout};
use tasks::{
    background::{Background, Interrupt},
    http,
};

/// Long enough for the longest of all.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How much an engine is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Usual,
    /// One request, and one graph.
    Small,
}

impl Size {
    /// Tokens of each request, as the seed says.
    fn requests(self, seed: u64) -> Vec<u64> {
        match self {
            Self::Usual => vec![150, 100 + seed * 7 % 50, 50 + seed * 13 % 50, 30 + seed * 17 % 30],
            Self::Small => vec![40],
        }
    }
}

/// The pid of the engine.
pub(super) fn run(
    place: &Layout,
    expected: &Expected,
    size: Size,
    interrupt: &Interrupt,
) -> Result<u32> {
    let Expected { cause, seed } = expected;
    let name = format!("{}-{seed}.log", cause.unwrap_or("healthy"));
    let seed_text = seed.to_string();
    let mut arguments = vec!["-m", "vllm.entrypoints.openai.api_server", "--model", "m"];
    arguments.extend(["--port", "0", "--step-ms", "10", "--startup-delay", "0"]);
    if size == Size::Small {
        arguments.extend(["--max-num-seqs", "1", "--max-num-batched-tokens", "64"]);
    }
    if let Some(cause) = cause {
        arguments.extend(["--misbehave", cause, "--misbehave-seed", &seed_text]);
    }
    let variables = [("LD_LIBRARY_PATH", place.libraries().display().to_string())];
    let vllm = Background::start(place.python(), &arguments, &variables, place.log(&name))?;
    let line = vllm.wait_for_line("API server on http://", TIMEOUT, interrupt)?;
    let (_, address) = line.split_once("http://").context("vLLM prints its address")?;
    let address: SocketAddr = address.trim().parse().context("vLLM prints its address")?;
    vllm.wait_for_line("Application startup complete", TIMEOUT, interrupt)?;
    let of_vllm = format!("/proc/{0}/task/{0}/children", vllm.pid());
    let children =
        fs::read_to_string(&of_vllm).with_context(|| format!("cannot read {of_vllm}"))?;
    let pid = children.split_whitespace().next().context("vLLM has no engine")?;
    let pid = pid.parse().context("a pid is a number")?;
    let requests = (0..).zip(size.requests(*seed));
    let threads: Vec<_> = requests
        .map(|(at, tokens)| {
            let wait = Duration::from_millis(seed * 31 * (at + 1) % 200);
            thread::spawn(move || {
                thread::sleep(wait);
                let body =
                    format!(r#"{{"model":"m","prompt":"one two three","max_tokens":{tokens}}}"#);
                http::post(&address, "/v1/completions", &body, TIMEOUT)
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a request panicked"))??;
    }
    vllm.stop(Duration::from_secs(20))?;
    interrupt.check()?;
    Ok(pid)
}
