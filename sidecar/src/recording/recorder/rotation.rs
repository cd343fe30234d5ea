//! One segment after the other, each with an opening and a closing line.

use std::time::Instant;

use anyhow::{Context as _, Result};
use processes::clock;
use sidecar_common::Counters;
use trace::{
    line::{CloseReason, FORMAT_VERSION, Meta, SegmentClose, SegmentOpen},
    writer::push_meta,
};

use super::{Options, Recorder, dictionary::Dictionary, kernel_names::KernelNames};

use crate::shipping::segment::Segment;

impl Recorder {
    pub(super) fn write_out(&mut self) {
        self.flush();
        if self.segment.written() >= self.options.segment_size {
            self.rotate(CloseReason::Size);
        }
    }

    pub(super) fn rotate_if_due(&mut self) {
        self.publisher.publish_if_due();
        if self.disk.limit_is_due() {
            self.check_limit();
        }
        if self.segment_started.elapsed() < self.options.interval || self.publisher.is_paused() {
            return;
        }
        self.check_limit();
        // What waits for its frame counts.
        self.flush();
        if self.accounting.segment_lines() == 0 {
            // An empty segment would tell nothing; this one goes on.
            self.segment_started = Instant::now();
            return;
        }
        self.rotate(CloseReason::Interval);
    }

    /// Closes the segment and opens the next one. If one of the two fails the segment stays open
    /// and goes on.
    fn rotate(&mut self, reason: CloseReason) {
        if self.publisher.is_paused() {
            return;
        }
        let result = self.try_rotate(reason);
        self.publisher.tried(&result);
        if result.is_err() {
            if self.segment.is_deleted() {
                self.disk.deleted();
            }
            // The open segment may have outgrown its size meanwhile.
            self.check_limit();
        }
    }

    fn try_rotate(&mut self, reason: CloseReason) -> Result<()> {
        let counters = self.kernel.counters(self.accounting.functions())?;
        let directory = self.spool.directory().to_owned();
        let sequence = self.segment.sequence() + 1;
        // First, so that a segment is never closed without another one to go on with.
        let (run, format) = (self.options.run.clone(), self.options.format);
        let next = self.publisher.next(directory, run, sequence, format)?;
        if let Err(error) = self.close_segment(reason, &counters) {
            next.discard();
            return Err(error);
        }
        let closed = self.segment.replace(next);
        self.closed_bytes += closed.written();
        self.publisher.closed(closed);
        self.disk.begun();
        self.accounting.segment_closed();
        self.open_segment();
        self.publisher.publish()?;
        self.check_limit();
        Ok(())
    }

    pub(super) fn check_limit(&mut self) {
        // The open segment has room of its own beside the limit, up to its size.
        let beyond = self.segment.written().saturating_sub(self.options.segment_size);
        let waiting = self.spool.waiting_bytes().map(|waiting| waiting + beyond);
        self.disk.compare(waiting, self.options.directory_limit);
    }

    pub(super) fn open_segment(&mut self) {
        self.segment_started = Instant::now();
        let Self { segment, options, dictionary, kernel_names, .. } = self;
        begin(segment, options, dictionary, kernel_names);
        self.flush();
    }

    /// Writes the closing line, with the counters that balance it.
    pub(super) fn close_segment(
        &mut self,
        reason: CloseReason,
        counters: &[Counters],
    ) -> Result<()> {
        self.flush();
        let now = clock::read(self.options.start_ns);
        let close = SegmentClose {
            sequence: self.segment.sequence(),
            reason,
            r#final: reason == CloseReason::Shutdown,
            calls: self.accounting.segment_lines(),
            clock: now,
            functions: self.accounting.counts(counters),
            coverage: Some(self.coverage),
            cost: Some(self.cost.read(self.options.ring_bytes)),
        };
        let since_start = now.monotonic_ns - now.start_monotonic_ns;
        let meta = Meta::SegmentClose(close);
        push_meta(self.segment.buffer(), since_start, std::process::id(), &meta);
        self.segment.flush().context("cannot write the closing line")
    }

    fn flush(&mut self) {
        let Self { segment, accounting, disk, options, dictionary, kernel_names, .. } = self;
        disk.flush(segment, accounting, |segment| {
            begin(segment, options, dictionary, kernel_names);
        });
    }
}

/// Says what stands before the calls of a segment, and has the rest said again when it is due.
fn begin(
    segment: &mut Segment,
    options: &Options,
    dictionary: &mut Dictionary,
    kernel_names: &mut KernelNames,
) {
    let now = clock::read(options.start_ns);
    let open = SegmentOpen {
        format_version: FORMAT_VERSION,
        sequence: segment.sequence(),
        host: options.run.host.clone(),
        kernel: options.kernel_release.clone(),
        sidecar_version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: now,
        options: options.settings.clone(),
    };
    let since_start = now.monotonic_ns - now.start_monotonic_ns;
    let meta = Meta::SegmentOpen(open);
    push_meta(segment.buffer(), since_start, std::process::id(), &meta);
    dictionary.begin_segment(segment.buffer());
    kernel_names.begin_segment();
}
