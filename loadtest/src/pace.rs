//! When requests are sent: as answers come, or by a schedule that does not wait for them.

use std::{fmt, str::FromStr, time::Duration};

use crate::random::Random;

/// How a run decides when to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A closed loop: so many requests in flight, the next one when one has its answer. A slow server slows it down.
    Closed { workers: u32 },
    /// An open loop: so many requests a second, whatever becomes of them.
    Open { rate: Rate, arrivals: Arrivals, most_in_flight: Option<u32> },
}

/// Requests a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    Constant(f64),
    /// From the one to the other within a time, and then on as it is.
    Ramp {
        from: f64,
        to: f64,
        over: Duration,
        shape: RampShape,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RampShape {
    /// So much more each second.
    Linear,
    /// So many times more each second.
    Exponential,
}

impl Rate {
    /// When, in seconds, so many requests are due as the rate amounts to by then.
    fn time_of(self, requests: f64) -> f64 {
        let (from, to, over, shape) = match self {
            Self::Constant(rate) => return requests / rate,
            Self::Ramp { from, to, over, shape } => (from, to, over.as_secs_f64(), shape),
        };
        // So small a change is none, and dividing by it would make noise.
        let is_flat = (to / from - 1.0).abs() < 1e-9;
        let (within, in_ramp) = match shape {
            _ if is_flat => return requests / from,
            RampShape::Linear => {
                let slope = (to - from) / over;
                let root = (from * from + 2.0 * slope * requests).max(0.0).sqrt();
                (2.0 * requests / (from + root), f64::midpoint(from, to) * over)
            }
            RampShape::Exponential => {
                let growth = (to / from).ln() / over;
                ((growth * requests / from).ln_1p() / growth, (to - from) / growth)
            }
        };
        if requests <= in_ramp { within } else { over + (requests - in_ramp) / to }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => rate.fmt(formatter),
            Self::Ramp { from, to, .. } => write!(formatter, "{from}..{to}"),
        }
    }
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
pub fn schedule(rate: Rate, arrivals: Arrivals, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = Random::new(seed);
    let mut due = 0.0;
    std::iter::from_fn(move || {
        let this = due;
        due += match arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => random.exponential(),
            Arrivals::Gamma(shape) => random.gamma(shape),
        };
        Duration::try_from_secs_f64(rate.time_of(this)).ok()
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
        let due: Vec<_> = schedule(Rate::Constant(4.0), Arrivals::Constant, 0).take(3).collect();
        assert_eq!(due, [0, 250, 500].map(Duration::from_millis));
    }

    #[test]
    fn a_ramp_sends_as_many_as_its_rate_amounts_to() {
        let ramp = |from, to, shape| {
            let rate = Rate::Ramp { from, to, over: Duration::from_secs(10), shape };
            let due: Vec<f64> = schedule(rate, Arrivals::Constant, 0)
                .map(|due| due.as_secs_f64())
                .take_while(|&due| due < 20.0)
                .collect();
            [2.0, 5.0, 10.0, 20.0].map(|end| due.iter().filter(|&&due| due < end).count())
        };
        // The area below a line from 1 to 9: 2 * 1.8, 5 * 3, 10 * 5, and 9 a second after it.
        assert_eq!(ramp(1.0, 9.0, RampShape::Linear), [4, 15, 50, 140]);
        assert_eq!(ramp(9.0, 1.0, RampShape::Linear), [17, 35, 50, 60]);
        // Below 2^t, which is 1 to 1024: (2^t - 1) / ln 2.
        assert_eq!(ramp(1.0, 1024.0, RampShape::Exponential), [5, 45, 1476, 11716]);
        assert_eq!(ramp(3.0, 3.0, RampShape::Exponential), [6, 15, 30, 60]);
    }

    #[test]
    fn a_seed_decides_the_schedule() {
        let of = |seed| schedule(Rate::Constant(9.0), Arrivals::Poisson, seed).nth(50);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    /// The largest distance between the distribution of the gaps and the exponential one, against the critical value.
    #[test]
    fn poisson_arrivals_pass_a_test_of_kolmogorov_and_smirnov() {
        let rate = 200.0;
        for seed in 0..10 {
            let due: Vec<f64> = schedule(Rate::Constant(rate), Arrivals::Poisson, seed)
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
            let due: Vec<_> = schedule(Rate::Constant(1.0), arrivals, 5).take(2000).collect();
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
