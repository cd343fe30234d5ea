//! The ranks of one engine, step by step: who came last, and who was silent while others went on.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::silence::{Late, Place, Silences};
use crate::{
    context::process::ProcessId,
    quantiles::Quantiles,
    questions::steps::{
        MAX_OPEN_OUTPUTS,
        ledger::{GraphMode, Row},
    },
};

/// Steps of a rank that wait for the others'.
const MAX_WAITING: usize = 512;

/// So many steps tell which of one rank are those of another, by their beginnings and launches.
const ALIGNED_BY: usize = 32;

/// One rank has so many steps more than another at most, where lines are missing.
const MAX_SHIFT: usize = 8;

/// A step with other launches weighs as much as one that begins by so much later.
const UNLIKE_NS: i64 = 10_000_000;

/// One rank begins a step no longer than half of this before another.
const MAX_LEAD_NS: i64 = 1_000_000_000;

/// Silences are kept for so long behind the steps that they may touch.
const KEPT_NS: i64 = 1_000_000_000;

/// An output is handed over by so much behind the silence in which it became overdue.
const HAND_OVER_NS: i64 = 500_000;

/// Kinds of steps whose usual time is known, and of how many that is taken.
const MAX_KINDS: usize = 4096;
const MIN_ALIKE: usize = 5;
const MAX_ALIKE: usize = 32;

/// Of the times of steps that launch the same, this part is usual.
const USUAL: f64 = 0.9;

/// Launches that a pause may move from one step to the next.
const MAX_MOVED: usize = 8;

/// Steps that take the same time on the GPU, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Model {
    /// Graphs of one captured size, whatever little else is launched beside them.
    Graphs(GraphMode, u32),
    /// The same kernels with the same shapes.
    Launches(u64),
}

impl Model {
    fn of(row: &Row) -> Self {
        row.graph_tokens
            .map_or(Self::Launches(row.fingerprint), |tokens| Self::Graphs(row.mode, tokens))
    }
}

#[derive(Debug, Default)]
pub(super) struct Member {
    rows: VecDeque<Row>,
    pub silences: Silences,
    /// When the last launch of its latest compared step began.
    last_launch: Option<i64>,
    /// By how much its launches came behind the first of the same launch.
    pub late: Quantiles,
    /// In how many steps it queued its output last.
    pub last: u64,
    pub steps: u64,
}

#[derive(Debug, Default)]
pub(super) struct Engine {
    pub members: BTreeMap<ProcessId, Member>,
    /// What was computed before is no step.
    serving_since: Option<i64>,
    handed: Option<i64>,
    /// From when all had launched to the hand-over, of steps that launch the same.
    usual: HashMap<Model, VecDeque<i64>>,
    pub steps: u64,
    /// Steps that the ranks seem to launch differently: only their outputs are compared.
    pub unlike: u64,
    /// Steps of one rank that no other has.
    pub alone: u64,
    /// Steps that may be compared with others than their own, or with what was usual of such.
    doubtful: usize,
    /// Steps until it is looked whether the ranks' steps are still the same.
    align_in: usize,
}

impl Engine {
    pub(super) fn add(&mut self, process: ProcessId, row: Row) {
        let rows = &mut self.members.entry(process).or_default().rows;
        match self.serving_since {
            Some(since) if row.queued < since => return,
            None if row.handed.is_some() => {
                let before = rows.back().map_or(i64::MAX, |before| row.start - before.queued);
                let since = row.start - before.clamp(0, MAX_LEAD_NS) / 2;
                rows.push_back(row);
                self.serving_since = Some(since);
                for member in self.members.values_mut() {
                    member.rows.retain(|row| row.queued >= since);
                }
                return;
            }
            _ => {}
        }
        rows.push_back(row);
        if rows.len() > MAX_WAITING {
            rows.pop_front();
            self.alone += 1;
        }
    }

    /// Compares what all ranks have. Steps wait for those behind them, which tell whether the ranks
    /// are at the same one.
    pub(super) fn compare(&mut self, is_end: bool) {
        if self.serving_since.is_none() || self.members.len() < 2 {
            return;
        }
        let waiting = if is_end { 1 } else { ALIGNED_BY + MAX_SHIFT };
        while self.members.values().all(|member| member.rows.len() >= waiting) {
            if self.align_in == 0 {
                self.align();
                self.align_in = ALIGNED_BY;
                continue;
            }
            // Until no step waits that may be touched, it is looked at each.
            self.align_in = if self.doubtful > 0 { 0 } else { self.align_in - 1 };
            self.doubtful = self.doubtful.saturating_sub(1);
            if self.doubtful == 1 {
                self.usual.clear();
            }
            let rows: Vec<(ProcessId, Row)> = self
                .members
                .iter_mut()
                .filter_map(|(id, member)| Some((*id, member.rows.pop_front()?)))
                .collect();
            self.step(&rows);
        }
    }

