//! Which kernels a graph holds: learnt while it is captured or built, told before it is launched.
//!
//! The driver's calls alone are followed: the runtime makes them for its own.
//! What is remembered is bounded: of what there is no room for nothing is known, and nothing said.

mod budget;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use budget::{Budget, Kernels, put};

use cuda::function::{Api, DRIVER_LAUNCHES, arguments::Word, canonical};
use trace::{
    line::{Address, Graph, Meta},
    writer::push_meta,
};

/// What a function does with captures and graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    BeginCapture,
    EndCapture,
    LaunchKernel,
    RecordEvent,
    WaitForEvent,
    Create,
    AddKernel,
    /// A node that may bring kernels which its call does not tell.
    AddUnknown,
    Clone,
    Instantiate,
    Update,
    Destroy,
    DestroyExec,
    Launch,
}

impl Step {
    pub(super) fn of(name: &str) -> Option<Self> {
        if Api::of(name) != Some(Api::Driver) {
            return None;
        }
        Some(match canonical(name) {
            "cuStreamBeginCapture" | "cuStreamBeginCaptureToGraph" => Self::BeginCapture,
            "cuStreamEndCapture" => Self::EndCapture,
            name if DRIVER_LAUNCHES.contains(&name) => Self::LaunchKernel,
            "cuEventRecord" | "cuEventRecordWithFlags" => Self::RecordEvent,
            "cuStreamWaitEvent" => Self::WaitForEvent,
            "cuGraphCreate" => Self::Create,
            "cuGraphAddKernelNode" => Self::AddKernel,
            "cuGraphAddNode" | "cuGraphAddChildGraphNode" => Self::AddUnknown,
            "cuGraphClone" => Self::Clone,
            "cuGraphInstantiate"
            | "cuGraphInstantiateWithFlags"
            | "cuGraphInstantiateWithParams" => Self::Instantiate,
            "cuGraphExecUpdate" => Self::Update,
            "cuGraphDestroy" => Self::Destroy,
            "cuGraphExecDestroy" => Self::DestroyExec,
            "cuGraphLaunch" => Self::Launch,
            _ => return None,
        })
    }

    /// Where the graph is that [`Handles::original`] tells: in no field of a line.
    pub(super) fn original(self) -> Option<Word> {
        // cuda.h: (CUgraph *out, CUgraph original).
        (self == Self::Clone).then_some(Word::register(1))
    }
}

/// The time and the handles of one call, as far as its function has them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handles {
    /// When the call began.
    pub(super) start_ns: u64,
    pub(super) stream: Option<u64>,
    pub(super) event: Option<u64>,
    pub(super) graph: Option<u64>,
    /// The graph that was cloned.
    pub(super) original: Option<u64>,
    pub(super) graph_exec: Option<u64>,
    pub(super) kernel: Option<u32>,
}

#[derive(Default)]
pub(super) struct Graphs {
    processes: HashMap<u32, Process>,
    /// Process and executable graph, in this segment.
    announced: HashSet<(u32, u64)>,
    budget: Budget,
}

#[derive(Default)]
struct Process {
    /// When the first call was made that is followed.
    since_ns: Option<u64>,
    /// By number, those that have not ended.
    captures: HashMap<u64, Kernels>,
    /// How many have begun.
    begun: u64,
    /// Streams that are captured, and into which capture.
    streams: HashMap<u64, u64>,
    /// Events that were recorded in a captured stream: who waits for one joins its capture.
    events: HashMap<u64, u64>,
    graphs: HashMap<u64, Arc<Kernels>>,
    executables: HashMap<u64, Arc<Kernels>>,
}

impl Graphs {
    /// Follows a call that succeeded.
    pub(super) fn follow(&mut self, pid: u32, step: Step, handles: Handles) {
        if step == Step::LaunchKernel || step == Step::RecordEvent || step == Step::WaitForEvent {
            // The many calls outside of any capture.
            if self.processes.get(&pid).is_none_or(|process| process.streams.is_empty()) {
                return;
            }
        }
        if step == Step::Instantiate || step == Step::Update || step == Step::DestroyExec {
            // What was said of it in this segment no longer holds.
            if let Some(executable) = handles.graph_exec {
                self.announced.remove(&(pid, executable));
            }
        }
        // A handle that was not read leads nowhere.
        let process = self.processes.entry(pid).or_default();
        process.since_ns.get_or_insert(handles.start_ns);
        let before = process.entries();
        self.budget.enter(before);
        let _: Option<()> = process.follow(step, handles, &mut self.budget);
        self.budget.leave(before, process.entries());
    }

    /// Follows a call that failed: one that ends a capture ends it all the same, without a graph.
    pub(super) fn failed(&mut self, pid: u32, step: Step, handles: Handles) {
        if step == Step::EndCapture {
            self.follow(pid, step, Handles { graph: None, ..handles });
        }
    }

    /// The kernels of an executable graph, if it is known what it holds and this segment does not
    /// say so yet.
    pub(super) fn due(&mut self, pid: u32, executable: u64) -> Option<Arc<Kernels>> {
        let kernels = self.processes.get(&pid)?.executables.get(&executable)?;
        self.announced.insert((pid, executable)).then(|| kernels.clone())
    }

