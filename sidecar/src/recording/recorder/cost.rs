//! What tracing itself takes: for the closing lines.

use rustix::time::{ClockId, clock_gettime};
use trace::line::Cost;

/// The kernel puts so much before each record, and rounds up to it.
const RECORD_HEADER: usize = 8;

#[derive(Default)]
pub(super) struct CostMeter {
    /// Taken since the ring buffer was empty.
    taken: u64,
    most_taken: u64,
}

impl CostMeter {
    /// A record was taken out of the ring buffer.
    pub(super) fn took(&mut self, length: usize) {
        self.taken += (length.next_multiple_of(RECORD_HEADER) + RECORD_HEADER) as u64;
    }

    /// The ring buffer is empty: all that was taken had waited in it.
    pub(super) fn drained(&mut self) {
        self.most_taken = self.most_taken.max(self.taken);
        self.taken = 0;
    }

    pub(super) fn read(&self, ring_bytes: u64) -> Cost {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Cost {
            cpu_s: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9,
            // More arrives while it is being emptied.
            ring_high_water_bytes: self.most_taken.max(self.taken).min(ring_bytes),
        }
    }
}
