//! `/etc/ld.so.cache`, where `ldconfig` writes down which libraries there are.
//!
//! The layout is that of glibc's `sysdeps/generic/dl-cache.h`: a header and entries that point to
//! strings. Up to glibc 2.31 an older header with entries of its own stands in front. The file comes
//! from a container, so nothing in it is trusted.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{in_root, resolve_in};
use crate::untrusted_file;

const FILE: &str = "/etc/ld.so.cache";
/// A machine with thousands of libraries has a cache of a few hundred KiB.
const MAX_BYTES: u64 = 4 << 20;
/// A path that is longer cannot be opened.
const MAX_PATH: usize = 4096;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const COUNT_AT: usize = 20;
const ENDIANNESS_AT: usize = 28;
const BIG_ENDIAN: u8 = 3;
const ENTRY_BYTES: usize = 24;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEADER_BYTES: usize = 16;
const OLD_COUNT_AT: usize = 12;
const OLD_ENTRY_BYTES: usize = 12;

/// The bits of an entry's flags that name its architecture, and their value for x86-64.
const ARCHITECTURE: u32 = 0xff00;
const X86_64: u32 = 0x0300;

/// The paths of the x86-64 libraries whose names are wanted; none if there is no cache.
pub(super) fn read(root: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(path) = resolve_in(root, Path::new(FILE)) else { return Vec::new() };
    let bytes = untrusted_file::read(&in_root(root, &path), MAX_BYTES);
    bytes.map(|bytes| parse(&bytes, wanted)).unwrap_or_default()
}

/// As [`read`]; entries that lead nowhere are passed over, and so is a file that is no cache.
pub(super) fn parse(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Some(bytes) = without_old_part(bytes) else { return Vec::new() };
    let is_cache = bytes.starts_with(MAGIC)
        && bytes.get(ENDIANNESS_AT).is_some_and(|flags| flags & 3 != BIG_ENDIAN);
    let (true, Some(count)) = (is_cache, number(bytes, COUNT_AT)) else { return Vec::new() };
    let entries = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(ENTRY_BYTES);
    entries
        .take(count as usize)
        .filter(|entry| number(entry, 0).is_some_and(|flags| flags & ARCHITECTURE == X86_64))
        .filter(|entry| {
            string(bytes, number(entry, 4)).is_some_and(|name| name.to_str().is_some_and(&wanted))
        })
        .filter_map(|entry| string(bytes, number(entry, 8)))
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .collect()
}

/// Offsets of strings count from the newer header, so what stands before it is cut off.
fn without_old_part(bytes: &[u8]) -> Option<&[u8]> {
    if !bytes.starts_with(OLD_MAGIC) {
        return Some(bytes);
    }
    let count = number(bytes, OLD_COUNT_AT)? as usize;
    let end = count.checked_mul(OLD_ENTRY_BYTES)?.checked_add(OLD_HEADER_BYTES)?;
    bytes.get(end.checked_next_multiple_of(8)?..)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn string(bytes: &[u8], at: Option<u32>) -> Option<&OsStr> {
    let bytes = bytes.get(at? as usize..)?;
    let bytes = &bytes[..bytes.len().min(MAX_PATH)];
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some(OsStr::from_bytes(&bytes[..end]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::loader::is_cuda_library;

    const LIBC6: u32 = 3;

    /// A cache as `ldconfig` of glibc 2.32 and later writes it.
    pub(in crate::loader) fn cache_of(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut table = Vec::new();
        let strings_at = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        for (flags, name, path) in entries {
            table.extend(flags.to_le_bytes());
            for text in [name, path] {
                table.extend(u32::try_from(strings_at + strings.len()).unwrap().to_le_bytes());
                strings.extend(text.as_bytes());
                strings.push(0);
            }
            table.extend([0; 12]);
        }
        let mut cache = MAGIC.to_vec();
        cache.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
        cache.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        cache.extend([2, 0, 0, 0]);
        cache.extend([0; 16]);
        assert_eq!(cache.len(), HEADER_BYTES);
        cache.extend(table);
        cache.extend(strings);
        cache
    }

    fn with_old_part(cache: &[u8], old_entries: u32) -> Vec<u8> {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.push(0);
        bytes.extend(old_entries.to_le_bytes());
        bytes.extend(vec![0xff; old_entries as usize * OLD_ENTRY_BYTES]);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(cache);
        bytes
    }

    fn sample() -> Vec<u8> {
        cache_of(&[
            (X86_64 | LIBC6, "libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1"),
            (X86_64 | LIBC6, "libcudart.so.12", "/usr/local/cuda/lib64/libcudart.so.12"),
            (LIBC6, "libcuda.so.1", "/lib/i386-linux-gnu/libcuda.so.1"),
            (X86_64 | LIBC6, "libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.1"),
        ])
    }

    fn expected() -> [&'static Path; 2] {
        ["/usr/local/cuda/lib64/libcudart.so.12", "/lib/x86_64-linux-gnu/libcuda.so.1"]
            .map(Path::new)
    }

    #[test]
    fn the_newer_layout() {
        assert_eq!(parse(&sample(), is_cuda_library), expected());
        assert_eq!(parse(&sample(), |name| name == "libz.so.1").len(), 1);
    }

    #[test]
    fn the_older_layout_in_front() {
        // An odd number of old entries needs padding, an even one does not.
        for old_entries in [0, 1, 2, 3, 7] {
            let bytes = with_old_part(&sample(), old_entries);
            assert_eq!(parse(&bytes, is_cuda_library), expected(), "{old_entries}");
        }
    }

    #[test]
    fn what_is_no_cache_holds_nothing() {
        let mut wrong_version = sample();
        wrong_version[19] = b'2';
        let mut big_endian = sample();
        big_endian[ENDIANNESS_AT] = BIG_ENDIAN;
        for bytes in [&b""[..], b"glibc", MAGIC, OLD_MAGIC, &wrong_version, &big_endian] {
            assert!(parse(bytes, |_| true).is_empty(), "{bytes:02x?}");
        }
    }

    #[test]
    fn entries_that_lead_nowhere_are_passed_over() {
        let mut bytes = sample();
        // The name of the second entry lies behind the end.
        bytes[HEADER_BYTES + ENTRY_BYTES + 4..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&bytes, is_cuda_library), expected()[1..]);
        // The last string has no end.
        let bytes = sample();
        assert_eq!(parse(&bytes[..bytes.len() - 1], is_cuda_library), expected()[..1]);
        // More entries are announced than there are.
        let mut bytes = sample();
        bytes[COUNT_AT..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&bytes, is_cuda_library), expected());
        // A relative path would be resolved against the wrong directory.
        assert!(parse(&cache_of(&[(X86_64, "libcuda.so.1", "libcuda.so.1")]), |_| true).is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = with_old_part(&sample(), 3);
        for length in 0..whole.len() {
            let _ = parse(&whole[..length], |_| true);
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = parse(&bytes, |_| true);
            }
        }
    }
}
