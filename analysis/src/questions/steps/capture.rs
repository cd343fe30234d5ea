//! What an executable graph was captured from: how many kernels, and for how many tokens.
//!
//! vLLM captures one graph for each padded number of tokens. No argument says that number, the grids
//! do: kernels that work token by token (norms, the cache of keys and values) have one block each.
//! So the number is the width of the grid that most launches of a graph have, among kernels whose
//! grids differ from capture to capture as often as any kernel's do. That leaves out kernels of a
//! constant grid, and such as stop growing at some number of blocks (collectives).
//!
//! A norm of short rows may have one block for several tokens. That is seen where its grid is that of
//! another kernel divided and rounded up, see [`Packing`]; then the other one's grid counts.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use super::fingerprint::Fingerprint;
use crate::context::function::Hasher;

/// Graphs, and executable graphs, of a process that are kept.
const MAX_GRAPHS: usize = 1 << 16;

/// Different grids of a kernel that are told apart.
const MAX_WIDTHS: usize = 256;

/// Kernels of a process.
const MAX_KERNELS: usize = 1 << 16;

/// Kernels and widths in the votes of one graph or step.
const MAX_VOTES: usize = 256;

/// Captures and steps of different grids whose grids are compared, and kernels of each.
const MAX_SEEN: usize = 1024;
const MAX_SINGLES: usize = 64;

/// Pairs of kernels that are compared.
const MAX_PAIRS: usize = 1 << 16;

/// Tokens of one block.
const MAX_PACKED: u32 = 8;

/// A kernel takes part if its grid took at least this part of the sizes that any kernel's took.
const OFTEN: f64 = 0.9;

/// How often each kernel was launched with a grid of one dimension, by its width.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Votes(Vec<Vote>);

#[derive(Debug, Clone, PartialEq)]
struct Vote {
    kernel: u64,
    width: u32,
    count: u32,
}

impl Votes {
    pub(super) fn launch(&mut self, kernel: u64, grid: Option<[u32; 3]>) {
        if let Some([width, 1, 1]) = grid {
            self.add(kernel, width, 1);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for vote in &other.0 {
            self.add(vote.kernel, vote.width, vote.count);
        }
    }

    fn add(&mut self, kernel: u64, width: u32, count: u32) {
        let is_same = |vote: &&mut Vote| vote.kernel == kernel && vote.width == width;
        if let Some(vote) = self.0.iter_mut().find(is_same) {
            vote.count += count;
        } else if self.0.len() < MAX_VOTES {
            self.0.push(Vote { kernel, width, count });
        }
    }

    /// Of each kernel the width that most of its launches have; of several the least.
    fn usual(&self) -> Vec<(u64, u32)> {
        let mut usual: Vec<&Vote> = Vec::new();
        for vote in &self.0 {
            match usual.iter_mut().find(|other| other.kernel == vote.kernel) {
                Some(other) if (vote.count, other.width) > (other.count, vote.width) => {
                    *other = vote;
                }
                Some(_) => {}
                None => usual.push(vote),
            }
        }
        usual.into_iter().map(|vote| (vote.kernel, vote.width)).collect()
    }

    /// The width that most launches have; of several the least. `None` if it is not known.
    fn winner(
        &self,
        takes_part: impl Fn(u64) -> bool,
        width_of: impl Fn(&Vote) -> Option<u32>,
    ) -> Option<u32> {
        let mut counts: Vec<(Option<u32>, u32)> = Vec::new();
        for vote in self.0.iter().filter(|vote| takes_part(vote.kernel)) {
            let of_vote = width_of(vote);
            match counts.iter_mut().find(|(width, _)| *width == of_vote) {
                Some((_, count)) => *count += vote.count,
                None => counts.push((of_vote, vote.count)),
            }
        }
        let order = |width: Option<u32>| u32::MAX - width.unwrap_or(0);
        counts.into_iter().max_by_key(|&(width, count)| (count, order(width)))?.0
    }
}

/// The widths of each kernel's grids in captures, and in steps without graphs.
#[derive(Debug, Default)]
pub(super) struct Widths {
    of: HashMap<u64, Vec<u32>, Hasher>,
    /// Of a capture or step the usual width of each kernel.
    seen: Vec<Vec<(u64, u32)>>,
    is_seen: HashSet<Vec<(u64, u32)>, Hasher>,
    /// By kernel: the others that it was launched with.
    packings: HashMap<u64, Vec<(u64, Packing)>, Hasher>,
    pairs: usize,
}

/// Whether a kernel's width is that of another one divided and rounded up.
#[derive(Debug, Clone, Copy)]
struct Packing {
    /// Bit by bit: it may be divided by so much.
    possible: u16,
    /// It was rounded up: the other kernel's width is no multiple in any case.
    rounded: u16,
    /// Of the other one.
    divisor: u32,
    most: u32,
}

impl Packing {
    const NONE: Self = Self { possible: u16::MAX, rounded: 0, divisor: 0, most: 0 };

