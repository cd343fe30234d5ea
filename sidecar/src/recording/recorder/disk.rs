//! Whether lines can be written. While they cannot, calls are counted as dropped.

use std::{
    io, mem,
    time::{Duration, Instant},
};

use anyhow::Result;
use tracing::{error, info, warn};

use crate::{recording::accounting::Accounting, shipping::segment::Segment};

/// How often the size of TRACE_DIR is looked at while it is at its limit.
const LIMIT_PERIOD: Duration = Duration::from_secs(1);

/// How often it is said that lines cannot be written, while that goes on.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// How long writing must succeed until it is said that it does: a disk that is nearly full takes a
/// short line now and then.
const RECOVERY_TIME: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Disk {
    /// Writing failed last time, and what was buffered is lost.
    is_failing: bool,
    outage: Option<Outage>,
    /// Somebody has deleted the open segment: what is written there is lost.
    is_deleted: bool,
    limit: Limit,
}

/// Since the first failure, until writing has succeeded for a while.
struct Outage {
    failures: u64,
    failed: Instant,
    said: Instant,
}

/// TRACE_DIR_LIMIT.
#[derive(Default)]
struct Limit {
    /// Closed segments fill it, with what the open one has outgrown its size by.
    is_reached: bool,
    /// When TRACE_DIR was looked at.
    checked: Option<Instant>,
    /// How full it is could not be told then.
    is_unknown: bool,
}

impl Disk {
    pub(super) fn is_writable(&self) -> bool {
        !self.is_failing && !self.is_deleted && !self.limit.is_reached
    }

    /// Writes what is buffered, and counts it.
    ///
    /// What a failed write has lost may be lines that later ones rely on. So the next that is
    /// written is what `begin` appends: all that a segment says before its calls.
    pub(super) fn flush(
        &mut self,
        segment: &mut Segment,
        accounting: &mut Accounting,
        begin: impl FnOnce(&mut Segment),
    ) {
        if self.is_failing {
            // No calls, because it is not writable, and libraries are among what `begin` says.
            segment.buffer().clear();
            begin(segment);
        }
        if segment.buffered() == 0 {
            return;
        }
        match segment.flush() {
            Ok(()) => {
                accounting.buffer_written();
                self.wrote();
            }
            Err(cause) => {
                accounting.buffer_lost();
                self.failed(&cause);
            }
        }
    }

    fn wrote(&mut self) {
        self.is_failing = false;
    }

    /// Says that an outage is over; to be asked now and then, because maybe nobody calls any more.
    pub(super) fn tell_recovery(&mut self) {
        let is_over = |outage: &mut Outage| outage.failed.elapsed() >= RECOVERY_TIME;
        if !self.is_failing
            && let Some(Outage { failures, .. }) = self.outage.take_if(is_over)
        {
            info!(failures, "trace lines can be written again");
        }
    }

