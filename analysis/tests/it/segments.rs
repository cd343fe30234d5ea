//! Calls as a sidecar writes them: in segments, each with the lines that tell what they mean, and
//! with counts that prove what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use super::scene::{HOST, segment_name};

/// A line of a call, and what it refers to.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) pid: u32,
    pub(crate) func: String,
    pub(crate) ts_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) kernel: Option<u64>,
    /// Launched by the driver's call.
    pub(crate) graph: Option<String>,
    pub(crate) text: String,
}

/// Fields of the lines that tell of processes, kernels and graphs.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) processes: BTreeMap<u32, Value>,
    pub(crate) kernels: BTreeMap<u64, Value>,
    pub(crate) graphs: BTreeMap<(u32, String), Value>,
}

pub(crate) struct Segments {
    pub(crate) lines: Vec<Line>,
    pub(crate) told: Told,
    /// `start_monotonic_ns`, and the time of day at the start of the run.
    pub(crate) clock: [u64; 2],
    /// When libraries of processes were mapped: before their first calls.
    pub(crate) mapped: Vec<(u32, u64)>,
}

impl Segments {
    /// Numbers of lines at which new segments begin.
    pub(crate) fn write(&self, directory: &Path, cuts: &[usize]) {
        let mut in_run: BTreeMap<&str, u64> = BTreeMap::new();
        let ends = cuts.iter().copied().chain([self.lines.len()]);
        let mut from = 0;
        let mut opened_ns = self.mapped.iter().map(|it| it.1).min().unwrap_or(self.lines[0].ts_ns);
        for (sequence, to) in (1..).zip(ends) {
            let lines = &self.lines[from..to];
            let is_final = to == self.lines.len();
            let latest = lines.iter().map(|line| line.end_ns).max().unwrap_or(opened_ns);
            let closed_ns = latest.max(opened_ns) + 1;
            let mut text = self.opening(sequence, opened_ns);
            if sequence == 1 {
                for (pid, ts_ns) in &self.mapped {
                    text.push_str(&meta(
                        *pid,
                        "coverage",
                        *ts_ns,
                        json!({"coverage": "exact", "path": "/l/libcuda.so.1", "device": 1,
                            "inode": 1}),
                    ));
                }
            }
            self.calls(lines, &mut text);
            let mut in_segment: BTreeMap<&str, u64> = BTreeMap::new();
            for line in lines {
                *in_segment.entry(&line.func).or_default() += 1;
                *in_run.entry(&line.func).or_default() += 1;
            }
            text.push_str(&self.closing(sequence, closed_ns, is_final, &in_segment, &in_run));
            fs::write(directory.join(segment_name(sequence)), text).unwrap();
            (from, opened_ns) = (to, closed_ns);
        }
    }

    fn clock(&self, ts_ns: u64) -> Value {
        let [start_ns, unix_ns] = self.clock;
        json!({"start_monotonic_ns": start_ns, "monotonic_ns": start_ns + ts_ns,
            "realtime_ns": unix_ns + ts_ns})
    }

    fn opening(&self, sequence: usize, ts_ns: u64) -> String {
        meta(
            1,
            "segment_open",
            ts_ns,
            json!({"format_version": 3, "sequence": sequence, "host": HOST, "kernel": "6.18",
                "sidecar_version": "0.1.0", "clock": self.clock(ts_ns),
                "options": {"trace_detail": "call", "trace_functions": "default"}}),
        )
    }

    /// Lines that tell of a process, a kernel or a graph stand before the first that refers to it.
    fn calls(&self, lines: &[Line], text: &mut String) {
        let (mut processes, mut kernels, mut graphs) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let Told { processes: of_processes, kernels: of_kernels, graphs: of_graphs } = &self.told;
        for line in lines {
            if let Some(told) = of_processes.get(&line.pid)
                && processes.insert(line.pid)
            {
                text.push_str(&meta(line.pid, "process", line.ts_ns, told.clone()));
            }
            let graph = line.graph.as_ref().map(|graph| (line.pid, graph.clone()));
            let graph = graph.and_then(|graph| Some((of_graphs.get(&graph)?, graph)));
            let in_graph = graph.as_ref().and_then(|(told, _)| told["kernels"].as_array());
            let in_graph = in_graph.into_iter().flatten().filter_map(Value::as_u64);
            for kernel in line.kernel.into_iter().chain(in_graph) {
                if let Some(told) = of_kernels.get(&kernel)
                    && kernels.insert(kernel)
                {
                    text.push_str(&meta(line.pid, "kernel", line.ts_ns, told.clone()));
                }
            }
            if let Some((told, graph)) = graph
                && graphs.insert(graph)
            {
                text.push_str(&meta(line.pid, "graph", line.ts_ns, told.clone()));
            }
            text.push_str(&line.text);
        }
    }

    fn closing(
        &self,
        sequence: usize,
        ts_ns: u64,
        is_final: bool,
        in_segment: &BTreeMap<&str, u64>,
        in_run: &BTreeMap<&str, u64>,
    ) -> String {
        let functions = in_run.iter().map(|(func, run)| {
            let lines = in_segment.get(func).copied().unwrap_or(0);
            let counts = json!({"lines": lines, "run_hits": run, "run_lines": run,
                "run_dropped": 0, "run_ignored": 0, "run_suppressed": 0});
            ((*func).to_owned(), counts)
        });
        let functions: Value = functions.collect();
        let calls: u64 = in_segment.values().sum();
        let reason = if is_final { "shutdown" } else { "interval" };
        meta(
            1,
            "segment_close",
            ts_ns,
            json!({"sequence": sequence, "reason": reason, "final": is_final, "calls": calls,
                "clock": self.clock(ts_ns), "functions": functions,
                "coverage": {"exact": self.mapped.len(), "from": 0, "unseen": 0,
                    "events_lost": 0}}),
        )
    }
}

fn meta(pid: u32, func: &str, ts_ns: u64, fields: Value) -> String {
    let mut line = json!({"ts": ts_ns as f64 / 1e6, "pid": pid, "type": "meta", "phase": "meta",
        "func": func});
    let Value::Object(fields) = fields else { panic!("fields of a line") };
    line.as_object_mut().unwrap().extend(fields);
    format!("{line}\n")
}
