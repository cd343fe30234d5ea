//! What stands at the sites of probes in the memory of processes, the sidecar's own among them.
//!
//! A probe is a breakpoint in a process's private copy of a page. So memory tells, whatever names,
//! device numbers and file systems say: whether a process still runs the code of the file, and
//! whether it has the probe.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Duration};

use cuda::function::Selection;
use libraries::library::Function;
use processes::{
    process::{MappedFile, Mapping, Mappings},
    time_limit,
};

use super::file_aliases::{has_number_and_name, is_same_number};

/// `int3`, which the kernel writes over the first byte of an instruction.
pub(super) const BREAKPOINT: u8 = 0xcc;

/// What a process has at the site of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// The code of the file.
    Plain,
    /// The same, with a breakpoint at the site.
    Probed,
    /// Other code.
    Changed,
    /// No code of the process is this part of the file: it was moved, or is not mapped yet.
    Unmapped,
    /// Its memory cannot be read.
    Unknown,
}

impl Site {
    pub(super) const ALL: [Self; 5] =
        [Self::Plain, Self::Probed, Self::Changed, Self::Unmapped, Self::Unknown];
}

/// What a look at the code of a file in a process tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// By function.
    Sites {
        sites: Vec<Site>,
        /// The data of the library is there: its loader has mapped all of the code too.
        is_loaded: bool,
    },
    /// The process has ended, or has no code of the file.
    NotMapped,
    /// It may not be looked at, or does not answer.
    Unreadable,
}

/// What a process has at the sites of functions of a file that it has mapped.
pub(super) fn sites(pid: u32, file: MappedFile, functions: &Arc<[Function]>) -> Look {
    let functions = Arc::clone(functions);
    let look = move || match Memory::of(pid) {
        Ok(memory) => memory.sites(pid, file, &functions),
        Err(error) if has_ended(&error) => Look::NotMapped,
        Err(_) => Look::Unreadable,
    };
    // Memory of a process may be a page that somebody else must bring in.
    let look = time_limit::run_in_turn(pid, "look at the code of a library", TIMEOUT, look);
    look.unwrap_or(Look::Unreadable)
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// What a process has mapped executable that may be `file` through another overlay: they share the
/// file below, and its probes, although their devices differ.
pub(super) fn in_other_mounts(
    pid: u32,
    mappings: &Mappings,
    file: MappedFile,
    path: &Path,
    build_id: Option<&[u8]>,
) -> Vec<MappedFile> {
    let alike = mappings.executable().filter(|mapping| {
        mapping.file.device != file.device && is_same_number(mapping.file.inode, file.inode)
    });
    let mut found: Vec<(MappedFile, bool)> =
        alike.map(|mapping| (mapping.file, has_number_and_name(mapping, file, path))).collect();
    found.sort_unstable();
    found.dedup_by_key(|(file, _)| *file);
    found.retain(|&(found, has_its_name)| match build_id {
        Some(wanted) => {
            let look = move || Memory::of(pid).ok()?.build_id(found);
            let build_id = time_limit::run_in_turn(pid, "look at a build id", TIMEOUT, look);
            // What does not answer is no reason to forget it.
            build_id.flatten().map_or(has_its_name, |build_id| build_id == wanted)
        }
        None => has_its_name,
    });
    found.into_iter().map(|(file, _)| file).collect()
}

/// Whether a library that cannot be opened exports functions that are wanted, as its image in memory
/// says; `None` if that cannot be read.
pub(super) fn exports_wanted(pid: u32, file: MappedFile, selection: &Selection) -> Option<bool> {
    let selection = selection.clone();
    let look = move || Memory::of(pid).ok()?.names_export(file, &selection);
    let found = time_limit::run_in_turn(pid, "look at the exports of a library", TIMEOUT, look);
    found.flatten()
}

/// Reading takes microseconds.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The memory of a process, and where it has files.
pub(super) struct Memory {
    memory: File,
    pub(super) mappings: Mappings,
}

impl Memory {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        Ok(Self { memory, mappings: Mappings::of(pid)? })
    }

    fn sites(&self, pid: u32, file: MappedFile, functions: &[Function]) -> Look {
        let code = |mappings: &Mappings| {
            let code = mappings.of_file(file).filter(|mapping| mapping.is_executable);
            code.cloned().collect::<Vec<Mapping>>()
        };
        let found = code(&self.mappings);
        if found.is_empty() {
            return if self.mappings.is_complete { Look::NotMapped } else { Look::Unreadable };
        }
        if found.len() > MAX_COPIES {
            return Look::Unreadable;
        }
        let found: Vec<&Mapping> = found.iter().collect();
        let sites: Vec<Site> =
            functions.iter().map(|function| self.site(&found, function)).collect();
        if sites.iter().all(|site| *site == Site::Unknown) {
            // The memory of a process that ends meanwhile cannot be read either.
            let is_there = Mappings::of(pid).is_ok_and(|mappings| !code(&mappings).is_empty());
            return if is_there { Look::Unreadable } else { Look::NotMapped };
        }
        let is_loaded = self.mappings.of_file(file).any(|mapping| mapping.is_writable);
        Look::Sites { sites, is_loaded }
    }

    /// What there is at the site of `function`, in mappings of its file. Where several hold it nobody
    /// knows which one is called: what is worst counts.
    pub(super) fn site(&self, mappings: &[&Mapping], function: &Function) -> Site {
        let Function { entry_offset, file_offset, .. } = function;
        let sites = mappings.iter().filter_map(|mapping| {
            let site = mapping.address_of(*file_offset)?;
            // Code lies in memory as it does in the file, whatever the mapping begins with.
            let entry = site.checked_sub(file_offset - entry_offset)?;
            Some(self.site_at(site, entry, function))
        });
        let badness = |site: &Site| match site {
            Site::Changed => 3,
            Site::Plain => 2,
            Site::Unknown => 1,
            Site::Probed | Site::Unmapped => 0,
        };
        sites.max_by_key(badness).unwrap_or(Site::Unmapped)
    }

    fn site_at(&self, site: u64, entry: u64, function: &Function) -> Site {
        let Function { entry_offset, entry_bytes, file_offset, site_bytes, .. } = function;
        let Some(mut site) = self.read(site, site_bytes.len()) else { return Site::Unknown };
        let Some(mut entry) = self.read(entry, entry_bytes.len()) else { return Site::Unknown };
        let Some(&original) = site_bytes.first() else { return Site::Unknown };
        let is_probed = site[0] == BREAKPOINT && original != BREAKPOINT;
        if is_probed {
            site[0] = original;
            let behind_entry = usize::try_from(file_offset - entry_offset).unwrap_or(usize::MAX);
            if let Some(byte) = entry.get_mut(behind_entry) {
                *byte = original;
            }
        }
        // Another probe on the same function, of another tracer: it stands at its entry.
        if entry.first() == Some(&BREAKPOINT) {
            entry[0] = entry_bytes[0];
        }
        match (&site == site_bytes && &entry == entry_bytes, is_probed) {
            (false, _) => Site::Changed,
            (true, true) => Site::Probed,
            (true, false) => Site::Plain,
        }
    }
}

