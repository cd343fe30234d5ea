//! Which memory is live: allocations by address, from the calls that make and free them.

use std::collections::HashMap;

use cuda::function::canonical;
use trace::call_view::CallView;

use crate::context::{function::Hasher, process::ProcessId};

/// Of live allocations: a program has some thousands.
const MAX_ALLOCATIONS: usize = 4 << 20;

/// Where memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::questions) enum Kind {
    /// `cuMemAlloc`, `cudaMalloc`.
    Device,
    Managed,
    /// Of a pool, in the order of a stream: the pool holds more than is live.
    Async,
    /// `cuMemCreate`: without an address until it is mapped.
    Physical,
    /// Pinned memory of the host.
    Host,
    /// Memory of the program that was pinned later.
    Registered,
}

impl Kind {
    pub(in crate::questions) const ALL: [Self; 6] =
        [Self::Device, Self::Managed, Self::Async, Self::Physical, Self::Host, Self::Registered];

    pub(in crate::questions) fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Managed => "managed",
            Self::Async => "async_pool",
            Self::Physical => "vmm",
            Self::Host => "host_pinned",
            Self::Registered => "host_registered",
        }
    }

    pub(in crate::questions) fn is_on_device(self) -> bool {
        matches!(self, Self::Device | Self::Managed | Self::Async | Self::Physical)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::questions) enum Action {
    Allocate(Kind),
    Free,
    FreeHost,
    Unregister,
    Release,
    Map,
    Unmap,
    /// All of the process, or of its one context.
    Reset,
}

impl Action {
    pub(in crate::questions) fn of(name: &str) -> Option<Self> {
        Some(match canonical(name) {
            "cuMemAlloc" | "cuMemAllocPitch" | "cudaMalloc" | "cudaMallocPitch"
            | "cudaMalloc3D" => Self::Allocate(Kind::Device),
            "cuMemAllocManaged" | "cudaMallocManaged" => Self::Allocate(Kind::Managed),
            "cuMemAllocAsync"
            | "cuMemAllocFromPoolAsync"
            | "cudaMallocAsync"
            | "cudaMallocFromPoolAsync" => Self::Allocate(Kind::Async),
            "cuMemCreate" => Self::Allocate(Kind::Physical),
            "cuMemAllocHost" | "cuMemHostAlloc" | "cudaMallocHost" | "cudaHostAlloc" => {
                Self::Allocate(Kind::Host)
            }
            "cuMemHostRegister" | "cudaHostRegister" => Self::Allocate(Kind::Registered),
            "cuMemFree" | "cudaFree" | "cuMemFreeAsync" | "cudaFreeAsync" => Self::Free,
            "cuMemFreeHost" | "cudaFreeHost" => Self::FreeHost,
            "cuMemHostUnregister" | "cudaHostUnregister" => Self::Unregister,
            "cuMemRelease" => Self::Release,
            "cuMemMap" => Self::Map,
            "cuMemUnmap" => Self::Unmap,
            "cuCtxDestroy" | "cuDevicePrimaryCtxReset" | "cudaDeviceReset" | "cudaThreadExit" => {
                Self::Reset
            }
            _ => return None,
        })
    }

    /// Whether losing such a call hides memory; else it hides that memory was freed.
    pub(in crate::questions) fn makes(self) -> bool {
        matches!(self, Self::Allocate(_) | Self::Map)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// Device and host memory have one range of addresses.
    Pointer(u64),
    Registered(u64),
    Physical(u64),
}

#[derive(Debug, Clone, Copy)]
struct Live {
    kind: Kind,
    bytes: u64,
    /// When the call that made it returned.
    end_ns: i64,
    /// Physical memory stays while it is mapped, and while its handle is not released.
    uses: u32,
}

/// Allocations that are told together: a cache is many of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::questions) struct Group {
    /// Of each.
    pub(in crate::questions) bytes: u64,
    pub(in crate::questions) kind: Kind,
    pub(in crate::questions) process: ProcessId,
}

