//! Keeps what was written out of the page cache: it belongs to the model's files, and to make room in
//! it costs the writer more than the writing.
//!
//! `POSIX_FADV_DONTNEED` begins to write out what is dirty, without waiting for it, and drops what is
//! clean; so each range is told twice. It is advice: a file system that has no use for it does nothing.

use std::{fs::File, num::NonZeroU64};

use rustix::fs::{Advice, fadvise};

/// Enough for large writes to the disk, little beside what a ring buffer bridges while the disk is
/// handed that much.
const WINDOW: u64 = 8 << 20;

/// How far a file was told of.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    told: u64,
}

impl PageCache {
    /// To be called after each write, with the length of the file.
    pub(crate) fn spare(&mut self, file: &File, written: u64) {
        if let Some((offset, length)) = self.due(written) {
            // What cannot be spared stays in the cache, as it would anyway.
            let _: rustix::io::Result<()> =
                fadvise(file, offset, NonZeroU64::new(length), Advice::DontNeed);
        }
    }

    /// Offset and length of what is to be told now: the new part, and the one before it.
    fn due(&mut self, written: u64) -> Option<(u64, u64)> {
        if written < self.told + WINDOW {
            return None;
        }
        let offset = self.told.saturating_sub(WINDOW);
        self.told = written;
        Some((offset, written - offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_told_when_it_is_written_and_once_more() {
        const PART: u64 = WINDOW / 4;
        let mut cache = PageCache::default();
        let told: Vec<_> = (1..=14).filter_map(|part| cache.due(part * PART)).collect();
        assert_eq!(told, [(0, WINDOW), (0, 2 * WINDOW), (WINDOW, 2 * WINDOW)]);
    }

    #[test]
    fn one_large_write_is_one_part() {
        let mut cache = PageCache::default();
        assert_eq!(cache.due(5 * WINDOW), Some((0, 5 * WINDOW)));
        assert_eq!(cache.due(5 * WINDOW + 1), None);
        assert_eq!(cache.due(6 * WINDOW), Some((4 * WINDOW, 2 * WINDOW)));
    }
}
