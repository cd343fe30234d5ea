//! A small trace with everything that questions look at, and the truth about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use serde_json::{Value, json};

use super::random::Random;

pub(crate) const HOST: &str = "node";
pub(crate) const START: &str = "20261124T042800.642Z";

const PID: u32 = 7;

/// What really happened.
#[derive(Default, Debug)]
pub(crate) struct Truth {
    /// By function.
    pub(crate) durations: BTreeMap<String, Vec<u64>>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) runs: BTreeMap<String, u64>,
    pub(crate) launches: u64,
    pub(crate) replays: u64,
    pub(crate) captured: u64,
    pub(crate) allocations: u64,
    pub(crate) frees: u64,
    pub(crate) allocated: u64,
    pub(crate) live: u64,
    pub(crate) peak: u64,
}

/// Lines by segment.
pub(crate) struct Scene {
    pub(crate) segments: Vec<Vec<String>>,
    pub(crate) truth: Truth,
}

pub(crate) fn segment_name(sequence: usize) -> String {
    format!("trace_{HOST}_{START}_{sequence:06}.jsonl")
}

impl Scene {
    pub(crate) fn new(seed: u64, segments: usize, operations: usize) -> Self {
        let mut scene = Writer { random: Random(seed), ..Writer::default() };
        for sequence in 1..=segments {
            scene.open(sequence);
            for _ in 0..operations {
                scene.operation();
            }
            scene.close(sequence, sequence == segments);
        }
        Self { segments: scene.segments, truth: scene.truth }
    }

    pub(crate) fn write(&self, directory: &Path) {
        for (at, lines) in self.segments.iter().enumerate() {
            fs::write(directory.join(segment_name(at + 1)), lines.concat()).unwrap();
        }
    }
}

#[derive(Default)]
struct Writer {
    random: Random,
    now_ns: u64,
    segments: Vec<Vec<String>>,
    truth: Truth,
    in_segment: BTreeMap<String, u64>,
    in_run: BTreeMap<String, u64>,
    /// Address and size.
    live: Vec<(u64, u64)>,
    next_address: u64,
    graphs: Vec<(u64, Vec<u32>)>,
    told: BTreeSet<Told>,
    has_told_process: bool,
}

/// What a segment has told: kernels and graphs.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Kernel(u32),
    Graph(u64),
}

impl Writer {
    fn push(&mut self, line: &Value) {
        let lines = self.segments.last_mut().unwrap();
        lines.push(format!("{line}\n"));
    }

    /// The driver's call inside of the runtime's comes back first.
    fn next_line_ns(&self, has_runtime: bool) -> u64 {
        self.now_ns + if has_runtime { 250 } else { 100 }
    }

    fn meta(&mut self, func: &str, ts_ns: u64, mut fields: Value) {
        let ts = json!(ts_ns as f64 / 1e6);
        let all = fields.as_object_mut().unwrap();
        for (key, value) in
            [("ts", ts), ("pid", PID.into()), ("type", "meta".into()), ("phase", "meta".into())]
        {
            all.insert(key.to_owned(), value);
        }
        all.insert("func".to_owned(), func.into());
        self.push(&fields);
    }

    fn open(&mut self, sequence: usize) {
        self.segments.push(Vec::new());
        self.told.clear();
        self.has_told_process = false;
        self.in_segment.clear();
        let clock = self.clock();
        self.meta(
            "segment_open",
            self.now_ns,
            json!({
                "format_version": 3, "sequence": sequence, "host": HOST, "kernel": "6.18",
                "sidecar_version": "0.1.0", "clock": clock, "options": {"trace_detail": "call"},
            }),
        );
    }

    fn clock(&self) -> Value {
        json!({
            "start_monotonic_ns": 4_000_000_000_u64,
            "monotonic_ns": 4_000_000_000 + self.now_ns,
            "realtime_ns": 1_795_494_480_642_456_752 + self.now_ns,
        })
    }

