//! Requests at a simulated engine, which knows the step of each token.

use super::*;
use crate::{context::process::ProcessId, questions::tokens::engine::EngineStep};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// How an engine gives its tokens out.
#[derive(Clone, Copy)]
struct Kind {
    step_ns: i64,
    /// It queues the next step before it gives out the one before.
    holds: bool,
    /// The calls tell the requests of a step.
    has_counts: bool,
    /// Of a thousand steps so many are followed by a stall of the API server.
    stalls: i64,
}

struct Simulated {
    engine: Engine,
    asked: Vec<Asked>,
    /// The step of the first token.
    truth: Vec<usize>,
}

/// Sixteen clients, each with a request at a time.
fn simulate(seed: u64, kind: Kind) -> Simulated {
    let mut random = Random(seed);
    let Kind { step_ns, holds, has_counts, stalls } = kind;
    let mut now = 1_000_000_000;
    // When each client sends, and what it has: its request, tokens left, and those that came.
    let mut clients: Vec<(i64, Option<(usize, u32)>)> =
        (0..16).map(|_| (now + random.below(30_000_000), None)).collect();
    let mut steps: Vec<EngineStep> = Vec::new();
    let (mut asked, mut truth) = (Vec::<Asked>::new(), Vec::new());
    let mut given: Vec<Vec<usize>> = Vec::new();
    while steps.len() < 1500 {
        let arrived = |sent: i64| sent + 400_000 < now;
        for (sent, running) in &mut clients {
            if running.is_none() && arrived(*sent) {
                *running = Some((asked.len(), 20 + u32::try_from(random.below(60)).unwrap()));
                truth.push(steps.len());
                asked.push(Asked {
                    load: 0,
                    at: asked.len(),
                    sent: *sent,
                    arrivals: Vec::new(),
                    ended: None,
                    tokens: None,
                    ends_by_length: true,
                    is_warmup: false,
                    is_sparse: false,
                    is_touched: false,
                });
            }
        }
        let has: Vec<usize> = clients.iter().filter_map(|client| client.1).map(|it| it.0).collect();
        if has.is_empty() {
            now += 500_000;
            continue;
        }
        let queued = now + if holds { step_ns * 9 / 10 } else { 200_000 };
        let handed = queued + if holds { 100_000 } else { step_ns } + random.below(step_ns / 20);
        let is_decode = has_counts && !truth.contains(&steps.len());
        let requests = if has_counts { u32::try_from(has.len()).unwrap() } else { 0 };
        steps.push(EngineStep {
            at: steps.len(),
            start: now,
            queued,
            low: queued,
            high: handed,
            estimate: None,
            handed,
            requests,
            is_decode,
            is_touched: false,
        });
        given.push(has);
        now = handed + 50_000;
        for (sent, running) in &mut clients {
            if let Some((_, left)) = running {
                *left -= 1;
                if *left == 0 {
                    *running = None;
                    *sent = now + 2_500_000 + random.below(20_000_000);
                }
            }
        }
    }
    // Tokens are given out behind the step, or behind the queueing of the next; a stall holds all.
    let mut stalled_to = 0;
    for (at, has) in given.iter().enumerate() {
        let next =
            steps.get(at + 1).filter(|next| holds && next.start < steps[at].handed + 100_000);
        let left = next.map_or(steps[at].handed, |next| next.queued.max(steps[at].handed));
        if random.below(1000) < stalls {
            stalled_to = left + step_ns * (1 + random.below(4));
        }
        for (order, &request) in has.iter().enumerate() {
            let way = 1_000_000 + 20_000 * i64::try_from(order).unwrap() + random.below(100_000);
            let before = asked[request].arrivals.last().map_or(0, |it| it.1 + 1);
            let token = u32::try_from(asked[request].arrivals.len()).unwrap();
            asked[request].arrivals.push((token, (left.max(stalled_to) + way).max(before)));
        }
    }
    Simulated { engine: Engine { process: ProcessId(0), steps }, asked, truth }
}

