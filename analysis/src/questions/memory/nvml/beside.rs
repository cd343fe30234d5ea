//! NVML's memory in use beside the live bytes of the calls, by stage.
//!
//! The times of the file have no zone, and calls do not tell the device. So both are proved first: the
//! largest growth of the live bytes must be in the file, at its time and on as many devices.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{COMMAND, MIB, Recording};
use crate::{
    answer::{
        Cell, Column, Table, Unit, Value,
        units::{bytes, duration, printable},
    },
    context::{Context, process::ProcessId},
    grade::Grade,
    question::{Call, Question as _},
    questions::startup::{Span, Startup},
};

/// A sample is of a moment this close to its time.
const NEAR_NS: i64 = 250_000_000;

/// Within this time the growth is looked for.
const GROWTH_NS: i64 = 10_000_000_000;

/// Less growth than this may be anything.
const MIN_GROWTH: u64 = 64 * MIB;

/// And less than this part of the peak.
const MIN_GROWTH_PART: u64 = 8;

/// One in so many samples may show less than is live, before the file is of another run.
const MAX_LESS: usize = 20;

const QUARTER_OF_AN_HOUR_NS: i64 = 900_000_000_000;

/// Zones lie between UTC-12 and UTC+14.
const ZONES: std::ops::RangeInclusive<i64> = -48..=56;

pub(in crate::questions::memory) struct Beside {
    path: PathBuf,
    recording: Result<Recording, String>,
    /// Least and most that was live around each sample, as far as the trace has come.
    live: Vec<(u64, u64)>,
    /// The first sample that more may be live around.
    open: usize,
    now: u64,
    now_ns: i64,
    has_managed: bool,
    startup: Startup,
}

/// What is known of the memory question's own figures.
pub(in crate::questions::memory) struct Known<'a> {
    /// Processes that hold a part that counts.
    pub(in crate::questions::memory) holders: Vec<ProcessId>,
    pub(in crate::questions::memory) peak: u64,
    /// How a number of live bytes is known.
    pub(in crate::questions::memory) live: &'a dyn Fn(u64) -> Grade,
}

/// A file that fits the trace: which of its devices are those of the trace.
struct Fitting {
    devices: Vec<usize>,
    /// What could not be proved, or was left out.
    notes: Vec<String>,
}

/// A stage of all processes that hold memory.
struct Stage {
    name: &'static str,
    begin_ns: i64,
    end_ns: i64,
    grade: Grade,
}

