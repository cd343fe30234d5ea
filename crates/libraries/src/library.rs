//! A CUDA library as a file: which one it is, what it exports, and where its probes go.

mod elf;
mod refusals;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use cuda::function::{Api, Selection, attach_rank, canonical};
use elf::{Elf, Segment, Symbol, read_at_most};
use object::elf::{
    SHN_ABS, SHN_UNDEF, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STV_HIDDEN, STV_INTERNAL,
};
pub use refusals::Refusals;
use rustix::io::Errno;
use sidecar_common::MAX_FUNCTIONS;

use crate::{
    placement::{is_code, place},
    untrusted_file,
};

/// Bytes that are decoded to place a probe: a whole function where its size is known, so that a
/// jump back into its first bytes is seen.
const MAX_CODE_BYTES: u64 = 64 << 10;

/// The same for all functions of a file: `libcuda` has 1 MiB in all its exports. Decoding takes
/// about 10 ns a byte.
const MAX_CODE_BYTES_OF_FILE: u64 = 16 << 20;

/// Bytes that are decoded of a function whose symbol has no size.
const UNSIZED_CODE_BYTES: u64 = 256;

/// The longest name of the CUDA API has 58 characters.
const MAX_NAME_BYTES: usize = 128;

/// CUDA functions of one file that are looked at, wanted or not: `libcuda` has 700.
const MAX_EXPORTS: usize = 4 * MAX_FUNCTIONS as usize;

/// Of so many functions one may be no code, as data with the type of a function is, and the others still
/// get their probes.
const MAX_NOT_CODE: usize = 8;

/// Bytes of code that are kept of a probe's site, to compare them with the memory of processes that
/// map the file: no instruction is longer.
pub const SITE_BYTES: usize = 16;

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
#[derive(Debug)]
pub struct Library {
    pub file: File,
    pub id: FileId,
    /// In the order in which probes are attached: what a process calls first comes first.
    pub functions: Vec<Function>,
    /// Wanted functions that must get no probe, with the reason. Not all by name, see [`Refusals`].
    pub refused: BTreeMap<String, String>,
}

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
    /// none of them, so that nothing is missed without probes.
    pub fn open(path: &Path, selection: &Selection) -> Result<Option<Self>> {
        Self::read(untrusted_file::open(path).context("cannot open it")?, selection)
    }

    /// The same for a file that is open.
    pub fn read(file: File, selection: &Selection) -> Result<Option<Self>> {
        let metadata = file.metadata().context("cannot stat it")?;
        let elf = Elf::read(&file)?;
        let mut exports = Exports::new(selection);
        elf.each_symbol(|symbol| exports.add(symbol, &elf))?;
        let Exports { by_address, mut refusals, .. } = exports;
        let mut exports: Vec<(u64, Export)> = by_address.into_iter().collect();
        if exports.is_empty() && refusals.is_empty() {
            return Ok(None);
        }
        let build_id = elf.build_id.clone();
        let is_overlay = is_overlay(&file).context("cannot stat its file system")?;
        let device = if is_overlay { 0 } else { metadata.dev() };
        let id = FileId { device, inode: metadata.ino(), build_id };
        exports.sort_by_key(|(_, export)| attach_rank(&export.name));
        for (_, export) in exports.drain(exports.len().min(MAX_FUNCTIONS as usize)..) {
            refusals.add(&export.name, TOO_MANY);
        }
        let mut functions = Vec::new();
        let (mut code_bytes, mut not_code) = (0, 0);
        for (address, export) in exports {
            match locate(&file, address, &export, &elf, &mut code_bytes) {
                Ok(function) => functions.push(function),
                Err(error) => {
                    not_code += usize::from(error.is::<NotCode>());
                    refusals.add(&export.name, &format!("{error:#}"));
                }
            }
        }
        if not_code > functions.len() / MAX_NOT_CODE {
            // What is decrypted may look like other code by chance.
            for function in functions.drain(..) {
                let reason =
                    format!("{not_code} other functions of its library are no code in the file");
                refusals.add(&function.name, &reason);
            }
        }
        let refused = refusals.finish();
        Ok(Some(Self { file, id, functions, refused }))
    }
}

struct Export {
    name: String,
    api: Api,
    size: u64,
    is_indirect: bool,
}

/// CUDA functions by address. Where several names share an address, the plainest one stands for
/// all: one call must stay one line.
struct Exports<'a> {
    selection: &'a Selection,
    by_address: BTreeMap<u64, Export>,
    refusals: Refusals,
}

impl<'a> Exports<'a> {
    fn new(selection: &'a Selection) -> Self {
        let (by_address, refusals) = (BTreeMap::new(), Refusals::default());
        Self { selection, by_address, refusals }
    }

