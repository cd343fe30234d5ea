//! Launches that block, as the queue of the GPU is full.
//!
//! No call says how many launches are queued. A run of launches tells it that take several times
//! their usual time, so that the thread does little else, after so many launches since it last waited
//! for the GPU that they may fill the queue.

use std::collections::HashMap;

use crate::{
    context::{
        Place,
        function::{FunctionId, Hasher},
    },
    quantiles::Quantiles,
};

/// A launch is long if it takes this many times the usual, and so much more.
const LONG_LAUNCH: u64 = 4;
const LONG_LAUNCH_NS: u64 = 10_000;

/// The usual is what a quarter of all launches stay below: those that block are in the other part.
const USUAL: f64 = 0.25;
const LEARNT_FROM: u64 = 512;

/// So many launches are long before the queue is taken to be full, and so many short ones end that.
const MIN_LONG: u32 = 16;
const MAX_SHORT: u32 = 16;

/// Launches that a full queue holds at least; 1024 are known of real ones.
const MIN_QUEUED: u64 = 512;

const MAX_THREADS: usize = 4096;
const MAX_FUNCTIONS: usize = 64;

/// Launches of which many blocked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub from: i64,
    pub to: i64,
    /// Launches that were long.
    pub long: u32,
    /// What these took beyond their usual time.
    pub excess_ns: u64,
    /// Launches before it, since the last wait but one.
    pub queued: u64,
    pub function: FunctionId,
    /// Of the first one.
    pub place: Place,
    short: u32,
}

/// How long launches by one function take.
#[derive(Debug, Default)]
struct Usual {
    durations: Quantiles,
    usual_ns: Option<u64>,
}

/// Of one process.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    functions: HashMap<FunctionId, Usual, Hasher>,
    runs: HashMap<u32, Run, Hasher>,
    launches: u64,
    /// How many there were at the latest two waits.
    at_waits: [u64; 2],
}

impl Blocked {
    /// Work that takes a place in the queue.
    pub(super) fn queued(&mut self) {
        self.launches += 1;
    }

    /// A launch of a kernel, which is queued already. Returns the run that it ends, if any.
    pub(super) fn launch(
        &mut self,
        tid: u32,
        function: FunctionId,
        place: Place,
        from: i64,
        took_ns: u64,
    ) -> Option<Run> {
        if self.functions.len() >= MAX_FUNCTIONS && !self.functions.contains_key(&function) {
            return None;
        }
        let usual = self.functions.entry(function).or_default();
        usual.durations.add(took_ns);
        if usual.durations.count().is_multiple_of(LEARNT_FROM) {
            usual.usual_ns = usual.durations.at(USUAL);
        }
        let usual_ns = usual.usual_ns?;
        let excess_ns = took_ns.saturating_sub(usual_ns);
        let is_long =
            took_ns >= usual_ns.saturating_mul(LONG_LAUNCH) && excess_ns >= LONG_LAUNCH_NS;
        let to = from.saturating_add_unsigned(took_ns);
        let has_room = self.runs.len() < MAX_THREADS;
        match self.runs.get_mut(&tid) {
            None if is_long && has_room => {
                let queued = self.launches - self.at_waits[0];
                let run = Run { from, to, long: 1, short: 0, excess_ns, queued, function, place };
                self.runs.insert(tid, run);
                None
            }
            None => None,
            Some(run) if is_long => {
                run.to = to;
                run.long = run.long.saturating_add(1);
                run.short = 0;
                run.excess_ns = run.excess_ns.saturating_add(excess_ns);
                None
            }
            Some(run) => {
                run.short += 1;
                if run.short > MAX_SHORT { self.end(tid) } else { None }
            }
        }
    }

    /// The thread has waited for the GPU.
    pub(super) fn wait(&mut self, tid: u32) -> Option<Run> {
        self.at_waits = [self.at_waits[1], self.launches];
        self.end(tid)
    }

    /// No more calls come.
    pub(super) fn finish(&mut self) -> Vec<Run> {
        let threads: Vec<u32> = self.runs.keys().copied().collect();
        threads.into_iter().filter_map(|tid| self.end(tid)).collect()
    }

    fn end(&mut self, tid: u32) -> Option<Run> {
        let run = self.runs.remove(&tid)?;
        let Run { from, to, long, excess_ns, queued, .. } = run;
        // Most of the time went into launches that were longer than usual.
        let is_blocked = excess_ns.saturating_mul(2) >= to.saturating_sub(from).unsigned_abs();
        (long >= MIN_LONG && is_blocked && queued >= MIN_QUEUED).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Launches of 3 us; `blocking` ones of 90 us behind so many others, and what was found.
    fn found(queued: u64, blocking: u64) -> Vec<Run> {
        let mut blocked = Blocked::default();
        let mut now = 0;
        let mut runs = Vec::new();
        for step in 0..4 {
            for at in 0..queued + blocking {
                let took_ns = if step > 0 && at >= queued { 90_000 } else { 3000 };
                blocked.queued();
                runs.extend(blocked.launch(1, FunctionId(0), Place::default(), now, took_ns));
                now += i64::try_from(took_ns).unwrap() + 1000;
            }
            runs.extend(blocked.wait(1));
        }
        runs.extend(blocked.finish());
        runs
    }

    #[test]
    fn long_launches_behind_many_others_are_blocked() {
        let runs = found(1024, 100);
        assert_eq!(runs.len(), 3, "{runs:?}");
        assert!(runs.iter().all(|run| run.long == 100 && run.queued >= 1024), "{runs:?}");
        let is_excess = |run: &Run| run.excess_ns.abs_diff(100 * 87_000) < 10_000;
        assert!(runs.iter().all(is_excess), "{runs:?}");
        assert!(found(1024, 10).is_empty(), "too few");
        assert!(found(150, 20).is_empty(), "the queue cannot be full");
    }
}
