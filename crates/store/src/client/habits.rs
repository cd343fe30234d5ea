//! What a store has turned out not to do: found at the first request, remembered for the run, logged
//! once.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;

use crate::settings::Checksums;

#[derive(Debug)]
pub(crate) struct Habits {
    checksums: Checksums,
    no_checksums: AtomicBool,
    no_head: AtomicBool,
    old_listings: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Refuses `x-amz-checksum-...`.
    NoChecksums,
    /// Does not answer HEAD with the size of the object.
    NoHead,
    /// Knows the first form of listings only.
    OldListings,
}

impl Habits {
    pub(crate) fn new(checksums: Checksums) -> Self {
        Self {
            checksums,
            no_checksums: AtomicBool::new(checksums == Checksums::Never),
            no_head: AtomicBool::default(),
            old_listings: AtomicBool::default(),
        }
    }

    pub(crate) fn sends_checksums(&self) -> bool {
        !self.has(Habit::NoChecksums)
    }

    /// Whether the setting leaves it to the store.
    pub(crate) fn may_omit_checksums(&self) -> bool {
        self.checksums == Checksums::Auto
    }

    pub(crate) fn has(&self, habit: Habit) -> bool {
        self.flag(habit).load(Ordering::Relaxed)
    }

    pub(crate) fn learn(&self, habit: Habit, store: &str) {
        if self.flag(habit).swap(true, Ordering::Relaxed) {
            return;
        }
        match habit {
            Habit::NoChecksums => info!(
                "{store} refuses x-amz-checksum-sha256: objects go there with Content-MD5 alone, as with \
                 S3_CHECKSUMS=never"
            ),
            Habit::NoHead => info!(
                "{store} does not answer HEAD with the size of an object: it is asked by GET instead"
            ),
            Habit::OldListings => {
                info!("{store} knows the first form of listings only: it is asked by that");
            }
        }
    }

    fn flag(&self, habit: Habit) -> &AtomicBool {
        match habit {
            Habit::NoChecksums => &self.no_checksums,
            Habit::NoHead => &self.no_head,
            Habit::OldListings => &self.old_listings,
        }
    }
}
