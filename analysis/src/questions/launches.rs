//! `launches`: which kernels are launched, how often, by whom, and how many more by graph replays.

mod sequences;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use cuda::function::{Api, canonical};
use trace::line::Address;

use crate::{
    answer::{
        Answer, Cell, Chart, Column, Table, Unit, Value,
        units::{counted, duration, shown},
    },
    context::{
        Context,
        accounting::Loss,
        function::{ByName, FunctionId},
        process::ProcessId,
    },
    gap::Gap,
    grade::Grade,
    kernel_name::{Category, short},
    question::{Call, Question},
    questions::blocked::{Blocked, Run},
    timeline::Timeline,
};
use sequences::Sequences;

/// Different graphs that are told one by one.
const MAX_GRAPHS: usize = 65_536;

/// Different sizes of a kernel that are counted.
const MAX_SHAPES: usize = 64;

const SHOWN_KERNELS: usize = 25;
const SHOWN_GRAPHS: usize = 10;
const SHOWN_SEQUENCES: usize = 6;

#[derive(Default)]
pub struct Launches {
    kinds: ByName<Kind>,
    waits: ByName<bool>,
    /// By number; `None` is a launch whose kernel no field tells.
    kernels: HashMap<Option<u32>, OfKernel>,
    /// Replays of each graph as it is now.
    replaying: HashMap<(u32, u64), Replaying>,
    graphs: HashMap<GraphKey, OfGraph>,
    direct: u64,
    direct_ns: u64,
    captured: u64,
    failed: u64,
    replays: u64,
    replay_ns: u64,
    replayed: u64,
    /// Replays of graphs whose kernels no line tells.
    replays_unknown: u64,
    /// Of calls whose end is not known, which have neither kernel nor nesting: of the driver and of
    /// the runtime, launches and replays.
    flat: [[u64; 2]; 2],
    by_function: BTreeSet<FunctionId>,
    sequences: Sequences,
    blocked: BTreeMap<ProcessId, Blocked>,
    blocked_count: u64,
    blocked_ns: u64,
    rate: Option<Timeline>,
    kernel_rate: Option<Timeline>,
}

/// What a launching function launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Not,
    Kernel,
    Graph,
}

#[derive(Debug, Default, Clone)]
struct OfKernel {
    direct: u64,
    direct_ns: u64,
    max_ns: u64,
    replayed: u64,
    captured: u64,
    shapes: Vec<(Shape, u64)>,
    other_shapes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
}

struct Replaying {
    kernels: Arc<[u32]>,
    of: OfGraph,
}

