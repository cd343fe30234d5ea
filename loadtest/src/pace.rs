//! When requests are sent: as answers come, or by a schedule that does not wait for them.

use std::{fmt, str::FromStr, time::Duration};

use crate::random::Random;

/// How a run decides when to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A closed loop: so many requests in flight, the next one when one has its answer. A slow server slows it down.
    Closed { workers: u32 },
    /// An open loop: so many requests a second, whatever becomes of them.
    Open { rate: f64, arrivals: Arrivals, most_in_flight: Option<u32> },
}

/// How the times between the requests of an open loop are distributed; their mean is that of the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    Constant,
    Poisson,
    /// A gamma distribution of this shape: below 1 in bursts, 1 as `Poisson`, above it more even.
    Gamma(f64),
}

/// When each request of an open loop is due, from the start of the run. Has no end.
pub fn schedule(rate: f64, arrivals: Arrivals, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = Random::new(seed);
    let mut due = 0.0;
    std::iter::from_fn(move || {
        let this = due;
        due += match arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => random.exponential(),
            Arrivals::Gamma(shape) => random.gamma(shape),
        };
        Duration::try_from_secs_f64(this / rate).ok()
    })
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = |text: &str| {
            let shape = text.parse().ok().filter(|shape| (0.01..=1000.0).contains(shape));
            shape.ok_or_else(|| {
                "give the shape as a number from 0.01 to 1000, as in gamma:0.5".to_owned()
            })
        };
        match (text, text.strip_prefix("gamma:")) {
            ("constant", _) => Ok(Self::Constant),
            ("poisson", _) => Ok(Self::Poisson),
            (_, Some(text)) => shape(text).map(Self::Gamma),
            _ => Err("give constant, poisson or gamma:SHAPE".to_owned()),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => formatter.write_str("constant"),
            Self::Poisson => formatter.write_str("poisson"),
            Self::Gamma(shape) => write!(formatter, "gamma:{shape}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_even() {
        let due: Vec<_> = schedule(4.0, Arrivals::Constant, 0).take(3).collect();
        assert_eq!(due, [0, 250, 500].map(Duration::from_millis));
    }

    #[test]
    fn a_seed_decides_the_schedule() {
        let of = |seed| schedule(9.0, Arrivals::Poisson, seed).nth(50);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    /// The largest distance between the distribution of the gaps and the exponential one, against the critical value.
    #[test]
    fn poisson_arrivals_pass_a_test_of_kolmogorov_and_smirnov() {
        let rate = 200.0;
        for seed in 0..10 {
            let due: Vec<f64> = schedule(rate, Arrivals::Poisson, seed)
                .map(|due| due.as_secs_f64())
                .take_while(|&due| due < 60.0)
                .collect();
            let mut gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
            gaps.sort_by(f64::total_cmp);
            let count = gaps.len() as f64;
            let distance = gaps.iter().enumerate().fold(0.0_f64, |distance, (rank, gap)| {
                let expected = 1.0 - (-rate * gap).exp();
                let (below, above) = (rank as f64 / count, (rank + 1) as f64 / count);
                distance.max((expected - below).abs()).max((above - expected).abs())
            });
            // Of one in a thousand true distributions it is larger than 1.95 over the square root of the count.
            assert!(distance < 1.95 / count.sqrt(), "seed {seed}: {distance} of {count} gaps");
        }
    }

    #[test]
    fn a_small_shape_comes_in_bursts() {
        let longest = |arrivals| {
            let due: Vec<_> = schedule(1.0, arrivals, 5).take(2000).collect();
            due.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max().unwrap()
        };
        assert!(longest(Arrivals::Gamma(0.2)) > 2 * longest(Arrivals::Poisson));
        assert!(longest(Arrivals::Gamma(20.0)) < longest(Arrivals::Poisson) / 2);
    }

    #[test]
    fn arrivals_are_read_as_they_are_shown() {
        for text in ["constant", "poisson", "gamma:0.5"] {
            assert_eq!(text.parse::<Arrivals>().unwrap().to_string(), text);
        }
        for text in ["", "gamma", "gamma:0", "gamma:x", "gamma:NaN", "uniform"] {
            assert!(text.parse::<Arrivals>().is_err(), "{text}");
        }
    }
}
