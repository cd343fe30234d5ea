//! `tokens`: what the client of a load test saw, explained by what the engine did.

mod engine;
mod join;
mod known;
pub mod load;
mod long_calls;
mod requests;
mod slowest;
pub(super) mod spans;
mod split;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use trace::line::{CloseReason, Meta, MetaLine};

use self::{
    engine::Engine,
    join::{Asked, Certainty, Joined, Placed},
    load::{Clock, Content},
    long_calls::{LongCall, LongCalls},
    split::Split,
};
pub(super) use self::{load::Load, spans::Requests};
use super::steps::{Found, Steps, is_wait_for_event};
use crate::{
    answer::Answer,
    context::{Context, function::PerFunction},
    gap::Gap,
    question::{Call, Question},
};

/// A load test of which a larger part contradicts the steps is of another server, or its clock is.
const MAX_CONTRADICTED: f64 = 0.1;

/// `vllm bench serve` writes the date when it is through with its figures.
const MAX_WRITTEN_LATE_S: i64 = 120;
const QUARTER_OF_AN_HOUR_S: i64 = 900;

/// A request that may have begun in more steps than this is not explained.
const MAX_CANDIDATES: usize = 16;

pub struct Tokens {
    loads: Vec<Load>,
    steps: Steps,
    long_calls: LongCalls,
    /// Whether a function is one that waits for an event.
    waits: PerFunction<Option<bool>>,
    /// Wall clock less monotonic clock, by the trace's pairs: the least and the most.
    offsets: Option<(i128, i128)>,
    /// A closing line has said that nothing follows.
    has_ended: bool,
}

/// One load test, as far as it can be used.
struct Used<'a> {
    load: &'a Load,
    /// Why nothing is computed from it.
    problem: Option<String>,
    /// Requests that reach beyond the trace, or into a hole of it.
    outside: usize,
}

/// All requests beside the engine's steps.
struct Correlation<'a> {
    used: Vec<Used<'a>>,
    engines: Vec<Engine>,
    asked: Vec<Asked>,
    placed: Vec<Option<Placed>>,
    /// By engine: it queues the next step before it gives a token out, if that is told.
    holds: Vec<Option<bool>>,
}

impl Tokens {
    /// An error names a file that cannot be read, or says that there is none.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        ensure!(
            !paths.is_empty(),
            "tokens needs the result of a load test: --load FILE or DIRECTORY, which may be given several \
             times"
        );
        Ok(Self {
            loads: Load::read_all(paths)?,
            steps: Steps::default(),
            long_calls: LongCalls::default(),
            waits: PerFunction::default(),
            offsets: None,
            has_ended: false,
        })
    }
}

impl Question for Tokens {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        let Call { line, function, process } = call;
        if line.depth.unwrap_or(0) == 0 && !line.is_entry() {
            let is_wait = *self.waits.of(*function).get_or_insert_with(|| {
                is_wait_for_event(&context.functions.get(*function).canonical)
            });
            if !is_wait {
                let (process, function) = (*process, *function);
                let (from, to) = (line.ts_ns, line.end_ns());
                self.long_calls.add(LongCall { process, function, from, to });
            }
        }
        self.steps.call(call, context);
    }

    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.steps.call_before(call, context);
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        self.has_ended |= matches!(&line.meta, Meta::SegmentClose(closing) if closing.r#final);
        let clock = match &line.meta {
            Meta::SegmentOpen(opening) => Some(opening.clock),
            Meta::SegmentClose(closing) if closing.reason != CloseReason::Truncated => {
                Some(closing.clock)
            }
            _ => None,
        };
        if let Some(clock) = clock {
            let offset = i128::from(clock.realtime_ns) - i128::from(clock.monotonic_ns);
            let (least, most) = self.offsets.unwrap_or((offset, offset));
            self.offsets = Some((least.min(offset), most.max(offset)));
        }
        self.steps.meta(line, context);
    }

    fn gap(&mut self, gap: &Gap, context: &Context) {
        self.steps.gap(gap, context);
    }

    fn finish(self: Box<Self>, context: &Context) -> Answer {
        let Self { loads, steps, long_calls, offsets, has_ended, .. } = *self;
        let found = steps.found(context);
        let correlation = correlate(&loads, &found, has_ended, context);
        table::answer(&correlation, &found, &long_calls, offsets, context)
    }
}