/// Tokens that were matched, and placed wrongly.
fn judge(seed: u64, kind: Kind) -> (usize, usize, usize) {
    let Simulated { engine, asked, truth } = simulate(seed, kind);
    let joined = join(&[engine], &asked);
    let (mut matched, mut wrong) = (0, 0);
    for (placed, truth) in joined.placed.iter().zip(&truth) {
        let placed = placed.as_ref().expect("some step has had it");
        match placed.certainty {
            Certainty::Matched => {
                matched += 1;
                wrong += usize::from(placed.steps[0] != *truth);
            }
            Certainty::Ambiguous => {
                let first = placed.steps[0];
                assert!((first - placed.slack..=first).contains(truth), "seed {seed}: {placed:?}");
            }
        }
    }
    (asked.len(), matched, wrong)
}

#[test]
fn a_pipelined_engine_is_matched_by_its_counts() {
    let kind = Kind { step_ns: 5_000_000, holds: false, has_counts: true, stalls: 5 };
    for seed in 0..40 {
        let (all, matched, wrong) = judge(seed, kind);
        assert_eq!(wrong, 0, "seed {seed}");
        assert!(matched * 100 >= all * 95, "seed {seed}: {matched} of {all}");
    }
}

/// Every token comes more than a step late.
#[test]
fn an_engine_bound_by_its_host_is_matched_by_its_counts() {
    let kind = Kind { step_ns: 30_000_000, holds: true, has_counts: true, stalls: 0 };
    let (mut all, mut matched, mut wrong) = (0, 0, 0);
    for seed in 0..40 {
        let (requests, right, other) = judge(seed, kind);
        (all, matched, wrong) = (all + requests, matched + right, wrong + other);
    }
    assert_eq!(wrong, 0, "{matched} of {all}");
    assert!(matched * 2 >= all, "{matched} of {all}");
}

#[test]
fn without_counts_only_times_match() {
    let kind = Kind { step_ns: 5_000_000, holds: false, has_counts: false, stalls: 5 };
    let (mut all, mut matched) = (0, 0);
    for seed in 0..40 {
        let (requests, right, wrong) = judge(seed, kind);
        assert_eq!(wrong, 0, "seed {seed}");
        (all, matched) = (all + requests, matched + right);
    }
    assert!(matched * 4 >= all && matched < all, "{matched} of {all}");
}

fn step(at: usize, ms: i64, requests: u32) -> EngineStep {
    EngineStep {
        at,
        start: ms * 1_000_000,
        queued: ms * 1_000_000 + 200_000,
        low: ms * 1_000_000 + 200_000,
        high: (ms + 4) * 1_000_000,
        estimate: None,
        handed: (ms + 4) * 1_000_000,
        requests,
        is_decode: false,
        is_touched: false,
    }
}

fn asked(sent_ms: i64, arrivals_ms: &[i64], tokens: Option<u32>) -> Asked {
    let at = |(token, ms): (usize, &i64)| (u32::try_from(token).unwrap(), ms * 1_000_000);
    Asked {
        load: 0,
        at: 0,
        sent: sent_ms * 1_000_000,
        arrivals: arrivals_ms.iter().enumerate().map(at).collect(),
        ended: None,
        tokens,
        ends_by_length: false,
        is_warmup: false,
        is_sparse: false,
        is_touched: false,
    }
}

fn engine(requests: &[u32]) -> Engine {
    let steps = requests.iter().enumerate();
    let steps =
        steps.map(|(at, &requests)| step(at, 10 + 5 * i64::try_from(at).unwrap(), requests));
    Engine { process: ProcessId(0), steps: steps.collect() }
}

#[test]
fn tokens_that_come_before_any_step_are_of_another_server() {
    let engine = engine(&[1, 1, 1]);
    assert_eq!(join(std::slice::from_ref(&engine), &[asked(8, &[12, 20], None)]).placed, [None]);
    // The only step that was handed out had been queued before the request was sent.
    assert_eq!(join(&[engine], &[asked(13, &[15], None)]).placed, [None]);
}

