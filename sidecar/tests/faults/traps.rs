//! Files that are traps for whoever looks for libraries: directories without end, a FIFO, and ELF
//! files that claim more than they hold.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, mkfifoat};

/// What discovery looks up in files, of each kind so many.
pub(crate) struct Traps {
    pub(crate) crowded_directory: PathBuf,
    pub(crate) libraries: PathBuf,
    pub(crate) fifo: PathBuf,
}

/// Symbols that an ELF reader would have to look through: 3 GiB of them, and just what is taken.
const CLAIMS: [u32; 2] = [(3 << 30) / 24, 1 << 20];

/// Each exports more functions than can be traced at once, by names that `cuT*` takes in.
const EXPORTS: u32 = 20_000;

impl Traps {
    pub(crate) fn set(directory: &Path, files: u64, libraries: u64) -> Self {
        // Short, because thousands of such paths must fit into one variable.
        let traps = Self {
            crowded_directory: directory.join("d"),
            libraries: directory.join("trap-libraries"),
            fifo: directory.join("fifo"),
        };
        fs::create_dir(&traps.crowded_directory).unwrap();
        fs::create_dir(&traps.libraries).unwrap();
        mkfifoat(CWD, &traps.fifo, Mode::RUSR).unwrap();
        for file in 0..files {
            fs::write(traps.crowded_directory.join(format!("libother.so.{file}")), "").unwrap();
        }
        for number in 0..libraries {
            let path = |kind: u64| traps.libraries.join(format!("libcuda.so.{kind}.{number}"));
            for (kind, claimed) in (1..).zip(CLAIMS) {
                let mut file = fs::File::create(path(kind)).unwrap();
                file.write_all(&elf(&[], claimed)).unwrap();
                file.set_len(4 << 30).unwrap();
            }
            let names: Vec<String> = (0..EXPORTS).map(|export| format!("cuTrap{export}")).collect();
            fs::write(path(3), elf(&names, EXPORTS + 1)).unwrap();
            mkfifoat(CWD, path(4), Mode::RUSR).unwrap();
        }
        traps
    }
}

/// One segment with the tables that a loader reads, and after them functions of these names.
fn elf(names: &[String], claimed_symbols: u32) -> Vec<u8> {
    const DYNAMIC_AT: u64 = 0x100;
    const HASH_AT: u64 = 0x200;
    const SYMBOLS_AT: u64 = 0x1000;
    const FUNCTION: [u8; 16] = [0x55, 0xc3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let strings_at = SYMBOLS_AT + 24 * (names.len() as u64 + 1);
    let mut strings = vec![0];
    let mut symbols = vec![0; 24];
    let string_bytes = 1 + names.iter().map(|name| name.len() as u64 + 1).sum::<u64>();
    let code_at = (strings_at + string_bytes).next_multiple_of(16);
    for (index, name) in (0_u64..).zip(names) {
        symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        // Global, a function, in section 1.
        symbols.extend([0x12, 0, 1, 0]);
        symbols.extend((code_at + 16 * index).to_le_bytes());
        symbols.extend(16_u64.to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let length = if names.is_empty() { 4 << 30 } else { code_at + 16 * names.len() as u64 };
    let claimed_bytes = if names.is_empty() { 64 << 20 } else { string_bytes };
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // A shared object for x86-64, with two program headers behind this one.
    bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    let mut segment = |kind: u32, flags: u32, at: u64, length: u64| {
        bytes.extend([kind, flags].map(u32::to_le_bytes).concat());
        bytes.extend([at, at, at, length, length, 0x1000].map(u64::to_le_bytes).concat());
    };
    segment(1, 5, 0, length);
    segment(2, 4, DYNAMIC_AT, 5 * 16);
    bytes.resize(usize::try_from(DYNAMIC_AT).unwrap(), 0);
    // DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_NULL.
    for (tag, value) in
        [(4, HASH_AT), (5, strings_at), (6, SYMBOLS_AT), (10, claimed_bytes), (0, 0)]
    {
        bytes.extend([tag, value].map(u64::to_le_bytes).concat());
    }
    bytes.resize(usize::try_from(HASH_AT).unwrap(), 0);
    bytes.extend([1, claimed_symbols].map(u32::to_le_bytes).concat());
    bytes.resize(usize::try_from(SYMBOLS_AT).unwrap(), 0);
    bytes.extend(symbols);
    bytes.extend(strings);
    bytes.resize(usize::try_from(code_at).unwrap(), 0);
    bytes.extend(FUNCTION.repeat(names.len()));
    bytes
}
