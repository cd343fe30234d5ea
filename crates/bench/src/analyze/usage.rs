//! What a program took from its start to its end.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tasks::background::Interrupt;

const POLL: Duration = Duration::from_millis(5);

/// Of the clock in `/proc/PID/stat`, which Linux has fixed for programs.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) resident_mib: f64,
}

impl Usage {
    pub(super) fn of(
        program: PathBuf,
        arguments: &[String],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let begin = Instant::now();
        let handle = duct::cmd(program, arguments).stdout_null().unchecked().start()?;
        let pid = *handle.pids().first().context("a started process has an id")?;
        let mut resident_mib = 0.0_f64;
        let (seconds, cpu_seconds) = loop {
            resident_mib = resident_mib.max(resident(pid).unwrap_or(0.0));
            let Stat { has_ended, cpu_seconds } = Stat::of(pid)?;
            if has_ended {
                break (begin.elapsed().as_secs_f64(), cpu_seconds);
            }
            if let Err(error) = interrupt.check() {
                handle.kill()?;
                return Err(error);
            }
            std::thread::sleep(POLL);
        };
        let status = handle.wait()?.status;
        ensure!(status.success(), "{status}: {arguments:?}");
        Ok(Self { seconds, cpu_seconds, resident_mib })
    }
}

struct Stat {
    /// Nobody has waited for it yet, so that its figures are still there.
    has_ended: bool,
    /// Of all threads, those that have ended too.
    cpu_seconds: f64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).context("an odd /proc/PID/stat")
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, so the fields are counted behind it.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let cpu_seconds = (ticks(11)? + ticks(12)?) as f64 / TICKS_PER_SECOND;
        Some(Self { has_ended: matches!(*fields.first()?, "Z" | "X"), cpu_seconds })
    }
}

/// The largest so far.
fn resident(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_behind_the_name() {
        let text = "7 (a) b) Z 1 7 7 0 -1 4 5 6 7 8 150 50 0 0 20 0 3 0 1 2 3";
        let Stat { has_ended, cpu_seconds } = Stat::parse(text).unwrap();
        assert!(has_ended);
        assert!((cpu_seconds - 2.0).abs() < 1e-9, "{cpu_seconds}");
        assert!(Stat::parse("7 (a) R 1").is_none());
    }

    #[test]
    fn a_process_shows_what_it_took() {
        let interrupt = Interrupt::watch().unwrap();
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let arguments = ["-c", script].map(str::to_owned);
        let usage = Usage::of("/bin/sh".into(), &arguments, &interrupt).unwrap();
        assert!(usage.cpu_seconds > 0.0 && usage.resident_mib > 0.1, "{usage:?}");
        let failed = Usage::of("/bin/sh".into(), &["-c", "exit 3"].map(str::to_owned), &interrupt);
        assert!(failed.is_err());
    }
}