impl Beside {
    pub(in crate::questions::memory) fn read(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            recording: super::read(path)?,
            live: Vec::new(),
            open: 0,
            now: 0,
            now_ns: i64::MIN,
            has_managed: false,
            startup: Startup::default(),
        })
    }

    pub(in crate::questions::memory) fn startup(&mut self) -> &mut Startup {
        &mut self.startup
    }

    pub(in crate::questions::memory) fn call(&mut self, call: &Call<'_>, context: &Context) {
        self.startup.call(call, context);
    }

    /// So much is live from then on.
    pub(in crate::questions::memory) fn change(&mut self, unix_ns: i64, bytes: u64) {
        let Ok(Recording { samples, .. }) = &self.recording else { return };
        self.now_ns = self.now_ns.max(unix_ns);
        self.live.resize(samples.len(), (u64::MAX, 0));
        let (before, after) = (self.now.min(bytes), self.now.max(bytes));
        for (at, sample) in samples.iter().enumerate().skip(self.open) {
            if sample.first_ns.saturating_sub(NEAR_NS) > self.now_ns {
                break;
            }
            let (low, high) = &mut self.live[at];
            if sample.last_ns.saturating_add(NEAR_NS) < self.now_ns {
                self.open = at + 1;
                if *low > *high {
                    (*low, *high) = (self.now, self.now);
                }
            } else {
                (*low, *high) = ((*low).min(before), (*high).max(after));
            }
        }
        self.now = bytes;
    }

    pub(in crate::questions::memory) fn has_managed(&mut self) {
        self.has_managed = true;
    }

    /// A table by stage, what is to be said of it, and notes.
    pub(in crate::questions::memory) fn answer(
        mut self,
        known: &Known<'_>,
        context: &Context,
    ) -> (Table, String, Vec<String>) {
        // Up to the end nothing changes any more.
        let end = context.time.last_ns.and_then(|last| context.time.unix_ns(last));
        if let Some(end) = end {
            self.change(end.saturating_add(2 * NEAR_NS), self.now);
        }
        let mut table = Table::new(
            "nvml",
            "NVML's memory in use, and the live bytes of the calls, by stage",
            vec![
                Column::new("stage", "stage", Unit::None),
                Column::new("what", "what", Unit::None),
                Column::new("bytes", "at its end", Unit::Bytes),
                Column::new("most_bytes", "at the most", Unit::Bytes),
                Column::new("unix_ns", "sample at", Unit::UnixNanoseconds).hidden(),
                Column::new("most_unix_ns", "sample at the most", Unit::UnixNanoseconds).hidden(),
            ],
        );
        table.reading = "Of each stage the last sample in it, and the one with the most in use.";
        let name = printable(&self.path.display().to_string());
        let spans = std::mem::take(&mut self.startup).spans(context);
        let fitting = match self.fit(known, context) {
            Ok(fitting) => fitting,
            Err(problem) => {
                return (table, format!("{name} was not used: it {problem}."), Vec::new());
            }
        };
        let mut latest = None;
        for stage in stages(&spans, known, context) {
            let samples = match &stage.grade {
                Grade::Unknown { reason } => Err(reason.clone()),
                _ => self.samples_in(&stage, &fitting, context),
            };
            let rows = self.rows(samples.as_ref().ok().copied(), &fitting, known);
            let reason = samples.err();
            if reason.is_none() {
                latest = Some((stage.name, rows.clone()));
            }
            for (what, cells) in ["calls", "untold", "nvml"].into_iter().zip(rows) {
                let what = match what {
                    "calls" => "live by calls",
                    "untold" => "context and what calls do not tell",
                    _ => "NVML, in use",
                };
                let cells = cells.into_iter().map(|cell| match &reason {
                    Some(reason) => Cell::graded(Value::None, Grade::unknown(reason)),
                    None => cell,
                });
                table
                    .rows
                    .push([stage.name.into(), what.into()].into_iter().chain(cells).collect());
            }
        }
        let sentence = latest.map_or_else(
            || format!("{name} fits the trace, but none of its samples lies in a known stage."),
            |(stage, rows)| {
                let shown =
                    |row: usize| crate::answer::units::shown(&rows[row][0].value, Unit::Bytes);
                format!(
                    "In the stage {stage} NVML has {} in use, of which calls hold {}; {} are the \
                     context and what calls do not tell.",
                    shown(2),
                    shown(0),
                    shown(1)
                )
            },
        );
        (table, sentence, fitting.notes)
    }

    /// Whether the file is of this run, and of which devices.
    fn fit(&self, known: &Known<'_>, context: &Context) -> Result<Fitting, String> {
        let recording = self.recording.as_ref().map_err(Clone::clone)?;
        let unix_ns = |ns: Option<i64>| ns.and_then(|ns| context.time.unix_ns(ns));
        let (Some(first), Some(last)) =
            (unix_ns(context.time.first_ns), unix_ns(context.time.last_ns))
        else {
            return Err("has times of day, and the trace tells none".to_owned());
        };
        if known.holders.is_empty() {
            return Err("has nothing to be compared with: no call allocated memory".to_owned());
        }
        let within = self.within(recording, first, last);
        if within.is_empty() {
            return Err(elsewhere(recording, first, last));
        }
        let mut notes = Vec::new();
        let (devices, holders) = (recording.devices.len(), known.holders.len());
        let members = match self.largest_growth(&within, recording) {
            Some((from, to, growth))
                if growth >= MIN_GROWTH && growth >= known.peak / MIN_GROWTH_PART =>
            {
                members(recording, (from, to, growth), holders)?
            }
            _ => {
                notes.push(
                    "no large allocation was made while NVML was recorded, so nothing proves that \
                     the recording is of this run and by this clock"
                        .to_owned(),
                );
                (0..devices).collect()
            }
        };
        if members.len() != holders {
            return Err(format!(
                "has {devices} devices, and {holders} processes hold memory: nothing tells which \
                 are theirs"
            ));
        }
        let left_out: Vec<String> = (0..devices)
            .filter(|device| !members.contains(device))
            .map(|device| recording.devices[device].to_string())
            .collect();
        if !left_out.is_empty() {
            let left_out = left_out.join(", ");
            notes.push(format!(
                "NVML's devices {left_out} are left out: they did not grow with the calls"
            ));
        }
        let fitting = Fitting { devices: members, notes };
        self.is_more_than_live(&within, recording, &fitting)?;
        Ok(fitting.with_notes(recording, self.has_managed))
    }

    /// The samples during the trace around which nothing changed.
    fn within(&self, recording: &Recording, first: i64, last: i64) -> Vec<usize> {
        let samples = recording.samples.iter().enumerate();
        let is_within = |(at, sample): &(usize, &super::Sample)| {
            let (low, high) = self.live.get(*at).copied().unwrap_or((u64::MAX, 0));
            sample.first_ns >= first && sample.last_ns <= last && low == high
        };
        samples.filter(is_within).map(|(at, _)| at).collect()
    }

    fn largest_growth(
        &self,
        within: &[usize],
        recording: &Recording,
    ) -> Option<(usize, usize, u64)> {
        let mut oldest = 0;
        let growths = within.iter().map(|&to| {
            let since = recording.samples[to].first_ns.saturating_sub(GROWTH_NS);
            while recording.samples[within[oldest]].first_ns < since {
                oldest += 1;
            }
            let from = within[oldest];
            (from, to, self.live[to].0.saturating_sub(self.live[from].0))
        });
        growths.max_by_key(|&(.., growth)| growth)
    }

    /// What is live is in use.
    fn is_more_than_live(
        &self,
        within: &[usize],
        recording: &Recording,
        fitting: &Fitting,
    ) -> Result<(), String> {
        if self.has_managed {
            return Ok(());
        }
        let tolerance = |live: u64| live / 100 + fitting.devices.len() as u64 * MIB;
        let is_less = |&&at: &&usize| {
            let live = self.live[at].0;
            fitting.used(recording, at).saturating_add(tolerance(live)) < live
        };
        let less: Vec<usize> = within.iter().filter(is_less).copied().collect();
        let Some(&one) = less.first().filter(|_| less.len() * MAX_LESS > within.len()) else {
            return Ok(());
        };
        Err(format!(
            "is of another run, of fewer devices, or a clock that is wrong: in {} of {} samples it has \
             less in use than calls hold, such as {} and {}",
            less.len(),
            within.len(),
            bytes(fitting.used(recording, one) as f64),
            bytes(self.live[one].0 as f64)
        ))
    }

    /// The last sample of the stage, and the one with the most in use.
    fn samples_in(
        &self,
        stage: &Stage,
        fitting: &Fitting,
        context: &Context,
    ) -> Result<(usize, usize), String> {
        let Ok(recording) = &self.recording else { return Err(String::new()) };
        let unix_ns = |ns| context.time.unix_ns(ns).unwrap_or(i64::MIN);
        let (begin, end) = (unix_ns(stage.begin_ns), unix_ns(stage.end_ns));
        let samples = &recording.samples;
        let first = samples.partition_point(|sample| sample.first_ns < begin);
        let behind = samples.partition_point(|sample| sample.last_ns <= end);
        let is_known = |at: &usize| self.live.get(*at).is_some_and(|(low, high)| low <= high);
        let within = || (first..behind).filter(is_known);
        let is_settled = |at: &usize| {
            let sample = samples[*at];
            self.live[*at].0 == self.live[*at].1
                && sample.first_ns.saturating_sub(NEAR_NS) >= begin
                && sample.last_ns.saturating_add(NEAR_NS) <= end
        };
        let Some(last) = within().rfind(is_settled).or(within().next_back()) else {
            let took = duration(stage.end_ns.saturating_sub(stage.begin_ns).max(0) as f64);
            return Err(format!("none of NVML's samples lies in its {took}: record more often"));
        };
        // Of equals one around which nothing changed.
        let most = within().max_by_key(|at| (fitting.used(recording, *at), is_settled(at)));
        let most = most.unwrap_or(last);
        Ok((last, most))
    }

    /// The calls' bytes, what they do not tell, and NVML's.
    fn rows(
        &self,
        samples: Option<(usize, usize)>,
        fitting: &Fitting,
        known: &Known<'_>,
    ) -> [Vec<Cell>; 3] {
        let none = || vec![Cell::from(Value::None); 4];
        let (Some((last, most)), Ok(recording)) = (samples, &self.recording) else {
            return [none(), none(), none()];
        };
        let [last_cells, most_cells] =
            [last, most].map(|at| self.cells(at, recording, fitting, known));
        let times = [last, most].map(|at| recording.samples[at].first_ns);
        let mut rows = last_cells
            .into_iter()
            .zip(most_cells)
            .map(|(last, most)| vec![last, most, times[0].into(), times[1].into()]);
        [(); 3].map(|()| rows.next().unwrap_or_else(none))
    }

    fn cells(
        &self,
        at: usize,
        recording: &Recording,
        fitting: &Fitting,
        known: &Known<'_>,
    ) -> [Cell; 3] {
        let (low, high) = self.live[at];
        let used = fitting.used(recording, at);
        let error = fitting.devices.len() as u64 * MIB;
        let grade = match (known.live)(high) {
            Grade::Exact | Grade::ExactWithin { .. } if low < high => {
                Grade::between(low as f64, high as f64)
            }
            grade => grade,
        };
        let (least, most) = match &grade {
            Grade::Unknown { .. } => (None, None),
            Grade::Bounds { low, high } => (*low, *high),
            _ => (Some(low as f64), Some(high as f64)),
        };
        let untold = match &grade {
            Grade::Unknown { reason } => Grade::unknown(reason),
            _ => Grade::Bounds {
                low: most.map(|most| used.saturating_sub(error) as f64 - most),
                // Managed memory may lie on the host.
                high: least
                    .filter(|_| !self.has_managed)
                    .map(|least| used.saturating_add(error) as f64 - least),
            },
        };
        let in_use = match used {
            0 => Grade::between(0.0, error as f64),
            used => Grade::Exact.rounded(error as f64 / used as f64),
        };
        let difference = i128::from(used) - i128::from(high);
        [
            Cell::graded(high, grade),
            Cell::graded(Value::Integer(difference), untold),
            Cell::graded(used, in_use),
        ]
    }
}

