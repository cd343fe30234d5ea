//! `cargo xtask bench loadtest`: how wrong the figures of `loadtest` are, beside those of a client on aiohttp.

mod truth;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tasks::{
    background::Interrupt,
    ctx::{Ctx, as_from_shell, workspace_root},
};
use testbed::reference::{Delays, MODEL, ReferenceServer};
use xshell::cmd;

use super::{
    goal::{self, Goal, Wanted},
    place::{self, program},
    table::markdown,
};
use truth::Truth;

const CLIENT: &str = include_str!("loadtest/client.py");
/// Pinned, so that two measurements have the same client.
const AIOHTTP: &str = "aiohttp==3.14.5";
const MODEL_ARGUMENT: [&str; 2] = ["--model", MODEL];

/// Error and processor time of `loadtest`, and of a client on aiohttp with the definitions of `vllm bench serve`
///
/// A server of the testbed notes when the kernel had each request and when each token left. Both clients
/// measure it in turn, in the same run, on this machine; their figures stand beside what the server knows.
/// With --seeds, loads of chosen sizes and delays follow, and it is counted how often the truth lies within
/// the error bars that `loadtest` gives. Goals are told, never enforced: measure on a quiet machine.
/// The client on aiohttp comes from PyPI into target/bench/loadtest. All results go to target/bench/loadtest.json.
#[derive(Debug, Args)]
pub(crate) struct Loadtest {
    /// Streams at once
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1,32,256,1000")]
    streams: Vec<u32>,

    /// Rounds of each
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: u32,

    /// Tokens of each answer
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    tokens: u32,

    /// Runs with loads that a seed decides, to prove the error bars
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    seeds: u32,

    /// Leave the client on aiohttp out
    #[arg(long)]
    no_aiohttp: bool,

    /// Print the results as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One client's figures, or the truth about them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Figures {
    ttft_ms: f64,
    tpot_ms: f64,
    itl_p99_ms: f64,
    tokens_per_second: f64,
    #[serde(default)]
    cpu_us_per_token: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    streams: u32,
    round: u32,
    client: &'static str,
    measured: Figures,
    truth: Figures,
    /// It said itself that it was not up to the load.
    marked: bool,
}

/// How often the truth lay within the error bars.
#[derive(Debug, Default, Serialize)]
struct Bars {
    runs: u32,
    ttft: u32,
    tpot: u32,
    tokens_per_second: u32,
}

#[derive(Debug, Serialize)]
struct Results {
    rows: Vec<Row>,
    bars: Bars,
    goals: Vec<Goal>,
}

