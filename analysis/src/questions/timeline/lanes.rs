//! Tracks with one name, on which slices that overlap lie side by side.

/// More are not shown.
const MAX_LANES: usize = 32;

/// When the latest slice of each lane ends.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<u64>);

impl Lanes {
    /// The first lane that is free at `begin`, and whether it is new; `None` if too many overlap.
    /// Slices must come in the order of their beginnings, or lie behind all others.
    pub(super) fn place(&mut self, begin: u64, end: u64) -> Option<(u16, bool)> {
        let free = self.0.iter().position(|&busy| busy <= begin);
        let (lane, is_new) = match free {
            Some(lane) => (lane, false),
            None if self.0.len() < MAX_LANES => {
                self.0.push(0);
                (self.0.len() - 1, true)
            }
            None => return None,
        };
        self.0[lane] = end.max(begin);
        Some((u16::try_from(lane).expect("at most MAX_LANES"), is_new))
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
