//! A made engine, its GPU with a simulated clock, and the truth about both: steps, when the GPU was
//! done with each, stages of the start, who was held up, what is wasted, which step made which token.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    random::Random,
    segments::{Line, Segments, Told},
};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// Of the day at the start of the run.
pub(crate) const START_UNIX_NS: u64 = 1_795_494_480_000_000_000;

const PARENT: u32 = 10;

const MAIN: &str = "0x0";
const COPIES: &str = "0xc0";
const CAPTURED: &str = "0x9";

/// Outputs are recorded in turns.
const EVENTS: [&str; 3] = ["0xe1", "0xe2", "0xe3"];
const JOINT: &str = "0xe7";

/// What the latest step has sampled.
const SAMPLED: u64 = 0x5000_0000;

/// Pinned at the start.
const PINNED: u64 = 0x7f00_0000_0000;
const PAGEABLE: u64 = 0x6600_0000_0000;

const NORM: u64 = 1;
const ATTENTION: u64 = 2;
const MLP: u64 = 3;
const SAMPLE: u64 = 4;
const LAYERS: usize = 2;

/// Sizes of graphs for the whole model, and of those for its two pieces.
const WHOLE: [u64; 4] = [8, 4, 2, 1];
const PIECES: [u64; 2] = [32, 16];

pub(crate) struct Engine {
    pub(crate) segments: Segments,
    pub(crate) truth: Truth,
    /// As the load test writes it.
    pub(crate) load: Value,
}

#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) steps: Vec<Step>,
    /// Process, stage, beginning and end.
    pub(crate) stages: Vec<(u32, &'static str, u64, u64)>,
    /// By process.
    pub(crate) findings: BTreeSet<(&'static str, u32)>,
    /// Processes that were held up while others waited: since when, until when.
    pub(crate) silences: Vec<(u32, u64, u64)>,
    /// By request: when its first and its last step began on the process that gives tokens out.
    pub(crate) requests: Vec<[u64; 2]>,
}

/// Times are since the start of the run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Step {
    pub(crate) pid: u32,
    pub(crate) rank: u64,
    pub(crate) start: u64,
    /// Of the copy of its output, on the GPU.
    pub(crate) end: u64,
    pub(crate) handed: Option<u64>,
    pub(crate) kind: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) graph_tokens: Option<u64>,
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) launches: u64,
    pub(crate) graph_launches: u64,
    pub(crate) copies: u64,
}

/// What is wasted in every step, by the name of its finding.
const WASTES: [&str; 8] = [
    "",
    "",
    "sync_in_step",
    "sync_copy",
    "allocation_in_step",
    "pageable_copy",
    "stream_creation",
    "errors",
];

struct Request {
    sent: u64,
    prompt: u64,
    left: u64,
    tokens: u64,
    /// When each token was handed out by the engine, and the step's number.
    handed: Vec<(u64, usize)>,
}

/// A thread of the host.
#[derive(Clone, Copy)]
struct Thread {
    pid: u32,
    tid: u32,
    now: u64,
}

struct Rank {
    main: Thread,
    waiter: Thread,
    /// When the work queued so far ends.
    copies_end: u64,
    next_address: u64,
}

/// How calls look and how the engine behaves.
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
struct Habits {
    /// The runtime's calls are around the driver's.
    is_nested: bool,
    /// The next step is queued before the output of this one is there.
    is_ahead: bool,
    polls: bool,
    /// The thread that waits is woken late.
    sleeps: bool,
    /// A copy behind the output belongs to the step.
    keeps_books: bool,
    waste: &'static str,
}

struct Maker {
    random: Random,
    habits: Habits,
    lines: Vec<Line>,
    truth: Truth,
    told: Told,
    ranks: Vec<Rank>,
    /// When the model's work ends: collectives end on all ranks together.
    main_end: u64,
}

/// A call that asks the GPU for something.
#[derive(Clone, Copy)]
struct Called {
    entry: u64,
    ret: u64,
}

