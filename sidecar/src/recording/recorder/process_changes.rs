//! What has become of processes, kept until the events from before that are counted.

use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<Waiting>,
    /// Bytes of events, in the whole run.
    taken: u64,
}

struct Waiting {
    pid: u32,
    change: ProcessChange,
    /// What had been taken when this was heard of.
    taken: u64,
}

/// What has become of a process. Times are those of events, `CLOCK_MONOTONIC`: this is heard of
/// later than it was, and a process may have done things since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessChange {
    /// It was forked: its handles mean what they meant to its parent then.
    Forked { parent: u32, at_ns: u64 },
    /// It executed something or ended, by which its handles meant nothing any more.
    Replaced { at_ns: u64 },
    /// It took another title, or became a target.
    Described,
}

impl Changes {
    /// An event was taken out of the ring buffer.
    pub(super) fn took(&mut self, length: usize) {
        self.taken += length as u64;
    }

    pub(super) fn note(&mut self, pid: u32, change: ProcessChange) {
        self.waiting.push_back(Waiting { pid, change, taken: self.taken });
    }

    /// The next change whose process has no events from before it in the ring buffer: because
    /// that is empty, or because as much has been taken since as it can hold.
    pub(super) fn next_due(
        &mut self,
        is_drained: bool,
        ring_bytes: u64,
    ) -> Option<(u32, ProcessChange)> {
        let first = self.waiting.front()?;
        if !is_drained && self.taken - first.taken < ring_bytes {
            return None;
        }
        self.waiting.pop_front().map(|first| (first.pid, first.change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLACED: ProcessChange = ProcessChange::Replaced { at_ns: 5 };
    const RING: u64 = 1000;

    #[test]
    fn a_change_waits_until_the_ring_buffer_is_empty() {
        let mut changes = Changes::default();
        changes.note(7, REPLACED);
        changes.took(500);
        changes.note(8, ProcessChange::Described);
        assert_eq!(changes.next_due(false, RING), None);
        assert_eq!(changes.next_due(true, RING), Some((7, REPLACED)));
        assert_eq!(changes.next_due(true, RING), Some((8, ProcessChange::Described)));
        assert_eq!(changes.next_due(true, RING), None);
    }

    #[test]
    fn a_ring_buffer_that_is_never_empty_holds_no_change_up_for_ever() {
        let mut changes = Changes::default();
        changes.note(7, REPLACED);
        changes.took(500);
        changes.note(8, REPLACED);
        changes.took(499);
        assert_eq!(changes.next_due(false, RING), None);
        changes.took(1);
        assert_eq!(changes.next_due(false, RING), Some((7, REPLACED)));
        assert_eq!(changes.next_due(false, RING), None, "events of 8 may be left");
    }
}
