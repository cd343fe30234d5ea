//! Sends the requests of a run and gathers their records.

mod measuring;
mod scheduling;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::{
    client::Client,
    client_figures::{self, Observations},
    measurement::{Measured, unix_nanoseconds},
    pace::Pace,
    prompts::Prompts,
    record::{ClientFigures, RequestRecord},
};
use measuring::{Job, Queue, Work};

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    pub model: String,
    pub prompts: Prompts,
    /// Warm-up included; without it, until `duration` is over.
    pub count: Option<u32>,
    /// Nothing is sent after it; what is in flight comes to its end. Warm-up included.
    pub duration: Option<Duration>,
    pub warmup: Warmup,
    pub pace: Pace,
    /// In an open loop: when each request is due, instead of what its rate says.
    pub times: Option<Arc<[Duration]>>,
    pub seed: u64,
    /// Threads that send and receive; without it, as many as the load is likely to need.
    pub threads: Option<u32>,
}

/// Which requests are left out of the figures, because the server was not yet warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmup {
    Requests(u32),
    /// Those that leave within this time.
    Time(Duration),
}

/// What came back, in the order of sending.
#[derive(Debug)]
pub struct Finished {
    pub records: Vec<RequestRecord>,
    /// From the first byte sent to the last answer, of the requests that are no warm-up.
    pub wall: Duration,
    pub start: Timestamp,
    pub end: Timestamp,
    /// `stop` came first; requests in flight were dropped and are not among the records.
    pub interrupted: bool,
    pub client: ClientFigures,
}

/// Runs the load until it is done or `stop` completes, and shows each record to `observe` as it comes.
///
/// `observe` runs in another thread than the measuring ones, so it disturbs none.
pub async fn run(
    client: &Client,
    load: Load,
    stop: impl Future<Output = ()>,
    mut observe: impl FnMut(&RequestRecord),
) -> Result<Finished> {
    let start = Timestamp::now();
    let began = Instant::now();
    let threads = load.threads.unwrap_or_else(|| default_threads(load.pace));
    let (stopping, stopped) = watch::channel(false);
    let (sender, mut answers) = mpsc::unbounded_channel();
    let job = Arc::new(Job {
        run_id: format!("loadtest-{:x}-{:x}", unix_nanoseconds(start), std::process::id()),
        queue: Queue::new(load.count, load.duration.map(|duration| began + duration)),
        model: load.model,
        prompts: load.prompts,
    });

    let (works, scheduler) = match load.pace {
        Pace::Closed { workers } => (shares(workers, threads).map(Work::Closed).collect(), None),
        Pace::Open { rate, arrivals, most_in_flight } => {
            let times: Box<dyn Iterator<Item = Duration> + Send> = match load.times {
                Some(times) => Box::new((0..times.len()).map(move |number| times[number])),
                None => Box::new(crate::pace::schedule(rate, arrivals, load.seed)),
            };
            let due = times
                .take_while(move |&due| load.duration.is_none_or(|duration| due < duration))
                .take(load.count.map_or(usize::MAX, |count| count as usize));
            let (works, scheduler) = scheduling::start(due, threads, most_in_flight)?;
            (works, Some(scheduler))
        }
    };
    let works: Vec<Work> = works;
    let measuring: Vec<_> = works
        .into_iter()
        .map(|work| {
            let (client, job) = (client.for_another_thread(), Arc::clone(&job));
            let (sender, stopped) = (sender.clone(), stopped.clone());
            thread::Builder::new()
                .name("measuring".to_owned())
                .spawn(move || measuring::run(client, &job, work, &sender, stopped))
                .context("cannot start a thread")
        })
        .collect::<Result<_>>()?;
    drop(sender);

    let mut measured: Vec<Measured> = Vec::new();
    let mut interrupted = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            answer = answers.recv() => match answer {
                Some(mut answer) => {
                    answer.record.warmup = match load.warmup {
                        Warmup::Requests(count) => answer.record.index <= count,
                        Warmup::Time(time) => answer.began < began + time,
                    };
                    observe(&answer.record);
                    measured.push(answer);
                }
                None => break,
            },
            () = &mut stop, if !interrupted => {
                interrupted = true;
                let _ = stopping.send(true);
            }
        }
    }
    drop(scheduler);
    let usages = measuring
        .into_iter()
        .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect::<Result<Vec<_>>>()?;

    measured.sort_by_key(|measured| measured.record.index);
    let client = client_figures::of(&Observations { measured: &measured, usages: &usages });
    let wall = wall(&measured);
    let records = measured.into_iter().map(|measured| measured.record).collect();
    Ok(Finished { records, wall, start, end: Timestamp::now(), interrupted, client })
}

/// One for each pair of cores: the other is the server's, or the kernel's. A few streams need no second one.
fn default_threads(pace: Pace) -> u32 {
    const STREAMS_OF_A_THREAD: u32 = 16;
    const MAX_THREADS: u32 = 8;
    let cores = thread::available_parallelism()
        .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(MAX_THREADS));
    let wanted = match pace {
        Pace::Closed { workers } => workers.div_ceil(STREAMS_OF_A_THREAD),
        Pace::Open { .. } => MAX_THREADS,
    };
    wanted.min(cores / 2).clamp(1, MAX_THREADS)
}

/// `workers` spread over `threads`, none of them empty.
fn shares(workers: u32, threads: u32) -> impl Iterator<Item = u32> {
    let threads = threads.min(workers).max(1);
    (0..threads).map(move |thread| workers / threads + u32::from(thread < workers % threads))
}

fn wall(measured: &[Measured]) -> Duration {
    let counted = || measured.iter().filter(|measured| !measured.record.warmup);
    let start = counted().map(|measured| measured.began).min();
    let end = counted().map(|measured| measured.began + measured.took).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_shared_out_whole() {
        assert_eq!(shares(7, 3).collect::<Vec<_>>(), [3, 2, 2]);
        assert_eq!(shares(2, 8).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(shares(1, 1).collect::<Vec<_>>(), [1]);
    }
}
