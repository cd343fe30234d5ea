//! A thread that sends requests and reads their answers, and does nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    client::{Client, Order},
    client_figures::{RunningThread, ThreadUsage},
    measurement::Measured,
    prompts::Prompts,
};

/// What all threads of a run work on.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) run_id: String,
    pub(super) queue: Queue,
    pub(super) model: String,
    pub(super) prompts: Prompts,
}

/// Where a thread's requests come from.
#[derive(Debug)]
pub(super) enum Work {
    /// So many workers, each of which takes the next number of the queue when it has its answer.
    Closed(u32),
    /// Sent when they are due, if so many are not in flight.
    Open { due: mpsc::UnboundedReceiver<Due>, slots: Option<Arc<Semaphore>> },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) index: u32,
    pub(super) at: Instant,
}

/// The numbers of the requests of a closed loop.
#[derive(Debug)]
pub(super) struct Queue {
    next: AtomicU32,
    last: u32,
    end: Option<Instant>,
}

impl Queue {
    pub(super) fn new(count: Option<u32>, end: Option<Instant>) -> Self {
        Self { next: AtomicU32::new(0), last: count.unwrap_or(u32::MAX - 1), end }
    }

    fn take(&self) -> Option<u32> {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        let take = |next| (next < self.last).then_some(next + 1);
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|before| before + 1)
    }
}

/// Until the work is done or `stopped` says so.
pub(super) fn run(
    client: Client,
    job: &Job,
    work: Work,
    answers: &mpsc::UnboundedSender<Measured>,
    mut stopped: watch::Receiver<bool>,
) -> Result<ThreadUsage> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a thread's event loop")?;
    let usage = RunningThread::start();
    runtime.block_on(async {
        tokio::select! {
            _ = stopped.wait_for(|&stopped| stopped) => (),
            () = work_off(&client, job, work, answers) => (),
        }
    });
    Ok(usage.end())
}

async fn work_off(
    client: &Client,
    job: &Job,
    work: Work,
    answers: &mpsc::UnboundedSender<Measured>,
) {
    // The receiver outlives the threads; only a run that is given up has none.
    let tell = |measured| {
        let _ = answers.send(measured);
    };
    match work {
        Work::Closed(workers) => {
            let workers: FuturesUnordered<_> = (0..workers)
                .map(|_| async {
                    while let Some(index) = job.queue.take() {
                        tell(client.run(job.order(Due { index, at: Instant::now() })).await);
                    }
                })
                .collect();
            workers.collect::<()>().await;
        }
        Work::Open { mut due, slots } => {
            let mut running = FuturesUnordered::new();
            let mut is_over = false;
            while !is_over || !running.is_empty() {
                tokio::select! {
                    // What is due goes before what has come: the kernel keeps the time of that.
                    biased;
                    next = due.recv(), if !is_over => match next {
                        Some(due) => running.push(send_when_free(client, job, due, slots.as_deref())),
                        None => is_over = true,
                    },
                    Some(measured) = running.next(), if !running.is_empty() => tell(measured),
                }
            }
        }
    }
}

async fn send_when_free(
    client: &Client,
    job: &Job,
    due: Due,
    slots: Option<&Semaphore>,
) -> Measured {
    let asked = Instant::now();
    let _slot = match slots {
        Some(slots) => slots.acquire().await.ok(),
        None => None,
    };
    let held = asked.elapsed();
    let mut measured = client.run(job.order(due)).await;
    let lag = measured.record.queue_ms - held.as_secs_f64() * 1e3;
    measured.record.schedule_lag_ms = Some(crate::statistics::rounded(lag.max(0.0)));
    measured
}

impl Job {
    fn order(&self, due: Due) -> Order<'_> {
        let Due { index, at } = due;
        let prompt = self.prompts.of(index);
        let request_id = format!("{}-{index}", self.run_id);
        Order { index, request_id, model: &self.model, prompt, due: at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_taken_once() {
        let queue = Queue::new(Some(2), None);
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some(1), Some(2), None]);
        let over = Queue::new(None, Some(Instant::now()));
        assert_eq!(over.take(), None);
    }
}
