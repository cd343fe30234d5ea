//! `memory`: what is allocated, by whom and how, the peak and what held it, what is never freed.

mod changes;
pub(in crate::questions) mod live;
mod nvml;
mod vllm_log;

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use trace::line::MetaLine;

use crate::{
    answer::{
        Answer, Cell, Chart, Column, Table, Unit, Value,
        units::{bytes, duration},
    },
    context::{Context, accounting::Loss, function::ByName, process::ProcessId},
    gap::{Cause, Gap},
    grade::Grade,
    question::{Call, Question},
    timeline::Timeline,
};
use changes::Changes;
use live::{Action, Change, Group, Kind};
use nvml::beside::{Beside, Known};
use vllm_log::{About, Statement};

const SHOWN_GROUPS: usize = 15;

/// Captures that lie further apart are two batches.
const CAPTURES_APART_NS: i64 = 500_000_000;

/// Processes whose memory over time is told one by one.
const MAX_SERIES: usize = 16;

const SECOND_NS: i64 = 1_000_000_000;

pub struct Memory {
    actions: ByName<Option<Action>>,
    live: live::Memory,
    sums: BTreeMap<(ProcessId, Kind), Sum>,
    processes: BTreeMap<ProcessId, OfProcess>,
    sizes: BTreeMap<u32, Sizes>,
    device: Timeline,
    host: Timeline,
    host_bytes: u64,
    freed_unknown: u64,
    unreadable: u64,
    implicit: (u64, u64),
    changes: Changes,
    /// Calls of several processes changed what is live while their lines were out of order.
    is_interleaved: bool,
    /// The time that was asked for has begun.
    has_begun: bool,
    log: Vec<Logged>,
    nvml: Option<Beside>,
}

#[derive(Debug, Default, Clone)]
struct Sum {
    allocations: u64,
    frees: u64,
    allocated: u64,
    live: u64,
    peak: u64,
    failed: u64,
    failed_bytes: u64,
}

#[derive(Default)]
struct OfProcess {
    device_bytes: u64,
    device: Option<Timeline>,
    peak: u64,
    captures: Captures,
}

/// Live device memory around the latest time in which graphs were captured.
#[derive(Debug, Default, Clone, Copy)]
struct Captures {
    latest_ns: Option<i64>,
    before: Option<u64>,
    after: Option<u64>,
}

/// Allocations of a power of two and more.
#[derive(Debug, Default, Clone, Copy)]
struct Sizes {
    allocations: u64,
    bytes: u64,
}

/// A statement of vLLM, with what was live in that second.
struct Logged {
    statement: Statement,
    unix_ns: Option<i64>,
    low: Option<u64>,
    high: u64,
    /// A moment before.
    latest: u64,
    /// Live before the captures of that time.
    before_captures: Option<u64>,
}

impl Question for Memory {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        if !self.has_begun {
            self.begin(call.line.ts_ns);
        }
        self.follow(call, context);
    }

    /// What is live when the window begins was allocated before.
    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.follow(call, context);
    }

    fn gap(&mut self, gap: &Gap, _: &Context) {
        if matches!(gap.cause, Cause::Interleaved { .. }) {
            self.is_interleaved |= self.changes.any_within(gap.from_ns, gap.to_ns);
        }
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        if let Some(nvml) = &mut self.nvml {
            nvml.startup().meta(line, context);
        }
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        let mut answer = Answer::new("memory");
        let standing = self.standing(context);
        let over_processes = standing.over_processes(self.is_interleaved);
        let nvml = self
            .nvml
            .take()
            .map(|nvml| nvml.answer(&self.known(&|value| standing.live(value)), context));
        self.figures(&standing, &over_processes, context, &mut answer);
        answer.sentences = self.sentences(context);
        let peak = self.live.peak.bytes;
        answer.headline(
            "how much device memory was live at the peak?",
            Unit::Bytes,
            peak,
            over_processes.live(peak),
            answer.sentences.join(" "),
        );
        self.series(&standing, &over_processes, context, &mut answer);
        answer.tables = vec![
            self.allocators(&standing, context),
            Self::groups(
                "peak_holders",
                "Live at the peak, by size",
                &self.live.groups_at_peak(),
                |_| over_processes.time(),
                context,
            ),
            Self::groups(
                "never_freed",
                "Live at the end, by size",
                &self.live.groups(),
                |value| standing.live(value),
                context,
            ),
            self.histogram(&standing),
            self.referee(&standing, context),
        ];
        answer.notes.push(
            "bytes are those that the program asked for; contexts, modules, arrays and what pools and \
             the driver keep are not among them. Calls do not tell the device: count by process"
                .to_owned(),
        );
        if let Some((table, sentence, notes)) = nvml {
            answer.sentences.push(sentence);
            answer.tables.push(table);
            answer.notes.extend(notes);
        }
        answer
    }
}

