//! Processes in the background that never outlive the task that started them.

use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use duct::Handle;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

const POLL: Duration = Duration::from_millis(20);

/// Ctrl-C, SIGTERM or SIGHUP has come. Whoever waits asks here, so that everything is stopped in
/// order instead of all at once.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// The same for every task of this process: there is one handler.
    pub fn watch() -> Result<Self> {
        static WATCHED: OnceLock<Interrupt> = OnceLock::new();
        if let Some(watched) = WATCHED.get() {
            return Ok(watched.clone());
        }
        let interrupt = Self(Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&interrupt.0);
        ctrlc::set_handler(move || flag.store(true, Ordering::Release))
            .context("cannot watch for Ctrl-C")?;
        Ok(WATCHED.get_or_init(|| interrupt).clone())
    }

    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            bail!("interrupted: everything was stopped");
        }
        Ok(())
    }

    pub fn sleep(&self, duration: Duration) -> Result<()> {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.check()?;
            std::thread::sleep(POLL);
        }
        self.check()
    }

    pub fn wait(&self) {
        while !self.0.load(Ordering::Acquire) {
            std::thread::sleep(POLL);
        }
    }

    pub fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A running process, terminated when dropped.
pub struct Background {
    name: String,
    handle: Handle,
    log: PathBuf,
}

impl Background {
    /// Both outputs go to the file `log`.
    pub fn start(
        program: PathBuf,
        arguments: &[&str],
        variables: &[(&'static str, String)],
        log: PathBuf,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut shown: Vec<String> = variables
            .iter()
            .filter(|(name, _)| !name.contains("SECRET"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        shown.push(program.display().to_string());
        shown.extend(arguments.iter().map(|&argument| argument.to_owned()));
        eprintln!("$ {} &", shown.join(" "));
        let mut command = duct::cmd(OsString::from(&program), arguments)
            .stdin_null()
            .stderr_to_stdout()
            .stdout_path(&log);
        for (name, value) in variables {
            command = command.env(name, value);
        }
        // `cargo run` sets it for the benefit of its own child, not of a traced process.
        if !variables.iter().any(|(name, _)| *name == "LD_LIBRARY_PATH") {
            command = command.env_remove("LD_LIBRARY_PATH");
        }
        let handle = command
            .before_spawn(|command| {
                // Ctrl-C reaches the task alone, which then stops all in order.
                command.process_group(0);
                // SAFETY: between fork and exec only one system call is made.
                unsafe {
                    command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
                }
                Ok(())
            })
            .unchecked()
            .start()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, handle, log })
    }

    pub fn pid(&self) -> u32 {
        self.handle.pids().first().copied().unwrap_or(0)
    }

    /// Waits until the log has a line with `text`, and returns it.
    pub fn wait_for_line(
        &self,
        text: &str,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some((line, _)) = log
                .split_inclusive('\n')
                .filter_map(|line| line.split_once('\n'))
                .find(|(line, _)| line.contains(text))
            {
                return Ok(line.to_owned());
            }
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} did not say {text:?} in {timeout:?}: {}", self.name, self.end_of_log());
            }
            interrupt.sleep(POLL)?;
        }
    }

    /// Fails if it has ended.
    pub fn check(&self) -> Result<()> {
        if let Some(output) = self.handle.try_wait()? {
            bail!("{} ended with {}: {}", self.name, output.status, self.end_of_log());
        }
        Ok(())
    }

    /// SIGTERM, and an orderly end within `timeout`.
    pub fn stop(&self, timeout: Duration) -> Result<()> {
        self.terminate();
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(output) = self.handle.try_wait()? {
                if output.status.success() {
                    return Ok(());
                }
                bail!("{} ended with {}: {}", self.name, output.status, self.end_of_log());
            }
            std::thread::sleep(POLL);
        }
        bail!("{} did not end {timeout:?} after SIGTERM: {}", self.name, self.end_of_log())
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _: Result<(), rustix::io::Errno> = kill_process(pid, Signal::TERM);
        }
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        format!("the log {} ends with\n  {last}", self.log.display())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        const TIMEOUT: Duration = Duration::from_secs(5);
        if matches!(self.handle.try_wait(), Ok(Some(_))) {
            return;
        }
        self.terminate();
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.handle.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        // Last resort; the process was asked before.
        let _: std::io::Result<()> = self.handle.kill();
    }
}
