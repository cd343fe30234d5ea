//! A hash of a sequence that can be taken of its parts and put together.

/// A prime, so that sums of products are spread evenly.
const PRIME: u64 = (1 << 61) - 1;

const BASE: u64 = 0x1d2c_3b4a_5968_7787 % PRIME;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    sum: u64,
    /// The base to the power of the length.
    power: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self { sum: 0, power: 1 }
    }
}

impl Fingerprint {
    pub(super) fn add(&mut self, words: &[u64]) {
        let mut mixed = 0xcbf2_9ce4_8422_2325_u64;
        for &word in words {
            mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^= mixed >> 32;
        }
        self.extend(Self { sum: mixed % PRIME, power: BASE });
    }

    /// Of this sequence and the other behind it.
    pub(super) fn extend(&mut self, other: Self) {
        self.sum = (product(self.sum, other.power) + other.sum) % PRIME;
        self.power = product(self.power, other.power);
    }

    pub(super) fn value(self) -> u64 {
        self.sum ^ self.power.rotate_left(32)
    }
}

fn product(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other) % u128::from(PRIME);
    u64::try_from(product).expect("less than the prime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_put_together_are_the_whole_and_order_matters() {
        let of = |words: &[u64]| {
            let mut fingerprint = Fingerprint::default();
            for &word in words {
                fingerprint.add(&[word]);
            }
            fingerprint
        };
        let mut joined = of(&[1, 2]);
        joined.extend(of(&[3, 4, 5]));
        assert_eq!(joined, of(&[1, 2, 3, 4, 5]));
        assert_ne!(of(&[1, 2]).value(), of(&[2, 1]).value());
        assert_ne!(of(&[1]).value(), of(&[1, 1]).value());
    }
}
