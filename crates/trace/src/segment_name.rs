//! File names of segments: `trace_<host>_<start>_<sequence>.jsonl`, `.jsonl.zst`, or `.parquet`.

use std::fmt;

/// What ends the name of a segment that is still being written.
pub const PART_SUFFIX: &str = ".part";

/// The host in file names of a machine that has no name.
const NO_NAME: &str = "unnamed";

/// Identifies one segment of one run of one sidecar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    pub run: Run,
    /// From 1, without gaps.
    pub sequence: u64,
    pub format: Format,
}

/// How the lines lie in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    #[default]
    Jsonl,
    /// In zstd frames.
    JsonlZst,
    /// As rows of a table, made of the lines once they are complete.
    Parquet,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Jsonl, Self::JsonlZst, Self::Parquet];

    /// Those that can be written line by line.
    pub const OF_LINES: [Self; 2] = [Self::Jsonl, Self::JsonlZst];

    /// How a segment is written until it is closed.
    #[must_use]
    pub fn while_open(self) -> Self {
        if self == Self::Parquet { Self::Jsonl } else { self }
    }

    /// As file names end, and as settings name it.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::JsonlZst => "jsonl.zst",
            Self::Parquet => "parquet",
        }
    }

    /// Of a closed file.
    pub fn of(file_name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.stem(file_name).is_some())
    }

    fn stem(self, file_name: &str) -> Option<&str> {
        file_name.strip_suffix(self.extension())?.strip_suffix('.')
    }
}

/// One run of one sidecar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Letters, digits, `.` and `-`; in Kubernetes the pod's name.
    pub host: String,
    /// UTC to the millisecond, as `20261124T032105.123Z`.
    pub start: String,
}

impl Run {
    /// Characters that a file name or an object key could not bear become `-`. A machine without a
    /// name gets one, for no part of a file name may be empty.
    pub fn new(host: &str, start: &str) -> Self {
        let host = if host.is_empty() { NO_NAME } else { host };
        let host = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' })
            .collect();
        Self { host, start: start.to_owned() }
    }
}

impl SegmentName {
    /// Reads a file name, closed or still `.part`; `None` if it is not a segment's.
    ///
    /// Only names as they are written are read: no two files of a directory are one segment.
    pub fn parse(file_name: &str) -> Option<Self> {
        let closed = file_name.strip_suffix(PART_SUFFIX).unwrap_or(file_name);
        let format = Format::of(closed)?;
        let stem = format.stem(closed)?.strip_prefix("trace_")?;
        let (rest, sequence) = stem.rsplit_once('_')?;
        let (host, start) = rest.rsplit_once('_')?;
        if host.is_empty() || start.is_empty() {
            return None;
        }
        let name = Self { run: Run::new(host, start), sequence: sequence.parse().ok()?, format };
        (name.sequence > 0 && name.to_string() == closed).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, sequence, format } = self;
        write!(f, "trace_{run}_{sequence:06}.{}", format.extension())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.host, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_it_was_written() {
        let formats = [
            (Format::Jsonl, ".jsonl"),
            (Format::JsonlZst, ".jsonl.zst"),
            (Format::Parquet, ".parquet"),
        ];
        for (format, extension) in formats {
            let run = Run::new("gpu_node 1", "20261124T032105.123Z");
            let name = SegmentName { run, sequence: 7, format };
            let expected = format!("trace_gpu-node-1_20261124T032105.123Z_000007{extension}");
            assert_eq!(name.to_string(), expected);
            assert_eq!(SegmentName::parse(&name.to_string()), Some(name.clone()));
            assert_eq!(SegmentName::parse(&format!("{name}{PART_SUFFIX}")), Some(name));
        }
    }

    #[test]
    fn the_files_of_a_machine_without_a_name_are_segments_too() {
        for host in ["", "_", "\u{e9}", "."] {
            let name =
                SegmentName { run: Run::new(host, "s"), sequence: 1, format: Format::default() };
            assert_eq!(SegmentName::parse(&name.to_string()), Some(name), "{host:?}");
        }
    }

    #[test]
    fn other_files_are_not_segments() {
        for file in [
            "trace_.jsonl",
            "trace_a_b.jsonl",
            "trace_a_b_x.jsonl",
            "trace_a_b_000000.jsonl",
            "trace_a_b_-00001.jsonl",
            "trace_a_b_99999999999999999999.jsonl",
            "trace_a_b_000001.zst",
            "trace_a_b_000001jsonl.zst",
            "trace_a_b_000001.jsonl.part.zst",
            "notes.txt",
            ".lock",
        ] {
            assert_eq!(SegmentName::parse(file), None, "{file}");
        }
    }

    #[test]
    fn another_spelling_of_a_name_is_not_that_name() {
        for file in ["trace_a_b_1.jsonl", "trace_a_b_+00001.jsonl", "trace_a c_b_000001.jsonl"] {
            assert_eq!(SegmentName::parse(file), None, "{file}");
        }
        let (run, format) = (Run::new("a", "b"), Format::Jsonl);
        let largest = SegmentName { run, sequence: u64::MAX, format };
        assert_eq!(SegmentName::parse(&largest.to_string()), Some(largest));
    }
}
