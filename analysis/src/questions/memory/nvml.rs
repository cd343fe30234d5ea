//! What `nvidia-smi` has recorded of the memory in use, sample by sample.
//!
//! The file comes from elsewhere: what is no sample is counted, and what is kept is bounded.

pub(super) mod beside;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// How such a file is made.
pub(super) const COMMAND: &str =
    "TZ=UTC nvidia-smi --query-gpu=timestamp,index,memory.used --format=csv -lms 500";

/// One GPU twice a second for five days.
const MAX_ROWS: usize = 1_000_000;

/// No line of `nvidia-smi` is as long.
const MAX_LINE: u64 = 4096;

const MAX_DEVICES: usize = 64;

/// Samples that follow sooner are left out: `nvidia-smi` takes longer for one.
const MIN_APART_NS: i64 = 10_000_000;

/// `nvidia-smi` counts in whole ones.
pub(super) const MIB: u64 = 1 << 20;

/// Samples of all devices, in the order of their times.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recording {
    /// Their numbers, in order.
    pub(super) devices: Vec<u32>,
    pub(super) samples: Vec<Sample>,
    /// MiB, by sample and device.
    used: Vec<u32>,
    /// Lines that hold no sample.
    pub(super) foreign_lines: u64,
    /// Samples that lack a device, or go back in time.
    pub(super) left_out: u64,
    /// It has more than are kept.
    pub(super) is_cut: bool,
}

/// All devices once, one after the other: times since 1970, if those of the file are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    unix_ns: i64,
    device: u32,
    used: u32,
}

/// Where a line has what.
#[derive(Debug, Clone, Copy)]
struct Columns {
    timestamp: usize,
    index: usize,
    used: usize,
}

impl Recording {
    /// Bytes in use on the device, which is one of [`Self::devices`] by its place there.
    pub(super) fn used(&self, sample: usize, device: usize) -> u64 {
        u64::from(self.used[sample * self.devices.len() + device]) * MIB
    }
}

/// An error is a file that cannot be read; what is wrong inside is the inner one.
pub(super) fn read(path: &Path) -> Result<Result<Recording, String>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    parse(BufReader::new(file)).with_context(cannot)
}

fn parse(mut file: impl BufRead) -> std::io::Result<Result<Recording, String>> {
    let mut columns = Columns { timestamp: 0, index: 1, used: 2 };
    let mut rows: Vec<Row> = Vec::new();
    let (mut foreign_lines, mut first_foreign, mut is_cut) = (0, None, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if let Some(told) = header(&fields) {
            match told {
                Ok(told) => columns = told,
                Err(missing) => {
                    return Ok(Err(format!("has no column {missing}: record it by `{COMMAND}`")));
                }
            }
        } else if let Some(row) = row(&fields, columns) {
            if rows.len() >= MAX_ROWS {
                is_cut = true;
                break;
            }
            rows.push(row);
        } else {
            foreign_lines += 1;
            first_foreign.get_or_insert_with(|| text.chars().take(60).collect::<String>());
        }
    }
    if rows.is_empty() {
        let found =
            first_foreign.map_or_else(String::new, |it| format!(" but lines such as {it:?}"));
        return Ok(Err(format!("has no sample{found}: record it by `{COMMAND}`")));
    }
    let mut recording = samples(&rows);
    recording.foreign_lines = foreign_lines;
    recording.is_cut = is_cut;
    if recording.devices.len() > MAX_DEVICES {
        return Ok(Err(format!(
            "has {} devices, of {MAX_DEVICES} that are read: name those of the engine by --id",
            recording.devices.len()
        )));
    }
    if recording.samples.is_empty() {
        return Ok(Err("has no sample with all of its devices".to_owned()));
    }
    Ok(Ok(recording))
}

/// `None` if it is none, an error the name that is not in it.
fn header(fields: &[&str]) -> Option<Result<Columns, &'static str>> {
    let find = |name: &'static str| {
        let is_it = |field: &&str| field.split_ascii_whitespace().next() == Some(name);
        fields.iter().position(is_it).ok_or(name)
    };
    let timestamp = find("timestamp");
    let used = find("memory.used");
    if timestamp.is_err() && used.is_err() {
        return None;
    }
    let columns = || Ok(Columns { timestamp: timestamp?, index: find("index")?, used: used? });
    Some(columns())
}

fn row(fields: &[&str], Columns { timestamp, index, used }: Columns) -> Option<Row> {
    let mut used = fields.get(used)?.split_ascii_whitespace();
    let mib = used.next()?.parse().ok()?;
    if !matches!((used.next(), used.next()), (None | Some("MiB"), None)) {
        return None;
    }
    let device = fields.get(index)?.parse().ok()?;
    Some(Row { unix_ns: unix_ns(fields.get(timestamp)?)?, device, used: mib })
}

/// `2026/11/30 15:31:46.123`, taken for UTC.
fn unix_ns(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let date: jiff::civil::Date = date.replace('/', "-").parse().ok()?;
    let time: jiff::civil::Time = time.trim().parse().ok()?;
    let at = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    at.timestamp().as_nanosecond().try_into().ok()
}

