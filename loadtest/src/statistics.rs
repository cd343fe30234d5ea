//! Percentiles by nearest rank, mean and maximum of measured values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a set of values is distributed.
///
/// A percentile is the nearest rank: the smallest value such that at least that share of all values is no larger.
/// It is always a value that was measured; nothing is interpolated, so with fewer than 100 values p99 is the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    pub count: usize,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Distribution {
    /// `None` for no values: there is no honest number to give.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let max = *sorted.last()?;
        let count = sorted.len();
        Some(Self {
            count,
            mean: rounded(sorted.iter().sum::<f64>() / count as f64),
            p50: nearest_rank(&sorted, 50.0),
            p90: nearest_rank(&sorted, 90.0),
            p99: nearest_rank(&sorted, 99.0),
            max,
        })
    }
}

/// Three decimals: microseconds, where the unit is the millisecond.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Percentiles by name, such as `p99.9`; `None` for no values.
pub(crate) fn percentiles(
    values: impl IntoIterator<Item = f64>,
    wanted: &[f64],
) -> Option<BTreeMap<String, f64>> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let named = |&percent: &f64| (format!("p{percent}"), nearest_rank(&sorted, percent));
    (!sorted.is_empty()).then(|| wanted.iter().map(named).collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between zero and the number of values"
)]
fn nearest_rank(sorted: &[f64], percent: f64) -> f64 {
    // Decimals such as 99.9 have no exact binary form: what is off by less than that is no further rank.
    let rank = (sorted.len() as f64 * percent / 100.0 - 1e-9).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_distribution() {
        assert_eq!(Distribution::of([]), None);
    }

    #[test]
    fn one_value_is_every_percentile() {
        let expected = Distribution { count: 1, mean: 7.5, p50: 7.5, p90: 7.5, p99: 7.5, max: 7.5 };
        assert_eq!(Distribution::of([7.5]), Some(expected));
    }

    #[test]
    fn ranks_of_the_textbook_example() {
        // Five values: the 30th percentile has rank ceil(1.5) = 2, the 40th rank 2, the 50th rank 3.
        let sorted = [15.0, 20.0, 35.0, 40.0, 50.0];
        let ranks: Vec<f64> =
            [5.0, 30.0, 40.0, 50.0, 100.0].map(|percent| nearest_rank(&sorted, percent)).to_vec();
        assert_eq!(ranks, [15.0, 20.0, 20.0, 35.0, 50.0]);
    }

    #[test]
    fn any_percentile_can_be_asked_for() {
        let values = || (1..=1000).map(f64::from);
        let found = percentiles(values(), &[0.0, 99.9, 99.0, 100.0]).unwrap();
        let named: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(named, [("p0", 1.0), ("p100", 1000.0), ("p99", 990.0), ("p99.9", 999.0)]);
        assert_eq!(percentiles([], &[50.0]), None);
    }

    #[test]
    fn order_does_not_matter() {
        let distribution = Distribution::of((1..=100).rev().map(f64::from)).unwrap();
        let expected =
            Distribution { count: 100, mean: 50.5, p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 };
        assert_eq!(distribution, expected);
    }

    #[test]
    fn a_percentile_is_a_measured_value() {
        let distribution = Distribution::of([1.0, 2.0]).unwrap();
        assert_eq!((distribution.p50, distribution.p90, distribution.p99), (1.0, 2.0, 2.0));
    }

    #[test]
    fn rounding_keeps_microseconds() {
        assert_eq!([1.000_4, 1.000_6, 0.0].map(rounded).to_vec(), [1.0, 1.001, 0.0]);
    }
}
