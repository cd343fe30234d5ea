//! A window of `torch.profiler` in the timeline: what the GPU did, from CUPTI, with flows from the
//! launches of this trace.
//!
//! The profile's calls are matched with the trace's thread by thread, see [`align`]; the matched ones
//! tell how far the two clocks are apart. A file that does not match is named, and nothing of it shown.

mod align;
mod kineto;
mod write;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hasher as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use trace::call_view::CallView;

use self::{
    align::Queued,
    kineto::{Activity, Profile, launching},
};
use super::super::steps::operation::Operation;
use crate::{
    context::{
        Context,
        function::{ByName, Hasher},
    },
    question::Call,
};

pub(super) use self::write::Written;

/// The profiler's clock is that of the node, to so much.
const MARGIN_NS: i64 = 10_000_000_000;

/// Of our own calls around the profile.
const MAX_CALLS: usize = 1_000_000;

/// By the threads with most launches the clocks are found: so many of the profile, and of the trace.
const MAX_LEADING: usize = 8;
const MAX_LED: usize = 64;

/// Of all pairs of threads.
const MAX_THREADS: usize = 1024;

/// Fewer launches prove nothing.
const MIN_MATCHED: usize = 8;

/// Bounds of the clocks that contradict each other by more are those of other calls.
const MAX_CONTRADICTION_NS: i64 = 20_000;

/// Flows to the GPU have other numbers than those to steps.
const TO_GPU: u64 = 1 << 63;

pub(super) struct Merge {
    path: PathBuf,
    profile: Result<Profile, String>,
    /// Between these times of day lies what may match.
    window: (i64, i64),
    functions: ByName<Option<(Operation, bool)>>,
    /// By process and thread.
    calls: BTreeMap<(u32, u32), Vec<Ours>>,
    count: usize,
    left_out: u64,
}

/// A call of the trace; times are those of the timeline.
#[derive(Debug, Clone, Copy)]
struct Ours {
    queued: Queued,
    flow: u64,
}

/// A profile that fits the trace.
struct Joined {
    /// Ours less theirs lies between.
    bounds: (i64, i64),
    /// By place among the profile's launches: the flow and the begin of our call.
    launches: Vec<Option<(u64, i64)>>,
    threads: Vec<SameThread>,
}

/// Process and thread as both number them, and how many launches have matched. Of ours there are several
/// where threads had one number one after the other, see [`Merge::at`].
struct SameThread {
    theirs: (i64, i64),
    ours: Vec<(u32, u32)>,
    launches: usize,
}

