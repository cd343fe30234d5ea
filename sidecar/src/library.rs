//! A CUDA library as a file: which one it is, what it exports, and where its probes go.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use object::{
    Endianness, Object as _, ObjectSymbol as _, ReadCache, SymbolKind,
    elf::{FileHeader64, PF_X, PT_LOAD},
    read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
};
use trace::function::{Api, Selection, attach_rank, canonical};

use crate::{placement::place, untrusted_file};

/// Bytes that are decoded to place a probe: a whole function where its size is known, so that a
/// jump back into its first bytes is seen.
const MOST_CODE_BYTES: u64 = 64 << 10;

/// Bytes that are decoded of a function whose symbol has no size.
const UNSIZED_CODE_BYTES: u64 = 256;

/// Identifies a file whatever path leads to it.
///
/// A uprobe sits on the inode below an overlay, so two containers that share an image layer share
/// the probe: there the device, which differs by mount, must not count, and the build id keeps
/// unrelated files apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
    pub build_id: Option<Vec<u8>>,
}

/// An open library and the places in it that are wanted.
pub struct Library {
    pub file: File,
    pub id: FileId,
    /// In the order in which probes are attached: what a process calls first comes first.
    pub functions: Vec<Function>,
    /// Wanted functions that must get no probe, with the reason.
    pub refused: BTreeMap<String, String>,
}

/// Bytes of code that are kept of a probe's site, to compare them with the memory of processes that
/// map the file: no instruction is longer.
pub const SITE_BYTES: usize = 16;

/// One place for a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub api: Api,
    /// Where the function begins, in the file.
    pub entry_offset: u64,
    /// Up to [`SITE_BYTES`] bytes that the file has there.
    pub entry_bytes: Vec<u8>,
    /// Where the probe goes, in the file: `entry_offset` or a little behind it.
    pub file_offset: u64,
    /// Up to [`SITE_BYTES`] bytes that the file has at `file_offset`.
    pub site_bytes: Vec<u8>,
    /// False: the kernel must single-step the instruction there.
    pub emulated: bool,
}

impl Library {
    /// Opens a file and finds the exported functions that `selection` wants; `None` if it exports
    /// no CUDA function at all.
    pub fn open(path: &Path, selection: &Selection) -> Result<Option<Self>> {
        Self::read(untrusted_file::open(path).context("cannot open it")?, selection)
    }

    /// The same of a file that is open.
    pub fn read(file: File, selection: &Selection) -> Result<Option<Self>> {
        let cache = ReadCache::new(&file);
        let elf: ElfFile64<'_, Endianness, _> =
            ElfFile64::parse(&cache).context("not a 64-bit ELF file")?;
        let exports = exports(&elf);
        if exports.is_empty() {
            return Ok(None);
        }
        let segments = executable_segments(&elf, &cache)?;
        let build_id = elf.build_id().ok().flatten().map(<[u8]>::to_vec);
        let metadata = file.metadata().context("cannot stat it")?;
        let device = if is_overlay(&file)? { 0 } else { metadata.dev() };
        let id = FileId { device, inode: metadata.ino(), build_id };
        let mut functions = Vec::new();
        for (address, export) in exports {
            if !selection.contains(&export.name) {
                continue;
            }
            if let Some(segment) = segments.iter().find(|segment| segment.holds(address)) {
                functions.push(locate(&file, address, export, segment)?);
            }
        }
        functions.sort_by_key(|function| attach_rank(&function.name));
        Ok(Some(Self { file, id, functions, refused: BTreeMap::new() }))
    }
}

struct Export {
    name: String,
    api: Api,
    size: u64,
}

/// CUDA functions by address. Where several names share an address, the plainest one stands for
/// all: one call must stay one line.
fn exports<'data, R: object::ReadRef<'data>>(
    elf: &ElfFile64<'data, Endianness, R>,
) -> BTreeMap<u64, Export> {
    let mut exports: BTreeMap<u64, Export> = BTreeMap::new();
    for symbol in elf.dynamic_symbols() {
        if !symbol.is_definition() || symbol.kind() != SymbolKind::Text {
            continue;
        }
        let Some((name, api)) = symbol.name().ok().and_then(|name| Some((name, Api::of(name)?)))
        else {
            continue;
        };
        let plainness = |name: &str| (name != canonical(name), name.len());
        if let Some(other) = exports.get(&symbol.address())
            && plainness(&other.name) <= plainness(name)
        {
            continue;
        }
        let export = Export { name: name.to_owned(), api, size: symbol.size() };
        exports.insert(symbol.address(), export);
    }
    exports
}

struct Segment {
    address: u64,
    file_offset: u64,
    file_size: u64,
}

impl Segment {
    fn holds(&self, address: u64) -> bool {
        address >= self.address && address - self.address < self.file_size
    }
}

fn executable_segments<'data, R: object::ReadRef<'data>>(
    elf: &ElfFile64<'data, Endianness, R>,
    data: R,
) -> Result<Vec<Segment>> {
    let endian = elf.endian();
    let header: &FileHeader64<Endianness> = elf.elf_header();
    let segments = header.program_headers(endian, data).context("has no program headers")?;
    Ok(segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD && segment.p_flags(endian) & PF_X != 0)
        .map(|segment| Segment {
            address: segment.p_vaddr(endian),
            file_offset: segment.p_offset(endian),
            file_size: segment.p_filesz(endian),
        })
        .collect())
}

fn locate(mut file: &File, address: u64, export: Export, segment: &Segment) -> Result<Function> {
    let Export { name, api, size } = export;
    let start = address - segment.address;
    let length = if size == 0 { UNSIZED_CODE_BYTES } else { size.min(MOST_CODE_BYTES) };
    let length = length.min(segment.file_size - start);
    let mut code = vec![0; usize::try_from(length).context("a function larger than memory")?];
    file.seek(SeekFrom::Start(segment.file_offset + start))
        .and_then(|_| file.read_exact(&mut code))
        .with_context(|| format!("cannot read the code of {name}"))?;
    let placement = place(&code, address);
    let entry_offset = segment.file_offset + start;
    let bytes_at = |offset: usize| code[offset..].iter().take(SITE_BYTES).copied().collect();
    Ok(Function {
        name,
        api,
        entry_offset,
        entry_bytes: bytes_at(0),
        file_offset: entry_offset + placement.offset as u64,
        site_bytes: bytes_at(placement.offset),
        emulated: placement.emulated,
    })
}

fn is_overlay(file: &File) -> Result<bool> {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    let statistics = rustix::fs::fstatfs(file.as_fd()).context("cannot stat its file system")?;
    Ok(u64::try_from(statistics.f_type).is_ok_and(|magic| magic == OVERLAYFS_SUPER_MAGIC))
}
