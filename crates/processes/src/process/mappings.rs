//! Which files a process has mapped, and where: `/proc/PID/maps`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

/// A process may have 65 530 mappings, each with a path of 4 KiB. What is beyond this is not read,
/// and [`Mappings::is_complete`] says so.
const MAX_BYTES: u64 = 16 << 20;

/// No path is longer; a line has about 80 bytes before it.
const MAX_LINE_BYTES: u64 = 8 << 10;

/// A file as the kernel names it in mappings and mapping events. On overlayfs and btrfs, `stat` may
/// give another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappedFile {
    /// As `stat` encodes it.
    pub device: u64,
    pub inode: u64,
}

/// A part of a file in the memory of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    pub is_executable: bool,
    pub is_writable: bool,
    pub file: MappedFile,
    /// As the reader of the list sees it; of a deleted file, where it was.
    pub path: PathBuf,
    pub is_deleted: bool,
}

/// The file mappings of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mappings {
    pub list: Vec<Mapping>,
    /// False: the list was too long to be read to its end.
    pub is_complete: bool,
}

impl Mapping {
    /// Where in the memory of the process a byte of the file is.
    pub fn address_of(&self, file_offset: u64) -> Option<u64> {
        let length = self.end - self.start;
        let distance = file_offset.checked_sub(self.offset)?;
        (distance < length).then(|| self.start + distance)
    }
}

impl Mappings {
    pub fn of(pid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/maps"))?;
        Ok(Self::read(BufReader::new(file.take(MAX_BYTES))))
    }

    /// Lines that are no mapping of a file are passed over.
    pub fn read(mut maps: impl BufRead) -> Self {
        let mut mappings = Self { list: Vec::new(), is_complete: true };
        let mut bytes = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            match read_line(&mut maps, &mut line) {
                Ok(0) => break,
                Ok(length) => bytes += length,
                Err(_) => {
                    mappings.is_complete = false;
                    break;
                }
            }
            mappings.list.extend(parse(&line));
        }
        mappings.is_complete &= (bytes as u64) < MAX_BYTES;
        mappings
    }

    /// Mappings that hold code.
    pub fn executable(&self) -> impl Iterator<Item = &Mapping> {
        self.list.iter().filter(|mapping| mapping.is_executable)
    }

    pub fn of_file(&self, file: MappedFile) -> impl Iterator<Item = &Mapping> {
        self.list.iter().filter(move |mapping| mapping.file == file)
    }
}

/// Paths of executable file mappings, as the process sees them.
pub fn mapped_files(pid: u32) -> Vec<PathBuf> {
    let mappings = Mappings::of(pid).unwrap_or_default();
    let mut paths: Vec<PathBuf> =
        mappings.executable().map(|mapping| mapping.path.clone()).collect();
    paths.dedup();
    paths
}

fn read_line(maps: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let length = maps.take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if length as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        return Err(io::Error::other("a line without an end"));
    }
    Ok(length)
}

/// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`: the path is all that is left, and may hold
/// spaces and bytes that are not UTF-8.
fn parse(line: &[u8]) -> Option<Mapping> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = text()?.split_once('-')?;
    let permissions = text()?;
    let offset = text()?;
    let (major, minor) = text()?.split_once(':')?;
    let inode: u64 = text()?.parse().ok()?;
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let device = |text: &str| u32::from_str_radix(text, 16).ok();
    let device = rustix::fs::makedev(device(major)?, device(minor)?);
    if inode == 0 {
        return None;
    }
    let path = fields.next()?;
    let path = unescape(&path[path.iter().position(|&byte| byte != b' ')?..]);
    let (path, is_deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path.to_vec(), true),
        None => (path, false),
    };
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    (start <= end).then_some(Mapping {
        start,
        end,
        offset: hexadecimal(offset)?,
        is_executable: permissions.contains('x'),
        is_writable: permissions.contains('w'),
        file: MappedFile { device, inode },
        path: PathBuf::from(OsString::from_vec(path)),
        is_deleted,
    })
}

/// The kernel writes a line feed in a path as `\012`, and nothing else so.
fn unescape(path: &[u8]) -> Vec<u8> {
    const ESCAPED: &[u8] = b"\\012";
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(ESCAPED) {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(first);
            rest = behind;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    const LINE: &[u8] =
        b"7f00-7f10 r-xp 00001000 fe:01 1234                       /opt/my libs/libcuda.so.1";

    #[test]
    fn a_line_gives_the_file_and_where_it_is() {
        let mapping = parse(LINE).unwrap();
        assert_eq!(mapping.path, PathBuf::from("/opt/my libs/libcuda.so.1"));
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x7f00, 0x7f10, 0x1000));
        let file = MappedFile { device: rustix::fs::makedev(0xfe, 1), inode: 1234 };
        assert_eq!(mapping.file, file);
        assert!(mapping.is_executable && !mapping.is_writable && !mapping.is_deleted);
        assert_eq!(mapping.address_of(0x1008), Some(0x7f08));
        assert_eq!((mapping.address_of(0xfff), mapping.address_of(0x1010)), (None, None));
    }

    #[test]
    fn what_has_no_inode_is_no_file() {
        for line in ["7ffe-7fff r-xp 00000000 00:00 0   [vdso]", "7ffe-7fff rwxp 00000000 00:00 0 "]
        {
            assert_eq!(parse(line.as_bytes()), None);
        }
    }

    #[test]
    fn a_deleted_file_and_a_memfd_are_files() {
        let deleted = parse(&[LINE, b" (deleted)"].concat()).unwrap();
        assert!(deleted.is_deleted);
        assert_eq!(deleted.path, PathBuf::from("/opt/my libs/libcuda.so.1"));
        let memfd =
            parse(b"7f00-7f10 r-xp 00001000 00:01 77 /memfd:libcuda.so.1 (deleted)").unwrap();
        assert_eq!(memfd.path, PathBuf::from("/memfd:libcuda.so.1"));
    }

    #[test]
    fn one_name_that_is_no_utf_8_hides_no_other() {
        let maps = [
            &b"7f00-7f10 r-xp 00001000 fe:01 1 /opt/\xff\xfe/libcuda.so.1\n"[..],
            LINE,
            b"\nnonsense\n7f20-7f30 r--p 00000000 fe:01 9 /a\\012b\n",
        ]
        .concat();
        let mappings = Mappings::read(&maps[..]);
        assert!(mappings.is_complete);
        let paths: Vec<&OsStr> = mappings.list.iter().map(|one| one.path.as_os_str()).collect();
        let odd = OsStr::from_bytes(b"/opt/\xff\xfe/libcuda.so.1");
        assert_eq!(paths, [odd, OsStr::new("/opt/my libs/libcuda.so.1"), OsStr::new("/a\nb")]);
        assert_eq!(mappings.executable().count(), 2);
    }

    #[test]
    fn a_list_that_never_ends_is_cut_and_said_to_be() {
        let endless = io::Read::take(io::repeat(b'x'), 10 * MAX_LINE_BYTES);
        assert!(!Mappings::read(BufReader::new(endless)).is_complete);
        let line = [LINE, b"\n"].concat();
        let many = line.repeat(usize::try_from(MAX_BYTES).unwrap() / line.len() + 1);
        assert!(!Mappings::read(BufReader::new(many.take(MAX_BYTES))).is_complete);
    }

    #[test]
    fn this_test_has_its_own_executable_mapped() {
        let executable = std::env::current_exe().unwrap();
        assert!(mapped_files(std::process::id()).contains(&executable));
        assert!(Mappings::of(std::process::id()).unwrap().is_complete);
    }
}
