//! What keeps single segments from being stored, and when each is tried again.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use trace::segment_name::SegmentName;

use super::{FIRST_RETRY, MAX_RETRY, Which};
use store::PutError;

use crate::reporting::state::Blocked;

/// The longest wait of a segment that fails while others are stored.
const MAX_OWN_RETRY: Duration = Duration::from_secs(300);

/// Segments that are told with their reasons; of the others only the number.
const MAX_TOLD: usize = 16;

/// Of the reason of a segment, in bytes: thousands may have one.
const MAX_REASON: usize = 500;

/// Only of segments that have failed, so at most as many as there are files.
#[derive(Default)]
pub(super) struct Failures(HashMap<SegmentName, Failure>);

struct Failure {
    kind: Kind,
    since: Timestamp,
    /// How many were stored before its first failure.
    stored_before: u64,
    /// `None`: not in this run.
    next: Option<Instant>,
    attempts: u32,
    error: String,
    /// Others were stored before it failed again.
    is_own: bool,
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The store, or the way to it.
    Store,
    /// The store took it, and could not be asked what it has.
    Unconfirmed,
    /// It cannot be read, or not be deleted.
    File,
    /// The store has something else under its name.
    Taken,
    /// Too large for the store: a closed file never shrinks.
    TooLarge,
}

impl Kind {
    pub(super) fn of(error: &PutError) -> Self {
        match error {
            PutError::Store(_) => Self::Store,
            PutError::Unconfirmed(_) => Self::Unconfirmed,
            PutError::File(_) => Self::File,
            PutError::Taken(_) => Self::Taken,
            PutError::TooLarge(_) => Self::TooLarge,
        }
    }

    /// Whether another attempt might fare better without anybody's doing.
    pub(super) fn is_of_the_store(self) -> bool {
        matches!(self, Self::Store | Self::Unconfirmed)
    }
}

impl Failures {
    pub(super) fn retain(&mut self, is_there: impl Fn(&SegmentName) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }

    pub(super) fn may_be_tried(&self, name: &SegmentName, which: Which, now: Instant) -> bool {
        let next = match self.0.get(name) {
            None => return true,
            Some(failure) => failure.next,
        };
        next.is_some_and(|next| which == Which::All || next <= now)
    }

    pub(super) fn attempts(&self, name: &SegmentName) -> u32 {
        self.0.get(name).map_or(0, |failure| failure.attempts)
    }

    pub(super) fn kind(&self, name: &SegmentName) -> Option<Kind> {
        self.0.get(name).map(|failure| failure.kind)
    }

    /// An attempt has failed. Returns whether others were stored since its first one.
    pub(super) fn note(
        &mut self,
        name: &SegmentName,
        kind: Kind,
        error: &str,
        stored: u64,
    ) -> bool {
        let now = Instant::now();
        let failure = self.0.entry(name.clone()).or_insert_with(|| Failure {
            kind,
            since: Timestamp::now(),
            stored_before: stored,
            next: None,
            attempts: 0,
            error: String::new(),
            is_own: false,
            told: false,
        });
        failure.is_own = !kind.is_of_the_store() || stored > failure.stored_before;
        let longest = if failure.is_own { MAX_OWN_RETRY } else { MAX_RETRY };
        let wait = FIRST_RETRY.saturating_mul(1 << failure.attempts.min(16)).min(longest);
        failure.next = (kind != Kind::TooLarge).then(|| now + wait);
        failure.attempts = failure.attempts.saturating_add(1);
        // Once it was taken, to look is never wrong: a second upload may be refused.
        if !(failure.kind == Kind::Unconfirmed && kind == Kind::Store) {
            failure.kind = kind;
        }
        error[..error.floor_char_boundary(MAX_REASON)].clone_into(&mut failure.error);
        failure.is_own
    }

    /// Returns whether it had been told of.
    pub(super) fn solved(&mut self, name: &SegmentName) -> bool {
        self.0.remove(name).is_some_and(|failure| failure.told)
    }

    /// The store works again.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        for failure in self.0.values_mut().filter(|failure| failure.kind.is_of_the_store()) {
            failure.next = Some(now);
        }
    }

    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.0.values().filter_map(|failure| failure.next).min()
    }

    /// Those whose reason is their own and was not told, oldest first. They count as told then.
    pub(super) fn untold(&mut self) -> Vec<(&SegmentName, &str)> {
        let mut untold: Vec<_> = self
            .0
            .iter_mut()
            .filter(|(_, failure)| failure.is_own && !failure.told)
            .map(|(name, failure)| {
                failure.told = true;
                (name, &*failure.error)
            })
            .collect();
        untold.sort_by_key(|(name, _)| (&name.run.start, name.sequence));
        untold
    }

    /// How many were told of, and the first of them.
    pub(super) fn blocked(&self) -> (usize, Vec<Blocked>) {
        let mut told: Vec<_> = self.0.iter().filter(|(_, failure)| failure.told).collect();
        told.sort_by_key(|(name, _)| (&name.run.start, name.sequence));
        let blocked = |&(name, failure): &(&SegmentName, &Failure)| Blocked {
            segment: name.to_string(),
            since: failure.since,
            attempts: failure.attempts,
            error: failure.error.clone(),
        };
        (told.len(), told.iter().take(MAX_TOLD).map(blocked).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
