//! The engine process: retitles itself, loads the model, and steps as long as there is something to generate.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::gpu::Gpu;
use super::model::Model;
use super::protocol::{FromEngine, Start, ToEngine};
use super::scheduler::{Progress, Scheduler};
use super::title::{self, Title};

/// Reads its orders from stdin and answers on stdout. Ends with stdin, so that it never outlives its parent.
pub(super) fn run(title: &Title) -> Result<()> {
    let mut first = String::new();
    std::io::stdin()
        .read_line(&mut first)
        .context("cannot read the first line from the API process")?;
    let start: Start = serde_json::from_str(&first)
        .context("cannot understand the first line from the API process")?;
    let Start {
        name,
        title: text,
        startup_delay,
        enforce_eager,
        max_num_seqs,
        max_num_batched_tokens,
        gpu_memory_utilization,
    } = start;
    title::set_name(&name)?;
    // The child of a spawn imports everything anew.
    thread::sleep(startup_delay);
    title.set(&text)?;

    let (send, orders) = channel();
    read_orders(send.clone());
    heed_signals(send);
    let (runtime, driver) = super::load_libraries()?;
    let gpu = Gpu::of(&runtime, &driver)?;
    let model = Model::load(
        gpu,
        gpu_memory_utilization,
        enforce_eager,
        max_num_seqs,
        max_num_batched_tokens,
    )
    .context("cannot load the model")?;
    tell(&FromEngine::Ready { kv_cache_tokens: model.cache_tokens() })?;
    // An API process that has gone can be told nothing; the device is freed all the same.
    let served = serve(&model, &orders, Scheduler::new(max_num_seqs, max_num_batched_tokens));
    model.unload().context("cannot free the device")?;
    served
}

fn serve(model: &Model, orders: &Receiver<ToEngine>, mut scheduler: Scheduler) -> Result<()> {
    loop {
        loop {
            // Waits only when there is nothing to do.
            let order =
                if scheduler.is_idle() { orders.recv().ok() } else { orders.try_recv().ok() };
            match order {
                Some(ToEngine::Add { id, prompt_tokens, tokens }) => {
                    scheduler.add(id, prompt_tokens, tokens);
                }
                Some(ToEngine::Abort { id }) => scheduler.abort(id),
                Some(ToEngine::Stop) => return Ok(()),
                None if scheduler.is_idle() => return Ok(()),
                None => break,
            }
        }
        let step = scheduler.plan();
        model.step(step)?;
        let Progress { advanced, finished } = scheduler.complete();
        let (running, waiting) = (scheduler.running(), scheduler.waiting());
        tell(&FromEngine::Step {
            advanced,
            finished,
            running,
            waiting,
            kv_tokens: scheduler.kept_tokens(),
        })?;
    }
}

fn tell(message: &FromEngine) -> Result<()> {
    let mut line = serde_json::to_vec(message).context("cannot write to the API process")?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).context("cannot write to the API process")
}

/// Reads orders on a thread of its own; the end of stdin is an order to stop.
fn read_orders(orders: Sender<ToEngine>) {
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            if orders.send(order.unwrap_or(ToEngine::Stop)).is_err() {
                return;
            }
        }
        // The engine may be ending already.
        drop(orders.send(ToEngine::Stop));
    });
}

/// SIGTERM stops the engine as its parent would. SIGINT from a terminal goes to both, and the parent decides.
fn heed_signals(orders: Sender<ToEngine>) {
    thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut terminate, mut interrupt) =
                (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            loop {
                tokio::select! {
                    _ = terminate.recv() => drop(orders.send(ToEngine::Stop)),
                    _ = interrupt.recv() => {}
                }
            }
        })
    });
}
