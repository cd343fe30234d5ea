//! Requests and their tokens as spans of time, for who draws them.

use super::{
    Correlation, Load,
    join::Certainty,
    split::{Length, PARTS, Part, Split},
};
use crate::{
    context::{Context, process::ProcessId},
    questions::steps::Found,
};

/// All requests that the trace covers, joined as the question `tokens` joins them.
pub(in crate::questions) struct Requests<'a>(Correlation<'a>);

/// One request, with times since the start of the run.
pub(in crate::questions) struct Request<'a> {
    /// Which of the load tests.
    pub(in crate::questions) load: usize,
    /// Its number in the load test.
    pub(in crate::questions) number: u64,
    pub(in crate::questions) id: Option<&'a str>,
    /// The engine that computed its tokens, if that is known.
    pub(in crate::questions) process: Option<ProcessId>,
    /// `matched`, `ambiguous` or `unmatched`.
    pub(in crate::questions) told: &'static str,
    pub(in crate::questions) is_warmup: bool,
    pub(in crate::questions) sent: i64,
    pub(in crate::questions) last: i64,
}

/// From the request, or the token before, to the arrival of the token.
pub(in crate::questions) struct Token {
    /// From 0.
    pub(in crate::questions) number: u32,
    pub(in crate::questions) from: i64,
    pub(in crate::questions) to: i64,
    pub(in crate::questions) waited: Option<Waited>,
}

/// What a token waited for.
pub(in crate::questions) struct Waited {
    /// The step that computed it, by its place among all; where several may have, the latest.
    pub(in crate::questions) step: usize,
    split: Split,
}

impl<'a> Requests<'a> {
    pub(in crate::questions) fn join(
        loads: &'a [Load],
        found: &Found,
        has_ended: bool,
        context: &Context,
    ) -> Self {
        Self(super::correlate(loads, found, has_ended, context))
    }

    /// Why a load test is not used, and how many requests reach beyond the trace.
    pub(in crate::questions) fn problems(&self) -> Vec<String> {
        let used = self.0.used.iter();
        let problems = used.filter_map(|used| {
            let path = used.load.path.display();
            match &used.problem {
                Some(problem) => Some(format!("{path} is not used: {problem}")),
                None if used.outside > 0 => {
                    Some(format!("{} requests of {path} reach beyond the trace", used.outside))
                }
                None => None,
            }
        });
        problems.collect()
    }

    /// In the order in which they were sent.
    pub(in crate::questions) fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.asked.len()).collect();
        order.sort_by_key(|&at| self.0.asked[at].sent);
        order
    }

    pub(in crate::questions) fn request(&self, at: usize) -> Request<'_> {
        let asked = &self.0.asked[at];
        let placed = self.0.placed[at].as_ref();
        let content = self.0.used[asked.load].load.content.as_ref().ok();
        let request = content.map(|content| &content.requests[asked.at]);
        Request {
            load: asked.load,
            number: request.map_or(0, |request| request.index),
            id: request.and_then(|request| request.id.as_deref()),
            process: placed.map(|placed| self.0.engines[placed.engine].process),
            told: match placed.map(|placed| placed.certainty) {
                None => "unmatched",
                Some(Certainty::Matched) => "matched",
                Some(Certainty::Ambiguous) => "ambiguous",
            },
            is_warmup: asked.is_warmup,
            sent: asked.sent,
            last: asked.last(),
        }
    }

    /// In the order of their arrivals; each begins where the one before ended.
    pub(in crate::questions) fn tokens(&self, request: usize) -> impl Iterator<Item = Token> {
        let (asked, placed) = (&self.0.asked[request], self.0.placed[request].as_ref());
        self.0.waited(request).map(move |waited| {
            let step = placed
                .map(|placed| self.0.engines[placed.engine].steps[placed.steps[waited.token]].at);
            Token {
                number: asked.arrivals[waited.token].0,
                from: waited.from,
                to: waited.to,
                waited: step.zip(waited.split).map(|(step, split)| Waited { step, split }),
            }
        })
    }
}

impl Waited {
    pub(in crate::questions) fn parts(&self) -> impl Iterator<Item = (&'static str, Length)> {
        PARTS.into_iter().map(|part: Part| (part.name(), self.split.of(part)))
    }

    pub(in crate::questions) fn largest(&self) -> &'static str {
        self.split.largest().name()
    }
}