#[derive(Debug, Default, Clone, Copy)]
struct OfGraph {
    kernels: u64,
    replays: u64,
    host_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GraphKey {
    pid: u32,
    graph_exec: u64,
    /// Of its kernels: a handle is used again.
    hash: u64,
}

impl Question for Launches {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        let kind = self.kinds.get(call.function, &context.functions, kind_of);
        if kind == Kind::Not {
            if self.waits.get(call.function, &context.functions, is_wait) {
                self.wait(call);
            }
            return;
        }
        self.by_function.insert(call.function);
        let line = call.line;
        let Some(depth) = line.depth else {
            let is_runtime = line.api == Api::Runtime.type_name();
            self.flat[usize::from(kind == Kind::Graph)][usize::from(is_runtime)] += 1;
            return;
        };
        // The driver's call of the runtime's: one launch.
        if depth > 0 && line.parent.is_some_and(|parent| kind_of(parent) == kind) {
            return;
        }
        if line.ret.is_some_and(|ret| ret != 0) {
            self.failed += 1;
            return;
        }
        match kind {
            Kind::Kernel => self.kernel(call, context),
            Kind::Graph => self.graph(call, context),
            Kind::Not => {}
        }
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        for ((pid, graph_exec), replaying) in std::mem::take(&mut self.replaying) {
            self.settle(pid, graph_exec, &replaying);
        }
        let mut blocked = std::mem::take(&mut self.blocked);
        for run in blocked.values_mut().flat_map(Blocked::finish) {
            self.block(run);
        }
        let mut answer = Answer::new("launches");
        let grade = self.grade(context);
        self.figures(&grade, &mut answer);
        let kernels = self.kernel_table(context, &grade);
        answer.sentences = self.sentences(&kernels);
        self.headline(&kernels, &grade, &mut answer);
        for (name, title, unit, timeline) in [
            ("launches", "launches and replays", Unit::Count, &self.rate),
            ("kernels", "kernels", Unit::Count, &self.kernel_rate),
        ] {
            if let Some(timeline) = timeline {
                let grade = grade.clone().without_counts();
                answer.series(name, title, unit, grade, timeline, &context.time);
            }
        }
        let sequences = self.sequence_table(context, &grade);
        answer.tables =
            vec![category_table(&kernels, &grade), kernels, sequences, self.graph_table(&grade)];
        answer.notes.push(
            "runs counts launches and graph replays; host time is that of the launching call, not of \
             the GPU, which calls do not tell"
                .to_owned(),
        );
        answer.notes.push(
            "sequences: what a thread launches into one stream, one after the other; sequences of 2, \
             4, 8 and 16 kernels are counted, each for itself: a launch may be in several sequences, and in one \
             occurrence of each"
                .to_owned(),
        );
        answer
    }
}

impl Launches {
    fn wait(&mut self, call: &Call<'_>) {
        let is_outermost = call.line.depth == Some(0);
        let blocked = self.blocked.get_mut(&call.process).filter(|_| is_outermost);
        if let Some(run) = blocked.and_then(|it| it.wait(call.line.tid.unwrap_or(0))) {
            self.block(run);
        }
    }

    fn block(&mut self, Run { long, excess_ns, .. }: Run) {
        self.blocked_count += u64::from(long);
        self.blocked_ns = self.blocked_ns.saturating_add(excess_ns);
    }

    fn kernel(&mut self, call: &Call<'_>, context: &Context) {
        let line = call.line;
        let dur_ns = line.dur_ns.unwrap_or(0);
        let kernel = self.kernels.entry(line.kernel).or_default();
        let stream = line.stream.unwrap_or(Address(0)).0;
        if context.captures.origin(line.pid, stream).is_some() {
            kernel.captured += 1;
            self.captured += 1;
            return;
        }
        kernel.direct += 1;
        kernel.direct_ns = kernel.direct_ns.saturating_add(dur_ns);
        kernel.max_ns = kernel.max_ns.max(dur_ns);
        if let (Some(grid), Some(block)) = (line.grid, line.block) {
            kernel.shape(Shape { grid, block });
        }
        let tid = line.tid.unwrap_or(0);
        self.sequences.launch((line.pid, tid), stream, line.kernel, dur_ns);
        let blocked = self.blocked.entry(call.process).or_default();
        blocked.queued();
        let run = blocked.launch(tid, call.function, context.place, line.ts_ns, dur_ns);
        if let Some(run) = run {
            self.block(run);
        }
        self.direct += 1;
        self.direct_ns = self.direct_ns.saturating_add(dur_ns);
        self.rate.get_or_insert_with(Timeline::sums).add(line.ts_ns, 1.0);
        self.kernel_rate.get_or_insert_with(Timeline::sums).add(line.ts_ns, 1.0);
    }

