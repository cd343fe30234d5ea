//! Files that events name otherwise than lists of mappings do.
//!
//! From Linux 6.8 until a fix of late 2025, `/proc/PID/maps` has the device of an overlay, and a
//! mapping event that of the file below it. What is told of such a file has the name in the list,
//! and the times of its mappings stand under the name in events.

use std::{collections::HashMap, path::Path};

use processes::process::{MappedFile, Mapping, Mappings};

/// Libraries and plain files on overlays; beyond it all are found anew.
const MAX_ALIASES: usize = 1 << 14;

/// Overlays put the number of a layer into the highest bits of an inode number.
const INODE_BITS: u64 = (1 << 56) - 1;

/// Names of one file, both ways. Several overlays may share the file below.
#[derive(Debug, Default)]
pub(super) struct FileAliases {
    in_events: HashMap<MappedFile, MappedFile>,
    in_maps: HashMap<MappedFile, Vec<MappedFile>>,
}

impl FileAliases {
    pub(super) fn note(&mut self, in_maps: MappedFile, in_events: MappedFile) {
        if self.in_events.len() >= MAX_ALIASES {
            *self = Self::default();
        }
        match self.in_events.insert(in_maps, in_events) {
            Some(before) if before == in_events => return,
            Some(before) => {
                // Copied up: the file below is another one now.
                if let Some(others) = self.in_maps.get_mut(&before) {
                    others.retain(|other| *other != in_maps);
                }
            }
            None => {}
        }
        self.in_maps.entry(in_events).or_default().push(in_maps);
    }

    pub(super) fn in_events(&self, in_maps: MappedFile) -> Option<MappedFile> {
        self.in_events.get(&in_maps).copied()
    }

    pub(super) fn in_maps(&self, in_events: MappedFile) -> &[MappedFile] {
        self.in_maps.get(&in_events).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The mapping that an event told of, which called it `file` and `path`.
pub(super) fn find<'a>(
    mappings: &'a Mappings,
    file: MappedFile,
    path: &Path,
) -> Option<&'a Mapping> {
    let exact = mappings.of_file(file).max_by_key(|mapping| mapping.is_executable);
    exact.or_else(|| {
        let alike = mappings.executable().filter(|mapping| {
            mapping.file.device != file.device
                && (mapping.path == path || has_number_and_name(mapping, file, path))
        });
        alike.max_by_key(|mapping| has_number_and_name(mapping, file, path))
    })
}

/// The list may have another path than the event where the process has a root of its own.
pub(super) fn has_number_and_name(mapping: &Mapping, file: MappedFile, path: &Path) -> bool {
    is_same_number(mapping.file.inode, file.inode) && mapping.path.file_name() == path.file_name()
}

/// Whether two numbers may be those of one file, seen through different overlays.
pub(super) fn is_same_number(one: u64, other: u64) -> bool {
    one & INODE_BITS == other & INODE_BITS
}

#[cfg(test)]
mod tests {
    use rustix::fs::makedev;

    use super::*;

    const MAPS: &[u8] = b"\
        7f00-7f10 r--p 00000000 00:2e 77 /opt/cuda/libcuda.so.1\n\
        7f10-7f20 r-xp 00001000 00:2e 77 /opt/cuda/libcuda.so.1\n\
        7f20-7f30 r-xp 00001000 00:2e 91 /opt/cuda/libcudart.so.12\n\
        7f30-7f40 r-xp 00001000 fe:01 77 /usr/lib/libother.so\n";

    fn found(major: u32, inode: u64, path: &str) -> Option<(MappedFile, bool)> {
        let file = MappedFile { device: makedev(major, 1), inode };
        let mappings = Mappings::read(MAPS);
        find(&mappings, file, Path::new(path)).map(|mapping| (mapping.file, mapping.is_executable))
    }

    #[test]
    fn a_file_that_the_event_names_by_the_device_below_an_overlay_is_found() {
        let overlay = |inode| MappedFile { device: makedev(0, 0x2e), inode };
        let driver = Some((overlay(77), true));
        assert_eq!(found(0x103, 77, "/opt/cuda/libcuda.so.1"), driver);
        assert_eq!(found(0x103, 77, "/libcuda.so.1"), driver, "from a root of its own");
        assert_eq!(found(0x103, 0x4d | 1 << 62, "/libcuda.so.1"), driver, "with bits of a layer");
        assert_eq!(found(0x103, 5, "/opt/cuda/libcudart.so.12"), Some((overlay(91), true)));
        assert_eq!(found(0x103, 5, "/elsewhere/libcudart.so.12"), None);
        assert_eq!(found(0x103, 77, "/opt/cuda/libnone.so"), None);
    }

    #[test]
    fn a_file_that_is_listed_as_it_was_told_is_that_one() {
        let plain = MappedFile { device: makedev(0xfe, 1), inode: 77 };
        assert_eq!(found(0xfe, 77, "/opt/cuda/libcuda.so.1"), Some((plain, true)));
        // What has taken its place on the same file system is another file.
        assert_eq!(found(0xfe, 78, "/usr/lib/libother.so"), None);
    }

    #[test]
    fn overlays_that_share_a_file_below_are_told_apart() {
        let [first, second, below] = [1, 2, 3].map(|device| MappedFile { device, inode: 7 });
        let mut file_aliases = FileAliases::default();
        file_aliases.note(first, below);
        file_aliases.note(second, below);
        assert_eq!(
            (file_aliases.in_events(first), file_aliases.in_events(below)),
            (Some(below), None)
        );
        assert_eq!(file_aliases.in_maps(below), [first, second]);
        file_aliases.note(first, first);
        assert_eq!(file_aliases.in_maps(below), [second]);
        for inode in 0..2 * MAX_ALIASES as u64 {
            file_aliases.note(MappedFile { device: 1, inode }, below);
        }
        assert!(file_aliases.in_events.len() <= MAX_ALIASES);
    }
}