impl Merge {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let profile = kineto::read(path)?;
        let mut window = (i64::MAX, i64::MIN);
        if let Ok(profile) = &profile {
            for launch in &profile.launches {
                let (begin, end) = window;
                window = (begin.min(launch.begin), end.max(launch.end));
            }
        }
        let (begin, end) = window;
        Ok(Self {
            path: path.to_owned(),
            profile,
            window: (begin.saturating_sub(MARGIN_NS), end.saturating_add(MARGIN_NS)),
            functions: ByName::default(),
            calls: BTreeMap::new(),
            count: 0,
            left_out: 0,
        })
    }

    /// The flow from an outermost call to what the GPU may have done of it.
    pub(super) fn call(
        &mut self,
        call: &Call<'_>,
        (begin, end): (u64, Option<u64>),
        context: &Context,
    ) -> Option<u64> {
        if call.line.depth.unwrap_or(0) > 0 {
            return None;
        }
        let (begin, end) = (i64::try_from(begin).ok()?, i64::try_from(end?).ok()?);
        let (from, to) = self.window;
        if end < from || begin > to {
            return None;
        }
        let (operation, is_runtime) =
            self.functions.get(call.function, &context.functions, |name| {
                launching(name).map(|operation| (operation, name.starts_with("cuda")))
            })?;
        if self.count >= MAX_CALLS {
            self.left_out += 1;
            return None;
        }
        self.count += 1;
        let flow = TO_GPU | self.count as u64;
        let queued = Queued { begin, end, operation, is_runtime, shape: shape_of_call(call.line) };
        let thread = (call.line.pid, call.line.tid.unwrap_or(0));
        self.calls.entry(thread).or_default().push(Ours { queued, flow });
        Some(flow)
    }

    /// Which launches of the profile are which of the trace.
    fn join(&self, profile: &Profile) -> Result<Joined, String> {
        if self.calls.is_empty() {
            return Err(elsewhere(profile));
        }
        let theirs = profile.by_thread();
        let mut threads: Vec<_> = self.calls.iter().collect();
        threads.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.len()));
        let ours: Vec<(&(u32, u32), Vec<Queued>)> = threads
            .into_iter()
            .take(MAX_THREADS)
            .map(|(thread, calls)| {
                let mut queued: Vec<Queued> = calls.iter().map(|call| call.queued).collect();
                queued.sort_by_key(|it| it.begin);
                (thread, queued)
            })
            .collect();
        let mut leading: Vec<usize> = (0..theirs.len()).collect();
        leading.sort_by_key(|&at| std::cmp::Reverse(theirs[at].1.len()));
        leading.truncate(MAX_LEADING);
        let mut led: Vec<usize> =
            (0..ours.len()).filter(|&at| ours[at].1.len() >= MIN_MATCHED).collect();
        led.sort_by_key(|&at| std::cmp::Reverse(ours[at].1.len()));
        led.truncate(MAX_LED);
        // Score and offset of each.
        let mut best: Vec<(i64, i64)> = Vec::new();
        for &at in &leading {
            for &led in &led {
                let fits = align::fits(&theirs[at].1, &ours[led].1);
                best.extend(fits.iter().map(|fit| (fit.score(), fit.offset)));
            }
        }
        best.sort_by_key(|&(score, offset)| (-score, offset));
        let all: usize = theirs.iter().map(|(_, calls, _)| calls.len()).sum();
        let Some(&(score, offset)) = best.first() else {
            return Err(
                "has too few launches to be matched with those of the trace: record a longer \
                 window"
                    .to_owned(),
            );
        };
        // The same clocks by another thread are no other fit.
        let rival = best.iter().find(|(_, other)| other.abs_diff(offset) > align::SAME_NS);
        let joined = self.at(offset, profile, &theirs, &ours);
        let matched = joined.launches.iter().flatten().count();
        let (low, high) = joined.bounds;
        if matched < MIN_MATCHED
            || matched * 2 < all
            || low.saturating_sub(high) > MAX_CONTRADICTION_NS
        {
            return Err(format!(
                "is of another process or time: of its {all} launches {matched} at most fit those of \
                 the trace"
            ));
        }
        if align::is_ambiguous(score, rival.map(|&(score, _)| score)) {
            return Err(
                "fits the trace at several times: its launches are too few, or too regular; record a \
                 longer window"
                    .to_owned(),
            );
        }
        Ok(joined)
    }

    /// Each thread of the profile with that of the trace that has most of its launches.
    ///
    /// A thread that Kineto does not know has half of its `pthread_t` for a number, which the threads
    /// behind it get again: its launches are then those of several of ours, one after the other.
    fn at(
        &self,
        offset: i64,
        profile: &Profile,
        theirs: &[(u32, Vec<Queued>, Vec<usize>)],
        ours: &[(&(u32, u32), Vec<Queued>)],
    ) -> Joined {
        let mut joined = Joined {
            bounds: (i64::MIN, i64::MAX),
            launches: vec![None; profile.launches.len()],
            threads: Vec::new(),
        };
        let mut taken = vec![false; ours.len()];
        let mut order: Vec<usize> = (0..theirs.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(theirs[at].1.len()));
        let mut weight = 0;
        for at in order.into_iter().take(MAX_THREADS) {
            let (thread, calls, places) = &theirs[at];
            let parts = parts(calls, ours, &taken, offset);
            // Fits are large, so that of each part is made anew.
            let fits: Vec<_> = parts
                .into_iter()
                .map(|number| (number, align::at(calls, &ours[number].1, offset)))
                .collect();
            let launches: usize = fits.iter().map(|(_, fit)| fit.pairs.len()).sum();
            if launches == 0 || launches * 2 < calls.len() {
                continue;
            }
            let mut same = SameThread {
                theirs: profile.threads[*thread as usize],
                ours: Vec::new(),
                launches,
            };
            for (number, fit) in fits {
                taken[number] = true;
                let (key, queued) = &ours[number];
                // All threads have the same clocks: that with most launches bounds them.
                if fit.pairs.len() > weight {
                    weight = fit.pairs.len();
                    joined.bounds = fit.bounds(calls, queued);
                }
                let own: HashMap<i64, u64, Hasher> =
                    self.calls[*key].iter().map(|call| (call.queued.begin, call.flow)).collect();
                for &(one, other) in &fit.pairs {
                    let begin = queued[other as usize].begin;
                    let flow = own.get(&begin).copied();
                    joined.launches[places[one as usize]] = flow.map(|flow| (flow, begin));
                }
                same.ours.push(**key);
            }
            joined.threads.push(same);
        }
        joined
    }
}

