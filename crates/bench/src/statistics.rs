//! Medians, and of paired ratios between which values they lie, without assuming a distribution.

use serde::Serialize;

/// How sure the interval is to hold the median of all ratios there could be.
const CONFIDENCE: f64 = 0.95;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) median: f64,
    /// Order statistics: at least 95 % sure to enclose the true median. With fewer than six pairs
    /// no interval is that sure; it is then the whole range.
    pub(super) low: f64,
    pub(super) high: f64,
    /// The confidence that the interval has: a number of pairs allows but a few.
    pub(super) confidence: f64,
    pub(super) pairs: usize,
}

impl Ratio {
    /// Of values of the same round, with and without. None if there is no pair.
    pub(super) fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let mut ratios: Vec<f64> =
            pairs.into_iter().map(|(with, without)| with / without).collect();
        let median = median(&mut ratios)?;
        let count = ratios.len();
        let last = count - 1;
        let left_out = (1..count.div_ceil(2))
            .take_while(|&left_out| confidence(count, left_out) >= CONFIDENCE)
            .last()
            .unwrap_or(0);
        Some(Self {
            median,
            low: ratios[left_out],
            high: ratios[last - left_out],
            confidence: confidence(count, left_out),
            pairs: count,
        })
    }
}

/// The middle value; of an even number the mean of the two in the middle. Sorts them.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// That the median lies between the smallest and the largest of `count` values once `left_out`
/// are left out at each end: each value is on either side of it with the same probability.
fn confidence(count: usize, left_out: usize) -> f64 {
    let mut ways = 1.0;
    let mut outside = 0.0;
    for below in 0..=left_out {
        outside += ways;
        ways *= (count - below) as f64 / (below + 1) as f64;
    }
    1.0 - 2.0 * outside / 2_f64.powi(i32::try_from(count).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn the_interval_is_the_narrowest_that_is_sure_enough() {
        let ratio = Ratio::of((1..=10).map(|value| (f64::from(value), 1.0))).unwrap();
        // The table of the sign test: of ten values, the second smallest and the second largest.
        assert_eq!((ratio.median, ratio.low, ratio.high), (5.5, 2.0, 9.0));
        assert!((ratio.confidence - 0.978_515_625).abs() < 1e-12, "{}", ratio.confidence);
        let ratio = Ratio::of((1..=15).map(|value| (f64::from(value), 1.0))).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (8.0, 4.0, 12.0));
        assert!((ratio.confidence - 0.964_843_75).abs() < 1e-12, "{}", ratio.confidence);
    }

    #[test]
    fn few_pairs_give_their_whole_range_and_say_how_sure_that_is() {
        let ratio = Ratio::of([(3.0, 2.0), (1.0, 2.0), (2.0, 2.0)]).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (1.0, 0.5, 1.5));
        assert!((ratio.confidence - 0.75).abs() < 1e-12);
        let single = Ratio::of([(3.0, 2.0)]).unwrap();
        assert_eq!((single.median, single.low, single.high), (1.5, 1.5, 1.5));
        assert_eq!(Ratio::of([]), None);
    }
}