impl Fitting {
    fn used(&self, recording: &Recording, sample: usize) -> u64 {
        let of_each = self.devices.iter().map(|device| recording.used(sample, *device));
        of_each.fold(0, u64::saturating_add)
    }

    fn with_notes(mut self, recording: &Recording, has_managed: bool) -> Self {
        let Recording { foreign_lines, left_out, is_cut, .. } = recording;
        for (count, what) in [
            (foreign_lines, "lines of NVML's recording hold no sample"),
            (left_out, "samples of NVML lack a device, or go back in time, and are left out"),
        ] {
            if *count > 0 {
                self.notes.push(format!("{count} {what}"));
            }
        }
        if *is_cut {
            self.notes.push("NVML's recording is longer than what is read of it".to_owned());
        }
        if has_managed {
            self.notes.push("managed memory counts as live, and may lie on the host".to_owned());
        }
        self.notes.push(
            "what calls do not tell: contexts, modules, what pools and the driver keep, and other \
             processes on the devices"
                .to_owned(),
        );
        self
    }
}

/// The devices that grew when the calls did.
fn members(
    recording: &Recording,
    (from, to, growth): (usize, usize, u64),
    holders: usize,
) -> Result<Vec<usize>, String> {
    let grown =
        |device: &usize| recording.used(to, *device).saturating_sub(recording.used(from, *device));
    let least = growth / (4 * holders as u64);
    let members: Vec<usize> =
        (0..recording.devices.len()).filter(|device| grown(device) >= least).collect();
    let all: u64 = members.iter().map(grown).sum();
    if all.abs_diff(growth) > growth / 5 + 256 * MIB {
        let took = recording.samples[to].last_ns.saturating_sub(recording.samples[from].first_ns);
        return Err(format!(
            "is of another run, other devices or a clock that is wrong: while calls took {} in {}, \
             it has {} more in use",
            bytes(growth as f64),
            duration(took as f64),
            bytes(all as f64)
        ));
    }
    if members.len() != holders {
        return Err(format!(
            "has {} devices that grew with the calls, and {holders} processes hold memory",
            members.len()
        ));
    }
    Ok(members)
}

