//! The eBPF programs in the kernel: loading, attaching, their maps. The only user of `aya`.

mod attacher;
mod multi;
mod threads;

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result};
use attacher::AttachMethod;
pub use attacher::{Attacher, Attachment, EmptyProbes};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray, RingBuf},
    programs::RawTracePoint,
};
use settings::{AttachBy, Detail};
use sidecar_common::{Counters, MAX_FUNCTIONS, NameRecord, control, foreign};
pub use threads::Threads;
use tracing::warn;

/// The object that `build.rs` chose.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CUDA_PROBES_OBJECT"));

/// The program that sees a process execute another program.
const EXECUTED: &str = "process_executed";

/// Inode of the pid namespace that the kernel starts with (`PROC_PID_INIT_INO`).
const HOST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The loaded programs, taken apart into what each thread needs.
pub struct Probes {
    pub attacher: Attacher,
    pub events: Events,
    pub kernel: ControlMaps,
}

/// What the programs do.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// In bytes.
    pub ring_buffer_size: u32,
    pub attach_by: AttachBy,
    pub detail: Detail,
    /// Calls of one function in a second; 0 is no limit.
    pub rate_limit: u64,
}

/// What the programs have seen: the ring buffer.
pub struct Events {
    ring: RingBuf<MapData>,
}

/// Counters, filter and switch in the kernel.
pub struct ControlMaps {
    counters: PerCpuArray<MapData, CountersValue>,
    foreign: Array<MapData, u64>,
    control: Array<MapData, u32>,
    pub threads: Threads,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct CountersValue(Counters);

// SAFETY: words without padding; any bytes are a valid value.
unsafe impl aya::Pod for CountersValue {}

impl Probes {
    /// Loads the programs; nothing is attached, and nothing will be recorded before
    /// [`ControlMaps::record`].
    pub fn load(settings: Settings) -> Result<Self> {
        let Settings { ring_buffer_size, attach_by, detail, rate_limit } = settings;
        let namespace =
            rustix::fs::stat("/proc/self/ns/pid").context("cannot stat /proc/self/ns/pid")?;
        let inode = if namespace.st_ino == HOST_PID_NAMESPACE { 0 } else { namespace.st_ino };
        let wakeup_bytes = u64::from(ring_buffer_size / 4);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("EVENTS", ring_buffer_size)
            .override_global("PID_NAMESPACE_DEVICE", &namespace.st_dev, true)
            .override_global("PID_NAMESPACE_INODE", &inode, true)
            .override_global("WAKEUP_BYTES", &wakeup_bytes, true)
            .override_global("RATE_LIMIT", &rate_limit, true)
            .load(OBJECT)
            .context("cannot load the eBPF maps")?;
        // The program refers to the maps, so it is loaded before they are taken.
        let way = AttachMethod::load(&mut ebpf, OBJECT, attach_by, detail)?;
        if let Err(error) = watch_execs(&mut ebpf) {
            warn!(
                "a process that called CUDA before it executes a target may lose its first calls: \
                 {error:#}"
            );
        }
        let events = Events { ring: RingBuf::try_from(take_map(&mut ebpf, "EVENTS")?)? };
        let counters = PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?)?;
        let foreign = Array::try_from(take_map(&mut ebpf, "FOREIGN")?)?;
        let control = Array::try_from(take_map(&mut ebpf, "CONTROL")?)?;
        let threads = Threads::new(take_map(&mut ebpf, "THREADS")?)?;
        let attacher = Attacher::new(way, detail, ebpf);
        Ok(Self { attacher, events, kernel: ControlMaps { counters, foreign, control, threads } })
    }
}

/// Attached for as long as `ebpf` lives.
fn watch_execs(ebpf: &mut Ebpf) -> Result<()> {
    let program = ebpf.program_mut(EXECUTED).context("the eBPF object lacks the program")?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load().context("cannot load the program that sees execs")?;
    program.attach("sched_process_exec").context("cannot attach to sched_process_exec")?;
    Ok(())
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name).with_context(|| format!("the eBPF object has no map {name}"))
}

impl Events {
    /// Copies the next record into `buffer` and returns its length.
    pub fn take(&mut self, buffer: &mut RecordBuffer) -> Option<usize> {
        let record = self.ring.next()?;
        let length = record.len().min(buffer.len());
        buffer[..length].copy_from_slice(&record[..length]);
        Some(length)
    }
}

/// Room for any record.
pub type RecordBuffer = [u8; size_of::<NameRecord>()];

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl ControlMaps {
    pub fn record(&mut self) -> Result<()> {
        self.control.set(0, control::RECORDING, 0).context("cannot start the probes")
    }

    /// Probes return at once from now on; those that run may still finish.
    pub fn stop(&mut self) -> Result<()> {
        self.control.set(0, control::STOPPED, 0).context("cannot stop the probes")
    }

    /// Hits and drops of the first `functions` functions, over all CPUs.
    pub fn counters(&self, functions: u32) -> Result<Vec<Counters>> {
        (0..functions.min(MAX_FUNCTIONS))
            .map(|number| {
                let per_cpu = self.counters.get(&number, 0).context("cannot read the counters")?;
                Ok(per_cpu.iter().fold(Counters::default(), |sum, CountersValue(one)| Counters {
                    hits: sum.hits + one.hits,
                    dropped: sum.dropped + one.dropped,
                    suppressed: sum.suppressed + one.suppressed,
                }))
            })
            .collect()
    }

    /// Tells the programs that a process is not a target, so that it costs next to nothing; or
    /// that it may be one again.
    pub fn set_foreign(&mut self, pid: u32, is_foreign: bool) -> Result<()> {
        let (index, bit) = foreign::bit(pid);
        let word = self.foreign.get(&index, 0).context("cannot read the filter")?;
        let changed = if is_foreign { word | bit } else { word & !bit };
        if changed == word {
            return Ok(());
        }
        self.foreign.set(index, changed, 0).context("cannot change the filter")
    }
}
