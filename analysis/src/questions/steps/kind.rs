//! What a step did: prefill, decode, or both.
//!
//! A step that computes one token for each of its requests decodes, one that computes more also
//! prefills. Whether requests of the step before go on in it is told by a copy from what that step
//! has sampled, or by the pause in front of it: an engine that has requests left does not pause.
//! Where these do not tell, the kind stays open.

use std::collections::HashMap;

use super::ledger::{GraphMode, Row};

/// How many steps before and behind tell what is usual.
const NEIGHBOURS: usize = 64;

/// Requests are looked for in this many steps before: pipelines take turns.
const TURNS: usize = 2;

/// A pause that every engine may take between two steps, above its own usual ones.
const SHORT_PAUSE_NS: f64 = 2.5e6;
const LONG_PAUSE_NS: f64 = 5.0e6;

/// One in more than so many is rare, one in so many at least is usual.
const RARE: usize = 100;
const USUAL: usize = 20;

/// So many long pauses are not usual, however few steps there are.
const FEW: usize = 3;

/// Padding adds at most this many tokens, or as many as there are.
const MAX_PADDING: u32 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::questions) enum Kind {
    Prefill,
    Decode,
    Mixed,
}

impl Kind {
    pub(in crate::questions) fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Mixed => "mixed",
        }
    }
}

/// Of the steps of one process, in their order.
pub(super) fn kinds(rows: &[Row]) -> Vec<Option<Kind>> {
    let engine = Engine::of(rows);
    let mut kinds: Vec<Option<Kind>> = (0..rows.len()).map(|at| engine.first(rows, at)).collect();
    for at in 0..rows.len() {
        if kinds[at].is_none() && engine.computes_more(rows, at) == Some(true) {
            kinds[at] = engine.second(rows, &kinds, at);
        }
    }
    withhold_unlike(rows, &mut kinds);
    kinds
}

/// A request that comes when another has ended, with all but one token of its prompt cached, leaves
/// the counts as they are; but what is new is copied to the device. Steps that seem to decode and
/// copy as hardly any other of these does, but as others that prefill do, stay open.
fn withhold_unlike(rows: &[Row], kinds: &mut [Option<Kind>]) {
    let count = |kind: Kind| {
        let mut by_copies: HashMap<u32, usize> = HashMap::new();
        for (row, _) in rows.iter().zip(&*kinds).filter(|(_, other)| **other == Some(kind)) {
            *by_copies.entry(row.copies).or_default() += 1;
        }
        let all = by_copies.values().sum::<usize>();
        move |copies: u32| (by_copies.get(&copies).copied().unwrap_or(0), all)
    };
    let (decode, mixed) = (count(Kind::Decode), count(Kind::Mixed));
    for (row, kind) in rows.iter().zip(kinds).filter(|(_, kind)| **kind == Some(Kind::Decode)) {
        let ((alike, decodes), (prefills, all)) = (decode(row.copies), mixed(row.copies));
        if alike * RARE < decodes && prefills * USUAL >= all && prefills > 0 {
            *kind = None;
        }
    }
}

/// What all steps of a process together tell.
struct Engine {
    has_full: bool,
    has_other: bool,
    /// Steps that decode copy from what the step before has sampled, as a rule.
    is_fed_by_copies: bool,
    /// Most pauses between steps that go on are shorter.
    usual_pause_ns: f64,
    /// The most tokens of a step: then a prompt may go on in the next.
    most_tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    None,
    Unclear,
    Idle,
}

impl Engine {
    fn of(rows: &[Row]) -> Self {
        let is_mode = |mode| rows.iter().any(|row| row.mode == mode);
        let fed = rows.iter().filter(|row| row.is_fed).count();
        let mut pauses: Vec<i64> = (1..rows.len())
            .filter(|&at| rows[at].requests <= rows[at - 1].requests)
            .map(|at| pause_ns(rows, at))
            .collect();
        pauses.sort_unstable();
        // Of few steps, one or two long pauses are not the usual ones.
        let at = (pauses.len() * 95 / 100).min(pauses.len().saturating_sub(FEW));
        let usual = pauses.get(at).copied().filter(|_| pauses.len() > 2 * FEW).unwrap_or(0);
        Self {
            has_full: is_mode(GraphMode::Full),
            has_other: is_mode(GraphMode::Piecewise) || is_mode(GraphMode::None),
            is_fed_by_copies: fed * 2 > rows.len(),
            usual_pause_ns: usual as f64,
            most_tokens: rows.iter().filter_map(size).max().unwrap_or(0),
        }
    }

