//! `standin-vllm`: a server that a test starts, asks and stops.

mod calls;
mod processes;
mod protocol;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::counts::Counts;
use testbed::libraries::{DRIVER, Driver, RUNTIME};

use crate::http::{self, Answer};
use crate::{Bench, terminate};

/// A running server; stopped with the test if it has not ended before.
struct Vllm {
    bench: Bench,
    child: Child,
    address: String,
    engine: u32,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_standin-vllm");
const TIMEOUT: Duration = Duration::from_mins(1);

impl Vllm {
    fn start(options: &[&str]) -> Self {
        let bench = Bench::new(Driver::R580);
        let mut command = bench.command(PROGRAM);
        // As a container runs it.
        command.arg0("python3").args([
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            "org/model",
            "--port",
            "0",
        ]);
        command
            .args(["--startup-delay", "20", "--step-ms", "1", "--max-model-len", "2048"])
            .args(options);
        Self::spawn(bench, command)
    }

    fn spawn(bench: Bench, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.next().unwrap().rsplit_once("http://").unwrap().1.to_owned();
        let engine = lines.next().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        // Whoever reads nothing more must not close the pipe either.
        thread::spawn(move || lines.count());
        Self { bench, child, address, engine }
    }

    fn ready(options: &[&str]) -> Self {
        let vllm = Self::start(options);
        until("the engine is ready", || {
            http::get(&vllm.address, "/health").is_ok_and(|answer| answer.status == 200)
        });
        vllm
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        http::post(&self.address, path, body).unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let page = http::get(&self.address, "/metrics").unwrap().body;
        let line = page.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        line.unwrap_or_else(|| panic!("{name} in {page}"))
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    /// Stops the server and gives what the engine called in each library.
    fn stop(mut self) -> (Counts, Counts) {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success());
        let of = |library: &str| {
            let all = self.bench.counts();
            let found = all
                .into_iter()
                .find(|counts| counts.pid == self.engine && counts.library == library);
            found.unwrap_or_else(|| panic!("the engine reported its calls of {library}"))
        };
        (of(RUNTIME), of(DRIVER))
    }
}

impl Drop for Vllm {
    fn drop(&mut self) {
        // The engine reports its calls before it ends, and the place for them goes with the bench.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            terminate(&self.child);
            drop(self.child.wait());
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn usage(prompt: u64, completion: u64) -> Value {
    serde_json::json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}
