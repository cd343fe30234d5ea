//! What waits for its turn in discovery, as much of it as there is memory for.

use std::collections::{HashSet, VecDeque};

/// A queue that holds so many bytes at most: processes fill it, with paths of 4 KiB.
#[derive(Debug)]
pub(super) struct BoundedQueue<T> {
    /// With the bytes of each.
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    most_bytes: usize,
}

impl<T> BoundedQueue<T> {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, most_bytes }
    }

    /// Takes what lies in `heap_bytes` beside itself; false if there is no room for it.
    pub(super) fn push(&mut self, waiting: T, heap_bytes: usize) -> bool {
        let bytes = size_of::<(T, usize)>() + heap_bytes;
        let has_room = self.bytes + bytes <= self.most_bytes;
        if has_room {
            self.bytes += bytes;
            self.queue.push_back((waiting, bytes));
        }
        has_room
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let (waiting, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(waiting)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Processes that wait, each once, up to so many of them.
#[derive(Debug)]
pub(super) struct Once {
    queue: VecDeque<u32>,
    waiting: HashSet<u32>,
    most: usize,
}

impl Once {
    pub(super) fn new(most: usize) -> Self {
        Self { queue: VecDeque::new(), waiting: HashSet::new(), most }
    }

    /// One that waits already keeps its place; one that has no room is left out.
    pub(super) fn push(&mut self, pid: u32) {
        if self.queue.len() < self.most && self.waiting.insert(pid) {
            self.queue.push_back(pid);
        }
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        let pid = self.queue.pop_front()?;
        self.waiting.remove(&pid);
        Some(pid)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_waits_once_however_often_it_comes() {
        let mut queue = Once::new(2);
        for pid in [7, 8, 7, 7, 9, 8] {
            queue.push(pid);
        }
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(7), Some(8), None]);
        queue.push(7);
        assert!(!queue.is_empty() && queue.pop() == Some(7) && queue.is_empty());
    }

    #[test]
    fn long_paths_fill_a_queue_sooner_and_what_is_taken_makes_room() {
        let most_bytes = 64 << 10;
        let fill = |heap_bytes: usize| {
            let mut queue = BoundedQueue::new(most_bytes);
            while queue.push((), heap_bytes) {
                assert!(queue.queue.len() <= most_bytes, "it never fills");
            }
            queue
        };
        let mut long = fill(4096);
        assert!(long.queue.len() <= most_bytes / 4096);
        assert!(fill(0).queue.len() > 100 * long.queue.len());
        assert_eq!(long.pop(), Some(()));
        assert!(long.push((), 4096) && !long.push((), 4096));
        while long.pop().is_some() {}
        assert!(long.is_empty() && long.bytes == 0);
    }
}