    /// From the step itself and those before it.
    fn first(&self, rows: &[Row], at: usize) -> Option<Kind> {
        let row = &rows[at];
        let pause = self.pause(rows, at);
        let before = rows[at.saturating_sub(TURNS)..at].iter().map(|row| row.requests).max();
        let more = self.computes_more(rows, at)?;
        if more {
            return match pause {
                _ if row.requests == 1 => Some(Kind::Prefill),
                Pause::None | Pause::Unclear => row.is_fed.then_some(Kind::Mixed),
                // One of the two misleads: the engine was held up, or memory was used anew.
                Pause::Idle if row.is_fed => None,
                Pause::Idle => Some(Kind::Prefill),
            };
        }
        let is_unfed = self.is_fed_by_copies && !row.is_fed && row.requests == 1;
        match (before, pause) {
            // Requests that were not there compute the last token of their prompts.
            (None, Pause::Idle) => Some(Kind::Prefill),
            (None, _) => None,
            (Some(before), Pause::Idle) if row.requests > before => Some(Kind::Prefill),
            (Some(before), _) if row.requests > before => None,
            (Some(_), Pause::Idle) if is_unfed => Some(Kind::Prefill),
            (Some(_), _) => Some(Kind::Decode),
        }
    }

    /// Of a step that prefills: whether requests of the step before go on in it.
    fn second(&self, rows: &[Row], kinds: &[Option<Kind>], at: usize) -> Option<Kind> {
        if self.pause(rows, at) != Pause::None {
            return None;
        }
        let near = at.saturating_sub(NEIGHBOURS)..(at + NEIGHBOURS).min(rows.len());
        let decodes = kinds[near].contains(&Some(Kind::Decode));
        let may_be_cut = kinds[at - 1] == Some(Kind::Prefill)
            && size(&rows[at - 1]).is_none_or(|tokens| tokens >= self.most_tokens);
        (decodes && !may_be_cut).then_some(Kind::Mixed)
    }

    /// Whether it computes more than one token for each request.
    fn computes_more(&self, rows: &[Row], at: usize) -> Option<bool> {
        let Row { requests, tokens, graph_tokens, mode, .. } = rows[at];
        if requests == 0 {
            return None;
        }
        if let Some(tokens) = tokens {
            return Some(tokens > requests);
        }
        let padded = graph_tokens?;
        let is_far = padded >= requests.saturating_mul(2) && padded - requests > MAX_PADDING;
        match mode {
            // Beside graphs for pieces, those of the whole model are for decoding.
            GraphMode::Full if self.has_other => Some(false),
            GraphMode::Piecewise if self.has_full => Some(true),
            GraphMode::Piecewise if is_far => Some(true),
            GraphMode::Piecewise | GraphMode::Full | GraphMode::None => None,
        }
    }

    fn pause(&self, rows: &[Row], at: usize) -> Pause {
        if at == 0 {
            // What went before the trace is not known.
            return if rows[at].is_rested { Pause::Idle } else { Pause::Unclear };
        }
        let pause_ns = pause_ns(rows, at) as f64;
        if pause_ns <= 2.0 * self.usual_pause_ns + SHORT_PAUSE_NS {
            Pause::None
        } else if pause_ns > 4.0 * self.usual_pause_ns + LONG_PAUSE_NS {
            Pause::Idle
        } else {
            Pause::Unclear
        }
    }
}

/// From the hand-over of the output before to the beginning of the step; 0 if that came first.
fn pause_ns(rows: &[Row], at: usize) -> i64 {
    let before = &rows[at - 1];
    let since = before.handed.or(before.high).unwrap_or(before.queued).max(before.queued);
    (rows[at].start - since).max(0)
}

fn size(row: &Row) -> Option<u32> {
    row.tokens.or(row.graph_tokens)
}