fn correlate<'a>(
    loads: &'a [Load],
    found: &Found,
    has_ended: bool,
    context: &Context,
) -> Correlation<'a> {
    let engines = engine::engines(found, context);
    let mut used = Vec::with_capacity(loads.len());
    let mut asked = Vec::new();
    for (number, load) in loads.iter().enumerate() {
        let mut own = Vec::new();
        let (problem, outside) = match &load.content {
            Err(problem) => (Some(problem.clone()), 0),
            Ok(content) => match requests(number, content, &engines, found, has_ended, context) {
                Err(problem) => (Some(problem), 0),
                Ok((requests, outside)) => {
                    let problem = contradiction(&engines, &requests);
                    own = requests;
                    (problem, outside)
                }
            },
        };
        if problem.is_none() {
            asked.append(&mut own);
        }
        used.push(Used { load, problem, outside });
    }
    let Joined { placed, .. } = join::join(&engines, &asked);
    let holds = (0..engines.len()).map(|at| holds(&engines, at, &asked, &placed)).collect();
    Correlation { used, engines, asked, placed, holds }
}

/// The requests that the trace covers, and how many it does not.
fn requests(
    number: usize,
    content: &Content,
    engines: &[Engine],
    found: &Found,
    has_ended: bool,
    context: &Context,
) -> Result<(Vec<Asked>, usize), String> {
    let (Some(first), Some(last)) = (context.time.first_ns, context.time.last_ns) else {
        return Err("the trace has no call".to_owned());
    };
    let Some(clock) = context.opening.as_ref().map(|opening| opening.clock) else {
        return Err("the trace has no clock".to_owned());
    };
    let to_ts = |ns: i64| match content.clock {
        Clock::Unix => found.ts_ns(ns),
        Clock::Monotonic => {
            ns.saturating_sub(i64::try_from(clock.start_monotonic_ns).unwrap_or(i64::MAX))
        }
    };
    let touched: Vec<_> =
        engines.iter().map(|engine| found.touched(engine.process, context)).collect();
    let mut all: Vec<Asked> = content
        .requests
        .iter()
        .enumerate()
        .map(|(at, request)| Asked::new(number, at, request, to_ts))
        .collect();
    for it in &mut all {
        it.is_touched = touched.iter().any(|touched| touched.is_between(it.sent, it.last()));
    }
    let begin = all.iter().map(|it| it.sent).min().unwrap_or(0);
    let end = all.iter().map(Asked::last).max().unwrap_or(0);
    if end < first || begin > last {
        return Err(format!(
            "it ran from {} to {}, the trace holds calls from {} to {}{}",
            moment(begin, found),
            moment(end, found),
            moment(first, found),
            moment(last, found),
            match content.clock {
                Clock::Unix => "",
                Clock::Monotonic =>
                    ": its times are those of a monotonic clock, and hold on the same machine only",
            }
        ));
    }
    if let (Clock::Monotonic, Some(written)) = (content.clock, &content.written)
        && !may_be_written(written, found.unix_ns(end))
    {
        return Err(format!(
            "it was written at {written}, and by the trace's clock it ended at {}: its clock is \
             that of another machine",
            moment(end, found)
        ));
    }
    // Where calls may go on behind the last line, so may the steps.
    let reaches_end = |gap: &Gap| gap.may_cut_lines() && gap.to_ns.is_none() && !gap.is_end();
    let is_open = !has_ended || context.is_windowed || context.gaps.iter().any(reaches_end);
    let upto = if is_open { last } else { i64::MAX };
    let step = engines.iter().filter_map(|engine| engine.steps.first()).map(|step| step.handed);
    let first_step = step.min().unwrap_or(i64::MIN);
    let is_inside = |it: &Asked| {
        let is_whole = |&(from, to): &(i64, i64)| it.last() < from || to < it.sent;
        it.sent >= first
            && it.arrivals[0].1 >= first_step
            && it.last() <= upto
            && found.holes.iter().all(is_whole)
    };
    let count = all.len();
    let inside: Vec<Asked> = all.into_iter().filter(is_inside).collect();
    let outside = count - inside.len();
    Ok((inside, outside))
}

/// A local time to the second, in whatever zone: zones differ by quarters of an hour.
fn may_be_written(written: &str, end_unix_ns: Option<i64>) -> bool {
    let time = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", written);
    let (Ok(time), Some(end_ns)) = (time, end_unix_ns) else { return true };
    let Ok(zoned) = time.to_zoned(jiff::tz::TimeZone::UTC) else { return true };
    let late_s = zoned.timestamp().as_second() - end_ns.div_euclid(1_000_000_000);
    late_s.abs() < 16 * 3600 && (late_s + 2).rem_euclid(QUARTER_OF_AN_HOUR_S) <= MAX_WRITTEN_LATE_S
}

