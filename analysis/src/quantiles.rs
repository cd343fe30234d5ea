//! Quantiles of durations in bounded memory: counts by logarithmic bucket.

/// Each power of two has this many buckets.
const BITS: u32 = 6;

/// A quantile lies no further from the truth than this, as a part of it.
pub const RELATIVE_ERROR: f64 = 1.0 / (1 << (BITS + 1)) as f64;

/// Counts of values from 0 to `u64::MAX`; at most 3 776 buckets.
#[derive(Debug, Clone, Default)]
pub struct Quantiles {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Quantiles {
    pub fn add(&mut self, value: u64) {
        let bucket = bucket_of(value);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    pub fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// Of no value at all 0.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value below or at which this part of all values lies; `None` of no values.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    pub fn at(&self, part: f64) -> Option<u64> {
        let rank = (part * self.count as f64).ceil().max(1.0) as u64;
        self.of_rank(rank)
    }

    /// Between what the quantile lies if `unknown` more values of any size exist.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    pub fn bounds(&self, part: f64, unknown: u64) -> (Option<u64>, Option<u64>) {
        let all = self.count.saturating_add(unknown);
        let rank = (part * all as f64).ceil().max(1.0) as u64;
        let low = rank.checked_sub(unknown).filter(|&rank| rank > 0);
        let high = (rank <= self.count).then_some(rank);
        let error =
            |value: u64, sign: f64| (value as f64 * (1.0 + sign * RELATIVE_ERROR)).round() as u64;
        (
            low.and_then(|rank| self.of_rank(rank)).map(|value| error(value, -1.0)),
            high.and_then(|rank| self.of_rank(rank)).map(|value| error(value, 1.0)),
        )
    }

    fn of_rank(&self, rank: u64) -> Option<u64> {
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle_of(bucket).min(self.max));
            }
        }
        (self.count > 0).then_some(self.max)
    }
}

/// Below two powers of the resolution every value has its own.
fn bucket_of(value: u64) -> usize {
    let exponent = (64 - value.leading_zeros()).saturating_sub(BITS + 1);
    let bucket = (u64::from(exponent) << BITS) + (value >> exponent);
    usize::try_from(bucket).expect("at most 3 776")
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let exponent = (bucket >> BITS).saturating_sub(1);
    let mantissa = bucket - (exponent << BITS);
    (mantissa << exponent) + ((1 << exponent) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_within_the_error() {
        let mut value = 1_u64;
        while value < u64::MAX / 3 {
            for near in [value - 1, value, value + 1] {
                let middle = middle_of(bucket_of(near));
                let error = middle.abs_diff(near) as f64;
                assert!(error <= near as f64 * RELATIVE_ERROR, "{near} {middle}");
            }
            value = value * 3 / 2 + 1;
        }
        assert!(bucket_of(u64::MAX) < 3776);
        assert!(bucket_of(127) + 1 == bucket_of(128) && bucket_of(255) + 1 == bucket_of(256));
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.at(0.5), None);
        for value in (1..=1000_u64).rev() {
            quantiles.add(value * 1000);
        }
        for (part, truth) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000), (0.0, 1000)] {
            let found = quantiles.at(part).unwrap();
            assert!(found.abs_diff(truth) as f64 <= truth as f64 * RELATIVE_ERROR, "{found}");
        }
        assert_eq!((quantiles.max(), quantiles.sum()), (1_000_000, 500_500_000));
    }

    #[test]
    fn values_that_are_not_known_widen_the_bounds() {
        let mut quantiles = Quantiles::default();
        (1..=100).for_each(|value| quantiles.add(value));
        let (low, high) = quantiles.bounds(0.5, 10);
        assert!(low.unwrap() <= 45 && high.unwrap() >= 55, "{low:?} {high:?}");
        assert_eq!(quantiles.bounds(0.99, 10).1, None);
        assert_eq!(quantiles.bounds(0.5, 200), (None, None));
    }
}
