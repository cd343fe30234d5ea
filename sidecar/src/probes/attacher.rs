//! Puts probes on libraries: by links of many probes where the kernel has them, one by one elsewhere.

mod points;

use std::{
    collections::BTreeMap,
    ffi::CString,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, programs::UProbe};
use points::{Refused, attach_each, attach_most};
use sidecar_common::Plan;
use tracing::{info, warn};

use super::multi::{At, Point, Program};
use crate::{
    config::{AttachBy, Detail},
    library::Library,
};

// The programs in `sidecar-ebpf`.
const ENTRY: &str = "call_entry";
const BEGIN: &str = "call_begin";
const END: &str = "call_end";
const END_NAMED: &str = "call_end_named";

/// Dropping it detaches everything.
pub struct Attacher {
    way: Way,
    detail: Detail,
    ebpf: Ebpf,
}

/// How probes are attached, with the programs loaded for it.
pub(super) enum Way {
    /// Linux 6.6 and later.
    Links { programs: Programs, links: Vec<OwnedFd> },
    /// One perf event per probe, by the programs inside [`Ebpf`].
    PerfEvents,
}

pub(super) struct Programs {
    /// At the entry of a function.
    entry: Program,
    /// At its return, if that is recorded.
    ends: Option<Ends>,
}

struct Ends {
    plain: Program,
    /// May sleep, to bring in the memory that a name lies in.
    named: Program,
}

impl Programs {
    fn load(ebpf: &Ebpf, object: &[u8], detail: Detail) -> Result<Self> {
        let load = |name| Program::load(object, name, ebpf.maps());
        Ok(match detail {
            Detail::Entry => Self { entry: load(ENTRY)?, ends: None },
            Detail::Call => {
                let ends = Ends { plain: load(END)?, named: load(END_NAMED)? };
                Self { entry: load(BEGIN)?, ends: Some(ends) }
            }
        })
    }
}

impl Way {
    pub(super) fn load(
        ebpf: &mut Ebpf,
        object: &[u8],
        attach_by: AttachBy,
        detail: Detail,
    ) -> Result<Self> {
        if attach_by == AttachBy::Auto {
            match Programs::load(ebpf, object, detail) {
                Ok(programs) if programs.entry.is_supported() => {
                    return Ok(Self::Links { programs, links: Vec::new() });
                }
                Ok(_) => info!("this kernel has no links for many probes: Linux 6.6 has them"),
                Err(error) => warn!("cannot load the programs for links: {error:#}"),
            }
        }
        info!("probes are attached one by one: starting and stopping take longer");
        let names: &[&str] = match detail {
            Detail::Entry => &[ENTRY],
            Detail::Call => &[BEGIN, END],
        };
        for name in names {
            program(ebpf, name)?.load().context("cannot load the eBPF program")?;
        }
        Ok(Self::PerfEvents)
    }
}

impl Attacher {
    pub(super) fn new(way: Way, detail: Detail, ebpf: Ebpf) -> Self {
        Self { way, detail, ebpf }
    }

    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// One by one, as kernels before 6.6 do.
    pub fn uses_perf_events(&self) -> bool {
        matches!(self.way, Way::PerfEvents)
    }

    /// Puts probes on each function of `library`; `plan` says what its events carry.
    ///
    /// Returns the functions that refused, with the reason.
    pub fn attach(
        &mut self,
        library: &Library,
        mut plan: impl FnMut(&str) -> Result<Plan>,
    ) -> Result<BTreeMap<String, String>> {
        let path = path_of(library);
        let mut points = Vec::with_capacity(library.functions.len());
        for (index, function) in library.functions.iter().enumerate() {
            let Plan(cookie) = plan(&function.name)?;
            points.push((index, Point { offset: function.file_offset, cookie }));
        }
        let mut refused = Vec::new();
        match &mut self.way {
            Way::Links { programs, links } => {
                let path = CString::new(path).context("a path without NUL")?;
                if let Some(Ends { plain, named }) = &programs.ends {
                    // Before the entries: a call that has begun must be seen to end.
                    let (with_name, without): (Vec<_>, Vec<_>) =
                        points.iter().partition(|(_, point)| Plan(point.cookie).name().is_some());
                    attach_most(plain, &path, At::Return, &without, links, &mut refused);
                    attach_most(named, &path, At::Return, &with_name, links, &mut refused);
                    leave_out(&mut points, &refused);
                }
                attach_most(&programs.entry, &path, At::Entry, &points, links, &mut refused);
            }
            Way::PerfEvents => match self.detail {
                Detail::Entry => {
                    attach_each(program(&mut self.ebpf, ENTRY)?, &path, &points, &mut refused);
                }
                Detail::Call => {
                    attach_each(program(&mut self.ebpf, END)?, &path, &points, &mut refused);
                    leave_out(&mut points, &refused);
                    attach_each(program(&mut self.ebpf, BEGIN)?, &path, &points, &mut refused);
                }
            },
        }
        let name = |index: usize| library.functions[index].name.clone();
        Ok(refused.into_iter().map(|(index, reason)| (name(index), reason)).collect())
    }
}

fn leave_out(points: &mut Vec<(usize, Point)>, refused: &[Refused]) {
    points.retain(|(index, _)| refused.iter().all(|(refused, _)| refused != index));
}

/// Programs that do nothing, where ours would go: the floor that benchmarks compare with.
pub struct EmptyProbes {
    _links: Vec<OwnedFd>,
}

impl EmptyProbes {
    /// At the entry of every function of `library`, and for whole calls at the return too. Those
    /// that refuse either are left out, as ours leave them out.
    pub fn attach(library: &Library, detail: Detail) -> Result<Self> {
        let path = CString::new(path_of(library)).context("a path without NUL")?;
        let offsets = library.functions.iter().map(|function| function.file_offset);
        let mut points: Vec<_> =
            offsets.map(|offset| Point { offset, cookie: 0 }).enumerate().collect();
        let program = Program::load_empty()?;
        let (mut links, mut refused) = (Vec::new(), Vec::new());
        if detail == Detail::Call {
            attach_most(&program, &path, At::Return, &points, &mut links, &mut refused);
            leave_out(&mut points, &refused);
        }
        attach_most(&program, &path, At::Entry, &points, &mut links, &mut refused);
        leave_out(&mut points, &refused);
        match refused.pop() {
            Some((_, reason)) if points.is_empty() => bail!("no function took a probe: {reason}"),
            _ => Ok(Self { _links: links }),
        }
    }
}

/// The kernel follows this to the inode that is open, whatever has happened to its name.
fn path_of(library: &Library) -> String {
    format!("/proc/self/fd/{}", library.file.as_raw_fd())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe> {
    let program = ebpf.program_mut(name).context("the eBPF object lacks the program")?;
    Ok(program.try_into()?)
}
