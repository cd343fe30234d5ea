//! How sure a figure is: the same load several times, each time with another seed.

use serde::{Deserialize, Serialize};

use super::Run;
use crate::{record::Summary, statistics::rounded};

/// The mean of a figure over the runs, and between what the true mean lies with 95 % confidence, by Student's t.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub figure: String,
    pub runs: usize,
    pub mean: f64,
    /// `None` of a single run.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

type Figure = (&'static str, fn(&Summary) -> Option<f64>);

const FIGURES: [Figure; 9] = [
    ("output tokens/s", |it| it.output_tokens_per_second),
    ("requests/s", |it| Some(it.requests_per_second)),
    ("goodput requests/s", |it| it.goodput.map(|goodput| goodput.good_requests_per_second)),
    ("TTFT mean ms", |it| it.ttft_ms.map(|ttft| ttft.mean)),
    ("TTFT p99 ms", |it| it.ttft_ms.map(|ttft| ttft.p99)),
    ("TPOT mean ms", |it| it.tpot_ms.map(|tpot| tpot.mean)),
    ("TPOT p99 ms", |it| it.tpot_ms.map(|tpot| tpot.p99)),
    ("ITL p99 ms", |it| it.itl_ms.map(|itl| itl.p99)),
    ("end to end mean ms", |it| it.e2e_ms.map(|e2e| e2e.mean)),
];

/// Of each figure that any run has.
pub(crate) fn intervals(runs: &[Run]) -> Vec<Interval> {
    let of_figure = |(name, of): Figure| {
        let values: Vec<f64> = runs.iter().filter_map(|run| of(&run.summary)).collect();
        interval(name, &values)
    };
    FIGURES.into_iter().filter_map(of_figure).collect()
}

fn interval(name: &str, values: &[f64]) -> Option<Interval> {
    let count = values.len();
    let mean = values.iter().sum::<f64>() / count as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = (count > 1)
        .then(|| t_quantile(count - 1) * (squares / (count - 1) as f64 / count as f64).sqrt());
    (count > 0).then(|| Interval {
        figure: name.to_owned(),
        runs: count,
        mean: rounded(mean),
        low: half.map(|half| rounded(mean - half)),
        high: half.map(|half| rounded(mean + half)),
    })
}

/// Of Student's distribution: 97.5 % are below.
fn t_quantile(freedom: usize) -> f64 {
    const OF_FEW: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    let normal: f64 = 1.959_964;
    // Cornish's and Fisher's expansion: two terms are exact to three decimals here.
    let freedom_number = freedom as f64;
    let first = (normal.powi(3) + normal) / 4.0;
    let second = (5.0 * normal.powi(5) + 16.0 * normal.powi(3) + 3.0 * normal) / 96.0;
    let of_many = normal + first / freedom_number + second / freedom_number.powi(2);
    OF_FEW.get(freedom.max(1) - 1).copied().unwrap_or(of_many)
}

/// A line for each figure.
pub(crate) fn text(intervals: &[Interval]) -> String {
    let line = |interval: &Interval| {
        let Interval { figure, mean, low, high, .. } = interval;
        let sure = match low.zip(*high) {
            Some((low, high)) => format!("{low:.2} to {high:.2} with 95 % confidence"),
            None => "one run says nothing of how sure it is".to_owned(),
        };
        format!("{figure:<20} {mean:>10.2}   {sure}\n")
    };
    intervals.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_textbook() {
        // Mean 5, standard deviation 1: half of the interval is 2.776 / sqrt(5).
        let found = interval("x", &[4.0, 4.0, 5.0, 6.0, 6.0]).unwrap();
        assert_eq!((found.mean, found.low, found.high), (5.0, Some(3.759), Some(6.241)));
        assert_eq!(interval("x", &[3.0]).unwrap().low, None);
        assert_eq!(interval("x", &[]), None);
    }

    #[test]
    fn quantiles_become_those_of_the_normal_distribution() {
        assert_eq!((t_quantile(1), t_quantile(30)), (12.706, 2.042));
        // Of tables: 31 has 2.040, 60 has 2.000, 120 has 1.980.
        for (freedom, expected) in [(31, 2.0395), (60, 2.0003), (120, 1.9799)] {
            assert!((t_quantile(freedom) - expected).abs() < 0.0006, "{freedom}");
        }
    }
}
