//! How much of the figures may be this client's own doing.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::time::ClockId;

use crate::{
    measurement::Measured,
    record::{Bounds, ClientFigures, FigureBounds},
    statistics::{Distribution, rounded},
};

/// A thread that needs more of its core's time keeps answers waiting.
const BUSY: f64 = 0.8;
/// A client that was late by more has bent the figures by more than is stated of them.
const LATE_MS: f64 = 1.0;
/// A shorter run says little of how busy its client was.
const SHORTEST: Duration = Duration::from_millis(500);

/// What is known of a run beside its records.
#[derive(Debug)]
pub(crate) struct Observations<'a> {
    pub(crate) measured: &'a [Measured],
    pub(crate) usages: &'a [ThreadUsage],
}

/// What a thread had of a core, and what it wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadUsage {
    wall: Duration,
    cpu: Duration,
    /// Ready to run, and another thread had the core.
    waited: Duration,
}

/// Of the thread that started it, which must be the one to end it.
#[derive(Debug)]
pub(crate) struct RunningThread {
    start: Instant,
    cpu: Duration,
    waited: Duration,
}

impl RunningThread {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time(), waited: time_waited() }
    }

    pub(crate) fn end(self) -> ThreadUsage {
        ThreadUsage {
            wall: self.start.elapsed(),
            cpu: cpu_time().saturating_sub(self.cpu),
            waited: time_waited().saturating_sub(self.waited),
        }
    }
}

fn cpu_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from).unwrap_or_default()
}

/// Zero where the kernel does not tell.
fn time_waited() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

pub(crate) fn of(observations: &Observations<'_>) -> ClientFigures {
    let Observations { measured, usages } = observations;
    let counted = || measured.iter().filter(|measured| !measured.record.warmup);
    let milliseconds = |time: Duration| rounded(time.as_secs_f64() * 1e3);
    let lags = || counted().flat_map(|measured| &measured.receive_lags);
    let stamped = lags().flatten().count();
    let share = |part: fn(&ThreadUsage) -> Duration| {
        let shares =
            usages.iter().map(|usage| part(usage).as_secs_f64() / usage.wall.as_secs_f64());
        rounded(shares.fold(0.0, f64::max).min(1.0))
    };
    let cpu: Duration = usages.iter().map(|usage| usage.cpu).sum();
    let tokens: u64 = measured.iter().filter_map(|measured| measured.record.output_tokens).sum();
    let resolution = ClockId::CLOCK_MONOTONIC.res().map(Duration::from).unwrap_or_default();
    let mut figures = ClientFigures {
        threads: usages.len(),
        cpu_share: share(|usage| usage.cpu),
        busy_share: share(|usage| usage.cpu + usage.waited),
        cpu_us_per_token: (tokens > 0).then(|| rounded(cpu.as_secs_f64() * 1e6 / tokens as f64)),
        kernel_stamped_share: match lags().count() {
            0 => None,
            all => Some(rounded(stamped as f64 / all as f64)),
        },
        receive_lag_ms: Distribution::of(lags().flatten().copied().map(milliseconds)),
        send_ms: Distribution::of(counted().filter_map(|measured| measured.record.send_ms)),
        schedule_lag_ms: Distribution::of(
            counted().filter_map(|measured| measured.record.schedule_lag_ms),
        ),
        clock_resolution_ns: u64::try_from(resolution.as_nanos()).unwrap_or(u64::MAX),
        bounds: bounds(measured),
        marks: Vec::new(),
    };
    let is_long = usages.iter().any(|usage| usage.wall >= SHORTEST);
    let time_of_token = Distribution::of(counted().filter_map(|measured| measured.record.tpot_ms));
    figures.marks = marks(&figures, is_long, time_of_token.map(|tpot| tpot.p50));
    figures
}