/// Live memory of all processes.
#[derive(Default)]
pub(in crate::questions) struct Memory {
    live: HashMap<(ProcessId, Key), Live, Hasher>,
    /// Mapped ranges of physical memory, by address: its handle and how much.
    mapped: HashMap<(ProcessId, u64), (u64, u64), Hasher>,
    /// Allocations whose address was given out again before the line of their free.
    superseded: HashMap<(ProcessId, Key), u32, Hasher>,
    groups: HashMap<Group, u64, Hasher>,
    device_bytes: u64,
    pub(in crate::questions) peak: Peak,
}

/// The most device memory that was live at once.
#[derive(Default)]
pub(in crate::questions) struct Peak {
    pub(in crate::questions) bytes: u64,
    pub(in crate::questions) ts_ns: i64,
    /// Allocations less frees since then.
    since: HashMap<Group, i64, Hasher>,
}

impl Peak {
    pub(in crate::questions) fn at(bytes: u64, ts_ns: i64) -> Self {
        Self { bytes, ts_ns, since: HashMap::default() }
    }
}

/// What a call has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::questions) enum Change {
    Allocated(Kind, u64),
    Freed(Kind, u64),
    /// Of an address that no call here has made.
    FreedUnknown,
    /// An allocation without size or address.
    Unreadable,
    Nothing,
}

impl Memory {
    /// Follows a call that succeeded and that no other call made.
    pub(in crate::questions) fn follow(
        &mut self,
        action: Action,
        process: ProcessId,
        line: &CallView<'_>,
    ) -> Change {
        let pointer = line.ptr.map(|ptr| ptr.0);
        let handle = line.allocation.map(|allocation| allocation.0);
        match action {
            Action::Allocate(Kind::Physical) => {
                self.allocate(Kind::Physical, process, handle, line)
            }
            Action::Allocate(kind) => self.allocate(kind, process, pointer, line),
            Action::Free | Action::FreeHost => match pointer {
                Some(0) => Change::Nothing,
                Some(pointer) => self.free((process, Key::Pointer(pointer)), line),
                None => Change::FreedUnknown,
            },
            Action::Unregister => match pointer {
                Some(pointer) => self.free((process, Key::Registered(pointer)), line),
                None => Change::FreedUnknown,
            },
            Action::Release => match handle {
                Some(handle) => self.drop_use(process, handle, line),
                None => Change::FreedUnknown,
            },
            Action::Map => {
                if let (Some(pointer), Some(handle)) = (pointer, handle) {
                    if let Some(live) = self.live.get_mut(&(process, Key::Physical(handle))) {
                        live.uses = live.uses.saturating_add(1);
                    }
                    let bytes = line.bytes.unwrap_or(0);
                    self.mapped.insert((process, pointer), (handle, bytes));
                }
                Change::Nothing
            }
            Action::Unmap => self.unmap(process, pointer, line),
            Action::Reset => Change::Nothing,
        }
    }

    fn allocate(
        &mut self,
        kind: Kind,
        process: ProcessId,
        place: Option<u64>,
        line: &CallView<'_>,
    ) -> Change {
        let (Some(place), Some(bytes)) = (place, line.bytes) else { return Change::Unreadable };
        let key = match kind {
            Kind::Physical => Key::Physical(place),
            Kind::Registered => Key::Registered(place),
            _ => Key::Pointer(place),
        };
        if self.live.len() >= MAX_ALLOCATIONS {
            return Change::Unreadable;
        }
        let end_ns = line.end_ns();
        let live = Live { kind, bytes, end_ns, uses: 1 };
        if let Some(old) = self.live.insert((process, key), live) {
            // Another thread's free has given the address back, and its line is still to come.
            *self.superseded.entry((process, key)).or_default() += 1;
            self.gone((process, key), old);
        }
        let group = Group { bytes, kind, process };
        *self.groups.entry(group).or_default() += 1;
        *self.peak.since.entry(group).or_default() += 1;
        if kind.is_on_device() {
            self.device_bytes = self.device_bytes.saturating_add(bytes);
            if self.device_bytes > self.peak.bytes {
                self.peak.bytes = self.device_bytes;
                self.peak.ts_ns = end_ns;
                self.peak.since.clear();
            }
        }
        Change::Allocated(kind, bytes)
    }

