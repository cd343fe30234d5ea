//! The command line as typed; `plan` checks what clap cannot.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    headers::Secret,
    lengths::Length,
    pace::{Arrivals, RampShape},
    slo::Slo,
    target::parse_host,
};

const EXAMPLES: &str = "\
Examples:
  # One prompt to the NodePort of the deployment on this machine
  loadtest single

  # Twenty requests, four in flight at once, with your own prompts
  loadtest batch --count 20 --parallel --workers 4 --prompts prompts.txt

  # A fixed amount of work for each request, to compare two runs
  loadtest batch --count 50 --max-tokens 128 --ignore-eos

  # Figures for a script: JSON on stdout, everything else on stderr
  loadtest batch --json 2>/dev/null | jq .summary.ttft_ms.p99

Exit codes: 0 all requests succeeded, 1 any failed, 2 wrong usage, 3 with --strict if the client was not up to the load.";

const BATCH_EXAMPLES: &str = "\
Examples:
  loadtest batch --host gpu-node --count 15
  loadtest batch --count 20 --parallel --workers 4
  loadtest batch --rate 5 --arrivals poisson --duration 60 --warmup 10s
  loadtest batch --rate 5 --duration 60 --input-tokens 500..1500 --output-tokens 128 --ignore-eos --slo ttft=500ms,tpot=30ms
  loadtest batch --model meta-llama/Llama-2-7b-chat-hf --chat --prompts prompts.txt --out results/
  loadtest batch --base-url https://a.example/v1 --base-url https://b.example/v1 --ca ca.pem --api-key-file key
  loadtest batch --sweep --slo ttft=500ms,tpot=30ms --input-tokens 1000 --output-tokens 200 --ignore-eos
  loadtest batch --ramp 1..50 --duration 120 --input-tokens 200
  loadtest batch --rate 5 --duration 60 --repeat 5 --label v1 --append runs.jsonl --csv runs.csv
  loadtest batch --replay mooncake_trace.jsonl --replay-speed 2 --ignore-eos
  loadtest batch --rate 5 --count 500 --shared-prefix 1000 --prefixes 8 --input-tokens 100

Sequential by default: the latency of a server that does nothing else. \
With --parallel, --workers requests are in flight all the time: throughput, and latency under that load. \
A worker sends its next request when it has its answer, so an overloaded server also slows the sending down. \
With --rate it does not: requests leave when they are due, and how late they left is shown.

--sweep and --repeat write a file for each run, and one for what they found: batch_sweep_result_TIME.json, with the \
curve as .svg beside it, and batch_repeat_result_TIME.json.

The server's queue, KV cache, preemptions and prefix hits are read from its /metrics each second, if it has them.

Percentiles are nearest rank: values that were measured, not interpolated. \
ITL is the gap between chunks with a token; a chunk may carry more than one. \
TPOT and tokens/s use the token counts that the server reports in `usage`.

Random prompts are of short words, about a token each; how many they were to the server is in the result. \
Goodput is requests a second that kept every limit of --slo; that of itl is for the p99 of an answer's gaps.

The built-in prompts differ in their first word. \
When prompts repeat (--count above their number, or --prompt), vLLM's prefix cache makes the repeated ones start sooner.";

const SINGLE_EXAMPLES: &str = "\
Examples:
  loadtest single
  loadtest single --host gpu-node --port 30800 --prompt 'The capital of France is' --max-tokens 16
  loadtest single --chat --no-stream --json | jq -r .requests[0].output_text";

