//! Rules that compare steps with each other.

use std::collections::HashMap;

use super::{
    length_ns,
    rule::Rule,
    tally::{Certainty, Detail, Occurrence, Tally},
    watch::{Mark, Watch},
};
use crate::{
    context::{Place, function::FunctionId},
    questions::steps::{
        Doubt,
        kind::Kind,
        ledger::{GraphMode, Row},
        ranks::Step,
    },
};

/// Steps that launch the same, before one of them can be called slow.
const MIN_ALIKE: usize = 20;

/// A step is an outlier if it takes this many times the median of its like, and so much more.
const OUTLIER: u64 = 3;
const OUTLIER_NS: u64 = 1_000_000;

/// Of the longest so many are left out.
const STALLS: usize = 2;

fn occurrence(rule: Rule, row: &Row, place: Place, cost_ns: u64) -> Occurrence {
    Occurrence {
        rule,
        from: row.start,
        to: row.queued,
        count: 1,
        cost_ns,
        most_ns: cost_ns,
        // Of an event record, whose name the line has.
        function: FunctionId(u32::MAX),
        place,
        detail: Detail::None,
    }
}

pub(super) fn mark(marks: &[Mark], row: &Row) -> Option<Mark> {
    let at = marks.partition_point(|mark| mark.queued < row.queued);
    marks.get(at).filter(|mark| mark.queued == row.queued).copied()
}

/// Decode steps without a graph, though one of their size was used before, and after it or no graph
/// was given up since.
pub(super) fn eager(steps: &[&Step], watch: &Watch) -> Option<Tally> {
    let marks = &watch.marks;
    let mut api: Vec<u64> = Vec::new();
    // Captured size: the first and the last step that used it.
    let mut uses: Vec<(u32, i64, i64)> = Vec::new();
    let is_known = |step: &Step| !step.doubt.kind && !step.doubt.sums;
    for Step { kind, row, .. } in steps.iter().filter(|step| is_known(step)) {
        let Some(size) = row.graph_tokens.filter(|_| *kind == Some(Kind::Decode)) else { continue };
        api.push(row.api_ns);
        match uses.iter_mut().find(|(other, ..)| *other == size) {
            Some((_, _, last)) => *last = row.start,
            None => uses.push((size, row.start, row.start)),
        }
    }
    api.sort_unstable();
    let usual_ns = *api.get(api.len() / 2)?;
    let mut tally = Tally::default();
    for (at, Step { kind, row, .. }) in steps.iter().enumerate() {
        let tokens = row.tokens.unwrap_or(row.requests);
        let is_eager = is_known(steps[at])
            && *kind == Some(Kind::Decode)
            && row.mode == GraphMode::None
            && tokens > 0;
        let has_graph = |&(size, first, last): &(u32, i64, i64)| {
            size >= tokens
                && first < row.start
                && (row.start < last || watch.has_kept_graphs(first, row.start))
        };
        if is_eager && uses.iter().any(has_graph) {
            let place = mark(marks, row).map_or_else(Place::default, |mark| mark.place);
            let cost_ns = row.api_ns.saturating_sub(usual_ns);
            let it = occurrence(Rule::EagerDespiteGraph, row, place, cost_ns);
            tally.add(it, at, Certainty::Sure);
        }
    }
    (tally.all.count > 0).then_some(tally)
}

/// Steps that took far longer than others of the same kernels and shapes, and in which no rule of
/// `told` has found anything; and what they cost without the longest, which any machine has now and
/// then.
pub(super) fn outliers(steps: &[&Step], marks: &[Mark], told: u32) -> Option<(Tally, u64)> {
    let mut alike: HashMap<u64, Vec<(u64, usize)>> = HashMap::new();
    for at in 1..steps.len() {
        let Doubt { sums, before, .. } = steps[at].doubt;
        if let Some(ns) = length_ns(steps, at).filter(|_| !sums && !before) {
            alike.entry(steps[at].row.fingerprint).or_default().push((ns, at));
        }
    }
    let mut slow: Vec<(usize, u64)> = Vec::new();
    for mut group in alike.into_values().filter(|group| group.len() >= MIN_ALIKE) {
        group.sort_unstable();
        let median = group[group.len() / 2].0;
        let is_slow = |ns: u64| ns > OUTLIER * median && ns - median > OUTLIER_NS;
        slow.extend(group.iter().filter(|(ns, _)| is_slow(*ns)).map(|&(ns, at)| (at, ns - median)));
    }
    slow.sort_unstable();
    let mut tally = Tally::default();
    let mut costs = Vec::new();
    for (at, excess_ns) in slow {
        let row = &steps[at].row;
        let Some(mark) = mark(marks, row) else { continue };
        if mark.found & told == 0 {
            let it = occurrence(Rule::StepOutliers, row, mark.place, excess_ns);
            tally.add(it, at, Certainty::Sure);
            costs.push(excess_ns);
        }
    }
    costs.sort_unstable();
    costs.truncate(costs.len().saturating_sub(STALLS));
    (tally.all.count > 0).then(|| (tally, costs.into_iter().fold(0, u64::saturating_add)))
}