    fn add(&mut self, width: u32, other: u32) {
        for by in 2..=MAX_PACKED {
            if other.div_ceil(by) != width {
                self.possible &= !(1 << by);
            }
            if !other.is_multiple_of(by) {
                self.rounded |= 1 << by;
            }
        }
        self.divisor = greatest_divisor(self.divisor, other);
        self.most = self.most.max(other);
    }

    /// How many of the other's blocks are in one, where enough of them were seen. Widths that have a
    /// divisor are those of a kernel with several blocks for a token.
    fn by(self) -> Option<u32> {
        let is_proved =
            |by: &u32| self.possible & self.rounded & (1 << by) != 0 && self.most >= 16 * by;
        (2..=MAX_PACKED).find(is_proved).filter(|_| self.divisor == 1)
    }
}

fn greatest_divisor(mut one: u32, mut other: u32) -> u32 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

impl Widths {
    /// How many tokens these launches were for. What is not known here of blocks for several tokens may
    /// be known of the other widths.
    pub(super) fn tokens(&self, votes: &Votes, others: &Self) -> Option<u32> {
        let widths_of = |kernel: u64| self.of.get(&kernel).map_or(0, Vec::len);
        let most = votes.0.iter().map(|vote| widths_of(vote.kernel)).max()?;
        // Of a few sizes one more or less tells nothing.
        let least = (most as f64 * OFTEN).min(most as f64 - 1.0).max(2.0);
        let usual = votes.usual();
        let width_of = |vote: &Vote| {
            let is_here = self.packed(vote.kernel).next().is_some();
            if is_here { self } else { others }.unpacked(vote, &usual)
        };
        let takes_part = |kernel: u64| widths_of(kernel) as f64 >= least;
        if votes.0.iter().any(|vote| takes_part(vote.kernel)) {
            votes.winner(takes_part, width_of)
        } else {
            votes.winner(|_| true, width_of)
        }
    }

    /// The width, or where that is of blocks for several tokens the one of the kernel with one for each.
    fn unpacked(&self, vote: &Vote, usual: &[(u64, u32)]) -> Option<u32> {
        let mut packed = self.packed(vote.kernel).peekable();
        if packed.peek().is_none() {
            return Some(vote.width);
        }
        // Not one that is packed itself.
        let (_, other) = packed.filter(|(_, other)| self.packed(*other).next().is_none()).min()?;
        if let Some((_, width)) = usual.iter().find(|(kernel, _)| *kernel == other) {
            return Some(*width);
        }
        // It is not among these launches, as the cache's is in no piece: what was it where they are alike?
        let mut widths: BTreeSet<u32> = BTreeSet::new();
        for seen in &self.seen {
            let width = |kernel: u64| {
                seen.binary_search_by_key(&kernel, |it| it.0).ok().map(|at| seen[at].1)
            };
            let is_alike = width(vote.kernel) == Some(vote.width)
                && usual.iter().all(|&(kernel, own)| width(kernel).is_none_or(|it| it == own));
            if let Some(of_other) = width(other).filter(|_| is_alike) {
                widths.insert(of_other);
            }
        }
        widths.first().copied().filter(|_| widths.len() == 1)
    }

    /// The kernels whose blocks a kernel has several of in one, and how many.
    fn packed(&self, kernel: u64) -> impl Iterator<Item = (u32, u64)> {
        let packings = self.packings.get(&kernel).into_iter().flatten();
        packings.filter_map(|(other, packing)| Some((packing.by()?, *other)))
    }

    /// Launches of a capture, or of a step without graphs.
    pub(super) fn learn(&mut self, votes: &Votes) {
        let mut usual = votes.usual();
        usual.sort_unstable();
        for &(kernel, width) in &usual {
            if self.of.len() >= MAX_KERNELS && !self.of.contains_key(&kernel) {
                continue;
            }
            let widths = self.of.entry(kernel).or_default();
            if let Err(at) = widths.binary_search(&width)
                && widths.len() < MAX_WIDTHS
            {
                widths.insert(at, width);
            }
        }
        usual.truncate(MAX_SINGLES);
        if self.seen.len() >= MAX_SEEN || !self.is_seen.insert(usual.clone()) {
            return;
        }
        for &(kernel, width) in &usual {
            for &(other, of_other) in usual.iter().filter(|(other, _)| *other != kernel) {
                let packings = self.packings.entry(kernel).or_default();
                if let Some((_, packing)) = packings.iter_mut().find(|it| it.0 == other) {
                    packing.add(width, of_other);
                } else if self.pairs < MAX_PAIRS {
                    self.pairs += 1;
                    let mut packing = Packing::NONE;
                    packing.add(width, of_other);
                    packings.push((other, packing));
                }
            }
        }
        self.seen.push(usual);
    }
}

/// The launches of a captured graph.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub launches: u32,
    pub votes: Votes,
    pub fingerprint: Fingerprint,
}

