//! A service level: what an answer must keep to be a good one.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{record::RequestRecord, statistics::rounded};

/// Limits in milliseconds; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    pub ttft_ms: Option<f64>,
    /// For the p99 of the gaps of each answer.
    pub itl_ms: Option<f64>,
    pub tpot_ms: Option<f64>,
    pub e2e_ms: Option<f64>,
}

impl Slo {
    /// A figure that is unknown keeps no limit.
    pub fn is_kept(&self, record: &RequestRecord) -> bool {
        let keeps = |limit: Option<f64>, value: Option<f64>| {
            limit.is_none_or(|limit| value.is_some_and(|value| value <= limit))
        };
        // An answer of one token has no gap and no time per further token.
        let is_single = record.output_tokens == Some(1);
        record.succeeded()
            && keeps(self.ttft_ms, record.ttft_ms)
            && (is_single || keeps(self.itl_ms, record.itl_ms.map(|itl| itl.p99)))
            && (is_single || keeps(self.tpot_ms, record.tpot_ms))
            && keeps(self.e2e_ms, Some(record.e2e_ms))
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut slo = Self::default();
        for limit in text.split(',') {
            let (name, time) = limit.split_once('=').unwrap_or((limit, ""));
            let time = milliseconds(time.trim())
                .ok_or_else(|| format!("{limit}: give a limit as ttft=200ms or e2e=5s"))?;
            let place = match name.trim() {
                "ttft" => &mut slo.ttft_ms,
                "itl" => &mut slo.itl_ms,
                "tpot" => &mut slo.tpot_ms,
                "e2e" | "e2el" => &mut slo.e2e_ms,
                other => return Err(format!("{other}: give limits for ttft, itl, tpot and e2e")),
            };
            if place.replace(time).is_some() {
                return Err(format!("{name} has two limits"));
            }
        }
        Ok(slo)
    }
}

/// With a unit, or in milliseconds.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, unit) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1.0)
    } else {
        (text, 1e-3)
    };
    let time = Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * unit).ok()?;
    (!time.is_zero()).then(|| rounded(time.as_secs_f64() * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_their_units() {
        let slo: Slo = "ttft=200ms, itl=50,e2e=1.5s".parse().unwrap();
        let expected =
            Slo { ttft_ms: Some(200.0), itl_ms: Some(50.0), tpot_ms: None, e2e_ms: Some(1500.0) };
        assert_eq!(slo, expected);
        for text in ["", "ttft", "ttft=", "ttft=0", "ttft=-1s", "ttft=1m", "x=1", "ttft=1,ttft=2"] {
            assert!(text.parse::<Slo>().is_err(), "{text}");
        }
    }
}
