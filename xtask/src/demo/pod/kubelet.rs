//! What the kubelet would do: start one container after the other, probe them, and stop them in the
//! reverse order within one grace period.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{
    podman::{Podman, name_of},
    probe::Probe,
};
use tasks::background::Interrupt;

use crate::cluster::{
    tracer::Status,
    verify::{Check, cluster::of_status},
};
use settings::names::{TRACER_CONTAINER, TRACER_PROGRAM};

/// Between two probes of a container that starts; the kubelet keeps to the period.
const PAUSE: Duration = Duration::from_millis(200);

/// Lines of a container's log that an error quotes.
const QUOTED: usize = 5;

/// What `manifests --kubelet` tells.
#[derive(Debug, Deserialize)]
pub(super) struct Duties {
    grace_period_seconds: u64,
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    startup: Option<Probe>,
    readiness: Option<Probe>,
    liveness: Option<Probe>,
}

pub(super) struct Kubelet<'a> {
    podman: &'a Podman,
    duties: Duties,
    interrupt: &'a Interrupt,
}

impl<'a> Kubelet<'a> {
    pub(super) fn new(podman: &'a Podman, duties: Duties, interrupt: &'a Interrupt) -> Self {
        Self { podman, duties, interrupt }
    }

    /// Podman says it too, but not whom to ask.
    pub(super) fn ports_are_free(&self) -> Result<()> {
        for Probe { address, .. } in
            self.duties.containers.iter().filter_map(|it| it.startup.as_ref())
        {
            TcpListener::bind(address).with_context(|| {
                let port = address.port();
                format!("the pod needs {address}; what has it: ss -ltnp 'sport = :{port}'")
            })?;
        }
        Ok(())
    }

    /// The tracer first: vLLM starts when it is ready, so that no call is missed.
    pub(super) fn start(&self) -> Result<()> {
        for Container { name, startup, readiness, .. } in &self.duties.containers {
            self.podman.command("start").arg(name_of(name)).read()?;
            for (kind, probe) in [("startup", startup), ("readiness", readiness)] {
                let Some(probe) = probe else { continue };
                self.wait_for(name, probe)?;
                eprintln!("ok      {kind} of {name}: {} passes", probe.path);
            }
        }
        Ok(())
    }

    fn wait_for(&self, name: &str, probe: &Probe) -> Result<()> {
        let started = Instant::now();
        while let Err(error) = probe.send() {
            let state = "{{.State.Status}}, restarted {{.RestartCount}} times";
            let state = self.podman.inspect(&name_of(name), state)?;
            if state != "running, restarted 0 times" || started.elapsed() > probe.timeout() {
                return Err(error.context(format!("{name} is {state}{}", self.end_of_log(name))));
            }
            self.interrupt.sleep(PAUSE)?;
        }
        Ok(())
    }

    /// The four of `verify` on a cluster, and the probes.
    pub(super) fn checks(&self) -> Vec<Check> {
        let asked = self.status();
        let running = asked.as_ref().map_err(Clone::clone).and_then(|status| {
            let detail = format!("{}: {}", name_of(TRACER_CONTAINER), status.phase);
            if status.phase == "recording" { Ok(detail) } else { Err(detail) }
        });
        let mut checks = vec![Check::new("sidecar is running", running)];
        checks.extend(of_status(&asked));
        checks.push(Check::new("probes pass", self.probes()));
        checks
    }

    fn status(&self) -> Result<Status, String> {
        let ask = self.podman.command("exec").arg(name_of(TRACER_CONTAINER)).arg(TRACER_PROGRAM);
        Status::read(&ask.words("status --json")).map_err(|error| format!("{error:#}"))
    }

    fn probes(&self) -> Result<String, String> {
        let mut passed = Vec::new();
        for Container { name, readiness, liveness, .. } in &self.duties.containers {
            for (kind, probe) in [("readiness", readiness), ("liveness", liveness)] {
                let Some(probe) = probe else { continue };
                probe.send().map_err(|error| format!("{kind} of {name}: {error:#}"))?;
                passed.push(format!("{kind} of {name}"));
            }
        }
        if passed.is_empty() { Err("there are none".to_owned()) } else { Ok(passed.join(", ")) }
    }

    /// Whatever vLLM takes of the grace period, the tracer lacks.
    pub(super) fn stop(&self) -> Result<()> {
        let grace = Duration::from_secs(self.duties.grace_period_seconds);
        let started = Instant::now();
        for Container { name, .. } in self.duties.containers.iter().rev() {
            let left = grace.saturating_sub(started.elapsed());
            let stop = self.podman.command("stop --time").arg(left.as_secs().to_string());
            stop.arg(name_of(name)).run()?;
            let code = self.podman.inspect(&name_of(name), "{{.State.ExitCode}}")?;
            match code.as_str() {
                "0" => {}
                "137" => bail!("{name} had to be killed: {left:?} were left for it"),
                code => bail!("{name} ended with exit code {code}{}", self.end_of_log(name)),
            }
            eprintln!("ok      {name}: ended, {:.1?} of {grace:?} are over", started.elapsed());
        }
        ensure!(started.elapsed() < grace, "the grace period of {grace:?} was not enough");
        Ok(())
    }

    fn end_of_log(&self, name: &str) -> String {
        let log = self.podman.logs(name).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(QUOTED)..].join("\n  ");
        if last.is_empty() { String::new() } else { format!("; its log ends with\n  {last}\n") }
    }
}