impl Engine {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x00e9_91e5);
        let habits = Habits {
            is_nested: random.below(2) == 0,
            is_ahead: random.below(3) == 0,
            polls: random.below(3) == 0,
            sleeps: random.below(3) == 0,
            keeps_books: random.below(3) == 0,
            waste: WASTES[random.below(WASTES.len())],
        };
        let count = 1 + u32::try_from(random.below(2)).unwrap();
        let rank = |rank: u32| {
            let pid = 100 + 10 * rank;
            let thread = |tid| Thread { pid, tid, now: (500 + 40 * u64::from(rank)) * MS };
            Rank { main: thread(pid), waiter: thread(pid + 1), copies_end: 0, next_address: 0 }
        };
        let ranks: Vec<Rank> = (0..count).map(rank).collect();
        let mut maker = Maker {
            random,
            habits,
            lines: Vec::new(),
            truth: Truth::default(),
            told: Told::default(),
            ranks,
            main_end: 0,
        };
        maker.tell();
        let mapped = (0..count).map(|rank| (100 + 10 * rank, 300 * MS + u64::from(rank)));
        let mapped: Vec<(u32, u64)> = mapped.collect();
        for (rank, (_, mapped_ns)) in mapped.iter().enumerate() {
            maker.start(rank, *mapped_ns);
        }
        let requests = maker.serve();
        let Maker { mut lines, told, mut truth, .. } = maker;
        // A thread writes its lines when its calls return, those of one moment from the inside out.
        lines.sort_by_key(|line| line.end_ns);
        for (pid, from, to) in &mut truth.silences {
            (*from, *to) = silence(&lines, *pid, *from, *to);
        }
        let clock = [4_000_000_000, START_UNIX_NS];
        Self { segments: Segments { lines, told, clock, mapped }, load: load(&requests), truth }
    }

    /// Numbers of lines at which segments begin: anywhere.
    pub(crate) fn cuts(&self, random: &mut Random) -> [usize; 2] {
        let count = self.segments.lines.len();
        // Most of the lines are of the start.
        let first = count / 8 + random.below(count / 2);
        [first, first + 1 + random.below(count - first - 1)]
    }
}

/// The longest time without a call of the process that begins between these.
fn silence(lines: &[Line], pid: u32, from: u64, to: u64) -> (u64, u64) {
    let of_process = lines.iter().filter(|line| line.pid == pid);
    let mut moments: Vec<u64> = of_process.flat_map(|line| [line.ts_ns, line.end_ns]).collect();
    moments.sort_unstable();
    let pairs = moments.windows(2).map(|pair| (pair[0], pair[1]));
    let begins = pairs.filter(|pair| (from..to).contains(&pair.0));
    begins.max_by_key(|(from, to)| to - from).unwrap()
}

fn load(requests: &[Request]) -> Value {
    let requests = requests.iter().enumerate().map(|(at, request)| {
        let offsets = request.handed.iter().map(|(at, _)| {
            // To a microsecond.
            ((at - request.sent) / US) as f64 / 1e3
        });
        json!({"index": at + 1, "request_id": format!("r-{at}"),
            "start_unix_ns": START_UNIX_NS + request.sent, "output_tokens": request.handed.len(),
            "finish_reason": "length", "chunk_offsets_ms": offsets.collect::<Vec<_>>()})
    });
    json!({"tool": "loadtest 0.1.0", "requests": requests.collect::<Vec<_>>()})
}

impl Maker {
    fn below(&mut self, end: u64) -> u64 {
        self.random.next() % end
    }

    fn tell(&mut self) {
        for (rank, pid) in self.ranks.iter().map(|rank| rank.main.pid).enumerate() {
            self.told.processes.insert(
                pid,
                json!({"parent": PARENT, "executable": "/usr/bin/python3", "command": "worker",
                    "comm": "worker", "matched_by": "ancestor", "role": "worker",
                    "role_by": "title", "ranks": {"tp": rank}}),
            );
        }
        for (id, name) in
            [(NORM, "norm"), (ATTENTION, "attention"), (MLP, "mlp"), (SAMPLE, "sample")]
        {
            self.told.kernels.insert(id, json!({"id": id, "name": name, "demangled": null}));
        }
    }

