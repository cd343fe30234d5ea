//! Which step computed which token.
//!
//! A token is there for the client after its step was handed out, and a request that runs gets a
//! token in each step. So the token that came soonest after a step tells, of all tokens of a request,
//! in which step the first was computed at the latest; and no step that was queued before the
//! request was sent had it. Where engines queue a step before they give out the one before, all tokens
//! of a request may come more than a step later: then the numbers of requests in the steps decide.

use std::collections::{HashMap, VecDeque};

use super::{engine::Engine, load::Request};
use crate::context::function::Hasher;

/// A shift may bring others with it.
const MAX_ROUNDS: usize = 16;

/// Requests that are looked at for shifts.
const MAX_WORK: usize = 20_000_000;

/// No trace is so long; times up to here can be subtracted.
const MAX_TIME_NS: i64 = 1 << 61;

/// A request, with times since the start of the run.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(super) struct Asked {
    /// Of which load test, and its place there.
    pub load: usize,
    pub at: usize,
    pub sent: i64,
    pub arrivals: Vec<(u32, i64)>,
    /// When its answer was over: tokens without text may have come behind the last arrival.
    pub ended: Option<i64>,
    pub tokens: Option<u32>,
    pub ends_by_length: bool,
    pub is_warmup: bool,
    pub is_sparse: bool,
    /// Steps may be missing while it ran, or be there that were none: which are its own is not known.
    pub is_touched: bool,
}

