//! Connections that wait for their next request.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::http::{Connection, Response};

/// Below the five seconds after which vLLM's HTTP server closes an idle connection, so that none is used as it closes.
const MAX_IDLE: Duration = Duration::from_secs(4);

/// The last one in is the first one out: it is the least likely to be closed.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<(Connection, Instant)>>);

impl Pool {
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((mut connection, since)) = idle.pop() {
            if since.elapsed() < MAX_IDLE && !connection.is_stale() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps the connection of a response that has been read to its end.
    pub(super) fn put(&self, response: Response) {
        if let Some(connection) = response.into_connection() {
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((connection, Instant::now()));
        }
    }
}
