//! A set of times as ranges that do not overlap.

/// Both ends belong to a range.
#[derive(Debug, Default)]
pub(crate) struct TimeRanges(Vec<(i64, i64)>);

impl TimeRanges {
    /// Ranges that overlap become one.
    pub(crate) fn add(&mut self, mut from: i64, mut to: i64) {
        let first = self.0.partition_point(|&(_, end)| end < from);
        let behind = first + self.0[first..].partition_point(|&(begin, _)| begin <= to);
        if let [(begin, _), ..] = self.0[first..behind] {
            from = from.min(begin);
            to = to.max(self.0[behind - 1].1);
        }
        self.0.splice(first..behind, [(from, to)]);
    }

    /// Whether any of them lies between these times, or reaches into them.
    pub(crate) fn overlap(&self, from: i64, to: i64) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < from);
        self.0.get(at).is_some_and(|&(begin, _)| begin <= to)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn last(&self) -> Option<(i64, i64)> {
        self.0.last().copied()
    }
}

impl FromIterator<(i64, i64)> for TimeRanges {
    fn from_iter<T: IntoIterator<Item = (i64, i64)>>(ranges: T) -> Self {
        let mut sorted: Vec<(i64, i64)> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged = Self::default();
        // Each goes to the end.
        for (from, to) in sorted {
            merged.add(from, to);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_one() {
        let ranges: TimeRanges =
            [(50, 60), (10, 20), (15, 30), (i64::MIN, -5)].into_iter().collect();
        assert_eq!(ranges.0, [(i64::MIN, -5), (10, 30), (50, 60)]);
        let overlap = |from, to| ranges.overlap(from, to);
        assert!(overlap(-100, -50) && overlap(0, 10) && overlap(30, 40) && overlap(0, 100));
        assert!(!overlap(-4, 9) && !overlap(31, 49) && !overlap(61, i64::MAX));
    }

    #[test]
    fn a_range_in_between_may_join_those_around_it() {
        let mut ranges = TimeRanges::default();
        for (from, to) in [(50, 60), (10, 20), (80, 90), (15, 55)] {
            ranges.add(from, to);
        }
        assert_eq!(ranges.0, [(10, 60), (80, 90)]);
        ranges.add(61, 79);
        assert_eq!(ranges.0, [(10, 60), (61, 79), (80, 90)]);
        ranges.add(i64::MIN, i64::MAX);
        assert_eq!(ranges.0, [(i64::MIN, i64::MAX)]);
        assert_eq!((ranges.len(), ranges.last()), (1, Some((i64::MIN, i64::MAX))));
    }
}