    /// A call that takes so long in the driver; `both` are its fields.
    fn call(&mut self, thread: &mut Thread, stem: &str, took_ns: u64, both: &Value) -> Called {
        self.call_with(thread, stem, took_ns, both, 0)
    }

    fn call_with(
        &mut self,
        thread: &mut Thread,
        stem: &str,
        took_ns: u64,
        both: &Value,
        ret: u32,
    ) -> Called {
        let (runtime, driver) = names(stem);
        let is_nested = self.habits.is_nested && !runtime.is_empty();
        let outer = thread.now + 2 * US + self.below(4 * US);
        let entry = if is_nested { outer + 300 } else { outer };
        let end = entry + took_ns.max(1);
        let mut add = |func: &str, from: u64, to: u64, nesting: Value| {
            let api = if func.starts_with("cuda") { "cuda_runtime" } else { "cuda_api" };
            let error = match (ret, api) {
                (0, _) => json!({}),
                (600, "cuda_api") => json!({"error": "CUDA_ERROR_NOT_READY"}),
                (600, _) => json!({"error": "cudaErrorNotReady"}),
                (_, "cuda_api") => json!({"error": "CUDA_ERROR_OUT_OF_MEMORY"}),
                _ => json!({"error": "cudaErrorMemoryAllocation"}),
            };
            let mut line = json!({"pid": thread.pid, "tid": thread.tid, "type": api, "func": func,
                "phase": "call", "ret": ret});
            for more in [&error, &nesting, both] {
                line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            }
            // With all nanoseconds.
            let (ts, took) = (from, to - from);
            let text = line.to_string();
            let text = format!(
                "{{\"ts\":{}.{:06},\"dur_us\":{}.{:03},{}\n",
                ts / MS,
                ts % MS,
                took / US,
                took % US,
                &text[1..]
            );
            let graph = (func == "cuGraphLaunch").then(|| both["graph_exec"].as_str());
            self.lines.push(Line {
                pid: thread.pid,
                func: func.to_owned(),
                ts_ns: from,
                end_ns: to,
                kernel: both["kernel"].as_u64(),
                graph: graph.flatten().map(str::to_owned),
                text,
            });
        };
        if is_nested {
            add(driver, entry, end, json!({"depth": 1, "parent": runtime}));
            add(runtime, outer, end + 200, json!({"depth": 0}));
            thread.now = end + 200;
        } else {
            add(driver, entry, end, json!({"depth": 0}));
            thread.now = end;
        }
        Called { entry, ret: end }
    }

    fn quick(&mut self, thread: &mut Thread, stem: &str, both: &Value) -> Called {
        let took_ns = 1500 + self.below(4 * US);
        self.call(thread, stem, took_ns, both)
    }

    fn launch(&mut self, thread: &mut Thread, kernel: u64, width: u64, stream: &str) -> Called {
        let both = json!({"function": format!("0xf{kernel}"), "kernel": kernel,
            "grid": [width, 1, 1], "block": [128, 1, 1], "shared_bytes": 0, "stream": stream});
        self.quick(thread, "LaunchKernel", &both)
    }

    fn layers(&mut self, thread: &mut Thread, tokens: u64, stream: &str) {
        for _ in 0..LAYERS {
            self.launch(thread, NORM, tokens, stream);
            self.launch(thread, ATTENTION, 132, stream);
            self.launch(thread, NORM, tokens, stream);
            self.launch(thread, MLP, 4 * tokens, stream);
        }
    }

