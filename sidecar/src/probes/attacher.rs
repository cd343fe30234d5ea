//! Puts probes on libraries: by one link per library where the kernel can, one by one elsewhere.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};
use tracing::{info, warn};

use super::multi::{Point, Program};
use crate::{config::AttachBy, library::Library};

/// The program of a call's entry, in `sidecar-ebpf`.
const ENTRY_PROGRAM: &str = "call_entry";

/// Dropping it detaches everything.
pub struct Attacher {
    way: Way,
    ebpf: Ebpf,
}

/// How probes are attached, with the program loaded for it.
pub(super) enum Way {
    /// Linux 6.6 and later.
    Links { program: Program, links: Vec<OwnedFd> },
    /// One perf event per probe, by the program inside [`Ebpf`].
    PerfEvents,
}

impl Way {
    pub(super) fn load(ebpf: &mut Ebpf, object: &[u8], attach_by: AttachBy) -> Result<Self> {
        if attach_by == AttachBy::Auto {
            match Program::load(object, ENTRY_PROGRAM, ebpf.maps()) {
                Ok(program) if program.is_supported() => {
                    return Ok(Self::Links { program, links: Vec::new() });
                }
                Ok(_) => info!("this kernel has no links for many probes: Linux 6.6 has them"),
                Err(error) => warn!("cannot load the program for links: {error:#}"),
            }
        }
        info!("probes are attached one by one: starting and stopping take longer");
        entry_program(ebpf)?.load().context("cannot load the eBPF program")?;
        Ok(Self::PerfEvents)
    }
}

impl Attacher {
    pub(super) fn new(way: Way, ebpf: Ebpf) -> Self {
        Self { way, ebpf }
    }

    /// Puts a probe on each function of `library`; `numbers` says what its events carry.
    ///
    /// Returns the functions that refused, with the reason.
    pub fn attach(
        &mut self,
        library: &Library,
        mut number: impl FnMut(&str) -> Result<u32>,
    ) -> Result<BTreeMap<String, String>> {
        let path = path_of(library);
        let mut points = Vec::with_capacity(library.functions.len());
        for function in &library.functions {
            let cookie = number(&function.name)?.into();
            points.push(Point { offset: function.file_offset, cookie });
        }
        let refused = match &mut self.way {
            Way::Links { program, links } => {
                let path = CString::new(path).context("a path without NUL")?;
                let mut refused = Vec::new();
                attach_most(program, &path, 0, &points, links, &mut refused);
                refused
            }
            Way::PerfEvents => attach_each(entry_program(&mut self.ebpf)?, &path, &points),
        };
        let name = |index: usize| library.functions[index].name.clone();
        Ok(refused.into_iter().map(|(index, reason)| (name(index), reason)).collect())
    }
}

/// A program that does nothing, where ours would go: the floor that benchmarks compare with.
pub struct EmptyProbe {
    _link: OwnedFd,
}

impl EmptyProbe {
    pub fn attach(library: &Library) -> Result<Self> {
        let path = CString::new(path_of(library)).context("a path without NUL")?;
        let offset = library.functions.first().context("no function to attach to")?.file_offset;
        let link = Program::load_empty()?.attach(&path, &[Point { offset, cookie: 0 }])?;
        Ok(Self { _link: link })
    }
}

/// The kernel follows this to the inode that is open, whatever has happened to its name.
fn path_of(library: &Library) -> String {
    format!("/proc/self/fd/{}", library.file.as_raw_fd())
}

/// A link is refused whole if one of its points is: halves find the guilty ones.
fn attach_most(
    program: &Program,
    path: &CString,
    first: usize,
    points: &[Point],
    links: &mut Vec<OwnedFd>,
    refused: &mut Vec<(usize, String)>,
) {
    match (program.attach(path, points), points) {
        (_, []) => {}
        (Ok(link), _) => links.push(link),
        (Err(error), [_]) => refused.push((first, explain(&error))),
        (Err(_), _) => {
            let half = points.len() / 2;
            attach_most(program, path, first, &points[..half], links, refused);
            attach_most(program, path, first + half, &points[half..], links, refused);
        }
    }
}

fn attach_each(program: &mut UProbe, path: &str, points: &[Point]) -> Vec<(usize, String)> {
    let mut refused = Vec::new();
    for (index, &Point { offset, cookie }) in points.iter().enumerate() {
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie: Some(cookie) };
        if let Err(error) = program.attach(point, path, UProbeScope::AllProcesses) {
            refused.push((index, format!("{:#}", anyhow!(error))));
        }
    }
    refused
}

/// What the kernel means by the codes that a single probe can meet.
fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        // ENOTSUPP, which never should have left the kernel and has no name in libc.
        Some(524) => "the kernel cannot step over the instruction there".to_owned(),
        _ => error.to_string(),
    }
}

fn entry_program(ebpf: &mut Ebpf) -> Result<&mut UProbe> {
    let program = ebpf.program_mut(ENTRY_PROGRAM).context("the eBPF object lacks the program")?;
    Ok(program.try_into()?)
}