    /// Lines are missing, stand twice or in a wrong place: one rank may have other steps than the other,
    /// up to now and a while from now on, until that is told by those behind them.
    pub(super) fn doubt(&mut self) {
        let waiting = self.members.values().map(|member| member.rows.len()).max().unwrap_or(0);
        self.doubtful = waiting + MAX_OPEN_OUTPUTS + 2 * (ALIGNED_BY + MAX_SHIFT);
    }

    /// Leaves out steps that a rank has alone.
    fn align(&mut self) {
        let mut members = self.members.values();
        let Some(first) = members.next() else { return };
        // How many steps each rank has in front of the first rank's.
        let ahead: Vec<i64> = members.map(|member| shift(&first.rows, &member.rows)).collect();
        let of_first = ahead.iter().map(|ahead| -ahead).max().unwrap_or(0).max(0);
        let dropped = std::iter::once(of_first).chain(ahead.iter().map(|ahead| of_first + ahead));
        for (member, count) in self.members.values_mut().zip(dropped) {
            let count = usize::try_from(count).unwrap_or(0).min(member.rows.len());
            member.rows.drain(..count);
            self.alone += count as u64;
        }
    }

    fn step(&mut self, rows: &[(ProcessId, Row)]) {
        self.steps += 1;
        let all_queued = rows.iter().map(|(_, row)| row.queued).max().unwrap_or(0);
        let count = rows[0].1.launched.len();
        let is_alike = rows.iter().all(|(_, row)| row.launched.len() == count);
        self.unlike += u64::from(!is_alike);
        for (process, row) in rows {
            let Some(member) = self.members.get_mut(process) else { continue };
            member.steps += 1;
            member.last += u64::from(row.queued == all_queued);
            let others = rows.iter().filter(|it| it.0 != *process).map(|it| &it.1);
            if is_alike {
                member.measure(row, others.clone());
            }
            member.blame(row, self.doubtful > 0, others);
            member.last_launch = row.launched.last().copied().or(member.last_launch);
        }
        self.output(rows, all_queued);
    }

    /// Whether the output came later than it does as a rule, once all ranks had launched.
    fn output(&mut self, rows: &[(ProcessId, Row)], all_queued: i64) {
        let waits = rows.iter().filter_map(|(id, row)| Some((*id, row, row.handed?)));
        let Some((process, row, handed)) = waits.min_by_key(|it| it.2) else { return };
        let since = self.handed.map_or(all_queued, |before| before.max(all_queued));
        self.handed = Some(handed);
        let model = Model::of(row);
        if self.usual.len() >= MAX_KINDS && !self.usual.contains_key(&model) {
            self.usual.clear();
        }
        let alike = self.usual.entry(model).or_default();
        let usual = usual(alike);
        if alike.len() == MAX_ALIKE {
            alike.pop_front();
        }
        alike.push_back(handed - since);
        let Some(usual) = usual else { return };
        let Some(member) = self.members.get_mut(&process) else { return };
        let overdue = since + usual.max(0);
        for silence in &mut member.silences.open {
            if silence.from < handed && handed <= silence.to + HAND_OVER_NS {
                let ns = handed - overdue.max(silence.from);
                let is_doubtful = self.doubtful > 0;
                silence.is_late(Late { ns, at: Place::Output, step: row.start, is_doubtful });
            }
        }
    }

    /// Up to when all ranks have been compared, less what may still be touched.
    pub(super) fn settled_before(&self) -> Option<i64> {
        let latest = self.members.values().map(|member| member.last_launch);
        latest.min().flatten().map(|latest| latest - KEPT_NS)
    }
}

