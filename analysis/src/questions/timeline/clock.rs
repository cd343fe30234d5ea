//! Times of the trace: nanoseconds since 1970, where the run's clock is known.

use crate::context::time::Time;

/// One pair of clocks for the whole file, so that all lengths are those of the run's own clock; what
/// the time of day is beside it, snapshots tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    offset_ns: i64,
}

impl Clock {
    pub(super) fn of(time: &Time) -> Self {
        Self { offset_ns: time.unix_ns(0).unwrap_or(0) }
    }

    /// From a time of the run; `None` where Perfetto has none.
    pub(super) fn at(self, ts_ns: i64) -> Option<u64> {
        let timestamp = self.offset_ns.checked_add(ts_ns)?;
        timestamp.try_into().ok()
    }
}
