//! The tables of an export, and that of a segment, with their columns.

use std::fmt::Write as _;

/// Goes up when a column goes or changes its meaning; a new column or table does not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// Names of what stands in the files' own metadata, beside [`SCHEMA_VERSION`].
pub const VERSION_KEY: &str = "cuda_trace.schema_version";
pub const TABLE_KEY: &str = "cuda_trace.table";
pub const RUN_KEY: &str = "cuda_trace.run";
/// Of a segment: its number, and a checksum of its lines.
pub(crate) const SEQUENCE_KEY: &str = "cuda_trace.sequence";
pub(crate) const CHECKSUM_KEY: &str = "cuda_trace.lines_xxh64";
/// The same in all files of one export of one run.
pub const EXPORT_KEY: &str = "cuda_trace.export";
/// Files that the run was read from, as JSON.
pub const SEGMENTS_KEY: &str = "cuda_trace.segments";
/// Gaps that the rows themselves do not show, as JSON.
pub const GAPS_KEY: &str = "cuda_trace.gaps";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    /// Microseconds since 1970: finer ones Spark does not read.
    Time,
    Text,
}

#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Every row has a value.
    pub is_required: bool,
    /// Hardly any value comes twice: a dictionary would be of no use.
    pub is_distinct: bool,
}

#[derive(Debug)]
pub struct Table {
    /// Of an export the directory below.
    pub name: &'static str,
    pub columns: &'static [Column],
}

const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_required: false, is_distinct: false }
}

const fn integer(name: &'static str) -> Column {
    optional(name, Kind::Integer)
}

const fn text(name: &'static str) -> Column {
    optional(name, Kind::Text)
}

const fn required(column: Column) -> Column {
    Column { is_required: true, ..column }
}

const fn distinct(column: Column) -> Column {
    Column { is_distinct: true, ..column }
}

const RUN: Column = required(text("run"));
const SEGMENT: Column = required(integer("segment"));
const LINE: Column = required(distinct(integer("line")));
const TS: Column = required(distinct(integer("ts_ns")));
const TIME: Column = distinct(optional("time", Kind::Time));

/// A row for each call line.
pub const CALLS: Table = Table {
    name: "calls",
    columns: &[
        RUN,
        SEGMENT,
        LINE,
        TS,
        TIME,
        required(integer("pid")),
        integer("tid"),
        text("role"),
        text("ranks"),
        required(text("type")),
        required(text("func")),
        required(text("phase")),
        distinct(integer("dur_ns")),
        integer("ret"),
        text("error"),
        integer("result"),
        integer("depth"),
        text("parent"),
        integer("function"),
        integer("kernel"),
        text("kernel_name"),
        integer("grid_x"),
        integer("grid_y"),
        integer("grid_z"),
        integer("block_x"),
        integer("block_y"),
        integer("block_z"),
        integer("shared_bytes"),
        integer("bytes"),
        integer("count"),
        text("kind"),
        integer("ptr"),
        integer("dst"),
        integer("src"),
        integer("allocation"),
        integer("module"),
        integer("graph"),
        integer("graph_exec"),
        integer("graph_id"),
        integer("event"),
        integer("stream"),
    ],
};

/// A row for each line of a segment: a whole segment is one file.
pub const LINES: Table = Table {
    name: "lines",
    columns: &[
        RUN,
        SEGMENT,
        LINE,
        TIME,
        text("role"),
        text("ranks"),
        text("kernel_name"),
        TS,
        required(integer("pid")),
        integer("tid"),
        required(text("type")),
        required(text("func")),
        required(text("phase")),
        distinct(integer("dur_ns")),
        integer("ret"),
        text("error"),
        integer("result"),
        integer("depth"),
        text("parent"),
        integer("function"),
        integer("kernel"),
        integer("grid_x"),
        integer("grid_y"),
        integer("grid_z"),
        integer("block_x"),
        integer("block_y"),
        integer("block_z"),
        integer("shared_bytes"),
        integer("bytes"),
        integer("count"),
        text("kind"),
        integer("ptr"),
        integer("dst"),
        integer("src"),
        integer("allocation"),
        integer("module"),
        integer("graph"),
        integer("graph_exec"),
        integer("event"),
        integer("stream"),
        text("null_fields"),
        distinct(text("json")),
    ],
};

