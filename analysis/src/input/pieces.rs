//! Reads and unpacks files in a thread of its own, in pieces of whole lines.

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
};

use trace::reader::MAX_LINE_BYTES;

use super::open;

const PIECE_BYTES: usize = 1 << 20;

/// Pieces that wait to be read: enough to keep both threads busy.
const WAITING: usize = 4;

pub enum Piece {
    /// Lines, each with its line feed but perhaps the last of a file.
    Lines(Vec<u8>),
    /// A line that is longer than any writer makes it; it is left out.
    TooLong,
    /// The file can be read no further, or not at all.
    Failed(io::Error),
    /// The next piece is of the next file.
    End,
}

/// The pieces of all files, one after the other.
pub struct Pieces {
    pieces: Receiver<Piece>,
    used: SyncSender<Vec<u8>>,
}

impl Pieces {
    pub fn of(files: Vec<PathBuf>) -> Self {
        let (sender, pieces) = sync_channel(WAITING);
        let (used, free) = sync_channel(WAITING + 2);
        thread::spawn(move || read_all(&files, &sender, &free));
        Self { pieces, used }
    }

    /// `None` behind the end of the last file.
    pub fn receive(&mut self) -> Option<Piece> {
        self.pieces.recv().ok()
    }

    /// Gives the room of a piece back.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        match self.used.try_send(buffer) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

fn read_all(files: &[PathBuf], sender: &SyncSender<Piece>, free: &Receiver<Vec<u8>>) {
    for file in files {
        let read = open(file).map_or_else(
            |error| sender.send(Piece::Failed(error)).is_ok(),
            |input| read_file(input, sender, free),
        );
        if !read || sender.send(Piece::End).is_err() {
            // Nobody listens any more.
            return;
        }
    }
}

fn read_file(
    mut input: Box<dyn BufRead + Send>,
    sender: &SyncSender<Piece>,
    free: &Receiver<Vec<u8>>,
) -> bool {
    // The beginning of a line whose end is not read yet.
    let mut rest: Vec<u8> = Vec::new();
    let mut is_skipping = false;
    loop {
        let mut buffer = free.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        buffer.append(&mut rest);
        let before = buffer.len();
        let read = (&mut input).take(PIECE_BYTES as u64).read_to_end(&mut buffer);
        let (is_end, failure) = match read {
            Ok(read) => (read == 0, None),
            Err(error) => (true, Some(error)),
        };
        if is_skipping {
            let Some(line_feed) = memchr::memchr(b'\n', &buffer) else {
                if is_end {
                    return failure.is_none_or(|error| sender.send(Piece::Failed(error)).is_ok());
                }
                continue;
            };
            buffer.drain(..=line_feed);
            is_skipping = false;
        }
        if !is_end {
            let end = memchr::memrchr(b'\n', &buffer).map_or(0, |at| at + 1);
            rest.extend_from_slice(&buffer[end..]);
            buffer.truncate(end);
            if rest.len() as u64 > MAX_LINE_BYTES {
                rest = Vec::new();
                is_skipping = true;
                if sender.send(Piece::TooLong).is_err() {
                    return false;
                }
            }
        }
        debug_assert!(before <= PIECE_BYTES + usize::try_from(MAX_LINE_BYTES).unwrap_or(0));
        if !buffer.is_empty() && sender.send(Piece::Lines(buffer)).is_err() {
            return false;
        }
        if is_end {
            return failure.is_none_or(|error| sender.send(Piece::Failed(error)).is_ok());
        }
    }
}