impl Memory {
    /// Of the image in memory: the note that linkers put into loaded segments.
    fn build_id(&self, file: MappedFile) -> Option<Vec<u8>> {
        let (base, segments) = self.segments(file)?;
        let notes = segments
            .chunks_exact(SEGMENT_BYTES)
            .filter(|segment| segment[..4] == PT_NOTE.to_le_bytes());
        for note in notes {
            let length = usize::try_from(word(note, 40)?).ok()?.min(MAX_NOTE_BYTES);
            let bytes = self.read(base.checked_add(word(note, 16)?)?, length)?;
            if let Some(build_id) = build_id_in(&bytes) {
                return Some(build_id.to_vec());
            }
        }
        None
    }

    /// Where a loaded 64-bit ELF image begins, and its program headers.
    fn segments(&self, file: MappedFile) -> Option<(u64, Vec<u8>)> {
        let base = self.mappings.of_file(file).find(|mapping| mapping.offset == 0)?.start;
        let header = self.read(base, 64)?;
        if !header.starts_with(ELF) {
            return None;
        }
        let segments_at = base.checked_add(word(&header, 32)?)?;
        let count = usize::from(u16::from_le_bytes([header[56], header[57]])).min(MAX_SEGMENTS);
        Some((base, self.read(segments_at, count * SEGMENT_BYTES)?))
    }

