//! How many tokens prompts and answers have: a number, a range, or a bell curve.

use std::{fmt, str::FromStr};

use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    Fixed(u32),
    /// Both ends included, all alike.
    Uniform(u32, u32),
    Normal {
        mean: f64,
        deviation: f64,
    },
}

impl Length {
    /// At least one.
    pub(crate) fn draw(self, random: &mut Random) -> u32 {
        match self {
            Self::Fixed(length) => length,
            Self::Uniform(shortest, longest) => {
                shortest
                    + u32::try_from(random.below(u64::from(longest - shortest) + 1)).unwrap_or(0)
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float that is too large or too small becomes the end of the range"
            )]
            Self::Normal { mean, deviation } => {
                ((mean + deviation * random.normal()).round() as u32).clamp(1, MAX_TOKENS)
            }
        }
    }
}

/// More than any model takes.
const MAX_TOKENS: u32 = 10_000_000;

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim().parse().ok().filter(|number| (1..=MAX_TOKENS).contains(number))
        };
        let read = || {
            if let Some(parameters) = text.strip_prefix("normal:") {
                let (mean, deviation) = parameters.split_once(',')?;
                let mean = mean
                    .trim()
                    .parse()
                    .ok()
                    .filter(|mean| (1.0..=f64::from(MAX_TOKENS)).contains(mean))?;
                let deviation = deviation
                    .trim()
                    .parse()
                    .ok()
                    .filter(|deviation| (0.0..=mean).contains(deviation))?;
                Some(Self::Normal { mean, deviation })
            } else if let Some((shortest, longest)) = text.split_once("..") {
                let (shortest, longest) = (number(shortest)?, number(longest)?);
                (shortest <= longest).then_some(Self::Uniform(shortest, longest))
            } else {
                number(text).map(Self::Fixed)
            }
        };
        read().ok_or_else(|| {
            "give a number, a range as 100..200, or normal:MEAN,DEVIATION".to_owned()
        })
    }
}

impl fmt::Display for Length {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => length.fmt(formatter),
            Self::Uniform(shortest, longest) => write!(formatter, "{shortest}..{longest}"),
            Self::Normal { mean, deviation } => write!(formatter, "normal:{mean},{deviation}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_shown() {
        for text in ["7", "100..200", "normal:500,50.5"] {
            assert_eq!(text.parse::<Length>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "0",
            "-1",
            "200..100",
            "0..3",
            "normal:5",
            "normal:5,6",
            "normal:x,1",
            "99999999999",
        ] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }

    #[test]
    fn draws_stay_inside() {
        let mut random = Random::new(1);
        let drawn: Vec<u32> = (0..500).map(|_| Length::Uniform(3, 5).draw(&mut random)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&5)));
        let wide = Length::Normal { mean: 2.0, deviation: 2.0 };
        assert!((0..500).all(|_| wide.draw(&mut random) >= 1));
        assert_eq!(Length::Fixed(9).draw(&mut random), 9);
    }
}