    /// Logs when an outage begins, and now and then while it goes on, not once per failure.
    fn failed(&mut self, cause: &io::Error) {
        self.is_failing = true;
        let now = Instant::now();
        let is_new = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { failures: 0, failed: now, said: now });
        outage.failures += 1;
        outage.failed = now;
        if is_new || outage.said.elapsed() >= WARN_INTERVAL {
            outage.said = now;
            error!(
                %cause,
                failures = outage.failures,
                "cannot write trace lines: calls are dropped, and counted"
            );
        }
    }

    pub(super) fn deleted(&mut self) {
        if !self.is_deleted {
            error!(
                "somebody has deleted the open segment: its calls are lost, and further ones are \
                 dropped, and counted, until another one can be begun"
            );
        }
        self.is_deleted = true;
    }

    pub(super) fn begun(&mut self) {
        self.is_deleted = false;
    }

    /// At the limit, whether another look is due.
    pub(super) fn limit_is_due(&self) -> bool {
        self.limit.is_reached
            && self.limit.checked.is_none_or(|checked| checked.elapsed() > LIMIT_PERIOD)
    }

    /// `waiting`: what counts towards the limit, if that can be told. If not, what was known of it
    /// holds on.
    pub(super) fn compare(&mut self, waiting: Result<u64>, limit: u64) {
        self.limit.checked = Some(Instant::now());
        let was_unknown = mem::replace(&mut self.limit.is_unknown, waiting.is_err());
        let waiting = match waiting {
            Ok(waiting) => waiting,
            Err(error) => {
                if !was_unknown {
                    error!("cannot tell how full TRACE_DIR is: {error:#}");
                }
                return;
            }
        };
        match (self.limit.is_reached, waiting >= limit) {
            (false, true) => warn!(
                waiting,
                limit,
                "TRACE_DIR_LIMIT is reached: calls are dropped, and counted, until segments are \
                 uploaded or removed, or the open one can be finished"
            ),
            (true, false) => info!(waiting, limit, "recording goes on"),
            _ => {}
        }
        self.limit.is_reached = waiting >= limit;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use anyhow::anyhow;
    use trace::segment_name::{Format, Run};

    use super::*;

    #[test]
    fn what_a_failed_write_has_lost_is_said_again_before_anything_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut segment = Segment::create(path, Run::new("h", "s"), 1, Format::Jsonl).unwrap();
        let (mut disk, mut accounting) = (Disk::default(), Accounting::default());
        let begin = |segment: &mut Segment| segment.buffer().extend_from_slice(b"beginning\n");

        segment.buffer().extend_from_slice(b"beginning\nprocess\n");
        let writable = segment.exchange_file(File::open("/dev/null").unwrap());
        for _ in 0..2 {
            disk.flush(&mut segment, &mut accounting, begin);
            assert!(!disk.is_writable());
        }
        // A message came before the next flush, and there is space again.
        segment.buffer().extend_from_slice(b"library\n");
        segment.exchange_file(writable);
        disk.flush(&mut segment, &mut accounting, begin);
        assert!(disk.is_writable());
        segment.buffer().extend_from_slice(b"call\n");
        disk.flush(&mut segment, &mut accounting, begin);

        let name = segment.publish().unwrap();
        let written = fs::read_to_string(directory.path().join(name.to_string())).unwrap();
        assert_eq!(written, "beginning\ncall\n");
    }

    #[test]
    fn a_failing_disk_that_recovers_is_still_at_its_limit() {
        let mut disk = Disk::default();
        assert!(disk.is_writable());
        disk.compare(Ok(10), 10);
        disk.failed(&io::Error::other("full"));
        disk.wrote();
        assert!(!disk.is_writable());
        disk.compare(Err(anyhow!("no such directory")), 10);
        assert!(!disk.is_writable(), "it is still full, as far as is known");
        // However slow the machine is.
        *disk.limit.checked.as_mut().unwrap() += LIMIT_PERIOD * 1000;
        assert!(!disk.limit_is_due(), "the next look comes after a while");
        disk.compare(Ok(9), 10);
        assert!(disk.is_writable());
    }

    #[test]
    fn what_is_written_to_a_deleted_segment_would_be_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let segment = Segment::create(path, Run::new("h", "s"), 1, Format::Jsonl).unwrap();
        assert!(!segment.is_deleted());
        fs::remove_file(directory.path().join("trace_h_s_000001.jsonl.part")).unwrap();
        assert!(segment.is_deleted());
        let mut disk = Disk::default();
        disk.deleted();
        disk.wrote();
        assert!(!disk.is_writable());
        disk.begun();
        assert!(disk.is_writable());
    }

    #[test]
    fn a_disk_that_takes_a_line_now_and_then_is_told_of_once() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Arc::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut disk = Disk::default();
            let full = io::Error::from_raw_os_error(libc::ENOSPC);
            for _ in 0..100 {
                disk.failed(&full);
                assert!(!disk.is_writable());
                disk.wrote();
                assert!(disk.is_writable());
                disk.tell_recovery();
            }
            // However slow the machine is.
            disk.outage.as_mut().unwrap().said -= WARN_INTERVAL;
            disk.failed(&full);
            disk.failed(&full);
            disk.outage.as_mut().unwrap().failed -= RECOVERY_TIME;
            disk.tell_recovery();
            disk.wrote();
            disk.tell_recovery();
            disk.tell_recovery();
        });
        let log = fs::read_to_string(log.path()).unwrap();
        assert_eq!(log.matches("cannot write trace lines").count(), 2, "{log}");
        assert!(log.contains("failures=101"), "{log}");
        assert_eq!(log.matches("can be written again").count(), 1, "{log}");
        assert!(log.contains("failures=102"), "{log}");
    }
}