/// Why these requests cannot have been those of the trace's engines.
fn contradiction(engines: &[Engine], asked: &[Asked]) -> Option<String> {
    if asked.is_empty() {
        return Some("none of its requests lies in the trace as a whole".to_owned());
    }
    if engines.is_empty() {
        return Some("the trace has no engine step".to_owned());
    }
    let joined = join::join(engines, asked);
    // Where lines are missing, nothing is contradicted.
    let known: Vec<&Asked> = asked.iter().filter(|it| !it.is_touched).collect();
    let lost = known.len() - joined.placed.iter().flatten().count();
    if lost as f64 > MAX_CONTRADICTED * known.len() as f64 {
        return Some(format!(
            "of {lost} of {} requests no step can have computed the tokens: it is of another \
             server, or its clock is wrong",
            known.len()
        ));
    }
    // Who gets a first token has a prompt in the step.
    let first_steps = joined
        .placed
        .iter()
        .flatten()
        .filter(|placed| engines[placed.engine].steps[placed.steps[0]].is_decode);
    let decoding = first_steps.count();
    if decoding as f64 > MAX_CONTRADICTED * known.len() as f64 {
        return Some(format!(
            "{decoding} of {} first tokens would be of steps that only decode: it is of another \
             server, or its clock is wrong",
            known.len()
        ));
    }
    let tokens: usize = known.iter().map(|it| it.arrivals.len()).sum();
    let over = joined.contradicted();
    (over as f64 > MAX_CONTRADICTED * tokens as f64).then(|| {
        format!(
            "{over} of {tokens} tokens would be of steps that had fewer requests: it is of \
             another server, or its clock is wrong"
        )
    })
}

fn holds(
    engines: &[Engine],
    at: usize,
    asked: &[Asked],
    placed: &[Option<Placed>],
) -> Option<bool> {
    let tokens = asked.iter().zip(placed).filter_map(|(asked, placed)| {
        let placed = placed.as_ref().filter(|placed| placed.engine == at)?;
        Some(placed.steps.iter().copied().zip(asked.arrivals.iter().map(|&(_, at)| at)))
    });
    split::holds(&engines[at], tokens.flatten())
}

fn moment(ts_ns: i64, found: &Found) -> String {
    let time = found.unix_ns(ts_ns).map(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)));
    match time {
        Some(Ok(time)) => format!("{time:.3}"),
        _ => "an unknown time".to_owned(),
    }
}

/// What one token waited for.
struct Waited {
    /// Place of the request in the correlation, and of the token among its arrivals.
    request: usize,
    token: usize,
    from: i64,
    to: i64,
    /// `None` where no step can be told.
    split: Option<Split>,
}

impl Correlation<'_> {
    /// Whether requests are left out, as they reach beyond the trace, or into a hole of it, or do not
    /// fit.
    fn is_part(&self) -> bool {
        self.used.iter().any(|used| used.outside > 0 || used.problem.is_some())
    }

    /// Of a request, token by token.
    fn waited(&self, request: usize) -> impl Iterator<Item = Waited> {
        let asked = &self.asked[request];
        let placed = self.placed[request].as_ref();
        (0..asked.arrivals.len()).filter_map(move |token| {
            let (number, to) = asked.arrivals[token];
            let is_first = token == 0;
            if is_first && number != 0 {
                return None;
            }
            let from = if is_first { asked.sent } else { asked.arrivals[token - 1].1 };
            let split = placed.and_then(|placed| self.split(asked, placed, token));
            let split = split.filter(|split| !split.is_touched);
            Some(Waited { request, token, from, to, split })
        })
    }

    /// `None` where too many steps may have been those of its request.
    fn split(&self, asked: &Asked, placed: &Placed, token: usize) -> Option<Split> {
        let (engine, holds) = (&self.engines[placed.engine], self.holds[placed.engine]);
        let (_, arrived) = asked.arrivals[token];
        let step = placed.steps[token];
        let split_if = |by: usize, holds: bool| match token.checked_sub(1) {
            None => split::first(engine, asked.sent, arrived, step - by, holds),
            Some(before) => {
                let before = (placed.steps[before] - by, asked.arrivals[before].1);
                split::next(engine, before, (step - by, arrived), holds)
            }
        };
        let shifted = |by: usize| {
            let mut split = split_if(by, holds.unwrap_or(false));
            if holds.is_none() {
                split.widen(&split_if(by, true));
            }
            split
        };
        let mut split = shifted(0);
        if placed.certainty == Certainty::Ambiguous {
            if placed.slack > MAX_CANDIDATES {
                return None;
            }
            (1..=placed.slack).for_each(|by| split.widen(&shifted(by)));
        }
        Some(split)
    }
}