    /// By the dynamic section of a loaded 64-bit ELF image: symbols that are defined, and their names.
    /// Symbols end where the names begin, as every linker lays them out.
    fn names_export(&self, file: MappedFile, selection: &Selection) -> Option<bool> {
        let base = self.mappings.of_file(file).find(|mapping| mapping.offset == 0)?.start;
        if !self.read(base, ELF.len())?.starts_with(ELF) {
            return Some(false);
        }
        let (base, segments) = self.segments(file)?;
        let dynamic = segments
            .chunks_exact(SEGMENT_BYTES)
            .find(|segment| segment[..4] == PT_DYNAMIC.to_le_bytes())?;
        let length = usize::try_from(word(dynamic, 40)?).ok()?.min(MAX_DYNAMIC_BYTES);
        let dynamic = self.read(base.checked_add(word(dynamic, 16)?)?, length)?;
        let value = |tag: u64| {
            let entry = dynamic.chunks_exact(16).find(|entry| word(entry, 0) == Some(tag))?;
            word(entry, 8)
        };
        // The loader has replaced offsets by addresses.
        let absolute = |address: u64| if address < base { address + base } else { address };
        let (names_at, symbols_at) = (absolute(value(DT_STRTAB)?), absolute(value(DT_SYMTAB)?));
        let length = usize::try_from(value(DT_STRSZ)?).ok()?.min(MAX_NAMES_BYTES);
        let names = self.read(names_at, length)?;
        let length = usize::try_from(names_at.checked_sub(symbols_at)?).ok()?;
        let symbols = self.read(symbols_at, length.min(MAX_SYMBOLS * SYMBOL_BYTES))?;
        let is_export = |symbol: &[u8]| {
            let name = u32::from_le_bytes(symbol[..4].try_into().ok()?) as usize;
            let is_defined = symbol[6..8] != [0, 0];
            let name = names.get(name..).filter(|_| is_defined)?;
            let name = &name[..name.len().min(MAX_NAME_BYTES)];
            let name = &name[..name.iter().position(|&byte| byte == 0)?];
            Some(selection.contains(std::str::from_utf8(name).ok()?))
        };
        Some(symbols.chunks_exact(SYMBOL_BYTES).any(|symbol| is_export(symbol) == Some(true)))
    }

    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.memory.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Of one segment of notes: each has the lengths of its name and of its content, a kind, and both.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let field =
            |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?) as usize);
        let (name_length, length) = (field(0)?, field(4)?);
        let name = rest.get(..name_length)?;
        let rest = rest.get(name_length.next_multiple_of(4)..)?;
        let content = rest.get(..length)?;
        if name == b"GNU\0" && field(8)? == NT_GNU_BUILD_ID as usize {
            return Some(content);
        }
        notes = rest.get(length.next_multiple_of(4)..)?;
    }
}

// Of the ELF format: `elf(5)`.
/// How a 64-bit image begins.
const ELF: &[u8] = b"\x7fELF\x02\x01";
const SEGMENT_BYTES: usize = 56;
const SYMBOL_BYTES: usize = 24;
const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;

/// Executable mappings of one file in one process: a loader makes one or two, and a process may make any
/// number.
const MAX_COPIES: usize = 64;

