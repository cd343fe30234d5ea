//! The clock of an open loop: hands out each request when it is due, in a thread that does nothing else.

use std::{
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::sync::{Semaphore, mpsc};

use super::measuring::{Due, Work};

/// For the measuring threads to be ready.
const HEAD_START: Duration = Duration::from_millis(20);

/// Ends the schedule when dropped.
#[derive(Debug)]
pub(super) struct Scheduler {
    stop: Option<std_mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A schedule that runs, and the work it gives each thread in turn.
pub(super) fn start(
    schedule: impl Iterator<Item = Duration> + Send + 'static,
    threads: u32,
    most_in_flight: Option<u32>,
) -> Result<(Vec<Work>, Scheduler)> {
    let slots = most_in_flight.map(|most| Arc::new(Semaphore::new(most as usize)));
    let (senders, works): (Vec<_>, Vec<_>) = (0..threads.max(1))
        .map(|_| {
            let (sender, due) = mpsc::unbounded_channel();
            (sender, Work::Open { due, slots: slots.clone() })
        })
        .unzip();
    let (stop, stopped) = std_mpsc::channel::<()>();
    let thread = thread::Builder::new()
        .name("schedule".to_owned())
        .spawn(move || {
            let start = Instant::now() + HEAD_START;
            for (number, offset) in (0..u32::MAX).zip(schedule) {
                let at = start + offset;
                let wait = at.saturating_duration_since(Instant::now());
                // A wait without timeout of its own is the most exact one there is for a thread.
                if stopped.recv_timeout(wait) != Err(std_mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
                let thread = &senders[number as usize % senders.len()];
                if thread.send(Due { index: number + 1, at }).is_err() {
                    return;
                }
            }
        })
        .context("cannot start a thread")?;
    Ok((works, Scheduler { stop: Some(stop), thread: Some(thread) }))
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