/// A sample ends where a device comes again.
fn samples(rows: &[Row]) -> Recording {
    let devices = rows.iter().map(|row| row.device).collect();
    let mut recording = Recording { devices, ..Recording::default() };
    recording.devices.sort_unstable();
    recording.devices.dedup();
    let devices = recording.devices.len();
    if devices > MAX_DEVICES {
        return recording;
    }
    let mut rest = rows;
    while !rest.is_empty() {
        let comes_again = |&at: &usize| rest[..at].iter().any(|row| row.device == rest[at].device);
        let most = rest.len().min(devices);
        let (sample, later) = rest.split_at((1..most).find(comes_again).unwrap_or(most));
        rest = later;
        let times = || sample.iter().map(|row| row.unix_ns);
        let (Some(first_ns), Some(last_ns)) = (times().min(), times().max()) else { break };
        let latest = recording.samples.last();
        let is_late = latest.is_some_and(|it| first_ns < it.last_ns.saturating_add(MIN_APART_NS));
        if sample.len() < devices || is_late {
            recording.left_out += 1;
            continue;
        }
        recording.samples.push(Sample { first_ns, last_ns });
        for device in &recording.devices {
            let used = sample.iter().find(|row| row.device == *device).map_or(0, |row| row.used);
            recording.used.push(used);
        }
    }
    recording
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Recording, String> {
        parse(text.as_bytes()).unwrap()
    }

    const BEGIN: i64 = 1_796_052_706_123_000_000;

    #[test]
    fn units_and_header_may_be_there_or_not() {
        for text in [
            "timestamp, index, memory.used [MiB]\n\
             2026/11/30 15:31:46.123, 0, 1234 MiB\n2026/11/30 15:31:46.623, 0, 1235 MiB\n",
            "timestamp, index, memory.used [MiB]\r\n\
             2026/11/30 15:31:46.123, 0, 1234\r\n2026/11/30 15:31:46.623, 0, 1235\r\n",
            "2026/11/30 15:31:46.123, 0, 1234 MiB\n2026/11/30 15:31:46.623, 0, 1235 MiB",
            "2026/11/30 15:31:46.123, 0, 1234\n2026/11/30 15:31:46.623, 0, 1235",
            "index, memory.total [MiB], memory.used [MiB], timestamp\n\
             0, 99999 MiB, 1234 MiB, 2026/11/30 15:31:46.123\n\
             0, 99999 MiB, 1235 MiB, 2026/11/30 15:31:46.623\n",
        ] {
            let found = parsed(text).unwrap();
            let at = |ns| Sample { first_ns: BEGIN + ns, last_ns: BEGIN + ns };
            assert_eq!(found.samples, [at(0), at(500_000_000)], "{text}");
            assert_eq!((found.devices.as_slice(), found.used(1, 0)), (&[0][..], 1235 * MIB));
            assert_eq!((found.foreign_lines, found.left_out), (0, 0));
        }
    }

    #[test]
    fn a_sample_has_all_devices_once() {
        let found = parsed(
            "2026/11/30 15:31:46.123, 1, 10\n2026/11/30 15:31:46.125, 3, 30\n\
             2026/11/30 15:31:46.623, 1, 11\n\
             2026/11/30 15:31:47.123, 1, 12\n2026/11/30 15:31:47.125, 3, [N/A]\n\
             2026/11/30 15:31:47.623, 1, 13\n2026/11/30 15:31:47.625, 3, 33\n\
             2026/11/30 15:31:47.123, 1, 14\n2026/11/30 15:31:47.125, 3, 34\n\
             2026/11/30 15:31:48.123, 1, 15\n",
        )
        .unwrap();
        assert_eq!(found.devices, [1, 3]);
        let first = Sample { first_ns: BEGIN, last_ns: BEGIN + 2_000_000 };
        assert_eq!((found.samples.len(), found.samples[0]), (2, first));
        let used: Vec<u64> = (0..2).map(|sample| found.used(sample, 1) / MIB).collect();
        assert_eq!(used, [30, 33]);
        assert_eq!((found.foreign_lines, found.left_out), (1, 4));
    }

    #[test]
    fn what_is_no_recording_is_named() {
        for (text, expected) in [
            ("", "has no sample"),
            ("hello, world, 1\n", "lines such as \"hello, world, 1\""),
            ("timestamp, memory.used [MiB]\n2026/11/30 15:31:46.123, 5 MiB\n", "no column index"),
            ("2026/13/30 15:31:46.123, 0, 1\n", "has no sample"),
            ("2026/11/30 15:31:46.123, 0, 99999999999\n", "has no sample"),
            ("2026/11/30 15:31:46.123, 0, 5 KiB\n", "has no sample"),
            ("9999/11/30 15:31:46.123, 0, 5\n", "has no sample"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let many = (0..100).map(|device| format!("2026/11/30 15:31:46.123, {device}, 1"));
        let many = many.collect::<Vec<_>>().join("\n");
        assert_eq!(
            parsed(&many).unwrap_err(),
            "has 100 devices, of 64 that are read: name those of the engine by --id"
        );
    }

    #[test]
    fn lines_without_end_and_rows_without_number_take_no_memory() {
        let long = "x".repeat(1 << 20) + "\n2026/11/30 15:31:46.123, 0, 7\n";
        let found = parsed(&long).unwrap();
        assert_eq!((found.samples.len(), found.foreign_lines), (1, 256));
        let row = "2026/11/30 15:31:46.123, 0, 7\n";
        let many = row.as_bytes().repeat(MAX_ROWS + 5);
        let found = parse(many.as_slice()).unwrap().unwrap();
        assert!(found.is_cut);
        assert_eq!((found.samples.len(), found.left_out), (1, MAX_ROWS as u64 - 1));
    }
}
