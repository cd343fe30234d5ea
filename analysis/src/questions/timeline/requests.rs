//! Requests of load tests, with their tokens and what these waited for.

use anyhow::Result;

use super::{
    clock::Clock,
    engine::flow_of,
    file::TimelineFile,
    lanes::Lanes,
    perfetto::{Kind, MAIN_SEQUENCE, argument, describe, event, slice_begin, slice_end, track},
    protobuf::{text, uint},
};
use crate::{
    context::Context,
    questions::{
        steps::Found,
        tokens::{
            Load, Requests,
            spans::{Request, Token},
        },
    },
};

/// A client with more streams at once has some requests without a track.
const MAX_LANES: usize = 1024;

/// A load test of a thousand requests with a thousand tokens each.
const MAX_TOKENS: u64 = 1_000_000;

/// What has been written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    /// Of these, with what they waited for.
    pub(super) explained: u64,
    /// Requests and tokens that have no place.
    pub(super) left_out: u64,
    pub(super) problems: Vec<String>,
}

/// Nothing without a load test.
pub(super) fn write(
    file: &mut TimelineFile,
    loads: &[Load],
    found: &Found,
    has_ended: bool,
    context: &Context,
    clock: Clock,
) -> Result<Written> {
    let requests = Requests::join(loads, found, has_ended, context);
    let steps = numbers(found);
    let mut written = Written { problems: requests.problems(), ..Written::default() };
    let mut lanes: Vec<Lanes> = loads.iter().map(|_| Lanes::up_to(MAX_LANES)).collect();
    for at in requests.in_order() {
        let request = requests.request(at);
        let times = clock.at(request.sent).zip(clock.at(request.last));
        let place = times.and_then(|(begin, end)| {
            let (lane, is_new) = lanes[request.load].place(begin, end)?;
            Some((begin, end, lane, is_new))
        });
        let Some((begin, end, lane, is_new)) = place else {
            written.left_out += 1;
            continue;
        };
        let load = u32::try_from(request.load).unwrap_or(u32::MAX - 1);
        let uuid = Kind::Requests.uuid(load + 1, lane);
        if is_new {
            describe_lane(&mut file.buffer, load, lane, loads, request.load);
        }
        slice_begin(&mut file.buffer, begin, uuid, |out| describe_request(out, &request, context));
        written.requests += 1;
        for token in requests.tokens(at) {
            let times = clock.at(token.from).zip(clock.at(token.to));
            let Some((from, to)) = times.filter(|_| written.tokens < MAX_TOKENS) else {
                written.left_out += 1;
                continue;
            };
            // Where clocks step, nothing lies outside of its request.
            let (from, to) = (from.clamp(begin, end), to.clamp(begin, end));
            slice_begin(&mut file.buffer, from, uuid, |out| {
                describe_token(out, &token, request.process.map(|it| it.0), &steps);
            });
            slice_end(&mut file.buffer, to.max(from), uuid);
            written.tokens += 1;
            written.explained += u64::from(token.waited.is_some());
            file.flush_if_full()?;
        }
        slice_end(&mut file.buffer, end, uuid);
        file.flush_if_full()?;
    }
    Ok(written)
}

/// By the place among all steps: the number in its process, from 1, as the tracks of steps have it.
fn numbers(found: &Found) -> Vec<u64> {
    let mut counts = std::collections::BTreeMap::new();
    let number = found.steps.iter().map(|step| {
        let count = counts.entry(step.process).or_insert(0_u64);
        *count += 1;
        *count
    });
    number.collect()
}

fn describe_request(out: &mut Vec<u8>, request: &Request<'_>, context: &Context) {
    text(out, event::CATEGORIES, "request");
    text(out, event::NAME, &format!("request {}", request.number));
    if let Some(id) = request.id {
        argument(out, "id", id);
    }
    argument(out, "match", request.told);
    if let Some(process) = request.process {
        argument(out, "engine_pid", context.processes.get(process).pid);
    }
    if request.is_warmup {
        argument(out, "warm_up", "in no figure of the question tokens");
    }
}

/// Named by what it waited for most.
fn describe_token(out: &mut Vec<u8>, token: &Token, process: Option<u32>, steps: &[u64]) {
    text(out, event::CATEGORIES, "token");
    let name = match token.number {
        0 => "first token".to_owned(),
        number => format!("token {number}"),
    };
    let Some(waited) = &token.waited else {
        text(out, event::NAME, &format!("{name}: unexplained"));
        return;
    };
    text(out, event::NAME, &format!("{name}: {}", waited.largest()));
    if let (Some(process), Some(&number)) = (process, steps.get(waited.step)) {
        uint(out, event::CORRELATION_ID, flow_of(process, number));
        argument(out, "step", number);
    }
    for (part, length) in waited.parts() {
        argument(out, &format!("{part}_ns"), length.ns);
        if !length.is_exact() {
            argument(out, &format!("{part}_low_ns"), length.low);
            argument(out, &format!("{part}_high_ns"), length.high);
        }
    }
}

fn describe_lane(out: &mut Vec<u8>, load: u32, lane: u16, loads: &[Load], at: usize) {
    let group = Kind::Requests.uuid(0, 0);
    describe(out, MAIN_SEQUENCE, |out| {
        uint(out, track::UUID, group);
        text(out, track::NAME, "requests");
        text(
            out,
            track::DESCRIPTION,
            "requests of load tests, from their sending to their last token as the client saw it; in \
             each its tokens, named by what they waited for most",
        );
    });
    let path = loads.get(at).map(|load| &*load.path);
    let name = path.and_then(|path| path.file_name()).unwrap_or_default();
    describe(out, MAIN_SEQUENCE, |out| {
        uint(out, track::UUID, Kind::Requests.uuid(load + 1, lane));
        uint(out, track::PARENT_UUID, group);
        text(out, track::NAME, &format!("requests of {}", name.to_string_lossy()));
    });
}
