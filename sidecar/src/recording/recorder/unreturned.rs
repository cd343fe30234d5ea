//! Calls that do not return: of threads that have ended, and those open when tracing stops.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use processes::clock;
use sidecar_common::Counters;
use tracing::{error, warn};

use super::{Recorder, process_changes::ProcessChange};

/// How long events may take to arrive after the probes were stopped.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A program that was running when the probes were stopped is done by then.
const QUIET_TIME: Duration = Duration::from_millis(5);

/// How often threads that have ended are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Recorder {
    /// After the probes were stopped: takes events until every hit is accounted for and no more
    /// are counted, and so are the calls that have not returned. Returns the final counters.
    pub(super) fn settle(&mut self) -> Result<Vec<Counters>> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut before = self.kernel.counters(self.accounting.functions())?;
        loop {
            std::thread::sleep(QUIET_TIME);
            while !self.turn() {}
            let counters = self.kernel.counters(self.accounting.functions())?;
            let open = self.kernel.threads.open_calls()?;
            let in_flight = self.accounting.in_flight(&counters).saturating_sub(open.len() as u64);
            let is_quiet = in_flight == 0 && counters == before;
            if !is_quiet && Instant::now() <= deadline {
                before = counters;
                continue;
            }
            if in_flight > 0 {
                error!(in_flight, "some calls were counted but never arrived");
            }
            for event in &open {
                self.book(event, None);
            }
            self.write_out();
            return Ok(counters);
        }
    }

    /// Threads that ended inside a call never return from it: their calls are counted as begun.
    pub(super) fn sweep_if_due(&mut self) {
        if self.swept.elapsed() < SWEEP_INTERVAL {
            return;
        }
        self.swept = Instant::now();
        let calls = match self.kernel.threads.sweep() {
            Ok(calls) => calls,
            Err(error) => return warn!("cannot tell which threads have ended: {error:#}"),
        };
        for event in calls {
            self.book(&event, None);
            // Nobody will tell again that its process has ended, and another one may get its id.
            if !fs::exists(format!("/proc/{}", event.tgid)).unwrap_or(true) {
                self.changes
                    .note(event.tgid, ProcessChange::Replaced { at_ns: clock::monotonic_ns() });
            }
        }
    }
}
