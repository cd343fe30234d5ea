//! A sidecar that runs, and what it says.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Instant,
};

use super::TIMEOUT;

/// A running sidecar, killed when dropped.
pub(crate) struct Sidecar {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Sidecar {
    pub(crate) fn start(command: Command) -> Self {
        let mut sidecar = Self::spawn(command);
        sidecar.wait_for("ready: tracing");
        sidecar
    }

    /// Waits for nothing.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                // The test may have ended.
                let _ = sender.send(line.unwrap());
            }
        });
        Self { child, log, seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line);
                    if self.seen.last().unwrap().contains(text) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("ended: {:#?}", self.seen),
            }
        }
    }

    pub(crate) fn log_lines_with(&mut self, text: &str) -> usize {
        self.seen.extend(self.log.try_iter());
        self.seen.iter().filter(|line| line.contains(text)).count()
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn stop(self) {
        self.terminate();
        self.wait();
    }

    /// A clean end.
    pub(crate) fn wait(mut self) {
        let status = self.child.wait().unwrap();
        self.seen.extend(self.log.iter());
        assert!(status.success(), "{status}: {:#?}", self.seen);
    }

    /// Whatever its end is, with all that it said.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        self.seen.extend(self.log.iter());
        (status, std::mem::take(&mut self.seen))
    }

    /// Where it answers HTTP.
    pub(crate) fn address(&mut self) -> String {
        self.seen.extend(self.log.try_iter());
        let address = |line: &String| Some(line.split_once("listening on http://")?.1.to_owned());
        self.seen.iter().find_map(address).expect("it says where")
    }

    /// SIGTERM alone.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
