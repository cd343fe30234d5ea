//! Reads what `export` has written back: rows become the lines that they were.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::location::Location;
use crate::{
    gap::{Cause, Gap},
    table_file::{
        read::{RowReader, TableReader},
        schema,
    },
};

/// How file names end.
pub const EXTENSION: &str = "parquet";

/// A file from which lines were exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub file: String,
    /// `None` for what is no segment by its name.
    pub sequence: Option<u64>,
}

/// The tables of a run, as far as they are needed.
#[derive(Debug, Clone)]
pub struct Exported {
    pub calls: Location,
    /// `None` if there is none that belongs to the calls.
    pub meta: Option<Location>,
}

/// What the files say of the run.
#[derive(Debug)]
pub struct Run {
    pub name: String,
    pub tables: Exported,
    pub segments: Vec<Segment>,
    pub gaps: Vec<Gap>,
}

/// What a Parquet file is.
pub enum Kind {
    Calls(Box<Run>),
    /// Another table of an export, with its name.
    Other(String),
    Foreign,
}

/// An error if it is no Parquet file, or says that it holds calls, but nothing can be made of it.
/// `at` finds what lies at a path beside it.
pub fn look(table: &Location, at: impl Fn(&Path) -> Result<Location>) -> Result<Kind> {
    unless_damaged(|| look_into(table, at))
}

/// The library that reads Parquet may panic on what no writer makes.
pub(super) fn unless_damaged<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| bail!("the file is damaged"))
}

fn look_into(location: &Location, at: impl Fn(&Path) -> Result<Location>) -> Result<Kind> {
    let file = TableReader::open(location)?;
    let Some(table) = file.told(schema::TABLE_KEY) else { return Ok(Kind::Foreign) };
    if table != schema::CALLS.name {
        return Ok(Kind::Other(table.to_owned()));
    }
    let told = |key| file.told(key).with_context(|| format!("its metadata has no {key}"));
    let name = told(schema::RUN_KEY)?.to_owned();
    let segments: Vec<Segment> =
        serde_json::from_str(told(schema::SEGMENTS_KEY)?).context(schema::SEGMENTS_KEY)?;
    let mut gaps: Vec<Gap> =
        serde_json::from_str(told(schema::GAPS_KEY)?).context(schema::GAPS_KEY)?;
    let meta = meta_of(location.path());
    let opened = at(&meta).and_then(|found| Ok((TableReader::open(&found)?, found)));
    let belongs = opened.context("cannot be read").and_then(|(other, found)| {
        ensure!(
            other.is(&schema::META)
                && other.told(schema::EXPORT_KEY) == file.told(schema::EXPORT_KEY),
            "it is of another export than the calls"
        );
        Ok(found)
    });
    let meta = match belongs {
        Ok(found) => Some(found),
        Err(error) => {
            let reason = format!("{error:#}");
            gaps.push(Gap::anywhere(Cause::Unreadable { file: meta, reason }));
            None
        }
    };
    let tables = Exported { calls: location.clone(), meta };
    Ok(Kind::Calls(Box::new(Run { name, tables, segments, gaps })))
}

/// Where `export` puts calls.
pub(super) fn is_below_calls(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == schema::CALLS.name)
}

/// It lies as the calls do, below `meta` instead of `calls`.
fn meta_of(calls: &Path) -> PathBuf {
    // Not by the components of paths, which would write `s3://` with one slash.
    let parts: Vec<&[u8]> = calls.as_os_str().as_bytes().split(|&byte| byte == b'/').collect();
    let at = parts.iter().rposition(|part| *part == schema::CALLS.name.as_bytes());
    let renamed = parts
        .iter()
        .enumerate()
        .map(|(index, part)| if Some(index) == at { schema::META.name.as_bytes() } else { part });
    let renamed: Vec<&[u8]> = renamed.collect();
    OsString::from_vec(renamed.join(&b'/')).into()
}

