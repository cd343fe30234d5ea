//! `cargo xtask doctor`: what this machine can do, and what to do about what it cannot.

mod facts;
mod machine;
mod tools;

use std::{fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use tasks::ctx::Ctx;
use xshell::Shell;

use crate::develop::ebpf::toolchain;

/// Say what this machine can do, and what it lacks for the rest
///
/// Exit status 1 means that `cargo xtask demo` cannot run here.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Ctx, task: &Doctor) -> Result<ExitCode> {
    let Doctor { json } = task;
    let report = Report::new(&ctx.sh)?;
    if *json {
        println!("{}", serde_json::to_string_pretty(&report).context("cannot print the report")?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fails unless this machine can build the workspace and trace with it.
///
/// Asked before anything is built, because the answer after minutes of compiling comes too late.
pub(crate) fn require_for_tracing(sh: &Shell) -> Result<()> {
    require(&machine::findings(&facts::machine(sh)?))
}

fn require(findings: &[Finding]) -> Result<()> {
    let missing: Vec<&Finding> =
        findings.iter().filter(|finding| finding.mark == Mark::Missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut message = "this machine cannot trace yet:".to_owned();
    for Finding { topic, found, remedy, .. } in missing {
        let _: std::fmt::Result = write!(message, "\n  {topic}: {found}");
        if let Some(remedy) = remedy {
            let _: std::fmt::Result = write!(message, "\n    {remedy}");
        }
    }
    bail!(message)
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    mark: Mark,
    topic: &'static str,
    /// What is there, or what its absence means.
    found: String,
    /// What brings a missing thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    /// The demo and the privileged tests cannot run without it.
    Missing,
    /// Good to know, or needed for some tasks only.
    Note,
}

impl Finding {
    fn ok(topic: &'static str, found: impl Into<String>) -> Self {
        Self { mark: Mark::Ok, topic, found: found.into(), remedy: None }
    }

    fn missing(
        topic: &'static str,
        found: impl Into<String>,
        remedy: impl Into<Option<String>>,
    ) -> Self {
        Self { mark: Mark::Missing, topic, found: found.into(), remedy: remedy.into() }
    }

    fn note(
        topic: &'static str,
        found: impl Into<String>,
        remedy: impl Into<Option<String>>,
    ) -> Self {
        Self { mark: Mark::Note, topic, found: found.into(), remedy: remedy.into() }
    }
}

/// All findings, by what they are needed for.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether `cargo xtask demo` can run here.
    ready: bool,
    tracing: Vec<Finding>,
    checking: Vec<Finding>,
    ebpf: Vec<Finding>,
    deploying: Vec<Finding>,
    measuring: Vec<Finding>,
}

impl Report {
    fn new(sh: &Shell) -> Result<Self> {
        let tracing = machine::findings(&facts::machine(sh)?);
        Ok(Self {
            ready: tracing.iter().all(|finding| finding.mark != Mark::Missing),
            tracing,
            checking: tools::checking(&facts::checking(sh)),
            ebpf: tools::ebpf(&toolchain::pieces(&toolchain::look(sh))),
            deploying: tools::deploying(&facts::deploying(sh)),
            measuring: tools::measuring(&facts::measuring(sh)),
        })
    }

    fn to_text(&self) -> String {
        let Self { ready, tracing, checking, ebpf, deploying, measuring } = self;
        let mut text = String::new();
        for (heading, findings) in [
            ("to build and trace: `cargo xtask demo`, the privileged tests", tracing),
            ("to check a change: `cargo xtask ci`", checking),
            ("to change the eBPF program: `cargo xtask ebpf`", ebpf),
            ("to deploy", deploying),
            ("to compare with bpftrace: `cargo xtask bench`", measuring),
        ] {
            let _: std::fmt::Result = writeln!(text, "{heading}");
            for finding in findings {
                text.push_str(&finding.to_line());
            }
            text.push('\n');
        }
        text.push_str(if *ready {
            "ready: `cargo xtask demo` can run here\n"
        } else {
            "not ready: `cargo xtask demo` needs what is marked `missing`\n"
        });
        text
    }
}

impl Finding {
    fn to_line(&self) -> String {
        let Self { mark, topic, found, remedy } = self;
        let mark = match mark {
            Mark::Ok => "ok",
            Mark::Missing => "missing",
            Mark::Note => "note",
        };
        match remedy {
            None => format!("  {mark:<8} {topic:<26} {found}\n"),
            Some(remedy) => format!("  {mark:<8} {topic:<26} {found}: {remedy}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tracing: Vec<Finding>) -> Report {
        Report {
            ready: tracing.iter().all(|finding| finding.mark != Mark::Missing),
            tracing,
            checking: vec![Finding::ok("rustfmt", "rustfmt 1.8.0")],
            ebpf: Vec::new(),
            deploying: vec![Finding::note("k3s", "not found", "cargo xtask install".to_owned())],
            measuring: Vec::new(),
        }
    }

    #[test]
    fn text_has_a_line_each() {
        let report = report(vec![
            Finding::ok("kernel", "6.18.44"),
            Finding::missing("C compiler", "not found", "apt-get install gcc".to_owned()),
        ]);
        insta::assert_snapshot!(report.to_text(), @r"
        to build and trace: `cargo xtask demo`, the privileged tests
          ok       kernel                     6.18.44
          missing  C compiler                 not found: apt-get install gcc

        to check a change: `cargo xtask ci`
          ok       rustfmt                    rustfmt 1.8.0

        to change the eBPF program: `cargo xtask ebpf`

        to deploy
          note     k3s                        not found: cargo xtask install

        to compare with bpftrace: `cargo xtask bench`

        not ready: `cargo xtask demo` needs what is marked `missing`
        ");
    }

    #[test]
    fn json_carries_mark_and_remedy() {
        let report = report(vec![Finding::ok("kernel", "6.18.44")]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ready"], true);
        assert_eq!(json["tracing"][0]["mark"], "ok");
        assert_eq!(json["tracing"][0].get("remedy"), None);
        assert_eq!(json["deploying"][0]["remedy"], "cargo xtask install");
    }

    #[test]
    fn only_what_is_missing_stops_the_tracing() {
        let note = Finding::note("BTF", "not there", None);
        require(&[Finding::ok("kernel", "6.18.44"), note.clone()]).unwrap();
        let missing = Finding::missing("root", "uid 1000", "use sudo".to_owned());
        let error = require(&[note, missing]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this machine cannot trace yet:\n  root: uid 1000\n    use sudo"
        );
    }
}
