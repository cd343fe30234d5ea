//! The tracks of the GPU.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::{
    super::{
        file::TimelineFile,
        lanes::Lanes,
        perfetto::{Kind, MAIN_SEQUENCE, argument, describe, event, slice, track},
        protobuf::{fixed64, text, uint},
    },
    Joined, Merge, SameThread,
    kineto::{Activity, Profile},
};

/// Names of kernels are cut as those of launches are.
const MAX_NAME_BYTES: usize = 4096;

/// Of our threads in a note.
const MAX_NUMBERS: usize = 16;

/// Streams of all devices; slices of others are left out.
const MAX_STREAMS: usize = 4096;

/// What has been written.
#[derive(Debug, Default)]
pub(in super::super) struct Written {
    /// Why nothing of the file is shown.
    pub(in super::super) problem: Option<String>,
    /// Launches of the profile, of which so many are calls of the trace.
    pub(in super::super) launches: u64,
    pub(in super::super) matched: u64,
    /// Launches of the same threads and time that the profile lacks.
    pub(in super::super) not_in_profile: u64,
    pub(in super::super) slices: u64,
    /// Of these, with the launch that made them.
    pub(in super::super) launched: u64,
    pub(in super::super) flows: u64,
    pub(in super::super) left_out: u64,
    /// The trace's clock less the profiler's lies between.
    pub(in super::super) offset: Option<(i64, i64)>,
    pub(in super::super) notes: Vec<String>,
}

impl Merge {
    /// What the GPU did, if the file fits the trace.
    pub(in super::super) fn write(self, file: &mut TimelineFile) -> Result<Written> {
        let path = self.path.display().to_string();
        let not_merged = |problem: &str| {
            let problem = Some(format!("{path} is not merged: it {problem}"));
            Ok(Written { problem, ..Written::default() })
        };
        let profile = match &self.profile {
            Ok(profile) => profile,
            Err(problem) => return not_merged(problem),
        };
        let joined = match self.join(profile) {
            Ok(joined) => joined,
            Err(problem) => return not_merged(&problem),
        };
        let mut written = self.counts(&joined, profile);
        let (low, high) = joined.bounds;
        let offset = i64::midpoint(low, high);
        written.offset = Some((low.min(high), low.max(high)));
        let launches: HashMap<u64, Option<(u64, i64)>> = profile
            .launches
            .iter()
            .zip(&joined.launches)
            .map(|(launch, matched)| (launch.correlation, *matched))
            .collect();
        let mut tracks = Tracks::default();
        let mut early = 0_u64;
        // The flow of a launch ends in the first that it made.
        let mut begun = std::collections::HashSet::new();
        for activity in &profile.activities {
            let begin = u64::try_from(activity.begin.saturating_add(offset));
            let end = u64::try_from(activity.end.saturating_add(offset));
            let (Ok(begin), Ok(end)) = (begin, end) else {
                written.left_out += 1;
                continue;
            };
            let Some(uuid) = tracks.place(&mut file.buffer, activity, begin, end) else {
                written.left_out += 1;
                continue;
            };
            let launch = launches.get(&activity.correlation).copied().flatten();
            let is_late = |at: i64| begin.cast_signed() >= at;
            early += u64::from(launch.is_some_and(|(_, at)| !is_late(at)));
            let flow = launch.filter(|&(flow, at)| is_late(at) && begun.insert(flow));
            slice(&mut file.buffer, (begin, Some(end)), uuid, |out| {
                describe_activity(out, activity, profile);
                if let Some((flow, _)) = flow {
                    fixed64(out, event::TERMINATING_FLOW_IDS, flow);
                }
            });
            written.slices += 1;
            written.launched += u64::from(launch.is_some());
            written.flows += u64::from(flow.is_some());
            file.flush_if_full()?;
        }
        written.notes = notes(&joined, profile, &path);
        if early > 0 {
            written.notes.push(format!(
                "{early} slices of the GPU begin before their launch: CUPTI's times of the GPU are \
                 off by more than its calls tell"
            ));
        }
        if self.left_out > 0 {
            written.notes.push(format!(
                "{} launches around the profile were not looked at: there are too many",
                self.left_out
            ));
        }
        written.left_out += profile.left_out;
        Ok(written)
    }