    /// Numbers of kernels in all captures and graphs, some of them often.
    pub(super) fn kernels(&self) -> impl Iterator<Item = u32> {
        let mut seen = HashSet::new();
        let all = self.processes.values().flat_map(|process| {
            let graphs = process.graphs.values().chain(process.executables.values());
            process.captures.values().chain(graphs.map(|kernels| &**kernels))
        });
        // Executable graphs share the list of the graph that they are made of.
        all.filter(move |kernels| seen.insert(std::ptr::from_ref::<Kernels>(kernels)))
            .flat_map(|kernels| kernels.iter().copied())
    }

    pub(super) fn begin_segment(&mut self) {
        self.announced.clear();
    }

    /// The process ended, or ran another program from then on, and that one's calls may be here
    /// already.
    pub(super) fn forget(&mut self, pid: u32, at_ns: u64) {
        let since_ns = self.processes.get(&pid).and_then(|process| process.since_ns);
        if since_ns.is_some_and(|since_ns| since_ns >= at_ns) {
            return;
        }
        if let Some(process) = self.processes.remove(&pid) {
            self.budget.leave(process.entries(), 0);
            self.announced.retain(|(other, _)| *other != pid);
        }
    }
}

/// Writes the line of a graph.
pub(super) fn push_graph(
    out: &mut Vec<u8>,
    since_start: u64,
    pid: u32,
    executable: u64,
    kernels: &[u32],
) {
    let graph = Graph { graph_exec: Address(executable), kernels: kernels.to_vec() };
    push_meta(out, since_start, pid, &Meta::Graph(graph));
}

impl Process {
    fn entries(&self) -> usize {
        let Self { since_ns: _, captures, begun: _, streams, events, graphs, executables } = self;
        captures.len() + streams.len() + events.len() + graphs.len() + executables.len()
    }

    fn follow(&mut self, step: Step, handles: Handles, budget: &mut Budget) -> Option<()> {
        let Handles { start_ns: _, stream, event, graph, original, graph_exec, kernel } = handles;
        match step {
            Step::BeginCapture => {
                let stream = stream?;
                // Its end was not seen.
                self.end_capture_of(stream);
                if !budget.is_left() {
                    budget.refuse();
                    return None;
                }
                let kernels = match graph {
                    // Into a graph of which nothing is known: nor will there be when it has ended.
                    Some(graph) => Kernels::clone(self.graphs.get(&graph)?),
                    None => budget.no_kernels(),
                };
                self.begun += 1;
                self.captures.insert(self.begun, kernels);
                self.streams.insert(stream, self.begun);
            }
            Step::EndCapture => {
                let kernels = self.end_capture_of(stream?);
                match kernels {
                    // It takes the place of the capture.
                    Some(kernels) => self.graphs.insert(graph?, Arc::new(kernels)),
                    None => self.graphs.remove(&graph?),
                };
            }
            Step::LaunchKernel => {
                let stream = stream?;
                let kernels = self.captures.get_mut(self.streams.get(&stream)?)?;
                if !kernel.is_some_and(|kernel| kernels.push(kernel, budget)) {
                    self.end_capture_of(stream);
                }
            }
            Step::RecordEvent => {
                let event = event?;
                match self.streams.get(&stream?).copied() {
                    // Who waits for the event would not be known to join.
                    Some(capture) if !put(&mut self.events, event, capture, budget) => {
                        self.end_capture(capture);
                    }
                    Some(_) => {}
                    None => drop(self.events.remove(&event)),
                }
            }
            Step::WaitForEvent => {
                let capture = self.events.get(&event?).copied()?;
                let stream = stream?;
                if !self.streams.contains_key(&stream)
                    && !put(&mut self.streams, stream, capture, budget)
                {
                    self.end_capture(capture);
                }
            }
            Step::Create => {
                put(&mut self.graphs, graph?, Arc::new(budget.no_kernels()), budget);
            }
            Step::AddKernel => {
                let graph = graph?;
                let kernels = self.graphs.get_mut(&graph)?;
                if !kernel.is_some_and(|kernel| Arc::make_mut(kernels).push(kernel, budget)) {
                    self.graphs.remove(&graph);
                }
            }
            Step::Clone => {
                let kernels = original.and_then(|original| self.graphs.get(&original)).cloned();
                match kernels {
                    Some(kernels) => drop(put(&mut self.graphs, graph?, kernels, budget)),
                    None => drop(self.graphs.remove(&graph?)),
                }
            }
            Step::Instantiate | Step::Update => {
                let executable = graph_exec;
                match self.graphs.get(&graph?).cloned() {
                    Some(kernels) => drop(put(&mut self.executables, executable?, kernels, budget)),
                    None => drop(self.executables.remove(&executable?)),
                }
            }
            Step::AddUnknown | Step::Destroy => drop(self.graphs.remove(&graph?)),
            Step::DestroyExec => drop(self.executables.remove(&graph_exec?)),
            Step::Launch => {}
        }
        Some(())
    }

    /// Ends the capture that a stream is part of, for all its streams; `None` if there is none.
    fn end_capture_of(&mut self, stream: u64) -> Option<Kernels> {
        let capture = self.streams.get(&stream).copied()?;
        self.end_capture(capture)
    }

    fn end_capture(&mut self, capture: u64) -> Option<Kernels> {
        self.streams.retain(|_, other| *other != capture);
        self.events.retain(|_, other| *other != capture);
        self.captures.remove(&capture)
    }
}

#[cfg(test)]
mod tests;