    fn graph(&mut self, call: &Call<'_>, context: &Context) {
        let line = call.line;
        let dur_ns = line.dur_ns.unwrap_or(0);
        self.sequences.end((line.pid, line.tid.unwrap_or(0)));
        self.blocked.entry(call.process).or_default().queued();
        self.replays += 1;
        self.replay_ns = self.replay_ns.saturating_add(dur_ns);
        self.rate.get_or_insert_with(Timeline::sums).add(line.ts_ns, 1.0);
        let graph_exec = line.graph_exec.unwrap_or(Address(0));
        let Some(kernels) = context.graphs.kernels(line.pid, graph_exec) else {
            self.replays_unknown += 1;
            return;
        };
        self.replayed += kernels.len() as u64;
        let timeline = self.kernel_rate.get_or_insert_with(Timeline::sums);
        timeline.add(line.ts_ns, kernels.len() as f64);
        let key = (line.pid, graph_exec.0);
        let is_same = self.replaying.get(&key).is_some_and(|it| Arc::ptr_eq(&it.kernels, kernels));
        if !is_same {
            let new = Replaying { kernels: Arc::clone(kernels), of: OfGraph::default() };
            if let Some(old) = self.replaying.insert(key, new) {
                self.settle(key.0, key.1, &old);
            }
        }
        let of = &mut self.replaying.get_mut(&key).expect("it was just put there").of;
        of.replays += 1;
        of.host_ns = of.host_ns.saturating_add(dur_ns);
    }

    /// A graph is given up, or its line stands anew in the next segment.
    fn settle(&mut self, pid: u32, graph_exec: u64, replaying: &Replaying) {
        let Replaying { kernels, of } = replaying;
        for id in &**kernels {
            self.kernels.entry(Some(*id)).or_default().replayed += of.replays;
        }
        let mut hasher = DefaultHasher::new();
        kernels.hash(&mut hasher);
        let key = GraphKey { pid, graph_exec, hash: hasher.finish() };
        if self.graphs.len() < MAX_GRAPHS || self.graphs.contains_key(&key) {
            let sum = self.graphs.entry(key).or_default();
            sum.kernels = kernels.len() as u64;
            sum.replays += of.replays;
            sum.host_ns = sum.host_ns.saturating_add(of.host_ns);
        }
    }

    /// Of every count: what is lost of one launch may be any kernel.
    fn grade(&self, context: &Context) -> Standing {
        let mut names: Vec<&str> =
            self.by_function.iter().map(|id| &*context.functions.get(*id).name).collect();
        // What was never read may have been called all the same.
        names.extend(context.accounting.names(&context.functions).into_iter().filter(|name| {
            kind_of(name) != Kind::Not || FOLLOWED.iter().any(|part| name.contains(part))
        }));
        let standing = match context.loss_of_all(names) {
            Loss::None(grade) => Standing::Known(grade),
            Loss::AtMost(_) | Loss::Unbounded => Standing::AtLeast,
            Loss::Extra => Standing::Unknown("lines may stand twice, or in a wrong place"),
        };
        match standing {
            _ if context.gaps.iter().any(Gap::may_reorder_lines) => {
                Standing::Unknown("lines may stand in a wrong place")
            }
            Standing::Known(_) if self.replays_unknown > 0 || self.flat != [[0; 2]; 2] => {
                Standing::AtLeast
            }
            standing => standing,
        }
    }

    /// No line tells more than that a call began.
    fn is_flat(&self) -> bool {
        self.flat != [[0; 2]; 2] && self.direct + self.captured + self.replays == 0
    }

