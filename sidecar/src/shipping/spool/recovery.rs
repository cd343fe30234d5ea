//! Closes a segment that a crash left open: cut to whole lines, or to whole frames of whole lines,
//! marked, and renamed.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    mem,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use processes::clock;
use trace::{
    frames::Frames,
    line::{CloseReason, Line, Meta, MetaLine, SegmentClose},
    reader::Reader,
    segment_name::{Format, SegmentName},
    writer::push_meta,
};

use crate::shipping::segment::Encoding;

/// Longer lines are garbage: no writer makes them, and memory must stay bounded.
const MAX_LINE: u64 = 16 << 20;

/// The same for frames: the writer makes one of every 256 KiB, and of the opening lines.
const MAX_FRAME: u64 = 64 << 20;

/// Returns the final path. A crash in the middle of this leaves a `.part` again, which the next
/// run closes.
pub(super) fn close(part: &Path) -> Result<PathBuf> {
    let final_path = part.with_file_name(complete(part)?.to_string());
    fs::rename(part, &final_path)?;
    Ok(final_path)
}

/// Does all of that but for the new name.
pub(super) fn complete(part: &Path) -> Result<SegmentName> {
    let file_name = part.file_name().and_then(|name| name.to_str()).context("odd file name")?;
    let name = SegmentName::parse(file_name).context("not a segment")?;
    let mut file = OpenOptions::new().read(true).write(true).open(part)?;
    let input = BufReader::with_capacity(1 << 20, &file);
    let (whole_bytes, Scan { calls, last_timestamp_ns, is_closed, .. }) = match name.format {
        Format::Jsonl => {
            let scan = scan(input)?;
            (scan.whole_bytes, scan)
        }
        Format::JsonlZst => scan_frames(input)?,
        Format::Parquet => bail!("half a table cannot be closed"),
    };
    file.set_len(whole_bytes)?;
    if !is_closed {
        let close = Meta::SegmentClose(SegmentClose {
            coverage: None,
            cost: None,
            sequence: name.sequence,
            reason: CloseReason::Truncated,
            r#final: false,
            calls,
            clock: clock::read(0),
            functions: BTreeMap::new(),
        });
        let mut line = Vec::new();
        push_meta(&mut line, last_timestamp_ns, std::process::id(), &close);
        file.seek(SeekFrom::End(0))?;
        file.write_all(Encoding::new(name.format)?.encode(&line)?)?;
    }
    Ok(name)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Scan {
    /// Up to and with the last line feed.
    whole_bytes: u64,
    calls: u64,
    last_timestamp_ns: u64,
    /// The closing line is there: only the new name was missing.
    is_closed: bool,
}

/// The bytes of the frames before the first that is not whole or holds half a line, and what is in
/// them. Nobody could read on behind a damaged frame.
fn scan_frames(input: impl BufRead) -> io::Result<(u64, Scan)> {
    let mut frames = Frames::new(input);
    let (mut whole_bytes, mut all) = (0, Scan::default());
    let mut content = Vec::new();
    loop {
        content.clear();
        let read = match frames.next_frame() {
            Ok(None) => break,
            Ok(Some(frame)) => frame.take(MAX_FRAME).read_to_end(&mut content),
            Err(error) => Err(error),
        };
        match read {
            Ok(_) => {}
            Err(error) if is_damage(&error) => break,
            Err(error) => return Err(error),
        }
        let scan = scan(&content[..])?;
        if scan.whole_bytes != content.len() as u64 || scan.whole_bytes == MAX_FRAME {
            break;
        }
        whole_bytes = frames.offset();
        all = Scan {
            whole_bytes: all.whole_bytes + scan.whole_bytes,
            calls: all.calls + scan.calls,
            last_timestamp_ns: scan.last_timestamp_ns,
            is_closed: scan.is_closed,
        };
    }
    Ok((whole_bytes, all))
}

/// Of the content, not of the disk.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
}

/// Gigabytes at the speed of the disk: of lines as the writer makes them, only the last is parsed.
fn scan(mut input: impl BufRead) -> io::Result<Scan> {
    let (mut bytes, mut whole_bytes, mut calls) = (0, 0, 0);
    let (mut line, mut last) = (Vec::new(), Vec::new());
    let mut is_too_long = false;
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        bytes += read;
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            if read == MAX_LINE {
                is_too_long = true;
                continue;
            }
            break;
        }
        whole_bytes = bytes;
        let kind = if mem::take(&mut is_too_long) { None } else { Kind::of(&line) };
        if kind.is_some() {
            mem::swap(&mut line, &mut last);
        }
        calls += u64::from(kind == Some(Kind::Call));
    }
    let (last_timestamp_ns, is_closed) = match parse(&last) {
        Some(Line::Call(call)) => (clock::nanoseconds(call.ts), false),
        Some(Line::Meta(MetaLine { ts, meta, .. })) => {
            (clock::nanoseconds(ts), matches!(meta, Meta::SegmentClose(_)))
        }
        None => (0, false),
    };
    Ok(Scan { whole_bytes, calls, last_timestamp_ns, is_closed })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Call,
    Meta,
}

impl Kind {
    /// `None` for what is no trace line, such as a block that the disk lost.
    fn of(line: &[u8]) -> Option<Self> {
        if is_call_as_written(line) {
            return Some(Self::Call);
        }
        Some(match parse(line)? {
            Line::Call(_) => Self::Call,
            Line::Meta(_) => Self::Meta,
        })
    }
}

/// Whether this is surely a call, by the start that `trace::writer` gives it. Two lines with a gap
/// between them have a second brace, and what the disk lost has control characters.
fn is_call_as_written(line: &[u8]) -> bool {
    fn after_number<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        let value = line.strip_prefix(name)?;
        let end = value.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        (end > 0).then_some(&value[end..])
    }

    let rest = after_number(line, b"{\"ts\":")
        .and_then(|rest| after_number(rest, b",\"pid\":"))
        .and_then(|rest| after_number(rest, b",\"tid\":"))
        .and_then(|rest| rest.strip_prefix(b",\"type\":\"cuda_")?.strip_suffix(b"\"}"));
    rest.is_some_and(|rest| {
        !rest.iter().fold(false, |found, &byte| found || byte < b' ' || byte == b'{')
    })
}

fn parse(line: &[u8]) -> Option<Line> {
    Reader::new(line, Path::new("")).next()?.ok()
}

#[cfg(test)]
mod tests;
