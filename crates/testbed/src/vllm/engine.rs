//! The engine process: retitles itself, loads the model (or has workers load it), and steps as long as there is
//! something to generate.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::protocol::{FromEngine, Start, ToEngine};
use super::scheduler::{Progress, Scheduler};
use super::title::{self, Title};
use super::workers::{self, Device};

/// Reads its orders from stdin and answers on stdout. Ends with stdin, so that it never outlives its parent.
pub(super) fn run(title: &Title) -> Result<()> {
    let mut first = String::new();
    std::io::stdin()
        .read_line(&mut first)
        .context("cannot read the first line from the API process")?;
    let start: Start = serde_json::from_str(&first)
        .context("cannot understand the first line from the API process")?;
    title::set_name(&start.name)?;
    // The child of a spawn imports everything anew.
    thread::sleep(start.startup_delay);
    if let Some(rank) = start.rank {
        return workers::run(title, &start, rank);
    }
    // The title is written over it.
    let name = std::env::args_os().next().unwrap_or_default();
    title.set(&format!("{}::EngineCore", start.prefix))?;

    let (send, orders) = channel();
    read_orders(send.clone());
    heed_signals(send);
    let mut device = Device::load(&start, name)?;
    say(&FromEngine::Ready { kv_cache_tokens: device.cache_tokens()? })?;
    // An API process that has gone can be told nothing; the device is freed all the same.
    let scheduler = Scheduler::new(start.max_num_seqs, start.max_num_batched_tokens);
    let served = serve(&mut device, &orders, scheduler);
    device.unload()?;
    served
}

fn serve(device: &mut Device, orders: &Receiver<ToEngine>, mut scheduler: Scheduler) -> Result<()> {
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
        device.step(step)?;
        let Progress { advanced, finished } = scheduler.complete();
        let (running, waiting) = (scheduler.running(), scheduler.waiting());
        say(&FromEngine::Step {
            advanced,
            finished,
            running,
            waiting,
            kv_tokens: scheduler.kept_tokens(),
        })?;
    }
}

/// To the process that started this one.
pub(super) fn say(message: &impl serde::Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message).context("cannot write to stdout")?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).context("cannot write to stdout")
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
pub(super) fn heed_signals(orders: Sender<ToEngine>) {
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