/// Where its tokens were computed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub engine: usize,
    /// Of each known token, in the order of the arrivals.
    pub steps: Vec<usize>,
    /// Of its last token, which may be none of the arrivals.
    until: usize,
    /// It may have begun so many steps sooner: by the times alone.
    pub slack: usize,
    /// It was moved by so many steps, and may be moved back.
    moved: usize,
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
            ended: request.ended_ns.map(to_ts),
            tokens: request.tokens,
            ends_by_length: request.ends_by_length,
            is_warmup: request.is_warmup,
            is_sparse: request.is_sparse,
            is_touched: false,
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
        self.until
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
    let place = |it: &Asked| if it.is_touched { None } else { best(engines, it) };
    let mut placed: Vec<Option<Placed>> = asked.iter().map(place).collect();
    let mut all = Vec::with_capacity(engines.len());
    for (engine, steps) in engines.iter().enumerate() {
        let mut counts = Counts::of(steps, engine, &placed);
        counts.shift(engine, asked, &mut placed);
        counts.explain_chunks(engine, steps, &placed);
        counts.explain_overruns(engine, asked, &placed);
        for (it, asked) in placed.iter_mut().zip(asked) {
            if let Some(it) = it.as_mut().filter(|it| it.engine == engine) {
                it.certainty = counts.certainty(it, asked, steps);
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
    let earliest = engine.queued_before(asked.sent);
    let is_possible = |steps: &[usize]| steps[0] >= earliest;
    let (steps, until) =
        gathered(engine, asked).filter(|(steps, _)| is_possible(steps)).or_else(|| {
            let steps = in_a_row(engine, asked).filter(|steps| is_possible(steps))?;
            let until = steps[steps.len() - 1];
            Some((steps, until))
        })?;
    let first = steps[0];
    let slack = first.saturating_sub(engine.begun_before(asked.sent));
    Some(Placed { engine: at, steps, until, slack, moved: 0, certainty: Certainty::Ambiguous })
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

/// Of chunks with several tokens, where each token has a step of its own: as late as all the chunks
/// together allow, and each chunk with the last token that it can have; and the step of the last token.
/// `None` where there are as many chunks as tokens.
fn gathered(engine: &Engine, asked: &Asked) -> Option<(Vec<usize>, usize)> {
    let tokens = asked.tokens.filter(|_| has_several_in_one(asked))? as usize;
    let more = tokens - asked.arrivals.len();
    let end = asked.ended.map_or(asked.last(), |ended| ended.max(asked.last()));
    let first = in_a_row(engine, asked)?[0];
    let first = first.min(engine.handed_by(end).checked_sub(tokens)?);
    let last_of = |(chunk, &(_, at)): (usize, &(u32, i64))| {
        (first + chunk + more).min(engine.handed_by(at) - 1)
    };
    let mut steps: Vec<usize> = asked.arrivals.iter().enumerate().map(last_of).collect();
    // The first chunk begins with the first step, whatever else is in it.
    steps[0] = first;
    Some((steps, first + tokens - 1))
}

/// A step sooner, or later again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shift {
    Sooner,
    Later,
}

/// Requests by the step in which they end, and by that in which they begin.
#[derive(Debug, Default)]
struct Ends {
    last: HashMap<usize, Vec<usize>, Hasher>,
    first: HashMap<usize, Vec<usize>, Hasher>,
}

impl Ends {
    fn add(&mut self, request: usize, it: &Placed) {
        self.last.entry(it.until).or_default().push(request);
        self.first.entry(it.first()).or_default().push(request);
    }

    fn remove(&mut self, request: usize, it: &Placed) {
        for (by_step, step) in [(&mut self.last, it.until), (&mut self.first, it.first())] {
            if let Some(all) = by_step.get_mut(&step) {
                all.retain(|&other| other != request);
            }
        }
    }

    /// What takes a token from a step: who ends there and begins sooner, or begins there and goes back.
    fn shifts(&self, step: usize) -> impl Iterator<Item = (usize, Shift)> {
        let sooner = self.last.get(&step).into_iter().flatten().map(|&it| (it, Shift::Sooner));
        sooner.chain(self.first.get(&step).into_iter().flatten().map(|&it| (it, Shift::Later)))
    }
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
            for count in surplus[it.first()..=it.until].iter_mut().flatten() {
                *count += 1;
            }
        }
        Self { surplus }
    }

    /// Steps with more tokens than requests contradict the placing: a request that ends there began
    /// sooner, if a step in front of it lacks one; or another that ends there did, and so on. One that
    /// was moved for the wrong step goes back.
    fn shift(&mut self, engine: usize, asked: &[Asked], placed: &mut [Option<Placed>]) {
        let mut ends = Ends::default();
        for (at, it) in placed.iter().enumerate() {
            if let Some(it) = it.as_ref().filter(|it| it.engine == engine && it.slack > 0) {
                ends.add(at, it);
            }
        }
        // Who was served first was sent first.
        for requests in ends.last.values_mut() {
            requests.sort_by_key(|&at| (asked[at].arrivals[0].1, asked[at].sent));
        }
        let mut work = MAX_WORK;
        for _ in 0..MAX_ROUNDS {
            let mut is_changed = false;
            for step in 0..self.surplus.len() {
                while self.is_over(step)
                    && let Some(path) = self.path(step, &ends, placed, &mut work)
                {
                    is_changed = true;
                    for (request, shift) in path {
                        self.shift_one(request, shift, placed, &mut ends);
                    }
                }
            }
            if !is_changed {
                break;
            }
        }
    }

    fn is_over(&self, step: usize) -> bool {
        self.surplus[step].is_some_and(|count| count > 0)
    }

    /// The fewest requests which, each shifted by a step, take a token from this step and give one to a
    /// step that lacks one.
    fn path(
        &self,
        step: usize,
        ends: &Ends,
        placed: &[Option<Placed>],
        work: &mut usize,
    ) -> Option<Vec<(usize, Shift)>> {
        let mut reached: HashMap<usize, (usize, (usize, Shift)), Hasher> = HashMap::default();
        let mut next = VecDeque::from([step]);
        while let Some(at) = next.pop_front() {
            for (request, shift) in ends.shifts(at) {
                *work = work.checked_sub(1)?;
                let Some(it) = placed[request].as_ref() else { continue };
                let to = match shift {
                    Shift::Sooner if it.slack > 0 => it.first() - 1,
                    Shift::Later if it.moved > 0 => it.until + 1,
                    Shift::Sooner | Shift::Later => continue,
                };
                if reached.contains_key(&to) || to == step {
                    continue;
                }
                reached.insert(to, (at, (request, shift)));
                match self.surplus.get(to).copied().flatten() {
                    Some(..0) => {
                        let mut path = Vec::new();
                        let mut at = to;
                        while at != step {
                            let (from, shift) = reached[&at];
                            path.push(shift);
                            at = from;
                        }
                        // The second shift of one request would be of other steps.
                        let requests = || path.iter().map(|(request, _)| request);
                        let is_once =
                            requests().all(|one| requests().filter(|it| *it == one).count() == 1);
                        return is_once.then_some(path);
                    }
                    Some(_) => next.push_back(to),
                    None => {}
                }
            }
        }
        None
    }

    fn shift_one(
        &mut self,
        request: usize,
        shift: Shift,
        placed: &mut [Option<Placed>],
        ends: &mut Ends,
    ) {
        let Some(it) = &mut placed[request] else { return };
        ends.remove(request, it);
        let (gains, loses) = match shift {
            Shift::Sooner => (it.first() - 1, it.until),
            Shift::Later => (it.until + 1, it.first()),
        };
        for (step, by) in [(gains, 1), (loses, -1)] {
            if let Some(count) = &mut self.surplus[step] {
                *count += by;
            }
        }
        match shift {
            Shift::Sooner => {
                it.steps.iter_mut().for_each(|step| *step -= 1);
                it.until -= 1;
                (it.slack, it.moved) = (it.slack - 1, it.moved + 1);
            }
            Shift::Later => {
                it.steps.iter_mut().for_each(|step| *step += 1);
                it.until += 1;
                (it.slack, it.moved) = (it.slack + 1, it.moved - 1);
            }
        }
        ends.add(request, it);
    }

    /// A prompt that did not fit into a step as a whole is a request of it, and its first token is of
    /// the next step. An engine cuts one prompt in each step: the last.
    fn explain_chunks(&mut self, at: usize, engine: &Engine, placed: &[Option<Placed>]) {
        let mut sooner: HashMap<usize, usize, Hasher> = HashMap::default();
        for it in placed.iter().flatten().filter(|it| it.engine == at) {
            let most = sooner.entry(it.first()).or_default();
            *most = it.slack.max(*most);
        }
        for step in (0..self.surplus.len()).rev().filter(|&step| !engine.steps[step].is_decode) {
            let slack = sooner.get(&(step + 1)).copied().unwrap_or(0);
            if self.surplus[step] == Some(-1) && slack > 0 {
                self.surplus[step] = Some(0);
                // It may have been cut before, too.
                let most = sooner.entry(step).or_default();
                *most = (slack - 1).max(*most);
            }
        }
    }

    /// An engine that queues steps ahead computes one more for a request that ends by a token: the
    /// client never sees it.
    fn explain_overruns(&mut self, engine: usize, asked: &[Asked], placed: &[Option<Placed>]) {
        for (asked, it) in asked.iter().zip(placed) {
            let Some(it) = it.as_ref().filter(|it| it.engine == engine) else { continue };
            if let Some(Some(count @ ..0)) = self.surplus.get_mut(it.until + 1)
                && !asked.ends_by_length
            {
                *count += 1;
            }
        }
    }

    fn certainty(&self, it: &Placed, asked: &Asked, engine: &Engine) -> Certainty {
        let counts = &self.surplus[it.first()..=it.until];
        let is_even = counts.iter().all(|count| *count == Some(0));
        let is_possible = counts.iter().all(|count| count.is_none_or(|count| count <= 0));
        let [first, last] = [0, asked.arrivals.len() - 1].map(|at| asked.arrivals[at].0);
        let length = (last - first) as usize;
        let several = asked.tokens.filter(|_| has_several_in_one(asked));
        let is_in_a_row = [Some(length), several.map(|tokens| tokens as usize - 1)]
            .contains(&Some(it.until - it.first()));
        let has_prompt = !engine.steps[it.first()].is_decode;
        if (is_even || it.slack == 0 && is_possible) && is_in_a_row && has_prompt {
            Certainty::Matched
        } else {
            Certainty::Ambiguous
        }
    }
}

#[cfg(test)]
mod tests;
