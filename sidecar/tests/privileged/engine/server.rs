//! The stand-in for vLLM: started, asked and stopped by a test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Scene, standin_caller};

/// The stand-in for vLLM, killed when dropped.
pub(super) struct Server {
    pub(super) child: Child,
    /// The process that was started for the engine.
    pub(super) engine: u32,
    address: String,
}

impl Server {
    pub(super) fn ready(scene: &Scene, options: &[&str]) -> Self {
        let mut command = scene.program(&standin_caller().with_file_name("standin-vllm"), &[]);
        command
            .arg0("python3")
            .args(["-m", "vllm.entrypoints.openai.api_server", "--port", "0", "--step-ms", "1"])
            .args(options);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut line_with = |text: &str| lines.find(|line| line.contains(text)).unwrap();
        let address = line_with("http://").rsplit_once("http://").unwrap().1.to_owned();
        let engine = line_with("engine process ").rsplit_once(' ').unwrap().1.parse().unwrap();
        line_with("startup complete");
        std::thread::spawn(move || lines.count());
        Self { child, engine, address }
    }

    /// Generates tokens, each in a step of the engine.
    pub(super) fn complete(&self, tokens: u32) {
        let body = format!("{{\"prompt\":\"a b c\",\"max_tokens\":{tokens},\"ignore_eos\":true}}");
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    pub(super) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`; the engine ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
