//! Which step computed which token.
//!
//! A token is there for the client after its step was handed out, and a request that runs gets a
//! token in each step. So the token that came soonest after a step tells, of all tokens of a request,
//! in which step the first was computed at the latest; and no step that was queued before the
//! request was sent had it. Where engines queue a step before they give out the one before, all tokens
//! of a request may come more than a step later: then the numbers of requests in the steps decide.

use super::{engine::Engine, load::Request};

/// A request whose tokens all come so many steps late is not looked for.
const MAX_SHIFT: usize = 4;

/// No trace is so long; times up to here can be subtracted.
const MAX_TIME_NS: i64 = 1 << 61;

/// A request, with times since the start of the run.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Of which load test, and its place there.
    pub load: usize,
    pub at: usize,
    pub sent: i64,
    pub arrivals: Vec<(u32, i64)>,
    pub tokens: Option<u32>,
    pub ends_by_length: bool,
    pub is_warmup: bool,
    pub is_sparse: bool,
}

/// Where its tokens were computed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub engine: usize,
    /// Of each known token, in the order of the arrivals.
    pub steps: Vec<usize>,
    /// It may have begun so many steps sooner: by the times alone.
    pub slack: usize,
    pub certainty: Certainty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The numbers of requests in all its steps, or the times alone, leave no other step.
    Matched,
    /// The tokens may be of earlier steps.
    Ambiguous,
}

impl Asked {
    /// Offsets from the sending are the client's own, whatever its wall clock did meanwhile.
    pub(super) fn new(
        load: usize,
        at: usize,
        request: &Request,
        to_ts: impl Fn(i64) -> i64,
    ) -> Self {
        let sent = to_ts(request.sent_ns).clamp(-MAX_TIME_NS, MAX_TIME_NS);
        let to_ts = |ns: i64| sent.saturating_add(ns - request.sent_ns).min(MAX_TIME_NS);
        Self {
            load,
            at,
            sent,
            arrivals: request.arrivals.iter().map(|&(token, ns)| (token, to_ts(ns))).collect(),
            tokens: request.tokens,
            ends_by_length: request.ends_by_length,
            is_warmup: request.is_warmup,
            is_sparse: request.is_sparse,
        }
    }

    pub(super) fn last(&self) -> i64 {
        self.arrivals.last().map_or(self.sent, |&(_, at)| at)
    }
}

impl Placed {
    fn first(&self) -> usize {
        self.steps[0]
    }

    pub(super) fn last(&self) -> usize {
        self.steps[self.steps.len() - 1]
    }
}

/// All requests in their places.
pub(super) struct Joined {
    /// `None` where no step can have computed the tokens.
    pub placed: Vec<Option<Placed>>,
    /// By engine and step.
    counts: Vec<Counts>,
}

impl Joined {
    /// Tokens that lie in steps which had fewer requests.
    pub(super) fn contradicted(&self) -> usize {
        let is_over = |it: &Placed, step: usize| {
            self.counts[it.engine].surplus[step].is_some_and(|count| count > 0)
        };
        let placed = self.placed.iter().flatten();
        placed.map(|it| it.steps.iter().filter(|&&step| is_over(it, step)).count()).sum()
    }
}

pub(super) fn join(engines: &[Engine], asked: &[Asked]) -> Joined {
    let mut placed: Vec<Option<Placed>> = asked.iter().map(|it| best(engines, it)).collect();
    let mut all = Vec::with_capacity(engines.len());
    for engine in 0..engines.len() {
        let mut counts = Counts::of(&engines[engine], engine, &placed);
        counts.shift(engine, asked, &mut placed);
        counts.explain_overruns(engine, asked, &placed);
        for (it, asked) in placed.iter_mut().zip(asked) {
            if let Some(it) = it.as_mut().filter(|it| it.engine == engine) {
                it.certainty = counts.certainty(it, asked);
            }
        }
        all.push(counts);
    }
    Joined { placed, counts: all }
}

/// In the engine after whose steps its tokens came soonest.
fn best(engines: &[Engine], asked: &Asked) -> Option<Placed> {
    let late = |placed: &Placed| {
        let steps = &engines[placed.engine].steps;
        let late = asked.arrivals.iter().zip(&placed.steps);
        late.map(|(&(_, at), &step)| at - steps[step].handed).min()
    };
    let found = (0..engines.len()).filter_map(|at| place(engines, at, asked));
    found.min_by_key(late)
}

fn place(engines: &[Engine], at: usize, asked: &Asked) -> Option<Placed> {
    let engine = &engines[at];
    let steps =
        if has_several_in_one(asked) { gathered(engine, asked) } else { in_a_row(engine, asked) }?;
    let first = steps[0];
    if first < engine.queued_before(asked.sent) {
        return None;
    }
    let slack = first.saturating_sub(engine.begun_before(asked.sent));
    Some(Placed { engine: at, steps, slack, certainty: Certainty::Ambiguous })
}

