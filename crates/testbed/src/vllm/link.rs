//! The API process's end of the engine: starts it, sends it requests, and passes its tokens on to those who wait.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::metrics::Metrics;
use super::model;
use super::options::Options;
use super::protocol::{FromEngine, Start, ToEngine};

/// The last argument of an engine or a worker, as Python's multiprocessing marks the processes that it spawns.
pub(super) const ENGINE_MARK: &str = "--multiprocessing-fork";

/// What a waiting request hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Token,
    /// The last token.
    Last,
}

#[derive(Debug, Clone)]
pub(super) struct Link {
    orders: UnboundedSender<ToEngine>,
    waiting: Arc<Mutex<Waiting>>,
    ready: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    last_id: u64,
    senders: HashMap<u64, UnboundedSender<Heard>>,
    /// Set when the engine will say nothing more.
    ended: bool,
}

/// A sequence that the engine generates. It is aborted when this is dropped before its end.
#[derive(Debug)]
pub(super) struct Sequence {
    id: u64,
    link: Link,
    heard: UnboundedReceiver<Heard>,
    ended: bool,
}

impl Sequence {
    /// The next token; `None` after the last one, or when the engine has stopped.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        let heard = if self.ended { None } else { self.heard.recv().await };
        self.ended |= heard != Some(Heard::Token);
        heard
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if !self.ended {
            self.link.lock().senders.remove(&self.id);
            self.link.send(ToEngine::Abort { id: self.id });
        }
    }
}

impl Link {
    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow() && !self.lock().ended
    }

    /// Waits for the engine to be ready; false if it ended before.
    pub(super) async fn ready(&mut self) -> bool {
        self.ready.wait_for(|ready| *ready).await.is_ok()
    }

    pub(super) fn add(&self, prompt_tokens: usize, tokens: usize) -> Sequence {
        let (send, heard) = unbounded_channel();
        let id = {
            let mut waiting = self.lock();
            waiting.last_id += 1;
            let id = waiting.last_id;
            // After the end of the engine the sender is dropped here, and the sequence ends at once.
            if !waiting.ended {
                waiting.senders.insert(id, send);
            }
            id
        };
        self.send(ToEngine::Add { id, prompt_tokens, tokens });
        Sequence { id, link: self.clone(), heard, ended: false }
    }

    pub(super) fn stop(&self) {
        self.send(ToEngine::Stop);
    }

    /// An engine that has gone hears nothing; its sequences have ended already.
    fn send(&self, order: ToEngine) {
        drop(self.orders.send(order));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        waiting.senders.clear();
    }
}

/// A started engine and its link.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) link: Link,
    child: Child,
}

impl Engine {
    pub(super) fn spawn(options: &Options, metrics: Arc<Metrics>) -> Result<Self> {
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = std::process::Command::new(program);
        command
            .arg0(env::args_os().next().unwrap_or_default())
            .args(["-c", "from multiprocessing.spawn import spawn_main; spawn_main()", ENGINE_MARK])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if env::var_os("CUDA_STANDIN_KERNEL_NS").is_none() {
            command.env(
                "CUDA_STANDIN_KERNEL_NS",
                model::kernel_time(options.step).as_nanos().to_string(),
            );
        }
        if let Some(misbehaviour) = options.misbehaviour {
            command.envs(misbehaviour.device_settings(options.step));
        }
        let mut child =
            Command::from(command).spawn().context("cannot start the engine process")?;
        let input = child.stdin.take().context("the engine has no stdin")?;
        let output = child.stdout.take().context("the engine has no stdout")?;

        let (orders, to_send) = unbounded_channel();
        let (set_ready, ready) = watch::channel(false);
        let link = Link { orders, waiting: Arc::default(), ready };
        tokio::spawn(send_orders(input, start_line(options)?, to_send));
        tokio::spawn(pass_on(output, link.clone(), set_ready, metrics));
        Ok(Self { link, child })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.context("cannot wait for the engine process")
    }

    /// Waits for an engine that was told to stop; one that hangs is killed.
    pub(super) async fn finish(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if let Ok(status) = tokio::time::timeout(timeout, self.wait()).await {
            return status;
        }
        eprintln!("ERROR the engine did not stop within {timeout:?} and is killed");
        self.child.kill().await.context("cannot kill the engine process")?;
        self.wait().await
    }
}

fn start_line(options: &Options) -> Result<Vec<u8>> {
    let prefix = env::var("VLLM_PROCESS_NAME_PREFIX").unwrap_or_else(|_| "VLLM".to_owned());
    let start = Start {
        name: fs::read_to_string("/proc/self/comm")
            .context("cannot read the name of this process")?
            .trim_end()
            .to_owned(),
        prefix,
        rank: None,
        tensor_parallel_size: options.tensor_parallel_size,
        startup_delay: options.startup_delay,
        enforce_eager: options.enforce_eager,
        max_num_seqs: options.max_num_seqs,
        max_num_batched_tokens: options.max_num_batched_tokens,
        gpu_memory_utilization: options.gpu_memory_utilization,
        step: options.step,
        misbehaviour: options.misbehaviour,
    };
    let mut line = serde_json::to_vec(&start).context("cannot write the engine's options")?;
    line.push(b'\n');
    Ok(line)
}

async fn send_orders(
    mut input: ChildStdin,
    first: Vec<u8>,
    mut orders: UnboundedReceiver<ToEngine>,
) {
    let mut line = first;
    // A broken pipe is an engine that has ended; its end is seen elsewhere.
    while input.write_all(&line).await.is_ok() {
        let Some(order) = orders.recv().await else { return };
        line = serde_json::to_vec(&order).expect("orders have no map with keys that are not text");
        line.push(b'\n');
    }
}

async fn pass_on(
    output: ChildStdout,
    link: Link,
    ready: watch::Sender<bool>,
    metrics: Arc<Metrics>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(FromEngine::Ready { kv_cache_tokens }) => {
                metrics.set_cache(kv_cache_tokens);
                ready.send_replace(true);
            }
            Ok(FromEngine::Step { advanced, finished, running, waiting, kv_tokens }) => {
                metrics.step(running, waiting, kv_tokens);
                let mut requests = link.lock();
                for id in advanced {
                    let last = finished.contains(&id);
                    let heard = if last { Heard::Last } else { Heard::Token };
                    // One whose receiver has gone is being aborted.
                    if let Some(sender) = requests.senders.get(&id) {
                        let _ = sender.send(heard);
                    }
                    if last {
                        requests.senders.remove(&id);
                    }
                }
            }
            Err(error) => eprintln!("ERROR cannot understand the engine: {error}: {line}"),
        }
    }
    link.end();
}
