//! Puts probes on libraries: by links of many probes where the kernel has them, one by one elsewhere.

mod mapping;
mod points;

use std::{
    collections::BTreeMap,
    ffi::CString,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeLink, UProbeLinkId},
    },
};
use cuda::function::calls_back;
use libraries::library::Library;
use mapping::CodeMapping;
use points::{Refused, attach_each, attach_most};
use settings::{AttachBy, Detail};
use sidecar_common::Plan;
use tracing::{debug, info, warn};

use super::multi::{At, Point, Program};

// The programs in `sidecar-ebpf`.
const ENTRY: &str = "call_entry";
const BEGIN: &str = "call_begin";
const END: &str = "call_end";
const END_NAMED: &str = "call_end_named";

/// Attaches probes; those of perf events live as long as the last clone of it.
///
/// The kernel may take its time, or wait for a file system that does not answer. So a clone can be
/// taken to a thread that may wait.
#[derive(Clone)]
pub struct Attacher {
    shared: Arc<Shared>,
    detail: Detail,
    /// No further probe is attached one by one once this is set.
    stop: Arc<AtomicBool>,
}

struct Shared {
    way: AttachMethod,
    /// Locked while probes are attached one by one.
    ebpf: Mutex<Ebpf>,
}

/// How probes are attached, with the programs loaded for it.
pub(super) enum AttachMethod {
    /// Linux 6.6 and later.
    Links(Programs),
    /// One perf event per probe, by the programs inside [`Ebpf`].
    PerfEvents,
}

/// The probes of one library. Dropping it detaches those of links; [`Attacher::detach`] all.
#[derive(Default)]
pub struct Attachment {
    links: Vec<OwnedFd>,
    perf_events: Vec<PerfEvent>,
}