    fn close(&mut self, sequence: usize, is_final: bool) {
        let functions: serde_json::Map<String, Value> = self
            .in_run
            .iter()
            .map(|(name, count)| {
                let lines = self.in_segment.get(name).copied().unwrap_or(0);
                let counts = json!({
                    "lines": lines, "run_hits": count, "run_lines": count, "run_dropped": 0,
                    "run_ignored": 0, "run_suppressed": 0,
                });
                (name.clone(), counts)
            })
            .collect();
        let calls: u64 = self.in_segment.values().sum();
        let clock = self.clock();
        let reason = if is_final { "shutdown" } else { "interval" };
        self.meta(
            "segment_close",
            self.now_ns,
            json!({
                "sequence": sequence, "reason": reason, "final": is_final, "calls": calls,
                "clock": clock, "functions": functions,
                "coverage": {"exact": 1, "from": 0, "unseen": 0, "events_lost": 0},
            }),
        );
    }

    /// A call of the runtime with the driver's inside, or one of the driver alone.
    fn call(&mut self, runtime: Option<&str>, driver: &str, tid: u32, fields: &str, ret: u32) {
        if !self.has_told_process {
            self.has_told_process = true;
            let ts_ns = self.next_line_ns(runtime.is_some());
            self.meta(
                "process",
                ts_ns,
                json!({
                    "parent": 1, "executable": "/usr/bin/python3", "command": "VLLM::EngineCore",
                    "comm": "VLLM::EngineCor", "matched_by": "executable", "role": "engine_core",
                    "role_by": "title",
                }),
            );
        }
        let inner = 200 + self.random.next() % 5000;
        let begin = self.now_ns + 100;
        let error = |name: &str| match ret {
            0 => String::new(),
            600 if name.starts_with("cuda") => ",\"error\":\"cudaErrorNotReady\"".to_owned(),
            _ => ",\"error\":\"CUDA_ERROR_NOT_READY\"".to_owned(),
        };
        let mut lines = Vec::new();
        let mut add = |name: &str, begin: u64, dur: u64, nesting: &str| {
            let api = if name.starts_with("cuda") { "cuda_runtime" } else { "cuda_api" };
            let mut line = String::new();
            write!(
                line,
                "{{\"ts\":{}.{:06},\"pid\":{PID},\"tid\":{tid},\"type\":\"{api}\",\
                 \"func\":\"{name}\",\"phase\":\"call\",\"dur_us\":{}.{:03},\"ret\":{ret}{}{nesting}{fields}}}",
                begin / 1_000_000,
                begin % 1_000_000,
                dur / 1000,
                dur % 1000,
                error(name)
            )
            .unwrap();
            lines.push((name.to_owned(), dur, line + "\n"));
        };
        let end = if let Some(runtime) = runtime {
            let nesting = format!(",\"depth\":1,\"parent\":\"{runtime}\"");
            add(driver, begin + 150, inner, &nesting);
            add(runtime, begin, inner + 400, ",\"depth\":0");
            begin + inner + 400
        } else {
            add(driver, begin, inner, ",\"depth\":0");
            begin + inner
        };
        for (name, dur, line) in lines {
            self.segments.last_mut().unwrap().push(line);
            self.truth.durations.entry(name.clone()).or_default().push(dur);
            *self.truth.errors.entry(name.clone()).or_default() += u64::from(ret != 0);
            *self.in_segment.entry(name.clone()).or_default() += 1;
            *self.in_run.entry(name).or_default() += 1;
        }
        // Further apart than what is taken for a matter of threads.
        self.now_ns = end + 60_000 + self.random.next() % 2_000_000;
    }

    fn operation(&mut self) {
        let tid = PID + u32::from(self.random.below(3) == 0);
        match self.random.below(12) {
            0..=2 => {
                self.launch(tid, "0x1", true);
            }
            3 => {
                self.launch(tid, "0x1", false);
            }
            4 | 5 => self.allocate(tid),
            6 => self.free(tid),
            7 | 8 => self.replay(tid),
            9 => self.capture(tid),
            10 => self.call(Some("cudaEventQuery"), "cuEventQuery", tid, ",\"event\":\"0xe\"", 600),
            _ => {
                self.call(
                    Some("cudaEventSynchronize"),
                    "cuEventSynchronize",
                    tid,
                    ",\"event\":\"0xe\"",
                    0,
                );
            }
        }
    }

    fn tell_kernel(&mut self, id: u32, ts_ns: u64) {
        if self.told.insert(Told::Kernel(id)) {
            let name = format!("_Z4kern{id}v");
            let demangled = format!("kern{id}()");
            self.meta("kernel", ts_ns, json!({"id": id, "name": name, "demangled": demangled}));
        }
    }