    fn figures(&self, standing: &Standing, answer: &mut Answer) {
        // The driver has those of the runtime too, where it is traced.
        let [flat, flat_replays] = self.flat.map(|[driver, runtime]| driver.max(runtime));
        let is_flat = self.is_flat();
        let (direct, replays) = (self.direct + flat, self.replays + flat_replays);
        // Without nesting, a launch of the one is not told from a launch of both.
        let grade = |count: u64| {
            if is_flat && !matches!(standing, Standing::Unknown(_)) {
                Grade::at_least(count as f64)
            } else {
                standing.of(count as f64)
            }
        };
        let mut count = |name, title, count: u64, grade| {
            answer.figure(name, title, Unit::Count, count, grade);
        };
        count("launches", "launches of a kernel", direct, grade(direct));
        count("replays", "graph replays", replays, grade(replays));
        if is_flat {
            return;
        }
        let kernels = self.direct + self.replayed;
        count("kernels", "kernels, with those of replays", kernels, grade(kernels));
        count(
            "captured",
            "launches into a capture",
            self.captured,
            standing.of(self.captured as f64),
        );
        count("failed", "launches that failed", self.failed, standing.of(self.failed as f64));
        if self.blocked_count > 0 {
            let blocked = self.blocked_count;
            let title = "launches that blocked on a full queue";
            count("blocked", title, blocked, standing.of(blocked as f64));
        }
        if self.replays_unknown > 0 {
            let unknown = self.replays_unknown;
            count("replays_unknown", "replays of unknown graphs", unknown, grade(unknown));
        }
        for (name, title, ns) in [
            ("launch_host_ns", "host time in launches", self.direct_ns),
            ("replay_host_ns", "host time in replays", self.replay_ns),
            ("blocked_ns", "host time in launches that blocked", self.blocked_ns),
        ] {
            if ns == 0 && name == "blocked_ns" {
                continue;
            }
            answer.figure(name, title, Unit::Nanoseconds, ns, standing.of(ns as f64));
        }
    }

    fn sentences(&self, kernels: &Table) -> Vec<String> {
        if self.is_flat() {
            return vec![
                "The trace has entries only: neither kernels nor nesting are in its lines."
                    .to_owned(),
            ];
        }
        let Some(first) = kernels.rows.first() else {
            return vec!["No kernel was launched.".to_owned()];
        };
        let all = self.direct + self.replayed;
        let part = |count: u64| shown(&Value::Float(count as f64 / all.max(1) as f64), Unit::Ratio);
        let (times, all_runs) =
            (shown(&first[2].value, Unit::Count), shown(&all.into(), Unit::Count));
        let name = shown(&first[0].value, Unit::None);
        let mut sentences = vec![match ties(kernels) {
            1 => format!("{name} ran most often: {times} times of {all_runs} kernels."),
            ties => format!(
                "{ties} kernels ran most often: {times} times each of {all_runs} kernels; of them {name} \
                 took the most host time."
            ),
        }];
        if self.replays > 0 {
            sentences.push(format!(
                "{} graph replays brought {} of the kernels in {} of host time; single launches took {}.",
                shown(&self.replays.into(), Unit::Count),
                part(self.replayed),
                duration(self.replay_ns as f64),
                duration(self.direct_ns as f64)
            ));
        }
        sentences
    }

    fn headline(&self, kernels: &Table, standing: &Standing, answer: &mut Answer) {
        const TITLE: &str = "which kernel ran most?";
        let Some(row) = kernels.rows.first() else {
            let detail = self.sentences(kernels).concat();
            answer.headline(TITLE, Unit::None, Value::None, Grade::Exact, detail);
            return;
        };
        let all = self.direct + self.replayed;
        let runs = integer(&row[2]);
        let share = shown(&Value::Float(runs as f64 / all.max(1) as f64), Unit::Ratio);
        let times = shown(&row[2].value, Unit::Count);
        let who = match ties(kernels) {
            1 => format!("It ran {times} times"),
            ties => format!(
                "{ties} kernels ran {times} times each; of them this one took the most host time, {}. Each \
                 is",
                shown(&row[6].value, Unit::Nanoseconds)
            ),
        };
        let comma = if who.ends_with("is") { "" } else { "," };
        let detail = format!(
            "{who}{comma} {share} of {}; replays of graphs brought {} of its runs.",
            counted(all, "run of a kernel", "runs of kernels"),
            shown(&row[4].value, Unit::Count)
        );
        // Lost calls could be those of another kernel.
        let grade = match standing.of(runs as f64) {
            Grade::Bounds { .. } => Grade::unknown("launches are missing"),
            grade => grade,
        };
        answer.headline(TITLE, Unit::None, row[0].value.clone(), grade, detail);
    }

