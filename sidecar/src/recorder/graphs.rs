//! Which kernels a graph holds: learnt while it is captured or built, told before it is launched.
//!
//! The driver's calls alone are followed: the runtime makes them for its own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use trace::{
    function::{Api, canonical},
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
    AddKernel,
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
            "cuLaunchKernel" | "cuLaunchKernelEx" | "cuLaunchCooperativeKernel" => {
                Self::LaunchKernel
            }
            "cuEventRecord" | "cuEventRecordWithFlags" => Self::RecordEvent,
            "cuStreamWaitEvent" => Self::WaitForEvent,
            "cuGraphAddKernelNode" => Self::AddKernel,
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
}

/// The handles of one call, as far as its function has them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handles {
    pub(super) stream: Option<u64>,
    pub(super) event: Option<u64>,
    pub(super) graph: Option<u64>,
    pub(super) graph_exec: Option<u64>,
    pub(super) kernel: Option<u32>,
}

#[derive(Default)]
pub(super) struct Graphs {
    processes: HashMap<u32, Process>,
    /// Process and executable graph, in this segment.
    announced: HashSet<(u32, u64)>,
}

#[derive(Default)]
struct Process {
    captures: Vec<Vec<u32>>,
    /// Streams that are captured, and into which capture.
    streams: HashMap<u64, usize>,
    /// Events that were recorded in a captured stream: who waits for one joins its capture.
    events: HashMap<u64, usize>,
    graphs: HashMap<u64, Arc<Vec<u32>>>,
    executables: HashMap<u64, Arc<Vec<u32>>>,
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
        let _: Option<()> = self.processes.entry(pid).or_default().follow(step, handles);
    }

    /// The kernels of an executable graph, if it is known what it holds and this segment does not
    /// say so yet.
    pub(super) fn due(&mut self, pid: u32, executable: u64) -> Option<Arc<Vec<u32>>> {
        let kernels = self.processes.get(&pid)?.executables.get(&executable)?;
        self.announced.insert((pid, executable)).then(|| kernels.clone())
    }

    pub(super) fn begin_segment(&mut self) {
        self.announced.clear();
    }

    /// The process ended, or runs another program now.
    pub(super) fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.announced.retain(|(other, _)| *other != pid);
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
    fn follow(&mut self, step: Step, handles: Handles) -> Option<()> {
        let Handles { stream, event, graph, graph_exec, kernel } = handles;
        match step {
            Step::BeginCapture => {
                let capture = self.captures.len();
                let before = graph.and_then(|graph| self.graphs.get(&graph));
                self.captures.push(before.map(|kernels| kernels.to_vec()).unwrap_or_default());
                self.streams.insert(stream?, capture);
            }
            Step::EndCapture => {
                let capture = self.streams.get(&stream?).copied()?;
                let kernels = std::mem::take(&mut self.captures[capture]);
                self.streams.retain(|_, other| *other != capture);
                self.events.retain(|_, other| *other != capture);
                if self.streams.is_empty() {
                    self.captures.clear();
                }
                self.graphs.insert(graph?, Arc::new(kernels));
            }
            Step::LaunchKernel => {
                let capture = self.streams.get(&stream?).copied()?;
                self.captures[capture].push(kernel?);
            }
            Step::RecordEvent => match self.streams.get(&stream?) {
                Some(capture) => drop(self.events.insert(event?, *capture)),
                None => drop(self.events.remove(&event?)),
            },
            Step::WaitForEvent => {
                let capture = self.events.get(&event?).copied()?;
                self.streams.entry(stream?).or_insert(capture);
            }
            Step::AddKernel => {
                let kernels = self.graphs.entry(graph?).or_default();
                Arc::make_mut(kernels).push(kernel?);
            }
            Step::Instantiate | Step::Update => {
                let kernels = self.graphs.get(&graph?).cloned()?;
                self.executables.insert(graph_exec?, kernels);
            }
            Step::Destroy => drop(self.graphs.remove(&graph?)),
            Step::DestroyExec => drop(self.executables.remove(&graph_exec?)),
            Step::Launch => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 7;

    fn stream(stream: u64) -> Handles {
        Handles { stream: Some(stream), ..Handles::default() }
    }

    fn launch(graphs: &mut Graphs, on: u64, kernel: u32) {
        graphs.follow(PID, Step::LaunchKernel, Handles { kernel: Some(kernel), ..stream(on) });
    }

    fn event(graphs: &mut Graphs, step: Step, on: u64, event: u64) {
        graphs.follow(PID, step, Handles { event: Some(event), ..stream(on) });
    }

    fn instantiate(graphs: &mut Graphs, graph: u64, executable: u64) {
        let handles =
            Handles { graph: Some(graph), graph_exec: Some(executable), ..Handles::default() };
        graphs.follow(PID, Step::Instantiate, handles);
    }

    #[test]
    fn a_capture_holds_what_was_launched_on_its_streams_and_on_those_that_joined() {
        let mut graphs = Graphs::default();
        launch(&mut graphs, 1, 90);
        graphs.follow(PID, Step::BeginCapture, stream(1));
        launch(&mut graphs, 1, 10);
        launch(&mut graphs, 2, 91);
        event(&mut graphs, Step::RecordEvent, 1, 0xe);
        event(&mut graphs, Step::WaitForEvent, 2, 0xe);
        launch(&mut graphs, 2, 11);
        event(&mut graphs, Step::RecordEvent, 2, 0xf);
        event(&mut graphs, Step::WaitForEvent, 1, 0xf);
        launch(&mut graphs, 1, 10);
        graphs.follow(PID, Step::EndCapture, Handles { graph: Some(0x6), ..stream(1) });
        launch(&mut graphs, 2, 92);
        instantiate(&mut graphs, 0x6, 0x7);
        assert_eq!(*graphs.due(PID, 0x7).unwrap(), [10, 11, 10]);
        assert!(graphs.due(PID, 0x7).is_none(), "once in a segment");
        graphs.begin_segment();
        assert!(graphs.due(PID, 0x7).is_some());
    }

    #[test]
    fn a_graph_outlives_its_source_and_says_anew_what_it_holds_when_it_is_updated() {
        let mut graphs = Graphs::default();
        let add = |kernel| Handles { graph: Some(1), kernel: Some(kernel), ..Handles::default() };
        graphs.follow(PID, Step::AddKernel, add(3));
        instantiate(&mut graphs, 1, 2);
        graphs.follow(PID, Step::AddKernel, add(4));
        graphs.follow(PID, Step::Destroy, Handles { graph: Some(9), ..Handles::default() });
        assert_eq!(*graphs.due(PID, 2).unwrap(), [3]);
        let update = Handles { graph: Some(1), graph_exec: Some(2), ..Handles::default() };
        graphs.follow(PID, Step::Update, update);
        graphs.follow(PID, Step::Destroy, update);
        assert_eq!(*graphs.due(PID, 2).unwrap(), [3, 4]);
    }

    #[test]
    fn an_unknown_graph_is_not_invented() {
        let mut graphs = Graphs::default();
        instantiate(&mut graphs, 1, 2);
        assert!(graphs.due(PID, 2).is_none());
        graphs.follow(PID, Step::EndCapture, Handles { graph: Some(6), ..stream(1) });
        assert!(graphs.due(PID, 2).is_none());
    }
}