/// Columns of calls, in the order of a line's fields.
const CALL_COLUMNS: [&str; 34] = [
    "segment",
    "line",
    "ts_ns",
    "pid",
    "tid",
    "type",
    "func",
    "phase",
    "dur_ns",
    "ret",
    "error",
    "result",
    "depth",
    "parent",
    "function",
    "kernel",
    "grid_x",
    "grid_y",
    "grid_z",
    "block_x",
    "block_y",
    "block_z",
    "shared_bytes",
    "bytes",
    "count",
    "kind",
    "ptr",
    "dst",
    "src",
    "allocation",
    "module",
    "graph",
    "graph_exec",
    "event",
];
const META_COLUMNS: [&str; 3] = ["segment", "line", "json"];

/// The lines of a run, in their order.
pub(super) struct Lines {
    calls: Rows,
    meta: Option<Rows>,
    segment: i64,
    line: i64,
}

/// Rows of one table, with the place of the next one.
struct Rows {
    rows: RowReader,
    next: Option<(i64, i64)>,
}

impl Rows {
    fn new(location: &Location, table: &schema::Table, columns: &[&str]) -> Result<Self> {
        let cannot = || location.path().display().to_string();
        let file = TableReader::open(location).with_context(cannot)?;
        let mut rows = Self { rows: file.rows(table, columns).with_context(cannot)?, next: None };
        rows.advance().with_context(cannot)?;
        Ok(rows)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = if self.rows.advance()? {
            let place = (self.rows.integer(0), self.rows.integer(1));
            let (Some(segment), Some(line)) = place else { bail!("a row without its place") };
            Some((segment, line))
        } else {
            None
        };
        Ok(())
    }
}

impl Lines {
    pub(super) fn new(Exported { calls, meta }: &Exported) -> Result<Self> {
        let columns = [&CALL_COLUMNS[..], &["stream"]].concat();
        let calls = Rows::new(calls, &schema::CALLS, &columns)?;
        let meta = meta.as_ref().map(|meta| Rows::new(meta, &schema::META, &META_COLUMNS));
        Ok(Self { calls, meta: meta.transpose()?, segment: 1, line: 0 })
    }

    /// The segment of the next line, from 1 and never falling; `None` behind the last line.
    pub(super) fn segment(&self) -> Result<Option<i64>> {
        let of_meta = self.meta.as_ref().and_then(|meta| meta.next);
        let next = match (self.calls.next, of_meta) {
            (Some(call), Some(meta)) => Some(call.min(meta)),
            (one, other) => one.or(other),
        };
        let is_behind = next.is_none_or(|next| next > (self.segment, self.line));
        ensure!(is_behind, "its rows are not in the order of the lines");
        Ok(next.map(|(segment, _)| segment))
    }

    /// Appends the next line.
    pub(super) fn push(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if let Some(meta) = &mut self.meta
            && let Some(next) = meta.next
            && self.calls.next.is_none_or(|call| next < call)
        {
            (self.segment, self.line) = next;
            out.extend_from_slice(meta.rows.text(2).unwrap_or_default());
            out.push(b'\n');
            return meta.advance();
        }
        if let Some(next) = self.calls.next {
            (self.segment, self.line) = next;
            push_call(out, &mut self.calls.rows);
            self.calls.advance()?;
        }
        Ok(())
    }
}

