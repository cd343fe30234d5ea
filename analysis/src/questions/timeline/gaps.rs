//! What the trace lacks, as spans of a track of its own.

use super::{
    clock::Clock,
    lanes::Lanes,
    perfetto::{Kind, MAIN_SEQUENCE, argument, describe, event, slice, track},
    protobuf::{text, uint},
};
use crate::{context::Context, gap::Gap};

/// More are only counted.
const MAX_GAPS: usize = 1000;

/// A gap whose time is not known stands where the trace begins.
pub(super) fn write(out: &mut Vec<u8>, context: &Context, clock: Clock) {
    let mut lanes = Lanes::default();
    let start = context.time.first_ns.unwrap_or(0);
    let mut gaps: Vec<(u64, Option<u64>, &Gap)> = context
        .gaps
        .iter()
        .filter_map(|gap| {
            let begin = gap.from_ns.unwrap_or(start);
            let end = gap.to_ns.filter(|&end| end > begin);
            Some((clock.at(begin)?, end.and_then(|end| clock.at(end)), gap))
        })
        .collect();
    gaps.sort_by_key(|&(begin, ..)| begin);
    let left_out = gaps.len().saturating_sub(MAX_GAPS);
    gaps.truncate(MAX_GAPS);
    let last = gaps.last().map(|&(begin, ..)| begin);
    let shown = gaps.into_iter().map(|(begin, end, gap)| (begin, end, gap.to_string()));
    let more = last.filter(|_| left_out > 0).map(|at| (at, None, format!("{left_out} more gaps")));
    for (begin, end, gap) in shown.chain(more) {
        let Some((lane, is_new)) = lanes.place(begin, end.unwrap_or(begin)) else { continue };
        let uuid = Kind::Gaps.uuid(0, lane);
        if is_new {
            describe(out, MAIN_SEQUENCE, |out| {
                uint(out, track::UUID, uuid);
                text(out, track::NAME, "what the trace lacks");
            });
        }
        slice(out, (begin, end), uuid, |out| {
            text(out, event::CATEGORIES, "gap");
            text(out, event::NAME, &gap);
        });
    }
}

/// The run, and what may be missing, for whoever has nothing but the file.
pub(super) fn about(out: &mut Vec<u8>, context: &Context, clock: Clock) {
    let Some(at) = context.time.first_ns.and_then(|first| clock.at(first)) else { return };
    let uuid = Kind::Trace.uuid(0, 0);
    slice(out, (at, None), uuid, |out| {
        text(out, event::NAME, &format!("run {}", context.run));
        argument(out, "program", concat!("cuda-trace ", env!("CARGO_PKG_VERSION")));
        argument(out, "gaps", context.gaps.len() as u64);
        if let Some(opening) = &context.opening {
            argument(out, "host", &*opening.host);
            argument(out, "sidecar_version", &*opening.sidecar_version);
        }
    });
}
