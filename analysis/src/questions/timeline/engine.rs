//! Steps of engines: on the host, in flight, and when the GPU was done.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    clock::Clock,
    file::TimelineFile,
    lanes::Lanes,
    perfetto::{Kind, MAIN_SEQUENCE, argument, describe, event, slice, track},
    protobuf::{fixed64, text, uint},
};
use crate::questions::steps::{Found, Step};

/// Of one step: the last ones.
const MAX_FLOWS: u64 = 4096;

/// The flow from the work with this number in its process to the step that it is part of.
pub(super) fn flow_of(process: u32, work: u64) -> u64 {
    (u64::from(process) + 1) << 40 | work & ((1 << 40) - 1)
}

/// What has been written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) steps: u64,
    /// With a proven end on the GPU.
    pub(super) proven: u64,
    /// Flows that end in a step.
    pub(super) flows: u64,
    /// Too many overlap to be shown.
    pub(super) left_out: u64,
}

/// Of one process.
#[derive(Default)]
struct Engine {
    host: Lanes,
    in_flight: Lanes,
    gpu: Lanes,
    steps: u64,
    /// When the GPU was done with the step before, at the latest; `None` where that is not proved.
    before: Option<i64>,
}

/// `first_work` tells from which work on calls of a process are in the file.
pub(super) fn write(
    file: &mut TimelineFile,
    found: &Found,
    first_work: impl Fn(u32) -> Option<u64>,
    clock: Clock,
) -> Result<Written> {
    let mut engines: BTreeMap<u32, Engine> = BTreeMap::new();
    let mut written = Written::default();
    for step in &found.steps {
        let owner = step.process.0;
        let engine = engines.entry(owner).or_default();
        engine.steps += 1;
        let high = step.row.high.filter(|_| !step.doubt.step);
        engine.write(&mut file.buffer, step, high, first_work(owner), clock, &mut written);
        file.flush_if_full()?;
    }
    Ok(written)
}

impl Engine {
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        step: &Step,
        high: Option<i64>,
        first_work: Option<u64>,
        clock: Clock,
        written: &mut Written,
    ) {
        let owner = step.process.0;
        let number = self.steps;
        let label = label(step);
        let row = &step.row;
        let before = std::mem::replace(&mut self.before, high);
        let mut add = |lanes: &mut Lanes, kind, begin, end: Option<i64>, fields: Fields<'_>| {
            let Some(begin) = clock.at(begin) else { return false };
            let end = end.and_then(|end| clock.at(end));
            let Some((lane, is_new)) = lanes.place(begin, end.unwrap_or(begin)) else {
                return false;
            };
            if is_new {
                describe_lane(out, kind, owner, lane);
            }
            slice(out, (begin, end), kind.uuid(owner, lane), |out| {
                text(out, event::NAME, &label);
                uint(out, event::CORRELATION_ID, flow_of(owner, number));
                argument(out, "step", number);
                fields(out);
            });
            true
        };
        let is_shown = add(&mut self.host, Kind::Steps, row.start, Some(row.queued_last), &|out| {
            host_arguments(out, step);
        });
        written.steps += u64::from(is_shown);
        written.left_out += u64::from(!is_shown);
        let works = first_work.map_or(0..0, |first| {
            let from = row.works.start.max(first);
            from.max(row.works.end.saturating_sub(MAX_FLOWS))..row.works.end
        });
        let done = row.handed.or(high);
        let is_shown = add(&mut self.in_flight, Kind::InFlight, row.queued_last, done, &|out| {
            for work in works.clone() {
                fixed64(out, event::TERMINATING_FLOW_IDS, flow_of(owner, work));
            }
        });
        if is_shown {
            written.flows += works.end.saturating_sub(works.start);
        }
        let Some(high) = high else { return };
        if let Some(before) = before
            && before.max(row.start) < row.low
        {
            let begin = before.max(row.start);
            add(&mut self.gpu, Kind::Gpu, begin, Some(row.low), &|out| {
                argument(out, "proven", "the step before is done, this one is not");
            });
        }
        let is_shown = add(&mut self.gpu, Kind::Gpu, row.low, Some(high), &|out| {
            argument(out, "proven", "the GPU was done with the step within this time");
            if let Some(estimate) = row.estimate.and_then(|estimate| clock.at(estimate)) {
                argument(out, "estimated_ts", estimate);
            }
        });
        written.proven += u64::from(is_shown);
    }
}

type Fields<'a> = &'a dyn Fn(&mut Vec<u8>);

/// `decode FULL 16`.
fn label(step: &Step) -> String {
    let mode = step.row.mode.name();
    match step.row.graph_tokens {
        Some(tokens) => format!("{} {mode} {tokens}", kind(step)),
        None => format!("{} {mode}", kind(step)),
    }
}

fn kind(step: &Step) -> &'static str {
    step.kind.map_or("unknown kind", |kind| kind.name())
}

fn host_arguments(out: &mut Vec<u8>, step: &Step) {
    let row = &step.row;
    argument(out, "rank", step.rank);
    argument(out, "kind", kind(step));
    argument(out, "graph_mode", row.mode.name());
    for (name, value) in [
        ("graph_tokens", row.graph_tokens),
        ("requests", Some(row.requests).filter(|&requests| requests > 0)),
        ("tokens", row.tokens),
        ("launches", Some(row.launches)),
        ("graph_launches", Some(row.graph_launches)),
        ("copies", Some(row.copies)),
    ] {
        if let Some(value) = value {
            argument(out, name, value);
        }
    }
}

fn describe_lane(out: &mut Vec<u8>, kind: Kind, owner: u32, lane: u16) {
    let (name, description) = match kind {
        Kind::InFlight => (
            "steps in flight",
            "from the last call that queued work for a step to the moment when the first thread knew \
             that its output is there",
        ),
        Kind::Gpu => (
            "GPU: ends of steps, proven",
            "what calls prove of when the GPU was done. First a span in which the step before is \
             done and this one is not, then a span within which it ends. A gap says nothing: the GPU \
             may have worked or not",
        ),
        _ => (
            "steps",
            "from the entry of a step's first work to the last call that queued any for it",
        ),
    };
    describe(out, MAIN_SEQUENCE, |out| {
        uint(out, track::UUID, kind.uuid(owner, lane));
        uint(out, track::PARENT_UUID, Kind::Process.uuid(owner, 0));
        text(out, track::NAME, name);
        text(out, track::DESCRIPTION, description);
        uint(out, track::SIBLING_ORDER_RANK, kind as u64);
    });
}
