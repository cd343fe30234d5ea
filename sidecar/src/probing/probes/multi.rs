//! `uprobe_multi` links (Linux 6.6): any number of probes on one file, attached and detached as one.
//!
//! Closing probes one by one costs a grace period each, 40 s for a few hundred; one link
//! closes in one. `aya` 0.14 has no such link, so the three system calls are made here.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::maps::Map;
use aya_obj::{
    Object, ProgramSection,
    generated::{
        BPF_F_SLEEPABLE, BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type, bpf_attr, bpf_cmd,
        bpf_prog_type,
    },
};

/// A program that was loaded for links of this kind.
pub(super) struct Program {
    descriptor: OwnedFd,
}

/// One probe: where in the file, and what its events carry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) offset: u64,
    pub(super) cookie: u64,
}

/// When a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Entry,
    Return,
}

impl Program {
    /// Loads the program `name` of `object`, with the maps that `aya` has already created.
    pub(super) fn load<'a>(
        object: &[u8],
        name: &str,
        maps: impl Iterator<Item = (&'a str, &'a Map)>,
    ) -> Result<Self> {
        let mut object = Object::parse(object).context("cannot parse the eBPF object")?;
        let text_sections: HashSet<usize> =
            object.functions.keys().map(|(section, _)| *section).collect();
        let maps: Vec<_> = maps
            .filter_map(|(name, map)| {
                let definition = object.maps.get(name)?.clone();
                Some((name, descriptor_of(map)?.as_raw_fd(), definition))
            })
            .collect();
        let references = maps.iter().map(|(name, descriptor, map)| (*name, *descriptor, map));
        object.relocate_maps(references, &text_sections)?;
        object.relocate_calls(&text_sections)?;
        let program = object.programs.get(name).context("the object lacks the program")?;
        let function = &object.functions[&program.function_key()];
        let is_sleepable = matches!(
            program.section,
            ProgramSection::UProbe { sleepable: true }
                | ProgramSection::URetProbe { sleepable: true }
        );
        load_instructions(&function.instructions, &program.license, is_sleepable)
    }

    /// A program of two instructions: return 0.
    pub(super) fn load_empty() -> Result<Self> {
        const MOVE_0_TO_R0: u64 = 0xb7;
        const EXIT: u64 = 0x95;
        load_instructions(&[MOVE_0_TO_R0, EXIT], &CString::from(c"GPL"), false)
    }

    /// Puts a probe on every point of the file at `path`, for all processes. The probes live as
    /// long as the descriptor.
    pub(super) fn attach(&self, path: &CStr, points: &[Point], at: At) -> io::Result<OwnedFd> {
        let offsets: Vec<u64> = points.iter().map(|point| point.offset).collect();
        let cookies: Vec<u64> = points.iter().map(|point| point.cookie).collect();
        let mut attributes = zeroed();
        attributes.link_create.__bindgen_anon_1.prog_fd = number(&self.descriptor);
        attributes.link_create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        // SAFETY: all of the union is zero, which every member accepts.
        let link = unsafe { &mut attributes.link_create.__bindgen_anon_3.uprobe_multi };
        link.path = path.as_ptr() as u64;
        link.offsets = offsets.as_ptr() as u64;
        link.cookies = cookies.as_ptr() as u64;
        link.cnt = u32::try_from(points.len()).map_err(io::Error::other)?;
        if at == At::Return {
            link.flags = BPF_F_UPROBE_MULTI_RETURN;
        }
        // SAFETY: path, offsets and cookies outlive the call, and `cnt` is the length of both.
        unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attributes) }
    }

    /// Whether this kernel knows such links: it then complains of the file, not of the request.
    pub(super) fn is_supported(&self) -> bool {
        let result = self.attach(c"/", &[Point { offset: 0, cookie: 0 }], At::Entry);
        result.is_err_and(|error| {
            error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error())
        })
    }
}

fn load_instructions<T>(
    instructions: &[T],
    license: &CString,
    is_sleepable: bool,
) -> Result<Program> {
    let mut log = vec![0_u8; 1 << 16];
    let mut attributes = zeroed();
    // SAFETY: all of the union is zero, which every member accepts.
    let program = unsafe { &mut attributes.__bindgen_anon_3 };
    program.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    program.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    program.insns = instructions.as_ptr() as u64;
    program.insn_cnt = u32::try_from(instructions.len())?;
    program.license = license.as_ptr() as u64;
    if is_sleepable {
        program.prog_flags = BPF_F_SLEEPABLE;
    }
    // SAFETY: instructions and license outlive the call, and `insn_cnt` is the length.
    if let Ok(descriptor) = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attributes) } {
        return Ok(Program { descriptor });
    }
    // Only a refused program is loaded again with a log, which costs time.
    // SAFETY: as above.
    let program = unsafe { &mut attributes.__bindgen_anon_3 };
    program.log_level = 1;
    program.log_buf = log.as_mut_ptr() as u64;
    program.log_size = u32::try_from(log.len())?;
    // SAFETY: as above; the log is as long as `log_size` says.
    match unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attributes) } {
        Ok(descriptor) => Ok(Program { descriptor }),
        Err(error) => {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            bail!(
                "the kernel refuses the program: {error}\n{}",
                String::from_utf8_lossy(&log[..end])
            )
        }
    }
}

fn descriptor_of(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => {
            Some(std::os::fd::AsFd::as_fd(data.fd()))
        }
        _ => None,
    }
}

fn number(descriptor: &OwnedFd) -> u32 {
    u32::try_from(descriptor.as_raw_fd()).expect("a descriptor is not negative")
}

fn zeroed() -> bpf_attr {
    // SAFETY: the union is made of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// The system call, for commands that return a descriptor.
///
/// # Safety
///
/// Pointers in `attributes` must be valid for what `command` does with them.
unsafe fn bpf(command: bpf_cmd, attributes: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads the attributes; the caller answers for the pointers in them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_ref(attributes),
            size_of::<bpf_attr>(),
        )
    };
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given the descriptor to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