/// The file is of another time.
fn elsewhere(recording: &Recording, first: i64, last: i64) -> String {
    let (Some(from), Some(to)) = (recording.samples.first(), recording.samples.last()) else {
        return "has no sample".to_owned();
    };
    let (from, to) = (from.first_ns, to.last_ns);
    let time = |ns: i64| {
        let time = jiff::Timestamp::from_nanosecond(ns.into());
        time.map_or_else(|_| ns.to_string(), |time| format!("{time:.0}"))
    };
    let overlap = |zone: &i64| {
        let shift = zone.saturating_mul(QUARTER_OF_AN_HOUR_NS);
        let (from, to) = (from.saturating_sub(shift), to.saturating_sub(shift));
        to.min(last).saturating_sub(from.max(first))
    };
    let zone =
        ZONES.filter(|zone| overlap(zone) > 0).max_by_key(|zone| (overlap(zone), -zone.abs()));
    let why = match zone {
        Some(0) => "; in between nothing settled".to_owned(),
        Some(zone) => format!(
            "; its zone may be UTC{}{:02}:{:02}: record it in UTC, by `{COMMAND}`",
            if zone < 0 { '-' } else { '+' },
            zone.abs() / 4,
            zone.abs() % 4 * 15
        ),
        None => ": it is of another time".to_owned(),
    };
    format!(
        "goes from {} to {}, if its times are UTC, and the trace from {} to {}{why}",
        time(from),
        time(to),
        time(first),
        time(last)
    )
}

/// Of several processes the time in which all are in it.
fn stages(spans: &[Span], known: &Known<'_>, context: &Context) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for span in spans.iter().filter(|span| known.holders.contains(&span.process)) {
        let Span { name, begin_ns, end_ns, grade, .. } = span;
        let end_ns = end_ns.unwrap_or(context.time.last_ns.unwrap_or(i64::MIN));
        if let Some(stage) = stages.iter_mut().find(|stage| stage.name == *name) {
            stage.begin_ns = stage.begin_ns.max(*begin_ns);
            stage.end_ns = stage.end_ns.min(end_ns);
            if matches!(grade, Grade::Unknown { .. }) {
                stage.grade = grade.clone();
            }
        } else {
            let (begin_ns, grade) = (*begin_ns, grade.clone());
            stages.push(Stage { name, begin_ns, end_ns, grade });
        }
    }
    for stage in &mut stages {
        if stage.begin_ns > stage.end_ns && !matches!(stage.grade, Grade::Unknown { .. }) {
            stage.grade = Grade::unknown("the processes were not in this stage at the same time");
        }
    }
    stages
}
