//! The curve of a sweep: as lines in a terminal, and as an SVG.

use std::fmt::Write as _;

use super::{Run, Study, sweep::Capacity};

const BAR: usize = 24;

/// A line for each rate, the lowest first, and what was found.
pub(crate) fn text(study: &Study) -> String {
    let runs = by_rate(study);
    let most = runs.iter().filter_map(|run| goodput(run)).fold(0.0, f64::max);
    let mut text = format!(
        "{:>8} {:>10} {:>10} {:>10} {:>7} {:>9}  goodput\n",
        "rate/s", "TTFT p50", "TTFT p99", "TPOT p99", "good %", "tokens/s"
    );
    for run in &runs {
        let summary = &run.summary;
        let of = |value: Option<f64>, decimals: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let good = goodput(run).unwrap_or(0.0);
        let share = summary.goodput.map(|goodput| goodput.good_share * 100.0);
        let _ = writeln!(
            text,
            "{:>8} {:>10} {:>10} {:>10} {:>7} {:>9}  {:<BAR$} {good:.2}{}",
            of(run.rate, 3).trim_end_matches('0').trim_end_matches('.'),
            of(summary.ttft_ms.map(|it| it.p50), 1),
            of(summary.ttft_ms.map(|it| it.p99), 1),
            of(summary.tpot_ms.map(|it| it.p99), 2),
            of(share, 1),
            of(summary.output_tokens_per_second, 0),
            "#".repeat(bar(good, most)),
            comment(run),
        );
    }
    if let Some(capacity) = &study.capacity {
        text.push('\n');
        text += &verdict(capacity);
    }
    text
}

fn comment(run: &Run) -> String {
    let parts = [
        (run.is_kept == Some(false)).then_some("limits not kept"),
        run.was_cut_short.then_some("cut short"),
        (!run.marks.is_empty()).then_some("MARKED"),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join(", ")) }
}

