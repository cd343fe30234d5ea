//! What a store has turned out not to do: found at the first request, remembered for the run, logged
//! once.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;

use crate::settings::Checksums;

#[derive(Debug)]
pub(crate) struct UnsupportedFeatures {
    checksums: Checksums,
    no_checksums: AtomicBool,
    no_head: AtomicBool,
    old_listings: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsupported {
    /// Refuses `x-amz-checksum-...`.
    Checksums,
    /// Does not answer HEAD with the size of the object.
    Head,
    /// Knows the first form of listings only.
    ListV2,
}

impl UnsupportedFeatures {
    pub(crate) fn new(checksums: Checksums) -> Self {
        Self {
            checksums,
            no_checksums: AtomicBool::new(checksums == Checksums::Never),
            no_head: AtomicBool::default(),
            old_listings: AtomicBool::default(),
        }
    }

    pub(crate) fn sends_checksums(&self) -> bool {
        !self.has(Unsupported::Checksums)
    }

    /// Whether the setting leaves it to the store.
    pub(crate) fn may_omit_checksums(&self) -> bool {
        self.checksums == Checksums::Auto
    }

    pub(crate) fn has(&self, feature: Unsupported) -> bool {
        self.flag(feature).load(Ordering::Relaxed)
    }

    pub(crate) fn learn(&self, feature: Unsupported, store: &str) {
        if self.flag(feature).swap(true, Ordering::Relaxed) {
            return;
        }
        match feature {
            Unsupported::Checksums => info!(
                "{store} refuses x-amz-checksum-sha256: objects go there with Content-MD5 alone, as with \
                 S3_CHECKSUMS=never"
            ),
            Unsupported::Head => info!(
                "{store} does not answer HEAD with the size of an object: it is asked by GET instead"
            ),
            Unsupported::ListV2 => {
                info!("{store} knows the first form of listings only: it is asked by that");
            }
        }
    }

    fn flag(&self, feature: Unsupported) -> &AtomicBool {
        match feature {
            Unsupported::Checksums => &self.no_checksums,
            Unsupported::Head => &self.no_head,
            Unsupported::ListV2 => &self.old_listings,
        }
    }
}
