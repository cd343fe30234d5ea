//! What an ELF file tells the dynamic loader: segments, dynamic symbols, build id.
//!
//! Read through `PT_DYNAMIC`, as the loader reads it: section headers may be missing, and nobody
//! checks them. The file is anybody's, and its tables may claim sizes that a sparse file of a few
//! KiB can back, so everything is read in pieces, and each size has a bound.

use std::{fs::File, os::unix::fs::FileExt as _};

use anyhow::{Context as _, Result, bail, ensure};
use object::elf::{
    DF_TEXTREL, DT_FLAGS, DT_GNU_HASH, DT_HASH, DT_NULL, DT_STRSZ, DT_STRTAB, DT_SYMTAB,
    DT_TEXTREL, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC, NT_GNU_BUILD_ID, PF_W,
    PF_X, PT_DYNAMIC, PT_LOAD, PT_NOTE,
};

/// The kernel takes no executable with more; libraries have about ten.
const MAX_PROGRAM_HEADERS: u16 = 1170;

/// Libraries have about thirty.
const MAX_DYNAMIC_ENTRIES: u64 = 4096;

/// The largest libraries of PyTorch export a third of that. 24 MiB, read in pieces.
const MAX_SYMBOLS: u64 = 1 << 20;

/// Kept in memory while the symbols are read; the largest libraries of PyTorch have half of it.
const MAX_STRING_BYTES: u64 = 64 << 20;

/// The note with the build id has 36 bytes.
const MAX_NOTE_BYTES: u64 = 4096;
const MAX_NOTE_SEGMENTS: usize = 16;

/// SHA-1 is 20 bytes, and linkers write no longer ones than SHA-512.
const MAX_BUILD_ID_BYTES: usize = 64;

/// A multiple of the size of a symbol.
const PIECE_BYTES: usize = 24 << 11;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const DYNAMIC_ENTRY_BYTES: usize = 16;
const SYMBOL_BYTES: usize = 24;

/// An open ELF file whose program headers have been read.
pub(super) struct Elf<'a> {
    file: &'a File,
    segments: Vec<Segment>,
    dynamic: Option<Dynamic>,
    pub(super) build_id: Option<Vec<u8>>,
}

/// What the loader maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) file_offset: u64,
    pub(super) file_size: u64,
    pub(super) is_executable: bool,
    pub(super) is_writable: bool,
}

/// A dynamic symbol, as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol<'a> {
    /// From the first byte of its name to the end of all names.
    pub(super) name: &'a [u8],
    pub(super) info: u8,
    pub(super) visibility: u8,
    pub(super) section: u16,
    pub(super) address: u64,
    pub(super) size: u64,
}

/// Addresses and sizes that the dynamic section gives.
#[derive(Debug, Clone, Copy, Default)]
struct Dynamic {
    symbols: Option<u64>,
    strings: Option<u64>,
    string_bytes: Option<u64>,
    hash: Option<u64>,
    gnu_hash: Option<u64>,
    has_text_relocations: bool,
}

impl Segment {
    /// Bytes of the file from `address` to the end of the segment; `None` if it is not in there.
    pub(super) fn from(&self, address: u64) -> Option<(u64, u64)> {
        let start = address.checked_sub(self.address)?;
        let length = self.file_size.checked_sub(start).filter(|length| *length > 0)?;
        Some((self.file_offset.checked_add(start)?, length))
    }
}

impl<'a> Elf<'a> {
    /// Fails on what is no ELF file of this machine's kind.
    pub(super) fn read(file: &'a File) -> Result<Self> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).context("not a 64-bit ELF file: too short")?;
        ensure!(
            header[..4] == ELFMAG && header[4] == ELFCLASS64 && header[5] == ELFDATA2LSB,
            "not a 64-bit ELF file"
        );
        let (kind, machine) = (u16_at(&header, 16), u16_at(&header, 18));
        ensure!(machine == EM_X86_64, "not code for x86-64");
        ensure!(kind == ET_DYN || kind == ET_EXEC, "neither a library nor a program");
        let (offset, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
        ensure!(count > 0, "has no program headers");
        ensure!(
            usize::from(size) == PROGRAM_HEADER_BYTES && count <= MAX_PROGRAM_HEADERS,
            "has {count} program headers of {size} bytes"
        );
        let mut headers = vec![0; usize::from(count) * PROGRAM_HEADER_BYTES];
        file.read_exact_at(&mut headers, offset).context("cannot read its program headers")?;
        let mut elf = Self { file, segments: Vec::new(), dynamic: None, build_id: None };
        let (mut dynamic, mut notes) = (None, Vec::new());
        for header in headers.chunks_exact(PROGRAM_HEADER_BYTES) {
            let flags = u32_at(header, 4);
            let segment = Segment {
                address: u64_at(header, 16),
                file_offset: u64_at(header, 8),
                file_size: u64_at(header, 32),
                is_executable: flags & PF_X != 0,
                is_writable: flags & PF_W != 0,
            };
            let kind = u32_at(header, 0);
            if kind == PT_LOAD {
                elf.segments.push(segment);
            } else if kind == PT_DYNAMIC && dynamic.is_none() {
                dynamic = Some(segment);
            } else if kind == PT_NOTE && notes.len() < MAX_NOTE_SEGMENTS {
                notes.push((segment, u64_at(header, 48)));
            }
        }
        elf.build_id = notes.into_iter().find_map(|(note, align)| build_id(file, note, align));
        elf.dynamic = dynamic.map(|segment| elf.read_dynamic(segment)).transpose()?;
        Ok(elf)
    }

    /// The segment that `address` lies in, with that part of it that is in the file.
    pub(super) fn segment_of(&self, address: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.from(address).is_some())
    }

