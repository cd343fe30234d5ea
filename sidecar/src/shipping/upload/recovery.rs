//! Uploads while what a crash has left open is still being closed: its files may be long, or on a
//! disk that does not answer.

use std::{pin::pin, sync::Arc};

use tokio::{select, sync::Notify, task::JoinHandle};
use tracing::warn;

/// Runs what `upload` makes, which ends when it is told to stop; once more if `leftovers` were closed
/// only after that. Wakes the uploader when they are. Returns what the last one did.
pub async fn while_recovering<F: Future<Output = u64>>(
    leftovers: JoinHandle<()>,
    wake: Arc<Notify>,
    mut upload: impl FnMut() -> F,
) -> u64 {
    let mut leftovers = pin!(leftovers);
    let mut first = pin!(upload());
    let (closed, uploaded) = select! {
        closed = &mut leftovers => (closed, None),
        uploaded = &mut first => ((&mut leftovers).await, Some(uploaded)),
    };
    if let Err(error) = closed {
        warn!(%error, "segments that a crash had left open are not closed");
    }
    if uploaded.is_some() {
        return upload().await;
    }
    wake.notify_one();
    first.await
}