    fn kernel_table(&self, context: &Context, standing: &Standing) -> Table {
        let grade = standing.clone().without_counts();
        let mut table = Table::new(
            "kernels",
            "Kernels",
            vec![
                Column::new("kernel", "kernel", Unit::None),
                Column::new("category", "category", Unit::None),
                Column::new("runs", "runs", Unit::Count).graded(grade.clone()),
                Column::new("launched", "launched", Unit::Count).graded(grade.clone()),
                Column::new("replayed", "replayed", Unit::Count).graded(grade.clone()),
                Column::new("captured", "captured", Unit::Count).graded(grade.clone()).hidden(),
                Column::new("host_ns", "host time", Unit::Nanoseconds).graded(grade.clone()),
                Column::new("max_ns", "max", Unit::Nanoseconds).graded(grade.clone()),
                Column::new("grid", "top grid", Unit::None),
                Column::new("block", "top block", Unit::None),
                Column::new("full_name", "full name", Unit::None).hidden(),
                Column::new("id", "number", Unit::None).hidden(),
            ],
        );
        for (id, of) in &self.kernels {
            let kernel = id.and_then(|id| context.kernels.get(id));
            let full = kernel.and_then(|kernel| kernel.full_name());
            let name = match (full, kernel.and_then(|it| it.reason.as_deref()), id) {
                (Some(full), ..) => short(full).to_owned(),
                (None, Some(reason), Some(id)) => format!("kernel {id}, without a name: {reason}"),
                (None, None, Some(id)) => format!("kernel {id}, whose line is missing"),
                (None, _, None) => "kernels whose handle was not read".to_owned(),
            };
            let category = full.map(|full| Category::of(full).name());
            let (shape, shape_grade) = of.top_shape();
            let sizes = |sizes: [u32; 3]| Value::List(sizes.map(Value::from).to_vec());
            let count = |count: u64| Cell::graded(count, standing.of(count as f64));
            table.rows.push(vec![
                name.into(),
                category.map_or("unknown", |name| name).into(),
                count(of.direct + of.replayed),
                count(of.direct),
                count(of.replayed),
                count(of.captured),
                Cell::graded(of.direct_ns, standing.of(of.direct_ns as f64)),
                Cell::graded(of.max_ns, standing.of(of.max_ns as f64)),
                Cell::graded(shape.map_or(Value::None, |it| sizes(it.grid)), shape_grade.clone()),
                Cell::graded(shape.map_or(Value::None, |it| sizes(it.block)), shape_grade),
                full.map(str::to_owned).into(),
                (*id).into(),
            ]);
        }
        table.rows.sort_by_cached_key(|row| {
            (
                std::cmp::Reverse(integer(&row[2])),
                std::cmp::Reverse(integer(&row[6])),
                std::cmp::Reverse(integer(&row[5])),
                integer(&row[11]),
            )
        });
        table.shown = SHOWN_KERNELS;
        table.chart = Some(Chart::Bars(&["runs", "host_ns"]));
        table.reading = "runs = launched + replayed; the grid and block are those used most often";
        table
    }

