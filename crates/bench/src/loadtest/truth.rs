//! What the reference server knows of a run, as figures.

use anyhow::{Context as _, Result};
use testbed::reference::Served;

use super::Figures;

/// Each between what it is if a token left before its send, and what it is if it left after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Truth {
    pub(super) ttft_ms: (f64, f64),
    pub(super) tpot_ms: (f64, f64),
    pub(super) itl_p99_ms: f64,
    pub(super) tokens_per_second: (f64, f64),
}

impl Truth {
    /// Of answers to one run.
    pub(super) fn of(served: &[Served]) -> Result<Self> {
        let first_arrival =
            served.iter().map(|it| it.arrived).min().context("nothing was asked")?;
        let ends = || served.iter().filter_map(|it| it.sent.last());
        let tokens: usize = served.iter().map(|it| it.sent.len()).sum();
        let rate = |end: Option<u64>| {
            end.map_or(f64::NAN, |end| tokens as f64 * 1e3 / milliseconds(first_arrival, end))
        };
        let mut gaps: Vec<f64> = served
            .iter()
            .flat_map(|it| it.sent.windows(2).map(|pair| milliseconds(pair[0].0, pair[1].0)))
            .collect();
        gaps.sort_by(f64::total_cmp);
        let rank = (gaps.len() * 99).div_ceil(100).max(1);
        let firsts = || served.iter().filter_map(|it| Some((it.arrived, *it.sent.first()?)));
        let each = |from: fn(&(u64, u64)) -> u64, to: fn(&(u64, u64)) -> u64| {
            mean(served.iter().filter(|it| it.sent.len() > 1).map(|it| {
                let (first, last) = (from(&it.sent[0]), to(&it.sent[it.sent.len() - 1]));
                milliseconds(first, last) / (it.sent.len() - 1) as f64
            }))
        };
        Ok(Self {
            ttft_ms: (
                mean(firsts().map(|(arrived, (before, _))| milliseconds(arrived, before))),
                mean(firsts().map(|(arrived, (_, after))| milliseconds(arrived, after))),
            ),
            tpot_ms: (each(|it| it.1, |it| it.0), each(|it| it.0, |it| it.1)),
            itl_p99_ms: gaps.get(rank - 1).copied().unwrap_or(f64::NAN),
            tokens_per_second: (
                rate(ends().map(|it| it.1).max()),
                rate(ends().map(|it| it.0).max()),
            ),
        })
    }

    /// A token leaves somewhere in its send: the middle is as good as any.
    pub(super) fn figures(self) -> Figures {
        let middle = |(low, high): (f64, f64)| f64::midpoint(low, high);
        Figures {
            ttft_ms: middle(self.ttft_ms),
            tpot_ms: middle(self.tpot_ms),
            itl_p99_ms: self.itl_p99_ms,
            tokens_per_second: middle(self.tokens_per_second),
            cpu_us_per_token: None,
        }
    }
}

fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let ms = |number: u64| number * 1_000_000;
        let served = |arrived: u64, sent: &[(u64, u64)]| Served {
            id: String::new(),
            arrived: ms(arrived),
            sent: sent.iter().map(|&(before, after)| (ms(before), ms(after))).collect(),
        };
        let truth = Truth::of(&[
            served(1000, &[(1100, 1102), (1110, 1112), (1130, 1132)]),
            served(1010, &[(1210, 1212), (1498, 1500)]),
        ])
        .unwrap();
        assert_eq!(truth.ttft_ms, (150.0, 152.0));
        // 14 to 16 and 286 to 290.
        assert_eq!(truth.tpot_ms, (150.0, 153.0));
        let figures = (truth.itl_p99_ms, truth.tokens_per_second);
        assert_eq!(figures, (288.0, (10.0, 5.0 * 1000.0 / 498.0)));
        assert!(Truth::of(&[]).is_err());
    }
}