    fn copy(
        &mut self,
        thread: &mut Thread,
        kind: &str,
        bytes: u64,
        places: [u64; 2],
        stream: &str,
    ) -> Called {
        let [dst, src] = places.map(|place| format!("{place:#x}"));
        let both = json!({"bytes": bytes, "kind": kind, "dst": dst, "src": src, "stream": stream});
        self.quick(thread, &format!("Memcpy{kind}Async"), &both)
    }

    fn allocate(&mut self, thread: &mut Thread, rank: usize, bytes: u64) -> String {
        self.ranks[rank].next_address += 1;
        let address = 0x7000_0000_0000 + self.ranks[rank].next_address * 0x1_0000_0000;
        let ptr = format!("{address:#x}");
        self.quick(thread, "MemAlloc", &json!({"bytes": bytes, "ptr": ptr}));
        ptr
    }

    /// One graph of a whole model, or of a piece, and its executable graph.
    fn capture(&mut self, thread: &mut Thread, tokens: u64, number: u64, piece: Option<u64>) {
        let on_stream = json!({"stream": CAPTURED});
        self.quick(thread, "StreamBeginCapture", &on_stream);
        let kernels = match piece {
            None => {
                self.layers(thread, tokens, CAPTURED);
                [NORM, ATTENTION, NORM, MLP].repeat(LAYERS)
            }
            Some(piece) => {
                for _ in 0..=piece {
                    self.launch(thread, NORM, tokens, CAPTURED);
                }
                self.launch(thread, MLP, 4 * tokens, CAPTURED);
                let norms = usize::try_from(piece).unwrap() + 1;
                [vec![NORM; norms], vec![MLP]].concat()
            }
        };
        let graph = format!("{:#x}", 0x6000 + number);
        let graph_exec = format!("{:#x}", 0x8000 + number);
        self.quick(thread, "StreamEndCapture", &json!({"stream": CAPTURED, "graph": graph}));
        let both = json!({"graph": graph, "graph_exec": graph_exec});
        self.quick(thread, "GraphInstantiateWithFlags", &both);
        self.quick(thread, "GraphDestroy", &json!({"graph": graph}));
        let told = json!({"graph_exec": graph_exec, "kernels": kernels});
        self.told.graphs.insert((thread.pid, graph_exec), told);
    }

    /// Weights, a profile run, the cache, captures, and a warm-up for whose output nobody waits.
    fn start(&mut self, rank: usize, mapped: u64) {
        let mut thread = self.ranks[rank].main;
        let thread = &mut thread;
        let none = json!({});
        let ask = |maker: &mut Self, thread: &mut Thread| {
            thread.now += 20 * MS;
            let first = maker.lines.len();
            maker.quick(thread, "MemGetInfo", &none);
            maker.lines[first..].iter().map(|line| line.ts_ns).min().unwrap()
        };
        let first = self.quick(thread, "Init", &none).entry;
        let pinned = json!({"bytes": 64 * MIB, "ptr": format!("{PINNED:#x}")});
        self.quick(thread, "MemHostAlloc", &pinned);
        for event in EVENTS.iter().chain([&JOINT]) {
            self.quick(thread, "EventCreate", &json!({"event": event}));
        }
        let load = ask(self, thread);
        self.allocate(thread, rank, 700 * MIB);
        self.copy(thread, "HtoD", 700 * MIB, [1, PINNED], MAIN);
        let profile = ask(self, thread);
        self.launch(thread, MLP, 2048, MAIN);
        thread.now += 200 * MS;
        self.quick(thread, "LibraryLoadData", &none);
        let activations = self.allocate(thread, rank, 900 * MIB);
        self.layers(thread, 2048, MAIN);
        self.quick(thread, "MemFree", &json!({"ptr": activations}));
        let cache = ask(self, thread);
        self.allocate(thread, rank, 2000 * MIB);
        thread.now += 5 * MS;
        let captures = self.lines.len();
        for (number, tokens) in (0..).zip(WHOLE) {
            self.capture(thread, tokens, number, None);
        }
        for (number, tokens) in (0..).zip(PIECES) {
            for piece in 0..2 {
                self.capture(thread, tokens, 16 + 2 * number + piece, Some(piece));
            }
        }
        let of = |lines: &[Line], is_it: fn(&str) -> bool| {
            let found = lines.iter().filter(|line| is_it(&line.func));
            found.map(|line| (line.ts_ns, line.end_ns)).collect::<Vec<_>>()
        };
        let begun = of(&self.lines[captures..], |func| func.contains("BeginCapture"));
        let ended = of(&self.lines[captures..], |func| func.contains("EndCapture"));
        let (capture, _) = begun.into_iter().min().unwrap();
        let warm_up = ended.into_iter().map(|it| it.1).max().unwrap();
        // A trial.
        self.copy(thread, "HtoD", 64, [2, PINNED], MAIN);
        self.layers(thread, 8, MAIN);
        self.copy(thread, "DtoH", 32, [PINNED, SAMPLED], COPIES);
        self.quick(thread, "EventRecord", &json!({"event": EVENTS[0], "stream": COPIES}));
        let waiting = thread.now;
        let pid = thread.pid;
        for (stage, from, to) in [
            ("before_first_call", mapped, first),
            ("init", first, load),
            ("load", load, profile),
            ("profile", profile, cache),
            ("cache", cache, capture),
            ("capture", capture, warm_up),
            ("warm_up", warm_up, waiting),
            // Its end is the first step.
            ("waiting", waiting, 0),
        ] {
            self.truth.stages.push((pid, stage, from, to));
        }
        self.ranks[rank].main = *thread;
    }

