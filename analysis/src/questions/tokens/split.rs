//! What the client waited for.
//!
//! The time up to a first token is cut where the state of the engine changes. The time between two
//! tokens is that between the engine's giving them out, cut in the same way, and the difference of
//! their ways to the client: a way that is the same for both delays neither behind the other. So the
//! parts add up to what the client saw.

use super::engine::{Engine, EngineStep};

/// Of a hundred tokens one may have come before the engine was through with the next step.
const MOST_EARLY: usize = 100;

/// So many are no chance.
const MIN_EARLY: usize = 3;

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
    /// The engine has given the token out: API server, network, client. Of a later token how much
    /// longer this took than for the one before, or less where it is negative.
    After,
}

pub(super) const PARTS: [Part; 6] =
    [Part::Before, Part::Queue, Part::Host, Part::Gpu, Part::Wait, Part::After];

/// Lengths in nanoseconds: a best guess, and between what the truth lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::questions) struct Length {
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

    pub(in crate::questions) fn is_exact(self) -> bool {
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

    pub(super) fn add(&mut self, other: &Self) {
        for (part, other) in self.parts.iter_mut().zip(&other.parts) {
            part.add(*other);
        }
        self.is_touched |= other.is_touched;
    }

    /// The largest part.
    pub(super) fn largest(&self) -> Part {
        let of = |part: &Part| self.of(*part).ns;
        PARTS.into_iter().max_by_key(of).unwrap_or(Part::After)
    }

    /// From the queueing of the step to the taking of its output: GPU and wait. What the border between
    /// them hides does not matter to the sum, unless the step itself is not told.
    pub(super) fn queued_to_taken(&self) -> Length {
        let [gpu, wait] = [self.of(Part::Gpu), self.of(Part::Wait)];
        if self.of(Part::After).is_exact() {
            return Length::exact(gpu.ns.saturating_add(wait.ns));
        }
        let mut sum = gpu;
        sum.add(wait);
        sum
    }

    /// The token may as well be of the other's step: what it waited for lies between.
    pub(super) fn widen(&mut self, other: &Self) {
        for (part, other) in self.parts.iter_mut().zip(&other.parts) {
            part.low = part.low.min(other.low);
            part.high = part.high.max(other.high);
        }
        self.is_touched |= other.is_touched;
    }

    fn put(&mut self, part: Part, from: &mut i64, to: i64) {
        if to > *from {
            self.parts[part as usize].add(Length::exact(to - *from));
            *from = to;
        }
    }

    /// A step that has begun, up to its hand-over.
    fn put_step(&mut self, step: &EngineStep, at: &mut i64) {
        self.put(Part::Host, at, step.queued.min(step.handed));
        let (from, to) = (*at, step.handed);
        if to <= from {
            return;
        }
        let length = |end: i64| end.clamp(from, to) - from;
        let all = to - from;
        let (mut low, mut high) = (length(step.low), length(step.high));
        if let Some(estimate) = step.estimate {
            // It is wrong by what its grade says, not by the whole interval.
            (low, high) = (length(estimate), length(estimate));
        }
        // Without an estimate the GPU may have taken all of it.
        let ns = high;
        self.parts[Part::Gpu as usize].add(Length { ns, low: low.min(high), high });
        let (low, high) = (all - high, all - low.min(high));
        self.parts[Part::Wait as usize].add(Length { ns: all - ns, low, high });
        *at = to;
    }
}

/// From the sending of a request to the arrival of its first token, which is of step `target`.
pub(super) fn first(engine: &Engine, sent: i64, arrived: i64, target: usize, holds: bool) -> Split {
    let mut split = Split::default();
    let mut at = sent;
    for (number, step) in
        engine.steps.iter().enumerate().take(target + 1).skip(engine.handed_by(sent))
    {
        split.is_touched |= step.is_touched;
        let begin = step.start.min(step.handed);
        if number < target {
            let part = if at == sent { Part::Before } else { Part::Queue };
            split.put(part, &mut at, begin);
            split.put(Part::Queue, &mut at, step.handed);
        } else {
            split.put(Part::Before, &mut at, begin);
            split.put_step(step, &mut at);
        }
    }
    split.put(Part::Host, &mut at, leaves(engine, target, arrived, holds));
    split.put(Part::After, &mut at, arrived);
    split
}

/// From the arrival of a token of step `before` to that of one of step `target`: what the engine did
/// between giving out the two, and how much longer the second was on its way.
pub(super) fn next(
    engine: &Engine,
    (before, arrived_before): (usize, i64),
    (target, arrived): (usize, i64),
    holds: bool,
) -> Split {
    let mut split = Split::default();
    let left_before = leaves(engine, before, arrived_before, holds);
    let left = leaves(engine, target, arrived, holds).max(left_before);
    let mut at = left_before;
    for step in engine.steps.iter().take(target + 1).skip(before + 1) {
        split.is_touched |= step.is_touched;
        split.put(Part::Host, &mut at, step.start.min(step.handed));
        split.put_step(step, &mut at);
    }
    split.put(Part::Host, &mut at, left);
    let longer = (arrived - left) - (arrived_before - left_before);
    split.parts[Part::After as usize].add(Length::exact(longer));
    split
}

/// When a token that arrived at this time left the engine.
fn leaves(engine: &Engine, step: usize, arrived: i64, holds: bool) -> i64 {
    let handed = engine.steps[step].handed;
    let next = engine.steps.get(step + 1).filter(|next| holds && next.queued <= arrived);
    next.map_or(handed, |next| next.queued.max(handed))
}

/// Whether an engine queues its next step before it gives a token out, where it can: then no token
/// comes while it does. `None` where too few tokens tell.
pub(super) fn holds(engine: &Engine, tokens: impl Iterator<Item = (usize, i64)>) -> Option<bool> {
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
    let is_rare = early * MOST_EARLY <= held;
    match held {
        0 => Some(false),
        MOST_EARLY.. if is_rare => Some(true),
        _ => (!is_rare && early >= MIN_EARLY).then_some(false),
    }
}

#[cfg(test)]
mod tests;
