//! Reads what `export` has written back: rows become the lines that they were.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tables::{
    call_text::{COLUMNS, Nulls, push_call},
    read::{RowReader, TableReader},
    schema,
};

use super::{content::Content, location::Location};
use crate::gap::{Cause, Gap};

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
    /// All lines of a segment.
    Segment,
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
    let file = TableReader::new(Content::open(location)?)?;
    let Some(table) = file.told(schema::TABLE_KEY) else { return Ok(Kind::Foreign) };
    if table == schema::LINES.name {
        return Ok(Kind::Segment);
    }
    if table != schema::CALLS.name {
        return Ok(Kind::Other(table.to_owned()));
    }
    let told = |key| file.told(key).with_context(|| format!("its metadata has no {key}"));
    let name = told(schema::RUN_KEY)?.to_owned();
    let segments: Vec<Segment> =
        serde_json::from_str(told(schema::SEGMENTS_KEY)?).context(schema::SEGMENTS_KEY)?;
    ensure!(!segments.is_empty(), "its metadata names no file that was exported");
    let mut gaps: Vec<Gap> =
        serde_json::from_str(told(schema::GAPS_KEY)?).context(schema::GAPS_KEY)?;
    let meta = meta_of(location.path());
    let opened = at(&meta).and_then(|found| Ok((TableReader::new(Content::open(&found)?)?, found)));
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

/// Where a row's line stands, before the other columns.
const PLACE_COLUMNS: [&str; 2] = ["segment", "line"];

/// The lines of a run, in their order.
pub(super) struct Lines {
    calls: Rows,
    meta: Option<Rows>,
    segment: i64,
    line: i64,
}

/// Rows of one table, with the place of the next one.
struct Rows {
    rows: RowReader<Content>,
    next: Option<(i64, i64)>,
}

impl Rows {
    fn new(location: &Location, table: &schema::Table, columns: &[&str]) -> Result<Self> {
        let cannot = || location.path().display().to_string();
        let file = TableReader::new(Content::open(location)?).with_context(cannot)?;
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
        let columns = |more: &[&'static str]| [&PLACE_COLUMNS[..], more].concat();
        let calls = Rows::new(calls, &schema::CALLS, &columns(&COLUMNS))?;
        let meta = meta.as_ref().map(|meta| Rows::new(meta, &schema::META, &columns(&["json"])));
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
            push_call(out, &mut self.calls.rows, PLACE_COLUMNS.len(), Nulls::default());
            self.calls.advance()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_companion_lies_beside() {
        let calls = Path::new("/calls/out/calls/date=2026-11-24/host=a/r.parquet");
        let meta = Path::new("/calls/out/meta/date=2026-11-24/host=a/r.parquet");
        assert_eq!(meta_of(calls), meta);
        let [calls, meta] = ["calls", "meta"].map(|table| format!("s3://b/{table}/r.parquet"));
        assert_eq!(meta_of(Path::new(&calls)).to_str(), Some(&*meta));
    }
}