    fn requests(&mut self) -> Vec<Request> {
        let mut at = 2500 * MS;
        let count = 9 + self.below(4);
        (0..count)
            .map(|number| {
                // Bursts, with a pause between them.
                at += if number % 8 == 0 { 80 * MS } else { self.below(4 * MS) };
                let most = if self.below(3) == 0 { 60 } else { 12 };
                let prompt = 2 + self.below(most);
                let tokens = 6 + self.below(10);
                Request { sent: at, prompt, left: tokens, tokens, handed: Vec::new() }
            })
            .collect()
    }

    fn serve(&mut self) -> Vec<Request> {
        let mut requests = self.requests();
        let mut step = 0;
        // The latest two hand-overs.
        let mut handed = [0_u64; 2];
        let held = 14 + self.random.below(8);
        // A thread that waits meanwhile would break the silence of the first.
        let who = if self.habits.is_ahead { 1 } else { self.random.below(self.ranks.len()) };
        let mut first_starts = vec![None; self.ranks.len()];
        loop {
            let free = if self.habits.is_ahead { handed[0] } else { handed[1] };
            let queued = self.ranks.iter().map(|rank| rank.main.now).max().unwrap();
            let mut plan = queued.max(free) + 80 * US + self.below(60 * US);
            let is_running = |it: &Request| it.left > 0 && it.left < it.tokens;
            if !requests.iter().any(is_running) {
                let waiting = requests.iter().filter(|it| it.left == it.tokens);
                let Some(next) = waiting.map(|it| it.sent).min() else { break };
                // An engine that has requests makes no pause, and one that has none makes one.
                plan = plan.max(next + 250 * US).max(handed[1] + 25 * MS);
            }
            let joins = |it: &Request| it.left == it.tokens && it.sent + 200 * US <= plan;
            let running: Vec<usize> =
                (0..requests.len()).filter(|&at| is_running(&requests[at])).collect();
            let room = 8 - running.len();
            let joining: Vec<usize> =
                (0..requests.len()).filter(|&at| joins(&requests[at])).take(room).collect();
            let prompts: u64 = joining.iter().map(|&at| requests[at].prompt).sum();
            let batch = Batch {
                decoding: running.len() as u64,
                joining: joining.len() as u64,
                tokens: running.len() as u64 + prompts,
            };
            let is_held = self.ranks.len() > 1 && step == held;
            let when = self.step(step, plan, &batch, is_held.then_some(who));
            for (rank, first) in first_starts.iter_mut().enumerate() {
                let pid = self.ranks[rank].main.pid;
                let start = || self.truth.steps.iter().find(|it| it.pid == pid).map(|it| it.start);
                *first = first.or_else(start);
            }
            handed = [handed[1], when];
            for at in running.into_iter().chain(joining) {
                let way = 250 * US + self.below(100 * US);
                let request = &mut requests[at];
                request.left -= 1;
                request.handed.push((when + way, step));
            }
            step += 1;
        }
        for stage in self.truth.stages.iter_mut().filter(|stage| stage.1 == "waiting") {
            let rank = self.ranks.iter().position(|rank| rank.main.pid == stage.0).unwrap();
            stage.3 = first_starts[rank].unwrap();
        }
        let of_first: Vec<u64> =
            self.truth.steps.iter().filter(|it| it.rank == 0).map(|it| it.start).collect();
        let ends = |request: &Request| {
            [request.handed[0], request.handed[request.handed.len() - 1]].map(|it| of_first[it.1])
        };
        self.truth.requests = requests.iter().map(ends).collect();
        if !self.habits.waste.is_empty() {
            let pids = self.ranks.iter().map(|rank| rank.main.pid);
            self.truth.findings = pids.map(|pid| (self.habits.waste, pid)).collect();
        }
        requests
    }

