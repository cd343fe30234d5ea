//! What the kernel makes of a new mapping of a file: how it calls the file in lists of mappings, and
//! which probes it puts there.
//!
//! The mapping is made by a process of its own. Some file systems ask a server before they map a file or
//! bring in a page (FUSE, NFS), and whoever waits there keeps the memory of its whole process locked: no
//! thread of it could go on that needs some.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    panic::{self, AssertUnwindSafe},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libraries::library::{Function, SITE_BYTES};
use processes::{
    process::{MappedFile, Mapping},
    time_limit,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};

use super::{
    files::too_slow,
    memory::{Memory, Site},
};

use crate::descriptors::close_all_but;

/// Reading takes microseconds, and a new process a few milliseconds.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Longer files are not libraries, and their mapping could run out of addresses.
const MAX_MAPPED_BYTES: u64 = 16 << 30;

const PAGE_BYTES: u64 = 4096;

/// Children that have not been reaped yet, and those of them that did not answer. Beyond it none is
/// started.
const MAX_CHILDREN: usize = 16;
const MAX_GIVEN_UP: usize = 4;

static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A process that maps a file, until it is reaped.
struct Child {
    pid: Pid,
    /// The process that led to the file. While one of its children has not answered it gets no other.
    of: u32,
    is_given_up: bool,
}

/// The name of such a process, as `ps` shows it.
const NAME: &CStr = c"mapping-library";

/// How the kernel calls a file in mappings, and what a new mapping of it has at the sites of
/// functions, whoever else has it mapped; `None` if it cannot be mapped.
///
/// `pid` is the process that led to the file. Fails if the file system does not answer in time. Then no
/// probe may be placed: the kernel would wait for the same pages, and every fork on the machine for the
/// kernel. What has been read here is in memory when the kernel looks.
pub(super) fn own_sites(
    pid: u32,
    file: &File,
    functions: &Arc<[Function]>,
) -> io::Result<Option<(MappedFile, Vec<Site>)>> {
    let Ok(file) = file.try_clone() else { return Ok(None) };
    let functions = Arc::clone(functions);
    let look = move || by_another_process(pid, &file, &functions);
    let found = time_limit::run_in_turn(pid, "mapping of a library", 2 * TIMEOUT, look);
    found.unwrap_or_else(|| Err(too_slow(2 * TIMEOUT)))
}

/// Takes children that have ended off the list of processes.
pub(super) fn reap() {
    reap_all(&mut children());
}

fn children() -> MutexGuard<'static, Vec<Child>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reap_all(children: &mut Vec<Child>) {
    // An error says that the kernel has reaped it, as it does where SIGCHLD is ignored.
    children.retain(|child| matches!(waitpid(Some(child.pid), WaitOptions::NOHANG), Ok(None)));
}

fn by_another_process(
    pid: u32,
    file: &File,
    functions: &[Function],
) -> io::Result<Option<(MappedFile, Vec<Site>)>> {
    let mut started = children();
    reap_all(&mut started);
    let given_up = || started.iter().filter(|child| child.is_given_up);
    let is_full = started.len() >= MAX_CHILDREN || given_up().count() >= MAX_GIVEN_UP;
    if is_full || given_up().any(|child| child.of == pid) {
        return Err(io::Error::other("the file system of another library does not answer"));
    }
    let (mut reader, writer) = io::pipe()?;
    // SAFETY: the child allocates, which glibc and musl allow after a fork, and takes no lock that
    // another thread may have held.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => child_main(file, functions, writer),
        child => Pid::from_raw(child).ok_or_else(|| io::Error::other("fork"))?,
    };
    started.push(Child { pid: child, of: pid, is_given_up: false });
    drop((started, writer));
    let mut answer = Vec::new();
    let read = read_until(&mut reader, &mut answer, Instant::now() + TIMEOUT);
    let mut started = children();
    if read.is_err()
        && let Some(found) = started.iter_mut().find(|other| other.pid == child)
    {
        found.is_given_up = true;
        // Not reaped, so the number is still its own. It ends when its file system lets it.
        let _: rustix::io::Result<()> = kill_process(child, Signal::KILL);
    }
    // One that has answered ends now, or at the next look.
    reap_all(&mut started);
    read.map(|()| decode(&answer, functions.len()))
}

/// Writes what it finds, and nothing if it cannot map the file.
fn child_main(file: &File, functions: &[Function], mut writer: io::PipeWriter) -> ! {
    // The lock of `TRACE_DIR`, the probes and all sockets are the parent's, and end with it.
    let mut kept = [file.as_raw_fd(), writer.as_raw_fd()];
    kept.sort_unstable();
    // SAFETY: the child uses nothing but these two.
    unsafe { close_all_but(&kept) };
    // SAFETY: the name ends with NUL and lives on; the signal is a number.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let find = || {
        let own = OwnMapping::of(file).ok()?;
        let mut answer = own.file.device.to_le_bytes().to_vec();
        answer.extend_from_slice(&own.file.inode.to_le_bytes());
        answer.extend(functions.iter().map(|function| own.site(function) as u8));
        // Whoever does not listen has given up.
        writer.write_all(&answer).ok()
    };
    // A panic would go on in what the parent's thread was at.
    let _: Result<Option<()>, _> = panic::catch_unwind(AssertUnwindSafe(find));
    // SAFETY: ends this process; what is open is closed by the kernel.
    unsafe { libc::_exit(0) }
}

