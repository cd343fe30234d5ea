//! How much is remembered of captures and graphs: a process says how many it has, and how long they
//! are.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing::warn;

use crate::recording::recorder::overflow::Overflow;

/// A capture or graph longer than this is given up, as is one with a kernel that was not read, and
/// the graph is one of which nothing is known: nobody captures so much, but a capture whose end was
/// lost goes on for ever.
pub(super) const MAX_KERNELS: usize = 1 << 20;

/// Kernels in captures and graphs of all processes, 16 MiB of them. An engine of vLLM has some ten
/// thousand.
const MAX_ALL_KERNELS: usize = 4 << 20;

/// Captures, streams and events in them, graphs, and executable graphs of one process. An engine
/// has a few thousand.
const MAX_ENTRIES: usize = 1 << 17;

/// The same of all processes.
const MAX_ALL_ENTRIES: usize = 1 << 19;

#[derive(Default)]
pub(super) struct Budget {
    /// Of all processes.
    kernels: Arc<AtomicUsize>,
    entries: usize,
    /// Of the process that is followed.
    own_entries: usize,
    overflow: Overflow,
}

impl Budget {
    /// A process with so many entries is followed.
    pub(super) fn enter(&mut self, entries: usize) {
        self.own_entries = entries;
    }

    /// A process had so many entries, and has so many now.
    pub(super) fn leave(&mut self, before: usize, after: usize) {
        self.entries = self.entries - before + after;
    }

    pub(super) fn is_left(&self) -> bool {
        self.own_entries < MAX_ENTRIES && self.entries < MAX_ALL_ENTRIES
    }

    /// Something is not remembered.
    pub(super) fn refuse(&mut self) {
        if let Some(refused) = self.overflow.add() {
            warn!(
                refused,
                "more captures and graphs than are remembered: it is not said what the others hold"
            );
        }
    }

    pub(super) fn no_kernels(&self) -> Kernels {
        Kernels { list: Vec::new(), all: Arc::clone(&self.kernels) }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.entries, self.kernels.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(super) fn fill(&mut self) {
        self.entries += MAX_ALL_ENTRIES;
    }

    #[cfg(test)]
    pub(super) fn empty(&mut self) {
        self.entries -= MAX_ALL_ENTRIES;
    }
}

/// Keeps what a handle stands for; false if there is no room, and then nothing is known of it.
pub(super) fn put<T>(
    map: &mut HashMap<u64, T>,
    handle: u64,
    value: T,
    budget: &mut Budget,
) -> bool {
    if !budget.is_left() && !map.contains_key(&handle) {
        budget.refuse();
        return false;
    }
    map.insert(handle, value);
    true
}

/// Numbers of kernels, in the order in which they were launched; counted as long as they are held.
#[derive(Debug)]
pub(in crate::recording::recorder) struct Kernels {
    list: Vec<u32>,
    all: Arc<AtomicUsize>,
}

impl Kernels {
    /// False if there is no room.
    pub(super) fn push(&mut self, kernel: u32, budget: &mut Budget) -> bool {
        if self.list.len() >= MAX_KERNELS || self.all.load(Ordering::Relaxed) >= MAX_ALL_KERNELS {
            budget.refuse();
            return false;
        }
        self.list.push(kernel);
        self.all.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl Deref for Kernels {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.list
    }
}

impl Clone for Kernels {
    fn clone(&self) -> Self {
        self.all.fetch_add(self.list.len(), Ordering::Relaxed);
        Self { list: self.list.clone(), all: Arc::clone(&self.all) }
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        self.all.fetch_sub(self.list.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
impl<const N: usize> PartialEq<[u32; N]> for Kernels {
    fn eq(&self, other: &[u32; N]) -> bool {
        self.list == other
    }
}