/// A row for each meta line, as it stands in the trace.
pub const META: Table = Table {
    name: "meta",
    columns: &[
        RUN,
        SEGMENT,
        LINE,
        TS,
        TIME,
        required(integer("pid")),
        required(text("func")),
        required(distinct(text("json"))),
    ],
};

/// A row for each kernel that a line of the run has named.
pub const KERNELS: Table = Table {
    name: "kernels",
    columns: &[RUN, required(integer("kernel")), text("name"), text("demangled"), text("reason")],
};

/// A row for each kernel of each graph that was launched, in the order of the capture.
pub const GRAPHS: Table = Table {
    name: "graphs",
    columns: &[
        RUN,
        required(integer("graph_id")),
        required(distinct(integer("node"))),
        required(integer("kernel")),
        text("kernel_name"),
    ],
};

/// A row for each process that called.
pub const PROCESSES: Table = Table {
    name: "processes",
    columns: &[
        RUN,
        required(integer("pid")),
        integer("parent"),
        text("role"),
        text("ranks"),
        text("executable"),
        text("command"),
    ],
};

/// A row for each function that was called: how many calls there were, and how that is known.
pub const FUNCTIONS: Table = Table {
    name: "functions",
    columns: &[
        RUN,
        required(text("func")),
        required(integer("lines")),
        required(integer("calls")),
        required(text("grade")),
        integer("low"),
        integer("high"),
        text("windows"),
        required(integer("dropped")),
        required(integer("ignored")),
        required(integer("suppressed")),
    ],
};

/// A row for each thing that the trace lacks.
pub const GAPS: Table = Table {
    name: "gaps",
    columns: &[
        RUN,
        required(text("gap")),
        text("func"),
        integer("pid"),
        integer("from_ns"),
        integer("to_ns"),
        required(text("text")),
    ],
};

/// A row for each run: one more than nothing, so that a fleet's runs can be counted.
pub const RUNS: Table = Table {
    name: "runs",
    columns: &[
        RUN,
        text("host"),
        text("sidecar_version"),
        integer("format_version"),
        optional("start_time", Kind::Time),
        integer("first_call_ns"),
        integer("last_call_ns"),
        required(integer("calls")),
        required(integer("meta_lines")),
        required(integer("gaps")),
    ],
};

pub const TABLES: [&Table; 9] =
    [&RUNS, &CALLS, &META, &KERNELS, &GRAPHS, &PROCESSES, &FUNCTIONS, &GAPS, &LINES];

impl Table {
    /// As Parquet writes down a schema.
    pub(crate) fn message(&self) -> String {
        let mut text = format!("message {} {{", self.name);
        for Column { name, kind, is_required, .. } in self.columns {
            let repetition = if *is_required { "required" } else { "optional" };
            let (physical, logical) = match kind {
                Kind::Integer => ("int64", ""),
                Kind::Time => ("int64", " (TIMESTAMP(MICROS,true))"),
                Kind::Text => ("binary", " (STRING)"),
            };
            let _: std::fmt::Result = write!(text, " {repetition} {physical} {name}{logical};");
        }
        text + " }"
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_every_column() {
        let text = include_str!("../../../docs/parquet.md");
        assert!(text.contains(&format!("Schema version {SCHEMA_VERSION}.")));
        for table in TABLES {
            let (_, rest) = text.split_once(&format!("\n### `{}`\n", table.name)).unwrap();
            let section = rest.split("\n### ").next().unwrap();
            let told: BTreeSet<&str> = section
                .lines()
                .filter(|line| line.starts_with("| `"))
                .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
                .collect();
            let expected: BTreeSet<&str> = table.columns.iter().map(|it| it.name).collect();
            assert_eq!(told, expected, "{}", table.name);
        }
    }
}