/// Load tests for an OpenAI-compatible vLLM server: latency of tokens, throughput, failures.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send one prompt; show its answer and its latency
    #[command(after_help = SINGLE_EXAMPLES)]
    Single(Box<Common>),
    /// Send many prompts, one after another or several at once; show percentiles and throughput
    #[command(after_help = BATCH_EXAMPLES)]
    Batch(Box<Batch>),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Common {
    /// Host name or address of the server
    #[arg(long, default_value = "localhost", value_parser = parse_host)]
    pub host: String,
    /// Port of the server; 30800 is the NodePort of the service vllm-api
    #[arg(long, default_value_t = 30800, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Address of the server as a URL, as in https://vllm.example.com/prefix; repeated, the servers take turns
    #[arg(long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    pub base_url: Vec<String>,
    /// PEM file with the authorities to trust over https [default: those of this machine]
    #[arg(long, value_name = "FILE", requires = "base_url")]
    pub ca: Option<PathBuf>,
    /// Header to send with each request, as in 'X-Tenant: a'; may be repeated. Its value is shown nowhere
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<Secret>,
    /// Model to ask for; without it, the first one that the server lists at /v1/models
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// Prompt to send; a built-in one if absent
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub prompt: Option<String>,
    /// Most tokens to generate for a prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Generate --max-tokens tokens even if the model would stop earlier (an extension of vLLM)
    #[arg(long)]
    pub ignore_eos: bool,
    /// Use /v1/chat/completions instead of /v1/completions; the model needs a chat template
    #[arg(long)]
    pub chat: bool,
    /// Ask for the answer in one piece: no TTFT, ITL or TPOT then
    #[arg(long)]
    pub no_stream: bool,
    /// Longest time for one request
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = parse_seconds)]
    pub timeout: Duration,
    /// Key, if the server was started with --api-key. Other users of this machine see it among the processes: better
    /// set the variable, or give --api-key-file
    #[arg(long, value_name = "KEY", env = "VLLM_API_KEY", hide_env_values = true)]
    pub api_key: Option<Secret>,
    /// File that holds the key
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Directory for the result file; created if absent
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// What to call the run in its result
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Print the result as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Batch {
    #[command(flatten)]
    pub common: Common,
    /// Number of requests [default: 15, or as many as --duration allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Send no more after this time; what is in flight comes to its end
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Leave the first N requests, or those of the first N seconds (as in 10s), out of the figures; they come on top
    #[arg(long, value_name = "N|Ns", allow_hyphen_values = true)]
    pub warmup: Option<String>,
    /// Keep several requests in flight
    #[arg(long)]
    pub parallel: bool,
    /// Requests in flight with --parallel
    #[arg(long, value_name = "N", default_value_t = 4, requires = "parallel",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// Send so many requests a second, whether or not answers come: an open loop
    #[arg(long, value_name = "REQUESTS/S", conflicts_with_all = ["parallel", "workers"], value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Change the rate from one to the other during --duration, as in 1..50; figures are given for each tenth of it
    #[arg(long, value_name = "FROM..TO", requires = "duration", value_parser = parse_ramp,
          conflicts_with_all = ["parallel", "workers", "rate", "warmup"])]
    pub ramp: Option<(f64, f64)>,
    /// How --ramp gets from the one to the other
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t = RampShape::Linear, requires = "ramp")]
    pub ramp_shape: RampShape,
    /// Replay a recorded load in Mooncake's form: lines with timestamp (ms), input_length, output_length and hash_ids;
    /// blocks of 512 tokens with the same hash have the same text, so a prefix cache is used as it was
    #[arg(long, value_name = "FILE", conflicts_with_all = ["parallel", "workers", "rate", "ramp", "prompt", "prompts",
          "input_tokens", "output_tokens", "max_tokens", "arrivals"])]
    pub replay: Option<PathBuf>,
    /// Replay at so many times the recorded speed
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "replay", value_parser = parse_rate)]
    pub replay_speed: f64,
    /// How the times between requests of an open loop are distributed: constant, poisson or gamma:SHAPE (below 1 in
    /// bursts) [default: poisson]
    #[arg(long, value_name = "KIND")]
    pub arrivals: Option<Arrivals>,
    /// In an open loop: most requests in flight; what is due waits, and the wait is shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrency: Option<u32>,
    /// Run N times, each time with the next seed, and tell how sure the figures are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub repeat: Option<u32>,
    /// Find the highest rate that keeps --slo: a run of --duration (30 s unless given) for each rate that is tried
    #[arg(long, requires = "slo", conflicts_with_all = ["parallel", "workers", "rate", "ramp", "replay", "repeat", "count"])]
    pub sweep: bool,
    /// The first rate that --sweep tries
    #[arg(long, value_name = "REQUESTS/S", default_value_t = 1.0, requires = "sweep", value_parser = parse_rate)]
    pub sweep_from: f64,
    /// How close --sweep comes to the capacity, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, requires = "sweep", value_parser = parse_precision)]
    pub sweep_precision: f64,
    /// Percent of the requests that have to keep --slo for --sweep
    #[arg(long, value_name = "PERCENT", default_value_t = 99.0, requires = "sweep", value_parser = parse_percentile)]
    pub sweep_share: f64,
    /// Do not read the server's /metrics during the run
    #[arg(long)]
    pub no_server_metrics: bool,
    /// Decides all that is random: the same seed sends the same load
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Threads that send and receive [default: by the load, at most half of the cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: Option<u32>,
    /// Exit with 3 if this client was not up to the load
    #[arg(long)]
    pub strict: bool,
    /// File with prompts: one per line; objects with a `prompt` in .jsonl; such a list, or ShareGPT's, in .json
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Random prompts of about so many tokens: a number, 100..200, or normal:MEAN,DEVIATION
    #[arg(long, value_name = "LENGTH", conflicts_with_all = ["prompt", "prompts"])]
    pub input_tokens: Option<Length>,
    /// Begin each prompt with a text of so many tokens that others begin with too
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub shared_prefix: Option<u32>,
    /// How many such texts there are; prompts take them in turn
    #[arg(long, value_name = "N", default_value_t = 1, requires = "shared_prefix",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub prefixes: u32,
    /// Most tokens of each answer, instead of --max-tokens: a number, 100..200, or normal:MEAN,DEVIATION
    #[arg(long, value_name = "LENGTH", conflicts_with = "max_tokens")]
    pub output_tokens: Option<Length>,
    /// Count answers that keep these limits, as in ttft=200ms,itl=50ms (also tpot, e2e), and give goodput
    #[arg(long, value_name = "LIMITS")]
    pub slo: Option<Slo>,
    /// Append the figures to this file, as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub append: Option<PathBuf>,
    /// Append the figures to this file, as one line of CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// More percentiles, as in 75,95,99.9
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_percentile)]
    pub percentiles: Vec<f64>,
}

