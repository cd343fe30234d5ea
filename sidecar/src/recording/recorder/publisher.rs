//! From one segment to the next: what fails there is said once, loses no call, and is tried again.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use trace::segment_name::{Format, Run};
use tracing::{debug, error, info};

use crate::shipping::{segment::Segment, transcode::Transcoder};

/// What fails here seldom heals by itself, and each try reads the counters of every function; but
/// an open segment that nobody can upload should not outlive the failure by much.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct SegmentPublisher {
    /// When it failed, if it did the last time.
    failed: Option<Instant>,
    /// Closed, but without its final name. One at most: no other is closed before it has that.
    closed: Option<Segment>,
    /// Makes tables of closed segments, if there are to be any.
    transcoder: Option<Transcoder>,
}

impl SegmentPublisher {
    pub(super) fn new(transcoder: Option<Transcoder>) -> Self {
        Self { transcoder, ..Self::default() }
    }

    /// Lets others have a segment that has its closing line. If it fails it can be tried again.
    pub(super) fn give(&self, segment: &Segment) -> io::Result<()> {
        match &self.transcoder {
            None => segment.publish()?,
            Some(transcoder) => {
                transcoder.push(segment.part(), segment.name().clone(), segment.written());
                segment.name()
            }
        };
        Ok(())
    }

    /// After a failure, until the next try is due.
    pub(super) fn is_paused(&self) -> bool {
        self.failed.is_some_and(|failed| failed.elapsed() < PAUSE)
    }

    /// Logs when the state changes, not once per failure.
    pub(super) fn tried(&mut self, result: &Result<()>) {
        match (result, self.failed) {
            (Err(error), None) => error!(
                "cannot finish a segment, which is tried again every {} s: {error:#}",
                PAUSE.as_secs()
            ),
            (Ok(()), Some(_)) => info!("segments can be finished again"),
            _ => {}
        }
        self.failed = result.is_err().then(Instant::now);
    }

    /// Creates the segment to go on with.
    pub(super) fn next(
        &mut self,
        directory: PathBuf,
        run: Run,
        sequence: u64,
        format: Format,
    ) -> Result<Segment> {
        self.publish()?;
        Segment::create(directory, run, sequence, format).context("cannot create the next segment")
    }

    /// Takes a segment that has its closing line, to be published.
    pub(super) fn closed(&mut self, segment: Segment) {
        debug_assert!(self.closed.is_none());
        self.closed = Some(segment);
    }

    /// Gives the closed segment its final name, if there is one without.
    pub(super) fn publish(&mut self) -> Result<()> {
        let Some(closed) = &self.closed else { return Ok(()) };
        match self.give(closed) {
            Ok(()) => debug!(segment = %closed.name(), "closed a segment"),
            // No later try would find it.
            Err(error) if error.kind() == ErrorKind::NotFound => error!(
                segment = closed.sequence(),
                "somebody has removed a segment while it was written: its calls are lost"
            ),
            Err(error) => return Err(error).context("cannot rename a closed segment"),
        }
        self.closed = None;
        Ok(())
    }

    /// Tries again what could not be published: maybe no other segment is ever closed.
    pub(super) fn publish_if_due(&mut self) {
        if self.closed.is_some() && !self.is_paused() {
            let result = self.publish();
            self.tried(&result);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc};

    use anyhow::anyhow;

    use super::*;

    fn next(publisher: &mut SegmentPublisher, directory: &Path, sequence: u64) -> Result<Segment> {
        publisher.next(directory.to_owned(), Run::new("h", "s"), sequence, Format::Jsonl)
    }

    fn fails(publisher: &mut SegmentPublisher, result: &Result<()>) {
        assert!(result.is_err());
        publisher.tried(result);
        // However slow the machine is.
        *publisher.failed.as_mut().unwrap() += PAUSE * 1000;
        assert!(publisher.is_paused());
    }

    fn end_pause(publisher: &mut SegmentPublisher) {
        *publisher.failed.as_mut().unwrap() -= PAUSE * 1001;
        assert!(!publisher.is_paused());
    }

    #[test]
    fn while_no_segment_can_be_created_the_open_one_goes_on() {
        let scene = tempfile::tempdir().unwrap();
        let (directory, away) = (scene.path().join("traces"), scene.path().join("away"));
        fs::create_dir(&directory).unwrap();
        let mut publisher = SegmentPublisher::default();
        let mut open = next(&mut publisher, &directory, 1).unwrap();
        fs::rename(&directory, &away).unwrap();
        for _ in 0..2 {
            let result = next(&mut publisher, &directory, 2).map(drop);
            fails(&mut publisher, &result);
            open.buffer().extend_from_slice(b"line\n");
            open.flush().unwrap();
            end_pause(&mut publisher);
        }
        fs::rename(&away, &directory).unwrap();
        let second = next(&mut publisher, &directory, 2).unwrap();
        publisher.closed(open.replace(second));
        let result = publisher.publish();
        publisher.tried(&result);
        assert!(!publisher.is_paused());
        let first = directory.join("trace_h_s_000001.jsonl");
        assert_eq!(fs::read_to_string(first).unwrap(), "line\nline\n");
    }

    #[test]
    fn a_closed_segment_gets_its_name_as_soon_as_that_is_possible() {
        let scene = tempfile::tempdir().unwrap();
        let published = scene.path().join("trace_h_s_000001.jsonl");
        // No file can take the name of a directory.
        fs::create_dir(&published).unwrap();
        let mut publisher = SegmentPublisher::default();
        let first = next(&mut publisher, scene.path(), 1).unwrap();
        publisher.closed(first);
        let result = publisher.publish();
        fails(&mut publisher, &result);
        assert!(next(&mut publisher, scene.path(), 2).is_err(), "the first would be forgotten");

        fs::remove_dir(&published).unwrap();
        publisher.publish_if_due();
        assert!(!published.exists(), "the pause is not over");
        end_pause(&mut publisher);
        publisher.publish_if_due();
        assert!(published.is_file());
        next(&mut publisher, scene.path(), 2).unwrap();
    }

    #[test]
    fn a_failure_and_its_end_are_each_said_once() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let subscriber =
            tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut publisher = SegmentPublisher::default();
            for result in [Err(anyhow!("first")), Err(anyhow!("second")), Ok(()), Ok(())] {
                publisher.tried(&result);
            }
        });
        let log = fs::read_to_string(log.path()).unwrap();
        assert_eq!(log.lines().count(), 2, "{log}");
        assert_eq!(log.matches("cannot finish a segment").count(), 1, "{log}");
        assert_eq!(log.matches("segments can be finished again").count(), 1, "{log}");
    }

    #[test]
    fn a_segment_that_somebody_has_removed_holds_nothing_up() {
        let scene = tempfile::tempdir().unwrap();
        let mut publisher = SegmentPublisher::default();
        let first = next(&mut publisher, scene.path(), 1).unwrap();
        fs::remove_file(scene.path().join("trace_h_s_000001.jsonl.part")).unwrap();
        publisher.closed(first);
        publisher.publish().unwrap();
        next(&mut publisher, scene.path(), 2).unwrap();
    }
}
