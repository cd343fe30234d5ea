//! One guest: a kernel, the initramfs, and what its console says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{CHECKS, package::Image};

/// Of a guest that hangs. Five times what one takes that shares its processor with nobody.
const TIMEOUT: &str = "600";

/// What a guest said.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) release: String,
    /// From the start of the kernel to that of the first program.
    pub(super) boot_seconds: Option<f64>,
    /// By test.
    pub(super) outcomes: BTreeMap<String, Outcome>,
    /// The last lines that were no outcome.
    said: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Passed { seconds: String },
    Failed { reason: String },
}

/// Boots, and follows the console until the guest powers off.
pub(super) fn run(Image { name, release, kernel }: &Image, initramfs: &Path) -> Result<Report> {
    let arguments = [
        &["--kill-after=5", TIMEOUT, "qemu-system-x86_64"][..],
        // The second processor is there to be taken away; it sleeps until a check wakes it up.
        &["-accel", "tcg,thread=single", "-smp", "2", "-cpu", "max", "-m", "1500"],
        &["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"],
        &["-append", "console=ttyS0 quiet loglevel=1 panic=-1 maxcpus=1 no_timer_check"],
    ]
    .concat();
    let files =
        ["-kernel".into(), kernel.as_os_str().to_owned(), "-initrd".into(), initramfs.into()];
    let arguments = arguments.into_iter().map(Into::into).chain(files);
    let console = duct::cmd("timeout", arguments)
        .stdin_null()
        .stderr_to_stdout()
        .unchecked()
        .before_spawn(|command| {
            use std::os::unix::process::CommandExt as _;
            // SAFETY: between fork and exec only one system call is made.
            unsafe {
                command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
            }
            Ok(())
        })
        .reader()
        .context("cannot start qemu-system-x86_64")?;
    let path = initramfs.with_file_name(format!("{name}.log"));
    let mut log =
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut report = Report::new(name, release);
    for line in BufReader::new(console).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("cannot read the console")?).into_owned();
        writeln!(log, "{line}").with_context(|| format!("cannot write {}", path.display()))?;
        if let Some(news) = report.take(line.trim_end()) {
            eprintln!("{name:<8}  {news}");
        }
    }
    report.end();
    Ok(report)
}

impl Report {
    pub(super) fn new(name: &str, release: &str) -> Self {
        Self {
            name: name.to_owned(),
            release: release.to_owned(),
            boot_seconds: None,
            outcomes: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// One line of the console; returns what is worth telling at once.
    pub(super) fn take<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let Some((_, line)) = line.split_once("@ ") else {
            self.said.push(line.to_owned());
            return None;
        };
        let mut words = line.split(' ');
        let (word, name) = (words.next()?, words.next().unwrap_or_default());
        let seconds = words.next().unwrap_or_default().to_owned();
        match word {
            "boot" => self.boot_seconds = name.parse().ok(),
            "start" => {
                self.said.clear();
                return None;
            }
            "ok" => {
                self.outcomes.insert(name.to_owned(), Outcome::Passed { seconds });
            }
            "failed" => {
                let reason = std::mem::take(&mut self.said).join("\n");
                self.outcomes.insert(name.to_owned(), Outcome::Failed { reason });
            }
            _ => {}
        }
        Some(line)
    }

    /// The first check that was not reached is where the guest died.
    fn end(&mut self) {
        let missing = CHECKS.iter().find(|check| !self.outcomes.contains_key(check.test));
        if let Some(check) = missing {
            let last = self.said.len().saturating_sub(40);
            let reason = format!(
                "the guest ended before it said a result:\n{}",
                self.said[last..].join("\n")
            );
            self.outcomes.insert(check.test.to_owned(), Outcome::Failed { reason });
        }
    }

    pub(super) fn passed(&self) -> bool {
        let is_passed = |test| matches!(self.outcomes.get(test), Some(Outcome::Passed { .. }));
        CHECKS.iter().all(|check| is_passed(check.test))
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.outcomes.iter().filter_map(|(test, outcome)| match outcome {
            Outcome::Passed { .. } => None,
            Outcome::Failed { reason } => Some((&test[..], &reason[..])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_dies_has_failed_where_it_died() {
        let mut report = Report::new("6.1", "6.1.0");
        for check in &CHECKS[..2] {
            report.take(&format!("@ start {}", check.test));
            report.take(&format!("@ ok {} 2", check.test));
        }
        report.take("Kernel panic - not syncing");
        report.end();
        assert!(!report.passed());
        let failures: Vec<_> = report.failures().collect();
        let [(test, reason)] = failures[..] else { panic!("{failures:?}") };
        assert_eq!(test, CHECKS[2].test);
        assert!(reason.ends_with("Kernel panic - not syncing"), "{reason}");
    }

    #[test]
    fn all_checks_together_are_a_pass_and_the_escapes_of_the_firmware_do_not_matter() {
        let mut report = Report::new("6.1", "6.1.0");
        report.take("\u{1b}[2J@ boot 8.25");
        for check in &CHECKS {
            report.take(&format!("@ ok {} 2", check.test));
        }
        report.end();
        assert!(report.passed());
        assert_eq!(report.boot_seconds, Some(8.25));
    }
}