    fn launch(&mut self, tid: u32, stream: &str, with_runtime: bool) -> u32 {
        let id = u32::try_from(self.random.below(4)).unwrap();
        self.tell_kernel(id, self.next_line_ns(with_runtime));
        let fields = format!(
            ",\"function\":\"0xf{id}\",\"kernel\":{id},\"grid\":[{},1,1],\"block\":[32,1,1],\
             \"shared_bytes\":0,\"stream\":\"{stream}\"",
            id + 1
        );
        let runtime = with_runtime.then_some("cudaLaunchKernel");
        self.call(runtime, "cuLaunchKernel", tid, &fields, 0);
        if stream == "0x1" {
            self.truth.launches += 1;
            *self.truth.runs.entry(format!("kern{id}")).or_default() += 1;
        } else {
            self.truth.captured += 1;
        }
        id
    }

    fn allocate(&mut self, tid: u32) {
        let bytes = 512 << self.random.below(12);
        self.next_address += 1;
        let address = 0x7000_0000 + (self.next_address % 5) * 0x100_0000;
        if self.live.iter().any(|(other, _)| *other == address) {
            return;
        }
        let fields = format!(",\"bytes\":{bytes},\"ptr\":\"{address:#x}\"");
        self.call(Some("cudaMalloc"), "cuMemAlloc_v2", tid, &fields, 0);
        self.live.push((address, bytes));
        self.truth.allocations += 1;
        self.truth.allocated += bytes;
        self.truth.live += bytes;
        self.truth.peak = self.truth.peak.max(self.truth.live);
    }

    fn free(&mut self, tid: u32) {
        if self.live.is_empty() {
            return;
        }
        let at = self.random.below(self.live.len());
        let (address, bytes) = self.live.swap_remove(at);
        let fields = format!(",\"ptr\":\"{address:#x}\"");
        self.call(Some("cudaFree"), "cuMemFree_v2", tid, &fields, 0);
        self.truth.frees += 1;
        self.truth.live -= bytes;
    }

    fn capture(&mut self, tid: u32) {
        let fields = ",\"stream\":\"0x9\"";
        self.call(Some("cudaStreamBeginCapture"), "cuStreamBeginCapture_v2", tid, fields, 0);
        let kernels: Vec<u32> =
            (0..=self.random.below(4)).map(|_| self.launch(tid, "0x9", true)).collect();
        let fields = ",\"graph\":\"0x60\",\"stream\":\"0x9\"";
        self.call(Some("cudaStreamEndCapture"), "cuStreamEndCapture", tid, fields, 0);
        // Handles are used again.
        let graph_exec = 0x80 + self.random.next() % 3;
        if self.graphs.iter().any(|(other, _)| *other == graph_exec) {
            let fields = format!(",\"graph_exec\":\"{graph_exec:#x}\"");
            self.call(Some("cudaGraphExecDestroy"), "cuGraphExecDestroy", tid, &fields, 0);
            self.graphs.retain(|(other, _)| *other != graph_exec);
        }
        let fields = format!(",\"graph\":\"0x60\",\"graph_exec\":\"{graph_exec:#x}\"");
        let driver = "cuGraphInstantiateWithFlags";
        self.call(Some("cudaGraphInstantiateWithFlags"), driver, tid, &fields, 0);
        self.told.remove(&Told::Graph(graph_exec));
        self.graphs.push((graph_exec, kernels));
    }

    fn replay(&mut self, tid: u32) {
        if self.graphs.is_empty() {
            return;
        }
        let at = self.random.below(self.graphs.len());
        let (graph_exec, kernels) = self.graphs[at].clone();
        for id in &kernels {
            self.tell_kernel(*id, self.next_line_ns(true));
            *self.truth.runs.entry(format!("kern{id}")).or_default() += 1;
        }
        if self.told.insert(Told::Graph(graph_exec)) {
            let graph = format!("{graph_exec:#x}");
            self.meta(
                "graph",
                self.next_line_ns(true),
                json!({"graph_exec": graph, "kernels": kernels}),
            );
        }
        let fields = format!(",\"graph_exec\":\"{graph_exec:#x}\",\"stream\":\"0x1\"");
        self.call(Some("cudaGraphLaunch"), "cuGraphLaunch", tid, &fields, 0);
        self.truth.replays += 1;
    }
}