fn read_until(
    reader: &mut io::PipeReader,
    answer: &mut Vec<u8>,
    deadline: Instant,
) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(too_slow(TIMEOUT)),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn decode(answer: &[u8], functions: usize) -> Option<(MappedFile, Vec<Site>)> {
    let (device, rest) = answer.split_first_chunk()?;
    let (inode, sites) = rest.split_first_chunk()?;
    let file =
        MappedFile { device: u64::from_le_bytes(*device), inode: u64::from_le_bytes(*inode) };
    let site = |code: &u8| Site::ALL.into_iter().find(|&site| site as u8 == *code);
    let sites = sites.iter().map(site).collect::<Option<Vec<_>>>()?;
    (sites.len() == functions).then_some((file, sites))
}

/// A file in the memory of this process. Nothing is executed there, and it is mapped until the process
/// ends.
struct OwnMapping {
    address: *mut std::ffi::c_void,
    length: usize,
    file: MappedFile,
    memory: Memory,
}

impl OwnMapping {
    /// The kernel puts probes into a new mapping only: it shows those that are there now.
    fn of(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length == 0 || length > MAX_MAPPED_BYTES {
            return Err(io::Error::other(format!("a library of {length} bytes")));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address that the kernel chooses; only `/proc/self/mem` reads
        // it, so that a file that is cut meanwhile gives an error and no signal.
        let address =
            unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0)? };
        let memory = Memory::of(std::process::id())?;
        let start = address as u64;
        let found = memory.mappings.list.iter().find(|mapping| mapping.start == start);
        let file = found.ok_or_else(|| io::Error::other("its own mapping is not listed"))?.file;
        Ok(Self { address, length, file, memory })
    }

    fn site(&self, function: &Function) -> Site {
        self.bring_in(function.entry_offset);
        self.bring_in(function.file_offset);
        let mappings: Vec<&Mapping> = self.memory.mappings.of_file(self.file).collect();
        self.memory.site(&mappings, function)
    }

    /// Into memory, so that the kernel does not wait when it looks. What cannot be read is found out by
    /// the reader.
    fn bring_in(&self, offset: u64) {
        let first = offset - offset % PAGE_BYTES;
        let Ok(behind) = usize::try_from(first) else { return };
        let wanted = usize::try_from(offset - first).unwrap_or(0) + SITE_BYTES;
        let length = self.length.saturating_sub(behind).min(wanted);
        if length == 0 {
            return;
        }
        let address = self.address.wrapping_byte_add(behind);
        // SAFETY: the pages are inside the mapping, and what they hold stays as it is.
        let _: rustix::io::Result<()> =
            unsafe { madvise(address, length, Advice::LinuxPopulateRead) };
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::memory::{BREAKPOINT, tests::function},
        *,
    };

    #[test]
    fn the_memory_of_a_mapped_file_is_told_from_that_of_another() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let own = OwnMapping::of(&file).unwrap();
        let function = function(&bytes, 16, 20);
        assert_eq!(own.site(&function), Site::Plain);
        let mut other = function.clone();
        other.entry_bytes[1] ^= 1;
        assert_eq!(own.site(&other), Site::Changed);
        // As if the file had had another first byte at the site.
        let mut file = tempfile::tempfile().unwrap();
        let mut probed = bytes.clone();
        probed[20] = BREAKPOINT;
        file.write_all(&probed).unwrap();
        assert_eq!(OwnMapping::of(&file).unwrap().site(&function), Site::Probed);
        other = function.clone();
        other.file_offset = 1 << 20;
        assert_eq!(own.site(&other), Site::Unmapped);
    }

    #[test]
    fn a_file_that_is_cut_under_its_mapping_is_an_error_and_no_signal() {
        let bytes = [0x90; 64];
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let own = OwnMapping::of(&file).unwrap();
        file.set_len(0).unwrap();
        assert_eq!(own.site(&function(&bytes, 0, 0)), Site::Unknown);
        assert!(OwnMapping::of(&file).is_err(), "an empty file");
    }

    #[test]
    fn what_another_process_has_found_is_what_this_one_finds() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut changed = function(&bytes, 16, 20);
        changed.entry_bytes[1] ^= 1;
        let functions = [function(&bytes, 16, 20), changed];
        let own = OwnMapping::of(&file).unwrap();
        let expected = (own.file, vec![Site::Plain, Site::Changed]);
        let find = || by_another_process(0, &file, &functions);
        for _ in 0..2 * MAX_CHILDREN {
            // The last ones may still be ending.
            let found = std::iter::repeat_with(find).find_map(Result::ok);
            assert_eq!(found, Some(Some(expected.clone())));
        }
        file.set_len(0).unwrap();
        assert_eq!(std::iter::repeat_with(find).find_map(Result::ok), Some(None));
    }

    #[test]
    fn an_answer_that_is_cut_or_of_other_functions_is_none() {
        let answer = [&[0; 16][..], &[Site::Plain as u8, Site::Unknown as u8]].concat();
        let file = MappedFile { device: 0, inode: 0 };
        assert_eq!(decode(&answer, 2), Some((file, vec![Site::Plain, Site::Unknown])));
        for (answer, functions) in [(&answer[..17], 2), (&answer[..15], 0), (&answer[..], 3)] {
            assert_eq!(decode(answer, functions), None);
        }
        assert_eq!(decode(&[[0; 16].as_slice(), &[99]].concat(), 1), None);
    }
}
