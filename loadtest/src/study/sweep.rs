//! How much a server can take: the highest rate that keeps a service level.

use serde::{Deserialize, Serialize};

use super::Run;

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// The highest rate that kept the service level; `None` if not even the lowest did.
    pub rate: Option<f64>,
    /// The lowest rate above it that did not; `None` if all did.
    pub above: Option<f64>,
    /// The share of all requests that had to be good.
    pub share: f64,
    /// The client was not up to a rate that decided: the server may be able to do more.
    pub is_of_client: bool,
}

/// Which rate to try next: twice the one before until one fails, then between the two, until they are close.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    next: f64,
    kept: Option<f64>,
    failed: Option<f64>,
    /// How close the two are in the end, as a share.
    precision: f64,
}

impl Search {
    const LOWEST: f64 = 1e-3;
    const HIGHEST: f64 = 1e5;

    pub(crate) fn new(first: f64, precision: f64) -> Self {
        Self { next: first, kept: None, failed: None, precision }
    }

    pub(crate) fn next(&self) -> Option<f64> {
        let is_close = match (self.kept, self.failed) {
            (Some(kept), Some(failed)) => failed <= kept * (1.0 + self.precision),
            (None, Some(failed)) => failed <= Self::LOWEST,
            (Some(kept), None) => kept >= Self::HIGHEST,
            (None, None) => false,
        };
        (!is_close).then_some(self.next)
    }

    pub(crate) fn take(&mut self, rate: f64, is_kept: bool) {
        if is_kept {
            self.kept = Some(rate);
        } else {
            self.failed = Some(rate);
        }
        self.next = match (self.kept, self.failed) {
            // Rates are compared by their ratio.
            (Some(kept), Some(failed)) => three_digits((kept * failed).sqrt(), kept, failed),
            (Some(kept), None) => kept * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.next,
        };
    }
}

/// A rate that people can read, as long as it stays between the two.
fn three_digits(rate: f64, low: f64, high: f64) -> f64 {
    let scale = 10_f64.powf(2.0 - rate.log10().floor());
    let round = (rate * scale).round() / scale;
    if low < round && round < high { round } else { rate }
}

pub(crate) fn capacity(runs: &[Run], share: f64) -> Capacity {
    let rates = |is_kept: bool| {
        let wanted = runs.iter().filter(move |run| run.is_kept == Some(is_kept));
        wanted.filter_map(|run| Some((run.rate?, !run.marks.is_empty())))
    };
    let best = rates(true).max_by(|one, other| one.0.total_cmp(&other.0));
    let worst = rates(false)
        .filter(|(rate, _)| best.is_none_or(|(best, _)| *rate > best))
        .min_by(|one, other| one.0.total_cmp(&other.0));
    Capacity {
        rate: best.map(|(rate, _)| rate),
        above: worst.map(|(rate, _)| rate),
        share,
        is_of_client: worst.or(best).is_some_and(|(_, is_marked)| is_marked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of a server that keeps its level up to `truth`, and in how many runs.
    fn search(first: f64, truth: f64) -> (Option<f64>, u32) {
        let mut search = Search::new(first, 0.03);
        let mut runs = 0;
        while let Some(rate) = search.next() {
            search.take(rate, rate <= truth);
            runs += 1;
            assert!(runs < 50);
        }
        (search.kept, runs)
    }

    #[test]
    fn the_capacity_is_found_from_above_and_below() {
        for first in [0.5, 1.0, 100.0] {
            for truth in [0.37, 3.0, 17.2, 933.0] {
                let (found, runs) = search(first, truth);
                let found = found.unwrap();
                assert!(found <= truth && found * 1.03 >= truth, "{first} {truth}: {found}");
                assert!(runs < 24, "{first} {truth}: {runs}");
            }
        }
    }

    #[test]
    fn a_server_that_takes_all_or_nothing_ends_the_search() {
        assert_eq!(search(1.0, f64::INFINITY).0, Some(131_072.0));
        assert_eq!(search(1.0, 0.0).0, None);
    }

    #[test]
    fn rates_can_be_read() {
        for (rate, low, high, expected) in [
            (11.313_708, 8.0, 16.0, "11.3"),
            (0.070_71, 0.05, 0.1, "0.0707"),
            (1234.5, 1200.0, 1300.0, "1230"),
            (1000.4, 1000.2, 1000.6, "1000.4"),
        ] {
            assert_eq!(three_digits(rate, low, high).to_string(), expected);
        }
    }
}