fn verdict(capacity: &Capacity) -> String {
    let Capacity { rate, above, share, is_of_client } = capacity;
    let share = share * 100.0;
    let mut text = match (rate, above) {
        (Some(rate), Some(above)) => format!(
            "capacity    {rate} requests/s keep the limits for {share} % of the requests, {above} do not\n"
        ),
        (Some(rate), None) => {
            format!(
                "capacity    above {rate} requests/s: no rate was found that does not keep the limits\n"
            )
        }
        (None, _) => "capacity    none: not even the lowest rate kept the limits\n".to_owned(),
    };
    if *is_of_client {
        text += "MARKED: the client was not up to the rate that decided: the server may do more\n";
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the width")]
fn bar(value: f64, most: f64) -> usize {
    if most > 0.0 { (value / most * BAR as f64).round() as usize } else { 0 }
}

fn by_rate(study: &Study) -> Vec<&Run> {
    let mut runs: Vec<&Run> = study.runs.iter().collect();
    runs.sort_by(|one, other| one.rate.unwrap_or(0.0).total_cmp(&other.rate.unwrap_or(0.0)));
    runs
}

fn goodput(run: &Run) -> Option<f64> {
    run.summary.goodput.map(|goodput| goodput.good_requests_per_second)
}

const WIDTH: f64 = 720.0;
const PANEL: f64 = 220.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const GAP: f64 = 60.0;

/// TTFT above and goodput below, over the rate. Stands alone, without scripts.
pub(crate) fn svg(study: &Study) -> String {
    let runs = by_rate(study);
    let most_rate = runs.iter().filter_map(|run| run.rate).fold(0.0, f64::max);
    let limit = runs.iter().find_map(|run| run.summary.goodput?.slo.ttft_ms);
    let points = |of: &dyn Fn(&Run) -> Option<f64>| -> Vec<(f64, f64)> {
        runs.iter().filter_map(|run| Some((run.rate?, of(run)?))).collect()
    };
    let p50 = points(&|run| run.summary.ttft_ms.map(|ttft| ttft.p50));
    let p99 = points(&|run| run.summary.ttft_ms.map(|ttft| ttft.p99));
    let good = points(&goodput);
    let latency = Panel::new(TOP, most_rate, p50.iter().chain(&p99), limit, true);
    let ideal = [(most_rate, most_rate)];
    let goods = Panel::new(TOP + PANEL + GAP, most_rate, good.iter().chain(&ideal), None, false);
    let height = TOP + 2.0 * PANEL + GAP + 50.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(&format!("{} at {}", study.settings.model, study.settings.host))
    );
    latency.frame(&mut text, "TTFT ms, p99 (red) and p50 (blue)");
    if let Some(limit) = limit {
        latency.line(&mut text, &[(0.0, limit), (most_rate, limit)], "#888", true);
    }
    latency.line(&mut text, &p50, "#1f77b4", false);
    latency.line(&mut text, &p99, "#d62728", false);
    goods.frame(&mut text, "goodput requests/s (dashed: all of the rate)");
    goods.line(&mut text, &[(0.0, 0.0), ideal[0]], "#888", true);
    goods.line(&mut text, &good, "#2ca02c", false);
    if let Some(rate) = study.capacity.as_ref().and_then(|capacity| capacity.rate) {
        let x = goods.x(rate);
        let bottom = goods.top + PANEL;
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#2ca02c\" stroke-dasharray=\"2 3\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#2ca02c\">capacity {rate}/s </text>",
            TOP + PANEL + GAP / 2.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">requests a second</text>\n</svg>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        height - 12.0
    );
    text
}

/// One of the two diagrams.
struct Panel {
    top: f64,
    most_rate: f64,
    least: f64,
    most: f64,
    is_logarithmic: bool,
}

impl Panel {
    fn new<'a>(
        top: f64,
        most_rate: f64,
        points: impl Iterator<Item = &'a (f64, f64)>,
        limit: Option<f64>,
        is_logarithmic: bool,
    ) -> Self {
        let values: Vec<f64> =
            points.map(|&(_, value)| value).chain(limit).filter(|&value| value > 0.0).collect();
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let least = values.iter().copied().fold(most, f64::min);
        let (least, most) = if is_logarithmic {
            (10_f64.powf(least.log10().floor()), 10_f64.powf((most * 1.001).log10().ceil()))
        } else {
            (0.0, most)
        };
        Self { top, most_rate: most_rate.max(f64::MIN_POSITIVE), least, most, is_logarithmic }
    }

    fn x(&self, rate: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * rate / self.most_rate
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.least) / self.least).ln() / (self.most / self.least).ln()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        self.top + PANEL * (1.0 - share)
    }

    fn frame(&self, text: &mut String, title: &str) {
        let _ = writeln!(
            text,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"{PANEL}\" fill=\"none\" stroke=\"#ccc\"/>\
             <text x=\"{LEFT}\" y=\"{}\">{title}</text>",
            self.top,
            WIDTH - LEFT - RIGHT,
            self.top - 6.0
        );
        let mut ticks: Vec<f64> = (0..=4).map(|part| self.most * f64::from(part) / 4.0).collect();
        if self.is_logarithmic {
            let decade = |tick: &f64| Some(tick * 10.0).filter(|tick| *tick <= self.most * 1.001);
            ticks = std::iter::successors(Some(self.least), decade).collect();
        }
        for tick in ticks {
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                self.y(tick) + 4.0,
                readable(tick)
            );
        }
        for part in 0..=4 {
            let rate = self.most_rate * f64::from(part) / 4.0;
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.x(rate),
                self.top + PANEL + 16.0,
                readable(rate)
            );
        }
    }

    fn line(&self, text: &mut String, points: &[(f64, f64)], colour: &str, is_dashed: bool) {
        let places: Vec<String> = points
            .iter()
            .map(|&(rate, value)| format!("{:.1},{:.1}", self.x(rate), self.y(value)))
            .collect();
        let dashes = if is_dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"{dashes}/>",
            places.join(" ")
        );
        if !is_dashed {
            for &(rate, value) in points {
                let _ = writeln!(
                    text,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{} a second: {}</title></circle>",
                    self.x(rate),
                    self.y(value),
                    readable(rate),
                    readable(value)
                );
            }
        }
    }
}

fn readable(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
