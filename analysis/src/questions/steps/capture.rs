//! What an executable graph was captured from: how many kernels, and for how many tokens.
//!
//! vLLM captures one graph for each padded number of tokens. No argument says that number, the grids
//! do: kernels that work token by token (norms, the cache of keys and values) have one block each.
//! So the number is the width of the grid that most launches of a graph have, among kernels whose
//! grids differ from capture to capture as often as any kernel's do. That leaves out kernels of a
//! constant grid, and such as stop growing at some number of blocks (collectives).

use std::{collections::HashMap, rc::Rc};

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

    /// The width that most launches have; of several the least.
    fn winner(&self, takes_part: impl Fn(u64) -> bool) -> Option<u32> {
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for vote in self.0.iter().filter(|vote| takes_part(vote.kernel)) {
            match counts.iter_mut().find(|(width, _)| *width == vote.width) {
                Some((_, count)) => *count += vote.count,
                None => counts.push((vote.width, vote.count)),
            }
        }
        counts.into_iter().max_by_key(|&(width, count)| (count, u32::MAX - width)).map(|it| it.0)
    }
}

/// The widths of each kernel's grids.
#[derive(Debug, Default)]
pub(super) struct Widths(HashMap<u64, Vec<u32>, Hasher>);

impl Widths {
    pub(super) fn launch(&mut self, kernel: u64, grid: Option<[u32; 3]>) {
        let Some([width, 1, 1]) = grid else { return };
        if self.0.len() >= MAX_KERNELS && !self.0.contains_key(&kernel) {
            return;
        }
        let widths = self.0.entry(kernel).or_default();
        if let Err(at) = widths.binary_search(&width)
            && widths.len() < MAX_WIDTHS
        {
            widths.insert(at, width);
        }
    }

    /// How many tokens these launches were for.
    pub(super) fn tokens(&self, votes: &Votes) -> Option<u32> {
        let widths_of = |kernel: u64| self.0.get(&kernel).map_or(0, Vec::len);
        let most = votes.0.iter().map(|vote| widths_of(vote.kernel)).max()?;
        // Of a few sizes one more or less tells nothing.
        let least = (most as f64 * OFTEN).min(most as f64 - 1.0).max(2.0);
        votes.winner(|kernel| widths_of(kernel) as f64 >= least).or_else(|| votes.winner(|_| true))
    }

    /// Launches outside captures.
    pub(super) fn learn(&mut self, votes: &Votes) {
        for vote in &votes.0 {
            self.launch(vote.kernel, Some([vote.width, 1, 1]));
        }
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
        self.widths.launch(kernel, grid);
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
            assert_eq!(captures.widths.tokens(&captured.votes), Some(tokens));
        }
        assert!(!captures.launch(7, 1, None, &[]), "the capture is over");
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