/// A probe that is a perf event, by the name of its program.
pub(super) type PerfEvent = (&'static str, UProbeLinkId);

pub(super) struct Programs {
    /// At the entry of a function whose return is not recorded.
    entry: Program,
    /// For all others.
    calls: Option<Calls>,
}

struct Calls {
    begin: Program,
    end: Program,
    /// May sleep, to bring in the memory that a name lies in.
    end_named: Program,
}

impl Programs {
    fn load(ebpf: &Ebpf, object: &[u8], detail: Detail) -> Result<Self> {
        let load = |name| Program::load(object, name, ebpf.maps());
        let calls = match detail {
            Detail::Entry => None,
            Detail::Call => {
                Some(Calls { begin: load(BEGIN)?, end: load(END)?, end_named: load(END_NAMED)? })
            }
        };
        Ok(Self { entry: load(ENTRY)?, calls })
    }
}

impl AttachMethod {
    pub(super) fn load(
        ebpf: &mut Ebpf,
        object: &[u8],
        attach_by: AttachBy,
        detail: Detail,
    ) -> Result<Self> {
        if attach_by == AttachBy::Auto {
            match Programs::load(ebpf, object, detail) {
                Ok(programs) if programs.entry.is_supported() => {
                    return Ok(Self::Links(programs));
                }
                Ok(_) => info!("this kernel has no links for many probes: Linux 6.6 has them"),
                Err(error) => warn!("cannot load the programs for links: {error:#}"),
            }
        }
        info!("probes are attached one by one: starting and stopping take longer");
        let names: &[&str] = match detail {
            Detail::Entry => &[ENTRY],
            Detail::Call => &[ENTRY, BEGIN, END],
        };
        for name in names {
            program(ebpf, name)?.load().context("cannot load the eBPF program")?;
        }
        Ok(Self::PerfEvents)
    }
}

impl Attacher {
    pub(super) fn new(way: AttachMethod, detail: Detail, ebpf: Ebpf) -> Self {
        let shared = Arc::new(Shared { way, ebpf: Mutex::new(ebpf) });
        Self { shared, detail, stop: Arc::default() }
    }

    /// Attaching one by one may take minutes: when `stop` is set it ends with an error, and the probes
    /// that are in place stay until the end.
    pub fn stop_when(&mut self, stop: Arc<AtomicBool>) {
        self.stop = stop;
    }

    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// Whether probes are attached one by one, as kernels before 6.6 do; they take their time to
    /// detach, too.
    pub fn uses_perf_events(&self) -> bool {
        matches!(self.shared.way, AttachMethod::PerfEvents)
    }

    /// Puts probes on each function of `library`; `plan` says what its events carry, or why it must
    /// get no probe.
    ///
    /// Returns the functions without one too, with the reason. An error is of the machine, not of a
    /// function, and may pass: descriptors or memory that are used up. Then there are no probes.
    pub fn attach(
        &self,
        library: &Library,
        mut plan: impl FnMut(&str) -> Result<Plan, &'static str>,
    ) -> Result<(Attachment, BTreeMap<String, String>)> {
        let mut attachment = Attachment::default();
        match self.attach_to(library, &mut plan, &mut attachment) {
            Ok(refused) => Ok((attachment, refused)),
            Err(error) => {
                if !self.stop.load(Ordering::Acquire) {
                    self.detach(attachment, ());
                }
                Err(error)
            }
        }
    }

    fn attach_to(
        &self,
        library: &Library,
        plan: &mut impl FnMut(&str) -> Result<Plan, &'static str>,
        attachment: &mut Attachment,
    ) -> Result<BTreeMap<String, String>> {
        let path = path_of(library);
        let _mapping = CodeMapping::new(&library.file, &library.functions)
            .inspect_err(|error| debug!(path, "cannot map the code of a library: {error}"));
        // Those whose return is recorded too.
        let mut calls = Vec::with_capacity(library.functions.len());
        let mut entries = Vec::new();
        let mut refused = Vec::new();
        for (index, function) in library.functions.iter().enumerate() {
            match plan(&function.name) {
                Ok(Plan(cookie)) => {
                    let point = Point { offset: function.file_offset, cookie };
                    let points = if is_entry_only(self.detail, &function.name) {
                        &mut entries
                    } else {
                        &mut calls
                    };
                    points.push((index, point));
                }
                Err(reason) => refused.push((index, reason.to_owned())),
            }
        }
        match &self.shared.way {
            AttachMethod::Links(programs) => {
                let links = &mut attachment.links;
                let path = CString::new(path).context("a path without NUL")?;
                attach_most(&programs.entry, &path, At::Entry, &entries, links, &mut refused)?;
                if let Some(Calls { begin, end, end_named }) = &programs.calls {
                    // Before the entries: a call that has begun must be seen to end.
                    let (untouched, others): (Vec<_>, Vec<_>) = calls
                        .iter()
                        .partition(|(_, point)| Plan(point.cookie).has_untouched_name());
                    attach_most(end, &path, At::Return, &others, links, &mut refused)?;
                    attach_most(end_named, &path, At::Return, &untouched, links, &mut refused)?;
                    leave_out(&mut calls, &refused);
                    attach_most(begin, &path, At::Entry, &calls, links, &mut refused)?;
                }
            }
            AttachMethod::PerfEvents => {
                let (mut ebpf, stop) = (self.ebpf(), &*self.stop);
                let mut attach = |name, points: &[_], refused: &mut Vec<_>| {
                    let (program, events) =
                        (program(&mut ebpf, name)?, &mut attachment.perf_events);
                    attach_each(program, name, &path, points, events, refused, stop)
                };
                attach(ENTRY, &entries, &mut refused)?;
                if self.detail == Detail::Call {
                    attach(END, &calls, &mut refused)?;
                    leave_out(&mut calls, &refused);
                    attach(BEGIN, &calls, &mut refused)?;
                }
            }
        }
        let name = |index: usize| library.functions[index].name.clone();
        Ok(refused.into_iter().map(|(index, reason)| (name(index), reason)).collect())
    }

    /// Takes the probes of one library away, and drops `kept` then, on a thread of its own: the kernel
    /// may take its time for each probe, and waits for processes that are mapping something.
    pub fn detach(&self, attachment: Attachment, kept: impl Send + 'static) {
        let attacher = self.clone();
        let detach = move || {
            let Attachment { links, perf_events } = attachment;
            drop(links);
            if !perf_events.is_empty() {
                match attacher.take(perf_events) {
                    Ok(taken) => drop(taken),
                    Err(error) => warn!("cannot detach a probe: {error:#}"),
                }
            }
            drop(kept);
        };
        // Without a thread all is dropped here.
        if let Err(error) = thread::Builder::new().name("detach".to_owned()).spawn(detach) {
            warn!("cannot start a thread that detaches probes: {error}");
        }
    }

    /// What is returned detaches the probes when it is dropped, without the lock.
    fn take(&self, perf_events: Vec<PerfEvent>) -> Result<Vec<UProbeLink>> {
        let mut ebpf = self.ebpf();
        let take = |(name, link): PerfEvent| Ok(program(&mut ebpf, name)?.take_link(link)?);
        perf_events.into_iter().map(take).collect()
    }

    fn ebpf(&self) -> MutexGuard<'_, Ebpf> {
        self.shared.ebpf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A return probe changes the return address on the stack, so that nothing can be thrown through
/// the function.
fn is_entry_only(detail: Detail, name: &str) -> bool {
    detail == Detail::Entry || calls_back(name).is_some()
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
        let _mapping = CodeMapping::new(&library.file, &library.functions);
        let offsets = library.functions.iter().map(|function| function.file_offset);
        let mut points: Vec<_> =
            offsets.map(|offset| Point { offset, cookie: 0 }).enumerate().collect();
        let program = Program::load_empty()?;
        let (mut links, mut refused) = (Vec::new(), Vec::new());
        if detail == Detail::Call {
            let returns: Vec<_> = points
                .iter()
                .filter(|(index, _)| !is_entry_only(detail, &library.functions[*index].name))
                .copied()
                .collect();
            attach_most(&program, &path, At::Return, &returns, &mut links, &mut refused)?;
            leave_out(&mut points, &refused);
        }
        attach_most(&program, &path, At::Entry, &points, &mut links, &mut refused)?;
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