// A process may claim any size. Libraries of CUDA have a few thousand symbols.
const MAX_SEGMENTS: usize = 64;
const MAX_NOTE_BYTES: usize = 4 << 10;
const MAX_DYNAMIC_BYTES: usize = 16 << 10;
const MAX_SYMBOLS: usize = 1 << 16;
const MAX_NAMES_BYTES: usize = 4 << 20;
/// With the NUL behind it; the longest name of CUDA has less than half of it.
const MAX_NAME_BYTES: usize = 128;

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use cuda::function::Api;

    use super::*;

    pub(in super::super) fn function(bytes: &[u8], entry: usize, site: usize) -> Function {
        let at = |offset: usize| bytes[offset..].iter().take(8).copied().collect();
        Function {
            name: "cuInit".to_owned(),
            api: Api::Driver,
            entry_offset: entry as u64,
            entry_bytes: at(entry),
            file_offset: site as u64,
            site_bytes: at(site),
            emulated: true,
        }
    }

    /// As with an engine for hooks: it keeps a copy of the library as it was, and changes the other.
    #[test]
    fn of_several_copies_of_the_code_the_worst_counts() {
        let mut probed: Vec<u8> = (0..=255).collect();
        let function = function(&probed, 16, 20);
        let plain = probed.clone();
        probed[20] = BREAKPOINT;
        let site = |first: &[u8], second: &[u8]| {
            let mut memory = tempfile::tempfile().unwrap();
            memory.write_all(&[first, second].concat()).unwrap();
            let maps = b"0-100 r-xp 00000000 fe:01 7 /l.so\n100-200 r-xp 00000000 fe:01 7 /l.so\n";
            let memory = Memory { memory, mappings: Mappings::read(&maps[..]) };
            let mappings: Vec<&Mapping> = memory.mappings.list.iter().collect();
            memory.site(&mappings, &function)
        };
        assert_eq!(site(&probed, &probed), Site::Probed);
        assert_eq!(site(&probed, &plain), Site::Plain);
        assert_eq!(site(&plain, &probed), Site::Plain);
        let mut changed = plain.clone();
        changed[17] = 0xe9;
        assert_eq!(site(&probed, &changed), Site::Changed);
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        let note = |name: &[u8; 4], kind: u32, content: &[u8]| {
            let mut bytes =
                [4, u32::try_from(content.len()).unwrap(), kind].map(u32::to_le_bytes).concat();
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let other = note(b"GNU\0", 5, &[9; 7]);
        let notes = [other.clone(), note(b"GNU\0", NT_GNU_BUILD_ID, &[7; 20])].concat();
        assert_eq!(build_id_in(&notes), Some(&[7; 20][..]));
        assert_eq!(build_id_in(&other), None);
        for cut in 0..notes.len() {
            build_id_in(&notes[..cut]);
        }
        assert_eq!(build_id_in(&[0xff; 64]), None);
    }

    /// The memory of a process that has a library at address 0 with these names.
    fn memory_with_symbols(names: &[u8], symbols: &[u32]) -> Memory {
        const HEADERS: u64 = 0x1000;
        let symbols_at = HEADERS;
        let names_at = symbols_at + (symbols.len() * SYMBOL_BYTES) as u64;
        let mut image = vec![0_u8; usize::try_from(HEADERS).unwrap()];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01");
        put(32, &64_u64.to_le_bytes());
        put(56, &1_u16.to_le_bytes());
        put(64, &PT_DYNAMIC.to_le_bytes());
        put(64 + 16, &256_u64.to_le_bytes());
        put(64 + 40, &48_u64.to_le_bytes());
        let dynamic =
            [(DT_STRTAB, names_at), (DT_SYMTAB, symbols_at), (DT_STRSZ, names.len() as u64)];
        for (index, (tag, value)) in dynamic.into_iter().enumerate() {
            put(256 + index * 16, &tag.to_le_bytes());
            put(264 + index * 16, &value.to_le_bytes());
        }
        for name in symbols {
            let mut symbol = [0; SYMBOL_BYTES];
            symbol[..4].copy_from_slice(&name.to_le_bytes());
            symbol[6] = 1;
            image.extend_from_slice(&symbol);
        }
        image.extend_from_slice(names);
        let mut memory = tempfile::tempfile().unwrap();
        memory.write_all(&image).unwrap();
        let line = b"0-ffffffff r-xp 00000000 fe:01 7 /lib.so\n";
        Memory { memory, mappings: Mappings::read(&line[..]) }
    }

    #[test]
    fn an_export_that_is_wanted_is_found_by_its_name_in_memory() {
        let exports = |names: &[u8], symbols: &[u32]| {
            let memory = memory_with_symbols(names, symbols);
            memory.names_export(memory.mappings.list[0].file, &Selection::parse("default").unwrap())
        };
        assert_eq!(exports(b"\0main\0cuInit\0", &[1, 6]), Some(true));
        assert_eq!(exports(b"\0main\0cuInit\0", &[1]), Some(false));
        assert_eq!(exports(b"\0cuFileRead\0", &[1]), Some(false));
    }

    /// 65 536 symbols with names of 4 MiB each are 256 GiB to look through.
    #[test]
    fn names_without_an_end_are_not_read_to_it() {
        let symbols: Vec<u32> = (0..u32::try_from(MAX_SYMBOLS).unwrap()).collect();
        let memory = memory_with_symbols(&vec![b'c'; MAX_NAMES_BYTES], &symbols);
        let begun = std::time::Instant::now();
        let selection = Selection::parse("all").unwrap();
        assert_eq!(memory.names_export(memory.mappings.list[0].file, &selection), Some(false));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
