//! What has become of processes, kept until the events from before that are booked.

use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<Change>,
    /// Bytes of events, in the whole run.
    taken: u64,
}

struct Change {
    pid: u32,
    is_replaced: bool,
    /// What had been taken when this was heard of.
    taken: u64,
}

impl Changes {
    /// An event was taken out of the ring buffer.
    pub(super) fn took(&mut self, length: usize) {
        self.taken += length as u64;
    }

    /// A process ended or runs another program now (`is_replaced`), or there is more to say of it.
    pub(super) fn note(&mut self, pid: u32, is_replaced: bool) {
        self.waiting.push_back(Change { pid, is_replaced, taken: self.taken });
    }

    /// The next change whose process has no events from before it in the ring buffer: because
    /// that is empty, or because as much has been taken since as it can hold.
    pub(super) fn next_due(&mut self, is_drained: bool, ring_bytes: u64) -> Option<(u32, bool)> {
        let first = self.waiting.front()?;
        if !is_drained && self.taken - first.taken < ring_bytes {
            return None;
        }
        self.waiting.pop_front().map(|change| (change.pid, change.is_replaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: u64 = 1000;

    #[test]
    fn a_change_waits_until_the_ring_buffer_is_empty() {
        let mut changes = Changes::default();
        changes.note(7, true);
        changes.took(500);
        changes.note(8, false);
        assert_eq!(changes.next_due(false, RING), None);
        assert_eq!(changes.next_due(true, RING), Some((7, true)));
        assert_eq!(changes.next_due(true, RING), Some((8, false)));
        assert_eq!(changes.next_due(true, RING), None);
    }

    #[test]
    fn a_ring_buffer_that_is_never_empty_holds_no_change_up_for_ever() {
        let mut changes = Changes::default();
        changes.note(7, true);
        changes.took(500);
        changes.note(8, true);
        changes.took(499);
        assert_eq!(changes.next_due(false, RING), None);
        changes.took(1);
        assert_eq!(changes.next_due(false, RING), Some((7, true)));
        assert_eq!(changes.next_due(false, RING), None, "events of 8 may be left");
    }
}