impl Member {
    /// How late the launches of this rank are behind the same ones of others.
    fn measure<'a>(&mut self, row: &Row, others: impl Iterator<Item = &'a Row> + Clone) {
        for (at, &launched) in row.launched.iter().enumerate() {
            let first = others.clone().filter_map(|other| other.launched.get(at)).min();
            let late = first.map_or(0, |&first| launched - first);
            self.late.add(u64::try_from(late).unwrap_or(0));
        }
    }

    /// Whether a silence of this rank is why its launches are late. A rank that is held up between two
    /// steps may have launches of one in the other, as a pause parts them: so launches are the same
    /// that are as many before the end of their step.
    fn blame<'a>(
        &mut self,
        row: &Row,
        is_doubtful: bool,
        others: impl Iterator<Item = &'a Row> + Clone,
    ) {
        let Some(&last) = row.launched.last() else { return };
        let count = row.launched.len();
        let first = |at: usize| {
            let others = others.clone().map(|other| &other.launched);
            let near = others.filter(|launched| launched.len().abs_diff(count) <= MAX_MOVED);
            near.filter_map(|launched| launched.get((at + launched.len()).saturating_sub(count)))
                .min()
                .copied()
        };
        let before = self.last_launch.unwrap_or(i64::MIN);
        for silence in self.silences.open.iter_mut().filter(|it| before < it.to && it.to <= last) {
            let next = row.launched.partition_point(|&launched| launched < silence.to);
            if let Some(others) = first(next) {
                let ns = silence.to - others.max(silence.from);
                silence.is_late(Late { ns, at: Place::Launch, step: row.start, is_doubtful });
            }
        }
    }
}

/// How many steps `other` has in front of the first of `rows`; negative if it lacks some.
fn shift(rows: &VecDeque<Row>, other: &VecDeque<Row>) -> i64 {
    let cost = |shift: i64| {
        let [of_rows, of_other] =
            [-shift, shift].map(|skipped| usize::try_from(skipped).unwrap_or(0));
        let pairs = rows.iter().skip(of_rows).zip(other.iter().skip(of_other));
        let mut apart: Vec<i64> = pairs
            .take(ALIGNED_BY)
            .map(|(row, other)| {
                let is_unlike = row.launched.len() != other.launched.len();
                (row.start - other.start).abs() + i64::from(is_unlike) * UNLIKE_NS
            })
            .collect();
        apart.sort_unstable();
        apart.get(apart.len() / 2).copied().unwrap_or(i64::MAX)
    };
    let most = i64::try_from(MAX_SHIFT).unwrap_or(i64::MAX);
    // Nothing is left out unless that fits twice as well.
    let found = (-most..=most).map(|shift| (cost(shift), shift)).min();
    found.filter(|&(best, _)| best < cost(0) / 2).map_or(0, |(_, shift)| shift)
}