    fn free(&mut self, key: (ProcessId, Key), line: &CallView<'_>) -> Change {
        let Some(live) = self.live.get(&key) else { return Change::FreedUnknown };
        if line.ts_ns < live.end_ns
            && let Some(count) = self.superseded.get_mut(&key).filter(|count| **count > 0)
        {
            // The free of the one before, which was taken for free when the address came again.
            *count -= 1;
            return Change::Nothing;
        }
        let live = *live;
        self.live.remove(&key);
        self.gone(key, live);
        Change::Freed(live.kind, live.bytes)
    }

    fn drop_use(&mut self, process: ProcessId, handle: u64, line: &CallView<'_>) -> Change {
        let key = (process, Key::Physical(handle));
        match self.live.get_mut(&key) {
            None => Change::FreedUnknown,
            Some(live) if live.uses > 1 => {
                live.uses -= 1;
                Change::Nothing
            }
            Some(_) => self.free(key, line),
        }
    }

    fn unmap(&mut self, process: ProcessId, pointer: Option<u64>, line: &CallView<'_>) -> Change {
        let Some(pointer) = pointer else { return Change::FreedUnknown };
        // A range may hold several mappings; they lie one behind the other.
        let end = pointer.saturating_add(line.bytes.unwrap_or(1));
        let mut at = pointer;
        let mut freed = None;
        while at < end
            && let Some((handle, bytes)) = self.mapped.remove(&(process, at))
        {
            if let Change::Freed(kind, bytes) = self.drop_use(process, handle, line) {
                freed = Some((kind, freed.map_or(0_u64, |(_, sum)| sum).saturating_add(bytes)));
            }
            at = at.saturating_add(bytes.max(1));
        }
        freed.map_or(Change::Nothing, |(kind, bytes)| Change::Freed(kind, bytes))
    }

    /// Frees the device memory of a process whose only context has gone: how often, and how much.
    pub(in crate::questions) fn reset(&mut self, process: ProcessId) -> (u64, u64) {
        let keys: Vec<_> = self
            .live
            .iter()
            .filter(|((of, _), live)| *of == process && live.kind.is_on_device())
            .map(|(key, live)| (*key, *live))
            .collect();
        let bytes = keys.iter().map(|(_, live)| live.bytes).fold(0, u64::saturating_add);
        for (key, live) in &keys {
            self.live.remove(key);
            self.gone(*key, *live);
        }
        (keys.len() as u64, bytes)
    }

    fn gone(&mut self, (process, _): (ProcessId, Key), live: Live) {
        let Live { bytes, kind, .. } = live;
        let group = Group { bytes, kind, process };
        if let Some(count) = self.groups.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(&group);
            }
        }
        *self.peak.since.entry(group).or_default() -= 1;
        if kind.is_on_device() {
            self.device_bytes = self.device_bytes.saturating_sub(bytes);
        }
    }

    /// Live device memory of a process: when each allocation was made, and how large it is.
    pub(in crate::questions) fn of_process(
        &self,
        process: ProcessId,
    ) -> impl Iterator<Item = (i64, u64)> {
        let live = self.live.iter().filter(move |((of, _), _)| *of == process);
        live.filter(|(_, live)| live.kind.is_on_device()).map(|(_, live)| (live.end_ns, live.bytes))
    }

    pub(in crate::questions) fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    /// What is live now, by group.
    pub(in crate::questions) fn groups(&self) -> Vec<(Group, u64)> {
        sorted(self.groups.iter().map(|(group, count)| (*group, *count)).collect())
    }

    /// Device memory that was live at the peak.
    pub(in crate::questions) fn groups_at_peak(&self) -> Vec<(Group, u64)> {
        let mut groups = self.groups.clone();
        for (group, change) in &self.peak.since {
            let count = groups.entry(*group).or_default();
            *count = count.saturating_add_signed(-change);
        }
        groups.retain(|group, count| group.kind.is_on_device() && *count > 0);
        sorted(groups.into_iter().collect())
    }
}

