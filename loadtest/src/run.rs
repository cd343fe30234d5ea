//! Sends the requests of a run, some at once, and gathers their records.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::{
    client::{Client, Order},
    measurement::{Measured, unix_nanoseconds},
    record::RequestRecord,
};

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    pub model: &'a str,
    /// Used in turn, from the start again when `count` is larger.
    pub prompts: &'a [String],
    pub count: u32,
    /// A closed loop: a worker sends its next request when the last one has its answer.
    pub workers: u32,
}

/// What came back, in the order of sending.
#[derive(Debug)]
pub struct Finished {
    pub records: Vec<RequestRecord>,
    pub wall: Duration,
    pub start: Timestamp,
    pub end: Timestamp,
    /// `stop` came first; requests in flight were dropped and are not among the records.
    pub interrupted: bool,
}

/// Runs the load until it is done or `stop` completes, and shows each record to `observe` as it comes.
pub async fn run(
    client: &Client,
    load: Load<'_>,
    stop: impl Future<Output = ()>,
    mut observe: impl FnMut(&RequestRecord),
) -> Finished {
    let Load { model, prompts, count, workers } = load;
    let start = Timestamp::now();
    let clock = Instant::now();
    let run_id = format!("loadtest-{:x}-{:x}", unix_nanoseconds(start), std::process::id());

    let requests = (1..=count).zip(prompts.iter().cycle());
    let mut answers = stream::iter(requests)
        .map(|(index, prompt)| {
            let request_id = format!("{run_id}-{index}");
            client.run(Order { index, request_id, model, prompt, due: Instant::now() })
        })
        .buffer_unordered(workers.max(1) as usize);
    let mut records = Vec::new();
    let mut interrupted = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Some(Measured { record, .. }) => {
                    observe(&record);
                    records.push(record);
                }
                None => break,
            },
            () = &mut stop => {
                interrupted = true;
                break;
            }
        }
    }
    let wall = clock.elapsed();
    records.sort_by_key(|record| record.index);
    Finished { records, wall, start, end: Timestamp::now(), interrupted }
}