/// Chunks with more than one token: the server gave them out together.
fn has_several_in_one(asked: &Asked) -> bool {
    !asked.is_sparse && asked.tokens.is_some_and(|tokens| tokens as usize > asked.arrivals.len())
}

/// One token in each step, as late as all the tokens together allow.
fn in_a_row(engine: &Engine, asked: &Asked) -> Option<Vec<usize>> {
    let first = asked.arrivals.iter().map(|&(token, at)| {
        let step = engine.handed_by(at).checked_sub(1)?;
        step.checked_sub(token as usize)
    });
    let first = first.min()??;
    Some(asked.arrivals.iter().map(|&(token, _)| first + token as usize).collect())
}

/// Each chunk in the latest step that leaves one for each chunk behind it.
fn gathered(engine: &Engine, asked: &Asked) -> Option<Vec<usize>> {
    let mut next = usize::MAX;
    let mut steps = vec![0; asked.arrivals.len()];
    for (step, &(_, at)) in steps.iter_mut().zip(&asked.arrivals).rev() {
        next = engine.handed_by(at).checked_sub(1)?.min(next.checked_sub(1)?);
        *step = next;
    }
    Some(steps)
}

/// By step: tokens that were placed there, less the requests that it had.
struct Counts {
    /// `None` where the number of requests is not known.
    surplus: Vec<Option<i64>>,
}

impl Counts {
    fn of(engine: &Engine, at: usize, placed: &[Option<Placed>]) -> Self {
        let known = |requests: u32| (requests > 0).then(|| -i64::from(requests));
        let mut surplus: Vec<Option<i64>> =
            engine.steps.iter().map(|step| known(step.requests)).collect();
        for it in placed.iter().flatten().filter(|it| it.engine == at) {
            for count in surplus[it.first()..=it.last()].iter_mut().flatten() {
                *count += 1;
            }
        }
        Self { surplus }
    }

    /// Steps with more tokens than requests contradict the placing; where as many are missing in
    /// front of a request, its tokens came more than a step late.
    fn shift(&mut self, engine: usize, asked: &[Asked], placed: &mut [Option<Placed>]) {
        // Who was sent first is served first.
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by_key(|&at| (asked[at].arrivals[0].1, asked[at].sent));
        for by in 1..=MAX_SHIFT {
            for &at in &order {
                let Some(it) = placed[at].as_mut().filter(|it| it.engine == engine) else {
                    continue;
                };
                if by > it.slack {
                    continue;
                }
                let (first, last) = (it.first(), it.last());
                let behind = (last + 1 - by).max(first)..=last;
                let is_short = |count: &Option<i64>| count.is_some_and(|count| count < 0);
                let is_over = |count: &Option<i64>| count.is_some_and(|count| count > 0);
                if self.surplus[first - by..first].iter().all(is_short)
                    && self.surplus[behind.clone()].iter().all(is_over)
                    && last + 1 - first >= by
                {
                    self.surplus[first - by..first].iter_mut().flatten().for_each(|it| *it += 1);
                    self.surplus[behind].iter_mut().flatten().for_each(|it| *it -= 1);
                    it.steps.iter_mut().for_each(|step| *step -= by);
                    it.slack -= by;
                }
            }
        }
    }

    /// An engine that queues steps ahead computes one more for a request that ends by a token: the
    /// client never sees it.
    fn explain_overruns(&mut self, engine: usize, asked: &[Asked], placed: &[Option<Placed>]) {
        for (asked, it) in asked.iter().zip(placed) {
            let Some(it) = it.as_ref().filter(|it| it.engine == engine) else { continue };
            if let Some(Some(count @ ..0)) = self.surplus.get_mut(it.last() + 1)
                && !asked.ends_by_length
            {
                *count += 1;
            }
        }
    }

    fn certainty(&self, it: &Placed, asked: &Asked) -> Certainty {
        let counts = &self.surplus[it.first()..=it.last()];
        let is_even = counts.iter().all(|count| *count == Some(0));
        let is_possible = counts.iter().all(|count| count.is_none_or(|count| count <= 0));
        let [first, last] = [0, asked.arrivals.len() - 1].map(|at| asked.arrivals[at].0);
        let length = match asked.tokens.filter(|_| has_several_in_one(asked)) {
            Some(tokens) => tokens as usize - 1,
            None => (last - first) as usize,
        };
        let is_in_a_row = it.last() - it.first() == length;
        if (is_even || it.slack == 0 && is_possible) && is_in_a_row {
            Certainty::Matched
        } else {
            Certainty::Ambiguous
        }
    }
}

#[cfg(test)]
mod tests;
