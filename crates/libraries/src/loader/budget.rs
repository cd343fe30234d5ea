//! What one search may cost: its process says where to look, and how often.
//!
//! The environment has room for six thousand directories in `LD_LIBRARY_PATH` alone, each of which
//! may hold as many files as it likes.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{in_root, resolve_in};

/// Directories that are listed: an image with several toolkits and environments has a few dozen.
const MAX_DIRECTORIES: usize = 1024;

/// Entries of all of them together: `site-packages` has a few hundred, `/usr/lib` a few thousand.
const MAX_ENTRIES: usize = 1 << 18;

/// For all of it. Other processes wait to be looked at meanwhile.
const MAX_TIME: Duration = Duration::from_millis(1000);

/// Libraries that are found: each of them is opened and read.
const MAX_FOUND: usize = 256;

pub(super) struct Budget<'a> {
    root: &'a Path,
    directories: usize,
    entries: usize,
    found: usize,
    deadline: Instant,
    /// The first thing that there was too much of.
    cut: Option<&'static str>,
    /// Directories whose libraries were looked for, as they were named and as they are.
    searched: HashSet<PathBuf>,
    searched_inodes: HashSet<(u64, u64)>,
}

impl<'a> Budget<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self {
            root,
            directories: MAX_DIRECTORIES,
            entries: MAX_ENTRIES,
            found: MAX_FOUND,
            deadline: Instant::now() + MAX_TIME,
            cut: None,
            searched: HashSet::new(),
            searched_inodes: HashSet::new(),
        }
    }

    /// Why the search has ended before it was done.
    pub(super) fn cut(&self) -> Option<&'static str> {
        self.cut
    }

    /// False when the time is over, or there was too much of anything.
    pub(super) fn is_left(&mut self) -> bool {
        if self.cut.is_none() && Instant::now() >= self.deadline {
            self.cut = Some("it takes too long");
        }
        self.cut.is_none()
    }

    /// Whether there is room for one more library.
    pub(super) fn take_found(&mut self) -> bool {
        self.take(|budget| &mut budget.found, "it finds too many libraries")
    }

    /// The names in a directory, sorted; none if it cannot be read.
    pub(super) fn list(&mut self, directory: &Path) -> Vec<OsString> {
        self.open(directory).map(|directory| self.entries_of(&directory)).unwrap_or_default()
    }

    /// The same, but only once for each directory, whatever it is called.
    pub(super) fn list_once(&mut self, directory: &Path) -> Vec<OsString> {
        if !self.is_left() || !self.searched.insert(directory.to_owned()) {
            return Vec::new();
        }
        let Some(directory) = self.open(directory) else { return Vec::new() };
        let Ok(metadata) = fs::metadata(&directory) else { return Vec::new() };
        if !self.searched_inodes.insert((metadata.dev(), metadata.ino())) {
            return Vec::new();
        }
        self.entries_of(&directory)
    }

    /// Where the directory is for the sidecar, if it is one.
    fn open(&mut self, directory: &Path) -> Option<PathBuf> {
        if !self.is_left() {
            return None;
        }
        let outside = in_root(self.root, &resolve_in(self.root, directory).ok()?);
        fs::symlink_metadata(&outside).is_ok_and(|found| found.is_dir()).then_some(outside)
    }

    fn entries_of(&mut self, directory: &Path) -> Vec<OsString> {
        if !self.take(|budget| &mut budget.directories, "it leads to too many directories") {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let mut names = Vec::new();
        for entry in entries {
            let has_room = self.take(|budget| &mut budget.entries, "there are too many files");
            // The clock is not read for each of a few hundred thousand.
            if !has_room || (names.len() % 256 == 0 && !self.is_left()) {
                break;
            }
            names.extend(entry.map(|entry| entry.file_name()));
        }
        names.sort_unstable();
        names
    }

    fn take(&mut self, of: impl Fn(&mut Self) -> &mut usize, too_much: &'static str) -> bool {
        let left = of(self);
        if *left == 0 {
            self.cut.get_or_insert(too_much);
            return false;
        }
        *left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        symlink("/usr/lib", root.path().join("lib")).unwrap();
        fs::write(root.path().join("usr/lib/b"), "").unwrap();
        fs::write(root.path().join("usr/lib/a"), "").unwrap();
        root
    }

    #[test]
    fn a_directory_is_listed_through_links() {
        let root = tree();
        let mut budget = Budget::new(root.path());
        assert_eq!(budget.list(Path::new("/lib")), ["a", "b"]);
        assert!(budget.list(Path::new("/lib/a")).is_empty());
        assert!(budget.list(Path::new("/none")).is_empty());
        assert_eq!(budget.cut(), None);
    }

    #[test]
    fn a_directory_is_searched_once_whatever_it_is_called() {
        let root = tree();
        let mut budget = Budget::new(root.path());
        assert_eq!(budget.list_once(Path::new("/lib")).len(), 2);
        for name in ["/lib", "/usr/lib", "/usr/../lib/", "/lib/./"] {
            assert!(budget.list_once(Path::new(name)).is_empty(), "{name}");
        }
        assert_eq!(budget.directories, MAX_DIRECTORIES - 1);
        assert_eq!(budget.entries, MAX_ENTRIES - 2);
    }

    #[test]
    fn too_much_of_anything_ends_the_search_and_is_told() {
        let root = tree();
        let spent = |spend: fn(&mut Budget<'_>)| {
            let mut budget = Budget::new(root.path());
            spend(&mut budget);
            let listed = budget.list(Path::new("/lib")).len();
            assert!(!budget.is_left());
            assert!(budget.list(Path::new("/lib")).is_empty());
            (listed, budget.cut().unwrap())
        };
        assert_eq!(spent(|budget| budget.directories = 0).0, 0);
        assert_eq!(spent(|budget| budget.entries = 1), (1, "there are too many files"));
        assert_eq!(spent(|budget| budget.deadline = Instant::now()), (0, "it takes too long"));
        let mut budget = Budget::new(root.path());
        assert_eq!((0..=MAX_FOUND).filter(|_| budget.take_found()).count(), MAX_FOUND);
        assert!(!budget.is_left());
    }
}