/// What takes most stands first.
fn sorted(mut groups: Vec<(Group, u64)>) -> Vec<(Group, u64)> {
    groups.sort_unstable_by_key(|(group, count)| {
        std::cmp::Reverse((group.bytes.saturating_mul(*count), *group))
    });
    groups
}

#[cfg(test)]
mod tests {
    use trace::line::Address;

    use super::*;

    const PROCESS: ProcessId = ProcessId(0);

    fn line(ts_ns: i64, place: u64, bytes: Option<u64>) -> CallView<'static> {
        CallView {
            ts_ns,
            dur_ns: Some(10),
            ptr: Some(Address(place)),
            allocation: Some(Address(place)),
            bytes,
            ..CallView::default()
        }
    }

    fn follow(memory: &mut Memory, name: &str, line: &CallView<'_>) -> Change {
        memory.follow(Action::of(name).unwrap(), PROCESS, line)
    }

    #[test]
    fn the_peak_holds_what_was_live_then() {
        let mut memory = Memory::default();
        follow(&mut memory, "cuMemAlloc_v2", &line(0, 1, Some(100)));
        follow(&mut memory, "cudaMallocManaged", &line(20, 2, Some(50)));
        follow(&mut memory, "cudaHostAlloc", &line(30, 3, Some(1000)));
        assert_eq!(
            follow(&mut memory, "cudaFree", &line(40, 1, None)),
            Change::Freed(Kind::Device, 100)
        );
        follow(&mut memory, "cuMemAllocAsync", &line(60, 4, Some(70)));
        assert_eq!((memory.device_bytes(), memory.peak.bytes), (120, 150));
        let held: Vec<u64> = memory.groups_at_peak().iter().map(|(it, _)| it.bytes).collect();
        assert_eq!(held, [100, 50]);
        assert_eq!(follow(&mut memory, "cudaFree", &line(80, 9, None)), Change::FreedUnknown);
        assert_eq!(follow(&mut memory, "cudaFree", &line(80, 0, None)), Change::Nothing);
        assert_eq!(memory.reset(PROCESS), (2, 120));
        assert_eq!((memory.device_bytes(), memory.groups().len()), (0, 1));
        assert_eq!(memory.groups_at_peak().len(), 2);
    }

    #[test]
    fn an_address_that_is_given_out_before_the_line_of_its_free_is_live_once() {
        let mut memory = Memory::default();
        follow(&mut memory, "cudaMalloc", &line(0, 1, Some(100)));
        follow(&mut memory, "cudaMalloc", &line(50, 1, Some(30)));
        assert_eq!(memory.device_bytes(), 30);
        // Began before the second allocation returned: the free of the first.
        assert_eq!(follow(&mut memory, "cudaFree", &line(45, 1, None)), Change::Nothing);
        assert_eq!(memory.device_bytes(), 30);
        follow(&mut memory, "cudaFree", &line(70, 1, None));
        assert_eq!(memory.device_bytes(), 0);
    }

    #[test]
    fn physical_memory_lives_until_it_is_released_and_unmapped() {
        let mut memory = Memory::default();
        follow(&mut memory, "cuMemCreate", &line(0, 7, Some(100)));
        let mapped = CallView { ptr: Some(Address(0x1000)), ..line(10, 7, Some(100)) };
        follow(&mut memory, "cuMemMap", &mapped);
        assert_eq!(follow(&mut memory, "cuMemRelease", &line(20, 7, None)), Change::Nothing);
        assert_eq!(memory.device_bytes(), 100);
        let unmapped = line(30, 0x1000, Some(200));
        assert_eq!(
            follow(&mut memory, "cuMemUnmap", &unmapped),
            Change::Freed(Kind::Physical, 100)
        );
        assert_eq!(memory.device_bytes(), 0);
    }
}