#[test]
fn chunks_with_several_tokens_are_of_the_latest_steps_that_fit() {
    let joined = join(&[engine(&[1, 1, 1, 1])], &[asked(8, &[15, 26, 30], Some(4))]);
    let placed = joined.placed[0].as_ref().unwrap();
    assert_eq!(placed.steps, [0, 2, 3]);
    assert_eq!(placed.certainty, Certainty::Matched);
}

#[test]
fn a_step_that_the_client_never_sees_is_explained() {
    let joined = join(&[engine(&[1, 1, 1])], &[asked(8, &[15, 20], Some(2))]);
    assert_eq!(joined.placed[0].as_ref().unwrap().steps, [0, 1]);
    assert_eq!(joined.placed[0].as_ref().unwrap().certainty, Certainty::Matched);
}

/// The last token has no text, and so no chunk; the answer ends with it.
#[test]
fn tokens_without_text_at_the_end_have_a_step_each() {
    let mut request = asked(8, &[20, 26, 31], Some(5));
    request.ended = Some(41_000_000);
    let joined = join(&[engine(&[3, 1, 1, 1, 1, 1])], &[request]);
    let placed = joined.placed[0].as_ref().unwrap();
    assert_eq!((placed.steps[0], placed.until), (1, 5));
    assert_eq!(placed.certainty, Certainty::Matched);
}

/// Of two requests that end in a step with too many, the one that was served first is taken sooner; a
/// third one then needs its place.
#[test]
fn a_request_that_was_moved_for_the_wrong_step_goes_back() {
    let all = [
        asked(18, &[30, 35, 40, 45], Some(4)),
        asked(13, &[25, 30, 35, 40, 45], Some(5)),
        asked(13, &[25, 30, 35, 40, 45, 50], Some(6)),
        asked(43, &[50, 55], Some(2)),
    ];
    let joined = join(&[engine(&[0, 1, 3, 3, 3, 3, 2, 1, 1])], &all);
    let placed: Vec<&Placed> = joined.placed.iter().flatten().collect();
    assert_eq!(placed.iter().map(|it| it.steps[0]).collect::<Vec<_>>(), [2, 2, 1, 7]);
    assert!(placed.iter().all(|it| it.certainty == Certainty::Matched), "{placed:?}");
}

#[test]
fn a_prompt_that_was_cut_is_a_request_of_the_step_before_its_first_token() {
    let mut all = [
        asked(8, &[15], Some(1)),
        asked(8, &[20, 25, 30], Some(3)),
        asked(9, &[25, 30, 35], Some(3)),
    ];
    for it in &mut all {
        it.ends_by_length = true;
    }
    let joined = join(&[engine(&[1, 2, 2, 2, 1])], &all);
    let placed: Vec<&Placed> = joined.placed.iter().flatten().collect();
    assert_eq!(placed.iter().map(|it| it.steps[0]).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(placed.iter().all(|it| it.certainty == Certainty::Matched), "{placed:?}");
    // A step that only decodes has cut none.
    let mut other = engine(&[1, 2, 2, 2, 1]);
    other.steps[1].is_decode = true;
    let joined = join(&[other], &all);
    assert_eq!(joined.placed[1].as_ref().unwrap().certainty, Certainty::Ambiguous);
}

#[test]
fn more_tokens_than_requests_contradict() {
    let twice = [asked(8, &[15, 20], Some(2)), asked(8, &[15, 20], Some(2))];
    let joined = join(&[engine(&[1, 1, 1])], &twice);
    assert_eq!(joined.contradicted(), 4);
    assert!(joined.placed.iter().flatten().all(|it| it.certainty == Certainty::Ambiguous));
}

#[test]
fn of_two_engines_it_is_the_one_after_whose_steps_the_tokens_came() {
    let mut other = engine(&[1, 1, 1]);
    for step in &mut other.steps {
        step.handed -= 3_000_000;
    }
    let joined = join(&[other, engine(&[1, 1, 1])], &[asked(8, &[15, 20, 25], Some(3))]);
    assert_eq!(joined.placed[0].as_ref().map(|it| it.engine), Some(1));
}