impl Memory {
    pub fn new(log: Option<&Path>, nvml: Option<&Path>) -> Result<Self> {
        let log = log.map(vllm_log::read).transpose()?.unwrap_or_default();
        let logged = |statement| Logged {
            statement,
            unix_ns: None,
            low: None,
            high: 0,
            latest: 0,
            before_captures: None,
        };
        Ok(Self {
            actions: ByName::default(),
            live: live::Memory::default(),
            sums: BTreeMap::new(),
            processes: BTreeMap::new(),
            sizes: BTreeMap::new(),
            device: Timeline::levels(),
            host: Timeline::levels(),
            host_bytes: 0,
            freed_unknown: 0,
            unreadable: 0,
            implicit: (0, 0),
            changes: Changes::default(),
            is_interleaved: false,
            has_begun: false,
            log: log.into_iter().map(logged).collect(),
            nvml: nvml.map(Beside::read).transpose()?,
        })
    }

    /// What went before counts only as far as it is still live.
    fn begin(&mut self, ts_ns: i64) {
        self.has_begun = true;
        for sum in self.sums.values_mut() {
            *sum = Sum { live: sum.live, peak: sum.live, ..Sum::default() };
        }
        for process in self.processes.values_mut() {
            process.peak = process.device_bytes;
            process.device = None;
        }
        self.sizes.clear();
        (self.device, self.host) = (Timeline::levels(), Timeline::levels());
        (self.freed_unknown, self.unreadable, self.implicit) = (0, 0, (0, 0));
        self.live.peak = live::Peak::at(self.live.device_bytes(), ts_ns);
    }

    fn follow(&mut self, call: &Call<'_>, context: &Context) {
        if call.line.graph.is_some() || call.line.stream.is_some() {
            self.watch_captures(call, context);
        }
        if let Some(nvml) = &mut self.nvml {
            nvml.call(call, context);
        }
        self.account(call, context);
    }

