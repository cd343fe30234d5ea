//! Reads and unpacks files in a thread of its own, in pieces of whole lines.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use tables::read::Damaged;
use trace::reader::{MAX_LINE_BYTES, open_content};

use super::{
    exported::{Exported, Lines, unless_damaged},
    location::{Altered, Location},
};

const PIECE_BYTES: usize = 1 << 20;

/// Pieces that wait to be read: enough to keep both threads busy.
const WAITING: usize = 4;

/// What is read.
pub(crate) enum Source {
    File(Location),
    /// So many files, read from tables.
    Exported {
        tables: Arc<Exported>,
        segments: usize,
    },
}

pub enum Piece {
    /// Lines, each with its line feed but perhaps the last of a file.
    Lines(Buffer),
    /// A line that is longer than any writer makes it; it is left out.
    TooLong,
    /// The file can be read no further, or not at all.
    Failed(io::Error),
    /// The next piece is of the next file.
    End,
}

/// Keeps its room when it is used again: neither asked for nor cleared anew.
#[derive(Default)]
pub struct Buffer {
    room: Vec<u8>,
    length: usize,
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }

    fn set(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.room[..bytes.len()].copy_from_slice(bytes);
        self.length = bytes.len();
    }

    fn make_room(&mut self, more: usize) {
        if self.room.len() < self.length + more {
            self.room.resize(self.length + more, 0);
        }
    }

    /// As much as there is, but no more than a piece; 0 at the end.
    fn read_from(&mut self, input: &mut impl Read) -> io::Result<usize> {
        self.make_room(PIECE_BYTES);
        let mut read = 0;
        while read < PIECE_BYTES {
            match input.read(&mut self.room[self.length..self.length + PIECE_BYTES - read]) {
                Ok(0) => break,
                Ok(more) => {
                    read += more;
                    self.length += more;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// The pieces of all files, one after the other.
pub struct Pieces {
    pieces: Receiver<Piece>,
    used: SyncSender<Buffer>,
}

impl Pieces {
    pub(crate) fn of(sources: Vec<Source>) -> Self {
        let (sender, pieces) = sync_channel(WAITING);
        let (used, free) = sync_channel(WAITING + 2);
        thread::spawn(move || read_all(&sources, &sender, &free));
        Self { pieces, used }
    }

    /// `None` behind the end of the last file.
    pub fn receive(&mut self) -> Option<Piece> {
        self.pieces.recv().ok()
    }

    /// Gives the room of a piece back.
    pub fn give_back(&mut self, buffer: Buffer) {
        match self.used.try_send(buffer) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

fn read_all(sources: &[Source], sender: &SyncSender<Piece>, free: &Receiver<Buffer>) {
    let mut ahead = Ahead { sources, next: 0, started: VecDeque::new() };
    for (at, source) in sources.iter().enumerate() {
        ahead.start(at);
        let file = match source {
            Source::File(file) => file,
            Source::Exported { tables, segments } => {
                if read_tables(tables, *segments, sender, free).is_none() {
                    return;
                }
                continue;
            }
        };
        let read = ahead.open(file).map_or_else(
            |error| sender.send(Piece::Failed(error)).is_ok(),
            |input| read_file(input, sender, free).is_some(),
        );
        if !read || sender.send(Piece::End).is_err() {
            // Nobody listens any more.
            return;
        }
    }
}

/// Objects that are on their way before they are read.
struct Ahead<'a> {
    sources: &'a [Source],
    /// The first one that may have to be started.
    next: usize,
    started: VecDeque<Box<dyn Read + Send>>,
}

/// Each of them holds no more than its first part.
const OBJECTS_AHEAD: usize = 3;

impl Ahead<'_> {
    /// Up to those behind the one that is read now.
    fn start(&mut self, at: usize) {
        while self.next < self.sources.len() && self.next <= at + OBJECTS_AHEAD {
            // Of a table parts are asked for.
            if let Source::File(file @ Location::Object(object)) = &self.sources[self.next]
                && !file.is_table()
            {
                self.started.push_back(object.store.start(object));
            }
            self.next += 1;
        }
    }

    fn open(&mut self, file: &Location) -> io::Result<Box<dyn BufRead + Send>> {
        match file {
            Location::Disk(_) => file.open(),
            Location::Object(_) if file.is_table() => file.open(),
            Location::Object(_) => match self.started.pop_front() {
                Some(content) => open_content(content),
                None => file.open(),
            },
        }
    }
}

/// `None` if nobody listens any more.
fn read_file(
    mut input: Box<dyn BufRead + Send>,
    sender: &SyncSender<Piece>,
    free: &Receiver<Buffer>,
) -> Option<()> {
    let send = |piece| sender.send(piece).ok();
    // The beginning of a line whose end is not read yet.
    let mut rest: Vec<u8> = Vec::new();
    let mut is_skipping = false;
    loop {
        let mut buffer = free.try_recv().unwrap_or_default();
        buffer.set(&rest);
        rest.clear();
        let read = buffer.read_from(&mut input);
        let is_end = !matches!(read, Ok(1..));
        if is_skipping {
            let line_feed = memchr::memchr(b'\n', buffer.bytes());
            is_skipping = line_feed.is_none();
            let left = line_feed.map_or_else(Vec::new, |at| buffer.bytes()[at + 1..].to_vec());
            buffer.set(&left);
        }
        if !is_end {
            let end = memchr::memrchr(b'\n', buffer.bytes()).map_or(0, |at| at + 1);
            rest.extend_from_slice(&buffer.bytes()[end..]);
            buffer.length = end;
            if rest.len() as u64 > MAX_LINE_BYTES {
                rest = Vec::new();
                is_skipping = true;
                send(Piece::TooLong)?;
            }
        }
        if buffer.length > 0 {
            send(Piece::Lines(buffer))?;
        }
        if let Err(error) = read {
            return send(Piece::Failed(error));
        }
        if is_end {
            return Some(());
        }
    }
}

/// Ends as many files as were exported, whatever happens; `None` if nobody listens any more.
fn read_tables(
    tables: &Exported,
    segments: usize,
    sender: &SyncSender<Piece>,
    free: &Receiver<Buffer>,
) -> Option<()> {
    let mut left = segments;
    let read = unless_damaged(|| read_lines(tables, &mut left, sender, free));
    match read {
        Ok(is_heard) => is_heard?,
        Err(error) => {
            let reason = format!("{}: {error:#}", tables.calls.path().display());
            let error = if error.is::<Damaged>() {
                io::Error::other(Altered(reason))
            } else {
                io::Error::other(reason)
            };
            sender.send(Piece::Failed(error)).ok()?;
        }
    }
    for _ in 0..left {
        sender.send(Piece::End).ok()?;
    }
    Some(())
}

/// `left` is how many files have not ended yet; the last one's end is left to the caller.
fn read_lines(
    tables: &Exported,
    left: &mut usize,
    sender: &SyncSender<Piece>,
    free: &Receiver<Buffer>,
) -> anyhow::Result<Option<()>> {
    let last = i64::try_from(*left)?;
    let mut lines = Lines::new(tables)?;
    let mut current = 1;
    let mut text = Vec::new();
    loop {
        let segment = lines.segment()?;
        if text.len() >= PIECE_BYTES || (segment != Some(current) && !text.is_empty()) {
            let mut room = free.try_recv().unwrap_or_default().room;
            room.clear();
            let full = std::mem::replace(&mut text, room);
            let buffer = Buffer { length: full.len(), room: full };
            if sender.send(Piece::Lines(buffer)).is_err() {
                return Ok(None);
            }
        }
        let Some(segment) = segment else { return Ok(Some(())) };
        anyhow::ensure!(segment <= last, "a row of a file that was not exported");
        while current < segment {
            current += 1;
            *left -= 1;
            if sender.send(Piece::End).is_err() {
                return Ok(None);
            }
        }
        lines.push(&mut text)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.jsonl");
        std::fs::write(&file, text).unwrap();
        let mut pieces = Pieces::of(
            [file.clone(), directory.path().join("none"), file]
                .map(|path| Source::File(Location::Disk(path)))
                .into(),
        );
        let mut found = Vec::new();
        while let Some(piece) = pieces.receive() {
            found.push(match piece {
                Piece::Lines(buffer) => {
                    let lines = String::from_utf8(buffer.bytes().to_vec()).unwrap();
                    pieces.give_back(buffer);
                    lines
                }
                Piece::TooLong => "too long".to_owned(),
                Piece::Failed(_) => "failed".to_owned(),
                Piece::End => "end".to_owned(),
            });
        }
        found
    }

    #[test]
    fn lines_are_whole_and_none_is_lost() {
        assert_eq!(read(b"a\nb")[..5], ["a\n", "b", "end", "failed", "end"]);
        assert_eq!(read(b""), ["end", "failed", "end", "end"]);
        let many: Vec<String> = (0..400_000).map(|number| format!("line {number}\n")).collect();
        let many = many.concat();
        let found = read(many.as_bytes());
        assert!(found.iter().all(|piece| !piece.contains('\n') || piece.ends_with('\n')));
        let lines: String = found.iter().filter(|piece| piece.contains('\n')).cloned().collect();
        assert_eq!(lines, many.repeat(2));
    }

    #[test]
    fn a_line_without_end_is_left_out() {
        let long = "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap() + (3 << 20));
        let found = read(format!("a\n{long}\nb\n").as_bytes());
        assert_eq!(found[..4], ["a\n", "too long", "b\n", "end"]);
        let found = read(format!("a\n{long}").as_bytes());
        assert_eq!(found[..3], ["a\n", "too long", "end"]);
    }
}
