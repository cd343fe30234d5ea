//! What a trace of vLLM from its start on must show, whatever the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use trace::{
    check::check,
    function::canonical,
    line::{Line, Meta},
    reader::Reader,
};

use crate::segments::segments;

const RUNTIME_LAUNCHES: [&str; 3] =
    ["cudaLaunchKernel", "cudaLaunchKernelExC", "cudaLaunchCooperativeKernel"];

const DRIVER_LAUNCHES: [&str; 3] =
    ["cuLaunchKernel", "cuLaunchKernelEx", "cuLaunchCooperativeKernel"];

#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Proof {
    /// Call lines.
    pub(super) calls: u64,
    pub(super) dropped: u64,
    /// Functions that were called.
    pub(super) functions: usize,
    /// By process: when its first call began, and of what function.
    pub(super) first_calls: BTreeMap<u32, (f64, String)>,
    pub(super) runtime_launches: u64,
    pub(super) driver_launches: u64,
    /// Driver launches that no runtime launch made: Triton's, for one.
    pub(super) direct_launches: u64,
    /// Launches whose kernel has a name.
    pub(super) named_launches: u64,
    /// Names of kernels that were launched, captured ones too.
    pub(super) kernels: BTreeSet<String>,
    pub(super) graph_launches: u64,
    /// Those whose graph is known.
    pub(super) expanded_graph_launches: u64,
    /// Kernels in them, each as often as it ran.
    pub(super) kernels_in_graph_launches: u64,
    /// Calls that returned an error, by function and error.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Proof {
    pub(super) fn to_text(&self) -> String {
        let first: Vec<String> =
            self.first_calls.iter().map(|(pid, (_, name))| format!("{name} in {pid}")).collect();
        let errors: Vec<String> =
            self.errors.iter().map(|(error, count)| format!("{error}: {count}")).collect();
        let lines = [
            format!("calls            {}, of {} functions", self.calls, self.functions),
            format!("dropped          {}", self.dropped),
            format!("first calls      {}", first.join(", ")),
            format!(
                "launches         {} by the runtime; {} by the driver, {} of them directly",
                self.runtime_launches, self.driver_launches, self.direct_launches
            ),
            format!(
                "with a name      {} launches of {} kernels",
                self.named_launches,
                self.kernels.len()
            ),
            format!(
                "graph launches   {}, {} expanded to {} kernels",
                self.graph_launches, self.expanded_graph_launches, self.kernels_in_graph_launches
            ),
            format!("errors           {}", errors.join(", ")),
        ];
        lines.join("\n")
    }
}

/// Reads all segments of one run. Fails if the trace is not whole or its launches do not agree.
pub(super) fn proof(traces: &Path) -> Result<Proof> {
    let files = segments(traces)?;
    let report = check(&files);
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    ensure!(problems.is_empty(), "the trace is not whole: {}", problems.join("; "));
    let mut proof = Proof {
        calls: report.calls,
        dropped: report.dropped,
        functions: report.functions.values().filter(|total| total.lines > 0).count(),
        ..Proof::default()
    };
    for file in &files {
        let reader =
            Reader::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        let mut segment = Segment::default();
        for line in reader {
            segment.read(
                &line.with_context(|| format!("cannot read {}", file.display()))?,
                &mut proof,
            );
        }
    }
    let Proof { runtime_launches, driver_launches, direct_launches, dropped, .. } = proof;
    ensure!(
        dropped > 0 || runtime_launches == driver_launches - direct_launches,
        "the runtime launched {runtime_launches} kernels, the driver {driver_launches}, of which \
         {direct_launches} directly: one of the numbers is wrong"
    );
    Ok(proof)
}

/// What lines refer to; each segment says it anew.
#[derive(Default)]
struct Segment {
    kernels: BTreeMap<u32, Option<String>>,
    graphs: BTreeMap<(u32, u64), u64>,
}

impl Segment {
    fn read(&mut self, line: &Line, proof: &mut Proof) {
        match line {
            Line::Meta(line) => match &line.meta {
                Meta::Kernel(kernel) => {
                    let name = kernel.demangled.clone().or_else(|| kernel.name.clone());
                    proof.kernels.extend(name.clone());
                    self.kernels.insert(kernel.id, name);
                }
                Meta::Graph(graph) => {
                    let key = (line.pid, graph.graph_exec.0);
                    self.graphs.insert(key, graph.kernels.len() as u64);
                }
                _ => {}
            },
            Line::Call(call) => {
                let first = proof.first_calls.get(&call.pid);
                if first.is_none_or(|(ts, _)| call.ts < *ts) {
                    proof.first_calls.insert(call.pid, (call.ts, call.func.clone()));
                }
                let name = canonical(&call.func);
                if let Some(error) = &call.detail.error {
                    *proof.errors.entry(format!("{} {error}", call.func)).or_default() += 1;
                }
                if RUNTIME_LAUNCHES.contains(&name) {
                    proof.runtime_launches += 1;
                } else if DRIVER_LAUNCHES.contains(&name) {
                    proof.driver_launches += 1;
                    let parent = call.detail.parent.as_deref().map(canonical);
                    if !parent.is_some_and(|parent| RUNTIME_LAUNCHES.contains(&parent)) {
                        proof.direct_launches += 1;
                    }
                    let kernel = call.detail.kernel.and_then(|id| self.kernels.get(&id));
                    if kernel.is_some_and(Option::is_some) {
                        proof.named_launches += 1;
                    }
                } else if name == "cuGraphLaunch" {
                    proof.graph_launches += 1;
                    let exec = call.detail.graph_exec.map(|exec| (call.pid, exec.0));
                    if let Some(kernels) = exec.and_then(|key| self.graphs.get(&key)) {
                        proof.expanded_graph_launches += 1;
                        proof.kernels_in_graph_launches += kernels;
                    }
                }
            }
        }
    }
}