    /// For what is set beside: who holds a hundredth of the peak or more.
    fn known<'a>(&self, live: &'a dyn Fn(u64) -> Grade) -> Known<'a> {
        let peak = self.live.peak.bytes;
        let holders = self.processes.iter().filter(|(_, it)| it.peak > peak / 100);
        Known { holders: holders.map(|(id, _)| *id).collect(), peak, live }
    }

    /// What is live on the device after a call of the process; `None` if it has nothing to do with
    /// memory.
    pub(super) fn account(&mut self, call: &Call<'_>, context: &Context) -> Option<u64> {
        let line = call.line;
        let action = self.actions.get(call.function, &context.functions, Action::of)?;
        // The driver's call of the runtime's: one allocation.
        if line.depth.is_some_and(|depth| depth > 0)
            && line.parent.and_then(Action::of).is_some_and(|parent| parent == action)
        {
            return None;
        }
        if line.is_entry() {
            self.unreadable += u64::from(action.makes());
            return None;
        }
        if line.ret.is_some_and(|ret| ret != 0) {
            if let Action::Allocate(kind) = action {
                let sum = self.sums.entry((call.process, kind)).or_default();
                sum.failed += 1;
                sum.failed_bytes = sum.failed_bytes.saturating_add(line.bytes.unwrap_or(0));
            }
            return None;
        }
        let ts_ns = line.end_ns();
        let change = match action {
            Action::Reset => {
                let (count, bytes) = self.live.reset(call.process);
                self.implicit.0 += count;
                self.implicit.1 = self.implicit.1.saturating_add(bytes);
                for kind in Kind::ALL.into_iter().filter(|kind| kind.is_on_device()) {
                    if let Some(sum) = self.sums.get_mut(&(call.process, kind)) {
                        sum.live = 0;
                    }
                }
                self.processes.entry(call.process).or_default().device_bytes = 0;
                Change::Nothing
            }
            action => {
                let before = self.live.device_bytes();
                let change = self.live.follow(action, call.process, line);
                self.settle(call.process, before, change);
                change
            }
        };
        match change {
            Change::Allocated(kind, bytes) => {
                if kind == Kind::Managed
                    && let Some(nvml) = &mut self.nvml
                {
                    nvml.has_managed();
                }
                let sizes = self.sizes.entry(bytes.max(1).ilog2()).or_default();
                sizes.allocations += 1;
                sizes.bytes = sizes.bytes.saturating_add(bytes);
                let sum = self.sums.entry((call.process, kind)).or_default();
                sum.allocations += 1;
                sum.allocated = sum.allocated.saturating_add(bytes);
                sum.live = sum.live.saturating_add(bytes);
                sum.peak = sum.peak.max(sum.live);
            }
            Change::Freed(kind, bytes) => {
                let sum = self.sums.entry((call.process, kind)).or_default();
                sum.frees += 1;
                sum.live = sum.live.saturating_sub(bytes);
            }
            Change::FreedUnknown => self.freed_unknown += 1,
            Change::Unreadable => self.unreadable += 1,
            Change::Nothing => {}
        }
        self.changes.add(line.ts_ns, ts_ns);
        self.record(call.process, ts_ns, context);
        Some(self.live_of(call.process))
    }

    /// What is live on the device of a process.
    pub(super) fn live_of(&self, process: ProcessId) -> u64 {
        self.processes.get(&process).map_or(0, |process| process.device_bytes)
    }

    /// What is live on the device at the end, and how that is known.
    pub(super) fn live_at_end(&self, context: &Context) -> (u64, Grade) {
        let live = self.live.device_bytes();
        (live, self.standing(context).live(live))
    }

    /// Sums of the process follow those of the whole: an address that comes again frees silently.
    fn settle(&mut self, process: ProcessId, before: u64, change: Change) {
        let after = self.live.device_bytes();
        let of_process = self.processes.entry(process).or_default();
        of_process.device_bytes =
            of_process.device_bytes.saturating_add(after).saturating_sub(before);
        of_process.peak = of_process.peak.max(of_process.device_bytes);
        match change {
            Change::Allocated(Kind::Host | Kind::Registered, bytes) => {
                self.host_bytes = self.host_bytes.saturating_add(bytes);
            }
            Change::Freed(Kind::Host | Kind::Registered, bytes) => {
                self.host_bytes = self.host_bytes.saturating_sub(bytes);
            }
            Change::Allocated(kind, bytes) => {
                let silently = before.saturating_add(bytes).saturating_sub(after);
                if let Some(sum) = self.sums.get_mut(&(process, kind)) {
                    sum.live = sum.live.saturating_sub(silently);
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, process: ProcessId, ts_ns: i64, context: &Context) {
        let all = self.live.device_bytes();
        self.device.add(ts_ns, all as f64);
        self.host.add(ts_ns, self.host_bytes as f64);
        let count = self.processes.len();
        let of_process = self.processes.entry(process).or_default();
        let (device_bytes, captures) = (of_process.device_bytes, of_process.captures);
        if count <= MAX_SERIES {
            let timeline = of_process.device.get_or_insert_with(Timeline::levels);
            timeline.add(ts_ns, device_bytes as f64);
        }
        if self.log.is_empty() && self.nvml.is_none() {
            return;
        }
        let pid = context.processes.get(process).pid;
        let Some(now) = context.time.unix_ns(ts_ns) else { return };
        if let Some(nvml) = &mut self.nvml {
            nvml.change(now, all);
        }
        for logged in &mut self.log {
            let is_traced =
                logged.statement.pid.is_some_and(|pid| context.processes.find(pid).is_some());
            if is_traced && logged.statement.pid != Some(pid) {
                continue;
            }
            let value = if is_traced { device_bytes } else { all };
            logged.sample(now, value, captures);
        }
    }

    fn watch_captures(&mut self, call: &Call<'_>, context: &Context) {
        let name = &*context.functions.get(call.function).canonical;
        let is_begin = matches!(name, "cuStreamBeginCapture" | "cudaStreamBeginCapture");
        if !is_begin && !name.contains("GraphInstantiate") {
            return;
        }
        let OfProcess { device_bytes, captures, .. } =
            self.processes.entry(call.process).or_default();
        let ts_ns = call.line.ts_ns;
        let is_near = |latest| ts_ns.saturating_sub(latest) < CAPTURES_APART_NS;
        if is_begin && !captures.latest_ns.is_some_and(is_near) {
            captures.before = Some(*device_bytes);
        }
        captures.latest_ns = Some(ts_ns);
        captures.after = Some(*device_bytes);
    }

    /// How sums of allocations, and what is live, are known.
    fn standing(&self, context: &Context) -> Standing {
        let names = context.accounting.names(&context.functions);
        let loss = |makes: bool| {
            let of = |name: &&str| Action::of(name).is_some_and(|action| action.makes() == makes);
            context.loss_of_all(names.iter().filter(|name| of(name)).copied())
        };
        let (made, freed) = (loss(true), loss(false));
        // Who was seen late may have allocated before.
        let is_late = |gap: &Gap| {
            matches!(gap.cause, Cause::SeenFrom { .. } | Cause::Unseen { .. })
                && gap.pid.is_some_and(|pid| {
                    context.processes.find(pid).is_some_and(|id| self.processes.contains_key(&id))
                })
        };
        Standing {
            hides_memory: !matches!(made, Loss::None(_))
                || self.unreadable > 0
                || self.freed_unknown > 0
                || context.gaps.iter().any(is_late),
            hides_frees: !matches!(freed, Loss::None(_)),
            is_doubtful: made == Loss::Extra
                || freed == Loss::Extra
                || context.gaps.iter().any(Gap::may_reorder_lines),
            grade: match (made, freed) {
                (Loss::None(Grade::Exact), Loss::None(grade)) | (Loss::None(grade), _) => grade,
                _ => Grade::Exact,
            },
        }
    }

    fn figures(
        &self,
        standing: &Standing,
        over_processes: &Standing,
        context: &Context,
        answer: &mut Answer,
    ) {
        let sum = |of: fn(&Sum) -> u64| self.sums.values().map(of).fold(0, u64::saturating_add);
        let mut add = |name, title, unit, value: u64, grade| {
            answer.figure(name, title, unit, value, grade);
        };
        let peak = &self.live.peak;
        add(
            "peak_bytes",
            "peak of device memory",
            Unit::Bytes,
            peak.bytes,
            over_processes.live(peak.bytes),
        );
        let live = self.live.device_bytes();
        add("live_bytes", "device memory live at the end", Unit::Bytes, live, standing.live(live));
        let host = self.host_bytes;
        add("host_bytes", "host memory pinned at the end", Unit::Bytes, host, standing.live(host));
        let allocated = sum(|sum| sum.allocated);
        add(
            "allocated_bytes",
            "allocated in all",
            Unit::Bytes,
            allocated,
            standing.made(allocated),
        );
        let count = sum(|sum| sum.allocations);
        add("allocations", "allocations", Unit::Count, count, standing.made(count));
        let frees = sum(|sum| sum.frees);
        add("frees", "frees", Unit::Count, frees, standing.freed(frees));
        let failed = sum(|sum| sum.failed);
        add("failed", "allocations that failed", Unit::Count, failed, standing.made(failed));
        if self.implicit.0 > 0 {
            let grade = Grade::exact_within("processes with one context");
            add("implicit_frees", "freed with a context", Unit::Count, self.implicit.0, grade);
        }
        if self.freed_unknown > 0 {
            let count = self.freed_unknown;
            let grade = Grade::at_least(count as f64);
            add(
                "frees_unknown",
                "frees of memory that no call here made",
                Unit::Count,
                count,
                grade,
            );
        }
        if peak.bytes > 0 {
            let unix_ns = context.time.unix_ns(peak.ts_ns);
            let grade = unix_ns.map_or_else(
                || Grade::unknown("no opening line tells the time of day"),
                |_| over_processes.time(),
            );
            answer.figure(
                "peak_unix_ns",
                "time of the peak",
                Unit::UnixNanoseconds,
                unix_ns,
                grade,
            );
            answer.figure(
                "peak_ns",
                "since the start",
                Unit::Nanoseconds,
                peak.ts_ns,
                over_processes.time(),
            );
        }
    }

    fn sentences(&self, context: &Context) -> Vec<String> {
        let peak = &self.live.peak;
        if self.sums.is_empty() {
            return vec!["No call allocated memory.".to_owned()];
        }
        let mut sentences = vec![format!(
            "Peak: {} of device memory were live at once, {} after the start of the run.",
            bytes(peak.bytes as f64),
            duration(peak.ts_ns as f64)
        )];
        if let Some((Group { bytes: each, process, kind: _ }, count)) =
            self.live.groups_at_peak().first()
        {
            let all = bytes(each.saturating_mul(*count) as f64);
            let label = context.processes.get(*process).label();
            sentences.push(if *count == 1 {
                format!("Most of it, {all}, was one allocation by {label}.")
            } else {
                let each = bytes(*each as f64);
                format!("Most of it, {all}, were {count} allocations of {each} each by {label}.")
            });
        }
        sentences
    }

    fn series(
        &self,
        standing: &Standing,
        over_processes: &Standing,
        context: &Context,
        answer: &mut Answer,
    ) {
        let (name, title) = ("device_bytes".to_owned(), "device memory".to_owned());
        let grade = over_processes.column();
        answer.series(name, title, Unit::Bytes, grade, &self.device, &context.time);
        let mut add = |name: String, title: String, timeline: &Timeline| {
            let grade = standing.column();
            answer.series(name, title, Unit::Bytes, grade, timeline, &context.time);
        };
        let with_memory = self.processes.iter().filter(|(_, it)| it.peak > 0);
        if with_memory.clone().count() > 1 {
            for (id, of_process) in with_memory {
                let process = context.processes.get(*id);
                if let Some(timeline) = &of_process.device {
                    let title = format!("device memory of {}", process.label());
                    add(format!("device_bytes_{}", process.pid), title, timeline);
                }
            }
        }
        if self.host_bytes > 0 || self.host.values().flatten().any(|bytes| bytes > 0.0) {
            add("host_bytes".to_owned(), "pinned host memory".to_owned(), &self.host);
        }
    }

    fn allocators(&self, standing: &Standing, context: &Context) -> Table {
        let column = |name, title, unit| Column::new(name, title, unit).graded(standing.column());
        let mut table = Table::new(
            "allocators",
            "By process and allocator",
            vec![
                Column::new("pid", "pid", Unit::None),
                Column::new("role", "role", Unit::None),
                Column::new("allocator", "allocator", Unit::None),
                column("allocations", "allocations", Unit::Count),
                column("frees", "frees", Unit::Count),
                column("allocated_bytes", "allocated", Unit::Bytes),
                column("peak_bytes", "peak", Unit::Bytes),
                column("live_bytes", "live at the end", Unit::Bytes),
                column("failed", "failed", Unit::Count),
                column("failed_bytes", "failed bytes", Unit::Bytes).hidden(),
                column("before_capture_bytes", "before captures", Unit::Bytes),
                column("after_capture_bytes", "after captures", Unit::Bytes),
            ],
        );
        for ((id, kind), sum) in &self.sums {
            let process = context.processes.get(*id);
            let of_process = self.processes.get(id);
            let captured = |of: fn(&OfProcess) -> Option<u64>| {
                let bytes = of_process.filter(|_| *kind == Kind::Device).and_then(of);
                bytes.map_or(Cell::from(Value::None), |it| Cell::graded(it, standing.live(it)))
            };
            let Sum { allocations, frees, allocated, live, peak, failed, failed_bytes } = *sum;
            table.rows.push(vec![
                process.pid.into(),
                process.role.clone().into(),
                kind.name().into(),
                Cell::graded(allocations, standing.made(allocations)),
                Cell::graded(frees, standing.freed(frees)),
                Cell::graded(allocated, standing.made(allocated)),
                Cell::graded(peak, standing.live(peak)),
                Cell::graded(live, standing.live(live)),
                Cell::graded(failed, standing.made(failed)),
                Cell::graded(failed_bytes, standing.made(failed_bytes)),
                captured(|it| it.captures.before),
                captured(|it| it.captures.after),
            ]);
        }
        table
    }

    fn groups(
        name: &'static str,
        title: &'static str,
        groups: &[(Group, u64)],
        grade: impl Fn(u64) -> Grade,
        context: &Context,
    ) -> Table {
        let mut table = Table::new(
            name,
            title,
            vec![
                Column::new("bytes", "together", Unit::Bytes),
                Column::new("allocations", "allocations", Unit::Count),
                Column::new("each_bytes", "each", Unit::Bytes),
                Column::new("allocator", "allocator", Unit::None),
                Column::new("pid", "pid", Unit::None),
            ],
        );
        for (Group { bytes: each, kind, process }, count) in groups {
            let all = each.saturating_mul(*count);
            table.rows.push(vec![
                Cell::graded(all, grade(all)),
                Cell::graded(*count, grade(*count)),
                (*each).into(),
                kind.name().into(),
                context.processes.get(*process).pid.into(),
            ]);
        }
        table.shown = SHOWN_GROUPS;
        table.chart = Some(Chart::Bars(&["bytes"]));
        table
    }

    fn histogram(&self, standing: &Standing) -> Table {
        let mut table = Table::new(
            "sizes",
            "Allocations by size",
            vec![
                Column::new("from_bytes", "from", Unit::Bytes),
                Column::new("below_bytes", "below", Unit::Bytes),
                Column::new("allocations", "allocations", Unit::Count).graded(standing.column()),
                Column::new("bytes", "bytes", Unit::Bytes).graded(standing.column()),
            ],
        );
        for (power, Sizes { allocations, bytes }) in &self.sizes {
            let from = 1_i128 << power;
            let from = if *power == 0 { 0 } else { from };
            table.rows.push(vec![
                Value::Integer(from).into(),
                Value::Integer(2_i128 << power).into(),
                Cell::graded(*allocations, standing.made(*allocations)),
                Cell::graded(*bytes, standing.made(*bytes)),
            ]);
        }
        table.chart = Some(Chart::Bars(&["allocations", "bytes"]));
        table
    }

    /// What vLLM says, beside what calls say.
    fn referee(&self, standing: &Standing, context: &Context) -> Table {
        let mut table = Table::new(
            "vllm_log",
            "vLLM's own figures, and those of the calls",
            vec![
                Column::new("about", "about", Unit::None),
                Column::new("pid", "pid", Unit::None),
                Column::new("said_bytes", "vLLM says", Unit::Bytes)
                    .graded(Grade::Exact.rounded(0.005)),
                Column::new("called_bytes", "calls say", Unit::Bytes),
                Column::new("called", "which is", Unit::None),
            ],
        );
        for logged in &self.log {
            let Statement { about, bytes: said, pid, .. } = &logged.statement;
            let (value, grade, what) = match about {
                About::KvCache => self.largest_group(*pid, standing, context),
                About::Graphs => logged.growth(standing),
                About::Weights => logged.live(standing),
            };
            table.rows.push(vec![
                about.name().into(),
                (*pid).into(),
                (*said).into(),
                Cell::graded(value, grade),
                what.into(),
            ]);
        }
        table
    }

    fn largest_group(
        &self,
        pid: Option<u32>,
        standing: &Standing,
        context: &Context,
    ) -> (Option<u64>, Grade, String) {
        let of = pid.and_then(|pid| context.processes.find(pid));
        let groups = self.live.groups_at_peak();
        match groups.iter().find(|(group, _)| of.is_none_or(|of| of == group.process)) {
            None => (None, Grade::unknown("no device memory was live"), String::new()),
            Some((group, count)) => {
                let what = format!("live at the peak: {count} of {}", bytes(group.bytes as f64));
                (Some(group.bytes.saturating_mul(*count)), standing.time(), what)
            }
        }
    }
}

impl Logged {
    fn sample(&mut self, now_ns: i64, value: u64, captures: Captures) {
        let Some(unix_ns) = self.unix_ns.or_else(|| self.statement.when?.unix_ns(now_ns)) else {
            return;
        };
        self.unix_ns = Some(unix_ns);
        if now_ns < unix_ns.saturating_add(SECOND_NS) {
            self.before_captures = captures.before;
        }
        if now_ns < unix_ns {
            self.latest = value;
        } else if now_ns < unix_ns.saturating_add(SECOND_NS) {
            let low = self.low.unwrap_or(self.latest);
            self.low = Some(low.min(value));
            self.high = self.high.max(value).max(low);
        } else if self.low.is_none() {
            // Nothing happened in that second.
            (self.low, self.high) = (Some(self.latest), self.latest);
        }
    }

    /// The log has no zone: a line that lies outside of the trace says nothing.
    fn live(&self, standing: &Standing) -> (Option<u64>, Grade, String) {
        let Some(low) = self.low else {
            let reason = "the line's time, taken for UTC, lies outside of the trace";
            return (None, Grade::unknown(reason), String::new());
        };
        let grade = match standing.live(self.high) {
            Grade::Exact | Grade::ExactWithin { .. } if low == self.high => standing.time(),
            Grade::Exact | Grade::ExactWithin { .. } => {
                Grade::between(low as f64, self.high as f64)
            }
            other => other,
        };
        (Some(self.high), grade, "device memory live in that second".to_owned())
    }

    fn growth(&self, standing: &Standing) -> (Option<u64>, Grade, String) {
        let (Some(low), Some(before)) = (self.low, self.before_captures) else {
            return (None, self.live(standing).1, String::new());
        };
        let (low, high) = (low.saturating_sub(before), self.high.saturating_sub(before));
        let grade = match standing.time() {
            Grade::Unknown { reason } => Grade::Unknown { reason },
            grade if low == high => grade,
            _ => Grade::between(low as f64, high as f64),
        };
        (Some(high), grade, "growth since the captures began".to_owned())
    }
}

/// How figures are known: what a lost call would have changed.
#[derive(Debug, Clone)]
struct Standing {
    hides_memory: bool,
    hides_frees: bool,
    is_doubtful: bool,
    /// Where nothing is lost.
    grade: Grade,
}

impl Standing {
    /// Of what is the sum over processes at a time, whose calls may stand in another order.
    fn over_processes(&self, is_interleaved: bool) -> Self {
        Self { is_doubtful: self.is_doubtful || is_interleaved, ..self.clone() }
    }

    fn made(&self, value: u64) -> Grade {
        self.grade_of(value, self.hides_memory, false)
    }

    /// A free counts only where the allocation is known.
    fn freed(&self, value: u64) -> Grade {
        self.grade_of(value, self.hides_frees || self.hides_memory, false)
    }

    fn live(&self, value: u64) -> Grade {
        self.grade_of(value, self.hides_memory, self.hides_frees)
    }

    fn grade_of(&self, value: u64, may_be_more: bool, may_be_less: bool) -> Grade {
        let value = value as f64;
        match (may_be_more, may_be_less) {
            _ if self.is_doubtful => Grade::unknown("lines may stand twice, or in a wrong place"),
            (false, false) => self.grade.clone(),
            (true, false) => Grade::at_least(value),
            (false, true) => Grade::Bounds { low: None, high: Some(value) },
            (true, true) => Grade::unknown("allocations and frees are missing"),
        }
    }

    /// Of what is not a number of bytes: when the peak was.
    fn time(&self) -> Grade {
        if self.is_doubtful || self.hides_memory || self.hides_frees {
            Grade::unknown("allocations or frees are missing")
        } else {
            self.grade.clone()
        }
    }

    fn column(&self) -> Grade {
        match self.live(0) {
            Grade::Bounds { .. } => Grade::Bounds { low: None, high: None },
            other => other,
        }
    }
}
