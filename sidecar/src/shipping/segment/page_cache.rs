//! Keeps what was written out of the page cache: it belongs to the model's files, and to make room in
//! it costs the writer more than the writing.
//!
//! Each part of a file is sent to the disk when it is complete, and what lies before it is dropped
//! from the cache: `POSIX_FADV_DONTNEED` leaves what is still on its way where it is, and takes time
//! over it. Files of less than two parts stay in the cache until they are uploaded and deleted. On a
//! file system that has no use for it nothing happens.

use std::{fs::File, num::NonZeroU64, ops::Range, os::fd::AsRawFd as _};

use rustix::fs::{Advice, fadvise};

/// Enough for large writes to the disk, little beside what a ring buffer bridges while the disk is
/// handed that much.
const PART: u64 = 8 << 20;

/// How many bytes of a file are on their way to the disk.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    sent: u64,
}

impl PageCache {
    /// To be called after each write, with the length of the file.
    pub(crate) fn spare(&mut self, file: &File, written: u64) {
        if let Some(part) = self.due(written) {
            // What cannot be spared stays in the cache, as it would anyway.
            let _: rustix::io::Result<()> = NonZeroU64::new(part.start)
                .map_or(Ok(()), |before| fadvise(file, 0, Some(before), Advice::DontNeed));
            send(file, part);
        }
    }

    /// The part that is complete now.
    fn due(&mut self, written: u64) -> Option<Range<u64>> {
        if written < self.sent + PART {
            return None;
        }
        let part = self.sent..written;
        self.sent = written;
        Some(part)
    }
}

/// Begins to write a part to the disk, and does not wait for it.
fn send(file: &File, part: Range<u64>) {
    let length = i64::try_from(part.end - part.start);
    let (Ok(offset), Ok(length)) = (i64::try_from(part.start), length) else { return };
    // SAFETY: the call takes an open descriptor and numbers, and no memory of ours.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_whatever_the_writes() {
        let mut cache = PageCache::default();
        let writes = [PART - 1, PART, PART + 1, 3 * PART, 4 * PART - 1, 9 * PART];
        let parts: Vec<_> = writes.into_iter().filter_map(|written| cache.due(written)).collect();
        assert_eq!(parts, [0..PART, PART..3 * PART, 3 * PART..9 * PART]);
    }

    #[test]
    fn a_file_is_unharmed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let part: Vec<u8> = (0..=u8::MAX).cycle().take(8 << 20).collect();
        let mut cache = PageCache::default();
        for end in [PART, 2 * PART, 3 * PART] {
            std::io::Write::write_all(&mut file.as_file(), &part).unwrap();
            cache.spare(file.as_file(), end);
        }
        assert!(std::fs::read(file.path()).unwrap() == part.repeat(3));
    }
}
