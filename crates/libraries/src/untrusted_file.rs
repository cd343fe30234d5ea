//! Opens files that another process can choose or replace: bounded in time and size.
//!
//! A FIFO would block the thread that opens it, and a device may act when it is opened. So the path
//! is opened as a mere reference first, and only a regular file is opened for reading, through that
//! reference: nothing can take its place in between.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open as open_path};

/// Opens a regular file for reading; anything else is an error, and so is a symbolic link in its
/// last component.
pub fn open(path: &Path) -> io::Result<File> {
    open_reference(path, OFlags::NOFOLLOW)
}

/// The same for a link of `/proc`, which leads to one file whatever has become of its name.
pub fn open_link(path: &Path) -> io::Result<File> {
    open_reference(path, OFlags::empty())
}

fn open_reference(path: &Path, follow: OFlags) -> io::Result<File> {
    let reference = open_path(path, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty())?;
    let found = FileType::from_raw_mode(fstat(&reference)?.st_mode);
    if found != FileType::RegularFile {
        return Err(io::Error::other(format!("it is {}, not a regular file", name(found))));
    }
    let through = format!("/proc/self/fd/{}", reference.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(open_path(through, flags, Mode::empty())?.into())
}

/// The content of a regular file, at most `limit` bytes of it.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

const fn name(found: FileType) -> &'static str {
    match found {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "a file of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_a_fifo_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "content").unwrap();
        mkfifoat(CWD, path("fifo"), Mode::RUSR).unwrap();
        symlink(path("file"), path("link")).unwrap();
        let error = |path: &Path| open(path).unwrap_err().to_string();
        assert_eq!(error(&path("fifo")), "it is a FIFO, not a regular file");
        assert_eq!(error(&path("link")), "it is a symbolic link, not a regular file");
        assert_eq!(error(directory.path()), "it is a directory, not a regular file");
        assert_eq!(error(Path::new("/dev/null")), "it is a device, not a regular file");
        assert_eq!(read(&path("file"), 4).unwrap(), b"cont");
        assert_eq!(read(&path("file"), 400).unwrap(), b"content");
    }
}
