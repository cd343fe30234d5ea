//! A program that calls until it is told to end, and knows how often it did.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::stage::Stage;

pub(crate) struct Load {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Load {
    /// About so many calls a second; 0: as fast as it can.
    pub(crate) fn start(stage: &Stage, calls_per_second: u64) -> Self {
        let pause = 1_000_000_u64.checked_div(calls_per_second).unwrap_or(0).to_string();
        let arguments = ["--function", "cuCtxSynchronize", "--until-stdin-ends", "--pause", &pause];
        Self::run(stage.scene.caller(&arguments))
    }

    /// Threads that make launches, copies and synchronisations as fast as they can.
    pub(crate) fn full(stage: &Stage, threads: u32) -> Self {
        let functions = [
            "cudaMemcpyAsync",
            "cudaLaunchKernel",
            "cudaLaunchKernel",
            "cuLaunchKernelEx",
            "cudaGraphLaunch",
            "cudaStreamSynchronize",
        ];
        let threads = threads.to_string();
        let mut arguments =
            vec!["--until-stdin-ends", "--arguments", "valid", "--threads", &threads];
        arguments.extend(functions.iter().flat_map(|name| ["--function", name]));
        Self::run(stage.scene.caller(&arguments))
    }

    fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.contains("calling"), "{line}");
        Self { child, out }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it end; what of its end is not as it is without a tracer.
    pub(crate) fn stop(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        let calls =
            serde_json::from_str(&text).ok().and_then(|value: Value| value["calls"].as_u64());
        let mut problems = Vec::new();
        if !status.success() {
            problems.push(format!("the traced program ended with {status}"));
        }
        if calls.is_none() {
            problems.push(format!("the traced program printed {text:?}"));
        }
        problems
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