    fn sequence_table(&self, context: &Context, standing: &Standing) -> Table {
        let grade = standing.clone().without_counts();
        let mut table = Table::new(
            "sequences",
            "Kernels that follow each other often: for a graph, or for fusing",
            vec![
                Column::new("kernels", "kernels", Unit::None),
                Column::new("length", "length", Unit::Count),
                Column::new("count", "count", Unit::Count).graded(grade.clone()),
                Column::new("host_ns", "host time", Unit::Nanoseconds).graded(grade),
                Column::new("ids", "numbers", Unit::None).hidden(),
            ],
        );
        for it in self.sequences.frequent() {
            let name = |id: Option<u32>| {
                let kernel = id.and_then(|id| context.kernels.get(id));
                kernel.and_then(|kernel| kernel.full_name()).map_or("?", short).to_owned()
            };
            let names: Vec<String> = it.kernels.iter().map(|id| name(*id)).collect();
            let length = names.len();
            // A loop is told once.
            let is_loop = |period: &usize| {
                length.is_multiple_of(*period)
                    && (*period..length).all(|at| names[at] == names[at - period])
            };
            let period = (1..length).find(is_loop).unwrap_or(length);
            let mut text = names[..period].join(" > ");
            if period < length {
                text = format!("{} times: {text}", length / period);
            }
            let ids = it.kernels.iter().map(|id| Value::from(*id)).collect();
            let graded = |low: u64, high: Option<u64>| match (standing, high) {
                (Standing::Known(_), Some(high)) if high > low => {
                    Grade::between(low as f64, high as f64)
                }
                (Standing::Known(_), None) if it.more > 0 => Grade::at_least(low as f64),
                (standing, _) => standing.of(low as f64),
            };
            table.rows.push(vec![
                text.into(),
                length.into(),
                Cell::graded(it.count, graded(it.count, Some(it.count.saturating_add(it.more)))),
                Cell::graded(it.host_ns, graded(it.host_ns, None)),
                Value::List(ids).into(),
            ]);
        }
        table.shown = SHOWN_SEQUENCES;
        table
    }

    fn graph_table(&self, standing: &Standing) -> Table {
        let grade = standing.clone().without_counts();
        let mut table = Table::new(
            "graphs",
            "Graphs that were replayed",
            vec![
                Column::new("graph_exec", "graph", Unit::None),
                Column::new("pid", "pid", Unit::None),
                Column::new("kernels", "kernels", Unit::Count),
                Column::new("replays", "replays", Unit::Count).graded(grade.clone()),
                Column::new("host_ns", "host time", Unit::Nanoseconds).graded(grade),
            ],
        );
        for (GraphKey { pid, graph_exec, .. }, of) in &self.graphs {
            table.rows.push(vec![
                Address(*graph_exec).to_string().into(),
                (*pid).into(),
                of.kernels.into(),
                Cell::graded(of.replays, standing.of(of.replays as f64)),
                Cell::graded(of.host_ns, standing.of(of.host_ns as f64)),
            ]);
        }
        table.rows.sort_by_cached_key(|row| {
            let name = match &row[0].value {
                Value::Text(name) => name.clone(),
                _ => String::new(),
            };
            // A handle may come again: the order must not be that of a hash.
            (std::cmp::Reverse(integer(&row[3])), name, [1, 2, 4].map(|at| integer(&row[at])))
        });
        table.shown = SHOWN_GRAPHS;
        table.chart = Some(Chart::Bars(&["replays", "host_ns"]));
        table
    }
}

impl OfKernel {
    fn shape(&mut self, shape: Shape) {
        if let Some(at) = self.shapes.iter().position(|(other, _)| *other == shape) {
            self.shapes[at].1 += 1;
            // The frequent ones come to the front.
            self.shapes.swap(at, at.saturating_sub(1));
        } else if self.shapes.len() < MAX_SHAPES {
            self.shapes.push((shape, 1));
        } else {
            self.other_shapes += 1;
        }
    }

    /// The most frequent of those that were counted; it is so of all where it leads by enough.
    fn top_shape(&self) -> (Option<Shape>, Grade) {
        let Some((shape, count)) = self.shapes.iter().max_by_key(|(_, count)| *count) else {
            return (None, Grade::Exact);
        };
        let grade = if *count >= self.other_shapes {
            Grade::Exact
        } else {
            Grade::unknown("the kernel has more sizes than are counted")
        };
        (Some(*shape), grade)
    }
}