#[derive(Debug)]
struct Open {
    /// The stream of the beginning, and those that joined it.
    streams: Vec<u64>,
    events: Vec<u64>,
    captured: Captured,
}

/// Captures, graphs and executable graphs of one process.
#[derive(Debug, Default)]
pub(super) struct Captures {
    open: Vec<Open>,
    graphs: HashMap<u64, Rc<Captured>, Hasher>,
    executables: HashMap<u64, Rc<Captured>, Hasher>,
    pub widths: Widths,
}

impl Captures {
    pub(super) fn begin(&mut self, stream: u64) {
        self.open.retain(|open| open.streams[0] != stream);
        self.open.push(Open {
            streams: vec![stream],
            events: Vec::new(),
            captured: Captured::default(),
        });
    }

    pub(super) fn end(&mut self, stream: u64, graph: Option<u64>) {
        let Some(at) = self.open.iter().position(|open| open.streams[0] == stream) else { return };
        let open = self.open.swap_remove(at);
        self.widths.learn(&open.captured.votes);
        if let Some(graph) = graph
            && self.graphs.len() < MAX_GRAPHS
        {
            self.graphs.insert(graph, Rc::new(open.captured));
        }
    }

    pub(super) fn forget_open(&mut self) {
        self.open.clear();
    }

    /// Whether work of this stream is written down instead of done.
    pub(super) fn is_capturing(&self, stream: u64) -> bool {
        self.open.iter().any(|open| open.streams.contains(&stream))
    }

    /// False if the launch is done now.
    pub(super) fn launch(
        &mut self,
        stream: u64,
        kernel: u64,
        grid: Option<[u32; 3]>,
        shape: &[u64],
    ) -> bool {
        let Some(open) = self.open.iter_mut().find(|open| open.streams.contains(&stream)) else {
            return false;
        };
        open.captured.launches += 1;
        open.captured.votes.launch(kernel, grid);
        open.captured.fingerprint.add(shape);
        true
    }

    /// False if the event is recorded now.
    pub(super) fn record(&mut self, event: u64, stream: u64) -> bool {
        for open in &mut self.open {
            open.events.retain(|&other| other != event);
        }
        let Some(open) = self.open.iter_mut().find(|open| open.streams.contains(&stream)) else {
            return false;
        };
        open.events.push(event);
        true
    }

    /// A stream that waits for an event of a capture belongs to it. False if it waits now.
    pub(super) fn stream_wait(&mut self, stream: u64, event: u64) -> bool {
        let Some(open) = self.open.iter_mut().find(|open| open.events.contains(&event)) else {
            return self.is_capturing(stream);
        };
        if !open.streams.contains(&stream) {
            open.streams.push(stream);
        }
        true
    }

    pub(super) fn instantiate(&mut self, graph: Option<u64>, executable: Option<u64>) {
        let Some(executable) = executable else { return };
        self.executables.remove(&executable);
        if let Some(captured) = graph.and_then(|graph| self.graphs.get(&graph))
            && self.executables.len() < MAX_GRAPHS
        {
            self.executables.insert(executable, Rc::clone(captured));
        }
    }

    pub(super) fn forget_graph(&mut self, graph: u64) {
        self.graphs.remove(&graph);
    }

    /// It is given back, or has been changed.
    pub(super) fn forget_executable(&mut self, executable: u64) {
        self.executables.remove(&executable);
    }