/// In the writer's own spelling, which is read fastest; the first two columns are taken.
fn push_call(out: &mut Vec<u8>, rows: &mut RowReader) {
    let mut column = 2;
    let mut next = || {
        column += 1;
        column - 1
    };
    let ts_ns = rows.integer(next()).unwrap_or(0);
    out.extend_from_slice(if ts_ns < 0 { b"{\"ts\":-" } else { b"{\"ts\":" });
    push_decimal(out, ts_ns.unsigned_abs(), 1_000_000);
    let mut field = |name: &str, kind: Field| {
        let at = next();
        match kind {
            Field::Text => {
                let Some(text) = rows.text(at) else { return };
                push_key(out, name);
                push_text(out, text);
            }
            Field::Number => {
                let Some(number) = rows.integer(at) else { return };
                push_key(out, name);
                push_number(out, number.cast_unsigned());
            }
            Field::Microseconds => {
                let Some(ns) = rows.integer(at) else { return };
                push_key(out, name);
                push_decimal(out, ns.cast_unsigned(), 1000);
            }
            Field::Address => {
                let Some(address) = rows.integer(at) else { return };
                push_key(out, name);
                push_address(out, address.cast_unsigned());
            }
            Field::Size => {
                let rest = [next(), next()];
                let sizes = [at, rest[0], rest[1]].map(|at| rows.integer(at));
                let [Some(x), Some(y), Some(z)] = sizes else { return };
                push_key(out, name);
                for (before, size) in ["[", ",", ","].iter().zip([x, y, z]) {
                    out.extend_from_slice(before.as_bytes());
                    push_number(out, size.cast_unsigned());
                }
                out.push(b']');
            }
        }
    };
    for (name, kind) in FIELDS {
        field(name, kind);
    }
    out.extend_from_slice(b"}\n");
}

#[derive(Clone, Copy)]
enum Field {
    Text,
    Number,
    Microseconds,
    Address,
    /// Three columns.
    Size,
}

/// Of a call line, behind `ts`.
const FIELDS: [(&str, Field); 28] = [
    ("pid", Field::Number),
    ("tid", Field::Number),
    ("type", Field::Text),
    ("func", Field::Text),
    ("phase", Field::Text),
    ("dur_us", Field::Microseconds),
    ("ret", Field::Number),
    ("error", Field::Text),
    ("result", Field::Address),
    ("depth", Field::Number),
    ("parent", Field::Text),
    ("function", Field::Address),
    ("kernel", Field::Number),
    ("grid", Field::Size),
    ("block", Field::Size),
    ("shared_bytes", Field::Number),
    ("bytes", Field::Number),
    ("count", Field::Number),
    ("kind", Field::Text),
    ("ptr", Field::Address),
    ("dst", Field::Address),
    ("src", Field::Address),
    ("allocation", Field::Address),
    ("module", Field::Address),
    ("graph", Field::Address),
    ("graph_exec", Field::Address),
    ("event", Field::Address),
    ("stream", Field::Address),
];

fn push_key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// `value / unit` with all its decimals; `unit` is a power of ten.
fn push_decimal(out: &mut Vec<u8>, value: u64, unit: u64) {
    push_number(out, value / unit);
    out.push(b'.');
    let mut unit = unit / 10;
    while unit > 0 {
        let digit = value / unit % 10;
        out.push(b'0' + u8::try_from(digit).expect("a digit"));
        unit /= 10;
    }
}

fn push_address(out: &mut Vec<u8>, address: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\"0x");
    let first = (64 - (address | 1).leading_zeros()).div_ceil(4);
    for place in (0..first).rev() {
        out.push(DIGITS[(address >> (place * 4) & 15) as usize]);
    }
    out.push(b'"');
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        let text = String::from_utf8_lossy(text);
        serde_json::to_writer(out, &text).expect("text into memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_spelled_as_the_sidecar_does() {
        let mut out = Vec::new();
        push_decimal(&mut out, 3_018_407_248, 1_000_000);
        push_decimal(&mut out, 4, 1000);
        push_address(&mut out, 0);
        push_address(&mut out, 0x55a3_82e7_5380);
        push_address(&mut out, u64::MAX);
        push_text(&mut out, "a\"\n\u{e9}".as_bytes());
        let expected = "3018.4072480.004\"0x0\"\"0x55a382e75380\"\"0xffffffffffffffff\"\
                        \"a\\\"\\n\u{e9}\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_companion_lies_beside() {
        let calls = Path::new("/calls/out/calls/date=2026-11-24/host=a/r.parquet");
        let meta = Path::new("/calls/out/meta/date=2026-11-24/host=a/r.parquet");
        assert_eq!(meta_of(calls), meta);
        let [calls, meta] = ["calls", "meta"].map(|table| format!("s3://b/{table}/r.parquet"));
        assert_eq!(meta_of(Path::new(&calls)).to_str(), Some(&*meta));
    }
}
