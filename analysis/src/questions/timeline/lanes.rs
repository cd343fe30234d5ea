//! Tracks with one name, on which slices that overlap lie side by side.

/// More are not shown.
const MAX_LANES: usize = 32;

#[derive(Debug)]
pub(super) struct Lanes {
    /// When the latest slice of each lane ends.
    busy: Vec<u64>,
    most: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Self::up_to(MAX_LANES)
    }
}

impl Lanes {
    pub(super) fn up_to(most: usize) -> Self {
        Self { busy: Vec::new(), most: most.min(usize::from(u16::MAX)) }
    }

    /// The first lane that is free at `begin`, and whether it is new; `None` if too many overlap.
    /// Slices must come in the order of their beginnings, or lie behind all others.
    pub(super) fn place(&mut self, begin: u64, end: u64) -> Option<(u16, bool)> {
        let free = self.busy.iter().position(|&busy| busy <= begin);
        let (lane, is_new) = match free {
            Some(lane) => (lane, false),
            None if self.busy.len() < self.most => {
                self.busy.push(0);
                (self.busy.len() - 1, true)
            }
            None => return None,
        };
        self.busy[lane] = end.max(begin);
        Some((u16::try_from(lane).expect("at most u16::MAX"), is_new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_that_overlap_have_different_lanes() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.place(10, 20), Some((0, true)));
        assert_eq!(lanes.place(15, 30), Some((1, true)));
        assert_eq!(lanes.place(20, 25), Some((0, false)));
        assert_eq!(lanes.place(24, 26), Some((2, true)));
        for _ in 0..MAX_LANES {
            lanes.place(24, 26);
        }
        assert_eq!(lanes.place(25, 26), Some((0, false)));
        assert_eq!(lanes.place(25, 26), None);
    }
}
