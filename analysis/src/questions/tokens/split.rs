//! What the client waited for, instant by instant.
//!
//! The time between two arrivals is cut where the engine changes its state, so the parts add up to
//! what the client saw: nothing is computed as a remainder.

use super::engine::{Engine, EngineStep};

/// Of a hundred tokens one may have come before the engine was through with the next step.
const MOST_EARLY: usize = 100;

/// What a token waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The request is on its way, or being prepared, and the engine computes nothing else: client,
    /// network, API server, scheduling.
    Before,
    /// The engine computes steps without this request.
    Queue,
    /// The engine's host prepares and queues the step, or the next one before it gives this out.
    Host,
    /// All of the step is queued, and the GPU is not done.
    Gpu,
    /// The output is there, and no thread of the engine knows.
    Wait,
    /// The engine has handed the token out: API server, network, client.
    After,
}

pub(super) const PARTS: [Part; 6] =
    [Part::Before, Part::Queue, Part::Host, Part::Gpu, Part::Wait, Part::After];

/// Lengths in nanoseconds: a best guess, and between what the truth lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Length {
    pub ns: i64,
    pub low: i64,
    pub high: i64,
}

/// A time that the client saw, in parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Split {
    pub parts: [Length; 6],
    /// Lines may be missing around a step of it.
    pub is_touched: bool,
    /// The guess of the GPU's end is an estimate; false where it is a bound.
    pub is_bounded: bool,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Queue => "queue",
            Self::Host => "host",
            Self::Gpu => "gpu",
            Self::Wait => "wait",
            Self::After => "after",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Before => "until the engine began (client, network, API server)",
            Self::Queue => "steps of others came first",
            Self::Host => "host of the engine",
            Self::Gpu => "GPU",
            Self::Wait => "output not yet taken",
            Self::After => "on the way out (API server, network, client)",
        }
    }
}

impl Length {
    fn exact(ns: i64) -> Self {
        Self { ns, low: ns, high: ns }
    }

    pub(super) fn is_exact(self) -> bool {
        self.low == self.high
    }

    fn add(&mut self, other: Self) {
        self.ns = self.ns.saturating_add(other.ns);
        self.low = self.low.saturating_add(other.low);
        self.high = self.high.saturating_add(other.high);
    }
}

impl Split {
    pub(super) fn of(&self, part: Part) -> Length {
        self.parts[part as usize]
    }

    pub(super) fn total(&self) -> i64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.ns))
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (part, other) in self.parts.iter_mut().zip(&other.parts) {
            part.add(*other);
        }
        self.is_touched |= other.is_touched;
        self.is_bounded |= other.is_bounded;
    }

    /// The largest part.
    pub(super) fn largest(&self) -> Part {
        let of = |part: &Part| self.of(*part).ns;
        PARTS.into_iter().max_by_key(of).unwrap_or(Part::After)
    }

    /// The tokens may be of earlier steps: then less is the engine's, and more is behind it.
    pub(super) fn loosen(&mut self) {
        let total = self.total();
        for part in PARTS {
            let length = &mut self.parts[part as usize];
            match part {
                Part::Before => {}
                Part::After => length.high = total,
                Part::Queue | Part::Host | Part::Gpu | Part::Wait => {
                    length.low = 0;
                    length.high = length.high.max(length.ns);
                }
            }
        }
        // What is no longer the engine's own may be that of steps before.
        self.parts[Part::Before as usize].low = 0;
    }

    fn put(&mut self, part: Part, from: &mut i64, to: i64) {
        if to > *from {
            self.parts[part as usize].add(Length::exact(to - *from));
            *from = to;
        }
    }

    /// The GPU's part and the wait for the thread, up to the hand-over.
    fn put_end(&mut self, step: &EngineStep, from: &mut i64, to: i64) {
        if to <= *from {
            return;
        }
        let length = |end: i64| end.clamp(*from, to) - *from;
        let all = to - *from;
        let [low, high] = [step.low, step.high].map(length);
        let guess = step.estimate.map_or(high, length).clamp(low, high.max(low));
        // An estimate is wrong by what its grade says, not by the whole interval.
        let (low, high) = if step.estimate.is_some() { (guess, guess) } else { (low, high) };
        self.is_bounded |= step.estimate.is_none() && low != high;
        self.parts[Part::Gpu as usize].add(Length { ns: guess, low, high });
        self.parts[Part::Wait as usize].add(Length {
            ns: all - guess,
            low: all - high,
            high: all - low,
        });
        *from = to;
    }
}

/// From the request, or the token before, to the arrival of a token of step `target`.
pub(super) fn split(
    engine: &Engine,
    (from, to): (i64, i64),
    target: usize,
    is_first: bool,
    holds: bool,
) -> Split {
    let mut split = Split::default();
    let mut at = from;
    let steps = &engine.steps;
    let next = engine.handed_by(from).min(target + 1);
    for (number, step) in steps.iter().enumerate().take(target + 1).skip(next) {
        split.is_touched |= step.is_touched;
        let end = step.handed.min(to);
        let begin = step.start.min(end);
        if is_first && number < target {
            let before = if at == from { Part::Before } else { Part::Queue };
            split.put(before, &mut at, begin);
            split.put(Part::Queue, &mut at, end);
            continue;
        }
        split.put(if is_first { Part::Before } else { Part::Host }, &mut at, begin);
        split.put(Part::Host, &mut at, step.queued.min(end));
        split.put_end(step, &mut at, end);
    }
    if holds && let Some(queued) = held_up_to(engine, target, to) {
        split.put(Part::Host, &mut at, queued);
    }
    split.put(Part::After, &mut at, to);
    split
}

/// When the step behind was queued, if that was between a step's hand-over and the arrival.
fn held_up_to(engine: &Engine, target: usize, arrived: i64) -> Option<i64> {
    let next = engine.steps.get(target + 1)?;
    let is_between = next.queued > engine.steps[target].handed && next.queued <= arrived;
    is_between.then_some(next.queued)
}

/// Whether an engine queues its next step before it gives a token out, where it can: then no token
/// comes while it does.
pub(super) fn holds(engine: &Engine, tokens: impl Iterator<Item = (usize, i64)>) -> bool {
    let (mut held, mut early) = (0_usize, 0_usize);
    for (step, arrived) in tokens {
        let Some(next) = engine.steps.get(step + 1) else { continue };
        if next.queued <= engine.steps[step].handed {
            continue;
        }
        if arrived >= next.queued {
            held += 1;
        } else if arrived >= next.start {
            early += 1;
        }
    }
    held > 0 && early * MOST_EARLY <= held
}

#[cfg(test)]
mod tests;