    /// Returns when the output was handed out.
    fn step(&mut self, number: usize, plan: u64, batch: &Batch, held: Option<usize>) -> u64 {
        let requests = batch.decoding + batch.joining;
        let (kind, mode, size) = batch.graphs();
        let mut steps = Vec::new();
        let mut submitted = 0;
        // Up to the model's last launch; a rank that was held up holds up all.
        for rank in 0..self.ranks.len() {
            let mut thread = self.ranks[rank].main;
            thread.now = plan + self.below(40 * US);
            let thread = &mut thread;
            let mut step = Step {
                pid: thread.pid,
                rank: rank as u64,
                kind,
                mode,
                graph_tokens: size,
                requests,
                tokens: batch.tokens,
                ..Step::default()
            };
            let positions = 8 * batch.tokens;
            step.start = self.copy(thread, "HtoD", positions, [2, PINNED], MAIN).entry;
            self.copy(thread, "HtoD", positions, [3, PINNED + 4096], MAIN);
            self.copy(thread, "HtoD", 4 * requests + 4, [4, PINNED + 8192], MAIN);
            step.copies = 3;
            if batch.decoding > 0 {
                self.copy(thread, "DtoD", 4 * batch.decoding, [5, SAMPLED], MAIN);
                step.copies += 1;
            }
            self.waste_before(thread, rank, &mut step);
            if held == Some(rank) {
                thread.now += 8 * MS + self.below(20 * MS);
            }
            match (mode, size) {
                ("FULL", Some(size)) => {
                    let at = WHOLE.iter().position(|it| *it == size).unwrap();
                    self.replay(thread, at as u64);
                    step.graph_launches = 1;
                }
                ("PIECEWISE", Some(size)) => {
                    let at = PIECES.iter().position(|it| *it == size).unwrap() as u64;
                    self.replay(thread, 16 + 2 * at);
                    self.launch(thread, ATTENTION, batch.tokens, MAIN);
                    self.replay(thread, 16 + 2 * at + 1);
                    step.graph_launches = 2;
                    step.launches = 1;
                }
                _ => {
                    self.layers(thread, batch.tokens, MAIN);
                    step.launches = 4 * LAYERS as u64;
                }
            }
            submitted = submitted.max(thread.now);
            self.ranks[rank].main = *thread;
            steps.push(step);
        }
        // As long for the same work as it is on a GPU.
        let took = 700 * US + 20 * US * batch.tokens + self.below(3 * US);
        self.main_end = self.main_end.max(submitted + 5 * US) + took;
        let mut handed = 0;
        for (rank, mut step) in steps.into_iter().enumerate() {
            let (when, outcome) = self.output(number, rank, requests, &mut step);
            if rank == 0 {
                handed = when;
                step.handed = Some(when);
            }
            step.end = outcome;
            if let Some(held) = held
                && rank == held
            {
                let (pid, start) = (step.pid, step.start);
                self.truth.silences.push((pid, start, start + MS));
            }
            self.truth.steps.push(step);
        }
        handed
    }

