//! Tells whoever asks how it goes: once a second, and when the trace is closed.

use std::time::{Duration, Instant};

use sidecar_common::Counters;
use tracing::warn;

use super::Recorder;
use crate::reporting::state::Recorded;

/// Reading the kernel's counters takes a system call per function.
const PERIOD: Duration = Duration::from_secs(1);

impl Recorder {
    pub(super) fn publish_if_due(&mut self) {
        if self.published.elapsed() < PERIOD {
            return;
        }
        self.disk.tell_recovery();
        match self.kernel.counters(self.accounting.functions()) {
            Ok(counters) => self.publish(&counters, self.segment.sequence() - 1),
            // Rotation fails then too, and that costs more than this.
            Err(error) => warn!("cannot tell how it goes: {error:#}"),
        }
        self.published = Instant::now();
    }

    pub(super) fn publish(&self, counters: &[Counters], closed_segments: u64) {
        self.state.publish(Recorded {
            tally: self.accounting.tally(counters),
            written_bytes: self.closed_bytes + self.segment.written(),
            closed_segments,
            is_paused: !self.disk.is_writable(),
        });
    }
}