    fn add(&mut self, symbol: Symbol<'_>, elf: &Elf<'_>) {
        let Symbol { name, info, visibility, section, address, size } = symbol;
        // Most symbols of most files end here.
        if !(name.starts_with(b"cu") || name.starts_with(b"__cuda")) {
            return;
        }
        let (binding, kind) = (info >> 4, info & 0xf);
        let is_exported = binding != STB_LOCAL
            && visibility != STV_HIDDEN
            && visibility != STV_INTERNAL
            && section != SHN_UNDEF
            && section != SHN_ABS;
        let is_function = match kind {
            STT_FUNC | STT_GNU_IFUNC => true,
            // Assembly without `.type`; data without a type is in no code.
            STT_NOTYPE => elf.segment_of(address).is_some_and(|segment| segment.is_executable),
            _ => false,
        };
        if !is_exported || !is_function {
            return;
        }
        let end = name.iter().take(MAX_NAME_BYTES + 1).position(|&byte| byte == 0);
        let text = String::from_utf8_lossy(&name[..end.unwrap_or(MAX_NAME_BYTES.min(name.len()))]);
        let Some(api) = Api::of(&text) else { return };
        // First, so that it hides nothing that is wanted and has the same address.
        if !self.selection.contains(&text) {
            return;
        }
        let refused = match end {
            None => Some("its name is longer than any of the CUDA API"),
            Some(_) if !is_plain(&text) => {
                Some("its name has characters that no name of the CUDA API has")
            }
            Some(_) => None,
        };
        if let Some(reason) = refused {
            self.refusals.add(&text, reason);
            return;
        }
        let plainness = |name: &str| (name != canonical(name), name.len());
        match self.by_address.get(&address) {
            Some(other) if plainness(&other.name) <= plainness(&text) => return,
            None if self.by_address.len() >= MAX_EXPORTS => {
                self.refusals.add(&text, TOO_MANY);
                return;
            }
            _ => {}
        }
        let name = text.into_owned();
        let is_indirect = kind == STT_GNU_IFUNC;
        self.by_address.insert(address, Export { name, api, size, is_indirect });
    }
}

/// A function of which the file holds something else.
#[derive(Debug)]
struct NotCode;

impl fmt::Display for NotCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "its bytes in the file are no code: the library is packed, or decrypts itself when it is \
             loaded",
        )
    }
}

impl std::error::Error for NotCode {}

/// Why a function has no number of its own.
pub const TOO_MANY: &str =
    "more functions match than can be traced at once, 4096: narrow TRACE_FUNCTIONS";

/// As C has it: such a name needs no escapes in a trace or a log.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn locate(
    file: &File,
    address: u64,
    export: &Export,
    elf: &Elf<'_>,
    code_bytes: &mut u64,
) -> Result<Function> {
    ensure!(
        !export.is_indirect,
        "it is an indirect function (IFUNC): its code is chosen when the library is loaded"
    );
    ensure!(
        !elf.has_text_relocations(),
        "the library has text relocations (DT_TEXTREL): its code in memory is not the file's"
    );
    let segment = elf.segment_of(address).context("its code is not in the file")?;
    let Segment { is_executable, is_writable, .. } = *segment;
    ensure!(is_executable, "it lies in a segment that is not executable");
    ensure!(
        !is_writable,
        "it lies in a writable segment: the kernel puts no probe into writable memory"
    );
    let (entry_offset, rest) = segment.from(address).context("its code is not in the file")?;
    let length =
        if export.size == 0 { UNSIZED_CODE_BYTES } else { export.size.min(MAX_CODE_BYTES) };
    let length = length.min(rest);
    *code_bytes += length;
    ensure!(*code_bytes <= MAX_CODE_BYTES_OF_FILE, "its library has too much code to look at");
    let mut code = vec![0; usize::try_from(length)?];
    let found = read_at_most(file, &mut code, entry_offset).context("cannot read its code")?;
    ensure!(found > 0, "cannot read its code: the file ends before it");
    code.truncate(found);
    if !is_code(&code, address, export.size > 0 && code.len() as u64 == export.size) {
        bail!(NotCode);
    }
    let placement = place(&code, address).map_err(anyhow::Error::msg)?;
    let bytes_at = |offset: usize| code[offset..].iter().take(SITE_BYTES).copied().collect();
    Ok(Function {
        name: export.name.clone(),
        api: export.api,
        entry_offset,
        entry_bytes: bytes_at(0),
        file_offset: entry_offset + placement.offset as u64,
        site_bytes: bytes_at(placement.offset),
        emulated: placement.emulated,
    })
}

/// Whether the file is seen through an overlay.
pub fn is_overlay(file: &File) -> io::Result<bool> {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    let statistics = match rustix::fs::fstatfs(file.as_fd()) {
        // Some servers of FUSE; an overlay always answers.
        Err(Errno::NOSYS) => return Ok(false),
        statistics => statistics?,
    };
    Ok(u64::try_from(statistics.f_type).is_ok_and(|magic| magic == OVERLAYFS_SUPER_MAGIC))
}