    /// What lies between the model and its output on the host.
    fn output(&mut self, number: usize, rank: usize, requests: u64, step: &mut Step) -> (u64, u64) {
        let mut thread = self.ranks[rank].main;
        let thread = &mut thread;
        if self.habits.waste == "sync_in_step" {
            let now = thread.now + 2 * US;
            let took = self.main_end.saturating_sub(now) + 10 * US;
            self.call(thread, "StreamSynchronize", took, &json!({"stream": MAIN}));
        }
        let sampled = self.launch(thread, SAMPLE, requests, MAIN);
        step.launches += 1;
        let computed = self.main_end.max(sampled.ret) + 20 * US;
        self.quick(thread, "EventRecord", &json!({"event": JOINT, "stream": MAIN}));
        self.quick(thread, "StreamWaitEvent", &json!({"event": JOINT, "stream": COPIES}));
        let copied = self.copy(thread, "DtoH", 4 * requests, [PINNED + 16384, SAMPLED], COPIES);
        step.copies += 1;
        let begun =
            self.ranks[rank].copies_end.max(computed).max(copied.entry + self.below(3 * US));
        let end = begun + 1500 + self.below(2 * US);
        self.ranks[rank].copies_end = end;
        let event = EVENTS[number % EVENTS.len()];
        let both = json!({"event": event, "stream": COPIES});
        let recorded = self.quick(thread, "EventRecord", &both);
        let signal = end.max(recorded.ret) + self.below(2 * US);
        if self.habits.polls {
            for _ in 0..self.below(4) {
                thread.now += self.below(60 * US);
                let asked = thread.now + 2 * US;
                // Asked early, so not ready for sure.
                if asked + 20 * US < signal {
                    self.call_with(thread, "EventQuery", US, &json!({"event": event}), 600);
                }
            }
        }
        if self.habits.keeps_books {
            self.copy(thread, "DtoD", 4, [6, SAMPLED + 4096], MAIN);
            step.copies += 1;
        }
        let mut handed = 0;
        if rank == 0 {
            let mut waiter = self.ranks[0].waiter;
            let late = if self.below(8) == 0 { self.below(4 * MS) } else { 0 };
            waiter.now = waiter.now.max(recorded.ret) + 10 * US + late;
            let wake = if self.habits.sleeps {
                40 * US + self.below(300 * US)
            } else {
                6500 + self.below(2 * US)
            };
            let entry = waiter.now + 6 * US + 300;
            let took = (signal + wake).saturating_sub(entry).max(5 * US);
            handed = self.call(&mut waiter, "EventSynchronize", took, &json!({"event": event})).ret;
            self.ranks[0].waiter = waiter;
        }
        self.ranks[rank].main = *thread;
        (handed, end)
    }

    fn replay(&mut self, thread: &mut Thread, number: u64) {
        let graph_exec = format!("{:#x}", 0x8000 + number);
        self.quick(thread, "GraphLaunch", &json!({"graph_exec": graph_exec, "stream": MAIN}));
    }