fn parse_percentile(text: &str) -> Result<f64, String> {
    let percentile =
        text.trim().parse().ok().filter(|percentile| (0.0..=100.0).contains(percentile));
    percentile.ok_or_else(|| "give percentiles from 0 to 100, as in 95,99.9".to_owned())
}

fn parse_precision(text: &str) -> Result<f64, String> {
    let precision = text.trim().parse().ok().filter(|percent| (0.1..=100.0).contains(percent));
    precision.ok_or_else(|| "give percent from 0.1 to 100".to_owned())
}

fn parse_ramp(text: &str) -> Result<(f64, f64), String> {
    let rates = text
        .split_once("..")
        .and_then(|(from, to)| Some((parse_rate(from.trim()).ok()?, parse_rate(to.trim()).ok()?)));
    rates.ok_or_else(|| "give two rates, as in 1..50".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=1e6).contains(rate));
    rate.ok_or_else(|| "give a number of requests a second, for instance 10 or 0.5".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.parse().map_err(|_| "give a number of seconds, for instance 30 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("give a positive number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let cli = Cli::try_parse_from(["loadtest", "batch"]).unwrap();
        let Command::Batch(batch) = cli.command else { panic!("parsed as another command") };
        let Batch { common, count, parallel, workers, prompts, rate, .. } = *batch;
        assert_eq!((count, parallel, workers, prompts, rate), (None, false, 4, None, None));
        assert_eq!(
            (common.host.as_str(), common.port, common.max_tokens),
            ("localhost", 30800, 64)
        );
        assert!(!common.chat && !common.no_stream && !common.json);
    }

    #[test]
    fn seconds_are_positive() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "inf", "NaN", "1e-12"] {
            assert_eq!(
                parse_seconds(text),
                Err("give a positive number of seconds".to_owned()),
                "{text}"
            );
        }
        assert!(parse_seconds("5s").unwrap_err().contains("0.5"));
    }
}
