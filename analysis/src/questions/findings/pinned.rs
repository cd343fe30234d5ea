//! Host memory that copies can use without staging: pinned, registered, managed, or mapped.

use std::collections::BTreeMap;

use trace::call_view::CallView;

use crate::questions::memory::live::{Action, Kind};

/// Of one process; a program has some hundreds.
const MAX_RANGES: usize = 65_536;

/// Ranges by where they begin: where they end.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    ranges: BTreeMap<u64, u64>,
    /// Some range is not known: nothing can be said of memory that is in none.
    is_blind: bool,
}

impl Pinned {
    /// Follows an outermost call that succeeded.
    pub(super) fn follow(&mut self, action: Action, line: &CallView<'_>) {
        let start = line.ptr.map(|ptr| ptr.0);
        match action {
            Action::Allocate(Kind::Host | Kind::Registered | Kind::Managed) => {
                let end = start.zip(line.bytes).map(|(start, bytes)| start.saturating_add(bytes));
                match (start, end) {
                    (Some(start), Some(end)) if self.ranges.len() < MAX_RANGES => {
                        self.ranges.insert(start, end);
                    }
                    _ => self.is_blind = true,
                }
            }
            // What is mapped may lie on the host too.
            Action::Map => match (start, line.bytes) {
                (Some(start), Some(bytes)) if self.ranges.len() < MAX_RANGES => {
                    self.ranges.insert(start, start.saturating_add(bytes));
                }
                _ => self.is_blind = true,
            },
            Action::Free | Action::FreeHost | Action::Unregister | Action::Unmap => {
                if let Some(start) = start {
                    self.ranges.remove(&start);
                }
            }
            Action::Allocate(_) | Action::Release | Action::Reset => {}
        }
    }

    /// Memory came from where no line tells, such as another process.
    pub(super) fn blind(&mut self) {
        self.is_blind = true;
    }

    /// Whether the address surely lies in no such memory.
    pub(super) fn is_pageable(&self, address: u64) -> bool {
        let range = self.ranges.range(..=address).next_back();
        !self.is_blind && address != 0 && range.is_none_or(|(_, &end)| address >= end)
    }
}

#[cfg(test)]
mod tests {
    use trace::line::Address;

    use super::*;

    #[test]
    fn memory_is_pageable_if_no_call_has_pinned_it() {
        let line = |ptr: u64, bytes: Option<u64>| CallView {
            ptr: Some(Address(ptr)),
            bytes,
            ..CallView::default()
        };
        let mut pinned = Pinned::default();
        pinned.follow(Action::Allocate(Kind::Host), &line(100, Some(50)));
        pinned.follow(Action::Allocate(Kind::Device), &line(1000, Some(50)));
        let found = |pinned: &Pinned| [99, 100, 149, 150, 1000, 0].map(|at| pinned.is_pageable(at));
        assert_eq!(found(&pinned), [true, false, false, true, true, false]);
        pinned.follow(Action::FreeHost, &line(100, None));
        assert_eq!(found(&pinned), [true, true, true, true, true, false]);
        pinned.follow(Action::Allocate(Kind::Registered), &line(100, None));
        assert_eq!(found(&pinned), [false; 6]);
    }
}