    fn waste_before(&mut self, thread: &mut Thread, rank: usize, step: &mut Step) {
        match self.habits.waste {
            "sync_copy" => {
                let both = json!({"bytes": 4096, "kind": "HtoD", "dst": "0x7",
                    "src": format!("{PINNED:#x}")});
                self.call(thread, "MemcpyHtoD", 40 * US, &both);
                step.copies += 1;
            }
            "allocation_in_step" => {
                let ptr = self.allocate(thread, rank, MIB);
                self.call(thread, "MemFree", 60 * US, &json!({"ptr": ptr}));
            }
            "pageable_copy" => {
                self.copy(thread, "HtoD", 4096, [7, PAGEABLE], MAIN);
                step.copies += 1;
            }
            "stream_creation" => {
                let stream = format!("{:#x}", 0xd000 + self.below(1 << 20));
                self.quick(thread, "StreamCreateWithPriority", &json!({"stream": stream}));
            }
            "errors" => {
                let both = json!({"bytes": 1_u64 << 50, "ptr": null});
                self.call_with(thread, "MemAlloc", 3 * US, &both, 2);
            }
            _ => {}
        }
    }
}

/// What a step computes.
struct Batch {
    decoding: u64,
    joining: u64,
    tokens: u64,
}

impl Batch {
    fn graphs(&self) -> (&'static str, &'static str, Option<u64>) {
        let least = |sizes: &[u64]| sizes.iter().copied().filter(|it| *it >= self.tokens).min();
        if self.joining == 0 {
            return ("decode", "FULL", least(&WHOLE));
        }
        let kind = if self.decoding == 0 { "prefill" } else { "mixed" };
        match least(&PIECES) {
            Some(size) => (kind, "PIECEWISE", Some(size)),
            None => (kind, "NONE", None),
        }
    }
}

/// What the runtime and the driver call it.
fn names(stem: &str) -> (&'static str, &'static str) {
    match stem {
        "Init" => ("", "cuInit"),
        "MemGetInfo" => ("cudaMemGetInfo", "cuMemGetInfo_v2"),
        "MemHostAlloc" => ("cudaHostAlloc", "cuMemHostAlloc"),
        "MemAlloc" => ("cudaMalloc", "cuMemAlloc_v2"),
        "MemFree" => ("cudaFree", "cuMemFree_v2"),
        "LibraryLoadData" => ("", "cuLibraryLoadData"),
        "EventCreate" => ("cudaEventCreateWithFlags", "cuEventCreate"),
        "EventRecord" => ("cudaEventRecord", "cuEventRecord"),
        "EventQuery" => ("cudaEventQuery", "cuEventQuery"),
        "EventSynchronize" => ("cudaEventSynchronize", "cuEventSynchronize"),
        "StreamWaitEvent" => ("cudaStreamWaitEvent", "cuStreamWaitEvent"),
        "StreamSynchronize" => ("cudaStreamSynchronize", "cuStreamSynchronize"),
        "StreamCreateWithPriority" => {
            ("cudaStreamCreateWithPriority", "cuStreamCreateWithPriority")
        }
        "StreamBeginCapture" => ("cudaStreamBeginCapture", "cuStreamBeginCapture_v2"),
        "StreamEndCapture" => ("cudaStreamEndCapture", "cuStreamEndCapture"),
        "GraphInstantiateWithFlags" => {
            ("cudaGraphInstantiateWithFlags", "cuGraphInstantiateWithFlags")
        }
        "GraphDestroy" => ("cudaGraphDestroy", "cuGraphDestroy"),
        "GraphLaunch" => ("cudaGraphLaunch", "cuGraphLaunch"),
        "LaunchKernel" => ("cudaLaunchKernel", "cuLaunchKernel"),
        "MemcpyHtoDAsync" => ("cudaMemcpyAsync", "cuMemcpyHtoDAsync_v2"),
        "MemcpyDtoHAsync" => ("cudaMemcpyAsync", "cuMemcpyDtoHAsync_v2"),
        "MemcpyDtoDAsync" => ("cudaMemcpyAsync", "cuMemcpyDtoDAsync_v2"),
        "MemcpyHtoD" => ("cudaMemcpy", "cuMemcpyHtoD_v2"),
        other => panic!("{other} has no name"),
    }
}