pub(crate) fn run(ctx: &Ctx, task: &Loadtest) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    let sh = &ctx.sh;
    ctx.step("build", || {
        as_from_shell(cmd!(sh, "cargo build --locked --release --package loadtest"))
            .run()
            .context("cannot build what is measured")
    })?;
    let directory = workspace_root().join("target/bench/loadtest");
    fs::create_dir_all(&directory).context("cannot create a directory")?;
    let python = if task.no_aiohttp {
        None
    } else {
        Some(ctx.step("aiohttp", || Python::prepare(ctx, &directory))?)
    };
    let mut rows = Vec::new();
    for &streams in &task.streams {
        // A thousand streams of 10 ms are more than two cores can serve and measure.
        let each = Duration::from_millis(if streams > 256 { 20 } else { 10 });
        let server = ReferenceServer::start(Delays { first: Duration::from_millis(100), each })?;
        let load = Load { streams, requests: (streams * 3).max(8), tokens: task.tokens };
        for round in 1..=task.rounds {
            interrupt.check()?;
            let title = format!("{streams} streams, round {round}");
            let (measured, result) = ctx.step(&title, || ours(&directory, &server, load))?;
            let marked =
                result["client"]["marks"].as_array().is_some_and(|marks| !marks.is_empty());
            let truth = Truth::of(&server.take_served())?.figures();
            rows.push(Row { streams, round, client: "loadtest", measured, truth, marked });
            let Some(python) = &python else { continue };
            let measured = ctx.step("aiohttp", || python.measure(&server, load))?;
            let truth = Truth::of(&server.take_served())?.figures();
            rows.push(Row { streams, round, client: "aiohttp", measured, truth, marked: false });
        }
    }
    let bars = ctx.step("error bars", || prove_bars(&directory, task.seeds, &interrupt))?;
    let goals = goals(&rows, &bars);
    let results = Results { rows, bars, goals };
    let path = place::write_results("loadtest", &results)?;
    if task.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    } else {
        println!("\n{}\n{}", results.text(), path.display());
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Load {
    streams: u32,
    requests: u32,
    tokens: u32,
}

/// The figures of `loadtest`, and the whole of its result.
fn ours(directory: &Path, server: &ReferenceServer, load: Load) -> Result<(Figures, Value)> {
    let Load { streams, requests, tokens } = load;
    let numbers =
        [server.port().into(), streams, requests, tokens].map(|number| number.to_string());
    let [port, streams, requests, tokens] = &numbers;
    let out = directory.join("results");
    let mut arguments = vec!["batch", "--json", "--ignore-eos", "--parallel"];
    arguments.extend(MODEL_ARGUMENT);
    arguments.extend(["--host", "127.0.0.1", "--port", port, "--workers", streams]);
    arguments.extend(["--count", requests, "--max-tokens", tokens, "--out"]);
    let out_text = out.display().to_string();
    arguments.push(&out_text);
    let text = duct::cmd(program("loadtest"), arguments)
        .stderr_path(directory.join("loadtest.log"))
        .read()
        .with_context(|| format!("loadtest failed: see {}/loadtest.log", directory.display()))?;
    fs::remove_dir_all(&out).ok();
    let result: Value = serde_json::from_str(&text).context("--json prints one JSON object")?;
    let summary = &result["summary"];
    let number = |value: &Value| value.as_f64().context("a figure is missing");
    let figures = Figures {
        ttft_ms: number(&summary["ttft_ms"]["mean"])?,
        tpot_ms: number(&summary["tpot_ms"]["mean"])?,
        itl_p99_ms: number(&summary["itl_ms"]["p99"])?,
        tokens_per_second: number(&summary["output_tokens_per_second"])?,
        cpu_us_per_token: result["client"]["cpu_us_per_token"].as_f64(),
    };
    Ok((figures, result))
}

/// An environment with aiohttp, and the client in it.
struct Python {
    program: PathBuf,
    client: PathBuf,
}

impl Python {
    fn prepare(ctx: &Ctx, directory: &Path) -> Result<Self> {
        let sh = &ctx.sh;
        let environment = directory.join("venv");
        let program = environment.join("bin/python");
        let has_aiohttp = program.exists() && {
            let find = "import aiohttp, sys; sys.exit(aiohttp.__version__ != sys.argv[1])";
            let version = AIOHTTP.trim_start_matches("aiohttp==");
            cmd!(sh, "{program} -c {find} {version}").quiet().ignore_stderr().run().is_ok()
        };
        if !has_aiohttp {
            cmd!(sh, "python3 -m venv {environment}")
                .run()
                .context("python3 with venv is needed")?;
            cmd!(sh, "{program} -m pip install --quiet --disable-pip-version-check {AIOHTTP}")
                .run()
                .context("cannot install aiohttp: --no-aiohttp leaves it out")?;
        }
        let client = directory.join("client.py");
        fs::write(&client, CLIENT).context("cannot write the client")?;
        Ok(Self { program, client })
    }

    fn measure(&self, server: &ReferenceServer, load: Load) -> Result<Figures> {
        let Load { streams, requests, tokens } = load;
        let mut arguments = vec![self.client.display().to_string()];
        arguments.extend(
            [server.port().into(), streams, requests, tokens].map(|number: u32| number.to_string()),
        );
        let text =
            duct::cmd(&self.program, arguments).read().context("the client on aiohttp failed")?;
        serde_json::from_str(&text).context("it prints one JSON object")
    }
}

/// Loads of other sizes and delays, decided by their number.
fn prove_bars(directory: &Path, seeds: u32, interrupt: &Interrupt) -> Result<Bars> {
    let mut bars = Bars::default();
    for seed in 1..=seeds {
        interrupt.check()?;
        let choose =
            |salt: u32, from: u32, to: u32| from + mixed(seed * 8 + salt) % (to - from + 1);
        let delays = Delays {
            first: Duration::from_micros(choose(0, 500, 200_000).into()),
            each: Duration::from_micros(choose(1, 300, 25_000).into()),
        };
        let streams = choose(2, 1, 200);
        let load = Load { streams, requests: streams * choose(3, 1, 3), tokens: choose(4, 2, 96) };
        let server = ReferenceServer::start(delays)?;
        let (_, result) = ours(directory, &server, load)?;
        let truth = Truth::of(&server.take_served())?;
        let holds = |name: &str, (low, high): (f64, f64)| -> Result<u32> {
            let bounds = &result["client"]["bounds"][name];
            let bound = |end: &str| bounds[end].as_f64().context("an error bar is missing");
            Ok(u32::from(bound("low")? <= high && low <= bound("high")?))
        };
        bars.runs += 1;
        bars.ttft += holds("ttft_mean_ms", truth.ttft_ms)?;
        bars.tpot += holds("tpot_mean_ms", truth.tpot_ms)?;
        bars.tokens_per_second += holds("output_tokens_per_second", truth.tokens_per_second)?;
    }
    Ok(bars)
}

/// A number whose every bit depends on every bit of another.
fn mixed(number: u32) -> u32 {
    let number = (number ^ (number >> 16)).wrapping_mul(0x7feb_352d);
    let number = (number ^ (number >> 15)).wrapping_mul(0x846c_a68b);
    number ^ (number >> 16)
}

fn goals(rows: &[Row], bars: &Bars) -> Vec<Goal> {
    let mut goals = Vec::new();
    for row in rows.iter().filter(|row| row.client == "loadtest") {
        let Row { streams, round, measured, truth, marked, .. } = row;
        let mut wants = |what: &str, measured: f64, wanted: f64| {
            let what = format!("{streams} streams, round {round}: {what}");
            goals.push(Goal::new(what, measured, Wanted::AtMost(wanted)));
        };
        // A client that says it was not up to a thousand streams has said what there is to say.
        if *streams > 256 && *marked {
            continue;
        }
        let off = |of: fn(&Figures) -> f64| error_percent(of(measured), of(truth)).abs();
        wants("TTFT off by %", off(|it| it.ttft_ms), if *streams <= 32 { 0.5 } else { 2.0 });
        wants("TPOT off by %", off(|it| it.tpot_ms), 0.2);
        wants("tokens/s off by %", off(|it| it.tokens_per_second), 0.1);
        if *streams >= 256 {
            wants("ITL p99 off by %", off(|it| it.itl_p99_ms), 10.0);
        }
        let ours = measured.cpu_us_per_token.unwrap_or(f64::NAN);
        wants("CPU us per token", ours, 8.0);
        let beside = rows.iter().find(|other| {
            (other.client, other.streams, other.round) == ("aiohttp", *streams, *round)
        });
        if let Some(theirs) = beside.and_then(|row| row.measured.cpu_us_per_token) {
            let what = format!("{streams} streams, round {round}: CPU of aiohttp over ours");
            goals.push(Goal::new(what, theirs / ours, Wanted::AtLeast(5.0)));
        }
    }
    let percent = |held: u32| f64::from(held) * 100.0 / f64::from(bars.runs);
    for (what, held) in
        [("TTFT", bars.ttft), ("TPOT", bars.tpot), ("tokens/s", bars.tokens_per_second)]
    {
        if bars.runs > 0 {
            let what = format!("truth within the error bars of {what}, % of {} runs", bars.runs);
            goals.push(Goal::new(what, percent(held), Wanted::AtLeast(95.0)));
        }
    }
    goals
}

fn error_percent(measured: f64, truth: f64) -> f64 {
    (measured - truth) * 100.0 / truth
}

impl Results {
    fn text(&self) -> String {
        let rows: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        let heads = [
            "client",
            "streams",
            "round",
            "TTFT ms",
            "error %",
            "TPOT ms",
            "error %",
            "ITL p99 ms",
            "error %",
            "tokens/s",
            "error %",
            "CPU us/token",
            "marked",
        ];
        format!("{}\n{}", markdown(1, &heads, &rows), goal::text(&self.goals))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let Self { streams, round, client, measured, truth, marked } = self;
        let mut cells = vec![(*client).to_owned(), streams.to_string(), round.to_string()];
        let figures: [fn(&Figures) -> f64; 4] =
            [|it| it.ttft_ms, |it| it.tpot_ms, |it| it.itl_p99_ms, |it| it.tokens_per_second];
        for of in figures {
            let (measured, truth) = (of(measured), of(truth));
            cells.push(format!("{measured:.2}"));
            cells.push(format!("{:+.2}", error_percent(measured, truth)));
        }
        let cpu = measured.cpu_us_per_token;
        cells.push(cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}")));
        cells.push(if *marked { "yes" } else { "" }.to_owned());
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(factor: f64, cpu: f64) -> Figures {
        Figures {
            ttft_ms: 100.0 * factor,
            tpot_ms: 10.0 * factor,
            itl_p99_ms: 12.0 * factor,
            tokens_per_second: 1000.0 * factor,
            cpu_us_per_token: Some(cpu),
        }
    }

    fn row(client: &'static str, factor: f64, cpu: f64, marked: bool, streams: u32) -> Row {
        let (measured, truth) = (figures(factor, cpu), figures(1.0, 0.0));
        Row { streams, round: 1, client, measured, truth, marked }
    }

    #[test]
    fn goals_compare_with_the_truth_and_with_the_other_client() {
        let rows = [row("loadtest", 1.004, 7.0, false, 1), row("aiohttp", 1.5, 70.0, false, 1)];
        let bars = Bars { runs: 50, ttft: 50, tpot: 48, tokens_per_second: 40 };
        let text = goal::text(&goals(&rows, &bars));
        assert!(text.contains("met     1 streams, round 1: TTFT off by %: 0.4"), "{text}");
        assert!(text.contains("MISSED  1 streams, round 1: TPOT off by %: 0.4"), "{text}");
        assert!(
            text.contains("met     1 streams, round 1: CPU of aiohttp over ours: 10"),
            "{text}"
        );
        assert!(text.contains("MISSED  truth within the error bars of tokens/s"), "{text}");
        assert!(
            text.contains("met     truth within the error bars of TPOT, % of 50 runs: 96"),
            "{text}"
        );
    }

    #[test]
    fn a_client_that_marks_itself_at_a_thousand_streams_is_honest() {
        let bars = Bars::default();
        assert!(goals(&[row("loadtest", 1.5, 7.0, true, 1000)], &bars).is_empty());
        assert!(!goals(&[row("loadtest", 1.5, 7.0, true, 256)], &bars).is_empty());
    }
}
