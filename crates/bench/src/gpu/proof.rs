//! What a trace of vLLM from its start on must show, whatever the model.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use cuda::function::{DRIVER_LAUNCHES, canonical};
use serde::Serialize;
use trace::{
    line::{Line, Meta},
    reader::Reader,
    segments::segments,
};

use crate::sidecar::whole;

const RUNTIME_LAUNCHES: [&str; 3] =
    ["cudaLaunchKernel", "cudaLaunchKernelExC", "cudaLaunchCooperativeKernel"];

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
    /// Names of kernels, and how often each was launched or captured; replays do not count.
    pub(super) kernels: BTreeMap<String, u64>,
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
    let report = whole(&files)?;
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
                    if let Some(name) = kernel.and_then(Option::as_deref) {
                        proof.named_launches += 1;
                        *proof.kernels.entry(name.to_owned()).or_default() += 1;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A runtime launch with its driver launch, a direct one of a kernel without a name, and a
    /// graph of two kernels that is launched twice.
    const LINES: &str = r#"{"ts":0,"pid":7,"type":"meta","phase":"meta","func":"kernel","id":0,"name":"_Z3addv","demangled":"add()"}
{"ts":0,"pid":7,"type":"meta","phase":"meta","func":"kernel","id":1,"name":null,"demangled":null,"reason":"no traced call has named it"}
{"ts":2,"pid":7,"tid":7,"type":"cuda_api","func":"cuLaunchKernel_ptsz","phase":"call","dur_us":1,"ret":0,"depth":1,"parent":"cudaLaunchKernel_ptsz","kernel":0}
{"ts":1,"pid":7,"tid":7,"type":"cuda_runtime","func":"cudaLaunchKernel_ptsz","phase":"call","dur_us":2,"ret":0,"depth":0}
{"ts":3,"pid":7,"tid":7,"type":"cuda_api","func":"cuLaunchKernelEx","phase":"call","dur_us":1,"ret":1,"error":"CUDA_ERROR_INVALID_VALUE","depth":0,"kernel":1}
{"ts":4,"pid":7,"type":"meta","phase":"meta","func":"graph","graph_exec":"0x9","kernels":[0,1]}
{"ts":4,"pid":7,"tid":7,"type":"cuda_api","func":"cuGraphLaunch","phase":"call","dur_us":1,"ret":0,"depth":0,"graph_exec":"0x9"}
{"ts":5,"pid":7,"tid":7,"type":"cuda_api","func":"cuGraphLaunch","phase":"call","dur_us":1,"ret":0,"depth":0,"graph_exec":"0x9"}
{"ts":6,"pid":7,"tid":7,"type":"cuda_api","func":"cuGraphLaunch","phase":"call","dur_us":1,"ret":0,"depth":0,"graph_exec":"0x8"}
"#;

    #[test]
    fn launches_are_told_apart_and_graphs_expanded() {
        let mut proof = Proof::default();
        let mut segment = Segment::default();
        for line in Reader::new(LINES.as_bytes(), Path::new("lines")) {
            segment.read(&line.unwrap(), &mut proof);
        }
        let expected = Proof {
            first_calls: [(7, (1.0, "cudaLaunchKernel_ptsz".to_owned()))].into(),
            runtime_launches: 1,
            driver_launches: 2,
            direct_launches: 1,
            named_launches: 1,
            kernels: [("add()".to_owned(), 1)].into(),
            graph_launches: 3,
            expanded_graph_launches: 2,
            kernels_in_graph_launches: 4,
            errors: [("cuLaunchKernelEx CUDA_ERROR_INVALID_VALUE".to_owned(), 1)].into(),
            ..Proof::default()
        };
        assert_eq!(proof, expected);
    }

    #[test]
    fn a_trace_that_is_not_whole_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("trace_h_20261124T143519.380Z_000001.jsonl"), LINES)
            .unwrap();
        let error = proof(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("the trace is not whole: "), "{error}");
    }
}
