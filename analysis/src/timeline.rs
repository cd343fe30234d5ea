//! A figure over time in bounded memory: when the time grows, the intervals do.

/// More than a screen is wide.
const MAX_INTERVALS: i64 = 600;

const FIRST_WIDTH_NS: i64 = 1_000_000;

/// Sums by interval, from the first time on.
#[derive(Debug, Clone)]
pub struct Timeline {
    start_ns: i64,
    width_ns: i64,
    values: Vec<f64>,
    merge: fn(f64, f64) -> f64,
    /// The latest value, where it holds until the next one.
    held: Option<f64>,
}

impl Timeline {
    /// How much there is in an interval: calls, bytes.
    pub fn sums() -> Self {
        Self::with(|one, other| one + other)
    }

    /// A level that holds until the next one: of an interval the highest.
    pub fn levels() -> Self {
        Self { held: Some(0.0), ..Self::with(f64::max) }
    }

    fn with(merge: fn(f64, f64) -> f64) -> Self {
        Self { start_ns: 0, width_ns: FIRST_WIDTH_NS, values: Vec::new(), merge, held: None }
    }

    /// Before the first time counts into the first interval.
    pub fn add(&mut self, ts_ns: i64, value: f64) {
        if self.values.is_empty() {
            self.start_ns = ts_ns.saturating_sub(ts_ns.rem_euclid(FIRST_WIDTH_NS));
            self.held = self.held.map(|_| value);
        }
        let since_start = ts_ns.saturating_sub(self.start_ns).max(0);
        while since_start / self.width_ns >= MAX_INTERVALS {
            self.widen();
        }
        let at = usize::try_from(since_start / self.width_ns).expect("less than MAX_INTERVALS");
        if at >= self.values.len() {
            self.values.resize(at + 1, self.held.unwrap_or(f64::NAN));
        }
        let old = self.values[at];
        self.values[at] = if old.is_nan() { value } else { (self.merge)(old, value) };
        self.held = self.held.map(|_| value);
    }

    fn widen(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        let merge = self.merge;
        self.values = self
            .values
            .chunks(2)
            .map(|pair| match *pair {
                [one, other] if one.is_nan() => other,
                [one, other] if other.is_nan() => one,
                [one, other] => merge(one, other),
                _ => pair[0],
            })
            .collect();
    }

    pub fn start_ns(&self) -> i64 {
        self.start_ns
    }

    pub fn width_ns(&self) -> i64 {
        self.width_ns
    }

    pub fn is_level(&self) -> bool {
        self.held.is_some()
    }

    /// `None` where nothing was added.
    pub fn values(&self) -> impl Iterator<Item = Option<f64>> {
        self.values.iter().map(|value| (!value.is_nan()).then_some(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_intervals_grow() {
        let (mut sums, mut levels) = (Timeline::sums(), Timeline::levels());
        for step in 0..10_000 {
            sums.add(5_000_000_000 + step * 777_777, 1.0);
            levels.add(5_000_000_000 + step * 777_777, step as f64);
        }
        assert!(sums.values.len() <= 600);
        assert!((sums.values().flatten().sum::<f64>() - 10_000.0).abs() < 0.1);
        assert!((levels.values().flatten().fold(0.0, f64::max) - 9999.0).abs() < 0.1);
        assert_eq!(sums.start_ns(), 5_000_000_000);
        let mut levels = Timeline::levels();
        levels.add(0, 5.0);
        levels.add(3 * FIRST_WIDTH_NS, 2.0);
        levels.add(5 * FIRST_WIDTH_NS, 7.0);
        let found: Vec<f64> = levels.values().flatten().collect();
        assert_eq!(format!("{found:?}"), "[5.0, 5.0, 5.0, 5.0, 2.0, 7.0]");
        sums.add(i64::MAX, 1.0);
        sums.add(i64::MIN, 1.0);
        let mut forged = Timeline::sums();
        forged.add(i64::MIN, 1.0);
        forged.add(i64::MAX, 1.0);
    }
}
