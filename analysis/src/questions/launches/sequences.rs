//! Kernels that are launched one after the other, again and again: candidates for a graph, or for one
//! kernel instead of several.
//!
//! Occurrences are disjoint: a launch belongs to one of each sequence. Counts are those of Misra and
//! Gries: when the table is full, all counts go down by as much as frees half of it. The truth lies
//! between a count and the count with all that was taken off.

use std::collections::{HashMap, HashSet};

use crate::context::function::Hasher;

/// How many kernels a sequence has.
const LENGTHS: [usize; 4] = [2, 4, 8, 16];

const LONGEST: usize = 16;

/// Sequences that are counted at once.
const MAX_SEQUENCES: usize = 16_384;

const MAX_THREADS: usize = 4096;

/// Sequences that are told.
const TOLD: usize = 10;

/// Less often is no sequence that is worth a thought.
const MIN_COUNT: u64 = 8;

/// Numbers of kernels, the latest last; `None` where no field tells the kernel.
pub(super) type Kernel = Option<u32>;

#[derive(Debug, Default)]
pub(super) struct Sequences {
    threads: HashMap<(u32, u32), Recent, Hasher>,
    counts: HashMap<u64, Counted, Hasher>,
    /// Taken off every count.
    taken_off: u64,
}

/// What a thread has launched last, without anything between that is no launch into the stream.
#[derive(Debug, Default)]
struct Recent {
    stream: u64,
    /// A ring: kernels with their host time.
    launches: [(Kernel, u64); LONGEST],
    count: u64,
    /// The count with which what is in the ring begins to follow each other.
    since: u64,
}

#[derive(Debug)]
struct Counted {
    kernels: Box<[Kernel]>,
    /// Of the thread's launches, how many there were at the end of the latest.
    latest: u64,
    count: u64,
    host_ns: u64,
}

/// Of all threads.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    host_ns: u64,
}

/// A sequence that is launched often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frequent {
    pub kernels: Vec<Kernel>,
    /// One after the other, without launches that belong to two; at most this and `more`.
    pub count: u64,
    pub more: u64,
    /// Of those that were counted.
    pub host_ns: u64,
}

