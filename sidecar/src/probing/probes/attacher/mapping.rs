//! The probed code of a file, mapped into the sidecar while probes are attached.
//!
//! The kernel looks at an instruction only when a process that maps it gets the breakpoint. Of a
//! file that nobody maps yet it takes any probe, and later leaves out in silence what it cannot
//! step over. This mapping is the first, so that it refuses at once. Nobody runs it.
//!
//! The kernel keeps every fork of the machine waiting while it looks, also where it waits for the file
//! system itself. So the pages are brought in first, which keeps nobody waiting but this thread.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    ptr::{self, NonNull},
};

use libraries::library::{Function, SITE_BYTES};

const PAGE_BYTES: u64 = 4096;

pub(super) struct CodeMapping {
    address: NonNull<libc::c_void>,
    length: usize,
}

impl CodeMapping {
    /// Maps all of `file` that the probes of `functions` lie in; `None` if there are none.
    pub(super) fn new(file: &File, functions: &[Function]) -> io::Result<Option<Self>> {
        let offsets = || functions.iter().map(|function| function.file_offset);
        let Some((first, last)) = offsets().min().zip(offsets().max()) else { return Ok(None) };
        let start = first - first % PAGE_BYTES;
        let length = usize::try_from(last - start + 1).map_err(io::Error::other)?;
        let offset = libc::off_t::try_from(start).map_err(io::Error::other)?;
        // SAFETY: the kernel chooses the address, so that no other memory is replaced.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(mapping) = NonNull::new(address).map(|address| Self { address, length }) else {
            return Ok(None);
        };
        let mut pages: Vec<u64> = offsets()
            // An instruction may lie in two.
            .flat_map(|offset| [offset, offset + SITE_BYTES as u64 - 1])
            .map(|offset| (offset - start) / PAGE_BYTES)
            .collect();
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            mapping.bring_in(page);
        }
        Ok(Some(mapping))
    }

    /// A page that cannot be read is found out by the kernel too.
    fn bring_in(&self, page: u64) {
        let bytes = usize::try_from(page * PAGE_BYTES).unwrap_or(usize::MAX);
        if bytes >= self.length {
            return;
        }
        let address = self.address.as_ptr().wrapping_byte_add(bytes);
        // SAFETY: the page is inside the mapping, or its last one; its memory stays what it is.
        unsafe { libc::madvise(address, 1, libc::MADV_POPULATE_READ) };
    }
}

impl Drop for CodeMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody holds a reference into it.
        unsafe { libc::munmap(self.address.as_ptr(), self.length) };
    }
}