/// Of the figures of the summary, which are over the requests that succeeded and are no warm-up.
fn bounds(measured: &[Measured]) -> FigureBounds {
    let succeeded = || measured.iter().filter(|it| !it.record.warmup && it.record.succeeded());
    let mean = |of: fn(&Measured) -> Option<(f64, f64)>| {
        let (mut low, mut high, mut count) = (0.0, 0.0, 0.0);
        for (lower, upper) in succeeded().filter_map(of) {
            (low, high, count) = (low + lower, high + upper, count + 1.0);
        }
        // Rounding the figure must not put it outside.
        let (down, up) = ((low / count * 1e3).floor() / 1e3, (high / count * 1e3).ceil() / 1e3);
        (count > 0.0).then_some(Bounds { low: down, high: up })
    };
    let tokens: Option<u64> = succeeded().map(|it| it.record.output_tokens).sum();
    let counted = || measured.iter().filter(|it| !it.record.warmup);
    let first = counted().min_by_key(|it| it.began);
    let rate = first.zip(tokens.filter(|&tokens| tokens > 0)).and_then(|(first, tokens)| {
        let (latest_start, start) = (first.began + first.bounds.sending, first.began);
        let end = counted().map(|it| it.began + it.took).max()?;
        let earliest_end = counted().map(|it| it.began + it.bounds.earliest_end).max()?;
        let rate = |wall: Duration| tokens as f64 / wall.as_secs_f64();
        let longest = rate(end.saturating_duration_since(start));
        let shortest = rate(earliest_end.saturating_duration_since(latest_start));
        let bounds =
            Bounds { low: (longest * 1e3).floor() / 1e3, high: (shortest * 1e3).ceil() / 1e3 };
        bounds.high.is_finite().then_some(bounds)
    });
    FigureBounds {
        ttft_mean_ms: mean(|it| it.bounds.ttft_ms),
        tpot_mean_ms: mean(|it| it.bounds.tpot_ms),
        output_tokens_per_second: rate,
    }
}

/// What is beyond the limits within which the figures are the server's.
fn marks(figures: &ClientFigures, is_long: bool, tpot_ms: Option<f64>) -> Vec<String> {
    let mut marks = Vec::new();
    let percent = |share: f64| (share * 100.0).round();
    if is_long && figures.busy_share >= BUSY {
        marks.push(format!(
            "the client was the bottleneck: its busiest thread needed a core for {} % of the time and had it for {} %, \
             so the server may do more than is shown; try --threads, or another machine",
            percent(figures.busy_share),
            percent(figures.cpu_share)
        ));
    }
    // Two tokens that wait to be read become one piece, with the time of the second.
    if let (Some(lag), Some(tpot)) = (figures.receive_lag_ms, tpot_ms)
        && lag.p99 > tpot.max(LATE_MS)
    {
        marks.push(format!(
            "the client read its answers late, p99 {:.2} ms, and a token takes {tpot:.2} ms: some gaps between tokens \
             are the client's",
            lag.p99
        ));
    }
    if let Some(lag) = figures.schedule_lag_ms.filter(|lag| lag.p99 > LATE_MS) {
        marks.push(format!(
            "the client was late against its own schedule, p99 {:.2} ms, at most {:.2} ms: the load was not quite the \
             one asked for",
            lag.p99, lag.max
        ));
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> ClientFigures {
        ClientFigures {
            threads: 1,
            cpu_share: 0.1,
            busy_share: 0.2,
            cpu_us_per_token: None,
            kernel_stamped_share: Some(1.0),
            receive_lag_ms: Distribution::of([0.1]),
            send_ms: Distribution::of([0.01]),
            schedule_lag_ms: Distribution::of([0.1]),
            clock_resolution_ns: 1,
            bounds: FigureBounds::default(),
            marks: vec![],
        }
    }

    #[test]
    fn a_client_at_ease_has_no_mark() {
        assert_eq!(marks(&figures(), true, Some(5.0)), Vec::<String>::new());
    }

    #[test]
    fn a_busy_client_is_marked_unless_the_run_was_short() {
        let busy = ClientFigures { busy_share: 0.97, cpu_share: 0.5, ..figures() };
        let [mark] = &marks(&busy, true, None)[..] else { panic!("not one mark") };
        assert!(mark.contains("needed a core for 97 % of the time and had it for 50 %"), "{mark}");
        assert!(marks(&busy, false, None).is_empty());
    }

    #[test]
    fn a_late_client_is_marked() {
        let late = ClientFigures { receive_lag_ms: Distribution::of([7.0]), ..figures() };
        assert!(marks(&late, true, Some(5.0))[0].contains("read its answers late, p99 7.00 ms"));
        assert!(marks(&late, true, Some(20.0)).is_empty());
        let late = ClientFigures { schedule_lag_ms: Distribution::of([3.0]), ..figures() };
        assert!(marks(&late, true, None)[0].contains("late against its own schedule"));
    }

    #[test]
    fn cpu_time_is_counted() {
        let running = RunningThread::start();
        while cpu_time() < running.cpu + Duration::from_millis(5) {}
        let usage = running.end();
        assert!(usage.cpu >= Duration::from_millis(5) && usage.wall >= usage.cpu / 2, "{usage:?}");
    }
}
