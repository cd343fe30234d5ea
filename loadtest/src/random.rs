//! Random numbers that a seed decides, so that two runs send the same load.

/// SplitMix64: a good mix of a counter, and all that a load needs.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above zero and at most one, all alike.
    pub(crate) fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Zero to `end`, without it.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The bias is below 2^-32 for the lengths and counts that are asked for.
        self.next() % end.max(1)
    }

    /// Of mean one.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }

    /// Of mean zero and standard deviation one, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }

    /// Of the shape given and mean one, by Marsaglia and Tsang.
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // A shape below one is one above it, pressed towards zero.
            return self.gamma(shape + 1.0) * (shape + 1.0) / shape
                * self.share().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let v = (1.0 + c * normal).powi(3);
            if v > 0.0 && self.share().ln() < normal * normal / 2.0 + d - d * v + d * v.ln() {
                return d * v / shape;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u32 = 20_000;

    fn mean_and_variance(mut value: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..MANY).map(|_| value()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(MANY);
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(MANY);
        (mean, variance)
    }

    #[test]
    fn a_seed_decides() {
        let of = |seed| Random::new(seed).next();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        for shape in [0.25, 1.0, 4.0] {
            let mut random = Random::new(1);
            let (mean, variance) = mean_and_variance(|| random.gamma(shape));
            assert!((mean - 1.0).abs() < 0.05, "{shape}: {mean}");
            assert!((variance * shape - 1.0).abs() < 0.1, "{shape}: {variance}");
        }
        let mut random = Random::new(1);
        let (mean, variance) = mean_and_variance(|| random.normal());
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