    fn counts(&self, joined: &Joined, profile: &Profile) -> Written {
        let matched = joined.launches.iter().flatten();
        let times = || matched.clone().map(|&(_, begin)| begin);
        let within = times().min().zip(times().max());
        let of_threads = joined.threads.iter().flat_map(|it| &it.ours);
        let of_threads = of_threads.filter_map(|thread| self.calls.get(thread));
        let ours = of_threads.flatten().filter(|call| {
            within.is_some_and(|(from, to)| (from..=to).contains(&call.queued.begin))
        });
        let (matched, ours) = (matched.clone().count() as u64, ours.count() as u64);
        Written {
            launches: profile.launches.len() as u64,
            matched,
            not_in_profile: ours.saturating_sub(matched),
            ..Written::default()
        }
    }
}

fn notes(joined: &Joined, profile: &Profile, path: &str) -> Vec<String> {
    let mut notes = Vec::new();
    for SameThread { theirs, ours, launches } in &joined.threads {
        let (pid, tid) = *theirs;
        let is_same = |(our_pid, our_tid): &(u32, u32)| {
            (pid, tid) == (i64::from(*our_pid), i64::from(*our_tid))
        };
        if ours.iter().all(is_same) {
            continue;
        }
        let Some((our_pid, _)) = ours.first() else { continue };
        let mut numbers: Vec<String> = ours.iter().map(|(_, tid)| tid.to_string()).collect();
        numbers.sort_unstable();
        let threads = if numbers.len() == 1 { "thread" } else { "threads" };
        if let more @ 1.. = numbers.len().saturating_sub(MAX_NUMBERS) {
            numbers.truncate(MAX_NUMBERS);
            numbers.push(format!("{more} more"));
        }
        notes.push(format!(
            "thread {tid} of process {pid} in {path}: {launches} launches are those of {threads} {} of \
             process {our_pid}",
            numbers.join(", ")
        ));
    }
    let others = profile.threads.len().saturating_sub(joined.threads.len());
    if others > 0 {
        notes.push(format!("{others} threads in {path} have launches that are not the trace's"));
    }
    notes.push(
        "slices of the GPU are CUPTI's, moved by the difference of the clocks; a gap between them is \
         idle only as far as CUPTI has seen all that ran"
            .to_owned(),
    );
    notes
}

fn describe_activity(out: &mut Vec<u8>, activity: &Activity, profile: &Profile) {
    let name = &*profile.names[activity.name as usize];
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    text(out, event::CATEGORIES, "gpu");
    text(out, event::NAME, name);
    argument(out, "correlation", activity.correlation);
    for (name, triple) in [("grid", activity.grid), ("block", activity.block)] {
        if let Some([x, y, z]) = triple {
            argument(out, name, &*format!("{x},{y},{z}"));
        }
    }
    if let Some(bytes) = activity.bytes {
        argument(out, "bytes", bytes);
    }
}

/// One for each stream, below its device; what overlaps on one lies on several.
#[derive(Default)]
struct Tracks {
    streams: BTreeMap<(u32, u32), (u32, Lanes)>,
}

impl Tracks {
    fn place(
        &mut self,
        out: &mut Vec<u8>,
        activity: &Activity,
        begin: u64,
        end: u64,
    ) -> Option<u64> {
        let key = (activity.device, activity.stream);
        if !self.streams.contains_key(&key) {
            if self.streams.len() >= MAX_STREAMS {
                return None;
            }
            let number = u32::try_from(self.streams.len()).ok()?;
            self.streams.insert(key, (number, Lanes::default()));
        }
        let (number, lanes) = self.streams.get_mut(&key)?;
        let (lane, is_new) = lanes.place(begin, end)?;
        let uuid = Kind::Stream.uuid(*number, lane);
        if is_new {
            let device = Kind::Device.uuid(activity.device, 0);
            describe(out, MAIN_SEQUENCE, |out| {
                uint(out, track::UUID, device);
                text(out, track::NAME, &format!("GPU {} by torch.profiler", activity.device));
                text(out, track::DESCRIPTION, "what CUPTI has seen of the GPU");
            });
            describe(out, MAIN_SEQUENCE, |out| {
                uint(out, track::UUID, uuid);
                uint(out, track::PARENT_UUID, device);
                text(out, track::NAME, &format!("stream {}", activity.stream));
            });
        }
        Some(uuid)
    }
}