    /// Whether the loader changes code (`DT_TEXTREL`).
    pub(super) fn has_text_relocations(&self) -> bool {
        self.dynamic.is_some_and(|dynamic| dynamic.has_text_relocations)
    }

    /// Shows `look` each dynamic symbol that the loader could find.
    pub(super) fn each_symbol(&self, mut look: impl FnMut(Symbol<'_>)) -> Result<()> {
        let Some(dynamic) = self.dynamic else { return Ok(()) };
        let (Some(symbols), Some(strings)) = (dynamic.symbols, dynamic.strings) else {
            return Ok(());
        };
        let count = self.symbol_count(&dynamic).context("cannot count its symbols")?;
        if count <= 1 {
            return Ok(());
        }
        ensure!(count <= MAX_SYMBOLS, "claims {count} symbols, of at most {MAX_SYMBOLS}");
        let strings = self.strings(strings, dynamic.string_bytes).context("cannot read names")?;
        let (offset, length) = self.place_of(symbols).context("its symbols are not in the file")?;
        let length = length.min(count * SYMBOL_BYTES as u64);
        let each = |piece: &[u8]| {
            for symbol in piece.chunks_exact(SYMBOL_BYTES) {
                let Some(name) = strings.get(u32_at(symbol, 0) as usize..) else { continue };
                look(Symbol {
                    name,
                    info: symbol[4],
                    visibility: symbol[5] & 3,
                    section: u16_at(symbol, 6),
                    address: u64_at(symbol, 8),
                    size: u64_at(symbol, 16),
                });
            }
            true
        };
        self.in_pieces(offset, length, each).context("cannot read its symbols")
    }

    fn read_dynamic(&self, segment: Segment) -> Result<Dynamic> {
        let length = segment.file_size.min(MAX_DYNAMIC_ENTRIES * DYNAMIC_ENTRY_BYTES as u64);
        let mut dynamic = Dynamic::default();
        self.in_pieces(segment.file_offset, length, |piece| {
            for entry in piece.chunks_exact(DYNAMIC_ENTRY_BYTES) {
                let (tag, value) = (i64::from_le_bytes(bytes_at(entry, 0)), u64_at(entry, 8));
                if tag == DT_NULL {
                    return false;
                } else if tag == DT_SYMTAB {
                    dynamic.symbols = Some(value);
                } else if tag == DT_STRTAB {
                    dynamic.strings = Some(value);
                } else if tag == DT_STRSZ {
                    dynamic.string_bytes = Some(value);
                } else if tag == DT_HASH {
                    dynamic.hash = Some(value);
                } else if tag == DT_GNU_HASH {
                    dynamic.gnu_hash = Some(value);
                } else if tag == DT_TEXTREL || tag == DT_FLAGS && value & u64::from(DF_TEXTREL) != 0
                {
                    dynamic.has_text_relocations = true;
                }
            }
            true
        })
        .context("cannot read its dynamic section")?;
        Ok(dynamic)
    }

    /// No table says how many symbols there are; the hash tables, by which the loader finds them,
    /// tell. What neither leads to cannot be found by anybody.
    fn symbol_count(&self, dynamic: &Dynamic) -> Result<u64> {
        match (dynamic.gnu_hash, dynamic.hash) {
            (Some(table), _) => self.gnu_hash_count(table),
            (None, Some(table)) => {
                let (offset, _) = self.place_of(table).context("the table is not in the file")?;
                let mut header = [0; 8];
                self.file.read_exact_at(&mut header, offset)?;
                Ok(u32_at(&header, 4).into())
            }
            (None, None) => Ok(0),
        }
    }

    /// One more than the last symbol of the chain that begins last.
    fn gnu_hash_count(&self, table: u64) -> Result<u64> {
        let (offset, length) = self.place_of(table).context("the table is not in the file")?;
        let mut header = [0; 16];
        self.file.read_exact_at(&mut header, offset)?;
        let [buckets, first, bloom] = [0, 4, 8].map(|at| u64::from(u32_at(&header, at)));
        let buckets_at = 16 + bloom * 8;
        let chains_at = buckets_at + buckets * 4;
        ensure!(buckets <= MAX_SYMBOLS && chains_at <= length, "claims {buckets} buckets");
        let mut last = 0;
        self.in_pieces(offset + buckets_at, buckets * 4, |piece| {
            last =
                piece.chunks_exact(4).map(|word| u64::from(u32_at(word, 0))).fold(last, u64::max);
            true
        })?;
        if last < first {
            return Ok(first);
        }
        let chain_at = chains_at + (last - first) * 4;
        let length = length.saturating_sub(chain_at).min(MAX_SYMBOLS * 4);
        let mut has_ended = false;
        self.in_pieces(offset + chain_at, length, |piece| {
            for word in piece.chunks_exact(4) {
                last += 1;
                has_ended = u32_at(word, 0) & 1 != 0;
                if has_ended {
                    break;
                }
            }
            !has_ended
        })?;
        if !has_ended {
            bail!("a chain of more than {MAX_SYMBOLS} symbols, or one that is cut off");
        }
        Ok(last)
    }

    fn strings(&self, address: u64, claimed: Option<u64>) -> Result<Vec<u8>> {
        let (offset, length) = self.place_of(address).context("they are not in the file")?;
        let length = claimed.map_or(length, |claimed| claimed.min(length));
        ensure!(
            length <= MAX_STRING_BYTES,
            "they take {length} bytes, of at most {MAX_STRING_BYTES}"
        );
        let mut strings = Vec::with_capacity(usize::try_from(length)?);
        self.in_pieces(offset, length, |piece| {
            strings.extend_from_slice(piece);
            true
        })?;
        Ok(strings)
    }

    /// Where in the file the bytes at `address` are, and how many of the segment follow.
    fn place_of(&self, address: u64) -> Option<(u64, u64)> {
        self.segments.iter().find_map(|segment| segment.from(address))
    }

    /// Shows `look` the bytes from `offset` on, until it returns false. What lies behind the end of
    /// the file is not shown.
    fn in_pieces(
        &self,
        offset: u64,
        length: u64,
        mut look: impl FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(length)?)];
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from(length - done)?.min(PIECE_BYTES);
            let at = offset.checked_add(done).context("an offset beyond all files")?;
            let found = read_at_most(self.file, &mut piece[..wanted], at)?;
            if !look(&piece[..found]) || found < wanted {
                return Ok(());
            }
            done += found as u64;
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the file at its end.
pub(super) fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut found = 0;
    while found < buffer.len() {
        match file.read_at(&mut buffer[found..], offset.saturating_add(found as u64)) {
            Ok(0) => break,
            Ok(count) => found += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// A file without one is told apart by its inode alone, so an unreadable note is none.
fn build_id(file: &File, note: Segment, align: u64) -> Option<Vec<u8>> {
    let align = if align == 8 { 8 } else { 4 };
    let mut notes = vec![0; usize::try_from(note.file_size.min(MAX_NOTE_BYTES)).ok()?];
    let length = read_at_most(file, &mut notes, note.file_offset).ok()?;
    let mut rest = notes.get(..length)?;
    while rest.len() >= 12 {
        let [name, content, kind] = [0, 4, 8].map(|at| u32_at(rest, at));
        let content_at = (12 + name as usize).next_multiple_of(align);
        let end = content_at.checked_add(content as usize)?;
        if kind == NT_GNU_BUILD_ID && rest.get(12..12 + name as usize)? == b"GNU\0" {
            let id = rest.get(content_at..end)?;
            return (1..=MAX_BUILD_ID_BYTES).contains(&id.len()).then(|| id.to_vec());
        }
        rest = rest.get(end.next_multiple_of(align)..)?;
    }
    None
}

/// Callers pass offsets inside `bytes`.
fn bytes_at<const LENGTH: usize>(bytes: &[u8], offset: usize) -> [u8; LENGTH] {
    *bytes[offset..].first_chunk().expect("the field is inside")
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}