/// The places of our threads that are one of the profile: first the one that fits best, then those that
/// launched before it began or after it ended.
fn parts(
    calls: &[Queued],
    ours: &[(&(u32, u32), Vec<Queued>)],
    taken: &[bool],
    offset: i64,
) -> Vec<usize> {
    let mut candidates: Vec<(i64, u64, usize)> = Vec::new();
    for (number, (_, queued)) in ours.iter().enumerate().filter(|(number, _)| !taken[*number]) {
        let fit = align::at(calls, queued, offset);
        let (from, to) = lifetime(queued);
        let begun = |ns: i64| calls.partition_point(|call| call.begin.saturating_add(offset) < ns);
        let meanwhile = begun(to) - begun(from);
        if fit.score() > 0 && fit.pairs.len() * 2 >= meanwhile {
            candidates.push((-fit.score(), fit.distance(calls, queued), number));
        }
    }
    candidates.sort_unstable();
    let mut chosen: Vec<usize> = Vec::new();
    let mut lifetimes: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, _, number) in candidates {
        let (from, to) = lifetime(&ours[number].1);
        // Those that are chosen do not overlap, so that the last to begin is the last to end.
        if lifetimes.range(..=to).next_back().is_none_or(|(_, end)| *end < from) {
            lifetimes.insert(from, to);
            chosen.push(number);
        }
    }
    chosen
}

/// As far as launches tell it; these are in the order of their times.
fn lifetime(queued: &[Queued]) -> (i64, i64) {
    let end = queued.iter().map(|call| call.end).max();
    (queued.first().map_or(0, |call| call.begin), end.unwrap_or(0))
}

impl Profile {
    /// Number of the thread, its launches, and their places among all.
    fn by_thread(&self) -> Vec<(u32, Vec<Queued>, Vec<usize>)> {
        let mut shapes: HashMap<u64, (Option<u64>, u32)> = HashMap::new();
        for activity in &self.activities {
            let (_, count) = shapes
                .entry(activity.correlation)
                .or_insert_with(|| (shape_of_activity(activity), 0));
            *count += 1;
        }
        let mut threads: BTreeMap<u32, (Vec<Queued>, Vec<usize>)> = BTreeMap::new();
        for (place, launch) in self.launches.iter().enumerate() {
            // A graph has many: their shapes are not in its call.
            let shape = shapes.get(&launch.correlation).filter(|(_, count)| *count == 1);
            let is_graph = launch.operation == Operation::GraphLaunch;
            let (calls, places) = threads.entry(launch.thread).or_default();
            calls.push(Queued {
                begin: launch.begin,
                end: launch.end,
                operation: launch.operation,
                is_runtime: launch.is_runtime,
                shape: shape.and_then(|(shape, _)| *shape).filter(|_| !is_graph),
            });
            places.push(place);
        }
        let threads = threads.into_iter().map(|(thread, (calls, places))| (thread, calls, places));
        threads.collect()
    }
}

/// The file is of another time.
fn elsewhere(profile: &Profile) -> String {
    let time = |ns: Option<i64>| {
        let time = ns.and_then(|ns| jiff::Timestamp::from_nanosecond(ns.into()).ok());
        time.map_or_else(|| "an unknown time".to_owned(), |time| format!("{time:.3}"))
    };
    let (first, last) = (profile.launches.first(), profile.launches.last());
    format!(
        "goes from {} to {}: the trace has no launch within 10 s of it",
        time(first.map(|it| it.begin)),
        time(last.map(|it| it.end))
    )
}

fn shape_of_call(line: &CallView<'_>) -> Option<u64> {
    match line.grid.zip(line.block) {
        Some(grid_and_block) => Some(hash(&grid_and_block)),
        // Of copies; a fill says values, not bytes, and a copy of an array its rows.
        None => line.bytes.map(|bytes| hash(&bytes)),
    }
}

fn shape_of_activity(activity: &Activity) -> Option<u64> {
    match activity.grid.zip(activity.block) {
        Some(grid_and_block) => Some(hash(&grid_and_block)),
        None => activity.bytes.map(|bytes| hash(&bytes)),
    }
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