fn category_table(kernels: &Table, standing: &Standing) -> Table {
    let grade = standing.clone().without_counts();
    let mut table = Table::new(
        "categories",
        "Kernels by category, as their names tell",
        vec![
            Column::new("category", "category", Unit::None),
            Column::new("kernels", "different", Unit::Count),
            Column::new("runs", "runs", Unit::Count).graded(grade.clone()),
            Column::new("share", "share", Unit::Ratio).graded(grade.clone()),
            Column::new("host_ns", "host time", Unit::Nanoseconds).graded(grade),
        ],
    );
    let mut sums: BTreeMap<String, (u64, i128, i128)> = BTreeMap::new();
    for row in &kernels.rows {
        let Value::Text(category) = &row[1].value else { continue };
        let sum = sums.entry(category.clone()).or_default();
        sum.0 += 1;
        sum.1 += integer(&row[2]);
        sum.2 += integer(&row[6]);
    }
    let all: i128 = sums.values().map(|(_, runs, _)| runs).sum();
    for (category, (different, runs, host_ns)) in sums {
        let share = (all > 0).then(|| runs as f64 / all as f64);
        table.rows.push(vec![
            category.into(),
            different.into(),
            Cell::graded(Value::Integer(runs), standing.of(runs as f64)),
            share.into(),
            Cell::graded(Value::Integer(host_ns), standing.of(host_ns as f64)),
        ]);
    }
    table.rows.sort_by_key(|row| std::cmp::Reverse(integer(&row[2])));
    table.chart = Some(Chart::Bars(&["runs", "host_ns"]));
    table
}

fn integer(cell: &Cell) -> i128 {
    match cell.value {
        Value::Integer(number) => number,
        _ => -1,
    }
}

/// How counts are known, before there is one.
#[derive(Debug, Clone)]
enum Standing {
    Known(Grade),
    AtLeast,
    Unknown(&'static str),
}

impl Standing {
    fn of(&self, count: f64) -> Grade {
        match self {
            Self::Known(grade) => grade.clone(),
            Self::AtLeast => Grade::at_least(count),
            Self::Unknown(reason) => Grade::unknown(*reason),
        }
    }

    /// Of a column, whose cells differ.
    fn without_counts(self) -> Grade {
        match self {
            Self::AtLeast => Grade::Bounds { low: None, high: None },
            other => other.of(0.0),
        }
    }
}

/// For the GPU.
fn is_wait(name: &str) -> bool {
    matches!(
        canonical(name),
        "cuEventSynchronize"
            | "cudaEventSynchronize"
            | "cuStreamSynchronize"
            | "cudaStreamSynchronize"
            | "cuCtxSynchronize"
            | "cudaDeviceSynchronize"
    )
}

/// Parts of the names of functions that tell what is captured and what a handle stands for.
const FOLLOWED: [&str; 4] = ["BeginCapture", "EndCapture", "GraphInstantiate", "GraphExec"];

pub(super) fn kind_of(name: &str) -> Kind {
    match canonical(name) {
        "cuLaunch"
        | "cuLaunchGrid"
        | "cuLaunchGridAsync"
        | "cuLaunchKernel"
        | "cuLaunchKernelEx"
        | "cuLaunchCooperativeKernel"
        | "cuLaunchCooperativeKernelMultiDevice"
        | "cudaLaunch"
        | "cudaLaunchKernel"
        | "cudaLaunchKernelExC"
        | "cudaLaunchCooperativeKernel"
        | "cudaLaunchCooperativeKernelMultiDevice"
        | "__cudaLaunchKernel" => Kind::Kernel,
        "cuGraphLaunch" | "cudaGraphLaunch" => Kind::Graph,
        _ => Kind::Not,
    }
}
/// Kernels that ran as often as the first one.
fn ties(kernels: &Table) -> usize {
    let runs = |row: &Vec<Cell>| integer(&row[2]);
    let most = kernels.rows.first().map(runs);
    kernels.rows.iter().take_while(|row| Some(runs(row)) == most).count()
}
