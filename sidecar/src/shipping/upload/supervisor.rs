//! Keeps the upload task running: started again where it ends by itself, panics or hangs.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{FIRST_RETRY, MARGIN, MAX_RETRY, broke_off};
use crate::reporting::state::State;

/// How often the task is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A task that has run for so long begins with a short wait again.
const LONG_ENOUGH: Duration = Duration::from_secs(300);

/// Runs what `start` makes until it ends after `stop` has turned true. Returns how many segments were
/// stored since the sidecar started.
///
/// A task that blocks its thread cannot be ended: then the state says that it hangs, until it goes on.
pub async fn supervise<F>(
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
    mut start: impl FnMut() -> F,
) -> u64
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut wait = FIRST_RETRY;
    loop {
        let began = Instant::now();
        let reason = match run(&state, start()).await {
            None if *stop.borrow() => return state.uploads().stored,
            None => "the upload task ended by itself".to_owned(),
            Some(reason) => reason,
        };
        if began.elapsed() > LONG_ENOUGH {
            wait = FIRST_RETRY;
        }
        warn!(reason, "the upload task is started again in {} s", wait.as_secs());
        {
            let mut uploads = state.uploads();
            uploads.restarts += 1;
            uploads.failing(reason);
            uploads.begin("the wait for the upload task", wait + MARGIN);
        }
        if *stop.borrow() {
            sleep(FIRST_RETRY).await;
        } else {
            select! {
                () = sleep(wait) => {}
                _ = stop.wait_for(|&stop| stop) => {}
            }
        }
        wait = (wait * 2).min(MAX_RETRY);
    }
}

/// Why it ended, if not as it should.
async fn run(state: &State, task: impl Future<Output = ()> + Send + 'static) -> Option<String> {
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    let mut hung: Option<String> = None;
    loop {
        select! {
            ended = tasks.join_next() => {
                return match (ended, hung) {
                    (Some(Err(ended)), None) => {
                        Some(format!("the upload task ended: {:#}", broke_off(ended)))
                    }
                    (Some(Err(_)), Some(step)) => Some(format!("uploads hung at {step}")),
                    (Some(Ok(())) | None, _) => None,
                };
            }
            () = sleep(LOOK) => {}
        }
        match (state.uploads().overdue(), &hung) {
            (Some(overdue), None) => {
                warn!(
                    since = %overdue.since,
                    "uploads neither succeed nor fail, they hang at {}: they are taken up again as \
                     soon as that ends",
                    overdue.step
                );
                hung = Some(overdue.step);
                tasks.abort_all();
            }
            (None, Some(_)) => {
                info!("uploads go on");
                hung = None;
            }
            _ => {}
        }
    }
}