impl Sequences {
    pub(super) fn launch(&mut self, thread: (u32, u32), stream: u64, kernel: Kernel, ns: u64) {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&thread) {
            self.threads.clear();
        }
        let recent = self.threads.entry(thread).or_default();
        if recent.stream != stream {
            (recent.stream, recent.since) = (stream, recent.count);
        }
        let slot = |count: u64| usize::try_from(count % LONGEST as u64).expect("in the ring");
        recent.launches[slot(recent.count)] = (kernel, ns);
        recent.count += 1;
        let latest = recent.count;
        let back = |by: usize| recent.launches[slot(latest - 1 - by as u64)];
        let following = usize::try_from(latest - recent.since).unwrap_or(LONGEST).min(LONGEST);
        let (mut hash, mut host_ns) = (mix(thread.0.into(), Some(thread.1)), 0_u64);
        let mut found = [(0, 0); LENGTHS.len()];
        let mut lengths = 0;
        for by in 0..following {
            let (kernel, ns) = back(by);
            hash = mix(hash, kernel);
            host_ns = host_ns.saturating_add(ns);
            if LENGTHS.get(lengths) == Some(&(by + 1)) {
                found[lengths] = (hash, host_ns);
                lengths += 1;
            }
        }
        for (at, &(hash, host_ns)) in found.iter().take(lengths).enumerate() {
            if let Some(counted) = self.counts.get_mut(&hash) {
                if latest - counted.latest >= LENGTHS[at] as u64 {
                    counted.latest = latest;
                    counted.count += 1;
                    counted.host_ns = counted.host_ns.saturating_add(host_ns);
                }
                continue;
            }
            let kernels = (0..LENGTHS[at]).rev().map(|by| back(by).0).collect();
            self.counts.insert(hash, Counted { kernels, latest, count: 1, host_ns });
        }
        if self.counts.len() >= MAX_SEQUENCES {
            self.thin_out();
        }
    }

    /// Something else has come between.
    pub(super) fn end(&mut self, thread: (u32, u32)) {
        if let Some(recent) = self.threads.get_mut(&thread) {
            recent.since = recent.count;
        }
    }

    fn thin_out(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().map(|counted| counted.count).collect();
        let middle = counts.len() / 2;
        let (_, &mut off, _) = counts.select_nth_unstable(middle);
        self.counts.retain(|_, counted| {
            let is_kept = counted.count > off;
            // What is left of the count has its part of the time.
            let part = counted.count.saturating_sub(off) as f64 / counted.count as f64;
            counted.count = counted.count.saturating_sub(off);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part")]
            {
                counted.host_ns = (counted.host_ns as f64 * part) as u64;
            }
            is_kept
        });
        self.taken_off = self.taken_off.saturating_add(off);
    }

    /// Those that stand for most launches, longer ones first; none that is but a part of another, or
    /// the same loop begun elsewhere.
    pub(super) fn frequent(&self) -> Vec<Frequent> {
        let mut sums: HashMap<&[Kernel], Sum> = HashMap::new();
        for Counted { kernels, count, host_ns, .. } in self.counts.values() {
            let sum = sums.entry(kernels).or_default();
            sum.count = sum.count.saturating_add(*count);
            sum.host_ns = sum.host_ns.saturating_add(*host_ns);
        }
        // Each thread has counts of its own, from which as much may have been taken.
        let more = self.taken_off.saturating_mul(self.threads.len().max(1) as u64);
        let mut all: Vec<(&[Kernel], Sum)> =
            sums.into_iter().filter(|(_, sum)| sum.count >= MIN_COUNT).collect();
        all.sort_unstable_by_key(|(kernels, sum)| {
            (std::cmp::Reverse(sum.count.saturating_mul(kernels.len() as u64)), *kernels)
        });
        let mut told: Vec<Frequent> = Vec::new();
        let mut pairs: HashSet<[Kernel; 2]> = HashSet::new();
        for (kernels, Sum { count, host_ns }) in all {
            let own: HashSet<[Kernel; 2]> =
                kernels.windows(2).map(|pair| [pair[0], pair[1]]).collect();
            let new = own.difference(&pairs).count();
            if new * 2 <= own.len() {
                continue;
            }
            pairs.extend(own);
            // Where it is a loop, its end and its beginning follow each other too.
            pairs.extend(kernels.last().zip(kernels.first()).map(|(last, first)| [*last, *first]));
            told.push(Frequent { kernels: kernels.to_vec(), count, more, host_ns });
            if told.len() == TOLD {
                break;
            }
        }
        told
    }
}

fn mix(hash: u64, kernel: Kernel) -> u64 {
    let word = kernel.map_or(0, |kernel| u64::from(kernel) + 1);
    (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x85eb_ca6b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_kernels_is_told_once() {
        let mut sequences = Sequences::default();
        for step in 0..100_u32 {
            for launch in 0..160 {
                sequences.launch((1, 1), 7, Some(launch % 8), 10);
            }
            sequences.end((1, 1));
            // Another thread does not come between.
            sequences.launch((1, 2), 8, Some(1000 + step), 10);
        }
        let frequent = sequences.frequent();
        let kernels = &frequent[0].kernels;
        assert_eq!(kernels.len(), 8);
        assert!(kernels.windows(2).all(|pair| pair[1] == pair[0].map(|it| (it + 1) % 8)));
        assert_eq!((frequent[0].count, frequent[0].more, frequent[0].host_ns), (2000, 0, 160_000));
        assert_eq!(frequent.len(), 1, "{frequent:?}");
    }

    #[test]
    fn the_truth_lies_within_the_error_when_memory_is_short() {
        let mut sequences = Sequences::default();
        let mut random = 1_u32;
        let mut truth = 0;
        for _ in 0..60_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sequences.launch((1, 1), 7, Some(100 + (random >> 8)), 1);
            if random >> 28 == 0 {
                sequences.launch((1, 1), 7, Some(1), 1);
                sequences.launch((1, 1), 7, Some(2), 1);
                truth += 1;
            }
        }
        assert!(sequences.counts.len() <= MAX_SEQUENCES && sequences.taken_off > 0);
        let frequent = sequences.frequent();
        let pair = frequent.iter().find(|it| it.kernels == [Some(1), Some(2)]).unwrap();
        assert!(pair.count <= truth && truth <= pair.count + pair.more, "{pair:?} {truth}");
    }
}
