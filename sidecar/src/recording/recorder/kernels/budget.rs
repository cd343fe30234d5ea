//! How much is remembered of kernels: a process names as many as it likes, and launches any handle.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing::warn;

use crate::recording::recorder::overflow::Overflow;

/// Kernels with a number. A start of vLLM has 28 743.
pub(super) const MAX_KERNELS: usize = 1 << 18;

/// Bytes of their names.
pub(super) const MAX_NAME_BYTES: usize = 64 << 20;

/// Handles of one process, and of all, 60 MiB of them; what a fork shares counts once.
const MAX_HANDLES: usize = 1 << 18;
const MAX_ALL_HANDLES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Budget {
    handles: Arc<AtomicUsize>,
    overflow: Overflow,
}

impl Budget {
    pub(super) fn no_handles(&self) -> Handles {
        Handles { by_value: HashMap::new(), all: Arc::clone(&self.handles) }
    }

    /// Whether so many handles may be added to those of a process that has `own` of them.
    pub(super) fn has_handles(&self, own: usize, more: usize) -> bool {
        own < MAX_HANDLES && self.handles.load(Ordering::Relaxed) + more <= MAX_ALL_HANDLES
    }

    /// Something is not remembered.
    pub(super) fn refuse(&mut self) {
        if let Some(refused) = self.overflow.add() {
            warn!(
                refused,
                "too many kernels to remember: calls that launch the others do not say which"
            );
        }
    }
}

/// What the handles of a process stand for; counted as long as they are held.
pub(super) struct Handles {
    by_value: HashMap<u64, Handle>,
    all: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    /// The number of its kernel; `None` if there was no room for that.
    pub(super) id: Option<u32>,
    /// When the call began that told it.
    pub(super) learnt_ns: u64,
}

impl Handles {
    pub(super) fn get(&self, value: u64) -> Option<Handle> {
        self.by_value.get(&value).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_value.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Handle)> {
        self.by_value.iter().map(|(value, handle)| (*value, *handle))
    }

    pub(super) fn insert(&mut self, value: u64, handle: Handle) {
        if self.by_value.insert(value, handle).is_none() {
            self.all.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that were learnt at the times that `are_kept`.
    pub(super) fn retain(&mut self, are_kept: impl Fn(u64) -> bool) {
        let before = self.by_value.len();
        self.by_value.retain(|_, handle| are_kept(handle.learnt_ns));
        self.all.fetch_sub(before - self.by_value.len(), Ordering::Relaxed);
    }
}

impl Clone for Handles {
    fn clone(&self) -> Self {
        self.all.fetch_add(self.by_value.len(), Ordering::Relaxed);
        Self { by_value: self.by_value.clone(), all: Arc::clone(&self.all) }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.all.fetch_sub(self.by_value.len(), Ordering::Relaxed);
    }
}
