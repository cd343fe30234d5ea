//! Whether lines can be written. While they cannot, calls are counted as dropped.

use std::{
    io,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

/// How often the size of TRACE_DIR is looked at while it is at its limit.
const LIMIT_PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Disk {
    /// Writing failed last time.
    is_failing: bool,
    /// Closed segments fill TRACE_DIR_LIMIT.
    is_at_limit: bool,
    limit_checked: Option<Instant>,
}

impl Disk {
    pub(super) fn is_writable(&self) -> bool {
        !self.is_failing && !self.is_at_limit
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    pub(super) fn wrote(&mut self) {
        if self.is_failing {
            info!("trace lines can be written again");
        }
        self.is_failing = false;
    }

    /// Logs when the state changes, not once per failure.
    pub(super) fn failed(&mut self, cause: &io::Error) {
        if !self.is_failing {
            error!(%cause, "cannot write trace lines: calls are dropped, and counted");
        }
        self.is_failing = true;
    }

    /// At the limit, whether another look is due.
    pub(super) fn limit_is_due(&self) -> bool {
        self.is_at_limit
            && self.limit_checked.is_none_or(|checked| checked.elapsed() > LIMIT_PERIOD)
    }

    pub(super) fn compare(&mut self, waiting: u64, limit: u64) {
        self.limit_checked = Some(Instant::now());
        match (self.is_at_limit, waiting >= limit) {
            (false, true) => warn!(
                waiting,
                limit,
                "TRACE_DIR_LIMIT is reached: calls are dropped, and counted, until segments are \
                 uploaded or removed"
            ),
            (true, false) => info!(waiting, limit, "recording goes on"),
            _ => {}
        }
        self.is_at_limit = waiting >= limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_disk_that_recovers_is_still_at_its_limit() {
        let mut disk = Disk::default();
        assert!(disk.is_writable());
        disk.compare(10, 10);
        disk.failed(&io::Error::other("full"));
        disk.wrote();
        assert!(!disk.is_writable());
        disk.compare(9, 10);
        assert!(disk.is_writable());
    }
}