    pub(super) fn executable(&self, executable: u64) -> Option<&Rc<Captured>> {
        self.executables.get(&executable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(captures: &mut Captures, tokens: u32, graph: u64) {
        captures.begin(7);
        for layer in 0..4 {
            for (kernel, width) in [(1, tokens), (2, 132), (3, tokens.min(36)), (4, 4 * tokens)] {
                assert!(captures.launch(7, kernel, Some([width, 1, 1]), &[kernel, layer]));
            }
            // Twice a layer, and so as often as the kernel with one block for each token.
            assert!(captures.launch(7, 3, Some([tokens.min(36), 1, 1]), &[3]));
            assert!(captures.launch(7, 1, Some([tokens, 1, 1]), &[1]));
        }
        captures.end(7, Some(graph));
        captures.instantiate(Some(graph), Some(graph + 1000));
        captures.forget_graph(graph);
    }

    #[test]
    fn the_number_of_tokens_is_the_width_that_grows_with_it() {
        let mut captures = Captures::default();
        let sizes = [512, 256, 128, 64, 32, 16, 8, 4, 2, 1];
        for (graph, &tokens) in (0..).zip(&sizes) {
            capture(&mut captures, tokens, graph);
        }
        for (graph, &tokens) in (0..).zip(&sizes) {
            let captured = captures.executable(graph + 1000).unwrap();
            assert_eq!(captured.launches, 24);
            assert_eq!(captures.widths.tokens(&captured.votes, &captures.widths), Some(tokens));
        }
        assert!(!captures.launch(7, 1, None, &[]), "the capture is over");
    }

    /// By layer: two norms with a block for two tokens, rotary with two blocks for one, an activation
    /// with five and a half, and in graphs of the whole model the cache with one.
    fn capture_packed(captures: &mut Captures, tokens: u32, graph: u64, is_whole: bool) {
        captures.begin(7);
        for _ in 0..4 {
            let mut launch = |kernel: u64, width: u32| {
                assert!(captures.launch(7, kernel, Some([width, 1, 1]), &[kernel]));
            };
            launch(1, tokens.div_ceil(2));
            launch(1, tokens.div_ceil(2));
            launch(6, tokens.div_ceil(4));
            launch(2, 2 * tokens);
            launch(3, (11 * tokens).div_ceil(2));
            launch(4, 132);
            if is_whole {
                launch(5, tokens);
            }
        }
        captures.end(7, Some(graph));
        captures.instantiate(Some(graph), Some(graph));
    }

    #[test]
    fn blocks_for_several_tokens_are_told_by_those_for_one() {
        let sizes: Vec<u32> = [1, 2, 4].into_iter().chain((8..=512).step_by(8)).collect();
        let mut captures = Captures::default();
        for (graph, &tokens) in (0..).zip(&sizes) {
            capture_packed(&mut captures, tokens, graph, false);
        }
        for (graph, &tokens) in (1000..).zip(&sizes) {
            capture_packed(&mut captures, tokens, graph, true);
        }
        // One that no graph of the whole model tells.
        capture_packed(&mut captures, 1000, 5000, false);
        let widths = &captures.widths;
        let size = |graph: u64| {
            widths.tokens(&captures.executable(graph).unwrap().votes, &Widths::default())
        };
        for (graph, &tokens) in (0..).zip(&sizes) {
            assert_eq!(size(graph), Some(tokens), "of a piece");
            assert_eq!(size(1000 + graph), Some(tokens), "of the whole model");
        }
        assert_eq!(size(5000), None);
        // A step without a graph, when none of those was seen yet.
        let mut step = Votes::default();
        for (kernel, width, count) in [(1, 1648, 33), (5, 3296, 16), (2, 6592, 16)] {
            (0..count).for_each(|_| step.launch(kernel, Some([width, 1, 1])));
        }
        assert_eq!(Widths::default().tokens(&step, widths), Some(3296));
    }

    /// Fills before the first step have many sizes, those in it one.
    #[test]
    fn what_was_launched_before_the_first_steps_does_not_hide_their_tokens() {
        let mut widths = Widths::default();
        let votes = |launches: &[(u64, u32, u32)]| {
            let mut votes = Votes::default();
            for &(kernel, width, count) in launches {
                (0..count).for_each(|_| votes.launch(kernel, Some([width, 1, 1])));
            }
            votes
        };
        let fills: Vec<(u64, u32, u32)> = (1..60).map(|width| (9, width, 1)).collect();
        widths.learn(&votes(&fills));
        for tokens in [69, 835, 8, 8, 7, 6, 5] {
            let step = votes(&[(1, tokens, 32), (9, 1, 18), (2, tokens, 16), (3, 132, 16)]);
            widths.learn(&step);
            assert_eq!(widths.tokens(&step, &Widths::default()), Some(tokens));
        }
    }

    #[test]
    fn streams_join_a_capture_and_leave_with_it() {
        let mut captures = Captures::default();
        captures.begin(1);
        assert!(captures.record(50, 1));
        assert!(captures.stream_wait(2, 50));
        assert!(captures.launch(2, 9, None, &[]));
        assert!(!captures.record(50, 3), "another stream is not part of it");
        assert!(!captures.stream_wait(4, 50));
        captures.end(1, Some(5));
        assert!(!captures.is_capturing(2));
        captures.instantiate(Some(5), Some(6));
        assert_eq!(captures.executable(6).unwrap().launches, 1);
        captures.forget_executable(6);
        assert!(captures.executable(6).is_none());
    }
}
