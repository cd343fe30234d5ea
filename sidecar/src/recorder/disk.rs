//! Whether lines can be written. While they cannot, calls are counted as dropped.

use std::{
    io,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use crate::{books::Books, segment::Segment};

/// How often the size of TRACE_DIR is looked at while it is at its limit.
const LIMIT_PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Disk {
    /// Writing failed last time, and what was buffered is lost.
    is_failing: bool,
    /// Closed segments fill TRACE_DIR_LIMIT.
    is_at_limit: bool,
    limit_checked: Option<Instant>,
}

impl Disk {
    pub(super) fn is_writable(&self) -> bool {
        !self.is_failing && !self.is_at_limit
    }

    /// Writes what is buffered, and books it.
    ///
    /// What a failed write has lost may be lines that later ones rely on. So the next that is
    /// written is what `begin` appends: all that a segment says before its calls.
    pub(super) fn flush(
        &mut self,
        segment: &mut Segment,
        books: &mut Books,
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
                books.buffer_written();
                self.wrote();
            }
            Err(cause) => {
                books.buffer_lost();
                self.failed(&cause);
            }
        }
    }

    fn wrote(&mut self) {
        if self.is_failing {
            info!("trace lines can be written again");
        }
        self.is_failing = false;
    }

    /// Logs when the state changes, not once per failure.
    fn failed(&mut self, cause: &io::Error) {
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
    use std::fs::{self, File};

    use trace::segment_name::{Format, Run};

    use super::*;

    #[test]
    fn what_a_failed_write_has_lost_is_said_again_before_anything_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut segment = Segment::create(path, Run::new("h", "s"), 1, Format::Jsonl).unwrap();
        let (mut disk, mut books) = (Disk::default(), Books::default());
        let begin = |segment: &mut Segment| segment.buffer().extend_from_slice(b"beginning\n");

        segment.buffer().extend_from_slice(b"beginning\nprocess\n");
        let writable = segment.exchange_file(File::open("/dev/null").unwrap());
        for _ in 0..2 {
            disk.flush(&mut segment, &mut books, begin);
            assert!(!disk.is_writable());
        }
        // A notice came before the next flush, and there is space again.
        segment.buffer().extend_from_slice(b"library\n");
        segment.exchange_file(writable);
        disk.flush(&mut segment, &mut books, begin);
        assert!(disk.is_writable());
        segment.buffer().extend_from_slice(b"call\n");
        disk.flush(&mut segment, &mut books, begin);

        let name = segment.publish().unwrap();
        let written = fs::read_to_string(directory.path().join(name.to_string())).unwrap();
        assert_eq!(written, "beginning\ncall\n");
    }

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