/// What all but the slowest of the latest steps took.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn usual(alike: &VecDeque<i64>) -> Option<i64> {
    let mut sorted: Vec<i64> = alike.iter().copied().collect();
    sorted.sort_unstable();
    let at = (sorted.len().saturating_sub(1) as f64 * USUAL) as usize;
    sorted.get(at).copied().filter(|_| sorted.len() >= MIN_ALIKE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{context::function::FunctionId, questions::steps::ledger::OutputRead};

    const MS: i64 = 1_000_000;
    const RANKS: [ProcessId; 2] = [ProcessId(0), ProcessId(1)];

    /// A step of 5 ms with three launches, of which the last two wait for the host.
    fn row(number: i64, rank: ProcessId, held_up: i64, handed: i64) -> Row {
        let start = number * 5 * MS + i64::from(rank.0) * MS / 10;
        let launched = vec![start, start + MS + held_up, start + 2 * MS + held_up];
        Row {
            start,
            queued: start + 3 * MS + held_up,
            low: start,
            high: None,
            estimate: None,
            handed: (rank == RANKS[0]).then_some(start + 5 * MS + handed),
            api_ns: 0,
            wait_ns: 0,
            other_wait_ns: 0,
            fingerprint: 1,
            launches: 3,
            graph_launches: 0,
            copies: 1,
            mode: GraphMode::None,
            graph_tokens: None,
            requests: 1,
            tokens: None,
            read: OutputRead::default(),
            is_fed: false,
            is_rested: false,
            is_polled: false,
            works: 0..0,
            queued_last: start,
            launched,
            captured: None,
        }
    }

    fn silence(engine: &mut Engine, rank: ProcessId, from: i64, to: i64) {
        let silences = &mut engine.members.entry(rank).or_default().silences;
        silences.call(from - MS, from, FunctionId(0));
        silences.call(to, to + 1, FunctionId(0));
    }

    #[test]
    fn a_silence_counts_as_far_as_others_wait() {
        let mut engine = Engine::default();
        // Within step 60 rank 1 makes its second launch 20 ms late; rank 0 goes on.
        let start = 60 * 5 * MS + MS / 10;
        silence(&mut engine, RANKS[1], start + MS / 2, start + 21 * MS);
        for number in 0..100 {
            for rank in RANKS {
                let held_up = if number == 60 && rank == RANKS[1] { 20 * MS } else { 0 };
                engine.add(rank, row(number, rank, held_up, held_up));
            }
            engine.compare(false);
        }
        engine.compare(true);
        assert_eq!((engine.steps, engine.unlike, engine.alone), (100, 0, 0));
        let member = &engine.members[&RANKS[1]];
        assert_eq!(member.silences.open[0].late.unwrap().ns, 20 * MS + MS / 10);
        assert_eq!(member.silences.open[0].late.unwrap().at, Place::Launch);
        assert_eq!(member.late.max(), u64::try_from(20 * MS + MS / 10).unwrap());
    }

    #[test]
    fn an_overdue_output_counts_behind_what_is_usual() {
        let mut engine = Engine::default();
        // All have launched; the thread that waits returns 15 ms late.
        let end = 60 * 5 * MS + 5 * MS;
        silence(&mut engine, RANKS[0], end - MS, end + 15 * MS);
        for number in 0..100 {
            for rank in RANKS {
                engine.add(rank, row(number, rank, 0, if number == 60 { 15 * MS } else { 0 }));
            }
        }
        engine.compare(true);
        let late = engine.members[&RANKS[0]].silences.open[0].late.unwrap();
        assert_eq!((late.ns, late.at), (15 * MS, Place::Output));
    }

    /// The longest pause parts two steps: that of a rank that stands still behind its output lies in
    /// front of the launch with which it ends the step before.
    #[test]
    fn a_launch_that_a_pause_has_moved_does_not_hide_who_was_late() {
        let mut engine = Engine::default();
        let start = 60 * 5 * MS + MS / 10;
        silence(&mut engine, RANKS[1], start - MS, start + 29 * MS);
        for number in 0..100 {
            for rank in RANKS {
                let mut row = row(number, rank, 0, 0);
                if rank == RANKS[1] && number == 59 {
                    row.launched.pop();
                }
                if rank == RANKS[1] && number == 60 {
                    row.launched.iter_mut().for_each(|at| *at += 30 * MS);
                    row.launched.insert(0, start + 29 * MS);
                }
                engine.add(rank, row);
            }
            engine.compare(false);
        }
        engine.compare(true);
        assert_eq!((engine.steps, engine.unlike), (100, 2));
        let late = engine.members[&RANKS[1]].silences.open[0].late.unwrap();
        assert_eq!((late.ns, late.at), (29 * MS + MS / 10, Place::Launch));
    }

    #[test]
    fn an_output_of_a_usual_graph_is_overdue_whatever_is_launched_beside_it() {
        let mut engine = Engine::default();
        let end = 60 * 5 * MS + 5 * MS;
        silence(&mut engine, RANKS[0], end - MS, end + 15 * MS);
        for number in 0..100 {
            for rank in RANKS {
                let mut row = row(number, rank, 0, if number == 60 { 15 * MS } else { 0 });
                (row.mode, row.graph_tokens) = (GraphMode::Full, Some(16));
                row.fingerprint = if number == 60 { 7 } else { 1 };
                engine.add(rank, row);
            }
        }
        engine.compare(true);
        let late = engine.members[&RANKS[0]].silences.open[0].late.unwrap();
        assert_eq!((late.ns, late.at), (15 * MS, Place::Output));
    }

    #[test]
    fn ranks_are_compared_at_the_same_step_although_one_lacks_some() {
        for lacks in RANKS {
            let mut engine = Engine::default();
            for number in 0..300 {
                for rank in RANKS {
                    // At the beginning, and in the middle.
                    let is_lacking = number < 2 || (150..155).contains(&number);
                    if rank != lacks || !is_lacking {
                        engine.add(rank, row(number, rank, 0, 0));
                    }
                }
                engine.compare(false);
            }
            engine.compare(true);
            assert_eq!(engine.alone, 7, "{lacks:?}");
            assert_eq!(engine.steps, 293);
            // Steps in front of the lack were compared with later ones, but not many.
            let late = &engine.members[&RANKS[1]].late;
            assert!(late.at(0.8).unwrap() < 200_000, "{lacks:?}");
        }
    }

    #[test]
    fn steps_that_no_other_rank_has_have_a_bound() {
        let mut engine = Engine::default();
        engine.add(RANKS[1], row(0, RANKS[1], 0, 0));
        for number in 0..2000 {
            engine.add(RANKS[0], row(number, RANKS[0], 0, 0));
            engine.compare(false);
        }
        assert!(engine.members[&RANKS[0]].rows.len() <= MAX_WAITING);
        assert_eq!(engine.steps, 0);
    }
}
