//! Tensor parallelism: processes that compute for an engine, which then makes no CUDA calls itself.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;

use anyhow::{Context, Result, bail, ensure};

use super::engine::{heed_signals, say};
use super::gpu::Gpu;
use super::link::ENGINE_MARK;
use super::model::Model;
use super::protocol::{FromWorker, Start};
use super::scheduler::Step;
use super::title::Title;

/// What computes the steps of an engine.
pub(super) enum Device {
    Own(Box<Model>),
    OfWorkers(Vec<Worker>),
}

impl Device {
    /// Loads the model, here or in as many workers as it is split over. `name` is how Python was called.
    pub(super) fn load(start: &Start, name: OsString) -> Result<Self> {
        if start.tensor_parallel_size == 1 {
            return Ok(Self::Own(Box::new(load(start)?)));
        }
        let spawned = (0..start.tensor_parallel_size).map(|rank| Worker::spawn(start, rank, &name));
        Ok(Self::OfWorkers(spawned.collect::<Result<_>>()?))
    }

    /// The smallest cache counts: every worker keeps a part of each token.
    pub(super) fn cache_tokens(&mut self) -> Result<usize> {
        match self {
            Self::Own(model) => Ok(model.cache_tokens()),
            Self::OfWorkers(workers) => {
                workers.iter_mut().try_fold(usize::MAX, |least, worker| match worker.hear()? {
                    FromWorker::Ready { kv_cache_tokens } => Ok(least.min(kv_cache_tokens)),
                    FromWorker::Done => bail!("a worker has done what it was not told to"),
                })
            }
        }
    }

    /// Returns when it has been computed.
    pub(super) fn step(&mut self, step: Step) -> Result<()> {
        match self {
            Self::Own(model) => model.step(step),
            Self::OfWorkers(workers) => {
                // All begin before one is waited for.
                workers.iter_mut().try_for_each(|worker| worker.tell(step))?;
                workers.iter_mut().try_for_each(|worker| worker.hear().map(drop))
            }
        }
    }

    /// Frees what was loaded.
    pub(super) fn unload(self) -> Result<()> {
        match self {
            Self::Own(model) => model.unload().context("cannot free the device"),
            Self::OfWorkers(workers) => workers.into_iter().try_for_each(Worker::end),
        }
    }
}

/// A worker, as its engine sees it. It ends when its stdin does.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn spawn(start: &Start, rank: usize, name: &OsString) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg0(name)
            .args(["-c", "from multiprocessing.spawn import spawn_main; spawn_main()", ENGINE_MARK])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let mut input = child.stdin.take().context("a worker has no stdin")?;
        let output = child.stdout.take().context("a worker has no stdout")?;
        write(&mut input, &Start { rank: Some(rank), ..start.clone() })?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    fn tell(&mut self, step: Step) -> Result<()> {
        write(&mut self.input, &step)
    }

    fn hear(&mut self) -> Result<FromWorker> {
        let line = self.output.next().context("a worker has ended by itself")?;
        let line = line.context("cannot read what a worker says")?;
        serde_json::from_str(&line).with_context(|| format!("cannot understand a worker: {line}"))
    }

    fn end(mut self) -> Result<()> {
        drop(self.input);
        let status = self.child.wait().context("cannot wait for a worker")?;
        ensure!(status.success(), "a worker ended badly: {status}");
        Ok(())
    }
}

fn write(input: &mut ChildStdin, message: &impl serde::Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message).context("cannot write to a worker")?;
    line.push(b'\n');
    input.write_all(&line).context("cannot write to a worker")
}

/// The worker's own side. As in vLLM it learns its rank, and says it in its title, after its first CUDA calls.
pub(super) fn run(title: &Title, start: &Start, rank: usize) -> Result<()> {
    let (send, _) = channel();
    heed_signals(send);
    title.set(&format!("{}::Worker", start.prefix))?;
    let (_runtime, driver) = super::load_libraries()?;
    let init = driver.function("cuInit")?;
    // SAFETY: cuInit takes flags, which must be 0.
    super::gpu::check("cuInit", unsafe { crate::cuda::call(init, [0]) })?;
    title.set(&format!("{}::Worker_TP{rank}", start.prefix))?;
    let mut model = load(start)?;
    say(&FromWorker::Ready { kv_cache_tokens: model.cache_tokens() })?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read from the engine")?;
        let step = serde_json::from_str(&line).context("cannot understand the engine")?;
        model.step(step)?;
        say(&FromWorker::Done)?;
    }
    model.unload().context("cannot free the device")
}

fn load(start: &Start) -> Result<Model> {
    let (runtime, driver) = super::load_libraries()?;
    let gpu = Gpu::of(&runtime, &driver)?;
    Model::load(gpu, start).context("cannot load the model")
}
